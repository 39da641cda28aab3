package protocol_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/trustedmcp/tmcp/protocol"
)

func wantReason(t testing.TB, err error, want protocol.Reason) {
	t.Helper()
	if !protocol.IsReason(err, want) {
		t.Helper()
		t.Fatalf("error %v, want reason %s", err, want)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// seal is Client.Seal of a message with body.
func (p pair) seal(t testing.TB, body string) (*protocol.Call, []byte) {
	t.Helper()
	call, frame, err := p.client.Seal(message(body), envelope, t0)
	if err != nil {
		t.Fatal(err)
	}
	return call, frame
}

func (p pair) again(t testing.TB, old *protocol.Call, body string) (*protocol.Call, []byte) {
	t.Helper()
	call, frame, err := p.client.SealAgain(old, message(body), envelope, t0)
	if err != nil {
		t.Fatal(err)
	}
	return call, frame
}

// A stranger's retry-of must not move a victim's window so far that it wraps
// and forgets what it saw.
func TestRetryOfCannotResetAWindow(t *testing.T) {
	p := newPair(t)
	p.call(t, "cold")
	call, frame := p.seal(t, "transfer")
	if _, err := p.server.Open(frame, envelope, t0); err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{1<<64 - 1, 1<<64 - 2, 1 << 48, 1<<48 - 1} {
		stranger := must(protocol.NewClient(p.peer, p.client.Settings()))
		c := message("x")
		c.Meta.RetryOf = &protocol.RetryOf{Context: call.Context(), Seq: seq, Expires: p.peer.Expires()}
		_, bad, err := stranger.Seal(c, envelope, t0)
		if err == nil {
			if _, err = p.server.Open(bad, envelope, t0); err == nil {
				t.Errorf("a retry of message %d of a context of two messages was accepted", seq)
			}
		}
		_, err = p.server.Open(frame, envelope, t0)
		wantReason(t, err, protocol.Replayed)
		// And the victim can go on.
		_, next := p.seal(t, "next")
		if _, err := p.server.Open(next, envelope, t0); err != nil {
			t.Fatal(err)
		}
	}
}

// Warm frames are cheap, so they must not make the server remember things.
func TestRetryOfOnlyInOpenFrames(t *testing.T) {
	p := newPair(t)
	p.call(t, "cold")
	var made [1]protocol.ContextID
	made[0][0] = 7
	frame := protocol.SealWarmRetry(p.client, message("x"), protocol.RetryOf{Context: made[0]}, envelope)
	_, err := p.server.Open(frame, envelope, t0)
	wantReason(t, err, protocol.MalformedContent)
}

// A message runs at most once on a server, in whatever order its first seal,
// its retries and copies of them arrive, whatever errors were forged to cause
// the retries, and across a renewal of the key.
func TestAtMostOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		id := must(protocol.GenerateIdentity(uri))
		p := pair{server: must(protocol.NewServer(protocol.ServerConfig{Identity: id}))}.connect(t, id, protocol.SuiteX25519)
		warm := rapid.Bool().Draw(rt, "warm")
		forgotten := rapid.Bool().Draw(rt, "first sealed to another replica")
		now := t0
		if warm {
			p.call(t, "cold")
		}
		sealer := p
		if forgotten {
			// The first seal goes to a replica of the same identity.
			other := pair{server: must(protocol.NewServer(protocol.ServerConfig{Identity: id}))}.connect(t, id, protocol.SuiteX25519)
			if warm {
				other.call(t, "cold")
			}
			sealer = other
		}
		call, frame := sealer.seal(t, "pay")
		frames := [][]byte{frame}
		ran := 0
		for i := range rapid.IntRange(0, 3).Draw(rt, "retries") {
			if rapid.Bool().Draw(rt, fmt.Sprintf("renewed%d", i)) {
				now = now.Add(5 * time.Minute) // a new key; the first one lives on until 11 minutes
				if now.Sub(t0) > 10*time.Minute {
					now = t0.Add(10 * time.Minute)
				}
				object, _, err := p.server.KeyObject(now)
				if err != nil {
					rt.Fatal(err)
				}
				peer := must(protocol.VerifyKeyObject(object, protocol.Expect{Identity: uri, Anchor: protocol.Pin(id.Thumbprint()), Settings: p.server.Settings(), Now: now}))
				p.client = must(protocol.NewClient(peer, p.client.Settings()))
			}
			var err error
			call, frame, err = p.client.SealAgain(call, message("pay"), envelope, now)
			if err != nil {
				rt.Fatal(err)
			}
			frames = append(frames, frame)
			if rapid.Bool().Draw(rt, fmt.Sprintf("early%d", i)) {
				frames = append(frames, frame) // so that orders with copies come up
			}
			if rapid.Bool().Draw(rt, fmt.Sprintf("deliver%d", i)) {
				if _, err := p.server.Open(frame, envelope, now); err == nil {
					ran++
				}
			}
		}
		for _, f := range rapid.Permutation(frames).Draw(rt, "order") {
			if _, err := p.server.Open(f, envelope, now); err == nil {
				ran++
			}
		}
		if ran > 1 {
			rt.Fatalf("ran %d times", ran)
		}
	})
}

func TestAtMostOnceConcurrently(t *testing.T) {
	for range 20 {
		p := newPair(t, protocol.SuiteX25519)
		call, first := p.seal(t, "pay")
		frames := [][]byte{first}
		for range 3 {
			var f []byte
			call, f = p.again(t, call, "pay")
			frames = append(frames, f, f)
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		ran := 0
		start := make(chan struct{})
		for _, f := range frames {
			wg.Go(func() {
				<-start
				if _, err := p.server.Open(f, envelope, t0); err == nil {
					mu.Lock()
					ran++
					mu.Unlock()
				}
			})
		}
		close(start)
		wg.Wait()
		if ran != 1 {
			t.Fatalf("ran %d times", ran)
		}
	}
}

// The order that a chain of retries, each naming the one before, would fall to.
func TestRetryOfARetryNamesTheFirstSeal(t *testing.T) {
	for _, warm := range []bool{false, true} {
		p := newPair(t)
		if warm {
			p.call(t, "cold")
		}
		a, frameA := p.seal(t, "pay")
		b, _ := p.again(t, a, "pay")
		_, frameC := p.again(t, b, "pay")
		if _, err := p.server.Open(frameC, envelope, t0); err != nil {
			t.Fatal(err)
		}
		_, err := p.server.Open(frameA, envelope, t0)
		wantReason(t, err, protocol.Replayed)
	}
}

// A message whose first seal ran is not run again by a retry, and a retry that
// ran is not followed by the first.
func TestRetryAndFirstExcludeEachOther(t *testing.T) {
	for _, warm := range []bool{false, true} {
		for _, firstFirst := range []bool{false, true} {
			p := newPair(t)
			if warm {
				p.call(t, "cold")
			}
			a, frameA := p.seal(t, "pay")
			_, frameB := p.again(t, a, "pay")
			frames := [][]byte{frameB, frameA}
			if firstFirst {
				frames = [][]byte{frameA, frameB}
			}
			if _, err := p.server.Open(frames[0], envelope, t0); err != nil {
				t.Fatal(err)
			}
			_, err := p.server.Open(frames[1], envelope, t0)
			wantReason(t, err, protocol.Replayed)
		}
	}
}

// When what the server knew of the first seal is gone with its key, a retry of
// it that was held back must not run: the first may have.
func TestRetryIsRefusedOnceItsFirstSealIsForgotten(t *testing.T) {
	p := newPair(t)
	first, frame, err := p.client.Seal(message("transfer"), envelope, t0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.server.Open(frame, envelope, t0); err != nil {
		t.Fatal(err) // it ran, and its answer was held back
	}
	later := t0.Add(6 * time.Minute) // the server has a new key
	object, _, err := p.server.KeyObject(later)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := protocol.VerifyKeyObject(object, protocol.Expect{
		Identity: uri, Anchor: protocol.Pin(p.server.Identity().Thumbprint()), Settings: p.peer.Settings(), Now: later})
	if err != nil {
		t.Fatal(err)
	}
	client := must(protocol.NewClient(peer, p.client.Settings()))
	_, retry, err := client.SealAgain(first, message("transfer"), envelope, later)
	if err != nil {
		t.Fatal(err)
	}
	gone := p.peer.Expires().Add(time.Minute) // with the first key, its contexts
	_, err = p.server.Open(retry, envelope, gone)
	wantReason(t, err, protocol.Replayed)
	// One second earlier the server still knows that the first seal ran.
	_, err = p.server.Open(retry, envelope, gone.Add(-time.Second))
	wantReason(t, err, protocol.Replayed)
}
