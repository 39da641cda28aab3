package aicc

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"sync/atomic"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	keySize   = 32 // bytes, AES-256
	nonceSize = 12
	macSize   = 16

	// maxSealed is how often one response key seals: random nonces of 96 bits.
	maxSealed = 1 << 32
)

// Limits bound what is read of a peer. A zero field means its default.
type Limits struct {
	MaxMessage int // bytes of one message before it is sealed; default 16 MiB
}

// Message is the limit in force of one message, in bytes.
func (l Limits) Message() int {
	if l.MaxMessage <= 0 {
		return 16 << 20
	}
	return l.MaxMessage
}

// Envelope is the limit of one envelope with a message of the greatest size.
func (l Limits) Envelope() int { return base64.StdEncoding.EncodedLen(l.Message()) + 4<<10 }

// An Envelope is a request's that was read but not opened: the JSON object
//
//	{"nonce":12 bytes,"mac":16 bytes,"key":wrapped key,"ciphertext":bytes}
//
// with all values in standard base64.
type Envelope struct {
	nonce, mac, key []byte
	sealed          []byte // ciphertext, then mac
}

// Parse reads the body of a sealed request. Members that the format doesn't
// have, members twice, and base64 that isn't canonical are refused as
// [Malformed]: what two readers could read differently is not read.
func Parse(body []byte, lim Limits) (*Envelope, error) {
	e, err := parse(body, lim)
	if err != nil {
		return nil, err
	}
	if e.key == nil {
		return nil, Errorf(Malformed, "the envelope has no member key, as those of requests have")
	}
	if len(e.key) < minKeyBits/8 || len(e.key) > maxKeyBits/8 {
		return nil, Errorf(Malformed, "the wrapped key has %d bytes, which no RSA key of %d to %d bits makes", len(e.key), minKeyBits, maxKeyBits)
	}
	return e, nil
}

func parse(body []byte, lim Limits) (*Envelope, error) {
	if len(body) > lim.Envelope() {
		return nil, Errorf(TooLarge, "an envelope of %d bytes, the limit is %d", len(body), lim.Envelope())
	}
	e := &Envelope{}
	var ciphertext []byte
	fields := []struct {
		name  string
		value *[]byte
		size  int // 0: any
	}{{"nonce", &e.nonce, nonceSize}, {"mac", &e.mac, macSize}, {"key", &e.key, 0}, {"ciphertext", &ciphertext, 0}}
	dec := jsontext.NewDecoder(bytes.NewBuffer(body))
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '{' {
		return nil, Errorf(Malformed, "the body is not a JSON object")
	}
members:
	for dec.PeekKind() == '"' {
		tok, err := dec.ReadToken()
		if err != nil {
			return nil, Errorf(Malformed, "the body is not a JSON object with unique members")
		}
		name := tok.String()
		for _, f := range fields {
			if f.name != name {
				continue
			}
			v, err := dec.ReadValue()
			if err != nil || v.Kind() != '"' {
				return nil, Errorf(Malformed, "member %s is not a string", name)
			}
			if *f.value, err = decode(v); err != nil || f.size > 0 && len(*f.value) != f.size {
				return nil, Errorf(Malformed, "member %s is not standard base64 of the right length", name)
			}
			continue members
		}
		return nil, Errorf(Malformed, "the envelope has the unknown member %.40q", name)
	}
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '}' {
		return nil, Errorf(Malformed, "the body is not a JSON object")
	}
	if _, err := dec.ReadToken(); err != io.EOF {
		return nil, Errorf(Malformed, "something follows the envelope")
	}
	if e.nonce == nil || e.mac == nil || ciphertext == nil {
		return nil, Errorf(Malformed, "the envelope lacks nonce, mac or ciphertext")
	}
	if len(ciphertext) > lim.Message() {
		return nil, Errorf(TooLarge, "a message of %d bytes, the limit is %d", len(ciphertext), lim.Message())
	}
	e.sealed = append(ciphertext, e.mac...)
	return e, nil
}

// decode reads the base64 in a JSON string. Its result has room for the mac.
func decode(quoted jsontext.Value) ([]byte, error) {
	text := []byte(quoted[1 : len(quoted)-1])
	if bytes.IndexByte(text, '\\') >= 0 {
		var err error
		if text, err = jsontext.AppendUnquote(nil, quoted); err != nil {
			return nil, err
		}
	}
	if bytes.ContainsAny(text, "\r\n") { // which encoding/base64 skips
		return nil, base64.CorruptInputError(0)
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)), base64.StdEncoding.DecodedLen(len(text))+macSize)
	n, err := base64.StdEncoding.Strict().Decode(out, text)
	return out[:n], err
}

// Fingerprint identifies the request, however it is encoded: SHA-256 of the
// wrapped key, which is fresh for each. A server that sees it again has a replay
// before it.
func (e *Envelope) Fingerprint() [sha256.Size]byte { return sha256.Sum256(e.key) }

// Open opens the envelope with the first private key that does, and returns the
// message and the key for the answer to it. It takes one RSA decryption for each
// key that is tried, 0.5 to 6 ms at 2048 to 4096 bits: bound how many run at
// once. An envelope is opened once only, its memory is reused.
func (e *Envelope) Open(privs ...*rsa.PrivateKey) ([]byte, *ResponseKey, error) {
	if len(privs) == 0 {
		return nil, nil, Errorf(NoKey, "there is no private key to open it with")
	}
	for _, p := range privs {
		if p.Size() != len(e.key) {
			continue
		}
		secret, err := rsa.DecryptOAEP(sha256.New(), nil, p, e.key, nil)
		if err != nil || len(secret) != keySize {
			continue
		}
		k, err := newResponseKey(secret)
		if err != nil {
			return nil, nil, err
		}
		plaintext, err := k.open(e)
		return plaintext, k, err
	}
	return nil, nil, errOpen()
}

func errOpen() *Error {
	return Errorf(OpenFailed, "it was sealed to another key, or altered on the way")
}

// Open is [Parse] and [Envelope.Open] in one.
func Open(body []byte, lim Limits, privs ...*rsa.PrivateKey) (plaintext []byte, key *ResponseKey, err error) {
	e, err := Parse(body, lim)
	if err != nil {
		return nil, nil, err
	}
	return e.Open(privs...)
}

// Seal seals a message to the server with that public key, under a fresh AES
// key, and returns the body of the request with the key for its answer.
func Seal(pub *rsa.PublicKey, plaintext []byte) (body []byte, key *ResponseKey, err error) {
	if err := checkKey(pub); err != nil {
		return nil, nil, err
	}
	secret := make([]byte, keySize)
	rand.Read(secret)
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, secret, nil)
	if err != nil {
		return nil, nil, Errorf(WeakKey, "the server's public key: %v", err)
	}
	if key, err = newResponseKey(secret); err != nil {
		return nil, nil, err
	}
	body, err = key.seal(wrapped, plaintext)
	return body, key, err
}

// A ResponseKey seals and opens what belongs to the answer of one request. It is
// safe for concurrent use.
type ResponseKey struct {
	aead cipher.AEAD
	used atomic.Int64
	own  []byte // nonce of the request, where this end sealed it
}

func newResponseKey(secret []byte) (*ResponseKey, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return &ResponseKey{aead: aead}, err
}

// Seal returns the envelope {"nonce","mac","ciphertext"} of an answer.
func (k *ResponseKey) Seal(plaintext []byte) ([]byte, error) { return k.seal(nil, plaintext) }

func (k *ResponseKey) seal(wrapped, plaintext []byte) ([]byte, error) {
	if k.used.Add(1) > maxSealed {
		return nil, Errorf(NoKey, "one key has sealed %d messages; send another request", int64(maxSealed))
	}
	var nonce [nonceSize]byte
	rand.Read(nonce[:])
	if wrapped != nil {
		k.own = nonce[:]
	}
	sealed := k.aead.Seal(make([]byte, 0, len(plaintext)+macSize), nonce[:], plaintext, nil)
	text, mac := sealed[:len(plaintext)], sealed[len(plaintext):]
	b := make([]byte, 0, base64.StdEncoding.EncodedLen(len(text))+base64.StdEncoding.EncodedLen(len(wrapped))+96)
	// In the order in which the deployed package writes them.
	b = base64.StdEncoding.AppendEncode(append(b, `{"nonce":"`...), nonce[:])
	b = base64.StdEncoding.AppendEncode(append(b, `","mac":"`...), mac)
	if wrapped != nil {
		b = base64.StdEncoding.AppendEncode(append(b, `","key":"`...), wrapped)
	}
	b = base64.StdEncoding.AppendEncode(append(b, `","ciphertext":"`...), text)
	return append(b, `"}`...), nil
}

// Open opens the envelope of an answer.
func (k *ResponseKey) Open(body []byte, lim Limits) ([]byte, error) {
	plaintext, _, err := k.openAnswer(body, lim)
	return plaintext, err
}

func (k *ResponseKey) openAnswer(body []byte, lim Limits) (plaintext, nonce []byte, err error) {
	e, err := parse(body, lim)
	if err != nil {
		return nil, nil, err
	}
	if e.key != nil {
		return nil, nil, Errorf(Malformed, "the envelope has a member key, as those of requests have and not those of answers")
	}
	// TMCP-23.4-6: A client MUST refuse its own sealed request as an answer.
	if k.own != nil && bytes.Equal(e.nonce, k.own) {
		return nil, nil, Errorf(Replayed, "what came is the request itself, sent back")
	}
	plaintext, err = k.open(e)
	return plaintext, e.nonce, err
}

func (k *ResponseKey) open(e *Envelope) ([]byte, error) {
	plaintext, err := k.aead.Open(e.sealed[:0], e.nonce, e.sealed, nil)
	if err != nil {
		return nil, errOpen()
	}
	return plaintext, nil
}
