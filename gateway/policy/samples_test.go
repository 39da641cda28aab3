package policy_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/evidence/verifiers"
	"github.com/trustedmcp/tmcp/gateway/policy"
	"github.com/trustedmcp/tmcp/policy-wasm/document"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

var update = flag.Bool("update", false, "write the sample documents anew")

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// facts are what evidence proves, as a policy would see it.
func facts(t *testing.T, in appraise.Input, development bool) *appraise.Facts {
	t.Helper()
	c := &catcher{Policy: appraise.Strict()}
	cfg := appraise.Config{Verifiers: verifiers.All(verifiers.Options{}), Anchors: vendor.Anchors(), Policy: c}
	if development {
		c.Policy, cfg.Simulator = appraise.Simulated(), sim.Default().Simulator()
	}
	a := must(appraise.New(cfg))
	in.Unbound = in.ReportData == nil
	in.Peer = &appraise.Peer{Role: protocol.RoleServer, Identity: "https://weather.example/mcp"}
	r := a.Evaluate(in)
	if c.facts == nil {
		t.Fatal(r.Explanation())
	}
	return c.facts
}

type catcher struct {
	appraise.Policy
	facts *appraise.Facts
}

func (c *catcher) Decide(f *appraise.Facts) evidence.Checks {
	c.facts = f
	return c.Policy.Decide(f)
}

func item(mediaType, name string) evidence.Item {
	return evidence.Item{MediaType: mediaType, Value: recordedFile(name)}
}

func recordedFile(name string) []byte {
	return must(os.ReadFile(filepath.Join("..", "..", "evidence", "testdata", "hardware", filepath.FromSlash(name))))
}

// recorded are the facts of evidence that real machines made.
func recorded(t *testing.T, name string) *appraise.Facts {
	t.Helper()
	day := func(s string) time.Time { return must(time.Parse(time.DateOnly, s)) }
	tdx := []evidence.Item{item(evidence.TypeTDX, "tdx/phala-v4.quote"), item(evidence.TypeDCAPCollateral, "tdx/phala-v4.collateral.json")}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: recordedFile("sevsnp/milan-v2.vcek.der")})
	switch name {
	case "tdx":
		return facts(t, appraise.Input{Items: tdx, Now: day("2025-07-01")}, false)
	case "sgx":
		return facts(t, appraise.Input{Items: []evidence.Item{item(evidence.TypeSGX, "sgx/phala-v3.quote"), item(evidence.TypeDCAPCollateral, "sgx/phala-v3.collateral.json")}, Now: day("2025-07-01")}, false)
	case "sev-snp":
		return facts(t, appraise.Input{Items: []evidence.Item{item(evidence.TypeSNP, "sevsnp/milan-v2-vcek.report"), {MediaType: evidence.TypeCertificates, Value: chain}}, Now: day("2025-06-01")}, false)
	case "nitro":
		for h := range 24 { // such a document is good for hours of its day
			f := facts(t, appraise.Input{Items: []evidence.Item{item(evidence.TypeNitro, "nitro/dstack-2025-12-25.cose")}, Now: day("2025-12-25").Add(time.Duration(h) * time.Hour)}, false)
			if len(f.Devices[0].Checks.Failed()) == 0 {
				return f
			}
		}
	}
	image, data := [32]byte{7}, bytes.Repeat([]byte{9}, 64)
	now := day("2026-11-21")
	gpus := 0
	if name == "gpu" {
		gpus = 1
	}
	tee := must(sim.Default().TEE(sim.Options{Kind: evidence.TDX, Image: image, GPUs: gpus, Now: func() time.Time { return now }}))
	w := must(tee.Attest(context.Background(), [64]byte(data)))
	f := facts(t, appraise.Input{CMW: w, ReportData: data, Now: now}, true)
	return f
}

func sample(t *testing.T, name string) *document.Document {
	t.Helper()
	call := func(party transport.Party) *document.Document {
		c := &transport.Call{Party: party, Kind: transport.CallRequest, Method: "tools/call", Carrier: protocol.Envelope, Revision: "2026-07-28",
			Params: jsontext.Value(`{"name":"forecast","arguments":{"city":"Malmö","days":3,"scale":1.5}}`)}
		return must(policy.Authorization(c, time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC), true))
	}
	who := transport.Party{Role: protocol.RoleClient, Identity: "spiffe://example.org/host/desk", Thumbprint: "3q2-7wXfBzC2TrnWJWvB2aiFYQXQ1rXpxqD0sZ5VYlI", Profile: protocol.ProfileIdentity}
	switch name {
	case "call-unknown":
		return call(transport.Party{Role: protocol.RoleClient})
	case "call-identity":
		return call(who)
	case "call-attested":
		d := call(who)
		d.Peer.Profile = "attested"
		d.Devices = sample(t, "tdx").Devices
		return d
	}
	f := recorded(t, name)
	for i := range f.Devices {
		d := &f.Devices[i]
		if d.Kind != evidence.NVIDIA {
			d.References = &appraise.Comparison{Known: true, Matched: true, Tags: []string{"weather-2026-11"}}
		}
		if name == "gpu" { // no set of a CPU and its GPUs stands recorded
			d.Claims.Simulated = false
		}
	}
	return policy.Appraisal(f)
}

var sampleNames = []string{"call-attested", "call-identity", "call-unknown", "gpu", "nitro", "sev-snp", "sgx", "simulated", "tdx"}

// TestSamples holds the sample documents to what this package makes.
func TestSamples(t *testing.T) {
	for _, name := range sampleNames {
		d := sample(t, name)
		got := must(json.Marshal(must(d.JSON()), jsontext.WithIndent("\t"), json.Deterministic(true)))
		if _, err := document.Parse(got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		file := filepath.Join("..", "..", "policy-wasm", "document", "samples", name+".json")
		if *update {
			if err := os.WriteFile(file, append(got, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if want, ok := document.Sample(name); !ok || !bytes.Equal(bytes.TrimSpace(want), got) {
			t.Errorf("%s is not what is made: go test ./gateway/policy -run TestSamples -update", file)
		}
	}
}
