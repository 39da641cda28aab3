package policywasm

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/policy-wasm/document"
)

// An Input is a document that policies judge, in the one spelling that it has:
// guests in different languages read other spellings differently, and some of
// them then allow. Make it with [NewInput] or [NewDocument]; several policies
// can share it.
type Input struct {
	cbor  []byte
	depth int // levels at most
	once  sync.Once
	json  []byte // made when a policy asks for it
}

const inputDepth = 32

// NewInput checks and canonicalises a JSON document: at most limit bytes and 32
// levels, no double names, valid UTF-8, and only integers between -2^53 and
// 2^53, both excluded.
func NewInput(doc jsontext.Value, limit int) (*Input, error) {
	if limit > 0 && len(doc) <= limit {
		if in := encodeJSON(doc); in != nil {
			return in, nil
		}
	}
	return slow(doc, limit)
}

// NewDocument is [NewInput] of d as JSON, without the detour. settings, if not
// nil, stand in place of d's own.
func NewDocument(d *document.Document, settings *Input, limit int) (*Input, error) {
	if in := encodeDocument(d, settings, limit); in != nil {
		return in, nil
	}
	whole := *d
	if settings != nil {
		whole.Settings, _ = settings.Bytes(JSON)
	}
	b, err := whole.JSON()
	if err != nil {
		return nil, fail(ReasonInput, err.Error())
	}
	return NewInput(b, limit)
}

// encodeJSON is the input of a document that has nothing wrong with it; else nil.
func encodeJSON(doc []byte) *Input {
	e := encoder{b: make([]byte, 0, len(doc)+16), pairs: pairs{open: make([]pair, 0, 64)}}
	if e.raw(doc, 0); e.bad || doc == nil {
		return nil
	}
	return &Input{cbor: e.b, depth: e.depth}
}

// longest is how many bytes of JSON a byte of CBOR is at most, as with false.
const longest = 6

// encodeDocument is the input of a document that has nothing wrong with it and
// whose JSON is not near the limit; else nil.
func encodeDocument(d *document.Document, settings *Input, limit int) *Input {
	size := 8 << 10
	if settings != nil {
		size += len(settings.cbor)
	}
	e := encoder{b: make([]byte, 0, size), pairs: pairs{open: make([]pair, 0, 64)}}
	e.document(d, settings)
	raw := len(d.Settings)
	if d.Call != nil {
		raw += len(d.Call.Arguments)
	}
	if e.bad || longest*len(e.b)+raw > limit {
		return nil
	}
	return &Input{cbor: e.b, depth: inputDepth}
}

// slow does what [NewInput] says in several passes, and names what is wrong.
func slow(doc jsontext.Value, limit int) (*Input, error) {
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
	b, err := dcbor.FromJSON(nil, doc)
	if err != nil {
		return nil, fail(ReasonInput, err.Error())
	}
	return &Input{cbor: b, depth: inputDepth}, nil
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

// Bytes are the document as a policy of that encoding gets it. They are not to be
// changed.
func (in *Input) Bytes(e Encoding) ([]byte, error) {
	switch {
	case in == nil || in.cbor == nil:
		return nil, fail(ReasonInput, "no document; make it with NewInput")
	case e == CBOR:
		return in.cbor, nil
	}
	in.once.Do(func() {
		w := spelling{b: make([]byte, 0, len(in.cbor)*5/4+64)}
		r := dcbor.NewReader(in.cbor)
		w.value(r)
		in.json = w.b
	})
	return in.json, nil
}
