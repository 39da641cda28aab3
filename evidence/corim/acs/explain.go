package acs

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/corim"
)

// A Mismatch is one attribute of a reference value that the evidence does not
// satisfy.
type Mismatch struct {
	Element string // measurement key, "" for an anonymous element; and register
	Label   string // what the evidence calls it: the name of a claim; or ""
	Code    int64  // code point of measurement-values-map; -1 << 62: the element is missing
	Want    string
	Have    string // "" when the evidence has no such attribute
}

const codeMissing = -1 << 62

// String says it in one line: "rtmr2: want …, have …".
func (m Mismatch) String() string {
	name := m.Label
	if name == "" && m.Code != codeMissing {
		name = m.Element
		if name != "" {
			name += " "
		}
		name += corim.ValueName(m.Code)
	}
	have := m.Have
	if have == "" {
		have = "nothing"
	}
	return fmt.Sprintf("%s: want %s, have %s", name, m.Want, have)
}

// nearestScan bounds how many reference values an explanation looks through.
const nearestScan = 10000

// Nearest is the reference triple for the subject's environment that differs in
// the fewest attributes, with what differs. It returns nil when there is none for
// this environment. It is for explanations, and looks through at most 10,000 of
// them.
func (s *Subject) Nearest() (*Reference, []Mismatch) {
	var best *Reference
	var diff []Mismatch
	left := nearestScan
	for _, k := range keyOf(s.Evidence.Environment).conditions() {
		b := s.store.envs[k]
		if b == nil {
			continue
		}
		for _, id := range b.refs {
			ref := s.store.refs[id]
			if !s.live[ref.source] {
				continue
			}
			if left--; left < 0 {
				return best, diff
			}
			d := differences(ref.record.Claims, s.Evidence, s.store.sources[ref.source].CoRIM().Profile)
			if best == nil || len(d) < len(diff) {
				r := s.store.reference(id)
				best, diff = &r, d
			}
		}
	}
	return best, diff
}

// differences lists each attribute of a condition that e does not satisfy.
func differences(want []corim.Measurement, e *ECT, profile string) []Mismatch {
	var out []Mismatch
	for i := range want {
		w := &want[i]
		name := ""
		if w.Key != nil {
			name = strings.Trim(w.Key.Describe(), `"`)
		}
		if !subset(w.AuthorizedBy, e.Authority) {
			out = append(out, Mismatch{Element: name, Code: codeMissing, Want: "another authority", Have: fmt.Sprint(e.Authority)})
			continue
		}
		var best []Mismatch
		found := false
		for j := range e.Elements {
			h := &e.Elements[j]
			if (w.Key == nil) != (h.Key == nil) || !bytes.Equal(w.Key, h.Key) {
				continue
			}
			if d := valueDifferences(name, profile, &w.Values, &h.Values); !found || len(d) < len(best) {
				best = d
			}
			found = true
		}
		if !found {
			best = nil
			for _, code := range w.Values.Codes() {
				best = append(best, Mismatch{Element: name, Code: code, Want: w.Values.Text(code)})
			}
		}
		out = append(out, best...)
	}
	for i := range out {
		out[i].Label = e.Labels[out[i].Element]
	}
	return out
}

func valueDifferences(name, profile string, w, h *corim.Values) []Mismatch {
	var out []Mismatch
	for _, code := range w.Codes() {
		one := only(w, code)
		if code == corim.CodeRegisters {
			for _, r := range w.Registers {
				have := register(h.Registers, r.RegisterID)
				if have != nil && matchDigests(r.Digests, have.Digests) {
					continue
				}
				m := Mismatch{Element: strings.TrimSpace(name + " register " + r.RegisterID.String()), Code: code, Want: corim.DigestsText(r.Digests)}
				if have != nil {
					m.Have = corim.DigestsText(have.Digests)
				}
				out = append(out, m)
			}
			continue
		}
		if !Match(profile, &one, h) {
			out = append(out, Mismatch{Element: name, Code: code, Want: w.Text(code), Have: h.Text(code)})
		}
	}
	return out
}

// only keeps one attribute.
func only(v *corim.Values, code int64) corim.Values {
	switch code {
	case corim.CodeVersion:
		return corim.Values{Version: v.Version}
	case corim.CodeSVN:
		return corim.Values{SVN: v.SVN}
	case corim.CodeDigests:
		return corim.Values{Digests: v.Digests}
	case corim.CodeFlags:
		return corim.Values{Flags: v.Flags}
	case corim.CodeRaw:
		return corim.Values{Raw: v.Raw, RawMask: v.RawMask}
	case corim.CodeMAC:
		return corim.Values{MAC: v.MAC}
	case corim.CodeIP:
		return corim.Values{IP: v.IP}
	case corim.CodeSerial:
		return corim.Values{Serial: v.Serial}
	case corim.CodeUEID:
		return corim.Values{UEID: v.UEID}
	case corim.CodeUUID:
		return corim.Values{UUID: v.UUID}
	case corim.CodeName:
		return corim.Values{Name: v.Name}
	case corim.CodeKeys:
		return corim.Values{Keys: v.Keys}
	case corim.CodeRegisters:
		return corim.Values{Registers: v.Registers}
	case corim.CodeInt:
		return corim.Values{Int: v.Int}
	}
	return corim.Values{Extra: slices.DeleteFunc(slices.Clone(v.Extra), func(f corim.Field) bool { return f.Code != code })}
}

// Explain says for people what became of the subject.
func (s *Subject) Explain() string {
	name := s.Evidence.Name
	if name == "" {
		name = s.Evidence.Environment.String()
	}
	switch s.Outcome {
	case Corroborated:
		m := s.Matches[0]
		more := ""
		if n := len(s.Matches) - 1; n > 0 {
			more = fmt.Sprintf(" (and %d more)", n)
		}
		return fmt.Sprintf("%s: matches a reference value of %q, signed by %q%s", name, m.Manifest, m.Signer, more)
	case Unknown:
		return fmt.Sprintf("%s: no manifest has reference values for %s", name, s.Evidence.Environment)
	}
	ref, diff := s.Nearest()
	if ref == nil {
		return name + ": no reference value matches"
	}
	lines := make([]string, 0, 4)
	for _, d := range diff {
		if len(lines) == 3 {
			lines = append(lines, fmt.Sprintf("and %d more", len(diff)-3))
			break
		}
		lines = append(lines, d.String())
	}
	return fmt.Sprintf("%s: no reference value matches; the nearest, of %q, differs in %s", name, ref.Manifest, strings.Join(lines, "; "))
}

// Checks puts the result into the form that verifiers report in: for each tuple
// of evidence a check "reference-values", which passes, fails, or is not
// performed when there are none; and one "endorsements" that names what was
// added.
func (r *Result) Checks() evidence.Checks {
	var out evidence.Checks
	for i := range r.Subjects {
		s := &r.Subjects[i]
		o := evidence.Fail
		switch s.Outcome {
		case Corroborated:
			o = evidence.Pass
		case Unknown:
			o = evidence.NotPerformed
		}
		out.Add("reference-values", o, s.Explain())
	}
	for _, e := range r.Endorsed() {
		out.Add("endorsements", evidence.Pass, e.String())
	}
	for _, n := range r.Notes {
		out.Add("manifests", evidence.Warn, n)
	}
	return out
}

// String describes a tuple for people.
func (e *ECT) String() string {
	var parts []string
	for _, m := range e.Elements {
		parts = append(parts, m.String())
	}
	for _, k := range e.Keys {
		parts = append(parts, k.String())
	}
	for _, d := range e.Domains {
		parts = append(parts, d.String())
	}
	what := map[Kind]string{Elements: "has", AttestKeys: "has attestation keys", IdentityKeys: "has identity keys", Membership: "consists of", Dependency: "depends on"}[e.Kind]
	return fmt.Sprintf("%s %s %s, says %q", e.Environment, what, strings.Join(parts, ", "), e.Manifest)
}
