package client

import (
	"crypto/ed25519"
	"crypto/tls"
	"encoding/binary"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// tlsCases are the servers of profile attested-tls that a client must and must
// not send anything to, in the exporter-bound mode.
func tlsCases() []conformance.Case {
	const profile = conformance.ProfileAttestedTLS
	good := func(name, req, title, about string, set func(*scene), check func(*T, *result)) conformance.Case {
		c := define(profile, name, req, conformance.Case{Title: title, About: about, Eras: both})
		c.Run = func(t *T) {
			r := playTLS(t, c.ID, set)
			r.succeeded()
			if check != nil {
				check(t, r)
			}
		}
		return c
	}
	bad := func(name, req, title string, set func(*scene)) conformance.Case {
		c := define(profile, name, req, conformance.Case{Title: title, Twin: "call", Eras: both,
			About: "The server is that of the twin with this one change. The client must end with an error, and no byte of its application may reach the server.",
			Fix:   "Judge TLS, the statement, the signature over this connection and the evidence, in full, before the first byte of HTTP is written."})
		c.Run = func(t *T) { playTLS(t, c.ID, set).refusedTLS() }
		return c
	}
	says := func(f func(*spoken)) func(*scene) { return func(sc *scene) { sc.tls.spoken = f } }
	answers := func(f func(*spoken) []byte) func(*scene) { return func(sc *scene) { sc.tls.answer = f } }
	shakes := func(f func(*tls.Config)) func(*scene) { return func(sc *scene) { sc.tls.config = f } }
	made := func(ago time.Duration) func(*scene) {
		return says(func(s *spoken) { s.att.freshness = hand.MadeAt(time.Now().Add(-ago).Unix()) })
	}
	const elsewhere = "https://elsewhere.example/mcp"
	return []conformance.Case{
		good("call", "TMCP-21.4-1", "a server that attests itself over the connection is used", "The server is in a simulated TEE that runs the code which the policy names, and its TLS key is the one that is pinned. The client must negotiate the application protocol, and call the tool.", nil, nil),
		good("nonce", "TMCP-21.4-14", "evidence made for the client's nonce is accepted", "The freshness of the evidence is the nonce of the client's hello.", says(func(s *spoken) { s.att.freshness = hand.ForNonce(s.nonce) }), nil),
		good("tickets", "TMCP-21.1-3", "nothing is sent in a resumed session (N35)", "The server sends session tickets, which it must not, and closes each connection after one answer. A client that resumes the session has nothing attested in the new connection: no byte of its application may come there.",
			func(sc *scene) {
				sc.tls.retires = true
				sc.tls.config = func(c *tls.Config) { c.SessionTicketsDisabled = false }
			}, func(t *T, r *result) {
				e := r.sc.tls
				e.mu.Lock()
				defer e.mu.Unlock()
				if e.late > 0 {
					t.Violate("%d bytes of the application came on %d resumed connections", e.late, e.resumed)
				}
			}),

		bad("tls-1.2", "TMCP-21.1-1", "a server of TLS 1.2 is refused", shakes(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 })),
		bad("no-protocol", "TMCP-21.4-1", "a server that does not negotiate the application protocol is refused", shakes(func(c *tls.Config) { c.NextProtos = nil })),
		bad("key-unpinned", "TMCP-21.5-1", "a TLS key that is not the pinned one is refused, whatever the evidence says (N02)", func(sc *scene) { sc.tls.unpinned = true }),
		bad("evidence-missing", "TMCP-21.4-12", "a server that shows nothing is refused", answers(func(*spoken) []byte { return []byte{0, 0, 0, 3, 0x82, 3, 0xf5} })),
		bad("message-too-long", "TMCP-21.4-4", "a message longer than 65536 bytes is refused", answers(func(*spoken) []byte {
			m := make([]byte, 4+65537)
			binary.BigEndian.PutUint32(m, 65537)
			return m
		})),
		bad("other-connection", "TMCP-21.4-7", "what was signed for another connection is refused, with this nonce too (N04)", says((*spoken).elsewhere)),
		bad("nonce-other", "TMCP-21.4-7", "what was signed for another nonce is refused (N04)", says(func(s *spoken) {
			s.nonce = hash(s.nonce)
			s.export(exporterServer, s.nonce)
		})),
		bad("certificate-other", "TMCP-21.4-7", "what was signed for another certificate is refused", says(func(s *spoken) { s.leaf = []byte("another") })),
		bad("exporter-tls", "TMCP-21.4-5", "a signature over tls-exporter of RFC 9266 is refused (N05)", says(func(s *spoken) { s.export(exporterRFC9266, []byte{}) })),
		bad("exporter-client", "TMCP-21.4-5", "a signature over the exporter value of clients is refused (N05)", says(func(s *spoken) { s.export(exporterClient, s.nonce) })),
		bad("exporter-no-context", "TMCP-21.4-5", "a signature over an exporter value without the nonce as context is refused (N05)", says(func(s *spoken) { s.export(exporterServer, nil) })),
		bad("role-client", "TMCP-21.4-6", "the statement of a client, shown by a server, is refused (N10)", says(func(s *spoken) {
			s.role = 2
			s.export(exporterClient, s.nonce)
		})),
		bad("relayed", "TMCP-21.4-7", "genuine evidence is refused when another key signs (N03)", says(func(s *spoken) { s.signer = newKey() })),
		bad("relayed-other-key", "TMCP-21.4-2", "genuine evidence in a statement for another key is refused (N03)", says(func(s *spoken) {
			genuine := coseKey(s.key.Public().(ed25519.PublicKey))
			s.att.bound = func(b *hand.Binding) { b.Key = genuine }
			s.key = newKey()
			s.signer = s.key
		})),
		bad("signature-payload", "TMCP-21.4-3", "a signature with a payload of its own is refused", says(func(s *spoken) { s.payload = dcbor.AppendText(nil, "anything") })),
		bad("identity-other", "TMCP-21.4-13", "a statement for another identity is refused (N01)", says(func(s *spoken) { s.identity = elsewhere })),
		bad("identity-unbound", "TMCP-21.4-8", "evidence of another identity is refused in a statement for this one (N01)", says(func(s *spoken) {
			s.att.bound = func(b *hand.Binding) { b.Identity = elsewhere }
		})),
		bad("stale", "TMCP-21.4-14", "evidence that is three hours old is refused", made(3*time.Hour)),
		bad("future", "TMCP-21.4-14", "evidence of tomorrow is refused", made(-24*time.Hour)),
		bad("nonce-reused", "TMCP-21.4-14", "evidence for another verifier's nonce is refused", says(func(s *spoken) { s.att.freshness = hand.ForNonce(hash(s.nonce)) })),
		bad("other-code", "TMCP-21.4-8", "a TEE with other code than the policy names is refused", says(func(s *spoken) { s.att.tee.Image = evilImage })),
		bad("debug", "TMCP-21.4-8", "a TEE that can be read from outside is refused", says(func(s *spoken) { s.att.tee.Debug = true })),
		bad("other-root", "TMCP-21.4-8", "evidence that another root vouches for is refused", says(func(s *spoken) { s.att.world = sim.Other() })),
		bad("simulator-in-production", "TMCP-21.4-8", "a simulated TEE is refused where none is accepted", func(sc *scene) { sc.production = true }),
	}
}
