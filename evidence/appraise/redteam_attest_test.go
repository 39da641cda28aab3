package appraise_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/evidence/ear"
	"github.com/trustedmcp/tmcp/evidence/eat"
	"github.com/trustedmcp/tmcp/evidence/nvidia"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/token"
	"github.com/trustedmcp/tmcp/evidence/verifiers"
)

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })

// azure is a token of Azure Attestation for an SEV-SNP guest, as whoever rents one
// gets it.
func azure(t *testing.T, measurement string) []byte {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	body := fmt.Sprintf(`{"iss":"https://sharedweu.weu.attest.azure.net","iat":%d,"nbf":%d,"exp":%d,"x-ms-attestation-type":"sevsnpvm","x-ms-compliance-status":"azure-compliant-cvm","x-ms-sevsnpvm-is-debuggable":false,"x-ms-sevsnpvm-launchmeasurement":%q,"x-ms-sevsnpvm-reportdata":%q}`,
		now.Unix()-10, now.Unix()-10, now.Unix()+3600, measurement, show(data))
	in := b64([]byte(`{"alg":"RS256","kid":"k","typ":"JWT"}`)) + "." + b64([]byte(body))
	sum := sha256.Sum256([]byte(in))
	return []byte(in + "." + b64(must(rsa.SignPKCS1v15(rand.Reader, rsaKey(), crypto.SHA256, sum[:]))))
}

func production(change func(*appraise.Rules)) *appraise.RulesPolicy {
	return rules(func(r *appraise.Rules) {
		r.Development, r.ReferenceValues, r.TCB.Unknown = false, "", true
		if change != nil {
			change(r)
		}
	})
}

// A vendor's service attests every guest that is genuine, whatever runs in it: its
// token stands for no comparison of measurements that nobody made.
func TestPassportOfAnyCode(t *testing.T) {
	issuer := appraise.Issuer{Kind: token.AzureMAA, Name: "https://sharedweu.weu.attest.azure.net", Keys: eat.Keys{{ID: "k", Public: rsaKey().Public(), Alg: eat.RS256}}}
	good := strings.Repeat("ab", 48)
	judge := func(p *appraise.RulesPolicy, measurement string) *appraise.Result {
		a := newAppraiser(t, p, func(c *appraise.Config) { c.Passports = []appraise.Passport{must(appraise.Tokens(issuer))} })
		w := must(cmw.NewRecord(appraise.MediaType(token.AzureMAA), azure(t, measurement), cmw.AttestationResults).Encode())
		return a.Evaluate(appraise.Input{CMW: w, ReportData: data, Now: now})
	}
	refused(t, judge(production(nil), good), "policy-reference-values", "no reference values")
	listed := production(func(r *appraise.Rules) { r.Claims = map[string][]string{"snp.measurement": {good}} })
	accepted(t, judge(listed, good))
	refused(t, judge(listed, strings.Repeat("ac", 48)), "policy-claim-snp.measurement", "the policy accepts")
	issuer.Policies = []string{"mine"}
	if _, err := appraise.Tokens(issuer); err == nil {
		t.Error("policies are demanded of an issuer whose tokens name none, and would not be looked for")
	}
}

// earOf signs a result with these appraisals.
func earOf(t *testing.T, submods map[string]*ear.Appraisal) []byte {
	t.Helper()
	for _, a := range submods {
		a.Derive()
	}
	r := &ear.Result{Issuer: "https://trustedmcp.org", IssuedAt: now.Add(-time.Minute), Expires: now.Add(time.Hour), Nonce: data, Submods: submods,
		Verifier: ear.VerifierID{Developer: "https://trustedmcp.org", Build: "t"}}
	return must(cmw.NewRecord("application/eat+jwt", must(r.SignJWT(earKey, "")), cmw.AttestationResults).Encode())
}

var earKey = ed25519.NewKeyFromSeed(make([]byte, 32))

// An EAR about several devices is judged by its CPU's firmware, and one about GPUs
// alone is nobody's.
func TestPassportOfSeveralDevices(t *testing.T) {
	p := must(appraise.Tokens(appraise.Issuer{Kind: token.EAR, Name: "https://trustedmcp.org", Keys: eat.Keys{{Public: earKey.Public()}}}))
	judge := func(submods map[string]*ear.Appraisal) *appraise.Result {
		a := newAppraiser(t, production(nil), func(c *appraise.Config) { c.Passports = []appraise.Passport{p} })
		return a.Evaluate(appraise.Input{CMW: earOf(t, submods), ReportData: data, Now: now})
	}
	device := func(k evidence.Kind, s evidence.TCBStatus, executables ear.Claim) *ear.Appraisal {
		x := &ear.Extension{Kind: k}
		if s != "" {
			x.TCB = &evidence.TCB{Status: s}
		}
		return &ear.Appraisal{Vector: &ear.Vector{ear.Executables: executables, ear.Hardware: ear.GenuineHardware}, Extension: x}
	}
	gpu := func() *ear.Appraisal { return device(evidence.NVIDIA, "", ear.ApprovedRuntime) }
	accepted(t, judge(map[string]*ear.Appraisal{"cpu": device(evidence.TDX, evidence.UpToDate, ear.ApprovedRuntime), "gpu-0": gpu()}))
	refused(t, judge(map[string]*ear.Appraisal{"cpu": device(evidence.TDX, evidence.OutOfDate, ear.ApprovedRuntime), "gpu-0": gpu()}), "policy-tcb", "OutOfDate")
	refused(t, judge(map[string]*ear.Appraisal{"cpu": device(evidence.TDX, evidence.UpToDate, ear.NoClaim)}), "policy-reference-values", "")
	for name, s := range map[string]map[string]*ear.Appraisal{
		"GPUs alone": {"gpu-0": gpu(), "gpu-1": gpu()},
		"one GPU":    {"gpu-0": gpu()},
		"two CPUs":   {"cpu": device(evidence.TDX, evidence.UpToDate, ear.ApprovedRuntime), "b": device(evidence.SNP, "", ear.ApprovedRuntime)},
	} {
		if r := judge(s); r.Verdict != appraise.Refused {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A policy that lists the measurements of one kind of TEE does not let in all code
// in another kind, and one that lists what no TEE claims is an error.
func TestMeasurementsOfAnotherKind(t *testing.T) {
	lists := func(claims map[string][]string, change func(*appraise.Rules)) *appraise.Result {
		return evaluate(t, rules(func(r *appraise.Rules) {
			r.Claims = claims
			if change != nil {
				change(r)
			}
		}), sim.Options{})
	}
	snp := map[string][]string{"snp.measurement": {"00"}}
	refused(t, lists(snp, nil), "policy-reference-values", "lists measurements of other kinds")
	refused(t, lists(snp, func(r *appraise.Rules) { r.ReferenceValues = "required" }), "policy-reference-values", "")
	accepted(t, lists(map[string][]string{"nvidia.driver": {"1"}}, nil)) // says nothing of CPUs
	pceid := []string{"0000"}
	accepted(t, lists(map[string][]string{"intel.pceid": pceid}, nil))
	refused(t, lists(map[string][]string{"intel.pceid": pceid, "sgx.mrenclave": {"00"}}, nil), "policy-reference-values", "of other kinds")
	for _, claim := range []string{"mrtd", "TDX.mrtd", "tdx_mrtd", "tdx:mrtd", "measurement", "tdx.", ""} {
		if _, err := appraise.NewRules(appraise.Rules{Name: "x", Claims: map[string][]string{claim: {"00"}}}); err == nil {
			t.Errorf("claim %q, which nothing is compared with, is taken", claim)
		}
	}
}

// pieces takes a set of evidence apart.
func pieces(t *testing.T, b []byte) (out map[string]*cmw.CMW) {
	t.Helper()
	out = map[string]*cmw.CMW{}
	if err := must(cmw.ParseCBOR(b)).Walk(func(at cmw.Path, r *cmw.Record) error {
		out[at.String()] = cmw.NewRecord(r.MediaType, r.Value, r.Ind)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func set(m map[string]*cmw.CMW) []byte {
	w := cmw.NewCollection(appraise.CollectionType)
	for l, c := range m {
		w.Collection.Entries = append(w.Collection.Entries, cmw.Entry{Label: cmw.TextLabel(l), CMW: c})
	}
	return must(w.Encode())
}

// Labels are the attester's, and stand in what people read and in names of
// submodules: one may not write a line of its own, hide a device, or be another's.
func TestLabels(t *testing.T) {
	a := newAppraiser(t, rules(nil), nil)
	try := func(w []byte) *appraise.Result {
		return a.Evaluate(appraise.Input{CMW: w, ReportData: data, Now: now})
	}
	base := func() map[string]*cmw.CMW { return pieces(t, attest(t, sim.Options{}, data)) }
	for _, label := range []string{"", "cpu\n  genuine: pass", "\x1b[2Kaccepted", "gpu 0", "gpü", "a\u202eb"} {
		m := base()
		m[label] = cmw.NewRecord(evidence.TypeNVIDIA, []byte{1}, cmw.Evidence)
		r := try(set(m))
		if fails := r.Checks.Failed(); len(fails) != 1 || fails[0].Name != "wrapper" {
			t.Errorf("label %q: %s", label, r.Explanation())
		} else if strings.ContainsAny(fails[0].Detail, "\n\x1b\u202e") {
			t.Errorf("label %q stands in the explanation as it is", label)
		}
	}
	m := base()
	m["a/b"] = m["cpu"]
	m["a"] = cmw.NewCollection("", cmw.Entry{Label: cmw.TextLabel("b"), CMW: m["cpu"]})
	if r := try(set(m)); r.Verdict != appraise.Refused || !strings.Contains(r.Err().Error(), "twice") {
		t.Errorf("two of one label: %s", r.Explanation())
	}
}

// Evidence of a type that nobody knows is not left out because it does not say that
// it is evidence.
func TestRecordsThatDoNotSayWhatTheyAre(t *testing.T) {
	a := newAppraiser(t, rules(nil), nil)
	m := pieces(t, attest(t, sim.Options{}, data))
	m["fpga-0"] = cmw.NewRecord("application/vnd.example.fpga-report", []byte{1}, 0)
	r := a.Evaluate(appraise.Input{CMW: set(m), ReportData: data, Now: now})
	refused(t, r, "wrapper", "fpga-0")
}

// The index of a GPU is that of its label in the order of deterministic CBOR, so
// that gpu-10 does not stand before gpu-2; evidence can't change places, or stand
// twice.
func TestGPUOrder(t *testing.T) {
	a := newAppraiser(t, rules(func(r *appraise.Rules) { r.TCB.Unknown, r.GPU = true, true }), func(c *appraise.Config) { c.Verifiers = verifiers.All(verifiers.Options{}) })
	try := func(m map[string]*cmw.CMW) *appraise.Result {
		return a.Evaluate(appraise.Input{CMW: set(m), ReportData: data, Now: now})
	}
	report := func(i int) *cmw.CMW {
		return cmw.NewRecord(evidence.TypeNVIDIA, must(sim.Default().NVIDIAReport(nvidia.GPUNonce(data, i), sim.GPU{Name: fmt.Sprint(i)})), cmw.Evidence)
	}
	m := pieces(t, attest(t, sim.Options{}, data))
	for i := range 11 {
		m[fmt.Sprintf("gpu-%d", i)] = report(i)
	}
	accepted(t, try(m))
	m["gpu-2"], m["gpu-10"] = m["gpu-10"], m["gpu-2"]
	if r := try(m); r.Verdict != appraise.Refused {
		t.Error("GPUs exchanged")
	}
	m["gpu-2"] = m["gpu-10"]
	if r := try(m); r.Verdict != appraise.Refused {
		t.Error("one GPU twice")
	}
}

// What comes with the evidence does not push out what is at hand.
func TestOwnCollateralStandsFirst(t *testing.T) {
	spy := &spy{}
	a := newAppraiser(t, rules(nil), func(c *appraise.Config) {
		c.Verifiers, c.Collateral = []evidence.Verifier{spy}, []evidence.Item{{MediaType: evidence.TypeCRL, Value: []byte("ours")}}
	})
	m := pieces(t, attest(t, sim.Options{}, data))
	m["a"] = cmw.NewRecord(evidence.TypeCRL, []byte("theirs"), cmw.Endorsements)
	a.Evaluate(appraise.Input{CMW: set(m), ReportData: data, Now: now})
	if len(spy.given) < 2 || string(spy.given[0].Value) != "ours" {
		t.Errorf("%d endorsements, the first is %.20q", len(spy.given), spy.given[0].Value)
	}
}

type spy struct{ given []evidence.Item }

func (*spy) MediaTypes() []string { return []string{evidence.TypeTDX} }
func (s *spy) Verify(_ string, _ []byte, t *evidence.Trust) *evidence.Result {
	s.given = t.Endorsements
	return &evidence.Result{}
}

// Nothing of verification writes to stdout or stderr, which belong to MCP and to
// whoever embeds this.
func TestSilence(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, errs := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = w, w
	a := newAppraiser(t, rules(nil), func(c *appraise.Config) { c.Verifiers = verifiers.All(verifiers.Options{}) })
	for _, k := range []evidence.Kind{evidence.TDX, evidence.SGX, evidence.SNP, evidence.Nitro, evidence.CCA} {
		b := attest(t, sim.Options{Kind: k}, data)
		a.Evaluate(appraise.Input{CMW: b, ReportData: data, Now: now})
		for i := range pieces(t, b) {
			m := pieces(t, b)
			v := bytes.Clone(m[i].Record.Value)
			for _, at := range []int{0, len(v) / 3, len(v) / 2, len(v) - 1} {
				v[at] ^= 0xff
				m[i] = cmw.NewRecord(m[i].Record.MediaType, v, m[i].Record.Ind)
				a.Evaluate(appraise.Input{CMW: set(m), ReportData: data, Now: now})
			}
		}
	}
	os.Stdout, os.Stderr = out, errs
	w.Close()
	var said bytes.Buffer
	if _, err := said.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	if said.Len() > 0 {
		t.Errorf("%d bytes were written: %.300q", said.Len(), said.Bytes())
	}
}

// Who starts a TEE may give it a migration agent of his own, which reads all of its
// memory, and no measurement of the code shows that.
//
// TMCP-18.6-12: A verifier MUST refuse evidence of a TEE whose memory a migration agent, or a service TD, of the host's choice can read, unless its policy allows it.
func TestMigrationAgents(t *testing.T) {
	all := func(c *appraise.Config) { c.Verifiers = verifiers.All(verifiers.Options{}) }
	judge := func(o sim.Options, change func(*appraise.Rules)) *appraise.Result {
		p := rules(func(r *appraise.Rules) {
			r.TCB.Unknown = true
			if change != nil {
				change(r)
			}
		})
		return newAppraiser(t, p, all).Evaluate(appraise.Input{CMW: attest(t, o, data), ReportData: data, Now: now})
	}
	allow := func(r *appraise.Rules) { r.Migration = true }
	policy := uint64(0x30000 | 1<<18)
	snp := sim.Options{Kind: evidence.SNP, SNP: sim.SNP{Policy: &policy}}
	refused(t, judge(snp, nil), "policy-migration", "a migration agent")
	accepted(t, judge(snp, allow))
	td := sim.Options{TDX: sim.TDX{TDAttributes: &[8]byte{3: 0x30}}}
	refused(t, judge(td, nil), "policy-migration", "migratable")
	accepted(t, judge(td, allow))
	accepted(t, judge(sim.Options{}, nil))
	service := [48]byte{47: 1}
	list := func(hex string) func(*appraise.Rules) {
		return func(r *appraise.Rules) { r.Claims = map[string][]string{"tdx.mrservicetd": {hex}} }
	}
	td.TDX.Version, td.TDX.Body15, td.TDX.MRSERVICETD = 5, true, service
	refused(t, judge(td, nil), "policy-migration", "service TD")
	refused(t, judge(td, list("00")), "policy-claim-tdx.mrservicetd", "")
	accepted(t, judge(td, list(show(service[:]))))
	// A quote of TDX 1.0 does not tell which service TD there is.
	if r := judge(sim.Options{TDX: sim.TDX{TDAttributes: &[8]byte{3: 0x30}}}, list("00")); r.Verdict != appraise.Refused || len(r.Checks.Failed()) != 2 {
		t.Error(r.Explanation())
	}
}
