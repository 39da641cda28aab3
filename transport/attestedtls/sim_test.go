package attestedtls_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/dcap"
	"github.com/trustedmcp/tmcp/evidence/nitro"
	"github.com/trustedmcp/tmcp/evidence/sevsnp"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/evidence/x509ev"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport/attestedtls"
)

const (
	serverID = "https://localhost/mcp"
	clientID = "spiffe://example.com/agent"
)

// tee is a simulated machine of that kind that runs image.
func tee(t testing.TB, kind evidence.Kind, image byte) protocol.Attester {
	t.Helper()
	m, err := sim.Default().TEE(sim.Options{Kind: kind, Image: [32]byte{image}, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// appraiser accepts simulated TEEs that run image 1, and collateral that is
// stapled or, for quotes that come without, at hand.
func appraiser(t testing.TB, kind evidence.Kind) protocol.Appraiser {
	t.Helper()
	claim := map[evidence.Kind]string{evidence.TDX: "tdx.mrtd", evidence.SNP: "snp.measurement", evidence.Nitro: "nitro.pcr0", evidence.SGX: "sgx.mrenclave"}[kind]
	want := sim.Measurements(kind, [32]byte{1})[claim]
	if want == nil {
		t.Fatalf("no measurement %s", claim)
	}
	policy, err := appraise.NewRules(appraise.Rules{
		Name: "test", Development: true, ReferenceValues: "optional",
		Claims: map[string][]string{claim: {hex.EncodeToString(want)}}, TCB: appraise.TCBRules{Unknown: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	day := time.Now().Truncate(24 * time.Hour)
	var atHand []evidence.Item
	for _, sgx := range []bool{false, true} {
		bundle, err := sim.Default().Collateral(sim.Collateral{Issued: day, SGX: sgx})
		if err != nil {
			t.Fatal(err)
		}
		atHand = append(atHand, evidence.Item{MediaType: evidence.TypeDCAPCollateral, Value: bundle})
	}
	a, err := appraise.New(appraise.Config{
		Verifiers: []evidence.Verifier{dcap.New(dcap.Options{}), sevsnp.New(sevsnp.Options{}), nitro.New(nitro.Options{})}, Anchors: vendor.Anchors(), Simulator: sim.Default().Simulator(),
		Policy: policy, Collateral: atHand,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func serve(t testing.TB, l net.Listener) {
	t.Helper()
	srv := &http.Server{
		ConnContext: attestedtls.ConnContext, ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello") }),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
}

func get(t testing.TB, tr *http.Transport, url string) error {
	t.Helper()
	t.Cleanup(tr.CloseIdleConnections)
	resp, err := (&http.Client{Transport: tr}).Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && string(b) != "hello" {
		err = errors.New("another answer")
	}
	return err
}

// TestSimulatedTEEs: evidence in genuine formats, appraised by the verifiers of
// their vendors, in both modes. The image that policy doesn't know is refused.
func TestSimulatedTEEs(t *testing.T) {
	for _, tt := range []struct {
		kind evidence.Kind
		form x509ev.Form
	}{
		{evidence.TDX, x509ev.TaggedQuote},
		{evidence.SGX, x509ev.TaggedQuote},
		{evidence.TDX, x509ev.CMW},
		{evidence.SNP, x509ev.CMW},
		{evidence.Nitro, x509ev.DICECMW},
	} {
		for _, image := range []byte{1, 2} {
			name := string(tt.kind) + " " + string(tt.form) + map[byte]string{2: ", another image"}[image]
			t.Run(name, func(t *testing.T) {
				var proved attestedtls.Result
				p := &attestedtls.Peer{
					Appraiser: appraiser(t, tt.kind), Identities: []string{serverID}, Forms: []x509ev.Form{tt.form},
					Accept: func(r *attestedtls.Result) error { proved = *r; return nil },
				}
				check := func(err error) {
					t.Helper()
					if image == 1 && (err != nil || !proved.Has(attestedtls.Simulated)) || image == 2 && !errors.Is(err, attestedtls.ErrRefused) {
						t.Errorf("%v; %+v", err, proved)
					}
				}
				cert, err := attestedtls.NewCertificate(attestedtls.CertificateConfig{Attester: tee(t, tt.kind, image), Identity: serverID, Form: tt.form})
				if err != nil {
					t.Fatal(err)
				}
				defer cert.Close()
				server, err := attestedtls.ServerConfig(cert, nil)
				if err != nil {
					t.Fatal(err)
				}
				l, err := tls.Listen("tcp", "127.0.0.1:0", server)
				if err != nil {
					t.Fatal(err)
				}
				serve(t, l)
				client, err := attestedtls.ClientConfig(p, nil)
				if err != nil {
					t.Fatal(err)
				}
				check(get(t, &http.Transport{TLSClientConfig: client}, "https://"+l.Addr().String()))

				tcp, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				bound, err := attestedtls.NewListener(tcp, attestedtls.Config{Own: &attestedtls.Own{Attester: tee(t, tt.kind, image), Identity: serverID}})
				if err != nil {
					t.Fatal(err)
				}
				serve(t, bound)
				d, err := attestedtls.NewDialer(attestedtls.Config{Peer: p})
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				check(get(t, d.Transport(), "https://"+bound.Addr().String()))
			})
		}
	}
}

// openssl is another implementation of TLS.
func openssl(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl on this machine: another TLS implementation is not tried")
	}
	return path
}

// TestOpenSSLClient: OpenSSL completes a handshake with a server of the
// certificate mode, sees TLS 1.3, the certificate with its extension, and no
// ticket.
func TestOpenSSLClient(t *testing.T) {
	path := openssl(t)
	cert, err := attestedtls.NewCertificate(attestedtls.CertificateConfig{Attester: tee(t, evidence.TDX, 1), Identity: serverID, Form: x509ev.TaggedQuote})
	if err != nil {
		t.Fatal(err)
	}
	defer cert.Close()
	cfg, err := attestedtls.ServerConfig(cert, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l)
	run := func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, path, append([]string{"s_client", "-connect", l.Addr().String(), "-servername", "localhost", "-ign_eof", "-msg"}, args...)...)
		cmd.Stdin = strings.NewReader("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := run()
	if err != nil {
		t.Fatalf("%v\n%.3000s", err, out)
	}
	if !strings.Contains(out, "\r\n\r\nhello") || !strings.Contains(out, "TLSv1.3") {
		t.Errorf("no answer over TLS 1.3:\n%.3000s", out)
	}
	if strings.Contains(out, "NewSessionTicket") {
		t.Error("a session ticket was sent")
	}
	// The certificate is one that a reader of others would understand.
	_, rest, _ := strings.Cut(out, "-----BEGIN CERTIFICATE-----")
	body, _, _ := strings.Cut(rest, "-----END CERTIFICATE-----")
	block, _ := pem.Decode([]byte("-----BEGIN CERTIFICATE-----" + body + "-----END CERTIFICATE-----\n"))
	if block == nil {
		t.Fatal("no certificate in what openssl printed")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if x, err := x509ev.Extract(leaf); err != nil || x.Statements[0].Form != x509ev.TaggedQuote {
		t.Errorf("%v", err)
	}
	if out, err := run("-tls1_2"); err == nil && strings.Contains(out, "hello") {
		t.Error("TLS 1.2 was spoken")
	}
}

// TestOpenSSLServer: a server that is not ours, with a certificate that carries
// evidence, is verified; without the attestation messages it is refused in the
// exporter-bound mode.
func TestOpenSSLServer(t *testing.T) {
	path := openssl(t)
	cert, err := attestedtls.NewCertificate(attestedtls.CertificateConfig{Attester: tee(t, evidence.TDX, 1), Identity: serverID})
	if err != nil {
		t.Fatal(err)
	}
	defer cert.Close()
	c, err := cert.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "server.pem")
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	_ = free.Close()
	cmd := exec.CommandContext(t.Context(), path, "s_server", "-accept", addr, "-cert", file, "-key", file, "-www", "-tls1_3")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	// It prints ACCEPT when it listens.
	buf := make([]byte, 512)
	for seen := ""; !strings.Contains(seen, "ACCEPT"); {
		n, err := out.Read(buf)
		if err != nil {
			t.Skipf("openssl s_server does not run here: %v", err)
		}
		seen += string(buf[:n])
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()

	p := &attestedtls.Peer{Appraiser: appraiser(t, evidence.TDX), Identities: []string{serverID}}
	cfg, err := attestedtls.ClientConfig(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // s_server sends tickets, of which nothing comes
		conn, err := tls.Dial("tcp", addr, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
			t.Error(err)
		}
		if b, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(b), "HTTP/1.0 200") {
			t.Errorf("%.100s, %v", b, err)
		}
		if conn.ConnectionState().DidResume {
			t.Error("resumed")
		}
		_ = conn.Close()
	}
	d, err := attestedtls.NewDialer(attestedtls.Config{Peer: p})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := get(t, d.Transport(), "https://"+addr); !errors.Is(err, attestedtls.ErrNotAttested) {
		t.Errorf("got %v", err)
	}
}
