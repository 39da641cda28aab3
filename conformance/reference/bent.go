package reference

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// Bent makes a sealed server break one rule of the trust extension, by changing
// what it is asked and what it answers. It holds whole answers, so it is only
// for exchanges that end.
func Bent(h http.Handler, f Fault) http.Handler {
	return &bent{inner: h, fault: f, seen: map[string][]byte{}}
}

type bent struct {
	inner http.Handler
	fault Fault

	mu   sync.Mutex
	seen map[string][]byte // frame → its answer
	key  jsontext.Value    // first key object that attest gave
}

func (b *bent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 8<<20))
	if err != nil {
		return
	}
	var in map[string]jsontext.Value
	_ = json.Unmarshal(body, &in)
	method, _ := jsonrpc.Text(in["method"])
	declared := bytes.Contains(body, []byte(`"profiles"`))
	if b.fault == "headers-ignored" && method == protocol.MethodCall {
		for name := range r.Header {
			if strings.HasPrefix(name, "Mcp-Param-") || name == "Mcp-Name" {
				r.Header.Del(name)
			}
		}
		if r.Header.Get("Mcp-Method") != "" {
			r.Header.Set("Mcp-Method", method)
		}
	}
	if b.fault == "outside-ignored" && method == protocol.MethodCall { // the settings outside are not compared
		if meta := conformance.Member(body, "params", "_meta", conformance.MetaCapabilities); meta != nil {
			body = bytes.Replace(body, meta, []byte("{}"), 1)
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	rec := &recorder{header: http.Header{}, status: 200}
	b.inner.ServeHTTP(rec, r)
	out := b.edit(rec, in, method, declared)
	for k, v := range rec.header {
		w.Header()[k] = v
	}
	w.Header().Del("Content-Length")
	w.WriteHeader(rec.status)
	_, _ = w.Write(out)
}

// edit changes the answer to one request.
func (b *bent) edit(rec *recorder, in map[string]jsontext.Value, method string, declared bool) []byte {
	out := rec.body.Bytes()
	if b.fault == "no-store-absent" {
		rec.header.Del("Cache-Control")
	}
	start := bytes.IndexByte(out, '{')
	end := bytes.LastIndexByte(out, '}')
	if start < 0 || end < start || bytes.Count(out, []byte("data: ")) > 1 {
		return out
	}
	var msg map[string]any
	if json.Unmarshal(out[start:end+1], &msg) != nil {
		return out
	}
	e, _ := msg["error"].(map[string]any)
	res, _ := msg["result"].(map[string]any)
	data, _ := e["data"].(map[string]any)
	trust := data["reason"] != nil || rec.status == 400
	frame := string(conformance.Member(in["params"], "frame"))
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.fault == "refuses-nothing" && e != nil:
		delete(msg, "error")
		msg["result"], rec.status = obj{"resultType": "complete"}, 200
	case b.fault == "always-busy" && e != nil && trust:
		e["code"], data = protocol.Busy.Code(), obj{"extension": protocol.ExtensionID, "reason": string(protocol.Busy)}
		e["data"] = data
	case b.fault == "answers-replays" && data["reason"] == string(protocol.Replayed):
		delete(msg, "error")
		for _, v := range b.seen {
			msg["result"] = jsontext.Value(v)
		}
	case b.fault == "errors-400" && data["reason"] != nil:
		rec.status = 400
	case b.fault == "data-without-extension" && data["reason"] != nil:
		delete(data, "extension")
	case b.fault == "open-failed-tells" && data["reason"] == string(protocol.OpenFailed):
		data["detail"] = string(frame[len(frame)/2:])
	case b.fault == "call-status" && method == protocol.MethodCall:
		rec.status = 404
	case b.fault == "discover-gated" && method == "server/discover" && !declared:
		delete(msg, "result")
		msg["error"] = obj{"code": protocol.TrustRequired.Code(), "message": "no", "data": obj{"extension": protocol.ExtensionID, "reason": "trust-required"}}
	case b.fault == "attest-gated" && method == protocol.MethodAttest && !declared && res != nil, b.fault == "ping-refused" && method == "ping":
		delete(msg, "result")
		msg["error"] = obj{"code": protocol.TrustRequired.Code(), "message": "no"}
	case res == nil:
	case b.fault == "attest-cached" && method == protocol.MethodAttest:
		if b.key == nil { // made for another nonce than the later ones
			b.key = jsontext.Value(jsonrpc.Quote(strings.Repeat("A", 64)))
		}
		res["key"] = b.key
	case b.fault == "nonce-in-discover" && method == protocol.MethodAttest:
		b.key = jsontext.Value(jsonrpc.Quote(res["key"].(string)))
	case b.fault == "nonce-in-discover" && method == "server/discover" && b.key != nil:
		res["_meta"].(map[string]any)[protocol.MetaKey] = b.key
	case b.fault == "frames-changed" && res["frame"] != nil:
		text := res["frame"].(string)
		at := len(text) / 2
		swap := "A"
		if text[at] == 'A' {
			swap = "B"
		}
		res["frame"] = text[:at] + swap + text[at+1:]
	case method == "server/discover" || method == "initialize":
		b.opening(res, method)
	}
	if r, ok := msg["result"].(map[string]any); ok && frame != "" && r["frame"] != nil {
		b.seen[frame], _ = json.Marshal(r, json.Deterministic(true))
	}
	edited, err := json.Marshal(msg, json.Deterministic(true))
	if err != nil {
		return out
	}
	return append(append(append([]byte{}, out[:start]...), edited...), out[end+1:]...)
}

// opening changes the result of server/discover or initialize.
func (b *bent) opening(res obj, method string) {
	caps, _ := res["capabilities"].(map[string]any)
	exts, _ := caps["extensions"].(map[string]any)
	settings, _ := exts[protocol.ExtensionID].(map[string]any)
	meta, _ := res["_meta"].(map[string]any)
	switch b.fault {
	case "settings-altered":
		settings["suites"] = []any{"x25519-sha256-chacha20poly1305"}
	case "no-key":
		delete(meta, protocol.MetaKey)
	case "key-altered":
		meta[protocol.MetaKey] = strings.Replace(meta[protocol.MetaKey].(string), "A", "B", 1)
	case "not-in-experimental":
		delete(caps, "experimental")
	case "legacy-unadvertised":
		if method == "initialize" {
			delete(caps, "extensions")
		}
	case "tells-capabilities":
		caps["tools"] = obj{}
	case "long-ttl":
		res["ttlMs"] = 86_400_000
	}
}

// recorder holds one answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
func (r *recorder) Flush()                      {}
