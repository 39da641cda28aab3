package aicc

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"

	"github.com/go-json-experiment/json"
)

// Envelope is the JSON object of sections 23.3 and 23.4, read and written here
// from the text of the specification.
type Envelope struct {
	Nonce, Mac, Key, Ciphertext []byte // Key is nil in answers
}

// gcm is AES-256-GCM under a key of 32 bytes.
func gcm(key []byte) (cipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// SealWith seals text under a given AES key, for which wrapped stands in the
// envelope.
func SealWith(key, wrapped, text []byte) *Envelope {
	a, err := gcm(key)
	if err != nil {
		return nil
	}
	e := &Envelope{Nonce: random(12), Key: wrapped}
	sealed := a.Seal(nil, e.Nonce, text, nil)
	e.Ciphertext, e.Mac = sealed[:len(text)], sealed[len(text):]
	return e
}

// Seal seals text to a server under a fresh AES key, which it returns too.
func Seal(pub *rsa.PublicKey, text []byte) (e *Envelope, key []byte, err error) {
	key = random(32)
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, key, nil)
	if err != nil {
		return nil, nil, err
	}
	return SealWith(key, wrapped, text), key, nil
}

// Unwrap is the AES key of a request.
func (e *Envelope) Unwrap(priv *rsa.PrivateKey) ([]byte, error) {
	key, err := rsa.DecryptOAEP(sha256.New(), nil, priv, e.Key, nil)
	if err == nil && len(key) != 32 {
		err = errors.New("the wrapped key has not 32 bytes")
	}
	return key, err
}

// Open opens an envelope under its AES key.
func (e *Envelope) Open(key []byte) ([]byte, error) {
	a, err := gcm(key)
	if err != nil {
		return nil, err
	}
	if len(e.Nonce) != 12 || len(e.Mac) != 16 {
		return nil, errors.New("nonce or mac of another length")
	}
	return a.Open(nil, e.Nonce, append(bytes.Clone(e.Ciphertext), e.Mac...), nil)
}

// JSON writes the envelope as the published package does.
func (e *Envelope) JSON() []byte {
	b := append([]byte(`{"nonce":"`), base64.StdEncoding.EncodeToString(e.Nonce)...)
	b = append(append(b, `","mac":"`...), base64.StdEncoding.EncodeToString(e.Mac)...)
	if e.Key != nil {
		b = append(append(b, `","key":"`...), base64.StdEncoding.EncodeToString(e.Key)...)
	}
	b = append(append(b, `","ciphertext":"`...), base64.StdEncoding.EncodeToString(e.Ciphertext)...)
	return append(b, `"}`...)
}

// Read reads an envelope strictly.
func Read(body []byte) (*Envelope, error) {
	var m struct {
		Nonce      *string `json:"nonce"`
		Mac        *string `json:"mac"`
		Key        *string `json:"key"`
		Ciphertext *string `json:"ciphertext"`
	}
	if err := json.Unmarshal(body, &m, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	if m.Nonce == nil || m.Mac == nil || m.Ciphertext == nil {
		return nil, errors.New("a member is missing")
	}
	e := &Envelope{}
	for _, f := range []struct {
		in  *string
		out *[]byte
	}{{m.Nonce, &e.Nonce}, {m.Mac, &e.Mac}, {m.Key, &e.Key}, {m.Ciphertext, &e.Ciphertext}} {
		if f.in == nil {
			continue
		}
		b, err := base64.StdEncoding.Strict().DecodeString(*f.in)
		if err != nil || base64.StdEncoding.EncodeToString(b) != *f.in {
			return nil, errors.New("not the one base64 of its bytes")
		}
		*f.out = b
	}
	if len(e.Nonce) != 12 || len(e.Mac) != 16 {
		return nil, errors.New("nonce or mac of another length")
	}
	return e, nil
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// flip is b with one bit changed.
func flip(b []byte) []byte {
	b = bytes.Clone(b)
	if len(b) > 0 {
		b[len(b)/2] ^= 1
	}
	return b
}
