package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/dcap"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/x509ev"
	"github.com/trustedmcp/tmcp/gateway/verifier"
	"github.com/trustedmcp/tmcp/protocol"
)

const hardware = "../../evidence/testdata/hardware/"

// command runs tmcp.
func command(args ...string) (code int, stdout, stderr string) {
	var o, e bytes.Buffer
	code = run(args, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

// TestExitCodes: 0 only when accepted, 1 when refused, 2 for wrong usage, 3 when
// something is out of reach.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	quote, coll := hardware+"tdx/phala-v4.quote", hardware+"tdx/phala-v4.collateral.json"
	key := filepath.Join(dir, "key")
	if code, _, e := command("keygen", "--alg", "p256", "--out", key); code != 0 {
		t.Fatal(e)
	}
	for _, tt := range []struct {
		code int
		args string
	}{
		{0, "evidence verify --json --at 2025-07-01T00:00:00Z --collateral " + coll + " " + quote},
		{1, "evidence verify --json --at 2026-07-01T00:00:00Z --collateral " + coll + " " + quote},
		{1, "evidence verify --json --at 2025-07-01T00:00:00Z " + quote},
		{1, "evidence verify " + coll}, // no evidence: it can't be accepted
		{2, "evidence verify"},
		{2, "evidence verify nosuch"},
		{2, "evidence verify --at now " + quote},
		{2, "evidence verify --collateral nosuch " + quote},
		{1, "evidence verify --collateral " + quote + " " + quote},
		{1, "evidence verify --corim " + quote + " --corim-unsigned " + quote},
		{2, "evidence verify --policy nosuch " + quote},
		{2, "evidence verify --simulator --policy strict " + quote},
		{2, "evidence verify --nosuch " + quote},
		{2, "evidence nosuch"},
		{2, "evidence inspect"},
		{1, "evidence inspect " + coll},
		{2, "corim create"},
		{2, "corim inspect"},
		{1, "corim inspect " + quote},
		{2, "measure eif"},
		{1, "measure eif " + quote},
		{2, "collateral fetch"},
		{2, "collateral fetch --fmspc xyz"},
		{2, "collateral fetch --pcs ftp://x " + quote},
		{3, "collateral fetch --offline --cache " + dir + " " + quote},
		{3, "collateral fetch --no-cache --max-wait 1ms --pcs http://127.0.0.1:1 " + quote},
		{1, "collateral fetch --no-cache " + hardware + "nitro/dstack-2025-12-25.cose"},
		{2, "verifier"},
		{2, "verifier --key nosuch"},
		{2, "verifier --key " + key + " --listen 0.0.0.0:0"},
		{2, "verifier --key " + key + " --listen nonsense"},
		{2, "verifier --key " + key + " --tls-key x"},
		{2, "verifier --key " + key + " --tls-key " + key + " --tls-certificate " + key},
		{2, "attest --format xml --tee sim"},
	} {
		code, _, e := command(strings.Fields(tt.args)...)
		if code != tt.code || code != 0 && !strings.Contains(e, "tmcp: ") {
			t.Errorf("tmcp %s: exit code %d, want %d\n%s", tt.args, code, tt.code, e)
		}
	}
}

// TestJunk: no file makes a command panic, or takes it long.
func TestJunk(t *testing.T) {
	quote, err := os.ReadFile(hardware + "tdx/phala-v4.quote")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "junk")
	for i, b := range [][]byte{
		nil, {0}, {0x30, 0x80}, bytes.Repeat([]byte{0xff}, 4096), make([]byte, 2000), quote[:48], quote[:700], quote[1:],
		bytes.Repeat([]byte("{"), 1<<20), bytes.Repeat([]byte("["), 1<<20), bytes.Repeat([]byte{0x81}, 1<<20), bytes.Repeat([]byte{0xd9, 1, 0x8f}, 1000),
		append([]byte{0x84, 0x44, 0xa1, 0x01, 0x38, 0x22}, bytes.Repeat([]byte{0x9f}, 1000)...), append([]byte{3, 0, 0, 0}, make([]byte, 1300)...),
		[]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), []byte("eyJ.eyJ.x"), bytes.Repeat([]byte("00"), 1<<20), {0x11, 0xe0, 0, 0},
		make([]byte, 17<<20),
	} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for _, args := range [][]string{
			{"evidence", "verify", name}, {"evidence", "inspect", name}, {"evidence", "verify", "--collateral", name, hardware + "tdx/phala-v4.quote"},
			{"corim", "inspect", name}, {"corim", "create", "--out", name + ".out", name}, {"measure", "eif", name}, {"measure", "sgx", name}, {"measure", "tdx", name},
			{"measure", "snp", "--vcpus", "1", "--firmware", name},
		} {
			if code, _, e := command(args...); code == 0 && args[1] != "inspect" || len(e) > 4096 {
				t.Errorf("junk %d: tmcp %v: exit code %d, %d bytes of error", i, args, code, len(e))
			}
		}
		if d := time.Since(start); d > 20*time.Second {
			t.Errorf("junk %d took %v", i, d)
		}
	}
}

// TestCollateralFetch: what is fetched for a quote verifies it.
func TestCollateralFetch(t *testing.T) {
	b, err := os.ReadFile(hardware + "tdx/phala-v4.collateral.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := dcap.ParseCollateral(b)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		signed := func(header string, chain []byte, member string, text, sig []byte) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set(header, url.PathEscape(string(chain)))
			fmt.Fprintf(w, `{%q:%s,"signature":"%x"}`, member, text, sig)
		}
		switch r.URL.Path {
		case "/tdx/certification/v4/tcb":
			signed("TCB-Info-Issuer-Chain", c.TCBInfoChain, "tcbInfo", c.TCBInfo, c.TCBInfoSignature)
		case "/tdx/certification/v4/qe/identity":
			signed("SGX-Enclave-Identity-Issuer-Chain", c.QEIdentityChain, "enclaveIdentity", c.QEIdentity, c.QEIdentitySignature)
		case "/sgx/certification/v4/pckcrl":
			w.Header().Set("SGX-PCK-CRL-Issuer-Chain", url.PathEscape(string(c.PCKCRLChain)))
			w.Write(c.PCKCRL)
		case "/sgx/certification/v4/rootcacrl":
			fmt.Fprintf(w, "%x", c.RootCRL)
		default:
			http.NotFound(w, r)
		}
	}))
	defer srv.Close()
	dir := t.TempDir()
	out, quote := filepath.Join(dir, "collateral.json"), hardware+"tdx/phala-v4.quote"
	code, _, e := command("collateral", "fetch", "--pcs", srv.URL, "--cache", filepath.Join(dir, "cache"), "--out", out, quote)
	if code != 0 || strings.Count(e, "fetched: ") != 4 {
		t.Fatal(code, e)
	}
	if code, o, _ := command("evidence", "verify", "--collateral", out, "--at", "2025-07-01T00:00:00Z", quote); code != 0 {
		t.Error(o)
	}
	// Again, without a network, as a directory and on stdout.
	srv.Close()
	code, _, e = command("collateral", "fetch", "--offline", "--pcs", srv.URL, "--cache", filepath.Join(dir, "cache"), "--out", dir+"/out/", quote)
	if code != 0 || strings.Count(e, "cached ") != 4 {
		t.Fatal(code, e)
	}
	if code, o, _ := command("evidence", "verify", "--collateral", dir+"/out", "--at", "2025-07-01T00:00:00Z", quote); code != 0 {
		t.Error(o)
	}
	code, o, e := command("collateral", "fetch", "--offline", "--pcs", srv.URL, "--cache", filepath.Join(dir, "cache"), "--fmspc", "B0C06F000000")
	if code != 0 || !strings.Contains(o, `"tcb_info"`) {
		t.Error(code, e)
	}
}

// askVerifier is a relying party: ask-verifier URL PUBLIC-KEY. It asks about a
// simulated TEE.
func askVerifier() {
	if err := func() error {
		b, err := os.ReadFile(os.Args[2])
		if err != nil {
			return err
		}
		block, _ := pem.Decode(b)
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return err
		}
		c, err := verifier.NewClient(verifier.ClientConfig{URL: os.Args[1], Keys: []crypto.PublicKey{key}, Simulated: true})
		if err != nil {
			return err
		}
		tee, err := sim.Default().TEE(sim.Options{Kind: evidence.TDX, Now: time.Now})
		if err != nil {
			return err
		}
		rd := [64]byte{1}
		e := protocol.Evidence{ReportData: rd, Now: time.Now()}
		if e.CMW, err = tee.Attest(context.Background(), rd); err != nil {
			return err
		}
		a, err := c.Appraise(context.Background(), e)
		if err != nil {
			return err
		}
		fmt.Println(a.Summary)
		return os.WriteFile("token.jwt", a.Result, 0o600)
	}(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestCCAKey: CCA platforms have no common root, so their keys are named.
func TestCCAKey(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/veraison/ccatoken").Output()
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(strings.TrimSpace(string(dir)), "realm", "testvectors", "tf-rmm", "cca_platform.pub")
	token, id := hardware+"cca/cca-example-token.cbor", "7f454c4602010100000000000000000003003e00010000005058000000000000"
	if code, o, e := command("evidence", "verify", "--cca-key", id+"="+key, token); code != 0 {
		t.Error(o, e)
	}
	for _, bad := range []string{strings.Repeat("00", 32) + "=" + key, "00=" + key, key, id + "=" + token} {
		if code, _, _ := command("evidence", "verify", "--cca-key", bad, token); code == 0 {
			t.Errorf("--cca-key %s is accepted", bad)
		}
	}
}

// TestCertificate: a certificate whose evidence binds role, identity and key is
// verified for those only.
func TestCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tee, err := sim.Default().TEE(sim.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	const identity = "https://mcp.example.com/mcp"
	start := time.Now().Add(-time.Minute).Truncate(time.Second)
	write := func(bind crypto.PublicKey, form x509ev.Form) string {
		ext, err := x509ev.Attest(t.Context(), tee, form, x509ev.Subject{Role: protocol.RoleServer, Identity: identity, Key: bind, NotBefore: start})
		if err != nil {
			t.Fatal(err)
		}
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: start, NotAfter: start.Add(time.Hour), ExtraExtensions: []pkix.Extension{ext}}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), "cert.pem")
		if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good, tagged := write(key.Public(), x509ev.CMW), write(key.Public(), x509ev.TaggedQuote)
	for _, tt := range []struct {
		name string
		code int
		args []string
	}{
		{"good", 0, []string{"--identity", identity, good}},
		{"another identity", 1, []string{"--identity", identity + "2", good}},
		{"another role", 1, []string{"--identity", identity, "--role", "client", good}},
		{"no identity", 2, []string{good}},
		{"evidence for another key", 1, []string{"--identity", identity, write(other.Public(), x509ev.CMW)}},
		{"a tagged quote names nobody", 0, []string{tagged}},
		{"report data of one's own", 2, []string{"--identity", identity, "--report-data", "00", good}},
		{"two files", 2, []string{"--identity", identity, good, good}},
		{"expired", 1, []string{"--identity", identity, "--at", start.Add(2 * time.Hour).Format(time.RFC3339), good}},
	} {
		if code, o, e := command(append([]string{"evidence", "verify", "--simulator"}, tt.args...)...); code != tt.code {
			t.Errorf("%s: exit code %d, want %d\n%s%s", tt.name, code, tt.code, o, e)
		}
	}
}
