package spec_test

import (
	"sync"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/protocol"
)

// TMCP-8.1-1: A client MUST NOT send a next frame in a context in which no answer has been authenticated
// TMCP-8.1-2: A client MUST number the requests of a context from 0, by steps of one, in the order in which it seals them.
// TMCP-6.4-2: A client MUST use each seq of a context for one request only
func TestColdThenWarm(t *testing.T) {
	w := newWorld(t)
	s := w.server()
	c := w.client(s)
	ids := map[protocol.ContextID]bool{}
	for range 3 { // no answer yet: an encapsulation each
		call, frame := w.seal(c)
		if f := w.frame(frame); f.Type != 1 || ids[call.Context()] {
			t.Fatalf("a frame of type %d, in context %x", f.Type, call.Context())
		}
		ids[call.Context()] = true
	}
	// An answer that does not open changes nothing.
	call, frame := w.seal(c)
	answer := w.answer(w.open(s, frame), "{}")[0]
	if _, _, err := call.Open(flip(answer)); err == nil {
		t.Fatal("an altered answer opened")
	}
	if _, frame := w.seal(c); w.frame(frame).Type != 1 {
		t.Error("warm after an answer that did not open")
	}
	call, _ = w.exchange(c, s)
	for want := uint64(1); want < 20; want++ {
		_, frame := w.seal(c)
		if f := w.frame(frame); f.Type != 2 || f.Seq != want || f.Context != call.Context() {
			t.Fatalf("frame type %d, seq %d; want a next frame with seq %d", f.Type, f.Seq, want)
		}
	}
}

// TMCP-8.3-1: A server MUST accept each seq of a context for one request only, and answer a second one with `replayed`.
// TMCP-8.3-2: A server MUST accept requests of a context in any order within a window of 1024 sequence numbers, and answer one from before the window with `replayed`.
// TMCP-8.3-3: A server MUST NOT mark a seq as used before a frame of it has opened.
func TestWindow(t *testing.T) {
	w := newWorld(t)
	s := w.server()
	c := w.client(s)
	w.exchange(c, s) // seq 0
	frames := map[uint64][]byte{}
	for range 2100 {
		_, frame := w.seal(c)
		frames[w.frame(frame).Seq] = frame
	}
	w.refuses(s, flip(frames[1]), protocol.OpenFailed) // does not use up seq 1
	w.open(s, frames[1])
	w.refuses(s, frames[1], protocol.Replayed)
	w.open(s, frames[1100])
	w.refuses(s, frames[76], protocol.Replayed) // 1024 before
	w.open(s, frames[77])                       // 1023 before
	for _, n := range []uint64{1099, 500, 501, 78} {
		w.open(s, frames[n])
		w.refuses(s, frames[n], protocol.Replayed)
	}
	// A forged frame far ahead does not move the window.
	w.refuses(s, w.change(frames[600], func(f *protocol.Frame) { f.Seq = 1 << 40 }), protocol.OpenFailed)
	w.open(s, frames[600])
	w.open(s, frames[2100])
	for _, n := range []uint64{1100, 601} {
		w.refuses(s, frames[n], protocol.Replayed)
	}
}

// TMCP-8.4-1: A server MUST remember the ctx-id of every open frame that it has opened, until the key it was sealed to is dropped.
// TMCP-8.4-2: A server MUST answer an open frame whose ctx-id it remembers with `replayed`.
func TestReplayOfOpenFrames(t *testing.T) {
	w := newWorld(t)
	s := w.server()
	var frames [][]byte
	for range 50 {
		_, frame := w.seal(w.client(s))
		w.refuses(s, flip(frame), protocol.OpenFailed)
		w.open(s, frame)
		frames = append(frames, frame)
	}
	for _, f := range frames {
		w.refuses(s, f, protocol.Replayed)
	}
	w.now = w.now.Add(11*60*1e9 - 1) // the last moment of the key
	for _, f := range frames {
		w.refuses(s, f, protocol.Replayed)
	}
	w.now = w.now.Add(1)
	w.refuses(s, frames[0], protocol.UnknownKey)
}

// TMCP-8.2-2: A server MUST bound the number of contexts that hang on one key, and retire the key early when the bound is reached.
// TMCP-8.4-3: A server MUST NOT open another open frame under a key for which it cannot remember it, and answers with `unknown-key` and a newer key, or `busy`.
// TMCP-10.2-1: A server that cannot take more work MUST answer with `busy` rather than hang.
func TestFullKey(t *testing.T) {
	w := newWorld(t)
	s := w.server(func(c *protocol.ServerConfig) { c.MaxContexts = 3 })
	c := w.client(s)
	var frames [][]byte
	for range 4 {
		_, frame := w.seal(c)
		frames = append(frames, frame)
	}
	for _, f := range frames[:3] {
		w.open(s, f)
	}
	e := w.refuses(s, frames[3], protocol.UnknownKey)
	for _, f := range frames[:3] {
		w.refuses(s, f, protocol.Replayed)
	}
	_, frame := w.seal(w.clientOf(e.KeyObject, s))
	w.open(s, frame)
	// Keys in number are bounded too: then the answer is busy, and still
	// nothing that was opened is forgotten.
	last := protocol.Reason("")
	for range 200 {
		_, f := w.seal(w.client(s))
		_, err := s.Open(f, envelope, w.now)
		if err != nil && protocol.IsReason(err, protocol.Busy) {
			last = protocol.Busy
			break
		}
	}
	if last != protocol.Busy {
		t.Error("contexts without bound")
	}
	w.refuses(s, frames[0], protocol.Replayed)
}

// TMCP-8.4-4: A server MUST mark an encapsulation as opened and hand its message on in one step, so that two copies that arrive at the same time do not both run.
func TestCopiesAtOnce(t *testing.T) {
	w := newWorld(t)
	s := w.server()
	for range 30 {
		_, frame := w.seal(w.client(s, protocol.Offer{Suites: []protocol.Suite{protocol.SuiteX25519}}))
		var wg sync.WaitGroup
		opened := make(chan error, 8)
		for range cap(opened) {
			wg.Go(func() {
				_, err := s.Open(frame, envelope, w.now)
				opened <- err
			})
		}
		wg.Wait()
		close(opened)
		ran := 0
		for err := range opened {
			if err == nil {
				ran++
			} else {
				w.want(err, protocol.Replayed)
			}
		}
		if ran != 1 {
			t.Fatalf("one message ran %d times", ran)
		}
	}
}

// TMCP-8.5-1: A client that gets `unknown-context` MUST seal the message afresh, cold, with `retry-of` set to the ctx-id and seq under which it was sealed first.
// TMCP-8.5-2: A server that knows the ctx-id and seq of a `retry-of` as used, by the first seal or by another retry of it, MUST answer with `replayed`.
// TMCP-8.5-3: A server that does not know them as used MUST mark them as used before it hands the message on, so that a delayed original or another retry cannot run afterwards.
// TMCP-8.5-7: A client MUST NOT put `retry-of` into a next frame
func TestRetry(t *testing.T) {
	for _, warm := range []bool{false, true} {
		w := newWorld(t)
		s := w.server()
		c := w.client(s)
		if warm {
			w.exchange(c, s)
		}
		again := func(old *protocol.Call) (*protocol.Call, []byte) {
			call, frame, err := c.SealAgain(old, msg(ping), envelope, w.now)
			w.ok(err)
			if f := w.frame(frame); f.Type != 1 {
				t.Fatalf("sealed again as frame type %d", f.Type)
			}
			return call, frame
		}
		// The original ran: the retry does not.
		call, original := w.seal(c)
		w.open(s, original)
		_, retry := again(call)
		w.refuses(s, retry, protocol.Replayed)
		// The original did not arrive: the retry runs, the original not any
		// more, nor a second retry.
		call, original = w.seal(c)
		call2, retry := again(call)
		r := w.open(s, retry)
		if of := r.Content.Meta.RetryOf; of == nil || of.Context != call.Context() || of.Seq != call.Seq() {
			t.Errorf("retry-of is %v, want %x/%d", of, call.Context(), call.Seq())
		}
		w.refuses(s, original, protocol.Replayed)
		_, retry2 := again(call2)
		w.refuses(s, retry2, protocol.Replayed)
		// A retry of a retry names the first seal.
		call, _ = w.seal(c)
		call2, _ = again(call)
		_, retry2 = again(call2)
		if of := w.open(s, retry2).Content.Meta.RetryOf; of == nil || of.Context != call.Context() || of.Seq != call.Seq() {
			t.Errorf("the second retry names %v, want the first seal %x/%d", of, call.Context(), call.Seq())
		}
	}
}

// TMCP-8.5-8: A server MUST answer a `retry-of` whose seq lies a whole window or more beyond those it has seen of that context with `replayed`, so that a stranger cannot move the window.
func TestRetryFarAhead(t *testing.T) {
	w := newWorld(t)
	s := w.server()
	c := w.client(s)
	victim, _ := w.exchange(c, s)
	_, used := w.seal(c)
	w.open(s, used)
	for seq, bad := range map[uint64]bool{1025: false, 1026: true, 1<<48 - 1: true} {
		content := msg(ping)
		content.Meta.RetryOf = &protocol.RetryOf{Context: victim.Context(), Seq: seq, Expires: w.now.Add(time.Hour)}
		_, frame, err := w.client(s).Seal(content, envelope, w.now)
		w.ok(err)
		if bad {
			w.refuses(s, frame, protocol.Replayed)
		}
		w.refuses(s, used, protocol.Replayed)
	}
}

// TMCP-8.7-1: A client MUST set the client key of its open frames to null where the server's `clientKey` is `none`.
// TMCP-8.7-2: A server whose `clientKey` is `required` MUST answer an open frame without a client key with `client-key-required`.
// TMCP-8.7-3: A server MUST answer a client key that it did not ask for, or does not accept, with `client-key-refused`.
// TMCP-16.2-3: a client MUST NOT present one that the server's settings did not ask for.
func TestClientKeys(t *testing.T) {
	w := newWorld(t)
	s := w.server(offer(t, protocol.Offer{ClientKey: protocol.ClientKeyNone}))
	_, frame := w.seal(w.client(s))
	if k := w.frame(frame).ClientKey; k != nil {
		t.Errorf("client key %x", k)
	}
	w.refuses(s, w.change(frame, func(f *protocol.Frame) { f.ClientKey = make([]byte, 32) }), protocol.ClientKeyRefused)
	w.open(s, frame)
	strict := w.server(func(c *protocol.ServerConfig) {
		offer(t, protocol.Offer{ClientKey: protocol.ClientKeyDemanded})(c)
		c.Clients = &protocol.ClientPolicy{Anchor: protocol.Pin()}
	})
	_, frame = w.seal(w.client(strict))
	w.refuses(strict, frame, protocol.ClientKeyRequired)
}
