package policy

import (
	"github.com/trustedmcp/tmcp/internal/dcbor"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	c "github.com/trustedmcp/tmcp/policy-wasm/corpus"
)

// Places in the memories of the suite's guests.
const (
	answerAt = 16     // see corpus
	scratch  = 4096   // of guests that call imports
	inputAt  = 40_000 // of guests with more data than those of corpus
)

// allow is the end of a function that allows.
func allow() []byte { return c.Packed(answerAt, len(c.AllowAnswer)) }

// appraise is a guest whose appraise runs code first.
func appraise(code ...any) c.Guest { return c.Guest{Appraise: c.Code(append(code, allow())...)} }

// unless traps where what is on the stack is not n.
func unless(n int64) []byte { return c.Cat(c.Const(c.I32, n), 0x47, 0x04, c.Void, 0x00, 0x0b) }

// word is the i32 at a place in the memory.
func word(at int64) []byte { return c.Cat(c.Const(c.I32, at), 0x28, 2, 0) }

// segment is data at a place.
func segment(at int64, b []byte) []byte { return c.Cat(0, c.Const(c.I32, at), 0x0b, c.Sized(b)) }

// expects is a guest that allows where its input has exactly these bytes, and
// denies others.
func expects(enc policywasm.Encoding, want []byte) []byte {
	meta := c.Meta()
	meta.Encoding = enc
	allow, deny := []byte(c.AllowAnswer), []byte(c.DenyAnswer)
	if enc == policywasm.CBOR {
		allow, deny = cbor(allow), cbor(deny)
	}
	const wantAt, denyAt = 1024, 600
	n := int64(len(want))
	i := byte(2)
	no := c.Cat(0x04, c.Void, c.Packed(denyAt, len(deny)), 0x0f, 0x0b)
	body := c.Locals([][]byte{c.Group(1, c.I32)},
		0x20, 1, c.Const(c.I32, n), 0x47, no, // another length
		0x02, c.Void, 0x03, c.Void,
		0x20, i, c.Const(c.I32, n), 0x4f, 0x0d, 1, // all of it seen
		0x20, 0, 0x20, i, 0x6a, 0x2d, 0, 0, c.Const(c.I32, wantAt), 0x20, i, 0x6a, 0x2d, 0, 0, 0x47, no,
		0x20, i, c.Const(c.I32, 1), 0x6a, 0x21, i, 0x0c, 0,
		0x0b, 0x0b,
		c.Packed(answerAt, len(allow)))
	return c.Guest{Metadata: meta, Answer: string(allow), Appraise: body, Authorize: body, Allocate: c.Code(c.Const(c.I32, inputAt)),
		Data: [][]byte{segment(denyAt, deny), segment(wantAt, want)}}.Module()
}

func cbor(js []byte) []byte {
	b, err := dcbor.FromJSON(nil, js)
	mustf(err == nil, "%s: %v", js, err)
	return b
}
