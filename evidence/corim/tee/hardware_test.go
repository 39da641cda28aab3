package tee_test

import (
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/corim"
	"github.com/trustedmcp/tmcp/evidence/corim/acs"
	"github.com/trustedmcp/tmcp/evidence/corim/tee"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/evidence/verifiers"
)

// Evidence of real machines, verified: a manifest of what each runs matches it,
// and that of another machine of its kind does not.
func TestHardware(t *testing.T) {
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "hardware", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	cert := func(name string) evidence.Item {
		return evidence.Item{MediaType: evidence.TypeCertificates, Value: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: read(name)})}
	}
	collateral := func(name string) evidence.Item {
		return evidence.Item{MediaType: evidence.TypeDCAPCollateral, Value: read(name)}
	}
	all := map[string]evidence.Verifier{}
	for _, v := range verifiers.All(verifiers.Options{AllowDebug: true}) {
		for _, m := range v.MediaTypes() {
			all[m] = v
		}
	}
	var proven []*evidence.Verified
	for _, tt := range []struct {
		mediaType, file, at string
		endorsements        []evidence.Item
		names               []string
	}{
		{evidence.TypeTDX, "tdx/phala-v4.quote", "2025-07-01T00:00:00Z", []evidence.Item{collateral("tdx/phala-v4.collateral.json")}, tee.Defaults(evidence.TDX)},
		{evidence.TypeSGX, "sgx/phala-v3.quote", "2025-07-01T00:00:00Z", []evidence.Item{collateral("sgx/phala-v3.collateral.json")}, tee.Defaults(evidence.SGX)},
		{evidence.TypeSNP, "sevsnp/milan-v2-vcek.report", "2025-06-01T00:00:00Z", []evidence.Item{cert("sevsnp/milan-v2.vcek.der")}, tee.Defaults(evidence.SNP)},
		{evidence.TypeSNP, "sevsnp/milan-v3-vlek.report", "2025-06-01T00:00:00Z", []evidence.Item{cert("sevsnp/milan-v3.vlek.der")}, tee.Defaults(evidence.SNP)},
		{evidence.TypeNitro, "nitro/dstack-2025-12-25.cose", "", nil, tee.Defaults(evidence.Nitro)},
		{evidence.TypeNVIDIA, "nvidia/hopper.report.txt", "2026-11-21T00:00:00Z", nil, []string{"nvidia.driver", "nvidia.vbios", "nvidia.measurement.1"}},
	} {
		value := read(tt.file)
		at, _ := time.Parse(time.RFC3339, tt.at)
		switch tt.mediaType {
		case evidence.TypeNVIDIA:
			value = gpu(t, value, read("nvidia/hopper.chain.txt"))
		case evidence.TypeNitro:
			at = time.Date(2025, 12, 25, 0, 0, 0, 0, time.UTC)
		}
		var v *evidence.Verified
		for range 24 { // a Nitro document holds for hours of its day
			r := all[tt.mediaType].Verify(tt.mediaType, value, &evidence.Trust{Anchors: vendor.Anchors(), Now: at, Endorsements: tt.endorsements})
			if v = r.Verified(); v != nil && (tt.mediaType != evidence.TypeNitro || r.Accepted()) {
				break
			}
			at = at.Add(time.Hour)
		}
		if v == nil {
			t.Errorf("%s does not verify", tt.file)
			continue
		}
		es, err := tee.Evidence(v)
		if err != nil {
			t.Errorf("%s: %v", tt.file, err)
			continue
		}
		set, err := tee.Select(v, tt.names...)
		if err != nil {
			t.Errorf("%s: %v", tt.file, err)
			continue
		}
		m, err := tee.Manifest(tt.file, v.Claims().Kind, set)
		if err != nil {
			t.Errorf("%s: %v", tt.file, err)
			continue
		}
		r := look(t, m, es)
		if r.Subjects[0].Outcome != acs.Corroborated {
			t.Errorf("%s: %s", tt.file, r.Subjects[0].Explain())
		}
		for _, o := range proven {
			other, err := tee.Evidence(o)
			if err != nil {
				t.Fatal(err)
			}
			if r := look(t, m, other); r.Subjects[0].Outcome == acs.Corroborated {
				t.Errorf("%s: matches a machine of %s", tt.file, o.Claims().Kind)
			}
		}
		proven = append(proven, v)
	}
}

func look(t *testing.T, m *corim.CoRIM, es []acs.ECT) *acs.Result {
	t.Helper()
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	v, err := corim.Conveyed(b, "test", corim.KeyID([]byte("test")), &corim.Trust{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	s, err := acs.NewStore(v)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Appraise(es, acs.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func gpu(t *testing.T, report, chain []byte) []byte {
	t.Helper()
	var raw []byte
	if _, err := fmt.Sscanf(string(report), "%x", &raw); err != nil {
		t.Fatal(err)
	}
	b, err := cbor.Marshal([][]byte{raw, chain})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
