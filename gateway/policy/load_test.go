package policy_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/ear"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/evidence/verifiers"
	"github.com/trustedmcp/tmcp/gateway/policy"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/policies"
	"github.com/trustedmcp/tmcp/policy-wasm/rego"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// guest is a module of that version, which gives that answer when it appraises,
// and allows each call.
func guest(version, answer string) []byte {
	m := corpus.Meta()
	m.Version = version
	allow := `{"decision":"allow"}`
	return corpus.Guest{Metadata: m, Answer: answer, Authorize: corpus.Code(corpus.Packed(4096, len(allow))),
		Data: [][]byte{corpus.Cat(0, corpus.Const(corpus.I32, 4096), 0x0b, corpus.Sized([]byte(allow)))}}.Module()
}

func file(t *testing.T, name string, content []byte) string {
	t.Helper()
	if !filepath.IsAbs(name) {
		name = filepath.Join(t.TempDir(), name)
	}
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func load(t *testing.T, o policy.Options) *policy.Loaded {
	t.Helper()
	l, err := policy.Load(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	return l
}

// Policies that ship with the module are found by name, and named by their bytes.
func TestLoadNamed(t *testing.T) {
	for _, name := range policies.Names() {
		l := load(t, policy.Options{Names: []string{name}})
		module, _ := policies.Module(name)
		if l.Policy.Digest() != sha256.Sum256(module) || l.Policy.Name() != name {
			t.Errorf("%s is loaded as %s, %x", name, l.Policy.Name(), l.Policy.Digest())
		}
	}
	settings := file(t, "settings.json", []byte(`{"days": 7}`))
	plain, set := load(t, policy.Options{Names: []string{"tcb-grace"}}), load(t, policy.Options{Names: []string{"tcb-grace"}, Settings: []string{settings}})
	if plain.Policy.Digest() == set.Policy.Digest() {
		t.Error("settings don't change the digest")
	}
	if same := load(t, policy.Options{Names: []string{"tcb-grace"}, Settings: []string{"tcb-grace=" + file(t, "s.json", []byte(`{"days":7}`))}}); same.Policy.Digest() != set.Policy.Digest() {
		t.Error("the spelling of settings changes the digest")
	}
}

// TMCP-20.11-11: An implementation MUST NOT go on without a policy that its operator named and that it can't load.
func TestLoadRefuses(t *testing.T) {
	good := file(t, "good.wasm", guest("1", corpus.AllowAnswer))
	rules := file(t, "rules.json", []byte(`{"name":"r"}`))
	key := file(t, "key.pem", []byte("no key"))
	for name, tt := range map[string]struct {
		o    policy.Options
		want string
	}{
		"nothing":           {policy.Options{}, "no policy is named"},
		"no file":           {policy.Options{Names: []string{"nosuch"}}, "nosuch"},
		"no module":         {policy.Options{Names: []string{file(t, "x.wasm", []byte("\x00asm\x01\x00\x00\x00"))}}, "policy."},
		"neither":           {policy.Options{Names: []string{file(t, "x.bin", []byte("hello"))}}, "x.bin"},
		"two rules":         {policy.Options{Names: []string{rules, rules}}, "second file of rules"},
		"rule":              {policy.Options{Names: []string{good}, Rule: "best-of-three"}, "deny-overrides, first-match or all-allow"},
		"both environments": {policy.Options{Names: []string{"strict", "simulated"}}, "no policy is for both"},
		"rules and module":  {policy.Options{Names: []string{rules, "simulated"}}, "no policy is for both"},
		"settings of none":  {policy.Options{Names: []string{good}, Settings: []string{"other=" + rules}}, `no module has the name "other"`},
		"settings of two":   {policy.Options{Names: []string{good, "strict"}, Settings: []string{rules}}, "there are 2 modules"},
		"settings twice":    {policy.Options{Names: []string{good}, Settings: []string{rules, rules}}, "has some already"},
		"settings no JSON":  {policy.Options{Names: []string{good}, Settings: []string{key}}, "settings of policy"},
		"rules unsigned":    {policy.Options{Names: []string{rules}, Signers: []string{signer(t)}}, "rules can't be signed"},
		"OPA unsigned":      {policy.Options{Names: []string{file(t, "b.tar.gz", []byte("\x1f\x8b\x08\x00"))}, Signers: []string{signer(t)}}, "can't be signed as it is"},
		"unsigned":          {policy.Options{Names: []string{good}, Signers: []string{signer(t)}}, "signature"},
		"no key":            {policy.Options{Names: []string{good}, Signers: []string{key}}, "key.pem"},
		"a registry":        {policy.Options{Names: []string{"oci://127.0.0.1:1/x:tag"}}, "oci://127.0.0.1:1/x:tag"},
	} {
		l, err := policy.Load(t.Context(), tt.o)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want something with %q", name, err, tt.want)
		}
		if l != nil {
			t.Errorf("%s: something is loaded all the same", name)
		}
	}
}

// appraiser judges simulated evidence.
func appraiser(t *testing.T, p appraise.Policy, simulated bool) *appraise.Appraiser {
	t.Helper()
	cfg := appraise.Config{Verifiers: verifiers.All(verifiers.Options{}), Anchors: vendor.Anchors(), Policy: p, Attributes: policy.Attributes}
	if simulated {
		cfg.Simulator = sim.Default().Simulator()
	}
	return must(appraise.New(cfg))
}

// The result names the module that decided, and what several come to.
//
// TMCP-19.4-1: A verifier MUST name the policy that decided by its digest in each attestation result.
// TMCP-20.9-5: An implementation MUST name what decided by its policy digest: in claim -70005, in attestation results and in errors.
func TestResultNamesModule(t *testing.T) {
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	data := [64]byte{1}
	w := must(must(sim.Default().TEE(sim.Options{Now: func() time.Time { return now }})).Attest(t.Context(), data))
	dev := corpus.Meta()
	dev.Development, dev.Name = true, "second"
	second := file(t, "second.wasm", corpus.Guest{Metadata: dev}.Module())
	for _, names := range [][]string{{"simulated"}, {"simulated", second}} {
		l := load(t, policy.Options{Names: names})
		r := appraiser(t, l.Appraises(), true).Evaluate(appraise.Input{CMW: w, ReportData: data[:], Now: now})
		if r.Verdict != appraise.Accepted {
			t.Fatal(r.Explanation())
		}
		got := r.EAR().Submods["cpu"].Policies
		if got[0] != ear.PolicyID(l.Policy.Digest()) {
			t.Errorf("%v: the result names %q first", names, got[0])
		}
		if len(names) == 1 {
			continue
		}
		for _, name := range []string{"simulated", second} {
			module, ok := policies.Module(name)
			if !ok {
				module = must(os.ReadFile(name))
			}
			if !slices.Contains(got, ear.PolicyID(sha256.Sum256(module))) {
				t.Errorf("the result does not name the module %s", name)
			}
		}
	}
}

// TMCP-20.4-5: A host MUST NOT have a policy for development appraise a peer with a TEE that is not simulated, and deny.
// TMCP-20.4-6: A host MUST NOT have another policy appraise a peer with a simulated TEE, and deny.
func TestEnvironments(t *testing.T) {
	production, development := load(t, policy.Options{Names: []string{"strict"}}), load(t, policy.Options{Names: []string{"simulated"}})
	for _, simulated := range []bool{true, false} {
		for _, l := range []*policy.Loaded{production, development} {
			cfg := appraise.Config{Verifiers: verifiers.All(verifiers.Options{}), Anchors: vendor.Anchors(), Policy: l.Appraises()}
			if simulated {
				cfg.Simulator = sim.Default().Simulator()
			}
			if _, err := appraise.New(cfg); (err == nil) != (simulated == (l == development)) {
				t.Errorf("simulated %v with %s: %v", simulated, l.Policy.Name(), err)
			}
		}
	}
	// A module that lies about itself changes nothing: what is simulated fails before.
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	w := must(must(sim.Default().TEE(sim.Options{Now: func() time.Time { return now }})).Attest(t.Context(), [64]byte{}))
	anything := load(t, policy.Options{Names: []string{file(t, "any.wasm", guest("1", corpus.AllowAnswer))}})
	r := appraiser(t, anything.Appraises(), false).Evaluate(appraise.Input{CMW: w, ReportData: make([]byte, 64), Now: now})
	if r.Verdict != appraise.Refused {
		t.Errorf("a policy that allows anything: %s", r.Explanation())
	}
}

// TMCP-19.4-2: A verifier MUST NOT let a policy accept what failed before it.
func TestPolicyCanNotRepair(t *testing.T) {
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	dev := corpus.Meta()
	dev.Development = true
	l := load(t, policy.Options{Names: []string{file(t, "any.wasm", corpus.Guest{Metadata: dev}.Module())}})
	a := appraiser(t, l.Appraises(), true)
	w := must(must(sim.Default().TEE(sim.Options{Now: func() time.Time { return now }})).Attest(t.Context(), [64]byte{1}))
	if r := a.Evaluate(appraise.Input{CMW: w, ReportData: bytes.Repeat([]byte{1}, 64), Now: now}); r.Verdict != appraise.Refused {
		t.Error("evidence that binds something else is accepted")
	}
	r := a.Evaluate(appraise.Input{CMW: w, ReportData: append([]byte{1}, make([]byte, 63)...), Now: now})
	if r.Verdict != appraise.Accepted {
		t.Fatal(r.Explanation())
	}
	// Nor does it make a simulated TEE's hardware affirming.
	if s := r.EAR().Submods["cpu"]; s.Status == ear.Affirming || s.Vector[ear.Hardware] != ear.UnsafeHardware {
		t.Errorf("a simulated TEE is %s, its hardware %d", s.Status, s.Vector[ear.Hardware])
	}
}

// TMCP-20.11-10: A host that replaces a policy MUST answer each question with the old one or with the new one, whole.
func TestReload(t *testing.T) {
	versions := [][]byte{guest("1", corpus.AllowAnswer), guest("2", corpus.AllowAnswer)}
	known := map[protocol.Digest]bool{sha256.Sum256(versions[0]): true, sha256.Sum256(versions[1]): true}
	name := file(t, filepath.Join(t.TempDir(), "p.wasm"), versions[0])
	live, err := policy.NewLive(t.Context(), policy.Options{Names: []string{name}})
	if err != nil {
		t.Fatal(err)
	}
	ask, facts := live.Authorizes(), &appraise.Facts{Now: time.Unix(1e9, 0), Devices: []appraise.Device{}}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	seen := make([]map[protocol.Digest]int, 4)
	for i := range seen {
		seen[i] = map[protocol.Digest]int{}
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := ask(context.Background(), &transport.Call{Kind: transport.CallRequest, Method: "tools/call"}); err != nil {
					t.Error("a call was denied while policies were replaced:", err)
					return
				}
				live.Use(func(p appraise.Policy) {
					d := p.Digest()
					seen[i][d]++
					if c := p.Decide(facts); !known[d] || len(c.Failed()) > 0 || p.Digest() != d {
						t.Errorf("%x decides %v", d, c)
					}
				})
			}
		})
	}
	for i := range 20 {
		file(t, name, versions[(i+1)%2])
		d, err := live.Reload(t.Context())
		if err != nil || d != sha256.Sum256(versions[(i+1)%2]) {
			t.Fatalf("%x: %v", d, err)
		}
	}
	cancel()
	wg.Wait()
	total := 0
	for _, s := range seen {
		for _, n := range s {
			total += n
		}
	}
	if total == 0 {
		t.Error("nothing was asked meanwhile")
	}

	// What can't be loaded, or is something else than before, changes nothing.
	was := live.Digest()
	entries := corpus.Meta()
	entries.Entries = []policywasm.Entry{policywasm.Appraise}
	dev := corpus.Meta()
	dev.Development = true
	for what, content := range map[string][]byte{
		"not a module":         []byte("hello"),
		"half a module":        versions[0][:len(versions[0])/2],
		"fewer questions":      corpus.Guest{Metadata: entries}.Module(),
		"the other kind":       corpus.Guest{Metadata: dev}.Module(),
		"rules":                []byte(`{"name":"rules"}`),
		"an infinite loop":     corpus.Guest{Start: corpus.U(4), More: [][]byte{corpus.Code(corpus.Loop())}}.Module(),
		"the memory of a bomb": corpus.Guest{Memory: corpus.Cat(0, corpus.U(65536))}.Module(),
	} {
		file(t, name, content)
		if _, err := live.Reload(t.Context()); err == nil {
			t.Errorf("%s is taken", what)
		}
		if live.Digest() != was || ask(context.Background(), &transport.Call{Kind: transport.CallRequest, Method: "x"}) != nil {
			t.Errorf("%s: the policy from before is gone", what)
		}
	}
	if err := live.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if ask(context.Background(), &transport.Call{Kind: transport.CallRequest, Method: "x"}) == nil {
		t.Error("a closed policy allows")
	}
	a := &appraise.Facts{}
	if c := live.Decide(a); len(c.Failed()) == 0 {
		t.Error("a closed policy appraises")
	}
}

// A reason is told with what was found of what it is about.
func TestReasonsBecomeChecks(t *testing.T) {
	l := load(t, policy.Options{Names: []string{"strict"}})
	f := recorded(t, "tdx")
	f.Devices[0].TCB = &evidence.TCB{Status: evidence.OutOfDate, OutOfDateSince: time.Date(2026, 2, 11, 0, 0, 0, 0, time.UTC),
		Parts: []evidence.TCBPart{{Name: "platform", Status: evidence.OutOfDate, Behind: 2, Advisories: []string{"INTEL-SA-01234"}}}}
	j := l.Appraises().(appraise.Judge).Judge(f)
	k, ok := j.Checks.Find("policy-tcb")
	if !ok || k.Outcome != evidence.Fail || !strings.Contains(k.Detail, "platform TCB OutOfDate since 2026-02-11, 2 levels behind, INTEL-SA-01234") {
		t.Errorf("the check is %+v", j.Checks)
	}
	answer := `{"decision":"deny","reasons":[{"code":"odd","text":"\u001b[2J\u0007bell"}]}`
	p := load(t, policy.Options{Names: []string{file(t, "odd.wasm", guest("1", answer))}})
	j = p.Appraises().(appraise.Judge).Judge(f)
	if k, _ := j.Checks.Find("policy-odd"); strings.ContainsAny(k.Detail, "\x1b\x07") || !strings.Contains(k.Detail, "bell") {
		t.Errorf("what a module says steers a terminal: %q", k.Detail)
	}
}

// A module that OPA compiled is loaded as any other, and decides beside them.
func TestLoadRego(t *testing.T) {
	meta := policywasm.Metadata{ABI: 1, Name: "in rego", Version: "1", Entries: []policywasm.Entry{policywasm.Appraise, policywasm.Authorize}, Encoding: policywasm.JSON}
	packed := must(rego.Pack(must(os.ReadFile(filepath.Join("..", "..", "policy-wasm", "rego", "testdata", "starter.wasm"))), &meta))
	l := load(t, policy.Options{Names: []string{file(t, "rego.wasm", packed), "strict"}, Rule: "all-allow"})
	f := recorded(t, "tdx")
	f.Devices[0].References = &appraise.Comparison{Known: true, Matched: true}
	if j := l.Appraises().(appraise.Judge).Judge(f); len(j.Checks.Failed()) > 0 || j.Vector == nil {
		t.Errorf("%+v", j.Checks.Failed())
	}
	f.Devices[0].Claims.Debug = true
	j := l.Appraises().(appraise.Judge).Judge(f)
	n := 0
	for _, k := range j.Checks.Failed() {
		if k.Name == "policy-debug" {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d of two policies deny for debug: %+v", n, j.Checks.Failed())
	}
}

// signer is a file with a public key.
func signer(t *testing.T) string {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	return file(t, "signer.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(key.Public()))}))
}
