package client

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
)

// bent is a scene whose key objects are bent.
func bent(f func(*keyObject)) func(*scene) {
	return func(sc *scene) { sc.object, sc.mutatesKey = f, true }
}

func claim(key int64, val func() []byte) func(*scene) {
	return bent(func(o *keyObject) { o.claims[key] = val() })
}

func without(key int64) func(*scene) { return bent(func(o *keyObject) { delete(o.claims, key) }) }

func in(seconds int) []byte { return number(time.Now().Unix() + int64(seconds)) }

func newKey() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

// impostor signs the object with a key of its own, and says so in the object.
func impostor(o *keyObject) {
	o.signer = newKey()
	o.claims[claimIDKey] = coseKey(o.signer.Public().(ed25519.PublicKey))
}

// keyObjects are the key objects that a client must not seal to.
func keyObjects() []conformance.Case {
	key := func(name, req, title string, set func(*scene)) conformance.Case {
		return negative("key-"+name, req, title, "call", noSeal, both, set)
	}
	fresh := func(name, req, title string, f func([]byte) []byte) conformance.Case {
		return negative("key-"+name, req, title, "fresh", noSeal, both, func(sc *scene) {
			sc.fresh, sc.nonceObject = true, f
		})
	}
	return []conformance.Case{
		key("other-identity", "TMCP-5.4-3", "a key object for another identity is refused", claim(claimSub, func() []byte { return text("https://other.example/mcp") })),
		key("identity-prefix", "TMCP-5.4-3", "an identity that differs by one byte is refused", bent(func(o *keyObject) {
			r := dcbor.NewReader(o.claims[claimSub])
			o.claims[claimSub] = text(r.Text() + "/")
		})),
		key("unpinned", "TMCP-5.4-8", "a key object by a key that is not pinned is refused", bent(impostor)),
		key("own-anchor", "TMCP-5.4-11", "a certificate that came along is not trusted because it came along", bent(func(o *keyObject) {
			h := &holder{uri: "https://other.example/mcp", identity: newKey()}
			if err := (&pki{}).certify(h); err != nil {
				panic(err)
			}
			o.signer, o.chain = h.identity, h.chain
			delete(o.claims, claimIDKey)
		})),
		negative("key-diverted", "TMCP-5.4-3", "the genuine key object of another server is refused", "call", noSeal, both, func(sc *scene) {
			sc.mutatesKey = true
			sc.opening = func(x *exchange, res Obj) {
				other, err := newHolder("https://other.example/mcp", x.h.trust.settings)
				if err != nil {
					panic(err)
				}
				res["_meta"].(Obj)[protocol.MetaKey] = protocol.Base64(other.object(nil, nil))
			}
		}),
		key("expired", "TMCP-5.4-4", "a key object is refused from the second of its exp on", bent(func(o *keyObject) {
			o.claims[claimNbf], o.claims[claimIat], o.claims[claimExp] = in(-600), in(-600), in(0)
		})),
		key("not-yet-valid", "TMCP-5.4-5", "a key object that is valid beyond the clock skew is refused", bent(func(o *keyObject) {
			o.claims[claimNbf], o.claims[claimExp] = in(120), in(700)
		})),
		key("issued-in-future", "TMCP-5.4-14", "a key object that was issued in the future is refused", claim(claimIat, func() []byte { return in(120) })),
		key("too-long", "TMCP-5.4-6", "a key object that is valid for more than an hour is refused", bent(func(o *keyObject) {
			o.claims[claimNbf], o.claims[claimExp] = in(-5), in(3596)
		})),
		key("never-valid", "TMCP-5.4-6", "a key object whose exp is before its nbf is refused", bent(func(o *keyObject) {
			o.claims[claimNbf], o.claims[claimExp] = in(40), in(30)
		})),
		key("role-client", "TMCP-5.4-2", "a client's key object that is reflected is refused", claim(claimRole, func() []byte { return number(2) })),
		key("settings-digest", "TMCP-5.4-13", "a key object for other settings is refused", claim(claimSettings, func() []byte { return blob(make([]byte, 32)) })),
		key("signature-altered", "TMCP-5.4-7", "an altered signature is refused", bent(func(o *keyObject) {
			o.sign = func(s []byte) []byte { s[7] ^= 1; return s }
		})),
		key("claims-altered", "TMCP-5.4-7", "claims that were changed after signing are refused", bent(func(o *keyObject) {
			old := o.claims[claimKeys]
			o.whole = func(b []byte) []byte {
				at := bytes.Index(b, old)
				b[at+len(old)-3] ^= 1 // within the X25519 key of suite 2
				return b
			}
		})),
		key("signature-missing", "TMCP-5.2-3", "a key object without a signature is refused", bent(func(o *keyObject) {
			o.sign = func([]byte) []byte { return nil }
		})),
		key("signature-twice", "TMCP-5.2-3", "a second signature of the same name is refused", bent(func(o *keyObject) { o.extra = 1 })),
		key("signatures-three", "TMCP-5.1-1", "a third signature is refused", bent(func(o *keyObject) { o.extra = 2 })),
		key("signature-name", "TMCP-5.2-3", "a signature of another name is refused", bent(func(o *keyObject) { o.kid = "attested" })),
		key("algorithm", "TMCP-5.2-2", "an algorithm that is not the key's is refused", bent(func(o *keyObject) { o.alg = -7 })),
		key("purpose-label", "TMCP-5.1-4", "a signature made for another purpose is refused", bent(func(o *keyObject) { o.label = label + "tool" })),
		key("type-header", "TMCP-5.1-2", "an object of another type is refused", bent(func(o *keyObject) {
			o.body = dcbor.AppendText(dcbor.AppendUint(dcbor.AppendMap(nil, 1), 16), "application/eat+cwt")
		})),
		key("profile-uri", "TMCP-5.3-2", "another eat_profile is refused", claim(claimProfile, func() []byte { return text("tag:trustedmcp.org,2026:key-2") })),
		key("claims-unsorted", "TMCP-5.1-1", "claims out of order are refused", bent(func(o *keyObject) {
			o.payload = func(p []byte) []byte { // the first two pairs of {2: …, 4: …} change places
				sub, exp := o.claims[claimSub], o.claims[claimExp]
				a, b := append([]byte{2}, sub...), append([]byte{4}, exp...)
				return append(append(append(p[:1:1], b...), a...), p[1+len(a)+len(b):]...)
			}
		})),
		key("claims-not-shortest", "TMCP-5.1-1", "a claim that is not in its shortest form is refused", bent(func(o *keyObject) {
			o.claims[claimRole] = []byte{0x18, 1}
		})),
		key("claims-twice", "TMCP-5.1-1", "a claim that stands twice is refused", bent(func(o *keyObject) {
			o.payload = func(p []byte) []byte {
				sub := append([]byte{2}, o.claims[claimSub]...)
				out := append([]byte{p[0] + 1}, sub...)
				return append(out, p[1:]...)
			}
		})),
		key("claims-trailing", "TMCP-5.1-1", "bytes after the claims are refused", bent(func(o *keyObject) {
			o.payload = func(p []byte) []byte { return append(p, 0) }
		})),
		key("trailing", "TMCP-5.1-1", "bytes after the object are refused", bent(func(o *keyObject) {
			o.whole = func(b []byte) []byte { return append(b, 0) }
		})),
		key("unprotected", "TMCP-5.1-3", "an unprotected header is refused", bent(func(o *keyObject) {
			o.whole = func(b []byte) []byte { // the empty map after the protected header becomes {4: 'x'}
				at := bytes.Index(b, o.body) + len(o.body)
				return append(append(append([]byte{}, b[:at]...), 0xa1, 4, 0x41, 'x'), b[at+1:]...)
			}
		})),
		key("claim-missing", "TMCP-5.3-7", "a key object without settings digest is refused", without(claimSettings)),
		key("time-missing", "TMCP-5.3-1", "a key object without exp is refused", without(claimExp)),
		key("identity-key-missing", "TMCP-5.2-4", "a key object that shows neither key nor certificate is refused", without(claimIDKey)),
		key("suite-one-missing", "TMCP-5.3-3", "a key object without a key for suite 1 is refused", bent(func(o *keyObject) {
			r := dcbor.NewReader(o.claims[claimKeys])
			r.Array()
			r.Skip()
			o.claims[claimKeys] = append(dcbor.AppendArray(nil, 1), r.Skip()...)
		})),
		key("suite-one-short", "TMCP-5.3-4", "a public key of another length is refused", bent(func(o *keyObject) {
			keys := dcbor.AppendUint(dcbor.AppendArray(dcbor.AppendArray(nil, 1), 2), 1)
			o.claims[claimKeys] = dcbor.AppendBytes(keys, make([]byte, 1215))
		})),
		key("too-large", "TMCP-5.1-5", "a key object of more than 128 KiB is refused", bent(func(o *keyObject) {
			o.claims[-75000] = blob(make([]byte, 129<<10))
		})),
		key("deep", "TMCP-2.3-2", "a claim that nests without end is refused", bent(func(o *keyObject) {
			o.claims[-75000] = append(bytes.Repeat([]byte{0x81}, 5000), 0)
		})),
		negative("key-padded-text", "TMCP-2.3-3", "base64url with padding is refused", "call", noSeal, both, func(sc *scene) {
			sc.mutatesKey = true
			sc.opening = func(_ *exchange, res Obj) {
				meta := res["_meta"].(Obj)
				meta[protocol.MetaKey] = meta[protocol.MetaKey].(string) + "="
			}
		}),
		fresh("nonce-other", "TMCP-4.6-4", "a key object with another nonce is refused", func(n []byte) []byte {
			c := bytes.Clone(n)
			c[0] ^= 1
			return c
		}),
		fresh("nonce-missing", "TMCP-4.6-4", "a key object without the nonce is refused", func([]byte) []byte { return nil }),
		fresh("nonce-cut", "TMCP-4.6-4", "a key object with a part of the nonce is refused", func(n []byte) []byte { return n[:8] }),
	}
}

// certificates are the chains that a client must not trust.
func certificates() []conformance.Case {
	cert := func(name, req, title string, p func() *pki) conformance.Case {
		return negative("certificate-"+name, req, title, "certificate", noSeal, both, func(sc *scene) {
			sc.pki, sc.mutatesKey = p(), true
		})
	}
	leaf := func(f func(*x509.Certificate)) func() *pki { return func() *pki { return &pki{leaf: f} } }
	return []conformance.Case{
		cert("other-host", "TMCP-5.4-10", "a certificate for another host is refused", leaf(func(c *x509.Certificate) { c.DNSNames = []string{"other.example"} })),
		cert("name-in-subject", "TMCP-5.4-10", "a certificate that names the host in its subject only is refused", leaf(func(c *x509.Certificate) {
			c.Subject.CommonName, c.DNSNames = c.DNSNames[0], nil
		})),
		cert("expired", "TMCP-5.4-9", "a certificate that is over is refused", leaf(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Minute)
		})),
		cert("not-yet-valid", "TMCP-5.4-9", "a certificate that is not valid yet is refused", leaf(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
		})),
		cert("unknown-root", "TMCP-5.4-9", "a certificate of another root is refused", func() *pki { return &pki{otherRoot: true} }),
		cert("none", "TMCP-5.4-11", "a bare key is refused where a certificate is due", func() *pki { return &pki{bareKey: true} }),
	}
}
