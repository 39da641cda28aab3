package core

import (
	"context"
	"strings"

	"github.com/trustedmcp/tmcp/conformance"
)

func stdio() []conformance.Case {
	var cases []conformance.Case
	for _, e := range []conformance.Era{modern, legacy} {
		page := "basic/transports/stdio"
		if e == legacy {
			page = "basic/transports#stdio"
		}
		cases = append(cases, build(e, "stdout-clean", req(e, "stdio", 1, must, page, "The server MUST NOT write anything to its stdout that is not a valid MCP message."), conformance.Case{
			Title: "stdout holds nothing but messages, one to a line", Transports: stdioOnly,
			About: "Looks at every line that the server wrote to stdout in this run: UTF-8, one JSON-RPC message, nothing else. A message broken over lines shows here too.",
			Fix:   "Log to stderr; write each message on one line.",
			Last:  true,
			Run: func(t *T) {
				for _, c := range everyList(t) {
					_, _ = t.Session().Try(c)
				}
				if b := t.Observed().Broken(conformance.RuleGarbage, ""); len(b) > 0 {
					t.Violate("%s", strings.Join(b, "; "))
				}
			},
		}))
	}
	cases = append(cases, build(modern, "exit-on-eof", req(modern, "stdio", 2, should, "basic/transports/stdio#shutdown", "Servers SHOULD exit promptly when their standard input is closed or reads return end-of-file."), conformance.Case{
		Title: "the server ends when its input ends", Transports: stdioOnly,
		About: "Makes one exchange, closes the server's stdin, and waits for the process to end, as long as for any step.",
		Fix:   "End when reading stdin gives end-of-file.",
		Fresh: true,
		Run: func(t *T) {
			s := t.Session()
			s.Result(simple(modern))
			ctx, cancel := context.WithTimeout(t.Context(), t.StepTimeout())
			defer cancel()
			if err := s.Link().CloseInput(ctx); err != nil {
				t.Violate("the process still runs: %v", err)
			}
		},
	}))
	return cases
}
