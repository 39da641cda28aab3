package sim

import (
	"crypto"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/trustedmcp/tmcp/evidence"
)

// Collateral says what simulated Intel publishes about a platform model. The
// zero value finds platforms of the zero options up to date.
type Collateral struct {
	SGX   bool    // for enclaves instead of TDs
	FMSPC [6]byte // zero: DefaultFMSPC
	PCEID [2]byte

	Issued           time.Time // zero: Epoch
	NextUpdate       time.Time // zero: 30 days after Issued
	CRLNextUpdate    time.Time // zero: NextUpdate
	EvaluationNumber uint32    // zero: 20

	// What is published about the parts of a TCB that DefaultSVN,
	// DefaultTEETCBSVN and the quoting enclaves of the zero options have.
	Platform, Module, QE Level

	// Processor has the PCK CRL be the Processor CA's.
	Processor         bool
	Revoked           []*big.Int // serial numbers of PCK certificates; see World.PCK
	RevokedPlatformCA bool       // the root's CRL has the CA of PCK certificates
	RevokedTCBSigning bool       // … the certificate that signs TCB info

	// Forged has another key than the certified one sign the TCB info.
	Forged bool
}

// A Level is what is published about one part of a TCB.
type Level struct {
	Status     evidence.TCBStatus // zero: UpToDate
	Date       time.Time          // zero: 2025-11-12, or 2024-03-13 for a part that is behind
	Advisories []string           // as INTEL-SA-00615
	// Missing: no level fits, since all want more than the part has.
	Missing bool
}

// Dates of levels. The newer level exists where ours is behind it.
var (
	newerDate = time.Date(2025, 11, 12, 0, 0, 0, 0, time.UTC)
	olderDate = time.Date(2024, 3, 13, 0, 0, 0, 0, time.UTC)
)

// levels calls level for each level to be listed, best first; bump is what
// security versions have above the part's own, and below for negative ones.
func (l Level) levels(level func(bump int, s evidence.TCBStatus, date time.Time, advisories []string)) {
	s := first(l.Status, evidence.UpToDate)
	behind := l.Missing || s == evidence.OutOfDate || s == evidence.OutOfDateConfigurationNeeded || s == evidence.Revoked
	date := newerDate
	if behind {
		level(1, evidence.UpToDate, newerDate, nil)
		date = olderDate
	}
	if !l.Missing {
		level(0, s, first(l.Date, date), l.Advisories)
		level(-1, evidence.OutOfDate, time.Date(2018, 1, 4, 0, 0, 0, 0, time.UTC), append(slices.Clone(l.Advisories), "INTEL-SA-00106"))
	}
}

type svnJSON struct {
	SVN byte `json:"svn"`
}

// Versions of TCB info and QE identity (Intel PCS API version 4).
type (
	tcbJSON struct {
		SGX    []svnJSON `json:"sgxtcbcomponents"`
		PCESVN uint16    `json:"pcesvn"`
		TDX    []svnJSON `json:"tdxtcbcomponents,omitempty"`
	}
	isvJSON struct {
		ISVSVN uint16 `json:"isvsvn"`
	}
	levelJSON[T any] struct {
		TCB        T                  `json:"tcb"`
		Date       string             `json:"tcbDate"`
		Status     evidence.TCBStatus `json:"tcbStatus"`
		Advisories []string           `json:"advisoryIDs,omitempty"`
	}
	moduleJSON struct {
		ID         string               `json:"id,omitempty"`
		Signer     string               `json:"mrsigner"`
		Attributes string               `json:"attributes"`
		Mask       string               `json:"attributesMask"`
		Levels     []levelJSON[isvJSON] `json:"tcbLevels,omitempty"`
	}
	infoJSON struct {
		ID         string               `json:"id"`
		Version    int                  `json:"version"`
		Issued     string               `json:"issueDate"`
		NextUpdate string               `json:"nextUpdate"`
		FMSPC      string               `json:"fmspc"`
		PCEID      string               `json:"pceId"`
		Type       int                  `json:"tcbType"`
		Evaluation uint32               `json:"tcbEvaluationDataNumber"`
		Module     *moduleJSON          `json:"tdxModule,omitempty"`
		Modules    []moduleJSON         `json:"tdxModuleIdentities,omitempty"`
		Levels     []levelJSON[tcbJSON] `json:"tcbLevels"`
	}
	qeJSON struct {
		ID             string               `json:"id"`
		Version        int                  `json:"version"`
		Issued         string               `json:"issueDate"`
		NextUpdate     string               `json:"nextUpdate"`
		Evaluation     uint32               `json:"tcbEvaluationDataNumber"`
		MiscSelect     string               `json:"miscselect"`
		MiscSelectMask string               `json:"miscselectMask"`
		Attributes     string               `json:"attributes"`
		Mask           string               `json:"attributesMask"`
		Signer         string               `json:"mrsigner"`
		ProdID         int                  `json:"isvprodid"`
		Levels         []levelJSON[isvJSON] `json:"tcbLevels"`
	}
)

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

func upper(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

// Collateral makes a collateral bundle (media type evidence.TypeDCAPCollateral).
func (w *World) Collateral(o Collateral) ([]byte, error) {
	p, err := w.intel()
	if err != nil {
		return nil, err
	}
	o.Issued = first(o.Issued, Epoch)
	o.NextUpdate = first(o.NextUpdate, o.Issued.AddDate(0, 0, 30))
	o.CRLNextUpdate = first(o.CRLNextUpdate, o.NextUpdate)
	o.EvaluationNumber = first(o.EvaluationNumber, 20)

	signing := p.tcbSigning.key.(*signer)
	if o.Forged {
		signing = p.platform.key.(*signer)
	}
	sign := func(v any) (text, sig string, err error) {
		b, err := json.Marshal(v)
		if err != nil {
			return "", "", err
		}
		s, err := signing.raw(crypto.SHA256, b)
		return string(b), hex.EncodeToString(s), err
	}
	info, infoSig, err := sign(o.info())
	if err != nil {
		return nil, err
	}
	qe, qeSig, err := sign(o.qe())
	if err != nil {
		return nil, err
	}

	ca := p.platform
	if o.Processor {
		ca = p.processor
	}
	var revoked []*big.Int
	if o.RevokedPlatformCA {
		revoked = append(revoked, ca.cert.SerialNumber)
	}
	if o.RevokedTCBSigning {
		revoked = append(revoked, p.tcbSigning.cert.SerialNumber)
	}
	rootCRL, err := crl(p.root, o.Issued, o.CRLNextUpdate, revoked)
	if err != nil {
		return nil, err
	}
	pckCRL, err := crl(ca, o.Issued, o.CRLNextUpdate, o.Revoked)
	if err != nil {
		return nil, err
	}
	tcbChain := string(chain(p.tcbSigning.cert, p.root.cert))
	return json.Marshal(struct {
		PCKCRLChain string `json:"pck_crl_issuer_chain"`
		RootCRL     string `json:"root_ca_crl"`
		PCKCRL      string `json:"pck_crl"`
		TCBChain    string `json:"tcb_info_issuer_chain"`
		TCBInfo     string `json:"tcb_info"`
		TCBInfoSig  string `json:"tcb_info_signature"`
		QEChain     string `json:"qe_identity_issuer_chain"`
		QE          string `json:"qe_identity"`
		QESig       string `json:"qe_identity_signature"`
	}{
		string(chain(ca.cert, p.root.cert)), hex.EncodeToString(rootCRL), hex.EncodeToString(pckCRL),
		tcbChain, info, infoSig, tcbChain, qe, qeSig,
	})
}

func (o *Collateral) info() infoJSON {
	fmspc := first(o.FMSPC, DefaultFMSPC)
	i := infoJSON{
		ID: "SGX", Version: 3, Issued: stamp(o.Issued), NextUpdate: stamp(o.NextUpdate),
		FMSPC: upper(fmspc[:]), PCEID: upper(o.PCEID[:]), Evaluation: o.EvaluationNumber,
	}
	components := func(v [16]byte) []svnJSON {
		out := make([]svnJSON, len(v))
		for i, n := range v {
			out[i].SVN = n
		}
		return out
	}
	o.Platform.levels(func(bump int, s evidence.TCBStatus, date time.Time, advisories []string) {
		svn, tee := DefaultSVN, DefaultTEETCBSVN
		tee[1] = 0 // which module it is, its own identities tell
		pce := DefaultPCESVN
		switch {
		case bump > 0:
			svn[0]++
		case bump < 0:
			svn[0]--
			pce -= 2
		}
		t := tcbJSON{SGX: components(svn), PCESVN: pce}
		if !o.SGX {
			t.TDX = components(tee)
		}
		i.Levels = append(i.Levels, levelJSON[tcbJSON]{t, stamp(date), s, advisories})
	})
	if o.SGX {
		return i
	}
	i.ID = "TDX"
	identity := moduleJSON{Signer: strings.Repeat("0", 96), Attributes: strings.Repeat("0", 16), Mask: strings.Repeat("F", 16)}
	module := identity
	module.ID = fmt.Sprintf("TDX_%02X", DefaultTEETCBSVN[1])
	o.Module.levels(isvLevels(&module.Levels, uint16(DefaultTEETCBSVN[0])))
	i.Module, i.Modules = &identity, []moduleJSON{module}
	return i
}

func (o *Collateral) qe() qeJSON {
	q := qeJSON{
		ID: "TD_QE", Version: 2, Issued: stamp(o.Issued), NextUpdate: stamp(o.NextUpdate), Evaluation: o.EvaluationNumber,
		MiscSelect: "00000000", MiscSelectMask: "FFFFFFFF",
		Attributes: "11000000000000000000000000000000", Mask: "FBFFFFFFFFFFFFFF0000000000000000",
		Signer: upper(DefaultTDQESigner[:]), ProdID: 2,
	}
	svn := uint16(tdQEVersion)
	if o.SGX {
		q.ID, q.Signer, q.ProdID, svn = "QE", upper(DefaultQESigner[:]), 1, sgxQEVersion
	}
	o.QE.levels(isvLevels(&q.Levels, svn))
	return q
}

func isvLevels(to *[]levelJSON[isvJSON], svn uint16) func(int, evidence.TCBStatus, time.Time, []string) {
	return func(bump int, s evidence.TCBStatus, date time.Time, advisories []string) {
		*to = append(*to, levelJSON[isvJSON]{isvJSON{svn + uint16(bump)}, stamp(date), s, advisories})
	}
}
