package spec_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/protocol"
)

// stream is a call with the frames of its answer, none of them delivered.
func (w *world) stream(c *protocol.Client, s *protocol.Server, bodies ...string) (*protocol.Call, [][]byte) {
	w.Helper()
	call, frame := w.seal(c)
	return call, w.answer(w.open(s, frame), bodies...)
}

// TMCP-9.1-1: The frames of an answer MUST be numbered n = 0, 1, 2 and so on without a gap.
// TMCP-9.1-2: Exactly one frame of an answer, the last, MUST have final set.
// TMCP-9.1-3: A client MUST deliver the messages of an answer in the order of n.
// TMCP-6.3-2: A server MUST use one salt for all answers of a context instance.
func TestAnswer(t *testing.T) {
	w := newWorld(t)
	s := w.server()
	c := w.client(s)
	salt := []byte(nil)
	for range 3 {
		call, frame := w.seal(c)
		r := w.open(s, frame)
		frames := w.answer(r, "0", "1", "2")
		for i, b := range frames {
			f := w.frame(b)
			if f.N != uint64(i) || f.Final != (i == 2) || f.Context != call.Context() || f.Seq != call.Seq() {
				t.Errorf("frame %d: n %d, final %v", i, f.N, f.Final)
			}
			if i > 0 {
				continue
			}
			if salt != nil && w.frame(frame).Type == 2 && !bytes.Equal(f.Salt, salt) {
				t.Error("another salt in the same context")
			}
			salt = f.Salt
		}
		if _, err := r.Seal(nil, msg("3"), true); err == nil {
			t.Error("a frame was sealed after the final one")
		}
		if got := w.deliver(call, frames...); !slices.Equal(got, []string{"0", "1", "2"}) {
			t.Errorf("delivered %v", got)
		}
		w.ok(call.Close())
	}
}

// TMCP-9.1-4: A client MUST end with `answer-out-of-order` on a frame whose n is above the next expected one.
// TMCP-9.1-5: A client MUST end with `after-final` on a frame of an answer after its final one
// TMCP-9.1-6: A client MUST end with `spliced` on a frame whose ctx-id and seq are those of another request.
// TMCP-9.1-7: A client MUST end with `answer-invalid` on a frame that does not open.
// TMCP-9.2-1: A client MUST end with `truncated` when the stream that carries an answer ends before the final frame.
// TMCP-9.2-2: A client MUST NOT report a response as complete before the final frame has opened.
// TMCP-9.3-2: A client MUST ignore a frame whose n was delivered before and that opens again.
// TMCP-9.3-3: A client MUST end with `answer-invalid` on a frame whose n was delivered before and that does not open.
func TestBrokenAnswers(t *testing.T) {
	w := newWorld(t)
	s := w.server()
	c := w.client(s)
	w.exchange(c, s)
	edit := func(b []byte, f func(*protocol.Frame)) []byte { return w.change(b, f) }
	_, foreign := w.stream(c, s, "x", "y", "z") // same context, another seq
	_, stranger := w.stream(w.client(s), s, "x", "y", "z")
	for _, tt := range []struct {
		name string
		want protocol.Reason // "" for a good answer
		seq  func(f [][]byte) [][]byte
	}{
		{"whole", "", func(f [][]byte) [][]byte { return f }},
		{"redelivered", "", func(f [][]byte) [][]byte { return [][]byte{f[0], f[1], f[0], f[1], f[2], f[2]} }},
		{"lost", protocol.AnswerOutOfOrder, func(f [][]byte) [][]byte { return [][]byte{f[0], f[2]} }},
		{"swapped", protocol.AnswerOutOfOrder, func(f [][]byte) [][]byte { return [][]byte{f[1], f[0], f[2]} }},
		{"nothing", protocol.Truncated, func(f [][]byte) [][]byte { return nil }},
		{"cut", protocol.Truncated, func(f [][]byte) [][]byte { return f[:2] }},
		{"spliced from another request", protocol.Spliced, func(f [][]byte) [][]byte { return [][]byte{f[0], foreign[1], f[2]} }},
		{"spliced from another context", protocol.Spliced, func(f [][]byte) [][]byte { return [][]byte{f[0], stranger[1], f[2]} }},
		{"altered", protocol.AnswerInvalid, func(f [][]byte) [][]byte { return [][]byte{f[0], flip(f[1]), f[2]} }},
		{"redelivered and altered", protocol.AnswerInvalid, func(f [][]byte) [][]byte { return [][]byte{f[0], f[1], flip(f[1]), f[2]} }},
		{"made final", protocol.AnswerInvalid, func(f [][]byte) [][]byte {
			return [][]byte{f[0], edit(f[1], func(g *protocol.Frame) { g.Final = true })}
		}},
		{"made not final", protocol.AnswerInvalid, func(f [][]byte) [][]byte {
			return [][]byte{f[0], f[1], edit(f[2], func(g *protocol.Frame) { g.Final = false })}
		}},
		{"renumbered", protocol.AnswerInvalid, func(f [][]byte) [][]byte {
			return [][]byte{f[0], edit(f[2], func(g *protocol.Frame) { g.N = 1 })}
		}},
		{"under another request's name", protocol.AnswerInvalid, func(f [][]byte) [][]byte {
			return [][]byte{f[0], edit(foreign[1], func(g *protocol.Frame) { g.Seq = w.frame(f[1]).Seq })}
		}},
		{"after the end", protocol.AfterFinal, func(f [][]byte) [][]byte {
			return append(f, edit(f[2], func(g *protocol.Frame) { g.N = 3 }))
		}},
	} {
		call, frames := w.stream(c, s, "0", "1", "2")
		var got []string
		var err error
		complete := false
		for _, f := range tt.seq(frames) {
			content, final, e := call.Open(f)
			if e == protocol.ErrRedelivered {
				continue
			}
			if err = e; err != nil {
				break
			}
			got = append(got, string(content.Body))
			complete = complete || final
		}
		if err == nil {
			err = call.Close()
		}
		whole := strings.Join(got, "") == "012"
		switch {
		case tt.want == "":
			if err != nil || !complete || !whole {
				t.Errorf("%s: %v, delivered %v, complete %v", tt.name, err, got, complete)
			}
		default:
			w.want(err, tt.want)
			if complete && tt.want != protocol.AfterFinal {
				t.Errorf("%s: a broken answer was reported as complete", tt.name)
			}
			if !strings.HasPrefix("012", strings.Join(got, "")) {
				t.Errorf("%s: delivered %v", tt.name, got)
			}
			// And nothing more is delivered after an error.
			if _, _, e := call.Open(frames[0]); e == nil {
				t.Errorf("%s: delivered after an error", tt.name)
			}
		}
	}
}

// TMCP-9.1-8: The frames of a request MUST be numbered likewise, with exactly one final frame.
// TMCP-9.1-9: A server MUST answer request frames out of order, or after the final one, with `out-of-order`.
// TMCP-8.1-1: except further frames of the request that opened it.
func TestChunks(t *testing.T) {
	w := newWorld(t)
	s := w.server()
	outer := protocol.Outer{Carrier: protocol.HTTP}
	head := protocol.Content{Kind: protocol.KindHTTP, Body: []byte("0"), Meta: protocol.Meta{Method: "POST", Target: "/mcp"}}
	request := func() (frames [][]byte) {
		call, f, err := w.client(s).SealFirst(head, outer, false, w.now)
		w.ok(err)
		frames = append(frames, f)
		for i, body := range []string{"1", "2", "3"} {
			f, err := call.SealNext(nil, protocol.Content{Kind: protocol.KindData, Body: []byte(body)}, i == 2)
			w.ok(err)
			frames = append(frames, f)
		}
		if _, err := call.SealNext(nil, protocol.Content{Kind: protocol.KindData}, true); err == nil {
			t.Error("a chunk was sealed after the final one")
		}
		for i, b := range frames {
			f := w.frame(b)
			if f.N != uint64(i) || f.Final != (i == 3) || (f.Type == 1) != (i == 0) {
				t.Errorf("chunk %d: frame type %d, n %d, final %v", i, f.Type, f.N, f.Final)
			}
		}
		return frames
	}
	start := func(f []byte) *protocol.Request {
		r, err := s.Open(f, outer, w.now)
		w.ok(err)
		return r
	}
	f := request()
	r := start(f[0])
	body := string(r.Content.Body)
	for _, b := range f[1:] {
		w.ok(r.OpenNext(b))
		body += string(r.Content.Body)
	}
	if body != "0123" || !r.Final {
		t.Errorf("body %q, final %v", body, r.Final)
	}
	w.want(r.OpenNext(f[3]), protocol.OutOfOrder)

	f = request()
	w.want(start(f[0]).OpenNext(f[2]), protocol.OutOfOrder)
	f = request()
	r = start(f[0])
	w.ok(r.OpenNext(f[1]))
	w.want(r.OpenNext(f[1]), protocol.OutOfOrder)
	f, other := request(), request()
	w.want(start(f[0]).OpenNext(other[1]), protocol.OutOfOrder)
	f = request()
	w.want(start(f[0]).OpenNext(w.change(f[1], func(g *protocol.Frame) { g.Final = true })), protocol.OpenFailed)
}

// TMCP-6.3-1: A server MUST choose a fresh random salt each time it derives a context from an encapsulation.
// TMCP-6.3-3: A client MUST take the answer keys of each answer from the salt in that answer's frame 0.
// TMCP-6.4-1: A sender MUST NOT seal two different plaintexts with the same key, seq and n.
func TestSalts(t *testing.T) {
	w := newWorld(t)
	s := w.server()
	salts := map[string]bool{}
	for range 20 {
		call, frames := w.stream(w.client(s), s, "a")
		salt := string(w.frame(frames[0]).Salt)
		if len(salt) != 16 || salts[salt] {
			t.Fatalf("salt %x", salt)
		}
		salts[salt] = true
		// Another salt gives other keys.
		bad := w.change(frames[0], func(f *protocol.Frame) { f.Salt = flip(f.Salt) })
		_, _, err := call.Open(bad)
		w.want(err, protocol.AnswerInvalid)
	}
	// Within a request each frame has a place of its own.
	call, frames := w.stream(w.client(s), s, strings.Repeat("a", 64), strings.Repeat("a", 64), strings.Repeat("a", 64))
	seen := map[string]bool{}
	for _, f := range frames {
		if c := string(w.frame(f).Ciphertext); seen[c] {
			t.Error("equal plaintexts gave equal ciphertexts")
		} else {
			seen[c] = true
		}
	}
	w.deliver(call, frames...)
}

// TMCP-10.1-1: A trust error MUST have the code and the reason that belong together in section 17.4.
// TMCP-10.1-2: A trust error MUST carry `data.extension` and `data.reason`.
// TMCP-6.5-2: A server MUST answer a frame that does not open with `open-failed`, whatever the cause.
// TMCP-10.1-5: nor anything by which two causes of `open-failed` can be told apart.
func TestOpenFailedIsOne(t *testing.T) {
	w := newWorld(t)
	s := w.server()
	_, frame := w.seal(w.client(s))
	answers := map[string][]string{}
	for name, f := range map[string]func(*protocol.Frame){
		"ML-KEM half":      func(f *protocol.Frame) { f.Enc = edit(f.Enc, 0) },
		"X25519 half":      func(f *protocol.Frame) { f.Enc = edit(f.Enc, len(f.Enc)-1) },
		"low-order X25519": func(f *protocol.Frame) { f.Enc = append(bytes.Clone(f.Enc[:1088]), make([]byte, 32)...) },
		"ciphertext":       func(f *protocol.Frame) { f.Ciphertext = edit(f.Ciphertext, 3) },
		"tag":              func(f *protocol.Frame) { f.Ciphertext = edit(f.Ciphertext, len(f.Ciphertext)-1) },
		"revision":         func(f *protocol.Frame) { f.Revision = "2025-06-18" },
		"client settings": func(f *protocol.Frame) {
			f.ClientSettings = settings(t, protocol.Offer{Mode: protocol.ModePreferred}).CBOR()
		},
	} {
		e := w.refuses(s, w.change(frame, f), protocol.OpenFailed)
		if e == nil {
			continue
		}
		text := string(e.Response("7"))
		answers[text] = append(answers[text], name)
		if !strings.Contains(text, `"code":29008`) || !strings.Contains(text, `"reason":"open-failed"`) || !strings.Contains(text, `"extension":"org.trustedmcp/trust"`) {
			t.Errorf("%s: the error is %s", name, text)
		}
	}
	if len(answers) != 1 {
		t.Errorf("causes can be told apart: %v", answers)
	}
	w.open(s, frame)
}

func edit(b []byte, at int) []byte {
	c := bytes.Clone(b)
	c[at] ^= 0x10
	return c
}
