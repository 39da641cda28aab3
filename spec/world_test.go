package spec_test

import (
	"errors"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/protocol"
)

// The tests of this package hold the reference implementation against those
// requirements that are about state over time: keys that are renewed, contexts,
// replays, retries, streams. Each quotes the sentences that it shows. What one
// message or one object shows is tested by vectors/, what shows at the wire by
// the conformance suite.

const uri = "https://api.example/mcp"

var start = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// A world is one server, an identity that may have replicas, and a clock.
type world struct {
	testing.TB
	id  *protocol.Identity
	now time.Time
}

func newWorld(t testing.TB) *world {
	id, err := protocol.GenerateIdentity(uri)
	if err != nil {
		t.Fatal(err)
	}
	return &world{t, id, start}
}

func (w *world) server(change ...func(*protocol.ServerConfig)) *protocol.Server {
	w.Helper()
	cfg := protocol.ServerConfig{Identity: w.id}
	for _, c := range change {
		c(&cfg)
	}
	s, err := protocol.NewServer(cfg)
	w.ok(err)
	return s
}

// offer makes a server with these settings.
func offer(t testing.TB, o protocol.Offer) func(*protocol.ServerConfig) {
	return func(cfg *protocol.ServerConfig) { cfg.Settings = settings(t, o) }
}

func settings(t testing.TB, o protocol.Offer) *protocol.Settings {
	t.Helper()
	s, err := protocol.NewSettings(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// object is the server's key object now.
func (w *world) object(s *protocol.Server) []byte {
	w.Helper()
	b, _, err := s.KeyObject(w.now)
	w.ok(err)
	return b
}

func (w *world) verify(object []byte, s *protocol.Server) (*protocol.Peer, error) {
	return protocol.VerifyKeyObject(object, protocol.Expect{Identity: uri, Anchor: protocol.Pin(w.id.Thumbprint()), Settings: s.Settings(), Now: w.now})
}

// client makes a client that has verified the server.
func (w *world) client(s *protocol.Server, o ...protocol.Offer) *protocol.Client {
	w.Helper()
	return w.clientOf(w.object(s), s, o...)
}

func (w *world) clientOf(object []byte, s *protocol.Server, o ...protocol.Offer) *protocol.Client {
	w.Helper()
	peer, err := w.verify(object, s)
	w.ok(err)
	c, err := protocol.NewClient(peer, settings(w, append(o, protocol.Offer{})[0]))
	w.ok(err)
	return c
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// want fails unless err has the reason.
func (w *world) want(err error, r protocol.Reason) {
	w.Helper()
	if !protocol.IsReason(err, r) {
		w.Errorf("got %v, want reason %s", err, r)
	}
}

func msg(body string) protocol.Content {
	return protocol.Content{Kind: protocol.KindMessage, Body: []byte(body)}
}

var envelope = protocol.Outer{Carrier: protocol.Envelope}

const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`

func (w *world) seal(c *protocol.Client) (*protocol.Call, []byte) {
	w.Helper()
	call, frame, err := c.Seal(msg(ping), envelope, w.now)
	w.ok(err)
	return call, frame
}

func (w *world) open(s *protocol.Server, frame []byte) *protocol.Request {
	w.Helper()
	r, err := s.Open(frame, envelope, w.now)
	w.ok(err)
	return r
}

func (w *world) refuses(s *protocol.Server, frame []byte, r protocol.Reason) *protocol.Error {
	w.Helper()
	_, err := s.Open(frame, envelope, w.now)
	w.want(err, r)
	var e *protocol.Error
	errors.As(err, &e)
	return e
}

// answer seals the frames of an answer, the last one final.
func (w *world) answer(r *protocol.Request, bodies ...string) [][]byte {
	w.Helper()
	var frames [][]byte
	for i, b := range bodies {
		f, err := r.Seal(nil, msg(b), i == len(bodies)-1)
		w.ok(err)
		frames = append(frames, f)
	}
	return frames
}

// exchange does one whole call, after which the client's context is warm.
func (w *world) exchange(c *protocol.Client, s *protocol.Server) (*protocol.Call, *protocol.Request) {
	w.Helper()
	call, frame := w.seal(c)
	r := w.open(s, frame)
	w.deliver(call, w.answer(r, "{}")...)
	w.ok(call.Close())
	return call, r
}

func (w *world) deliver(call *protocol.Call, frames ...[]byte) (bodies []string) {
	w.Helper()
	for _, f := range frames {
		c, _, err := call.Open(f)
		w.ok(err)
		bodies = append(bodies, string(c.Body))
	}
	return bodies
}

func (w *world) frame(b []byte) *protocol.Frame {
	w.Helper()
	f, err := protocol.InspectFrame(b)
	w.ok(err)
	return f
}
