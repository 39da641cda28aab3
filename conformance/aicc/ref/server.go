// Package ref has a server and a client of profile aicc-0.1 that keep every rule
// the suite knows, and can be told to break one. The suite is tested on them;
// they are no models for anything in production. Call [Server] and [Client].
package ref

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance/aicc"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

const header = "X-Trusted-Mcp"

// A Mutant breaks one rule, and the cases that it kills notice it.
type Mutant struct {
	Fault string
	Kills []string // names of cases, without role and profile
}

// Servers are the mutants of the server.
func Servers() []Mutant {
	return []Mutant{
		{"answers-anyway", []string{"mac-altered", "mac-zero", "ciphertext-altered", "ciphertext-cut", "nonce-altered", "key-altered", "other-key", "associated-data",
			"key-sha1", "key-label", "key-pkcs1", "key-16-bytes", "key-24-bytes", "nonce-11-bytes", "nonce-16-bytes", "mac-12-bytes", "mac-empty", "member-extra", "member-other-case",
			"member-twice", "trailing", "in-array", "base64url", "base64-unpadded", "base64-cut", "base64-break", "base64-bits", "plaintext-marked", "without-nonce", "without-mac", "without-key", "without-ciphertext", "replayed"}},
		{"lenient-json", []string{"member-extra", "member-other-case", "member-twice", "trailing"}},
		{"lenient-base64", []string{"base64url", "base64-unpadded", "base64-break", "base64-bits"}},
		{"no-mac", []string{"mac-altered", "mac-zero", "mac-12-bytes", "mac-empty", "associated-data"}},
		{"any-nonce", []string{"nonce-16-bytes"}},
		{"any-key", []string{"key-16-bytes", "key-24-bytes"}},
		{"any-wrapping", []string{"key-sha1", "key-label", "key-pkcs1"}},
		{"no-memory", []string{"replayed", "replayed-elsewhere", "replayed-respelled", "key-reused"}},
		{"remembers-in-sessions", []string{"replayed-elsewhere"}},
		{"remembers-bodies", []string{"replayed-respelled"}},
		{"remembers-nonces", []string{"key-reused"}},
		{"plaintext-taken", []string{"plaintext"}},
		{"plaintext-initialize", []string{"plaintext-without-offer"}},
		{"plaintext-batches", []string{"plaintext-batch"}},
		{"unmarked-taken", []string{"unmarked"}},
		{"reads-on", []string{"endless"}},
		{"oracle", []string{"no-oracle"}},
		{"gives-up", []string{"goes-on"}},
		{"no-offer", []string{"offer"}},
		{"answers-plain", []string{"sealed-call", "parallel"}},
		{"errors-plain", []string{"errors-sealed"}},
		{"failures-plain", []string{"failures-sealed"}},
		{"one-nonce", []string{"fresh-nonces"}},
		{"initialize-plain-only", []string{"initialize-sealed"}},
		{"ascii", []string{"unicode"}},
		{"small", []string{"large"}},
		{"one-key", []string{"parallel"}},
	}
}

// Server stands before inner, the handler of an MCP server, with a fault or "".
func Server(inner http.Handler, priv *rsa.PrivateKey, fault string) http.Handler {
	return &server{inner: inner, priv: priv, fault: fault, seen: map[string]bool{}}
}

type server struct {
	inner http.Handler
	priv  *rsa.PrivateKey
	fault string

	mu   sync.Mutex
	seen map[string]bool
	bad  int
	last []byte
}

func (s *server) has(fault string) bool { return s.fault == fault }

var (
	errOpen      = errors.New("open-failed")
	errMalformed = errors.New("malformed-envelope")
	errReplayed  = errors.New("replayed")
)

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	limit := int64(32 << 20)
	if s.has("small") {
		limit = 1 << 20
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit))
	if s.has("reads-on") {
		_, err = io.Copy(io.Discard, r.Body)
	}
	if err != nil || int64(len(body)) >= limit {
		w.Header().Set("Connection", "close")
		s.fail(w, http.StatusRequestEntityTooLarge, errors.New("too-large"))
		return
	}
	if s.has("gives-up") && s.bad > 5 {
		s.fail(w, http.StatusServiceUnavailable, errors.New("busy"))
		return
	}
	marked := r.Header.Get(header) != "" || s.has("unmarked-taken") && bytes.Contains(body, []byte(`"ciphertext"`))
	if !marked {
		s.plain(w, r, body)
		return
	}
	text, key, err := s.open(r, body)
	if err != nil {
		s.bad++
		if s.has("answers-anyway") {
			writeJSON(w, 200, []byte(`{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}`))
			return
		}
		if errors.Is(err, errOpen) && s.has("oracle") {
			_, err = rsa.DecryptOAEP(sha256.New(), nil, s.priv, envelopeKey(body), nil)
			if err == nil {
				err = errors.New("the tag is wrong")
			}
		}
		s.fail(w, http.StatusBadRequest, err)
		return
	}
	s.mu.Lock()
	if s.last == nil {
		s.last = key
	}
	if s.has("one-key") {
		key = s.last
	}
	s.mu.Unlock()
	if s.has("ascii") {
		text = []byte(strings.Map(func(r rune) rune {
			if r > 127 {
				return '?'
			}
			return r
		}, string(text)))
	}
	m, _ := jsonrpc.Parse(text, jsonrpc.Limits{})
	if m != nil && m.Method == "initialize" && s.has("initialize-plain-only") {
		s.fail(w, http.StatusBadRequest, errMalformed)
		return
	}
	rec := s.ask(r, text)
	answers(rec, m != nil && m.Method == "initialize")
	out := rec.Body.Bytes()
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	plain := s.has("answers-plain") || s.has("errors-plain") && bytes.Contains(out, []byte(`"error"`)) || s.has("failures-plain") && rec.Code/100 != 2
	if !plain {
		out = s.seal(w.Header(), out, key)
	}
	w.Header().Del("Content-Length")
	w.WriteHeader(rec.Code)
	_, _ = w.Write(out)
}

// ask asks the server behind.
func (s *server) ask(r *http.Request, text []byte) *httptest.ResponseRecorder {
	in := r.Clone(r.Context())
	in.Header.Del(header)
	in.Body, in.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	rec := httptest.NewRecorder()
	s.inner.ServeHTTP(rec, in)
	return rec
}

// answers puts the offer in an answer to initialize.
func answers(rec *httptest.ResponseRecorder, initialize bool) {
	if !initialize {
		return
	}
	text := rec.Body.String()
	if i := strings.Index(text, `"capabilities":{`); i >= 0 {
		at := i + len(`"capabilities":{`)
		more := `"experimental":{"trustProtocol":{"name":"AICC","version":"0.1"}}`
		if text[at] != '}' {
			more += ","
		}
		rec.Body = bytes.NewBufferString(text[:at] + more + text[at:])
	}
}

func (s *server) plain(w http.ResponseWriter, r *http.Request, body []byte) {
	m, err := jsonrpc.Parse(body, jsonrpc.Limits{})
	if s.has("plaintext-batches") && bytes.HasPrefix(body, []byte("[")) {
		writeJSON(w, 200, []byte(`[{"jsonrpc":"2.0","id":1,"result":{}}]`))
		_ = err
		return
	}
	initialize := err == nil && m.Method == "initialize"
	offers := initialize && jsonrpc.Get(m.Params, "capabilities", "experimental", "trustProtocol") != nil
	switch {
	case initialize && (offers || s.has("plaintext-initialize")), s.has("plaintext-taken") && err == nil:
		rec := s.ask(r, body)
		answers(rec, initialize && !s.has("no-offer"))
		maps.Copy(w.Header(), rec.Header())
		w.Header().Del("Content-Length")
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	default:
		s.fail(w, http.StatusForbidden, errors.New("trust-required"))
	}
}

func (s *server) fail(w http.ResponseWriter, status int, err error) {
	writeJSON(w, status, jsonrpc.ErrorResponse("", -32600, err.Error(), nil))
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// seal seals an answer.
func (s *server) seal(h http.Header, body, key []byte) []byte {
	h.Set(header, "1")
	one := func(text []byte) []byte {
		e := aicc.SealWith(key, nil, text)
		if s.has("one-nonce") {
			b, _ := aes.NewCipher(key)
			g, _ := cipher.NewGCM(b)
			e.Nonce = make([]byte, 12)
			sealed := g.Seal(nil, e.Nonce, text, nil)
			e.Ciphertext, e.Mac = sealed[:len(text)], sealed[len(text):]
		}
		return e.JSON()
	}
	if !strings.HasPrefix(h.Get("Content-Type"), "text/event-stream") {
		h.Set("Content-Type", "application/json")
		return one(body)
	}
	var out []byte
	for line := range bytes.Lines(body) {
		line = bytes.TrimRight(line, "\r\n")
		if d, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
			line = append([]byte("data: "), one(d)...)
		}
		out = append(append(out, line...), "\r\n"...)
	}
	return out
}

func envelopeKey(body []byte) []byte {
	e, err := aicc.Read(body)
	if err != nil {
		return nil
	}
	return e.Key
}

// open opens a request, and remembers it.
func (s *server) open(r *http.Request, body []byte) (text, key []byte, err error) {
	e, err := s.read(body)
	if err != nil || e.Key == nil {
		return nil, nil, errMalformed
	}
	if key, err = s.unwrap(e); err != nil {
		return nil, nil, errOpen
	}
	if text, err = s.decrypt(e, key); err != nil {
		return nil, nil, errOpen
	}
	name := string(e.Key)
	switch s.fault {
	case "no-memory":
		return text, key, nil
	case "remembers-in-sessions":
		name += r.Header.Get("Mcp-Session-Id")
	case "remembers-bodies":
		name = string(body)
	case "remembers-nonces":
		name = string(e.Nonce)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[name] {
		return nil, nil, errReplayed
	}
	s.seen[name] = true
	return text, key, nil
}

func (s *server) read(body []byte) (*aicc.Envelope, error) {
	if !s.has("lenient-json") && !s.has("lenient-base64") && !s.has("any-nonce") && !s.has("no-mac") {
		return aicc.Read(body)
	}
	var m map[string]string
	opts := []json.Options{}
	if s.has("lenient-json") {
		opts = append(opts, jsontext.AllowDuplicateNames(true))
		if i := bytes.LastIndex(body, []byte("}{")); i > 0 {
			body = body[:i+1]
		}
	}
	if err := json.Unmarshal(body, &m, opts...); err != nil {
		return nil, err
	}
	if !s.has("lenient-json") && len(m) != 4 {
		return nil, errMalformed
	}
	e := &aicc.Envelope{}
	for name, to := range map[string]*[]byte{"nonce": &e.Nonce, "mac": &e.Mac, "key": &e.Key, "ciphertext": &e.Ciphertext} {
		v, ok := m[name]
		if !ok {
			return nil, errMalformed
		}
		enc := base64.StdEncoding.Strict()
		if s.has("lenient-base64") {
			v = strings.TrimRight(strings.NewReplacer("\n", "", "-", "+", "_", "/").Replace(v), "=")
			enc = base64.RawStdEncoding
		}
		b, err := enc.DecodeString(v)
		if err != nil {
			return nil, err
		}
		*to = b
	}
	if len(e.Nonce) != 12 && !s.has("any-nonce") || len(e.Mac) != 16 && !s.has("no-mac") {
		return nil, errMalformed
	}
	return e, nil
}

func (s *server) unwrap(e *aicc.Envelope) ([]byte, error) {
	key, err := rsa.DecryptOAEP(sha256.New(), nil, s.priv, e.Key, nil)
	if err != nil && s.has("any-wrapping") {
		if key, err = rsa.DecryptOAEP(sha1.New(), nil, s.priv, e.Key, nil); err != nil {
			if key, err = rsa.DecryptOAEP(sha256.New(), nil, s.priv, e.Key, []byte("x")); err != nil {
				//lint:ignore SA1019 a mutant that takes what nobody may
				key, err = rsa.DecryptPKCS1v15(nil, s.priv, e.Key)
			}
		}
	}
	if err == nil && len(key) != 32 && !s.has("any-key") {
		err = errOpen
	}
	return key, err
}

func (s *server) decrypt(e *aicc.Envelope, key []byte) ([]byte, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	if s.has("no-mac") {
		return unchecked(b, e), nil
	}
	g, err := cipher.NewGCMWithNonceSize(b, len(e.Nonce))
	if err != nil {
		return nil, err
	}
	return g.Open(nil, e.Nonce, append(bytes.Clone(e.Ciphertext), e.Mac...), nil)
}

// unchecked decrypts AES-GCM without looking at the tag.
func unchecked(b cipher.Block, e *aicc.Envelope) []byte {
	iv := append(bytes.Clone(e.Nonce), 0, 0, 0, 0)
	binary.BigEndian.PutUint32(iv[12:], 2)
	out := make([]byte, len(e.Ciphertext))
	cipher.NewCTR(b, iv).XORKeyStream(out, e.Ciphertext)
	return out
}

// Fault names a mutant for people.
func (m Mutant) String() string { return m.Fault }
