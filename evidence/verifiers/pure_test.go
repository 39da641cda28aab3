package verifiers_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/evidence/verifiers"
)

type deny struct{ t *testing.T }

func (d deny) RoundTrip(r *http.Request) (*http.Response, error) {
	d.t.Errorf("verification asks the network for %s", r.URL)
	return nil, errors.New("denied")
}

// TMCP-19.1-2: A verifier MUST take the time, the collateral, the trust anchors, the reference values and the policy as inputs.
// TMCP-19.1-4: The verdict of a verifier MUST NOT depend on anything but its inputs.
//
// Evidence of every kind is accepted at its own time, decades from now, and
// refused at the machine's; nothing is asked of the network, and nothing is
// written to stdout or stderr, where MCP's stdio transport would trip over it.
func TestPure(t *testing.T) {
	old := http.DefaultTransport
	http.DefaultTransport = deny{t}
	defer func() { http.DefaultTransport = old }()
	output := capture(t)
	far := time.Date(2041, 5, 6, 7, 8, 9, 0, time.UTC)
	policy, err := appraise.NewRules(appraise.Rules{Name: "pure", Development: true, ReferenceValues: "optional", TCB: appraise.TCBRules{Unknown: true}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := appraise.New(appraise.Config{Verifiers: verifiers.All(verifiers.Options{}), Anchors: vendor.Anchors(), Simulator: sim.Default().Simulator(), Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	data := [64]byte{1, 2, 3}
	for _, kind := range []evidence.Kind{evidence.TDX, evidence.SGX, evidence.SNP, evidence.Nitro, evidence.CCA} {
		tee, err := sim.Default().TEE(sim.Options{Kind: kind, Image: sha256.Sum256(nil), GPUs: 2, Now: func() time.Time { return far }})
		if err != nil {
			t.Fatal(err)
		}
		w, err := tee.Attest(context.Background(), data)
		if err != nil {
			t.Fatal(err)
		}
		if r := a.Evaluate(appraise.Input{CMW: w, ReportData: data[:], Now: far}); r.Verdict != appraise.Accepted || len(r.Devices) != 3 {
			t.Errorf("%s in 2041: %s", kind, r.Explanation())
		}
		// SEV-SNP's and CCA's have no date of their own.
		if r := a.Evaluate(appraise.Input{CMW: w, ReportData: data[:], Now: far.AddDate(-15, 0, 0)}); (r.Verdict == appraise.Accepted) != (kind == evidence.SNP || kind == evidence.CCA) {
			t.Errorf("%s of 2041, in 2026: %s", kind, r.Verdict)
		}
	}
	for _, name := range []string{"tdx/phala-v4.quote", "sgx/phala-v3.quote", "nitro/dstack-2025-12-25.cose", "sevsnp/milan-v2-vcek.report", "cca/cca-example-token.cbor"} {
		b, err := os.ReadFile(filepath.Join("..", "testdata", "hardware", filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range verifiers.All(verifiers.Options{}) {
			for _, mt := range v.MediaTypes() { // most of them not its own
				v.Verify(mt, b, &evidence.Trust{Anchors: vendor.Anchors(), Now: far})
			}
		}
	}
	if got := output(); got != "" {
		t.Errorf("verification writes to stdout or stderr: %q", got)
	}
}

// capture replaces stdout and stderr, and returns what was written there.
func capture(t *testing.T) func() string {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, errs := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = w, w
	read := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(r)
		read <- string(b)
	}()
	return func() string {
		os.Stdout, os.Stderr = out, errs
		_ = w.Close()
		return <-read
	}
}
