package transport_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// inProcess calls a handler without a socket, so that the benchmark measures the
// handlers and not the network.
type inProcess struct {
	h     http.Handler
	times *[]int64 // of the handler alone, in ns
}

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := &benchWriter{header: http.Header{}}
	in := *r
	in.RequestURI, in.RemoteAddr = r.URL.RequestURI(), "127.0.0.1:1"
	in.Host = r.URL.Host
	start := time.Now()
	p.h.ServeHTTP(rec, &in)
	*p.times = append(*p.times, time.Since(start).Nanoseconds())
	return &http.Response{StatusCode: rec.status, Header: rec.header, Body: io.NopCloser(bytes.NewReader(rec.body.Bytes())), ContentLength: int64(rec.body.Len()), Request: r}, nil
}

type benchWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *benchWriter) Header() http.Header { return w.header }
func (w *benchWriter) WriteHeader(s int) {
	if w.status == 0 {
		w.status = s
	}
}
func (w *benchWriter) Write(p []byte) (int, error) {
	w.WriteHeader(200)
	return w.body.Write(p)
}
func (w *benchWriter) Flush() { w.WriteHeader(200) }

// BenchmarkHandlerSealedVsPlain compares a call of the official SDK's handler
// with the same call behind [transport.Handler], in a warm context. The ratios
// are what counts, of medians, taken in turns in one run: "ratio" is the time of
// the handlers alone, "ratio-both-ends" has the client's sealing and opening too.
func BenchmarkHandlerSealedVsPlain(b *testing.B) {
	for _, size := range []struct {
		name  string
		bytes int
	}{{"1KiB", 1 << 10}, {"64KiB", 64 << 10}} {
		for _, answer := range []string{"json", "sse"} {
			b.Run(size.name+"/"+answer, func(b *testing.B) { benchSealedVsPlain(b, size.bytes, answer == "json") })
		}
	}
}

func benchSealedVsPlain(b *testing.B, size int, json bool) {
	const url = "http://bench.example/mcp"
	id, err := protocol.GenerateIdentity(url)
	if err != nil {
		b.Fatal(err)
	}
	inner := overHTTP(fixture(), mcp.StreamableHTTPOptions{JSONResponse: json})
	h, err := transport.Handler(inner, transport.ServerConfig{Identity: id})
	if err != nil {
		b.Fatal(err)
	}
	var plainHandler, sealedHandler, plain, sealed []int64
	direct := inProcess{inner, &plainHandler}
	rt, err := transport.RoundTripper(inProcess{h, &sealedHandler}, transport.ClientConfig{Anchor: protocol.Pin(id.Thumbprint())})
	if err != nil {
		b.Fatal(err)
	}
	body := `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{"text":"` + strings.Repeat("x", size) + `"},"_meta":{` +
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"b","version":"1"}}}}`
	call := func(t http.RoundTripper) {
		req := httptest.NewRequest(http.MethodPost, url, strings.NewReader(body))
		req.RequestURI = ""
		req.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
			"Mcp-Protocol-Version": {modernVersion}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"echo"}}
		resp, err := t.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Contains(got, []byte(`"text":"xxx`)) {
			b.Fatalf("%v: %.300s", err, got)
		}
	}
	for range 3 { // warm
		call(rt)
		call(direct)
	}
	plainHandler, sealedHandler = nil, nil
	b.ReportAllocs()
	for b.Loop() {
		plain = append(plain, timed(func() { call(direct) }))
		sealed = append(sealed, timed(func() { call(rt) }))
	}
	p, s := median(plainHandler), median(sealedHandler)
	b.ReportMetric(p, "plain-ns/op")
	b.ReportMetric(s, "sealed-ns/op")
	b.ReportMetric(s/p, "ratio")
	b.ReportMetric(median(sealed)/median(plain), "ratio-both-ends")
}

// median withstands the other work of a shared machine, which a mean does not.
func median(ns []int64) float64 {
	slices.Sort(ns)
	return float64(ns[len(ns)/2])
}

func timed(f func()) int64 {
	start := time.Now()
	f()
	return time.Since(start).Nanoseconds()
}
