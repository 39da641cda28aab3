package policywasm

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// An Input is a document that policies judge, in the one spelling that it has:
// guests in different languages read other spellings differently, and some of
// them then allow. Make it with [NewInput]; several policies can share it.
type Input struct {
	json []byte
	cbor func() ([]byte, error)
}

const inputDepth = 32

// NewInput checks and canonicalises a JSON document: at most limit bytes and 32
// levels, no double names, valid UTF-8, and only integers between -2^53 and
// 2^53, both excluded.
func NewInput(doc jsontext.Value, limit int) (*Input, error) {
	if err := jsonrpc.Check(doc, jsonrpc.Limits{MaxBytes: limit, MaxDepth: inputDepth}); err != nil {
		return nil, fail(ReasonInput, err.Error())
	}
	d := jsontext.NewDecoder(bytes.NewReader(doc))
	for range 2 * len(doc) { // more than there are tokens
		tok, err := d.ReadToken()
		if err != nil {
			break // the end; all else was checked
		}
		if tok.Kind() == '0' && !integer(tok.String()) {
			return nil, fail(ReasonInput, fmt.Sprintf("%.40s is no integer between -2^53 and 2^53, both excluded", tok))
		}
	}
	v := doc.Clone()
	if err := v.Canonicalize(); err != nil {
		return nil, fail(ReasonInput, err.Error())
	}
	in := &Input{json: v}
	in.cbor = sync.OnceValues(func() ([]byte, error) { return dcbor.FromJSON(nil, in.json) })
	return in, nil
}

// integer reports whether s is spelled as an integer, and survives a double.
func integer(s string) bool {
	digits := s
	if len(s) > 0 && s[0] == '-' {
		digits = s[1:]
	}
	if len(digits) == 0 || len(digits) > 16 || s == "-0" {
		return false
	}
	var n int64
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int64(c-'0')
	}
	return n < 1<<53
}

// Bytes are the document as a policy of that encoding gets it.
func (in *Input) Bytes(e Encoding) ([]byte, error) {
	switch {
	case in == nil || in.json == nil:
		return nil, fail(ReasonInput, "no document; make it with NewInput")
	case e == CBOR:
		return in.cbor()
	}
	return in.json, nil
}
