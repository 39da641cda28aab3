package spec_test

import (
	"testing"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
)

// encode writes a frame by section 7.1, for tests that change one.
func encode(f *protocol.Frame) []byte {
	n := map[int]int{1: 9, 2: 6, 3: 7}[f.Type]
	b := dcbor.AppendUint(dcbor.AppendArray(nil, n), uint64(f.Type))
	if f.Type == 1 {
		b = dcbor.AppendUint(b, uint64(f.Suite))
		b = dcbor.AppendBytes(b, f.KeyDigest[:])
		b = dcbor.AppendBytes(b, f.Enc)
		b = dcbor.AppendBytes(b, f.ClientSettings)
		b = dcbor.AppendText(b, f.Revision)
		b = appendOptional(b, f.ClientKey)
	} else {
		b = dcbor.AppendBytes(b, f.Context[:])
		b = dcbor.AppendUint(dcbor.AppendUint(b, f.Seq), f.N)
	}
	b = dcbor.AppendBool(b, f.Final)
	if f.Type == 3 {
		b = appendOptional(b, f.Salt)
	}
	return dcbor.AppendBytes(b, f.Ciphertext)
}

func appendOptional(b, v []byte) []byte {
	if v == nil {
		return dcbor.AppendNull(b)
	}
	return dcbor.AppendBytes(b, v)
}

func (w *world) change(frame []byte, f func(*protocol.Frame)) []byte {
	w.Helper()
	g := *w.frame(frame)
	f(&g)
	return encode(&g)
}

func swapSettings(t testing.TB, w *world, frame []byte, s *protocol.Settings) []byte {
	t.Helper()
	return w.change(frame, func(f *protocol.Frame) { f.ClientSettings = s.CBOR() })
}

func flip(b []byte) []byte {
	c := append([]byte(nil), b...)
	c[len(c)/2] ^= 1
	return c
}

func TestEncodeIsTheWire(t *testing.T) {
	w := newWorld(t)
	s := w.server()
	c := w.client(s)
	_, open := w.seal(c)
	r := w.open(s, open)
	answers := w.answer(r, "{}", "{}")
	w.exchange(c, s)
	_, next := w.seal(c)
	for _, b := range append(answers, open, next) {
		if got := w.change(b, func(*protocol.Frame) {}); string(got) != string(b) {
			t.Errorf("frame\n%x\nwas written again as\n%x", b, got)
		}
	}
}
