package aicc_test

import (
	"bytes"
	"crypto/rsa"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/trustedmcp/tmcp/gateway/aicc"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
	transport "github.com/trustedmcp/tmcp/transport/aicc"
)

// echo answers each request with its id.
func echo(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	id := bytes.TrimSuffix(b[bytes.LastIndexByte(b, ':')+1:], []byte("}"))
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{}}`, id)
}

// TestRollover: 20 changes of keys under load, with replicas restarted in
// between, lose none of 10,000 calls. The new key goes to the servers first,
// with the old one behind it, and then to the client. All the calls are made
// under make test; else a tenth of them.
func TestRollover(t *testing.T) {
	calls, rollovers := 1_000, 20
	if os.Getenv("TMCP_INTEROP") == "1" {
		calls = 10_000
	}
	dir := t.TempDir()
	private, publicPath := filepath.Join(dir, wire.PrivateKeyFile), filepath.Join(dir, wire.PublicKeyFile)
	key := func(i int) *rsa.PrivateKey { return rsaKeys()[i%len(rsaKeys())] }
	writeFile(t, private, wire.MarshalPrivateKey(key(0)))
	writeFile(t, publicPath, public(t, key(0)))

	var replicas [2]atomic.Pointer[http.Handler]
	restart := func(i int) {
		keys, err := aicc.NewServerKeys(aicc.ServerConfig{KeyFile: private}, aicc.ServerOptions{})
		if err != nil {
			t.Error(err)
			return
		}
		h, err := transport.Handler(http.HandlerFunc(echo), transport.ServerConfig{Keys: keys.Keys, Waiting: 10_000})
		if err != nil {
			t.Error(err)
			return
		}
		replicas[i].Store(&h)
	}
	restart(0)
	restart(1)
	var turn atomic.Uint64
	base := direct(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		(*replicas[turn.Add(1)%2].Load()).ServeHTTP(w, r)
	})).Transport
	clientKeys, err := aicc.NewClientKeys(aicc.ClientConfig{PublicKeyPath: publicPath}, aicc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rt, err := transport.RoundTripper(base, transport.ClientConfig{Key: clientKeys.PublicKey})
	if err != nil {
		t.Fatal(err)
	}

	var next, lost atomic.Int64
	call := func(id int64) error {
		body := fmt.Sprintf(`{"jsonrpc":"2.0","method":"ping","id":%d}`, id)
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://127.0.0.1:1/mcp", strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		req.Header.Set("MCP-Protocol-Version", "2025-11-25")
		res, err := rt.RoundTrip(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err == nil && (res.StatusCode != http.StatusOK || !strings.HasPrefix(string(b), fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":{`, id))) {
			err = fmt.Errorf("status %d: %.200s", res.StatusCode, b)
		}
		return err
	}
	reached := make(chan int, rollovers)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				n := next.Add(1)
				if n > int64(calls) {
					return
				}
				if err := call(n); err != nil && lost.Add(1) <= 5 {
					t.Errorf("call %d: %v", n, err)
				}
				if n%int64(calls/rollovers) == 0 {
					reached <- int(n) / (calls / rollovers)
				}
			}
		})
	}
	for range rollovers {
		i := <-reached
		// Both keys for the servers, then the new one for the client.
		writeFile(t, private, slices.Concat(wire.MarshalPrivateKey(key(i)), wire.MarshalPrivateKey(key(i-1))))
		// Both have read it before: a file that changes twice within a tick of the
		// file system's clock is not seen to have changed.
		restart(i % 2)
		restart((i + 1) % 2)
		writeFile(t, publicPath, public(t, key(i)))
	}
	wg.Wait()
	if n := lost.Load(); n > 0 {
		t.Errorf("%d of %d calls were lost over %d rollovers", n, calls, rollovers)
	}
}

// TestSeveralKeys: a key file may hold the keys before, which end when they
// leave it and their time is over.
func TestSeveralKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), wire.PrivateKeyFile)
	put := func(is ...int) {
		var b []byte
		for _, i := range is {
			b = append(b, wire.MarshalPrivateKey(rsaKeys()[i])...)
		}
		writeFile(t, path, b)
	}
	put(1, 0)
	s, err := aicc.NewServerKeys(aicc.ServerConfig{KeyFile: path}, aicc.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	is := func(want ...int) {
		t.Helper()
		var got []int
		for _, k := range s.Keys() {
			got = append(got, slices.IndexFunc(rsaKeys(), func(x *rsa.PrivateKey) bool { return x.Equal(k) }))
		}
		if !slices.Equal(got, want) {
			t.Errorf("keys %v, want %v", got, want)
		}
	}
	is(1, 0)
	put(2, 1)
	is(2, 1, 0)
	put(3)
	is(3, 2, 1, 0)
	put(4, 3)
	is(4, 3, 2, 1)
	put(1)
	is(1, 4, 3, 2)
	put(0, 1, 2, 3, 4)
	if _, err := aicc.NewServerKeys(aicc.ServerConfig{KeyFile: path}, aicc.ServerOptions{}); err == nil || !strings.Contains(err.Error(), "more than 4") {
		t.Errorf("five keys: %v", err)
	}
	is(1, 4, 3, 2) // as before
}
