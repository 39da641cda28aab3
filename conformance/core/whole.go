package core

import (
	"bytes"
	"strings"

	"github.com/trustedmcp/tmcp/conformance"
)

// whole are the cases that judge the run: does the target still stand, and did
// every message fit its schema?
func whole() []conformance.Case {
	var cases []conformance.Case
	for _, e := range []conformance.Era{modern, legacy} {
		cases = append(cases,
			build(e, "wire-valid", req(e, "schema", 1, must, "basic/index#messages", followsRPC), conformance.Case{
				Title: "every message fits the schema of its revision",
				About: "Validates every message that the server sent in this run against MCP's JSON Schema of the revision spoken.",
				Fix:   "Compare the message with the schema of the revision.",
				Last:  true,
				Run: func(t *T) {
					if t.Observed().Validator == nil {
						t.Untestable("this build has no schema")
					}
					for _, c := range everyList(t) {
						_, _ = t.Session().Try(c)
					}
					judgeRule(t, conformance.RuleSchema, e)
				},
			}),
			build(e, "survives", req(e, "messages", 10, must, "basic/index#messages", followsRPC), conformance.Case{
				Title: "after all this, the server answers as at the beginning",
				About: "Opens a new connection after all other cases, and compares capabilities with those of the beginning. JSON-RPC 2.0, section 5: When a rpc call is made, the Server MUST reply with a Response.",
				Fix:   "No request may change how others are served.",
				Last:  true,
				Fresh: true,
				Run: func(t *T) {
					s := t.RawSession(t.Link())
					var caps jsonValue
					if e == modern {
						caps = conformance.Member(s.Result(Call{Method: "server/discover"}), "capabilities")
					} else {
						caps = conformance.Member(s.Initialize(conformance.LegacyVersion, Obj{}), "capabilities")
					}
					if err := s.Alive(); err != nil {
						t.Violate("%v", err)
					}
					if caps == nil {
						caps = jsonValue("{}")
					}
					if !sameJSON(caps, t.Survey().Of(e).Capabilities) {
						t.Violate("the capabilities changed from %s to %s", conformance.Short(t.Survey().Of(e).Capabilities), conformance.Short(caps))
					}
				},
			}))
	}
	return cases
}

func sameJSON(a, b jsonValue) bool {
	a, b = a.Clone(), b.Clone()
	if a.Canonicalize() != nil || b.Canonicalize() != nil {
		return strings.TrimSpace(string(a)) == strings.TrimSpace(string(b))
	}
	return bytes.Equal(a, b)
}
