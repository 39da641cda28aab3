package attestedtls

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	serverID = "https://localhost/mcp"
	clientID = "spiffe://example.com/agent"
)

// A vendor is a maker of TEEs of the simplest kind: evidence is a quote header,
// the report data and a MAC by the vendor's key. It attests and appraises.
type vendor struct {
	key    [32]byte
	made   atomic.Int32 // quotes
	broken atomic.Bool
}

func newVendor() *vendor {
	v := &vendor{}
	_, _ = rand.Read(v.key[:])
	return v
}

func (v *vendor) mac(b []byte) []byte {
	h := hmac.New(sha256.New, v.key[:])
	h.Write(b)
	return h.Sum(nil)
}

func (v *vendor) Attest(_ context.Context, rd [protocol.ReportDataSize]byte) ([]byte, error) {
	v.made.Add(1)
	if v.broken.Load() {
		return nil, errors.New("no quote")
	}
	q := binary.LittleEndian.AppendUint16(nil, 4)
	q = binary.LittleEndian.AppendUint16(q, 2)
	q = binary.LittleEndian.AppendUint32(q, 0x81)
	q = append(append(q, make([]byte, 40)...), rd[:]...)
	return cmw.NewRecord(evidence.TypeTDX, append(q, v.mac(q)...), cmw.Evidence).Encode()
}

func (v *vendor) Appraise(_ context.Context, e protocol.Evidence) (*protocol.Appraisal, error) {
	c, err := cmw.Parse(e.CMW)
	if err != nil || c.Record == nil || len(c.Record.Value) != 48+64+32 {
		return nil, errors.New("no evidence of this vendor")
	}
	q, mac := c.Record.Value[:112], c.Record.Value[112:]
	if !hmac.Equal(mac, v.mac(q)) {
		return nil, errors.New("not genuine")
	}
	if !bytes.Equal(q[48:], e.ReportData[:]) {
		return nil, errors.New("the evidence binds something else")
	}
	return &protocol.Appraisal{Summary: "fine"}, nil
}

func (v *vendor) peer(ids ...string) *Peer { return &Peer{Appraiser: v, Identities: ids} }

func (v *vendor) own(id string) *Own { return &Own{Attester: v, Identity: id} }

// newCA makes an authority, and the pool that trusts it.
func newCA(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// issued makes a plain certificate of the authority for a URI.
func issued(t testing.TB, ca tls.Certificate, id string) *tls.Certificate {
	t.Helper()
	v := newVendor()
	c, err := NewCertificate(CertificateConfig{Attester: v, Identity: id, Issue: IssueWith(ca)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tmpl, err := c.template(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	chain, err := IssueWith(ca)(t.Context(), tmpl, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key}
}

// pipe is a pair of connected sockets.
func pipe(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	return client, server
}

// shake runs both handshakes, and exchanges one byte each way where they
// succeed: TLS 1.3 tells a client of the server's refusal only then.
func shake(t testing.TB, client, server net.Conn) (clientErr, serverErr error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- echoByte(server) }()
	_, clientErr = client.Write([]byte{42})
	if clientErr == nil {
		var b [1]byte
		if _, clientErr = io.ReadFull(client, b[:]); clientErr == nil && b[0] != 42 {
			clientErr = errors.New("another byte came back")
		}
	}
	if clientErr != nil {
		_ = client.Close()
	}
	return clientErr, <-done
}

// errReached: the application at the server received something.
func echoByte(c net.Conn) error {
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		_ = c.Close()
		return err
	}
	_, err := c.Write(b[:])
	return err
}

// hello is an http handler that says hello to whom the client proved to be.
var hello = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	who := "stranger"
	if res := ResultOf(r.Context()); res != nil {
		who = res.Identity
	}
	_, _ = io.WriteString(w, "hello "+who)
})

// serve runs an http server on l until the test ends.
func serve(t testing.TB, l net.Listener) {
	t.Helper()
	srv := &http.Server{Handler: hello, ConnContext: ConnContext, ReadHeaderTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
}

func get(t testing.TB, tr *http.Transport, url string) (string, error) {
	t.Helper()
	t.Cleanup(tr.CloseIdleConnections)
	resp, err := (&http.Client{Transport: tr}).Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

type (
	ctxT    = context.Context
	pubT    = crypto.PublicKey
	signerT = crypto.Signer
)
