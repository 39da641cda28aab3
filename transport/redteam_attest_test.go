package transport_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

type nobody struct{}

func (nobody) Appraise(context.Context, protocol.Evidence) (*protocol.Appraisal, error) {
	return nil, errors.New("no")
}

// A client that demands evidence never speaks in plaintext to a server that shows
// none because something on the path took the offer out.
func TestPreferredDemandsNoProfile(t *testing.T) {
	for _, p := range []protocol.Profile{protocol.ProfileAttested, protocol.ProfileMutual} {
		cfg := transport.ClientConfig{Anchor: protocol.Pin(), Appraiser: nobody{}, Profile: p, Mode: protocol.ModePreferred}
		if _, err := transport.RoundTripper(nil, cfg); err == nil {
			t.Errorf("%s in mode preferred is taken", p)
		}
		cfg.Mode = protocol.ModeRequired
		if _, err := transport.RoundTripper(nil, cfg); err != nil {
			t.Error(err)
		}
	}
}

type believer struct{ until time.Time }

func (believer) Attest(context.Context, [64]byte) ([]byte, error) {
	return dcbor.AppendUint(dcbor.AppendBytes(dcbor.AppendText(dcbor.AppendArray(nil, 3), "application/x-tee"), []byte{1}), 4), nil
}
func (b believer) Appraise(context.Context, protocol.Evidence) (*protocol.Appraisal, error) {
	return &protocol.Appraisal{Expires: b.until}, nil
}

// A body of any length is not sealed on to a peer whose attestation result is over.
func TestStreamedBodyEndsWithTheAppraisal(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	var late atomic.Bool
	offer := protocol.Offer{Profiles: []protocol.Profile{protocol.ProfileAttested}, Carriers: []protocol.Carrier{protocol.HTTP, protocol.Envelope}}
	settings, err := protocol.NewSettings(offer)
	if err != nil {
		t.Fatal(err)
	}
	id, err := protocol.GenerateIdentity("https://mcp.example/mcp")
	if err != nil {
		t.Fatal(err)
	}
	until := start.Add(time.Minute)
	trust, err := protocol.NewServer(protocol.ServerConfig{Identity: id, Settings: settings, Attestation: &protocol.Attestation{Attester: believer{}}})
	if err != nil {
		t.Fatal(err)
	}
	var got atomic.Int64
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		got.Store(n)
	})
	h, err := transport.Handler(inner, transport.ServerConfig{Trust: trust, Clock: func() time.Time { return start }})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	defer s.Close()
	clock := func() time.Time {
		if late.Load() {
			return until
		}
		return start
	}
	rt, err := transport.RoundTripper(s.Client().Transport, transport.ClientConfig{Anchor: protocol.Pin(id.Thumbprint()), Identity: id.URI(), Carrier: protocol.HTTP,
		Profile: protocol.ProfileAttested, Appraiser: believer{until}, Clock: clock, Limits: transport.Limits{MaxMessage: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	send := func(tail io.Reader) error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, io.MultiReader(bytes.NewReader(make([]byte, 2<<20)), tail))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := rt.RoundTrip(req)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		return err
	}
	if err := send(bytes.NewReader(make([]byte, 1<<20))); err != nil || got.Load() != 3<<20 {
		t.Fatalf("in time: %d bytes, %v", got.Load(), err)
	}
	err = send(reader(func(p []byte) (int, error) { late.Store(true); return min(len(p), 1<<20), io.EOF }))
	if err == nil {
		t.Error("sealed on to a peer whose appraisal is over")
	}
}

type reader func(p []byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }

// Key objects name the settings that they were made for: others would have every
// server refuse them, call after call.
func TestClientKeyOfOtherSettings(t *testing.T) {
	made := func(o protocol.Offer) *protocol.Settings {
		s, err := protocol.NewSettings(o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	id, err := protocol.GenerateIdentity("urn:example:client")
	if err != nil {
		t.Fatal(err)
	}
	mine := made(protocol.Offer{})
	h, err := protocol.NewClientHolder(protocol.ClientKeyConfig{Identity: id, Settings: mine})
	if err != nil {
		t.Fatal(err)
	}
	cfg := transport.ClientConfig{Anchor: protocol.Pin(), ClientKey: h}
	for what, tt := range map[string]struct {
		settings *protocol.Settings
		good     bool
	}{"none": {nil, true}, "the same": {mine, true}, "others": {made(protocol.Offer{Suites: []protocol.Suite{protocol.SuiteX25519}}), false}} {
		cfg.Settings = tt.settings
		if _, err := transport.RoundTripper(nil, cfg); (err == nil) != tt.good {
			t.Errorf("%s: %v", what, err)
		}
	}
}
