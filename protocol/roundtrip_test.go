package protocol_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/protocol"
)

var t0 = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

const uri = "https://api.example.com/mcp"

// pair is a server and a client that has verified it.
type pair struct {
	server *protocol.Server
	client *protocol.Client
	peer   *protocol.Peer
}

func newPair(t testing.TB, suites ...protocol.Suite) pair {
	t.Helper()
	id, err := protocol.GenerateIdentity(uri)
	if err != nil {
		t.Fatal(err)
	}
	server, err := protocol.NewServer(protocol.ServerConfig{Identity: id})
	if err != nil {
		t.Fatal(err)
	}
	return pair{server: server}.connect(t, id, suites...)
}

func (p pair) connect(t testing.TB, id *protocol.Identity, suites ...protocol.Suite) pair {
	t.Helper()
	object, _, err := p.server.KeyObject(t0)
	if err != nil {
		t.Fatal(err)
	}
	announced, err := protocol.ParseSettings(p.server.Settings().JSON())
	if err != nil {
		t.Fatal(err)
	}
	p.peer, err = protocol.VerifyKeyObject(object, protocol.Expect{Identity: uri, Anchor: protocol.Pin(id.Thumbprint()), Settings: announced, Now: t0})
	if err != nil {
		t.Fatal(err)
	}
	mine, err := protocol.NewSettings(protocol.Offer{Suites: suites})
	if err != nil {
		t.Fatal(err)
	}
	if p.client, err = protocol.NewClient(p.peer, mine); err != nil {
		t.Fatal(err)
	}
	return p
}

var envelope = protocol.Outer{Carrier: protocol.Envelope}

func message(body string) protocol.Content {
	return protocol.Content{Kind: protocol.KindMessage, Body: []byte(body)}
}

// call does one whole exchange.
func (p pair) call(t testing.TB, body string) (*protocol.Request, *protocol.Call) {
	t.Helper()
	call, frame, err := p.client.Seal(message(body), envelope, t0)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(frame, []byte("secret")) {
		t.Fatal("the frame shows its plaintext")
	}
	req, err := p.server.Open(frame, envelope, t0)
	if err != nil {
		t.Fatal(err)
	}
	if string(req.Content.Body) != body {
		t.Fatalf("server got %q", req.Content.Body)
	}
	for i, final := range []bool{false, true} {
		answer, err := req.Seal(nil, message("answer"), final)
		if err != nil {
			t.Fatal(err)
		}
		got, last, err := call.Open(answer)
		if err != nil || string(got.Body) != "answer" || last != final {
			t.Fatalf("frame %d: %q %v %v", i, got.Body, last, err)
		}
	}
	if err := call.Close(); err != nil {
		t.Fatal(err)
	}
	return req, call
}

func TestCallsColdThenWarm(t *testing.T) {
	for _, suite := range []protocol.Suite{protocol.SuiteHybrid, protocol.SuiteX25519} {
		t.Run(suite.String(), func(t *testing.T) {
			p := newPair(t, suite)
			first, _ := p.call(t, `{"secret":1}`)
			for i := range 5 {
				next, _ := p.call(t, `{"secret":2}`)
				if next.Context != first.Context || next.Seq != uint64(i+1) {
					t.Fatalf("call %d is not in the first call's context", i)
				}
			}
		})
	}
}
