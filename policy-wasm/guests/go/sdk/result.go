package policy

import "unicode/utf8"

// A Result is what a policy decides. A fault makes it a denial; else one Deny
// does; else Allow allows, Abstain abstains, and nothing of it denies with the
// reason no-decision.
type Result struct {
	doc string

	fault, claim               string // code and place of the first fault
	denied, allowed, abstained bool

	reasons     [][]byte // encoded
	vector      [claims]int8
	affirmed    [claims]bool
	obligations []obligation
}

const (
	maxReasons     = 32
	maxText        = 256 // bytes, of texts and claims
	maxObligations = 16
)

// Codes of reasons that the SDK itself gives.
const (
	inputMalformed = "input-malformed"
	claimMissing   = "claim-missing"
	claimType      = "claim-type"
	resultLimit    = "result-limit"
	noDecision     = "no-decision"
)

func explain(code string) string {
	switch code {
	case inputMalformed:
		return "the input is not deterministic CBOR of a document"
	case claimMissing:
		return "a member that the policy reads is missing"
	case claimType:
		return "a member that the policy reads has another type"
	case resultLimit:
		return "the result has more than 16 obligations"
	}
	return "the policy did not decide"
}

// A Trait is a claim of an AR4SI trustworthiness vector.
type Trait int

// The claims.
const (
	Hardware Trait = iota
	Executables
	FileSystem
	SourcedData
	Configuration
	RuntimeOpaque
	StorageOpaque
	InstanceIdentity
	claims = iota
)

// traits are in the order in which results have them.
var traits = [claims]string{"hardware", "executables", "file-system", "sourced-data", "configuration", "runtime-opaque", "storage-opaque", "instance-identity"}

// Values of the claims of a vector, one of each tier. A result of Appraise that
// allows has all claims, and none contraindicated.
const (
	None            int8 = 0
	Affirming       int8 = 2
	Warning         int8 = 32
	Contraindicated int8 = 96
)

type obligation struct {
	id    string
	value []byte // encoded
}

// Deny denies, for a reason: a code of a-z, 0-9 and hyphen that stays the same, a
// text for people, and the JSON pointer of what was judged, or "".
func (r *Result) Deny(code, text, claim string) {
	r.denied = true
	r.Note(code, text, claim)
}

// Note gives a reason that does not deny. The first 32 reasons are kept.
func (r *Result) Note(code, text, claim string) {
	if len(r.reasons) == maxReasons {
		return
	}
	text = cut(text)
	size := uint64(1)
	for _, s := range []string{text, claim} {
		if s != "" {
			size++
		}
	}
	b := appendHead(nil, kindMap, size)
	b = appendText(appendText(b, "code"), code)
	if text != "" {
		b = appendText(appendText(b, "text"), text)
	}
	if claim != "" {
		b = appendText(appendText(b, "claim"), claim)
	}
	r.reasons = append(r.reasons, b)
}

// cut ends a text after the last whole character of its first 256 bytes.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	end := maxText
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

// Affirm sets one claim of the vector.
func (r *Result) Affirm(t Trait, value int8) {
	r.vector[t], r.affirmed[t] = value, true
}

// AffirmAll sets all eight claims of the vector.
func (r *Result) AffirmAll(value int8) {
	for t := range Trait(claims) {
		r.Affirm(t, value)
	}
}

// Oblige has the host do something for the decision to hold, such as end the
// session after some seconds. A host that does not know the obligation denies.
// There are at most 16; the same id again replaces the value.
func (r *Result) Oblige(id string, value int64) { r.oblige(id, appendInt(nil, value)) }

// ObligeBool is [Result.Oblige] with a value that is true or false.
func (r *Result) ObligeBool(id string, value bool) { r.oblige(id, appendBool(nil, value)) }

// ObligeText is [Result.Oblige] with a text.
func (r *Result) ObligeText(id string, value string) { r.oblige(id, appendText(nil, value)) }

func (r *Result) oblige(id string, value []byte) {
	for i := range r.obligations {
		if r.obligations[i].id == id {
			r.obligations[i].value = value
			return
		}
	}
	if len(r.obligations) == maxObligations {
		r.fail(resultLimit, "")
		return
	}
	r.obligations = append(r.obligations, obligation{id, value})
}

// Allow allows, unless the policy denies.
func (r *Result) Allow() { r.allowed = true }

// Abstain leaves the decision to other policies, unless this one denies or
// allows.
func (r *Result) Abstain() { r.abstained = true }

// fail notes the first fault.
func (r *Result) fail(code, claim string) {
	if r.fault == "" {
		r.fault, r.claim = code, claim
	}
}

func (r *Result) decide() string {
	switch {
	case r.fault != "":
		r.reasons, r.affirmed = nil, [claims]bool{}
		r.Note(r.fault, explain(r.fault), r.claim)
	case r.denied:
	case r.allowed:
		return "allow"
	case r.abstained:
		return "abstain"
	default:
		r.Note(noDecision, explain(noDecision), "")
	}
	return "deny"
}

// encode returns the result in deterministic CBOR: shorter keys stand first.
func (r *Result) encode(appraise bool) []byte {
	decision := r.decide()
	var vector []byte
	set := uint64(0)
	for t, name := range traits {
		if appraise && r.affirmed[t] {
			vector = appendInt(appendText(vector, name), int64(r.vector[t]))
			set++
		}
	}
	if decision != "allow" {
		r.obligations = nil
	}
	members := uint64(1)
	for _, n := range []int{len(vector), len(r.reasons), len(r.obligations)} {
		if n > 0 {
			members++
		}
	}
	b := appendHead(nil, kindMap, members)
	if set > 0 {
		b = append(appendHead(appendText(b, "vector"), kindMap, set), vector...)
	}
	if len(r.reasons) > 0 {
		b = appendHead(appendText(b, "reasons"), kindArray, uint64(len(r.reasons)))
		for _, reason := range r.reasons {
			b = append(b, reason...)
		}
	}
	b = appendText(appendText(b, "decision"), decision)
	if len(r.obligations) > 0 {
		b = appendHead(appendText(b, "obligations"), kindArray, uint64(len(r.obligations)))
		for _, o := range r.obligations {
			b = appendText(appendText(appendHead(b, kindMap, 2), "id"), o.id)
			b = append(appendText(b, "value"), o.value...)
		}
	}
	return b
}
