package policy_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/trustedmcp/tmcp/gateway/policy"
	"github.com/trustedmcp/tmcp/gateway/policy/runtime"
	"github.com/trustedmcp/tmcp/policy-wasm/document"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// tools are the policy "tools" with settings of that many tools, each for peers
// that demand.
func tools(b *testing.B, demand string, n int) transport.Authorizer {
	var s strings.Builder
	for i := range n {
		s.WriteString(`,"customers.invoices.read-` + string(rune('a'+i)) + `":"attested"`)
	}
	settings := filepath.Join(b.TempDir(), "settings.json")
	if err := os.WriteFile(settings, []byte(`{"tools":{"echo":"`+demand+`"`+s.String()+`}}`), 0o600); err != nil {
		b.Fatal(err)
	}
	l, err := policy.Load(context.Background(), policy.Options{Names: []string{"tools"}, Settings: []string{settings}, Loader: runtime.Loader{Memory: runtime.NewMemory(0)}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close(context.Background()) })
	return l.Authorizes()
}

// BenchmarkAuthorize is one question to the policy "tools", with the making of its
// document: of a peer that nothing is known of, and of one with a TDX quote.
func BenchmarkAuthorize(b *testing.B) {
	doc, _ := document.Sample("tdx")
	d, err := document.Parse(doc)
	if err != nil {
		b.Fatal(err)
	}
	attributes, err := json.Marshal(d.Devices, json.FormatNilMapAsNull(true), json.Deterministic(true))
	if err != nil {
		b.Fatal(err)
	}
	for demand, party := range map[string]transport.Party{
		"anyone":   {Role: protocol.RoleClient},
		"attested": {Role: protocol.RoleClient, Identity: "https://peer.example", Profile: protocol.ProfileAttested, Appraisal: &protocol.Appraisal{Attributes: attributes}},
	} {
		b.Run(demand, func(b *testing.B) {
			ask := tools(b, demand, 10)
			c := &transport.Call{Party: party, Kind: transport.CallRequest, Method: "tools/call", Carrier: protocol.Envelope,
				Params: []byte(`{"name":"echo","arguments":{"text":"` + strings.Repeat("x", 1<<10) + `"}}`)}
			b.ReportAllocs()
			for b.Loop() {
				if err := ask(b.Context(), c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// direct calls a handler without a socket.
type direct struct{ h http.Handler }

type written struct {
	header http.Header
	status int
	bytes.Buffer
}

func (w *written) Header() http.Header { return w.header }
func (w *written) WriteHeader(s int)   { w.status = s }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	w := &written{header: http.Header{}, status: 200}
	in := *r
	in.RequestURI, in.RemoteAddr, in.Host = r.URL.RequestURI(), "127.0.0.1:1", r.URL.Host
	d.h.ServeHTTP(w, &in)
	return &http.Response{StatusCode: w.status, Header: w.header, Body: io.NopCloser(bytes.NewReader(w.Bytes())), ContentLength: int64(w.Len()), Request: r}, nil
}

// BenchmarkSealedCall is a sealed call of 1 KiB, both ends, to the cheapest server
// there is: with and without the policy "tools", in turns. What counts is the
// difference of the medians.
func BenchmarkSealedCall(b *testing.B) {
	const url = "http://bench.example/mcp"
	id, err := protocol.GenerateIdentity(url)
	if err != nil {
		b.Fatal(err)
	}
	text := strings.Repeat("x", 1<<10)
	answer := []byte(`{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"` + text + `"}]}}`)
	server := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	})
	body := `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{"text":"` + text + `"},"_meta":{` +
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"b","version":"1"}}}}`
	call := func(ask transport.Authorizer) func() {
		h, err := transport.Handler(server, transport.ServerConfig{Identity: id, Authorize: ask})
		if err != nil {
			b.Fatal(err)
		}
		rt, err := transport.RoundTripper(direct{h}, transport.ClientConfig{Anchor: protocol.Pin(id.Thumbprint())})
		if err != nil {
			b.Fatal(err)
		}
		return func() {
			req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
			if err != nil {
				b.Fatal(err)
			}
			req.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
				"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"echo"}}
			resp, err := rt.RoundTrip(req)
			if err != nil {
				b.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Contains(got, []byte(`"text":"xxx`)) {
				b.Fatalf("%v: %.300s", err, got)
			}
		}
	}
	without, with := call(nil), call(tools(b, "anyone", 10))
	for range 3 {
		without()
		with()
	}
	var a, c []time.Duration
	timed := func(f func()) time.Duration {
		start := time.Now()
		f()
		return time.Since(start)
	}
	for b.Loop() {
		a = append(a, timed(without))
		c = append(c, timed(with))
	}
	slices.Sort(a)
	slices.Sort(c)
	plain, asked := float64(a[len(a)/2]), float64(c[len(c)/2])
	b.ReportMetric(plain, "without-ns/op")
	b.ReportMetric(asked, "with-ns/op")
	b.ReportMetric(asked-plain, "added-ns/op")
}
