package verifier

import (
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/sim"
)

// wrapperVectors try section 18.4.
func wrapperVectors() []vector {
	tdx := func(b []byte) arr { return record(evidence.TypeTDX, b, 4) }
	set := func(more func(cpu []byte) m) func(*scene) {
		return func(s *scene) {
			s.collection = func(cpu []byte) []byte {
				c := m{"__cmwc_t": collectionType, "cpu": tdx(cpu)}
				for k, v := range more(cpu) {
					c[k] = v
				}
				return enc(c)
			}
		}
	}
	gpu := func(nonce func() [32]byte, more m) func(*scene) {
		return func(s *scene) { s.collection = withGPU(nonce, more) }
	}
	staple := func(w *sim.World) func(*scene) {
		return func(s *scene) {
			s.bare = true
			s.collection = func(cpu []byte) []byte {
				return enc(m{"__cmwc_t": collectionType, "cpu": tdx(cpu), "cpu-endorsements-0": record(evidence.TypeDCAPCollateral, must(w.Collateral(sim.Collateral{})), 2)})
			}
		}
	}
	raw := func(b ...byte) func() Request { return func() Request { return Request{Op: OpCMW, Value: b} } }
	cat := func(parts ...any) []byte {
		var out []byte
		for _, p := range parts {
			switch p := p.(type) {
			case int:
				out = append(out, byte(p))
			case string:
				out = append(out, p...)
			case []byte:
				out = append(out, p...)
			}
		}
		return out
	}
	rec := cat(0x83, 0x6a, "text/plain", 0x41, 0x00, 0x04)
	col := func(n int, parts ...any) []byte { return cat(append([]any{0xa0 + n}, parts...)...) }
	typ := cat(0x68, "__cmwc_t", 0x78, len(collectionType), collectionType)
	// Deterministic CBOR sorts keys by their encodings: shorter texts first.
	return []vector{
		{name: "cmw-record", req: "TMCP-18.4-1", title: "a record", make: raw(rec...)},
		{name: "cmw-collection", req: "TMCP-18.4-1", title: "a collection of two records", make: raw(col(3, 0x63, "cpu", rec, 0x65, "gpu-0", rec, typ)...)},
		{name: "cmw-ind-0", req: "TMCP-18.4-1", title: "an indicator of 0", twin: "cmw-record", hole: "cmw", make: raw(cat(0x83, 0x6a, "text/plain", 0x41, 0x00, 0x00)...)},
		{name: "cmw-empty", req: "TMCP-18.4-1", title: "an empty collection", twin: "cmw-collection", hole: "cmw", make: raw(0xa0)},
		{name: "cmw-only-type", req: "TMCP-18.4-1", title: "a collection with a type and nothing else", twin: "cmw-collection", hole: "cmw", make: raw(col(1, typ)...)},
		{name: "cmw-label-twice", req: "TMCP-18.4-1", title: "a label that stands twice", twin: "cmw-collection", hole: "cmw", make: raw(col(3, 0x63, "cpu", rec, 0x63, "cpu", rec, typ)...)},
		{name: "cmw-unsorted", req: "TMCP-18.4-1", title: "labels that are not sorted", twin: "cmw-collection", hole: "cmw", make: raw(col(3, 0x65, "gpu-0", rec, 0x63, "cpu", rec, typ)...)},
		{name: "cmw-indefinite", req: "TMCP-18.4-1", title: "a record of indefinite length", twin: "cmw-record", hole: "cmw", make: raw(cat(0x9f, 0x6a, "text/plain", 0x41, 0x00, 0x04, 0xff)...)},
		{name: "cmw-long-integer", req: "TMCP-18.4-1", title: "an indicator that is not in its shortest form", twin: "cmw-record", hole: "cmw", make: raw(cat(0x83, 0x6a, "text/plain", 0x41, 0x00, 0x18, 0x04)...)},
		{name: "cmw-trailing", req: "TMCP-18.4-1", title: "a byte behind the record", twin: "cmw-record", hole: "cmw", make: raw(cat(rec, 0x00)...)},
		{name: "cmw-cut", req: "TMCP-18.4-1", title: "a record that ends early", twin: "cmw-record", hole: "cmw", make: raw(rec[:len(rec)-1]...)},
		{name: "cmw-one-item", req: "TMCP-18.4-1", title: "a record without a value", twin: "cmw-record", hole: "cmw", make: raw(cat(0x81, 0x6a, "text/plain")...)},
		{name: "cmw-value-text", req: "TMCP-18.4-1", title: "a record whose value is a text", twin: "cmw-record", hole: "cmw", make: raw(cat(0x83, 0x6a, "text/plain", 0x61, "x", 0x04)...)},
		{name: "cmw-bad-utf8", req: "TMCP-18.4-1", title: "a media type that is no UTF-8", twin: "cmw-record", hole: "cmw", make: raw(cat(0x83, 0x6a, "text/plai\xff", 0x41, 0x00, 0x04)...)},

		{name: "set", req: "TMCP-18.4-4", title: "a CPU's evidence with stapled endorsements", make: of(evidence.TDX, staple(sim.Default()))},
		{name: "set-gpu", req: "TMCP-18.4-5", title: "a CPU and a GPU, bound together", make: of(evidence.TDX, gpu(gpuNonce(wantData, 0), nil))},
		{name: "set-cut", req: "TMCP-18.4-1", title: "a set that is not deterministic CBOR", twin: "set-gpu", hole: "wrapper", make: of(evidence.TDX, func(s *scene) {
			s.collection = func(cpu []byte) []byte { return append(withGPU(gpuNonce(wantData, 0), nil)(cpu), 0) }
		})},
		{name: "set-unknown-type", req: "TMCP-18.4-2", title: "evidence of an unknown type beside the CPU's", twin: "set-gpu", hole: "format", make: of(evidence.TDX, gpu(gpuNonce(wantData, 0), m{"fpga-0": record("application/vnd.example.fpga", []byte{1}, 4)}))},
		{name: "unknown-type", req: "TMCP-18.4-2", title: "evidence of an unknown type alone", twin: "set", hole: "format", make: of(evidence.TDX, func(s *scene) {
			s.collection = func(cpu []byte) []byte { return enc(record("application/vnd.example.quote", cpu, 4)) }
		})},
		{name: "set-two-cpus", req: "TMCP-18.4-3", title: "two CPUs, each bound", twin: "set-gpu", hole: "second-cpu", make: of(evidence.TDX, set(func([]byte) m {
			return m{"cpu-2": tdx(must(sim.Default().TDXQuote(wantData, sim.TDX{Platform: sim.Platform{Name: "another machine"}})))}
		}))},
		{name: "set-forged-endorsements", req: "TMCP-18.4-4", title: "stapled endorsements under a root that is not trusted", twin: "set", hole: "collateral-chain", make: of(evidence.TDX, staple(sim.Other()))},
		{name: "set-gpu-report-data", req: "TMCP-18.4-5", title: "a GPU that was given the report data itself", twin: "set-gpu", hole: "binding", make: of(evidence.TDX, gpu(func() [32]byte { return [32]byte(wantData[:32]) }, nil))},
		{name: "set-gpu-of-another", req: "TMCP-18.4-5", title: "a GPU that was asked by another", twin: "set-gpu", hole: "binding", make: of(evidence.TDX, gpu(gpuNonce(otherData, 0), nil))},
		{name: "set-gpu-index", req: "TMCP-18.4-5", title: "a GPU that was bound as the second, and stands as the first", twin: "set-gpu", hole: "binding", make: of(evidence.TDX, gpu(gpuNonce(wantData, 1), nil))},
		{name: "set-cpu-unbound", req: "TMCP-18.4-5", title: "a bound GPU beside a CPU that is not", twin: "set-gpu", hole: "binding", make: of(evidence.TDX, gpu(gpuNonce(wantData, 0), nil), func(s *scene) { s.data = otherData })},
		{name: "set-no-evidence", req: "TMCP-19.1-3", title: "a set with endorsements and no evidence", twin: "set", hole: "wrapper", make: of(evidence.TDX, func(s *scene) {
			s.collection = func([]byte) []byte {
				return enc(m{"__cmwc_t": collectionType, "cpu-endorsements-0": record(evidence.TypeDCAPCollateral, []byte("{}"), 2)})
			}
		})},
	}
}

// kinds are those that stand alone, with the offsets of what is measured.
var kinds = []struct {
	kind        evidence.Kind
	name        string
	debug       func(*scene)
	expired     func(*scene)
	measurement string // claim that identifies the code
}{
	{evidence.TDX, "tdx", func(s *scene) { s.tdx.Debug = true }, func(s *scene) { s.tdx.Platform.NotAfter = t0.Add(-time.Second) }, "tdx.mrtd"},
	{evidence.SGX, "sgx", func(s *scene) { s.sgx.Debug = true }, func(s *scene) { s.sgx.Platform.NotAfter = t0.Add(-time.Second) }, "sgx.mrenclave"},
	{evidence.SNP, "snp", func(s *scene) { s.snp.Debug = true }, func(s *scene) { s.snp.NotAfter = t0.Add(-time.Second) }, "snp.measurement"},
	{evidence.Nitro, "nitro", func(s *scene) { s.nitro.Debug = true }, func(s *scene) {
		s.nitro.NotBefore, s.nitro.NotAfter = t0.Add(-2*time.Hour), t0.Add(-time.Second)
	}, "nitro.pcr0"},
	{evidence.CCA, "cca", func(s *scene) { s.cca.Debug = true }, nil, "cca.rim"},
}

// evidenceVectors try section 18.6 on each kind of TEE.
func evidenceVectors() []vector {
	var out []vector
	add := func(v ...vector) { out = append(out, v...) }
	for _, k := range kinds {
		what := func(s string) string { return strings.ToUpper(k.name) + ": " + s }
		image := [32]byte(seed("image"))
		measured := sim.Measurements(k.kind, image)[k.measurement]
		other := sim.Measurements(k.kind, [32]byte(seed("another image")))[k.measurement]
		running := func(img [32]byte) func(*scene) {
			return func(s *scene) {
				s.tdx.Image, s.sgx.Image, s.snp.Image, s.nitro.Image, s.cca.Image = img, img, img, img, img
			}
		}
		wanted := func(s *scene) {
			s.req.Policy = policy(obj{"claims": obj{k.measurement: []string{hexOf(measured)}}})
		}
		add(
			vector{name: k.name, req: "TMCP-18.6-1", title: what("evidence that is as it must be"), make: of(k.kind), look: labelled},
			vector{name: k.name + "-measured", req: "TMCP-19.1-1", title: what("with the measurement that the policy names"), make: of(k.kind, running(image), wanted)},
			vector{name: k.name + "-other-image", req: "TMCP-19.1-1", title: what("with another measurement than the policy names"), twin: k.name + "-measured", hole: "policy-claim", make: of(k.kind, running([32]byte(seed("another image"))), wanted)},
			vector{name: k.name + "-patched-measurement", req: "TMCP-19.1-1", title: what("with the measurement that the policy names written into it afterwards"), twin: k.name + "-measured", hole: "signature",
				make: of(k.kind, running([32]byte(seed("another image"))), wanted, func(s *scene) { s.patch = replace(other, measured) })},
			vector{name: k.name + "-unbound", req: "TMCP-18.2-2", title: what("bound to something else"), twin: k.name, hole: "binding", make: of(k.kind, func(s *scene) { s.data = otherData })},
			vector{name: k.name + "-patched-report-data", req: "TMCP-18.2-3", title: what("with the report data written into it afterwards"), twin: k.name, hole: "signature",
				make: of(k.kind, func(s *scene) { s.data, s.patch = otherData, replace(otherData[:], wantData[:]) })},
			vector{name: k.name + "-signature", req: "TMCP-18.6-1", title: what("with a signature that does not verify"), twin: k.name, hole: "signature", make: of(k.kind, badSignature)},
			vector{name: k.name + "-unknown-root", req: "TMCP-18.6-2", title: what("under a root that nobody trusts, and that it brings along"), twin: k.name, hole: "chain", make: of(k.kind, func(s *scene) { s.signs, s.endorses = sim.Other(), sim.Other() })},
			vector{name: k.name + "-no-root", req: "TMCP-18.6-2", title: what("where no root is trusted"), twin: k.name, hole: "chain", make: of(k.kind, func(s *scene) { s.req.Simulator = &Anchors{} })},
			vector{name: k.name + "-debug-allowed", req: "TMCP-18.6-6", title: what("open to debugging, where the policy allows it"), make: of(k.kind, k.debug, func(s *scene) { s.req.Policy = policy(obj{"debug": true}) })},
			vector{name: k.name + "-debug", req: "TMCP-18.6-6", title: what("open to debugging"), twin: k.name + "-debug-allowed", hole: "debug", make: of(k.kind, k.debug)},
			vector{name: k.name + "-trailing", req: "TMCP-18.6-4", title: what("with bytes behind it that are not zero"), twin: k.name, hole: "trailing", make: of(k.kind, func(s *scene) {
				s.bare = s.kind == evidence.SNP
				s.patch = appended(1, 2, 3)
				if s.bare { // the certificate comes beside it
					s.more = []Item{{evidence.TypeCertificates, []byte(pemOf(must(sim.Default().SNPKey(sim.SNP{}))[0]))}}
				}
			})},
			vector{name: k.name + "-cut", req: "TMCP-19.1-3", title: what("cut in the middle"), twin: k.name, hole: "structure", make: of(k.kind, func(s *scene) { s.patch = func(b []byte) []byte { return b[:len(b)/2] } })},
			vector{name: k.name + "-in-production", req: "TMCP-18.8-1", title: what("simulated, under a policy for production"), twin: k.name, hole: "production", make: of(k.kind, func(s *scene) { s.req.Policy = policy(obj{"development": false}) })},
			vector{name: k.name + "-simulator-as-vendor", req: "TMCP-18.8-3", title: what("simulated, with the simulator's root given as the vendor's"), twin: k.name, hole: "simulator-as-anchor", make: of(k.kind, func(s *scene) {
				s.req.Anchors, s.req.Simulator = anchors(sim.Default().Simulator(s.kind).Anchors()), nil
				s.anchored = nil
				s.req.Policy = policy(obj{"development": false})
			})},
		)
		if k.expired != nil {
			add(vector{name: k.name + "-expired", req: "TMCP-18.6-3", title: what("of a key whose certificate is over"), twin: k.name, hole: "validity", make: of(k.kind, k.expired)})
		}
	}
	crl := func(revoked bool, this, next time.Time) func(*scene) {
		return func(s *scene) {
			serial := must(sim.Default().SNPKey(s.snp))[1].SerialNumber
			list := must(sim.Default().SNPRevocations("Milan", this, next))
			if revoked {
				list = must(sim.Default().SNPRevocations("Milan", this, next, serial))
			}
			s.more = append(s.more, Item{evidence.TypeCRL, list})
		}
	}
	day := 24 * time.Hour
	smt := uint64(0x20000) // SMT is not allowed
	agent := uint64(0x70000)
	for _, mig := range []struct {
		name, title string
		kind        evidence.Kind
		change      func(*scene)
	}{
		{"snp-migration-agent", "SNP: a guest whose policy allows a migration agent", evidence.SNP, func(s *scene) { s.snp.Policy = &agent }},
		{"tdx-migratable", "TDX: a TD that can be migrated", evidence.TDX, func(s *scene) { s.tdx.TDAttributes = &[8]byte{3: 0x30} }},
		{"tdx-service-td", "TDX: a TD with a service TD", evidence.TDX, func(s *scene) {
			s.tdx.Version, s.tdx.Body15, s.tdx.MRSERVICETD = 5, true, [48]byte{1}
		}},
	} {
		add(vector{name: mig.name + "-allowed", req: "TMCP-18.6-12", title: mig.title + ", where the policy allows it", make: of(mig.kind, mig.change, func(s *scene) { s.req.Policy = policy(obj{"migration": true}) })},
			vector{name: mig.name, req: "TMCP-18.6-12", title: mig.title, twin: mig.name + "-allowed", hole: "migration", make: of(mig.kind, mig.change)})
	}
	add(
		vector{name: "tdx-v5", req: "TMCP-18.6-1", title: "TDX: a quote of version 5, with the body of TDX 1.5", make: of(evidence.TDX, func(s *scene) { s.tdx.Version, s.tdx.Body15 = 5, true })},
		vector{name: "tdx-padded", req: "TMCP-18.6-4", title: "TDX: a quote with zeros behind it", make: of(evidence.TDX, func(s *scene) { s.tdx.Padding = 64 })},
		vector{name: "snp-vlek", req: "TMCP-18.6-1", title: "SNP: a report signed with a provider's key", make: of(evidence.SNP, func(s *scene) { s.snp.VLEK = true })},
		vector{name: "snp-turin", req: "TMCP-18.6-1", title: "SNP: a report of the product line Turin", make: of(evidence.SNP, func(s *scene) { s.snp.Product = "Turin" })},
		vector{name: "gpu", req: "TMCP-18.6-1", title: "GPU: a report that is as it must be", make: gpuAlone(nil)},
		vector{name: "gpu-signature", req: "TMCP-18.6-1", title: "GPU: a report with a signature that does not verify", twin: "gpu", hole: "signature", make: gpuAlone(func(s *scene) { s.patch = flipSPDM })},
		vector{name: "gpu-unknown-root", req: "TMCP-18.6-2", title: "GPU: a device under a root that nobody trusts", twin: "gpu", hole: "chain", make: gpuAlone(func(s *scene) { s.signs = sim.Other() })},
		vector{name: "gpu-unbound", req: "TMCP-18.2-2", title: "GPU: a report for another nonce", twin: "gpu", hole: "binding", make: gpuAlone(func(s *scene) { s.data = otherData })},
		vector{name: "gpu-other-firmware", req: "TMCP-18.6-5", title: "GPU: a report that names other firmware than the device's certificate", twin: "gpu", hole: "fwid", make: gpuAlone(func(s *scene) { s.gpu.OtherFWID = true })},
		vector{name: "cca-unbound-realm", req: "TMCP-18.6-1", title: "CCA: a platform that vouches for another realm's key", twin: "cca", hole: "realm", make: of(evidence.CCA, func(s *scene) { s.cca.Unbound = true })},

		vector{name: "snp-self-reported", req: "TMCP-18.6-5", title: "SNP: newer firmware in the report than in the key's certificate", twin: "snp", hole: "tcb-endorsement", make: of(evidence.SNP, func(s *scene) {
			s.snp.Certified = sim.SNPTCB{Bootloader: 2, SNP: 8, Microcode: 115}
		})},
		vector{name: "tdx-self-reported", req: "TMCP-18.6-5", title: "TDX: new firmware in the report's body, old firmware in the PCK certificate", twin: "tdx", hole: "tcb", make: of(evidence.TDX, func(s *scene) { s.tdx.Platform.SVN = &[16]byte{1, 1} })},
		vector{name: "sgx-self-reported", req: "TMCP-18.6-5", title: "SGX: new firmware in the report's body, old firmware in the PCK certificate", twin: "sgx", hole: "tcb", make: of(evidence.SGX, func(s *scene) { s.sgx.Platform.SVN = &[16]byte{1, 1} })},
		vector{name: "snp-smt", req: "TMCP-19.1-3", title: "SNP: a platform with SMT, under a guest policy that forbids it", twin: "snp", hole: "platform-info", make: of(evidence.SNP, func(s *scene) { s.snp.Policy = &smt })},

		vector{name: "snp-crl", req: "TMCP-18.6-7", title: "SNP: with a revocation list that does not have the intermediate", make: of(evidence.SNP, crl(false, t0.Add(-day), t0.Add(day)))},
		vector{name: "snp-revoked", req: "TMCP-18.6-7", title: "SNP: a chip whose key comes from a revoked intermediate", twin: "snp-crl", hole: "revocation", make: of(evidence.SNP, crl(true, t0.Add(-day), t0.Add(day)))},

		vector{name: "checks", req: "TMCP-18.6-8", title: "SNP: checks are told by name, and none that failed comes with what is accepted", make: of(evidence.SNP), look: tellsChecks},
		vector{name: "checks-not-made", req: "TMCP-18.6-11", title: "SNP: without a revocation list, no check of one is told as passed", make: of(evidence.SNP), look: tellsNoMore},
		vector{name: "all-checks", req: "TMCP-18.6-9", title: "TDX: a debug TD on a revoked platform: both are told", twin: "tdx", hole: "debug-and-revocation", look: tellsTwo, make: of(evidence.TDX, func(s *scene) {
			s.tdx.Debug, s.col.Revoked = true, revokedPCK()
		})},
		vector{name: "time-given", req: "TMCP-19.1-4", title: "TDX: in 2031, with collateral of then: the time given is the only one", make: of(evidence.TDX, func(s *scene) {
			s.col.Issued = time.Date(2031, 2, 3, 0, 0, 0, 0, time.UTC)
			s.req.Time = s.col.Issued.Unix() + 3600
		})},
		vector{name: "time-given-past", req: "TMCP-19.1-2", title: "TDX: in 2031, with collateral of 2026", twin: "time-given", hole: "collateral-validity", make: of(evidence.TDX, func(s *scene) {
			s.req.Time = time.Date(2031, 2, 3, 1, 0, 0, 0, time.UTC).Unix()
		})},
		vector{name: "tdx-no-collateral", req: "TMCP-19.1-3", title: "TDX: without collateral nobody can tell", twin: "tdx", hole: "collateral", make: of(evidence.TDX, func(s *scene) { s.bare = true })},
		vector{name: "no-time", req: "TMCP-19.1-3", title: "TDX: without a time nobody can tell", twin: "tdx", hole: "time", make: of(evidence.TDX, func(s *scene) { s.req.Time = -62135596800 })},
		vector{name: "no-report-data", req: "TMCP-18.2-2", title: "TDX: evidence that nothing is said of what it must bind", twin: "tdx", hole: "binding", make: of(evidence.TDX, func(s *scene) { s.req.ReportData = nil })},
	)
	return append(out, hardwareVectors()...)
}

// badSignature spoils what the TEE signed.
func badSignature(s *scene) {
	switch s.kind {
	case evidence.TDX:
		s.patch = flip(48 + 584 + 4) // first byte of the signature
	case evidence.SGX:
		s.patch = flip(48 + 384 + 4)
	case evidence.SNP:
		s.patch = flip(0x2a0)
	default:
		s.patch = flip(-1) // of the outermost COSE_Sign1
	}
}

// flipSPDM spoils the signature at the end of a GPU's SPDM response: the first
// element of the array, behind its head.
func flipSPDM(b []byte) []byte {
	n := int(b[2])<<8 | int(b[3]) // 82 59 nnnn
	return flip(4 + n - 1)(b)
}

// gpuAlone makes a request about a GPU by itself, whose nonce is the report data.
func gpuAlone(change func(*scene)) func() Request {
	return of(evidence.NVIDIA, func(s *scene) {
		s.req.ReportData = wantData[:32]
		if change != nil {
			change(s)
		}
	})
}

// labelled wants what is simulated to be called so.
func labelled(t *conformance.T, a *asked) {
	if string(conformance.Member(a.Claims, "simulated")) != "true" {
		t.Violate("the claims do not say \"simulated\": true: %s", conformance.Short(a.Claims))
	}
}

func tellsChecks(t *conformance.T, a *asked) {
	if len(a.Checks) == 0 {
		t.Violate("no checks are told")
	}
	for _, c := range a.Checks {
		if c.Outcome == evidence.Fail {
			t.Violate("accepted, although the check %s failed", c.Name)
		}
	}
}

func tellsNoMore(t *conformance.T, a *asked) {
	for _, c := range a.Checks {
		name := strings.ToLower(c.Name)
		if c.Outcome == evidence.Pass && (strings.Contains(name, "revo") || strings.Contains(name, "crl")) {
			t.Violate("the check %s is told as passed; no revocation list was there", c.Name)
		}
	}
}

func tellsTwo(t *conformance.T, a *asked) {
	n := 0
	for _, c := range a.Checks {
		if c.Outcome == evidence.Fail {
			n++
		}
	}
	if n < 2 {
		t.Violate("%d failed checks are told; debugging and revocation are two", n)
	}
}
