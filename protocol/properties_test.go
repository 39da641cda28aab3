package protocol_test

import (
	"bytes"
	"fmt"
	"reflect"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/trustedmcp/tmcp/protocol"
)

// genContent draws any content that may be sealed, of one of the kinds.
func genContent(kinds ...protocol.Kind) *rapid.Generator[protocol.Content] {
	return rapid.Custom(func(t *rapid.T) protocol.Content {
		c := protocol.Content{Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Body: rapid.SliceOf(rapid.Byte()).Draw(t, "body")}
		if n := rapid.SampledFrom([]int{0, 0, 200, 255, 300, 70_000}).Draw(t, "more"); n > 0 {
			c.Body = append(c.Body, bytes.Repeat([]byte{'x'}, n)...)
		}
		m := &c.Meta
		text := rapid.StringN(0, 30, 60)
		if rapid.Bool().Draw(t, "has status") {
			m.Status = rapid.IntRange(100, 599).Draw(t, "status")
		}
		for range rapid.IntRange(0, 3).Draw(t, "fields") {
			m.Fields = append(m.Fields, protocol.Field{
				Name:  rapid.StringMatching("[a-z0-9!#$%&'*+.^_`|~-]{1,30}").Draw(t, "name"),
				Value: rapid.SliceOf(rapid.ByteRange(' ', 255)).Draw(t, "value"),
			})
		}
		m.Target, m.Method = text.Draw(t, "target"), text.Draw(t, "method")
		m.EventID, m.EventName = text.Draw(t, "id"), text.Draw(t, "event")
		m.Retry = rapid.IntRange(0, 1<<31-1).Draw(t, "retry")
		m.Stream = rapid.Bool().Draw(t, "stream")
		return c
	})
}

func equal(a, b protocol.Content) bool {
	for _, c := range []*protocol.Content{&a, &b} { // nil and empty are one
		if len(c.Body) == 0 {
			c.Body = nil
		}
		if len(c.Meta.Fields) == 0 {
			c.Meta.Fields = nil
		}
		c.Meta.Fields = append([]protocol.Field(nil), c.Meta.Fields...)
		for i := range c.Meta.Fields {
			c.Meta.Fields[i].Value = append([]byte{}, c.Meta.Fields[i].Value...)
		}
	}
	return reflect.DeepEqual(a, b)
}

// Whatever is sealed is what is opened, in both directions, padded or not, cold
// and warm, with both suites.
func TestAnyContentRoundTrips(t *testing.T) {
	for _, suite := range []protocol.Suite{protocol.SuiteHybrid, protocol.SuiteX25519} {
		for _, pad := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v padded %v", suite, pad), func(t *testing.T) {
				id := must(protocol.GenerateIdentity(uri))
				server := must(protocol.NewServer(protocol.ServerConfig{Identity: id, Pad: pad}))
				p := pair{server: server}.connect(t, id, suite)
				if pad {
					p.client = must(protocol.NewClient(p.peer, p.client.Settings(), protocol.PadRequests()))
				}
				rapid.Check(t, func(rt *rapid.T) {
					want := genContent(protocol.KindMessage, protocol.KindGet, protocol.KindDelete).Draw(rt, "request")
					call, frame, err := p.client.Seal(want, envelope, t0)
					if err != nil {
						rt.Fatal(err)
					}
					req, err := p.server.Open(frame, envelope, t0)
					if err != nil {
						rt.Fatal(err)
					}
					if !equal(req.Content, want) {
						rt.Fatalf("request\n got %+v\nwant %+v", req.Content, want)
					}
					n := rapid.IntRange(1, 3).Draw(rt, "frames")
					for i := range n {
						want := genContent(protocol.KindMessage, protocol.KindEnd, protocol.KindRaw).Draw(rt, "answer")
						answer, err := req.Seal(nil, want, i == n-1)
						if err != nil {
							rt.Fatal(err)
						}
						got, final, err := call.Open(answer)
						if err != nil || final != (i == n-1) || !equal(got, want) {
							rt.Fatalf("answer %v\n got %+v\nwant %+v", err, got, want)
						}
					}
					if err := call.Close(); err != nil {
						rt.Fatal(err)
					}
				})
			})
		}
	}
}

// What the receiver would refuse can't be sealed.
func TestSealRefusesWhatNobodyWouldOpen(t *testing.T) {
	p := newPair(t)
	req, call := p.call(t, "x")
	bad := map[string]protocol.Meta{
		"upper case":    {Fields: []protocol.Field{{Name: "Accept", Value: nil}}},
		"line break":    {Fields: []protocol.Field{{Name: "a", Value: []byte("b\r\nc")}}},
		"not UTF-8":     {EventID: "\xff"},
		"status":        {Status: 42},
		"negative":      {Retry: -1},
		"retry too far": {RetryOf: &protocol.RetryOf{Seq: 1 << 48}},
	}
	for name, meta := range bad {
		c := message("x")
		c.Meta = meta
		_, _, err := p.client.Seal(c, envelope, t0)
		if !protocol.IsReason(err, protocol.CannotSeal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := req.Seal(nil, message("late"), true)
	wantReason(t, err, protocol.AfterFinal)
	_, err = call.SealNext(nil, message("more"), true)
	wantReason(t, err, protocol.CannotSeal)
}

// No frame with a bit changed is accepted: every bit of next and answer frames,
// a draw of those of open frames.
func TestNoFlippedBitIsAccepted(t *testing.T) {
	p := newPair(t)
	call, open := p.seal(t, "cold")
	step := 37
	for bit := 0; bit < 8*len(open); bit += step {
		bad := bytes.Clone(open)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := p.server.Open(bad, envelope, t0); err == nil {
			t.Fatalf("open frame: bit %d", bit)
		}
	}
	req, err := p.server.Open(open, envelope, t0)
	if err != nil {
		t.Fatal(err)
	}
	answer := must(req.Seal(nil, message("answer"), true))
	for bit := range 8 * len(answer) {
		bad := bytes.Clone(answer)
		bad[bit/8] ^= 1 << (bit % 8)
		fresh := *call
		if _, _, err := fresh.Open(bad); err == nil || err == protocol.ErrRedelivered {
			t.Fatalf("answer frame: bit %d: %v", bit, err)
		}
	}
	if _, _, err := call.Open(answer); err != nil {
		t.Fatal(err)
	}
	_, next := p.seal(t, "warm")
	for bit := range 8 * len(next) {
		bad := bytes.Clone(next)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := p.server.Open(bad, envelope, t0); err == nil {
			t.Fatalf("next frame: bit %d", bit)
		}
	}
	if _, err := p.server.Open(next, envelope, t0); err != nil {
		t.Fatalf("the frame itself, after all these: %v", err)
	}
}

// Whatever a path does to the frames of an answer, what is delivered is a
// beginning of it, in order, and only the whole of it is complete.
func TestAnswersAreDeliveredInOrderOrNotAtAll(t *testing.T) {
	p := newPair(t)
	p.call(t, "cold")
	rapid.Check(t, func(rt *rapid.T) {
		call, frame := p.seal(t, "stream")
		req := must(p.server.Open(frame, envelope, t0))
		_, otherFrame := p.seal(t, "other")
		other := must(p.server.Open(otherFrame, envelope, t0))
		n := rapid.IntRange(1, 5).Draw(rt, "n")
		var frames [][]byte
		for i := range n {
			frames = append(frames, must(req.Seal(nil, message(fmt.Sprint(i)), i == n-1)))
			frames = append(frames, must(other.Seal(nil, message("of another call"), i == n-1)))
		}
		// Even places are of this call.
		order := rapid.SliceOfN(rapid.IntRange(0, 2*n-1), 0, 2*n).Draw(rt, "arrivals")
		if rapid.Bool().Draw(rt, "mostly in order") {
			order = nil
			for i := range n {
				order = append(order, 2*i)
			}
			if at := rapid.IntRange(0, len(order)).Draw(rt, "insert at"); at < len(order) {
				order = append(order[:at:at], append([]int{rapid.IntRange(0, 2*n-1).Draw(rt, "inserted")}, order[at:]...)...)
			}
		}
		next, failed := 0, false
		for _, i := range order {
			c, final, err := call.Open(frames[i])
			switch {
			case err == protocol.ErrRedelivered:
				if i%2 != 0 || i/2 >= next {
					rt.Fatalf("arrival %d: redelivered, but it is new", i)
				}
			case err != nil:
				failed = true
			case failed:
				rt.Fatal("a frame was delivered after an error")
			case i != 2*next || string(c.Body) != fmt.Sprint(next) || final != (next == n-1):
				rt.Fatalf("arrival %d delivered %q, next is %d", i, c.Body, next)
			default:
				next++
			}
		}
		err := call.Close()
		if complete := next == n && !failed; (err == nil) != complete {
			rt.Fatalf("delivered %d of %d, failed %v: Close says %v", next, n, failed, err)
		}
		if !failed && next < n {
			wantReason(t, err, protocol.Truncated)
		}
	})
}

// The frames of a message in chunks arrive whole, in order, or not.
func TestChunksAreOpenedInOrder(t *testing.T) {
	p := newPair(t)
	outer := protocol.Outer{Carrier: protocol.HTTP}
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(rt, "n")
		head := protocol.Content{Kind: protocol.KindHTTP, Meta: protocol.Meta{Method: "POST", Target: "/mcp"}, Body: []byte("0")}
		call, first, err := p.client.SealFirst(head, outer, n == 1, t0)
		if err != nil {
			rt.Fatal(err)
		}
		var chunks [][]byte
		for i := 1; i < n; i++ {
			chunks = append(chunks, must(call.SealNext(nil, protocol.Content{Kind: protocol.KindData, Body: []byte(fmt.Sprint(i))}, i == n-1)))
		}
		req, err := p.server.Open(first, outer, t0)
		if err != nil {
			rt.Fatal(err)
		}
		got := 1
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, max(0, n-2)), 0, 2*n).Draw(rt, "arrivals") {
			if i >= len(chunks) {
				continue
			}
			err := req.OpenNext(chunks[i])
			if (err == nil) != (i+1 == got) {
				rt.Fatalf("chunk %d where %d is next: %v", i+1, got, err)
			}
			if err == nil {
				if string(req.Content.Body) != fmt.Sprint(got) {
					rt.Fatalf("chunk %d holds %q", got, req.Content.Body)
				}
				got++
			}
		}
		if req.Final != (got == n) {
			rt.Fatalf("final %v after %d of %d", req.Final, got, n)
		}
	})
}

// More contexts than have expanded keys at a time are all usable.
func TestEvictedContextsStillWork(t *testing.T) {
	p := newPair(t, protocol.SuiteX25519)
	const n = 1100 // more than are kept hot
	clients := make([]pair, n)
	for i := range clients {
		clients[i] = pair{server: p.server, peer: p.peer, client: must(protocol.NewClient(p.peer, p.client.Settings()))}
		clients[i].call(t, "cold")
	}
	for round := range 2 {
		for _, c := range clients {
			req, _ := c.call(t, "warm")
			if req.Seq != uint64(round+1) {
				t.Fatalf("seq %d in round %d", req.Seq, round)
			}
		}
	}
}

// Many clients with one server at once; run with -race.
func TestConcurrentUse(t *testing.T) {
	p := newPair(t, protocol.SuiteX25519)
	var wg sync.WaitGroup
	seen := sync.Map{}
	for range 8 {
		wg.Go(func() {
			for range 30 { // in all below what Attest answers at one moment
				call, frame, err := p.client.Seal(message("x"), envelope, t0)
				if err != nil {
					t.Error(err)
					return
				}
				req, err := p.server.Open(frame, envelope, t0)
				if err != nil {
					t.Error(err)
					return
				}
				if _, double := seen.LoadOrStore(fmt.Sprintf("%x %d", req.Context, req.Seq), true); double {
					t.Error("two messages at one place")
				}
				answer, err := req.Seal(nil, message("y"), true)
				if err != nil {
					t.Error(err)
					return
				}
				if _, _, err := call.Open(answer); err != nil {
					t.Error(err)
				}
				if _, err := p.server.Attest(bytes.Repeat([]byte{1}, 8), t0); err != nil {
					t.Error(err)
				}
				p.server.Expire(t0)
			}
		})
	}
	wg.Wait()
}

// Copies of one frame that arrive at the same time run once.
func TestCopiesRunOnce(t *testing.T) {
	p := newPair(t, protocol.SuiteX25519)
	for i := range 10 { // the first is cold, the others warm
		call, frame := p.seal(t, "pay")
		var wg sync.WaitGroup
		var mu sync.Mutex
		var ran []*protocol.Request
		for range 8 {
			wg.Go(func() {
				if req, err := p.server.Open(frame, envelope, t0); err == nil {
					mu.Lock()
					defer mu.Unlock()
					ran = append(ran, req)
				} else if !protocol.IsReason(err, protocol.Replayed) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(ran) != 1 {
			t.Fatalf("message %d ran %d times", i, len(ran))
		}
		if _, _, err := call.Open(must(ran[0].Seal(nil, message("done"), true))); err != nil {
			t.Fatal(err)
		}
	}
}
