package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/gateway"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// mirror is the cheapest MCP server there is: what a gateway adds shows most.
func mirror(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	m, err := jsonrpc.Parse(body, jsonrpc.Limits{})
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	text := jsonrpc.Get(m.Params, "arguments", "text")
	_, _ = w.Write(jsonrpc.Response(m.ID, fmt.Appendf(nil, `{"resultType":"complete","content":[{"type":"text","text":%s}]}`, text)))
}

// BenchmarkPair compares a tmcp connect and a tmcp serve with two reverse
// proxies of the standard library in their place, call by call in one run. All
// of them, the client and the server share one process, and so its collector,
// which is set as in the command tmcp for both sides of the comparison.
func BenchmarkPair(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	for _, size := range []int{100, 1 << 10, 64 << 10} {
		for _, carrier := range []protocol.Carrier{protocol.Envelope, protocol.HTTP} {
			b.Run(fmt.Sprintf("%s/%dB", carrier, size), func(b *testing.B) { benchPair(b, carrier, size) })
		}
	}
}

func benchPair(b *testing.B, carrier protocol.Carrier, size int) {
	upstream := httptest.NewServer(http.HandlerFunc(mirror))
	defer upstream.Close()
	proxy := func(to string) *httptest.Server {
		u, _ := url.Parse(to)
		p := httputil.NewSingleHostReverseProxy(u)
		p.FlushInterval = -1
		p.Transport = &http.Transport{MaxIdleConnsPerHost: 64}
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).EnableFullDuplex() // else it flakes
			p.ServeHTTP(w, r)
		}))
	}
	inner := proxy(upstream.URL)
	defer inner.Close()
	outer := proxy(inner.URL)
	defer outer.Close()

	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	serving := make(chan gateway.Serving, 1)
	wg.Go(func() {
		err := gateway.Serve(ctx, gateway.ServeConfig{Listen: "127.0.0.1:0", Upstream: upstream.URL + "/mcp"}, func(s gateway.Serving) { serving <- s })
		if err != nil {
			b.Error(err)
		}
	})
	s := <-serving
	local := make(chan string, 1)
	wg.Go(func() {
		cfg := gateway.ConnectConfig{URL: s.URL, Anchor: protocol.Pin(s.Identity.Thumbprint()), Carrier: carrier}
		if err := gateway.Connect(ctx, cfg, "127.0.0.1:0", func(u string) { local <- u }); err != nil {
			b.Error(err)
		}
	})
	sealedURL, plainURL := <-local, outer.URL+"/mcp"

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	body := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":%q},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`, strings.Repeat("x", size))
	call := func(to string) time.Duration {
		req, _ := http.NewRequest(http.MethodPost, to, bytes.NewReader(body))
		req.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
			"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"echo"}}
		start := time.Now()
		resp, err := client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Contains(answer, []byte(`"result"`)) {
			b.Fatalf("%s: %.300s %v", resp.Status, answer, err)
		}
		return time.Since(start)
	}
	for range 20 { // connections, contexts
		call(sealedURL)
		call(plainURL)
	}
	var sealed, plain []time.Duration
	for b.Loop() {
		sealed = append(sealed, call(sealedURL))
		plain = append(plain, call(plainURL))
	}
	p50 := func(d []time.Duration) time.Duration { slices.Sort(d); return d[len(d)/2] }
	b.ReportMetric(float64(p50(sealed).Microseconds()), "sealed-p50-µs")
	b.ReportMetric(float64(p50(plain).Microseconds()), "proxies-p50-µs")
	b.ReportMetric(float64(p50(sealed))/float64(p50(plain)), "p50-ratio")

	// Throughput: 16 callers for the same number of calls each way, in turns.
	const rounds, callers, each = 9, 16, 20
	rate := func(to string) float64 {
		start := time.Now()
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range each {
					call(to)
				}
			})
		}
		wg.Wait()
		return callers * each / time.Since(start).Seconds()
	}
	var sealedRates, ratios []float64
	for range rounds {
		s := rate(sealedURL)
		sealedRates, ratios = append(sealedRates, s), append(ratios, s/rate(plainURL))
	}
	slices.Sort(sealedRates)
	slices.Sort(ratios)
	b.ReportMetric(sealedRates[rounds/2], "sealed-calls/s")
	b.ReportMetric(ratios[rounds/2], "rate-ratio")
}
