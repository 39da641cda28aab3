package dcap

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/trustedmcp/tmcp/evidence"
)

const (
	maxSigned = 256 << 10 // bytes of TCB info or QE identity; those of today have 7,000
	maxLevels = 256       // in any list of levels
)

// tcbInfo is TCB info version 3, as Intel's PCS describes it ("Get TCB Info").
// Members that we don't know are Intel's to add: they are passed over.
type tcbInfo struct {
	ID               string    `json:"id"`
	Version          int       `json:"version"`
	IssueDate        time.Time `json:"issueDate"`
	NextUpdate       time.Time `json:"nextUpdate"`
	FMSPC            hexBytes  `json:"fmspc"`
	PCEID            hexBytes  `json:"pceId"`
	TCBType          int       `json:"tcbType"`
	EvaluationNumber uint64    `json:"tcbEvaluationDataNumber"`
	Module           *module   `json:"tdxModule"`
	Modules          []module  `json:"tdxModuleIdentities"`
	Levels           []level   `json:"tcbLevels"`
}

// A module is the identity of a TDX module (SEAM module).
type module struct {
	ID         string   `json:"id"` // TDX_03 and the like
	MRSigner   hexBytes `json:"mrsigner"`
	Attributes hexBytes `json:"attributes"`
	Levels     []level  `json:"tcbLevels"`
}

// qeIdentity is the identity of a quoting enclave, version 2 ("Get Quoting
// Enclave Identity").
type qeIdentity struct {
	ID               string    `json:"id"` // QE or TD_QE
	Version          int       `json:"version"`
	IssueDate        time.Time `json:"issueDate"`
	NextUpdate       time.Time `json:"nextUpdate"`
	EvaluationNumber uint64    `json:"tcbEvaluationDataNumber"`
	MiscSelect       hexBytes  `json:"miscselect"`
	MiscSelectMask   hexBytes  `json:"miscselectMask"`
	Attributes       hexBytes  `json:"attributes"`
	AttributesMask   hexBytes  `json:"attributesMask"`
	MRSigner         hexBytes  `json:"mrsigner"`
	ISVProdID        *uint16   `json:"isvprodid"`
	Levels           []level   `json:"tcbLevels"`
}

// A level is one entry of a list of TCB levels, the newest first.
type level struct {
	TCB struct {
		SGX    []component `json:"sgxtcbcomponents"`
		PCESVN *uint16     `json:"pcesvn"`
		TDX    []component `json:"tdxtcbcomponents"`
		ISVSVN *uint16     `json:"isvsvn"`
	} `json:"tcb"`
	Date       time.Time          `json:"tcbDate"`
	Status     evidence.TCBStatus `json:"tcbStatus"`
	Advisories []string           `json:"advisoryIDs"`
}

type component struct {
	SVN *uint8 `json:"svn"`
}

// hexBytes is a string of hexadecimal digits, of either case.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	b := make([]byte, hex.DecodedLen(len(text)))
	n, err := hex.Decode(b, text)
	*h = b[:n]
	return err
}

func parseTCBInfo(b []byte) (*tcbInfo, error) {
	t := &tcbInfo{}
	if err := unmarshal(b, t); err != nil {
		return nil, fmt.Errorf("the TCB info: %v", err)
	}
	bad := func(what string) (*tcbInfo, error) { return nil, errors.New("the TCB info has " + what) }
	tdx := t.ID == "TDX"
	switch {
	case t.ID != "SGX" && !tdx, t.Version != 3:
		return nil, fmt.Errorf("the TCB info has id %q and version %d; want SGX or TDX, and 3", t.ID, t.Version)
	case len(t.FMSPC) != 6, len(t.PCEID) != 2:
		return bad("no fmspc of 6 bytes and pceId of 2")
	case t.TCBType != 0:
		return bad("a tcbType other than 0, whose comparison is not known")
	case t.IssueDate.IsZero(), t.NextUpdate.IsZero():
		return bad("no issueDate or no nextUpdate")
	case tdx && (t.Module == nil || !t.Module.valid()):
		return bad("no tdxModule with mrsigner of 48 bytes and attributes of 8")
	case len(t.Levels) == 0, len(t.Levels) > maxLevels, len(t.Modules) > maxLevels:
		return bad("no levels, or more than 256")
	}
	for i := range t.Levels {
		l := &t.Levels[i]
		if l.TCB.PCESVN == nil || !complete(l.TCB.SGX) || tdx && !complete(l.TCB.TDX) || l.Date.IsZero() {
			return bad("a level without pcesvn, tcbDate or 16 components")
		}
	}
	for i, m := range t.Modules {
		if !m.valid() || !versioned(m.Levels) {
			return bad("a tdxModuleIdentities entry without mrsigner, attributes or levels with isvsvn and tcbDate")
		}
		for _, o := range t.Modules[:i] {
			if strings.EqualFold(m.ID, o.ID) {
				return bad("two tdxModuleIdentities of one id")
			}
		}
	}
	return t, nil
}

func parseQEIdentity(b []byte) (*qeIdentity, error) {
	q := &qeIdentity{}
	if err := unmarshal(b, q); err != nil {
		return nil, fmt.Errorf("the QE identity: %v", err)
	}
	bad := func(what string) (*qeIdentity, error) { return nil, errors.New("the QE identity has " + what) }
	switch {
	case q.ID != "QE" && q.ID != "TD_QE", q.Version != 2:
		return nil, fmt.Errorf("the QE identity has id %q and version %d; want QE or TD_QE, and 2", q.ID, q.Version)
	case q.IssueDate.IsZero(), q.NextUpdate.IsZero():
		return bad("no issueDate or no nextUpdate")
	case len(q.MiscSelect) != 4, len(q.MiscSelectMask) != 4, len(q.Attributes) != 16, len(q.AttributesMask) != 16, len(q.MRSigner) != 32, q.ISVProdID == nil:
		return bad("no miscselect, attributes, mrsigner or isvprodid of the right size")
	case !versioned(q.Levels):
		return bad("no levels with isvsvn and tcbDate, or more than 256")
	}
	return q, nil
}

// unmarshal reads JSON that someone signed: duplicate names, other case and
// trailing data are refused.
func unmarshal(b []byte, v any) error {
	if len(b) > maxSigned {
		return fmt.Errorf("%d bytes; at most %d are read", len(b), maxSigned)
	}
	return json.Unmarshal(b, v)
}

func (m *module) valid() bool { return len(m.MRSigner) == 48 && len(m.Attributes) == 8 }

func complete(c []component) bool {
	return len(c) == 16 && !slices.ContainsFunc(c, func(c component) bool { return c.SVN == nil })
}

func versioned(levels []level) bool {
	return len(levels) > 0 && len(levels) <= maxLevels &&
		!slices.ContainsFunc(levels, func(l level) bool { return l.TCB.ISVSVN == nil || l.Date.IsZero() })
}

// match returns the index of the first level that the platform reaches, or -1.
// The SVNs are those of the PCK certificate. tee is TEE_TCB_SVN of a TD report,
// or nil for SGX and for the part of TDX that SGX covers.
func (t *tcbInfo) match(p *PCK, tee []byte) int {
	return slices.IndexFunc(t.Levels, func(l level) bool {
		if !atLeast(p.SVN[:], l.TCB.SGX, 0) || p.PCESVN < *l.TCB.PCESVN {
			return false
		}
		if tee == nil {
			return true
		}
		// A module of version 1 or newer has an identity of its own: its
		// two components are judged there.
		first := 0
		if tee[1] > 0 {
			first = 2
		}
		return atLeast(tee, l.TCB.TDX, first)
	})
}

func atLeast(svn []byte, want []component, first int) bool {
	for i := first; i < len(want); i++ {
		if svn[i] < *want[i].SVN {
			return false
		}
	}
	return true
}

// identity returns the identity of the TDX module of that version (TEE_TCB_SVN
// byte 1, above 0), or nil.
func (t *tcbInfo) identity(version byte) *module {
	id := fmt.Sprintf("TDX_%02X", version)
	for i := range t.Modules {
		if strings.EqualFold(t.Modules[i].ID, id) {
			return &t.Modules[i]
		}
	}
	return nil
}

// reached returns the index of the first level whose ISVSVN svn reaches, or -1.
func reached(levels []level, svn uint16) int {
	return slices.IndexFunc(levels, func(l level) bool { return svn >= *l.TCB.ISVSVN })
}
