// Package sevsnp verifies attestation reports of AMD SEV-SNP: make a verifier
// with [New], and give it a report with [Verifier.Verify].
//
// It knows report versions 2 to 5; the product lines Milan, Genoa (with Bergamo
// and Siena) and Turin; and keys of chips (VCEK) and of providers (VLEK). The
// key's certificate comes in the certificate table after the report or as an
// endorsement; root and intermediates only from the anchors, never from evidence.
//
// What the report says of the firmware is not believed: the TCB is that of the
// certificate, which AMD made for one TCB, and the report must say the same.
// AMD publishes no list of TCB levels, so whether a TCB is up to date is for
// [Options.MinimumTCB] to say. Without it, the result has no TCB, and a policy
// that asks for a status finds none.
package sevsnp

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-sev-guest/abi"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/internal/held"
	"github.com/trustedmcp/tmcp/evidence/internal/seal"
)

// Options are what a relying party asks of a platform, beyond genuine evidence.
// The zero value asks for no more than that the guest can't be debugged.
type Options struct {
	// MinimumTCB is the oldest firmware to accept, by product line. With it the
	// result has a TCB; a platform below it, or of a line without one, is refused.
	// AMD's security bulletins say which versions fix what.
	MinimumTCB map[string]TCB
	// CSPs are the cloud providers whose VLEKs to accept, as AMD names them
	// ("CN=cc-us-east-2.amazonaws.com"). Empty: of any provider; the claim
	// snp.cspid says which.
	CSPs []string
	// AllowDebug turns the failed check of a guest that its host may debug into
	// a warning. For tests.
	AllowDebug bool
	// Cache bounds how many verified certificates, and how many verified CRLs,
	// are kept. 0: 256.
	Cache int
}

// A Verifier verifies reports, and keeps the endorsement keys that it verified.
// It is safe for concurrent use.
type Verifier struct {
	opts Options
	keys held.Cache[verifiedKey]
	crls held.Cache[verifiedCRL]
}

var _ evidence.Verifier = (*Verifier)(nil)

// New makes a verifier.
func New(o Options) *Verifier {
	v := &Verifier{opts: o}
	if o.Cache <= 0 {
		o.Cache = 256
	}
	v.keys.Max, v.crls.Max = o.Cache, o.Cache
	return v
}

// MediaTypes returns [evidence.TypeSNP].
func (v *Verifier) MediaTypes() []string { return []string{evidence.TypeSNP} }

// Verify verifies a report, optionally with the certificate table after it. Of
// the endorsements in t it takes [evidence.TypeCertificates], PEM or DER, for the
// VCEK or VLEK, and [evidence.TypeCRL], DER.
func (v *Verifier) Verify(mediaType string, value []byte, t *evidence.Trust) *evidence.Result {
	a := &appraisal{v: v, t: t}
	claims := a.run(mediaType, value)
	return evidence.NewResult(seal.Mine(), evidence.SNP, a.checks, a.tcb, claims)
}

// An appraisal is one run of a verifier.
type appraisal struct {
	v      *Verifier
	t      *evidence.Trust
	checks evidence.Checks
	tcb    *evidence.TCB

	report              *report
	candidates          []*endorsement
	digests             map[*endorsement]held.Digest
	crls                [][]byte
	key                 *endorsement
	chain               *chain
	notBefore, notAfter time.Time
}

// note adds a check that passes when err is nil.
func (a *appraisal) note(name string, err error, found string) bool {
	if err != nil {
		a.checks.Add(name, evidence.Fail, err.Error())
		return false
	}
	a.checks.Add(name, evidence.Pass, found)
	return true
}

func (a *appraisal) run(mediaType string, value []byte) *evidence.Claims {
	if !a.note("inputs", a.inputs(mediaType), mediaType) {
		return nil
	}
	r, err := parseReport(value)
	if err != nil {
		a.checks.Add("report-structure", evidence.Fail, "the report is malformed: "+err.Error())
		return nil
	}
	a.report = r
	a.checks.Add("report-structure", evidence.Pass, fmt.Sprintf("version %d", r.Version))
	a.note("signature-algorithm", algorithm(r.SignatureAlgo), "ECDSA P-384 with SHA-384")
	a.note("signing-key", signingKey(r), r.signer().String())

	chains := pinned(a.t)
	a.table(value[ReportSize:], chains)
	a.collect(chains)
	proven := a.endorsed(chains)
	if !a.signature() {
		proven = false
	}
	if a.key != nil && a.key.err == nil {
		a.platform()
	}
	a.firmware()
	a.guest()
	if !proven {
		return nil
	}
	return a.claims()
}

func (a *appraisal) inputs(mediaType string) error {
	switch {
	case mediaType != evidence.TypeSNP:
		return fmt.Errorf("the media type is %q, want %q", mediaType, evidence.TypeSNP)
	case a.t == nil || a.t.Now.IsZero():
		return errors.New("no time to verify at: set Trust.Now")
	}
	return a.t.Anchors.Check()
}

func algorithm(n uint32) error {
	if n != abi.SignEcdsaP384Sha384 {
		return fmt.Errorf("signature algorithm %d, want 1 (ECDSA P-384 with SHA-384)", n)
	}
	return nil
}

func signingKey(r *report) error {
	if s := r.signer(); s != abi.VcekReportSigner && s != abi.VlekReportSigner {
		return fmt.Errorf("the report is signed by key %d, want 0 (VCEK) or 1 (VLEK)", s)
	}
	return nil
}

// table takes the certificates from the table after the report. Roots and
// intermediates in it are not used, but must be those that are pinned.
func (a *appraisal) table(b []byte, chains []*chain) {
	if len(b) == 0 {
		return
	}
	const name = "certificate-table"
	entries, err := parseTable(b)
	if err != nil {
		a.checks.Add(name, evidence.Fail, "the certificate table is malformed: "+err.Error())
		return
	}
	outcome, detail := evidence.Pass, fmt.Sprintf("%d entries", len(entries))
	for _, e := range entries {
		switch e.kind {
		case guidVCEK, guidVLEK:
			if !a.add(e.data) {
				outcome, detail = evidence.Fail, "an entry for a VCEK or VLEK has another certificate"
			}
		case guidCRL:
			a.crls = append(a.crls, e.data)
		case guidASK, guidARK, guid{}:
			for _, der := range certificates(e.data) {
				if !slices.ContainsFunc(chains, func(c *chain) bool { return string(c.ark.Raw) == string(der) || string(c.ask.Raw) == string(der) }) {
					outcome, detail = evidence.Fail, "the table carries a root or intermediate that is not pinned"
				}
			}
		default:
			if outcome == evidence.Pass {
				outcome, detail = evidence.Warn, fmt.Sprintf("an entry of the unknown kind %v was not looked at", e.kind)
			}
		}
	}
	a.checks.Add(name, outcome, detail)
}

// collect takes certificates and CRLs from the endorsements.
func (a *appraisal) collect(chains []*chain) {
	n, crls := 0, 0
	for _, e := range a.t.Endorsements {
		if len(e.Value) > maxItem {
			continue
		}
		if e.MediaType == evidence.TypeCRL {
			if crls++; crls <= maxItems {
				a.crls = append(a.crls, e.Value)
			}
			continue
		}
		if e.MediaType != evidence.TypeCertificates {
			continue
		}
		// Certificates of any number of platforms do not keep CRLs from being read.
		if n++; n > maxItems {
			continue
		}
		for _, der := range certificates(e.Value) {
			// The rest of the chain comes along as a rule: don't parse it.
			if !slices.ContainsFunc(chains, func(c *chain) bool { return string(c.ark.Raw) == string(der) || string(c.ask.Raw) == string(der) }) {
				a.addDER(der)
			}
		}
	}
}

func (a *appraisal) add(b []byte) bool {
	der := certificates(b)
	return len(der) == 1 && a.addDER(der[0])
}

// addDER adds a candidate for the signing key.
func (a *appraisal) addDER(der []byte) bool {
	d := sha256.Sum256(der)
	e := (*endorsement)(nil)
	if known, ok := a.v.keys.Get(d); ok {
		e = known.endorsement
	} else if e = parseEndorsement(der); e == nil {
		return false
	}
	if a.digests == nil {
		a.digests = map[*endorsement]held.Digest{}
	}
	a.digests[e] = d
	a.candidates = append(a.candidates, e)
	return true
}

// endorsed finds the certificate of the signing key, and verifies it up to a
// pinned root.
func (a *appraisal) endorsed(chains []*chain) bool {
	vlek := a.report.signer() == abi.VlekReportSigner
	for _, e := range a.candidates {
		if e.vlek == vlek && signingKey(a.report) == nil && (a.key == nil || e.fits(a.report) && !a.key.fits(a.report)) {
			a.key = e
		}
	}
	if a.key == nil {
		a.checks.Add("endorsement-key", evidence.Fail, fmt.Sprintf("no certificate of the %v came with the report: staple it (media type %s)", a.report.signer(), evidence.TypeCertificates))
		return false
	}
	if a.key.err != nil {
		a.checks.Add("endorsement-key", evidence.Fail, fmt.Sprintf("the %s certificate is not as AMD makes them: %v", a.key.name(), a.key.err))
		return false
	}
	a.checks.Add("endorsement-key", evidence.Pass, a.key.name())

	d := a.digests[a.key]
	if known, ok := a.v.keys.Get(d); ok {
		if i := slices.IndexFunc(chains, known.by.same); i >= 0 {
			a.chain = chains[i]
		}
	}
	if a.chain == nil {
		by, err := a.key.verify(chains)
		if err != nil {
			a.checks.Add("endorsement-chain", evidence.Fail, fmt.Sprintf("the %s certificate does not lead to a pinned root: %v", a.key.name(), err))
			return false
		}
		a.chain = by
		a.v.keys.Put(d, verifiedKey{a.key, by})
	}
	a.checks.Add("endorsement-chain", evidence.Pass, a.chain.ark.Subject.CommonName)
	a.validity()
	return a.revocation()
}

// validity checks the time against each certificate of the chain.
func (a *appraisal) validity() {
	var err error
	for _, c := range []*x509.Certificate{a.key.cert, a.chain.ask, a.chain.ark} {
		a.bound(c.NotBefore, c.NotAfter)
		switch {
		case err != nil:
		case a.t.Now.Before(c.NotBefore):
			err = fmt.Errorf("the certificate %s is valid from %s only", c.Subject.CommonName, c.NotBefore.Format(time.RFC3339))
		case a.t.Now.After(c.NotAfter):
			err = fmt.Errorf("the certificate %s expired at %s", c.Subject.CommonName, c.NotAfter.Format(time.RFC3339))
		}
	}
	a.note("endorsement-validity", err, "until "+a.notAfter.Format(time.RFC3339))
}

func (a *appraisal) bound(from, to time.Time) {
	if from.After(a.notBefore) {
		a.notBefore = from
	}
	if a.notAfter.IsZero() || to.Before(a.notAfter) {
		a.notAfter = to
	}
}

// signature verifies the report's signature over its first 0x2A0 bytes.
func (a *appraisal) signature() bool {
	if a.key == nil || a.key.err != nil || a.report.SignatureAlgo != abi.SignEcdsaP384Sha384 {
		a.checks.Add("signature", evidence.NotPerformed, "there is no key to verify it with")
		return false
	}
	der, err := abi.ReportToSignatureDER(a.report.raw)
	if err == nil {
		sum := sha512.Sum384(abi.SignedComponent(a.report.raw))
		if !ecdsa.VerifyASN1(a.key.key, sum[:], der) {
			err = fmt.Errorf("the report's signature is not by the %s of the certificate, or the report was changed", a.key.name())
		}
	}
	return a.note("signature", err, "by the "+a.key.name())
}

// platform holds the report against what the certificate says of the platform.
func (a *appraisal) platform() {
	r, x := a.report, a.key.ext
	product := strings.Split(x.productName, "-")[0]
	if product == "Bergamo" || product == "Siena" {
		product = Genoa
	}
	if a.chain != nil {
		err := error(nil)
		found := a.chain.product
		if product != a.chain.product {
			err = fmt.Errorf("the certificate is for %q, but issued for %s", x.productName, a.chain.product)
		} else if x.turin() != (a.chain.product == Turin) {
			err = fmt.Errorf("the certificate has the security versions of another product line than %s", a.chain.product)
		} else if family, model, ok := r.model(); ok {
			found += fmt.Sprintf(", family %02xh, model %02xh", family, model)
			if p := Product(family, model); p != a.chain.product {
				err = fmt.Errorf("a processor of family %02xh, model %02xh (product line %q) can't have a key of %s", family, model, p, a.chain.product)
			}
		}
		a.note("product", err, found)
	}

	if a.key.vlek {
		switch csps := a.v.opts.CSPs; {
		case len(csps) == 0:
			a.checks.Add("csp-id", evidence.NotPerformed, fmt.Sprintf("the VLEK is of %q; which providers to accept was not said", x.cspID))
		case !slices.Contains(csps, x.cspID):
			a.checks.Add("csp-id", evidence.Fail, fmt.Sprintf("the VLEK is of %q, want one of %q", x.cspID, csps))
		default:
			a.checks.Add("csp-id", evidence.Pass, x.cspID)
		}
	} else if zero(r.ChipId) {
		a.checks.Add("chip-id", evidence.Warn, "masked by the host; the platform is known by its VCEK only")
	} else {
		var err error
		if string(r.ChipId[:len(x.hwid)]) != string(x.hwid) {
			err = fmt.Errorf("the report is of chip %x, the certificate of %x", r.ChipId[:len(x.hwid)], x.hwid)
		}
		a.note("chip-id", err, "the same in report and certificate")
	}

	// N17: not the report's word counts, but the TCB that AMD made the key for.
	line := Milan
	if x.turin() {
		line = Turin
	}
	reported, certified := [8]byte(r.reportedTCB()), x.tcb()
	var err error
	if reported != certified {
		err = fmt.Errorf("the report claims %v (%x), but the key is for %v (%x)", DecodeTCB(line, reported), reported, DecodeTCB(line, certified), certified)
	}
	a.note("tcb-endorsed", err, DecodeTCB(line, certified).String())
	if a.chain == nil {
		return
	}

	have, min := DecodeTCB(a.chain.product, certified), a.v.opts.MinimumTCB
	want, ok := min[a.chain.product]
	switch {
	case len(min) == 0:
		a.checks.Add("tcb-minimum", evidence.NotPerformed, "no minimum was given, and AMD publishes no list of levels; the TCB is "+have.String())
	case !ok:
		a.checks.Add("tcb-minimum", evidence.Fail, "no minimum was given for the product line "+a.chain.product)
	default:
		err = nil
		if !have.AtLeast(want) {
			err = fmt.Errorf("the TCB is %v, want at least %v", have, want)
		}
		a.note("tcb-minimum", err, have.String())
		if reported == certified {
			a.tcb = have.judge(a.chain.product, want)
		}
	}
}

// claims are made only from a report whose signature leads to a root.
func (a *appraisal) claims() *evidence.Claims {
	r, x := a.report, a.key.ext
	c := &evidence.Claims{
		ReportData: r.ReportData,
		Debug:      r.Policy&policyDebug != 0,
		Simulated:  a.chain.simulated,
		NotBefore:  a.notBefore,
		NotAfter:   a.notAfter,
		Values: map[string]any{
			"snp.version":         uint64(r.Version),
			"snp.product":         a.chain.product,
			"snp.signingkey":      strings.ToLower(a.key.name()),
			"snp.measurement":     r.Measurement,
			"snp.hostdata":        r.HostData,
			"snp.policy":          r.Policy,
			"snp.familyid":        r.FamilyId,
			"snp.imageid":         r.ImageId,
			"snp.vmpl":            uint64(r.Vmpl),
			"snp.guestsvn":        uint64(r.GuestSvn),
			"snp.platforminfo":    r.PlatformInfo,
			"snp.chipid":          r.ChipId,
			"snp.currenttcb":      slices.Clone(r.currentTCB()),
			"snp.reportedtcb":     slices.Clone(r.reportedTCB()),
			"snp.committedtcb":    slices.Clone(r.committedTCB()),
			"snp.launchtcb":       slices.Clone(r.launchTCB()),
			"snp.idkeydigest":     r.IdKeyDigest,
			"snp.authorkeydigest": r.AuthorKeyDigest,
			"snp.reportid":        r.ReportId,
			"snp.reportidma":      r.ReportIdMa,
		},
	}
	switch {
	case a.key.vlek:
		c.Values["snp.cspid"] = x.cspID
		if !zero(r.ChipId) {
			c.Platform = r.ChipId
		}
	case zero(r.ChipId):
		c.Platform = make([]byte, abi.ChipIDSize)
		copy(c.Platform, x.hwid)
	default:
		c.Platform = r.ChipId
	}
	return c
}
