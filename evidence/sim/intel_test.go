package sim_test

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	tdxabi "github.com/google/go-tdx-guest/abi"
	tdxverify "github.com/google/go-tdx-guest/verify"

	"github.com/trustedmcp/tmcp/evidence/sim"
)

var reportData = [64]byte{1, 2, 3, 63: 64}

// A pcs answers go-tdx-guest from a collateral bundle.
type pcs struct{ m map[string]string }

func (p pcs) Get(u string) (map[string][]string, []byte, error) {
	esc := func(name, member string) map[string][]string {
		return map[string][]string{name: {url.QueryEscape(p.m[member])}}
	}
	der := func(member string) []byte {
		b, _ := hex.DecodeString(p.m[member])
		return b
	}
	switch {
	case strings.Contains(u, "/tcb?"):
		return esc("Tcb-Info-Issuer-Chain", "tcb_info_issuer_chain"), []byte(`{"tcbInfo":` + p.m["tcb_info"] + `,"signature":"` + p.m["tcb_info_signature"] + `"}`), nil
	case strings.Contains(u, "/qe/identity"):
		return esc("Sgx-Enclave-Identity-Issuer-Chain", "qe_identity_issuer_chain"), []byte(`{"enclaveIdentity":` + p.m["qe_identity"] + `,"signature":"` + p.m["qe_identity_signature"] + `"}`), nil
	case strings.Contains(u, "/pckcrl"):
		return esc("Sgx-Pck-Crl-Issuer-Chain", "pck_crl_issuer_chain"), der("pck_crl"), nil
	case strings.HasSuffix(u, "IntelSGXRootCA.der"):
		return nil, der("root_ca_crl"), nil
	}
	return nil, nil, fmt.Errorf("no %s", u)
}

func pool(certs ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

// oracle verifies a quote with Google's library.
func oracle(t *testing.T, quote, collateral []byte, roots *x509.CertPool, now time.Time) error {
	t.Helper()
	q, err := tdxabi.QuoteToProto(quote)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]string
	if err := json.Unmarshal(collateral, &m); err != nil {
		t.Fatal(err)
	}
	return tdxverify.TdxQuote(q, &tdxverify.Options{
		GetCollateral: true, CheckRevocations: true, Getter: pcs{m}, TrustedRoots: roots,
		Now: &tdxverify.TimeSet{PckCertChain: now, TcbInfo: now, QeIdentity: now, PckCrl: now, RootCaCrl: now},
	})
}

func TestTDXByOracle(t *testing.T) {
	w := sim.Default()
	now := sim.Epoch.Add(time.Hour)
	_, serial, err := w.PCK(sim.Platform{})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		quote      sim.TDX
		collateral sim.Collateral
		world      *sim.World
		now        time.Time
		want       string // "": accepted
	}{
		"version 4":           {},
		"version 5":           {quote: sim.TDX{Version: 5}},
		"version 5, TDX 1.5":  {quote: sim.TDX{Version: 5, Body15: true}},
		"padding":             {quote: sim.TDX{Padding: 70}},
		"another world":       {world: sim.Other(), want: "certificate signed by unknown authority"},
		"expired":             {now: sim.Epoch.AddDate(0, 0, 31), want: "expired"},
		"module out of date":  {collateral: sim.Collateral{Module: sim.Level{Status: "OutOfDate"}}, want: "OutOfDate"},
		"qe out of date":      {collateral: sim.Collateral{QE: sim.Level{Status: "OutOfDate"}}, want: "OutOfDate"},
		"qe of another":       {quote: sim.TDX{QE: sim.QE{MRSIGNER: [32]byte{1}}}, want: "MRSIGNER"},
		"no level":            {collateral: sim.Collateral{Platform: sim.Level{Missing: true}}, want: "no matching TCB level"},
		"another key":         {quote: sim.TDX{QE: sim.QE{OtherKey: true}}, want: "QE Report Data"},
		"pck revoked":         {collateral: sim.Collateral{Revoked: []*big.Int{serial}}, want: "revoked"},
		"pck ca revoked":      {collateral: sim.Collateral{RevokedPlatformCA: true}, want: "revoked"},
		"forged collateral":   {collateral: sim.Collateral{Forged: true}, want: "tcbInfo response verification failed"},
		"for another machine": {collateral: sim.Collateral{FMSPC: [6]byte{1}}, want: "FMSPC"},
	} {
		t.Run(name, func(t *testing.T) {
			world := w
			if tt.world != nil {
				world = tt.world
			}
			quote, err := world.TDXQuote(reportData, tt.quote)
			if err != nil {
				t.Fatal(err)
			}
			collateral, err := world.Collateral(tt.collateral)
			if err != nil {
				t.Fatal(err)
			}
			if tt.now.IsZero() {
				tt.now = now
			}
			err = oracle(t, quote, collateral, pool(w.Simulator("tdx").Anchors().Intel...), tt.now)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v; want %q", err, tt.want)
			}
		})
	}
}

// TestPEM: the quote carries PCK certificate, its CA and the root.
func TestPEM(t *testing.T) {
	q, err := sim.Default().TDXQuote(reportData, sim.TDX{})
	if err != nil {
		t.Fatal(err)
	}
	rest := q[bytes.Index(q, []byte("-----BEGIN")):]
	for n := 3; n > 0; n-- {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			t.Fatal("want three certificates")
		}
	}
	if len(rest) != 0 {
		t.Errorf("%d bytes after the chain", len(rest))
	}
}
