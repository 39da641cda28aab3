package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/go-json-experiment/json"
	"golang.org/x/crypto/chacha20poly1305"
)

// L is the label that all others begin with.
const L = "org.trustedmcp/trust v1 "

const identity = "https://api.example.com/mcp"

// t0 is the time at which vectors are decided unless they say another.
var t0 = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC).Unix()

// a is a CBOR array; m a CBOR map; raw one encoded item.
type (
	a   = []any
	m   = map[any]any
	raw = cbor.RawMessage
)

var encMode = must(cbor.CoreDetEncOptions().EncMode())

// enc is deterministic CBOR.
func enc(v any) []byte { return must(encMode.Marshal(v)) }

func sha(b []byte) []byte { d := sha256.Sum256(b); return d[:] }

func seed(name string) []byte { return sha([]byte("trusted mcp test vectors: " + name)) }

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func clone(b []byte) []byte { return append([]byte{}, b...) }

// flip inverts one bit.
func flip(b []byte, at int) []byte {
	b = clone(b)
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 1
	return b
}

// fromJSON maps a JSON value to what enc takes (specification, section 2.4).
func fromJSON(text string) any {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		panic(err)
	}
	return mapped(v)
}

func mapped(v any) any {
	switch v := v.(type) {
	case float64:
		if v == math.Trunc(v) && math.Abs(v) <= 1<<53 {
			return int64(v)
		}
		return v
	case []any:
		for i := range v {
			v[i] = mapped(v[i])
		}
		return v
	case map[string]any:
		for k := range v {
			v[k] = mapped(v[k])
		}
		return v
	}
	return v
}

// frozen holds what can't be derived from seeds, by name, in hex.
var frozen = map[string]string{}

func loadFrozen(dir string) {
	b, err := os.ReadFile(filepath.Join(dir, "setup", "frozen.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err := json.Unmarshal(must(b, err), &frozen); err != nil {
		panic(err)
	}
}

func freeze(name string, make func() []byte) []byte {
	if _, ok := frozen[name]; !ok {
		frozen[name] = hex.EncodeToString(make())
	}
	return must(hex.DecodeString(frozen[name]))
}

// A suite with the server's key for it.
type suite struct {
	id      uint64
	name    string
	kem     hpke.KEM
	aead    hpke.AEAD
	private hpke.PrivateKey
}

var suites = func() map[uint64]suite {
	dh := must(hpke.NewKEM(0x0020))
	return map[uint64]suite{
		1: {1, "mlkem768x25519-sha256-aes256gcm", hpke.MLKEM768X25519(), hpke.AES256GCM(), must(hpke.MLKEM768X25519().DeriveKeyPair(seed("hpke 1")))},
		2: {2, "x25519-sha256-chacha20poly1305", dh, hpke.ChaCha20Poly1305(), must(dh.DeriveKeyPair(seed("hpke 2")))},
	}
}()

// encapsulation is a frozen encapsulated key to the server; which is "a" or "b".
func encapsulation(s uint64, which string) []byte {
	return freeze("encapsulation "+suites[s].name+" "+which, func() []byte {
		e, _, err := hpke.NewSender(suites[s].private.PublicKey(), hpke.HKDFSHA256(), suites[s].aead, nil)
		return must(e, err)
	})
}

const (
	serverSettings = `{"version":1,"profiles":["identity"],"carriers":["envelope","inline","http"],"suites":["mlkem768x25519-sha256-aes256gcm","x25519-sha256-chacha20poly1305"],"mode":"required"}`
	clientSettings = serverSettings
	// clientSettings2 prefers suite 2.
	clientSettings2 = `{"version":1,"profiles":["identity"],"carriers":["envelope","inline","http"],"suites":["x25519-sha256-chacha20poly1305","mlkem768x25519-sha256-aes256gcm"],"mode":"required"}`
)

func settingsDigest(js string) []byte { return sha(enc(a{L + "settings", fromJSON(js)})) }
func keyDigest(object []byte) []byte  { return sha(enc(a{L + "key digest", object})) }

// A session is one context, from the client's side: everything that goes into
// the key schedule, with the values of the positive case as defaults.
type session struct {
	suite                                 uint64
	which                                 string // encapsulation
	role                                  uint64
	suiteInInfo                           uint64
	keyDigest                             []byte
	serverSettings, clientSettings        string
	serverSettingsDigest, clientSettings_ []byte
	clientKey                             any
	revision                              string

	enc, info, exported []byte
}

func newSession(s uint64, change ...func(*session)) *session {
	c := &session{suite: s, which: "a", role: 2, suiteInInfo: s, keyDigest: keyDigest(serverObject()), serverSettings: serverSettings, clientSettings: clientSettings}
	if s == 2 {
		c.clientSettings = clientSettings2
	}
	for _, f := range change {
		f(c)
	}
	if c.serverSettingsDigest == nil {
		c.serverSettingsDigest = settingsDigest(c.serverSettings)
	}
	if c.clientSettings_ == nil {
		c.clientSettings_ = settingsDigest(c.clientSettings)
	}
	c.info = enc(a{L + "seal", c.role, c.suiteInInfo, c.keyDigest, c.serverSettingsDigest, c.clientSettings_, c.clientKey, c.revision})
	c.enc = encapsulation(s, c.which)
	rec := must(hpke.NewRecipient(c.enc, suites[s].private, hpke.HKDFSHA256(), suites[s].aead, c.info))
	c.exported = must(rec.Export(L+"keys", 92))
	return c
}

func (c *session) ctx() []byte          { return c.exported[:16] }
func (c *session) requestKey() []byte   { return c.exported[16:48] }
func (c *session) requestNonce() []byte { return c.exported[48:60] }
func (c *session) answerSecret() []byte { return c.exported[60:92] }

func (c *session) answerKeys(salt []byte) (key, nonce []byte) {
	b := must(hkdf.Key(sha256.New, c.answerSecret(), salt, L+"answer keys", 44))
	return b[:32], b[32:]
}

func nonceAt(base []byte, seq, n uint64) []byte {
	b := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, seq), uint32(n))
	for i := range b {
		b[i] ^= base[i]
	}
	return b
}

func aeadOf(s uint64, key []byte) cipher.AEAD {
	if s == 2 {
		return must(chacha20poly1305.New(key))
	}
	return must(cipher.NewGCM(must(aes.NewCipher(key))))
}

// A part is one frame to be sealed, with what its associated data say.
type part struct {
	carrier uint64
	seq, n  uint64
	final   bool
	tool    any
	labels  any
	content []byte
}

func message(body string) []byte { return enc(a{1, m{}, []byte(body)}) }

const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`

func newPart(change ...func(*part)) part {
	p := part{carrier: 1, final: true, content: message(ping)}
	for _, f := range change {
		f(&p)
	}
	return p
}

func (p part) requestAAD() []byte {
	return enc(a{L + "request", p.carrier, p.seq, p.n, p.final, p.tool, p.labels})
}

func (c *session) sealRequest(p part) []byte {
	return aeadOf(c.suite, c.requestKey()).Seal(nil, nonceAt(c.requestNonce(), p.seq, p.n), p.content, p.requestAAD())
}

func (c *session) openItems(p part) a {
	return a{1, c.suite, c.keyDigest, c.enc, enc(fromJSON(c.clientSettings)), c.revision, c.clientKey, p.final, c.sealRequest(p)}
}

func (c *session) open(p part) []byte { return enc(c.openItems(p)) }

func (c *session) nextItems(p part) a {
	return a{2, c.ctx(), p.seq, p.n, p.final, c.sealRequest(p)}
}

func (c *session) next(p part) []byte { return enc(c.nextItems(p)) }

var salt = seed("salt")[:16]

func (p part) answerAAD() []byte { return enc(a{L + "answer", p.carrier, p.seq, p.n, p.final}) }

func (c *session) answerItems(p part) a {
	key, base := c.answerKeys(salt)
	ct := aeadOf(c.suite, key).Seal(nil, nonceAt(base, p.seq, p.n), p.content, p.answerAAD())
	var s any
	if p.n == 0 {
		s = salt
	}
	return a{3, c.ctx(), p.seq, p.n, p.final, s, ct}
}

func (c *session) answer(p part) []byte { return enc(c.answerItems(p)) }

// with replaces item i of an array.
func with(items a, i int, v any) []byte {
	items = append(a{}, items...)
	items[i] = v
	return enc(items)
}

// setup is the server of the request and answer vectors.
func setup() any {
	keys := a{}
	for _, id := range []uint64{1, 2} {
		s := suites[id]
		keys = append(keys, obj{"suite": id, "name": s.name, "seed": x(seed("hpke " + string(rune('0'+id)))),
			"private_key": x(must(s.private.Bytes())), "public_key": x(s.private.PublicKey().Bytes())})
	}
	return obj{
		"identity": identity, "identity_seed": x(seed("server identity")),
		"identity_public_key": x(identityKey().Public().(ed25519.PublicKey)),
		"settings":            serverSettings, "settings_digest": x(settingsDigest(serverSettings)),
		"key_object": x(serverObject()), "key_digest": x(keyDigest(serverObject())),
		"not_before": t0, "expires": t0 + 600, "keys": keys,
	}
}

func identityKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(seed("server identity")) }

// nested is depth opening brackets, and as many closing ones.
func nested(depth int) string {
	return strings.Repeat("[", depth) + strings.Repeat("]", depth)
}

func toJSON(v any) string { return string(must(json.Marshal(v, json.Deterministic(true)))) }

func reExport(c *session, label string) ([]byte, error) {
	rec, err := hpke.NewRecipient(c.enc, suites[c.suite].private, hpke.HKDFSHA256(), suites[c.suite].aead, c.info)
	if err != nil {
		return nil, err
	}
	return rec.Export(label, 92)
}

func unhex(s string) []byte { return must(hex.DecodeString(s)) }
