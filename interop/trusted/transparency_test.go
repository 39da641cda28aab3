package trusted_test

import (
	"slices"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/interoptest"
	"github.com/trustedmcp/tmcp/interop/official"
	"github.com/trustedmcp/tmcp/protocol"
)

// MCP's official suite gives through connect and serve, carrier http, check by
// check what it gives without them, in both eras, however often it is run.
func TestTransparency(t *testing.T) {
	server, err := interop.Lookup("go-sdk-everything")
	if err != nil {
		t.Fatal(err)
	}
	cache := interoptest.Install(t, server)
	suite, err := official.Install(t.Context(), cache)
	interoptest.Check(t, err)
	for _, test := range []struct{ requirements, endpoint string }{
		{official.Legacy, "http-stateful"},
		{official.Modern, "http-stateless"},
	} {
		t.Run(test.requirements, func(t *testing.T) {
			direct, err := suite.Run(t.Context(), interoptest.Start(t, cache, server, test.endpoint).URL, test.requirements)
			if err != nil {
				t.Fatal(err)
			}
			if !direct.Conformant {
				t.Fatalf("the server isn't conformant without a gateway:\n%s", direct.Output)
			}
			for i := range repeats(t) {
				begin := time.Now()
				s := serve(t, interoptest.Start(t, cache, server, test.endpoint))
				c := connect(t, to(s, s.URL, protocol.HTTP))
				through, err := suite.Run(t.Context(), c.URL, test.requirements)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range official.Diff(direct, through) {
					t.Errorf("run %d: %s", i+1, d)
				}
				t.Logf("run %d: %d checks passed, %d failed, in %v", i+1, through.Count("SUCCESS"), through.Count("FAILURE"),
					time.Since(begin).Round(time.Millisecond))
				stop(t, c, s)
			}
		})
	}
}

// labelled are the checks of the suite that carrier envelope changes, all for one
// reason. Where http passes the answer's bytes on, the other carriers deliver a
// message, and the client's trust layer writes into its result how it came:
// _meta["org.trustedmcp/status"]. MCP allows _meta in every result, the empty
// one included; these two checks want the empty result to be {} exactly.
//
//	logging-set-level  result of logging/setLevel
//	ping               result of ping
var labelled = map[string][]string{
	official.Legacy: {"logging-set-level", "ping"},
	official.Modern: nil,
}

// Through carrier envelope nothing else differs, malformed requests, refusals of
// the server and HTTP status codes included.
func TestEnvelopeDiffersByLabelOnly(t *testing.T) {
	server, err := interop.Lookup("go-sdk-everything")
	if err != nil {
		t.Fatal(err)
	}
	cache := interoptest.Install(t, server)
	suite, err := official.Install(t.Context(), cache)
	interoptest.Check(t, err)
	for _, test := range []struct{ requirements, endpoint string }{
		{official.Legacy, "http-stateful"},
		{official.Modern, "http-stateless"},
	} {
		t.Run(test.requirements, func(t *testing.T) {
			direct, err := suite.Run(t.Context(), interoptest.Start(t, cache, server, test.endpoint).URL, test.requirements)
			if err != nil {
				t.Fatal(err)
			}
			s := serve(t, interoptest.Start(t, cache, server, test.endpoint))
			c := connect(t, to(s, s.URL, protocol.Envelope))
			through, err := suite.Run(t.Context(), c.URL, test.requirements)
			if err != nil {
				t.Fatal(err)
			}
			var differ []string
			for _, d := range official.Diff(direct, through) {
				differ = append(differ, d.ID)
				if !slices.Contains(labelled[test.requirements], d.ID) {
					t.Error(d)
				}
			}
			if len(differ) != len(labelled[test.requirements]) {
				t.Errorf("these differ: %q, want %q; if fewer do, correct the list", differ, labelled[test.requirements])
			}
		})
	}
}
