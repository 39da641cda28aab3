package transport_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// TMCP-13.2-4: A server's trust layer MUST answer all open calls with an error when the inner server ends.
func TestStdioServerEndsWithOpenCalls(t *testing.T) {
	s := newStdioSide(t, nil)
	calls := map[string]*protocol.Call{}
	for _, id := range []string{"a", "b"} {
		calls[id] = s.seal(id, inner(`"`+id+`"`, "tools/call", `"name":"never"`))
		s.childHears()
	}
	s.toClient.Close() // the child's output ends
	open := map[string]bool{"a": true, "b": true}
	for range 2 {
		who, body, final := s.next(calls)
		if !open[who] || !final || !strings.Contains(body, `"id":"`+who+`"`) || !strings.Contains(body, `"error"`) || !strings.Contains(body, "-32603") {
			t.Errorf("%s was answered with %s, final %v", who, body, final)
		}
		delete(open, who)
	}
	if err := s.wait(); err != nil {
		t.Error(err)
	}
}

// Over stdio only the carrier that works there is offered.
func TestStdioOffersEnvelopeOnly(t *testing.T) {
	s := newStdioSide(t, nil)
	if got := s.offered.Offer().Carriers; len(got) != 1 || got[0] != protocol.Envelope {
		t.Errorf("the server offers %v over stdio", got)
	}
	id, err := protocol.GenerateIdentity("urn:example:stdio")
	if err != nil {
		t.Fatal(err)
	}
	trust, err := protocol.NewServer(protocol.ServerConfig{Identity: id})
	if err != nil {
		t.Fatal(err)
	}
	all := trust.Settings()
	none := transport.Pipe{In: strings.NewReader(""), Out: io.Discard}
	for name, err := range map[string]error{
		"Trust":    transport.StdioServer(context.Background(), none, none, transport.ServerConfig{Trust: trust}),
		"Carriers": transport.StdioServer(context.Background(), none, none, transport.ServerConfig{Identity: id, Carriers: []protocol.Carrier{protocol.HTTP}}),
		"Settings": transport.StdioClient(context.Background(), none, none, transport.ClientConfig{Identity: "urn:x", Anchor: protocol.Pin(id.Thumbprint()), Settings: all}),
	} {
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "only envelope") {
			t.Errorf("%s with other carriers: %v", name, err)
		}
	}
}
