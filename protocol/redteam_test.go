package protocol_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/protocol"
)

var redNow = time.Unix(1_800_000_000, 0)

// redPair is a server, and what a client of given settings verified of it.
func redPair(t testing.TB, cfg protocol.ServerConfig) (*protocol.Server, *protocol.Peer) {
	t.Helper()
	id, err := protocol.GenerateIdentity("https://mcp.example/mcp")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Identity = id
	server, err := protocol.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	object, _, err := server.KeyObject(redNow)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := protocol.VerifyKeyObject(object, protocol.Expect{Identity: id.URI(), Anchor: protocol.Pin(id.Thumbprint()), Settings: server.Settings(), Now: redNow})
	if err != nil {
		t.Fatal(err)
	}
	return server, peer
}

func redHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// What a stranger can make a server keep is bounded by MaxContexts, whatever
// settings it sends with each context.
func TestSettingsFillNoMoreMemoryThanContexts(t *testing.T) {
	const contexts, perContext = 4096, 1536
	filler := map[string]string{
		"profiles":  `"identity"` + strings.Repeat(`,""`, 5000),
		"carriers":  `"http"` + strings.Repeat(`,"http"`, 2200),
		"suites":    `"mlkem768x25519-sha256-aes256gcm"` + strings.Repeat(`,"mlkem768x25519-sha256-aes256gcm"`, 400),
		"escapes":   strings.Repeat(`"\u0001",`, 1500) + `1`,
		"no filler": ``,
	}
	for name, list := range filler {
		t.Run(name, func(t *testing.T) {
			server, peer := redPair(t, protocol.ServerConfig{MaxContexts: contexts})
			before := redHeap()
			n := 0
			for i := 0; ; i++ {
				members := map[string]string{"profiles": `"identity"`, "carriers": `"http"`, "suites": `"mlkem768x25519-sha256-aes256gcm"`}
				members[name] = list
				js := fmt.Sprintf(`{"version":1,"mode":"required","x":%d`, i)
				for k, v := range members {
					js += fmt.Sprintf(`,%q:[%s]`, k, v)
				}
				settings, err := protocol.ParseSettings([]byte(js + "}"))
				if err != nil {
					t.Fatal(err)
				}
				client, err := protocol.NewClient(peer, settings)
				if err != nil {
					t.Fatal(err)
				}
				_, frame, err := client.Seal(protocol.Content{Kind: protocol.KindHTTP, Meta: protocol.Meta{Method: "GET", Target: "/"}}, protocol.Outer{Carrier: protocol.HTTP}, redNow)
				if err != nil {
					t.Fatal(err)
				}
				if _, err = server.Open(frame, protocol.Outer{Carrier: protocol.HTTP}, redNow); protocol.IsReason(err, protocol.UnknownKey) {
					break // full
				} else if err != nil {
					t.Fatal(err)
				}
				n++
			}
			grew := int64(redHeap()) - int64(before)
			t.Logf("%d contexts, %d bytes, %d for each", n, grew, grew/int64(n))
			if grew > contexts*perContext+2<<20 { // the caches of settings and expanded keys are there besides
				t.Errorf("%d bytes, where %d contexts of some %d bytes are allowed", grew, contexts, perContext)
			}
			runtime.KeepAlive(server)
		})
	}
}

// Two goroutines that answer one request by mistake never seal two frames with
// one nonce: each frame has a number of its own.
func TestConcurrentSealsUseNoNonceTwice(t *testing.T) {
	server, peer := redPair(t, protocol.ServerConfig{})
	client, err := protocol.NewClient(peer, server.Settings())
	if err != nil {
		t.Fatal(err)
	}
	_, frame, err := client.Seal(protocol.Content{Kind: protocol.KindMessage, Body: []byte(`{"jsonrpc":"2.0","id":1,"method":"a"}`)}, protocol.Outer{Carrier: protocol.Envelope}, redNow)
	if err != nil {
		t.Fatal(err)
	}
	req, err := server.Open(frame, protocol.Outer{Carrier: protocol.Envelope}, redNow)
	if err != nil {
		t.Fatal(err)
	}
	copied := *req // a copy is the same request
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := req
			if g%2 == 1 {
				r = &copied
			}
			for i := range 200 {
				sealed, err := r.Seal(nil, protocol.Content{Kind: protocol.KindMessage, Body: bytes.Repeat([]byte{'x'}, g*200+i)}, false)
				if err != nil {
					t.Error(err)
					return
				}
				f, err := protocol.InspectFrame(sealed)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[f.N] {
					t.Errorf("frame %d was sealed twice: one nonce, two plaintexts", f.N)
				}
				seen[f.N] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// Who has read a ctx-id on the path can name messages of it in retries of its
// own, as many as it likes: the window does not move far enough by that to shut
// the context's owner out.
func TestStrangerCannotWalkTheWindow(t *testing.T) {
	server, peer := redPair(t, protocol.ServerConfig{})
	seal := func(c *protocol.Client, meta protocol.Meta) (*protocol.Call, *protocol.Request, error) {
		t.Helper()
		call, frame, err := c.Seal(protocol.Content{Kind: protocol.KindMessage, Meta: meta, Body: []byte(`{"jsonrpc":"2.0","method":"a"}`)}, protocol.Outer{Carrier: protocol.Envelope}, redNow)
		if err != nil {
			t.Fatal(err)
		}
		req, err := server.Open(frame, protocol.Outer{Carrier: protocol.Envelope}, redNow)
		return call, req, err
	}
	client := func() *protocol.Client {
		c, err := protocol.NewClient(peer, server.Settings())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	owner := client()
	call, req, err := seal(owner, protocol.Meta{})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := req.Seal(nil, protocol.Content{Kind: protocol.KindEnd}, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := call.Open(answer); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		_, _, err := seal(client(), protocol.Meta{RetryOf: &protocol.RetryOf{Context: call.Context(), Seq: uint64(i+1) * 1000, Expires: peer.Expires()}})
		t.Logf("the stranger's retry of message %d: %v", (i+1)*1000, err)
	}
	if next, _, err := seal(owner, protocol.Meta{}); err != nil || next.Context() != call.Context() {
		t.Fatalf("the owner's next message: %v", err)
	}
}
