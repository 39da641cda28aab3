package policy

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	c "github.com/trustedmcp/tmcp/policy-wasm/corpus"
	spec "github.com/trustedmcp/tmcp/spec/vectors"
)

// specVectors are the vectors of chapter 20.
func specVectors() []vector {
	var out []vector
	for group, build := range map[string]func(*spec.Vector) (func() Request, func(*conformance.T, *asked)){
		"policy-metadata": metadataVector, "policy-result": resultVector, "policy-fuel": fuelVector, "policy-compose": composeVector, "policy-digest": digestVector,
	} {
		for _, v := range spec.Group(group) {
			x := vector{name: strings.Replace(v.ID[len("policy-"):], "/", "-", 1), req: v.Requirements[0], title: v.Note, reason: v.Reason}
			var look func(*conformance.T, *asked)
			if x.make, look = build(&v); v.Valid {
				x.look = look
			} else {
				x.twin = twinOf(v.ID)
			}
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(a, b vector) int { return strings.Compare(a.name, b.name) })
	return append(out, documentVectors()...)
}

// twinOf is the vector that a bad one of chapter 20 is a mutation of.
func twinOf(id string) string {
	group, name, _ := strings.Cut(id, "/")
	switch {
	case group == "policy-metadata":
		return "metadata-least"
	case group == "policy-result" && strings.HasPrefix(name, "cbor"):
		return "result-authorize-cbor"
	case group == "policy-result" && strings.HasPrefix(name, "obligation-unknown"):
		return "result-obligation"
	case group == "policy-result":
		return "result-allow"
	case name == "deadline" || name == "deadline-beyond":
		return "fuel-deadline-exact"
	case strings.HasSuffix(name, "-short"):
		return "fuel-" + strings.TrimSuffix(name, "-short") + "-exact"
	}
	return "fuel-loop"
}

func read(v *spec.Vector, in, out any) {
	for b, into := range map[string]any{string(v.Input): in, string(v.Output): out} {
		if b != "" && into != nil {
			err := json.Unmarshal([]byte(b), into, json.MatchCaseInsensitiveNames(true))
			mustf(err == nil, "%s: %v", v.ID, err)
		}
	}
}

func metadataVector(v *spec.Vector) (func() Request, func(*conformance.T, *asked)) {
	var in struct{ Metadata spec.Hex }
	var out struct {
		Entries  []string
		Encoding policywasm.Encoding
	}
	read(v, &in, &out)
	return func() Request {
		question, answer := "appraise", c.AllowAnswer
		if len(out.Entries) > 0 && out.Entries[0] == "authorize" {
			question, answer = "authorize", `{"decision":"allow"}`
		}
		if out.Encoding == policywasm.CBOR {
			answer = string(cbor([]byte(answer)))
		}
		module, was := c.Guest{Answer: answer}.Module(), c.Custom("tmcp.policy", c.Meta().Append(nil))
		return ask(slices.Concat(module[:8], c.Custom("tmcp.policy", in.Metadata), module[8+len(was):]), question, "{}")
	}, nil
}

func resultVector(v *spec.Vector) (func() Request, func(*conformance.T, *asked)) {
	var in struct {
		Encoding    policywasm.Encoding
		Question    string
		Result      string
		Obligations []string
	}
	var want Result
	read(v, &in, &want)
	return func() Request {
		m := c.Meta()
		m.Encoding = in.Encoding
		answer := in.Result
		if m.Encoding == policywasm.CBOR {
			var b spec.Hex
			mustf(b.UnmarshalText([]byte(answer)) == nil, "%s: no hex", v.ID)
			answer = string(b)
		}
		r := ask(c.Guest{Metadata: m, Answer: answer, Allocate: c.Code(c.Const(c.I32, 60_000))}.Module(), in.Question, "{}")
		return withCaps(r, func(c *Caps) { c.Obligations = in.Obligations })
	}, func(t *conformance.T, a *asked) { sameResult(t, &a.Results[0], &want) }
}

func sameResult(t *conformance.T, got, want *Result) {
	value := func(v jsontext.Value) string {
		v = v.Clone()
		_ = v.Canonicalize()
		return string(v)
	}
	switch {
	case got.Failure != "":
		t.Violate("it fails with %.60s (%.200s), and must not", got.Failure, got.Detail)
	case got.Decision != want.Decision:
		t.Violate("the decision is %s, want %s", got.Decision, want.Decision)
	case !slices.Equal(got.Reasons, want.Reasons):
		t.Violate("the reasons are %.300v, want %.300v", got.Reasons, want.Reasons)
	case !maps.Equal(got.Vector, want.Vector):
		t.Violate("the vector is %v, want %v", got.Vector, want.Vector)
	case !slices.EqualFunc(got.Obligations, want.Obligations, func(a, b Obligation) bool { return a.ID == b.ID && value(a.Value) == value(b.Value) }):
		t.Violate("the obligations are %.300v, want %.300v", got.Obligations, want.Obligations)
	}
}

func fuelVector(v *spec.Vector) (func() Request, func(*conformance.T, *asked)) {
	var in struct {
		Module       spec.Hex
		Question     string
		Document     string
		Cap, Granted uint64
		Log          int
	}
	var want struct {
		Decision string
		Fuel     uint64
	}
	read(v, &in, &want)
	return func() Request {
			r := withCaps(ask(in.Module, in.Question, in.Document), func(c *Caps) { c.Fuel, c.Log = in.Cap, in.Log })
			r.Granted = in.Granted
			return r
		}, func(t *conformance.T, a *asked) {
			decides(want.Decision)(t, a)
			if f := a.Results[0].Fuel; f == nil {
				t.Violate("no fuel is told")
			} else if *f != want.Fuel {
				t.Violate("%d units of fuel were used, want %d", *f, want.Fuel)
			}
		}
}

func composeVector(v *spec.Vector) (func() Request, func(*conformance.T, *asked)) {
	var in struct {
		Rule    string
		Results []jsontext.Value
	}
	var want struct {
		Decision    string
		Decided     []int
		Asked       int
		Vector      map[string]int8
		Obligations []Obligation
	}
	read(v, &in, &want)
	return func() Request {
			var modules [][]byte
			for _, r := range in.Results {
				g := c.Guest{Answer: string(r), Allocate: c.Code(c.Const(c.I32, 60_000))}
				if bytes.Contains(r, []byte(`"failure"`)) {
					g = c.Guest{Appraise: c.Code(0x00)}
				}
				modules = append(modules, g.Module())
			}
			r := ask(nil, "appraise", "{}")
			r.Modules, r.Rule = modules, in.Rule
			return withCaps(r, func(c *Caps) { c.Obligations = []string{"audit", "valid-for"} })
		}, func(t *conformance.T, a *asked) {
			got := a.Results[0]
			if want.Decision == "allow" {
				sameResult(t, &Result{Decision: got.Decision, Failure: got.Failure, Vector: got.Vector, Obligations: got.Obligations},
					&Result{Decision: want.Decision, Vector: want.Vector, Obligations: want.Obligations})
			} else if got.Decision != want.Decision {
				t.Violate("the decision is %s, want %s", got.Decision, want.Decision)
			}
			if !slices.Equal(got.Decided, want.Decided) {
				t.Violate("it is told that policies %v made the decision, it was %v", got.Decided, want.Decided)
			}
			if got.Asked != want.Asked {
				t.Violate("%d policies were asked, want %d", got.Asked, want.Asked)
			}
		}
}

func digestVector(v *spec.Vector) (func() Request, func(*conformance.T, *asked)) {
	var in struct {
		Rule     string
		Policies []struct {
			Digest   spec.Hex
			Settings *string
		}
	}
	var want struct{ Digest spec.Hex }
	read(v, &in, &want)
	return func() Request {
			r := Request{Op: OpDigest, Rule: in.Rule}
			for _, p := range in.Policies {
				r.Digests, r.Settings = append(r.Digests, p.Digest), append(r.Settings, p.Settings)
			}
			return r
		}, func(t *conformance.T, a *asked) {
			if a.Digest != fmt.Sprintf("%x", []byte(want.Digest)) {
				t.Violate("the policy digest is %.64s, want %x", a.Digest, []byte(want.Digest))
			}
		}
}

// documentVectors are documents in the spelling in which a policy must get them:
// the policy compares them byte by byte.
func documentVectors() []vector {
	var out []vector
	for _, v := range spec.Group("policy-document") {
		var in struct{ Document string }
		var want struct {
			JSON string
			CBOR spec.Hex
		}
		read(&v, &in, &want)
		x := vector{name: strings.Replace(v.ID[len("policy-"):], "/", "-", 1), req: v.Requirements[0], title: v.Note, reason: v.Reason}
		if !v.Valid {
			x.twin = "document-order"
			x.make = func() Request { return ask(c.Guest{}.Module(), "appraise", in.Document) }
			out = append(out, x)
			continue
		}
		x.make = func() Request { return ask(expects(policywasm.JSON, []byte(want.JSON)), "appraise", in.Document) }
		y := x
		y.name, y.title = x.name+"-cbor", x.title+" In CBOR."
		y.make = func() Request { return ask(expects(policywasm.CBOR, want.CBOR), "appraise", in.Document) }
		out = append(out, x, y)
	}
	return out
}
