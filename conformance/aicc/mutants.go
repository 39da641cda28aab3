package aicc

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
)

// sealNonce seals under a nonce of another length.
func sealNonce(key, wrapped, nonce, text []byte) *Envelope {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil
	}
	a, err := cipher.NewGCMWithNonceSize(b, len(nonce))
	if err != nil {
		return nil
	}
	sealed := a.Seal(nil, nonce, text, nil)
	return &Envelope{Nonce: nonce, Key: wrapped, Ciphertext: sealed[:len(text)], Mac: sealed[len(text):]}
}

// bend is a mutant: an envelope of the twin's message with one thing changed.
// It returns the body, and the key that an answer would be sealed under.
type bend struct {
	name, id, title string
	body            func(s *server) (body, key []byte)
}

// envelope changes an honest envelope before it is written.
func envelope(name, id, title string, f func(s *server, e *Envelope, key []byte)) bend {
	return bend{name, id, title, func(s *server) ([]byte, []byte) {
		e, key := s.seal(s.work())
		f(s, e, key)
		return e.JSON(), key
	}}
}

// text changes an honest envelope after it was written.
func text(name, title string, f func(body string, e *Envelope) string) bend {
	return bend{name, "23.3-2", title, func(s *server) ([]byte, []byte) {
		e, key := s.seal(s.work())
		return []byte(f(string(e.JSON()), e)), key
	}}
}

// wrapped puts another text in the place of the wrapped key, and seals under it.
func wrapped(name, title string, key func() []byte, wrap func(pub *rsa.PublicKey, key []byte) ([]byte, error)) bend {
	return bend{name, "23.3-3", title, func(s *server) ([]byte, []byte) {
		k := key()
		w, err := wrap(s.pub, k)
		if err != nil {
			s.t.Untestable("%v", err)
		}
		e := SealWith(k, w, s.work())
		return e.JSON(), k
	}}
}

func key32() []byte { return random(32) }

func oaep(pub *rsa.PublicKey, key []byte) ([]byte, error) {
	return rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, key, nil)
}

var b64 = base64.StdEncoding

func bends() []bend {
	all := []bend{
		envelope("mac-altered", "23.3-3", "one bit of the tag is another", func(_ *server, e *Envelope, _ []byte) { e.Mac = flip(e.Mac) }),
		envelope("mac-zero", "23.3-3", "the tag is all zeros", func(_ *server, e *Envelope, _ []byte) { e.Mac = make([]byte, 16) }),
		envelope("ciphertext-altered", "23.3-3", "one bit of the ciphertext is another", func(_ *server, e *Envelope, _ []byte) { e.Ciphertext = flip(e.Ciphertext) }),
		envelope("ciphertext-cut", "23.3-3", "the ciphertext lacks its last byte", func(_ *server, e *Envelope, _ []byte) { e.Ciphertext = e.Ciphertext[:len(e.Ciphertext)-1] }),
		envelope("nonce-altered", "23.3-3", "one bit of the nonce is another", func(_ *server, e *Envelope, _ []byte) { e.Nonce = flip(e.Nonce) }),
		envelope("key-altered", "23.3-3", "one bit of the wrapped key is another", func(_ *server, e *Envelope, _ []byte) { e.Key = flip(e.Key) }),
		envelope("other-key", "23.3-3", "it is sealed to another public key", func(s *server, e *Envelope, _ []byte) {
			priv, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				s.t.Untestable("%v", err)
			}
			other, _, err := Seal(&priv.PublicKey, s.work())
			if err != nil {
				s.t.Untestable("%v", err)
			}
			*e = *other
		}),
		envelope("associated-data", "23.3-3", "it is sealed with associated data", func(s *server, e *Envelope, key []byte) {
			a, _ := gcm(key)
			sealed := a.Seal(nil, e.Nonce, s.work(), []byte("x"))
			e.Ciphertext, e.Mac = sealed[:len(sealed)-16], sealed[len(sealed)-16:]
		}),
		wrapped("key-sha1", "the key is wrapped with SHA-1", key32, func(pub *rsa.PublicKey, k []byte) ([]byte, error) {
			return rsa.EncryptOAEP(sha1.New(), rand.Reader, pub, k, nil)
		}),
		wrapped("key-label", "the key is wrapped with a label", key32, func(pub *rsa.PublicKey, k []byte) ([]byte, error) {
			return rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, k, []byte("x"))
		}),
		wrapped("key-pkcs1", "the key is wrapped as in PKCS #1 v1.5", key32, func(pub *rsa.PublicKey, k []byte) ([]byte, error) {
			//lint:ignore SA1019 that nobody takes it is what is tried
			return rsa.EncryptPKCS1v15(rand.Reader, pub, k)
		}),
		wrapped("key-16-bytes", "the AES key has 16 bytes", func() []byte { return random(16) }, oaep),
		wrapped("key-24-bytes", "the AES key has 24 bytes", func() []byte { return random(24) }, oaep),
		envelope("nonce-11-bytes", "23.3-2", "the nonce has 11 bytes", func(s *server, e *Envelope, key []byte) { e.Nonce = e.Nonce[:11] }),
		{"nonce-16-bytes", "23.3-2", "the nonce has 16 bytes, and it is sealed so", func(s *server) ([]byte, []byte) {
			e, key := s.seal(nil)
			*e = *sealNonce(key, e.Key, random(16), s.work())
			return e.JSON(), key
		}},
		envelope("mac-12-bytes", "23.3-2", "the tag has 12 bytes", func(_ *server, e *Envelope, _ []byte) { e.Mac = e.Mac[:12] }),
		envelope("mac-empty", "23.3-2", "the tag is empty", func(_ *server, e *Envelope, _ []byte) { e.Mac = nil }),
		text("member-extra", "there is a member that the format does not have", func(b string, _ *Envelope) string { return b[:len(b)-1] + `,"aad":"eA=="}` }),
		text("member-other-case", "a member stands twice, once in other case", func(b string, _ *Envelope) string { return b[:len(b)-1] + `,"Mac":"eA=="}` }),
		text("member-twice", "the member nonce stands twice", func(b string, e *Envelope) string {
			return `{"nonce":"` + b64.EncodeToString(random(12)) + `",` + b[1:]
		}),
		text("trailing", "something follows the envelope", func(b string, _ *Envelope) string { return b + "{}" }),
		text("in-array", "the envelope stands in an array", func(b string, _ *Envelope) string { return "[" + b + "]" }),
		text("base64url", "a value is in the alphabet of base64url", func(b string, e *Envelope) string {
			return strings.Replace(b, b64.EncodeToString(e.Key), base64.URLEncoding.EncodeToString(e.Key), 1)
		}),
		text("base64-unpadded", "a value has no padding", func(b string, e *Envelope) string {
			return strings.Replace(b, b64.EncodeToString(e.Mac), base64.RawStdEncoding.EncodeToString(e.Mac), 1)
		}),
		text("base64-cut", "a value ends within a group", func(b string, e *Envelope) string {
			k := b64.EncodeToString(e.Key)
			return strings.Replace(b, k, k[:len(k)-3], 1)
		}),
		text("base64-break", "a value has a line break in it", func(b string, e *Envelope) string {
			k := b64.EncodeToString(e.Key)
			return strings.Replace(b, k, k[:76]+`\n`+k[76:], 1)
		}),
		text("base64-bits", "a value has bits that its bytes don't have", func(b string, e *Envelope) string {
			m := b64.EncodeToString(e.Mac) // 16 bytes: the last digit has 4 bits to spare
			const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
			at := strings.IndexByte(digits, m[21])
			return strings.Replace(b, m, m[:21]+string(digits[at|1])+"==", 1)
		}),
		{"plaintext-marked", "23.3-2", "the body is plaintext, and the header field says that it is sealed", func(s *server) ([]byte, []byte) {
			return s.work(), nil
		}},
	}
	for _, m := range []string{"nonce", "mac", "key", "ciphertext"} {
		all = append(all, text("without-"+m, "the member "+m+" is missing", func(b string, e *Envelope) string {
			v := map[string][]byte{"nonce": e.Nonce, "mac": e.Mac, "key": e.Key, "ciphertext": e.Ciphertext}[m]
			member := `"` + m + `":"` + b64.EncodeToString(v) + `"`
			b = strings.Replace(b, member, "", 1)
			return strings.NewReplacer(",,", ",", "{,", "{", ",}", "}").Replace(b)
		}))
	}
	return all
}

func mutants() []conformance.Case {
	var all []conformance.Case
	add := func(name, id, title, about string, run func(*server)) {
		all = append(all, on(name, id, conformance.Case{Title: title + ": it is refused", About: about, Twin: "sealed-call"}, run))
	}
	for _, m := range bends() {
		add(m.name, m.id, m.title, "Sends the twin's request so, and then a good one.", func(s *server) {
			s.start()
			body, key := m.body(s)
			s.refused(s.sealed(body), key)
			s.alive()
		})
	}
	add("replayed", "23.3-4", "the same request comes a second time", "Sends one envelope twice.", func(s *server) {
		s.start()
		e, r, _ := s.call(s.work())
		_ = r
		s.refused(s.sealed(e.JSON()), s.keyOf(e))
		s.alive()
	})
	add("replayed-elsewhere", "23.3-4", "the same request comes over another connection, in another session", "Sends one envelope in two sessions.", func(s *server) {
		s.start()
		e, _, _ := s.call(s.work())
		other, done := open(s.t)
		defer done()
		other.start()
		s.refused(other.sealed(e.JSON()), s.keyOf(e))
		other.alive()
	})
	add("replayed-respelled", "23.3-4", "the same request comes in another spelling", "Sends one envelope twice, the second time with its members in another order and white space between.", func(s *server) {
		s.start()
		e, _, _ := s.call(s.work())
		body := ` { "ciphertext" : "` + b64.EncodeToString(e.Ciphertext) + `", "key":"` + b64.EncodeToString(e.Key) + `" , "mac":"` +
			b64.EncodeToString(e.Mac) + `","nonce":"` + b64.EncodeToString(e.Nonce) + "\"\n}\n"
		s.refused(s.sealed([]byte(body)), s.keyOf(e))
		s.alive()
	})
	add("key-reused", "23.3-4", "another message comes under a key that was used before", "Seals two messages under one AES key, with one wrapped key.", func(s *server) {
		s.start()
		e, key := s.seal(s.work())
		r := s.sealed(e.JSON())
		if res, why := r.result(key); res == nil {
			s.t.Violate("the first has no result: %s", why)
		}
		s.refused(s.sealed(SealWith(key, e.Key, s.work()).JSON()), key)
		s.alive()
	})
	add("plaintext", "23.2-4", "the request comes in plaintext", "Sends the twin's request unsealed, in a session that was negotiated.", func(s *server) {
		s.start()
		s.refused(s.post(nil, s.work()), nil)
		s.alive()
	})
	add("plaintext-without-offer", "23.2-4", "initialize comes in plaintext, without the offer", "Opens as a client does that knows nothing of the profile.", func(s *server) {
		params := Obj{"capabilities": Obj{}}
		for k, v := range initialize {
			params[k] = v
		}
		s.refused(s.post(nil, s.message("initialize", params)), nil)
		s.start()
		s.alive()
	})
	add("plaintext-batch", "23.2-4", "the request comes in plaintext, in an array with initialize", "Sends an array of initialize with the offer, and the twin's request.", func(s *server) {
		s.start()
		params := Obj{"capabilities": offer}
		for k, v := range initialize {
			params[k] = v
		}
		body := bytes.Join([][]byte{s.message("initialize", params), s.work()}, []byte(","))
		s.refused(s.post(nil, append(append([]byte("["), body...), ']')), nil)
		s.alive()
	})
	add("unmarked", "23.3-6", "the envelope comes without the header field", "Sends a good envelope as if it were a message.", func(s *server) {
		s.start()
		e, key := s.seal(s.work())
		s.refused(s.post(nil, e.JSON()), key)
		s.alive()
	})
	add("endless", "23.3-5", "the body does not end", "Sends an envelope of which the ciphertext goes on and on, up to 512 MiB.", func(s *server) {
		s.start()
		body := &endless{head: []byte(`{"nonce":"AAAAAAAAAAAAAAAA","ciphertext":"`), most: 512 << 20, until: time.Now().Add(s.t.StepTimeout())}
		r := s.send(http.MethodPost, sealedFields, -1, body)
		if errors.Is(r.err, errEnough) {
			s.t.Violate("it took %d MiB, and did not end it", body.n>>20)
		}
		s.refused(r, nil)
		s.alive()
	})
	return all
}

// keyOf is the key of an envelope that this case made.
func (s *server) keyOf(e *Envelope) []byte { return s.keys[string(e.Key)] }

// opens are the cases of what the profile leaves open (section 23.9).
func opens() []conformance.Case {
	weak := func(name, title, about string, run func(*server)) conformance.Case {
		return on("open-"+name, "23.9-1", conformance.Case{Title: title, About: about + " It works by the design of the profile, and is reported so.",
			Fix: "Nothing that the profile has. Take profile identity or attested, or a channel below that binds what is missing."}, run)
	}
	return []conformance.Case{
		weak("session-moved", "a sealed request counts in another session", "Seals a request for one session, and sends it in another: there are no associated data.", func(s *server) {
			s.start()
			e, key := s.seal(s.work())
			other, done := open(s.t)
			defer done()
			other.start()
			if s.session == "" || other.session == s.session {
				s.t.NotApplicable("the server has no sessions")
			}
			r := other.sealed(e.JSON())
			if res, _ := r.result(key); res != nil {
				s.t.Weakness("%sa sealed request made for one session was served in another (no associated data)", Weakness)
			}
		}),
		weak("client-unknown", "whoever knows a session id speaks for its client", "Sends a sealed request in a session from another connection, knowing no more than its id and the public key.", func(s *server) {
			s.start()
			if s.session == "" {
				s.t.NotApplicable("the server has no sessions")
			}
			other, done := open(s.t)
			defer done()
			other.session = s.session
			e, key := other.seal(other.work())
			r := other.sealed(e.JSON())
			if res, _ := r.result(key); res != nil {
				s.t.Weakness("%sa stranger's sealed request was served in a client's session (clients are unknown)", Weakness)
			}
		}),
		weak("no-forward-secrecy", "what was recorded opens under one long-lived key", "Seals two requests in two sessions to the same RSA key.", func(s *server) {
			s.start()
			s.call(s.work())
			other, done := open(s.t)
			defer done()
			other.start()
			other.call(other.work())
			s.t.Weakness("%sboth sessions were sealed to one RSA key of %d bits: who gets it later, or a quantum computer, reads all that was recorded", Weakness, s.pub.N.BitLen())
		}),
	}
}
