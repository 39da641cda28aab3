package apiclient

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/veraison/apiclient/verification"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/ear"
	"github.com/trustedmcp/tmcp/evidence/eat"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/gateway/appraisal"
	"github.com/trustedmcp/tmcp/gateway/verifier"
	"github.com/trustedmcp/tmcp/protocol"
)

// builder makes evidence for Veraison's client.
type builder struct {
	t   *testing.T
	raw bool // the quote as it is, in place of a CMW
}

func (b *builder) BuildEvidence(nonce []byte, accept []string) ([]byte, string, error) {
	var rd [64]byte
	copy(rd[:], nonce)
	if b.raw {
		q, err := sim.Default().TDXQuote(rd, sim.TDX{})
		return q, evidence.TypeTDX, err
	}
	tee, err := sim.Default().TEE(sim.Options{})
	if err != nil {
		return nil, "", err
	}
	c, err := tee.Attest(b.t.Context(), rd)
	return c, "application/cmw+cbor", err
}

func TestVeraisonClient(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	kid, err := protocol.PublicKeyThumbprint(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	now := sim.Epoch.Add(time.Hour)
	a, err := appraisal.Load(t.Context(), appraisal.Options{Simulator: true, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	is, err := verifier.NewIssuer(a, key, "https://verifier.example")
	if err != nil {
		t.Fatal(err)
	}
	s, err := verifier.NewServer(verifier.ServerConfig{Issuer: is, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s)
	defer srv.Close()
	for _, tt := range []struct {
		name string
		cfg  verification.ChallengeResponseConfig
		raw  bool
	}{
		{"nonce of the server", verification.ChallengeResponseConfig{NonceSz: 32}, false},
		{"nonce of the relying party", verification.ChallengeResponseConfig{Nonce: []byte("0123456789abcdef")}, false},
		{"a quote in a CMW as of 2024", verification.ChallengeResponseConfig{NonceSz: 64, Wrap: verification.WrapCBOR}, true},
		{"a quote as it is", verification.ChallengeResponseConfig{NonceSz: 64}, true},
	} {
		cfg := tt.cfg
		cfg.NewSessionURI, cfg.EvidenceBuilder, cfg.DeleteSession = srv.URL+verifier.PathNewSession, &builder{t, tt.raw}, true
		got, err := cfg.Run()
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var token string
		if err := json.Unmarshal(got, &token); err != nil {
			t.Fatal(err)
		}
		r, err := ear.Verify([]byte(token), &ear.Options{Keys: eat.Keys{{ID: kid.String(), Public: key.Public()}}, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		if r.Overall() != ear.Warning { // since it is simulated
			t.Errorf("%s: %v: %+v", tt.name, r.Overall(), r.Submods["cpu"].Extension.Checks.Failed())
		}
	}
}
