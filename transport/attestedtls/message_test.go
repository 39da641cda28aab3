package attestedtls

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
)

// TestMessages: what is written is read, byte for byte, and nothing else.
func TestMessages(t *testing.T) {
	sig := dcbor.AppendNull(nil)
	for _, m := range []*message{
		{kind: kindHello, nonce: newNonce()},
		{kind: kindServer, statement: []byte("s"), signature: sig},
		{kind: kindServer, nonce: newNonce(), statement: []byte("s"), signature: sig},
		{kind: kindClient, statement: []byte("s"), signature: sig},
		{kind: kindVerdict, accepted: true},
		{kind: kindVerdict},
	} {
		b := m.encode()
		got, err := readMessage(io.MultiReader(bytes.NewReader(b), strings.NewReader("rest")), m.kind)
		if err != nil || !bytes.Equal(got.encode(), b) {
			t.Errorf("%+v: %v", m, err)
		}
	}
}

// endless gives zeros for ever.
type endless struct{ n int }

func (e *endless) Read(b []byte) (int, error) { e.n += len(b); return len(b), nil }

// TestMessageBound: a length is judged before anything of that length is read.
//
// TMCP-21.4-4: An end MUST refuse an attestation message longer than 65536 bytes before it reads
// it.
func TestMessageBound(t *testing.T) {
	rest := &endless{}
	if _, err := readMessage(io.MultiReader(bytes.NewReader([]byte{0, 1, 0, 1}), rest), kindHello); err == nil || rest.n != 0 {
		t.Errorf("%d bytes read, %v", rest.n, err)
	}
}

// TestStatement: keys of each kind, and what is no statement.
func TestStatement(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPub, edKey, _ := ed25519.GenerateKey(rand.Reader)
	p256 := newKey(t)
	config := sha256.Sum256(nil)
	ch := &channel{exporter: newNonce(), nonce: newNonce(), server: []byte("s"), client: []byte("c")}
	for _, key := range []interface {
		Public() pubT
	}{edKey, p256, p384} {
		b, err := protocol.NewBinding(protocol.RoleServer, serverID, key.Public(), config[:], madeAt(0))
		if err != nil {
			t.Fatal(err)
		}
		raw := (&statement{Binding: *b, cmw: []byte{1}}).encode()
		s, err := parseStatement(raw)
		if err != nil || !bytes.Equal(s.encode(), raw) || s.ReportData() != b.ReportData() {
			t.Fatalf("%T: %v", key, err)
		}
		sig, err := ch.sign(protocol.RoleServer, raw, key.(signerT))
		if err != nil {
			t.Fatal(err)
		}
		if err := ch.verify(protocol.RoleServer, raw, sig, s.key); err != nil {
			t.Errorf("%T: %v", key, err)
		}
		other := bytes.Clone(sig)
		other[len(other)-1] ^= 1
		if ch.verify(protocol.RoleServer, raw, other, s.key) == nil || ch.verify(protocol.RoleServer, append(raw, 0), sig, s.key) == nil {
			t.Errorf("%T: another signature or statement", key)
		}
		if ch.verify(protocol.RoleServer, raw, sig, newKey(t).Public()) == nil {
			t.Errorf("%T: another key", key)
		}
	}
	b, _ := protocol.NewBinding(protocol.RoleServer, serverID, edPub, nil, madeAt(0))
	good := statement{Binding: *b, cmw: []byte{1}}
	for name, edit := range map[string]func(*statement){
		"role 3":        func(s *statement) { s.Role = 3 },
		"no URI":        func(s *statement) { s.Identity = "x" },
		"config short":  func(s *statement) { s.Config = []byte{1} },
		"freshness 4":   func(s *statement) { s.Freshness = protocol.Freshness{Kind: 4, Value: []byte("12345678")} },
		"nonce short":   func(s *statement) { s.Freshness = protocol.Freshness{Kind: 2, Value: []byte("1")} },
		"key with more": func(s *statement) { s.Key = append([]byte{0xa4}, append(s.Key[1:], 0x22, 0x40)...) },
		"no key":        func(s *statement) { s.Key = []byte{0xa0} },
		"private key":   func(s *statement) { s.Key = append([]byte{0xa4}, append(s.Key[1:], 0x23, 0x40)...) },
		"key of RSA":    func(s *statement) { s.Key = []byte{0xa1, 0x01, 0x03} },
	} {
		s := good
		s.Key = bytes.Clone(good.Key)
		edit(&s)
		if _, err := parseStatement(s.encode()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// TMCP-21.4-3: A verifier MUST refuse a signature with other headers than these, or with a payload.
	sig, _ := ch.sign(protocol.RoleServer, good.encode(), edKey)
	prot := dcbor.AppendInt([]byte{0xa1, 0x01}, -8) // without typ
	other := ed25519.Sign(edKey, ch.signed(protocol.RoleServer, prot, good.encode()))
	untyped := dcbor.AppendBytes(append(dcbor.AppendBytes([]byte{0xd2, 0x84}, prot), 0xa0, 0xf6), other)
	unprotected := bytes.Replace(sig, []byte{0xa0, 0xf6}, []byte{0xa1, 0x04, 0x40, 0xf6}, 1)
	payload := bytes.Replace(sig, []byte{0xa0, 0xf6}, []byte{0xa0, 0x40}, 1)
	for _, bad := range [][]byte{untyped, unprotected, payload, sig[1:], append(bytes.Clone(sig), 0), nil} {
		if ch.verify(protocol.RoleServer, good.encode(), bad, edPub) == nil {
			t.Errorf("accepted %x", bad)
		}
	}
}

// FuzzMessage: no message makes a verifier panic, and each has one encoding.
func FuzzMessage(f *testing.F) {
	v := newVendor()
	pub, key, _ := ed25519.GenerateKey(rand.Reader)
	b, _ := protocol.NewBinding(protocol.RoleServer, serverID, pub, nil, protocol.Freshness{Kind: protocol.FreshAt, At: time.Unix(1e9, 0)})
	w, _ := v.Attest(f.Context(), b.ReportData())
	stmt := (&statement{Binding: *b, cmw: w}).encode()
	ch := &channel{exporter: make([]byte, 32), nonce: make([]byte, 32), server: []byte("s")}
	sig, _ := ch.sign(protocol.RoleServer, stmt, key)
	for _, m := range []*message{
		{kind: kindHello, nonce: make([]byte, 32)},
		{kind: kindServer, statement: stmt, signature: sig},
		{kind: kindClient, statement: stmt, signature: sig},
		{kind: kindVerdict, accepted: true},
	} {
		f.Add(m.encode()[4:])
	}
	peer := v.peer(serverID)
	peer.Now = func() time.Time { return time.Unix(1e9, 0) }
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil {
			return
		}
		if !bytes.Equal(m.encode()[4:], b) {
			t.Errorf("%x reads as %x", b, m.encode()[4:])
		}
		if s, err := parseStatement(m.statement); err == nil && !bytes.Equal(s.encode(), m.statement) {
			t.Errorf("statement %x reads as %x", m.statement, s.encode())
		}
		if _, err := peer.verifyAttestation(t.Context(), m, protocol.RoleServer, ch); err == nil && !bytes.Equal(m.statement, stmt) {
			t.Error("accepted another statement")
		}
	})
}
