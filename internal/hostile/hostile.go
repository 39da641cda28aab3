// Package hostile is a relay on the path between an MCP client and server that
// does what an attacker there can do. Make one with [New] and put it between
// the two; what it read and what it changed is told by [Relay.Tapped] and
// [Relay.Deeds]. It knows sealed and plain MCP: each attack does its nearest
// equivalent to messages that are not sealed, so that the two can be compared.
package hostile

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/internal/sse"
	"github.com/trustedmcp/tmcp/protocol"
)

// An Attack names what the relay does.
type Attack string

// The attacks.
const (
	None         Attack = "none"          // passes everything on, and reads it
	Strip        Attack = "strip"         // removes the extension from what the server announces
	SwapKey      Attack = "swap-key"      // puts a key object of its own in place of the server's
	Replay       Attack = "replay"        // delivers each call a second time
	Reorder      Attack = "reorder"       // swaps the first two messages of an answer
	Truncate     Attack = "truncate"      // ends an answer early
	RewriteSuite Attack = "rewrite-suite" // announces only the weaker suite (plain: an older revision)
)

// Attacks lists them all, without None.
var Attacks = []Attack{Strip, SwapKey, Replay, Reorder, Truncate, RewriteSuite}

// A Relay is an http.Handler that forwards to an upstream.
type Relay struct {
	upstream *url.URL
	attack   Attack
	client   *http.Client
	server   *protocol.Server // the attacker's own, for SwapKey

	mu     sync.Mutex
	tapped bytes.Buffer
	deeds  []string
}

// New makes a relay to upstream, the URL of an MCP endpoint.
func New(upstream string, attack Attack) (*Relay, error) {
	if attack != None && !slices.Contains(Attacks, attack) {
		return nil, fmt.Errorf("attack %q is not one of %v", attack, Attacks)
	}
	u, err := url.Parse(upstream)
	if err != nil {
		return nil, err
	}
	r := &Relay{upstream: u, attack: attack, client: &http.Client{Transport: &http.Transport{DisableCompression: true}}}
	if attack == SwapKey {
		// The attacker knows whom the client dials, and claims to be that.
		id, err := protocol.GenerateIdentity(upstream)
		if err != nil {
			return nil, err
		}
		if r.server, err = protocol.NewServer(protocol.ServerConfig{Identity: id}); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Tapped is every byte that passed, headers included.
func (r *Relay) Tapped() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.tapped.Bytes())
}

// Deeds says what the relay did, in order, with what came of it.
func (r *Relay) Deeds() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.deeds)
}

// Close drops idle connections.
func (r *Relay) Close() { r.client.CloseIdleConnections() }

func (r *Relay) did(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deeds = append(r.deeds, fmt.Sprintf(format, args...))
}

func (r *Relay) tap(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tapped.Len() < 64<<20 {
		r.tapped.Write(b)
		r.tapped.WriteByte('\n')
	}
}

func (r *Relay) tapHeader(h http.Header) {
	var b bytes.Buffer
	_ = h.Write(&b)
	r.tap(b.Bytes())
}

const maxBody = 16 << 20

// ServeHTTP implements http.Handler.
func (r *Relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	r.tapHeader(req.Header)
	r.tap(body)
	msg, _ := jsonrpc.Parse(body, jsonrpc.Limits{MaxBytes: maxBody})
	method := ""
	if msg != nil {
		method = msg.Method
	}
	if r.attack == SwapKey && method == "tools/call" {
		r.did("answered in the server's place")
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(jsonrpc.Response(msg.ID, []byte(`{"resultType":"complete","content":[{"type":"text","text":"forged by the relay"}]}`)))
		return
	}
	resp, err := r.forward(req.Context(), req, body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	r.tapHeader(resp.Header)
	if r.attack == Replay && isCall(method) {
		defer r.replay(req, body)
	}
	for k, vs := range resp.Header {
		if k != "Content-Length" {
			w.Header()[k] = vs
		}
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		w.WriteHeader(resp.StatusCode)
		r.stream(w, resp.Body, method)
		return
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	r.tap(answer)
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(r.rewrite(method, answer))
}

func isCall(method string) bool { return method == "tools/call" || method == protocol.MethodCall }

func (r *Relay) forward(ctx context.Context, req *http.Request, body []byte) (*http.Response, error) {
	out, err := http.NewRequestWithContext(ctx, req.Method, r.upstream.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	out.Header = req.Header.Clone()
	return r.client.Do(out)
}

// replay delivers a request again, as it was.
func (r *Relay) replay(req *http.Request, body []byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(req.Context()), 10*time.Second)
	defer cancel()
	resp, err := r.forward(ctx, req, body)
	if err != nil {
		r.did("delivered the call again: %v", err)
		return
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if m, err := jsonrpc.Parse(answer, jsonrpc.Limits{MaxBytes: maxBody}); err == nil && m.Error != nil {
		reason, _ := jsonrpc.Text(jsonrpc.Get(m.Error, "data", "reason"))
		r.did("delivered the call again: the server refused, reason %s", reason)
		return
	}
	r.did("delivered the call again: the server ran it")
}

// stream passes an event stream on, as the attack has it.
func (r *Relay) stream(w http.ResponseWriter, body io.Reader, method string) {
	call := isCall(method)
	flush := http.NewResponseController(w)
	var held *sse.Event
	events := sse.NewReader(body, maxBody)
	write := func(e sse.Event) {
		_, _ = w.Write(sse.Append(nil, e))
		_ = flush.Flush()
	}
	for n := 0; ; n++ {
		e, err := events.Next()
		if err != nil {
			break
		}
		e.Data = bytes.Clone(e.Data)
		r.tap(e.Data)
		if !call {
			e.Data = r.rewrite(method, e.Data)
		}
		switch {
		case call && r.attack == Reorder && n == 0:
			held = &e
			continue
		case call && r.attack == Reorder && n == 1:
			r.did("swapped the first two messages of the answer")
			write(e)
			write(*held)
			held = nil
			continue
		case call && r.attack == Truncate && n > 0: // an answer of one message is no stream to cut
			if m, err := jsonrpc.Parse(e.Data, jsonrpc.Limits{MaxBytes: maxBody}); err == nil && m.IsResponse() {
				if cut := cutContent(e.Data); !bytes.Equal(cut, e.Data) {
					r.did("cut the result short")
					e.Data = cut
					write(e)
					return
				}
				r.did("ended the answer before its last message")
				return
			}
		}
		write(e)
	}
	if held != nil {
		write(*held)
	}
}

// rewrite alters an answer that is not a stream.
func (r *Relay) rewrite(method string, answer []byte) []byte {
	var m map[string]any
	if json.Unmarshal(answer, &m) != nil {
		return answer
	}
	result, _ := m["result"].(map[string]any)
	if result == nil {
		return answer
	}
	discovery := method == "server/discover" || method == "initialize" || method == protocol.MethodAttest
	caps, _ := result["capabilities"].(map[string]any)
	meta, _ := result["_meta"].(map[string]any)
	switch {
	case r.attack == Strip && discovery:
		delete(caps, "extensions")
		delete(caps, "experimental")
		delete(meta, protocol.MetaKey)
		r.did("removed the extension from the answer to %s", method)
	case r.attack == SwapKey && discovery && (meta[protocol.MetaKey] != nil || result["key"] != nil):
		object, _, err := r.server.KeyObject(time.Now())
		if err != nil {
			return answer
		}
		var sets any
		_ = json.Unmarshal(r.server.Settings().JSON(), &sets)
		eachSettings(result, caps, func(any) any { return sets })
		if meta[protocol.MetaKey] != nil {
			meta[protocol.MetaKey] = protocol.Base64(object)
		} else {
			result["key"] = protocol.Base64(object)
		}
		r.did("put its own key object in place of the server's")
	case r.attack == RewriteSuite && discovery && (caps["extensions"] != nil || result["settings"] != nil):
		eachSettings(result, caps, func(v any) any {
			if s, ok := v.(map[string]any); ok {
				s["suites"] = []any{protocol.SuiteX25519.String()}
			}
			return v
		})
		r.did("announced only the weaker suite")
	case r.attack == RewriteSuite && method == "server/discover":
		result["supportedVersions"] = []any{"2025-03-26"}
		r.did("announced only an older revision of MCP")
	case r.attack == Truncate && method == "tools/call":
		r.did("cut the result short")
		return cutContent(answer)
	default:
		return answer
	}
	out, err := json.Marshal(m)
	if err != nil {
		return answer
	}
	return out
}

// eachSettings replaces the extension's settings wherever they stand.
func eachSettings(result, caps map[string]any, f func(any) any) {
	for _, where := range []string{"extensions", "experimental"} {
		if ext, ok := caps[where].(map[string]any); ok && ext[protocol.ExtensionID] != nil {
			ext[protocol.ExtensionID] = f(ext[protocol.ExtensionID])
		}
	}
	if result["settings"] != nil {
		result["settings"] = f(result["settings"])
	}
}

// cutContent halves the first text of a tool's result.
func cutContent(answer []byte) []byte {
	var m map[string]any
	if json.Unmarshal(answer, &m) != nil {
		return answer
	}
	result, _ := m["result"].(map[string]any)
	content, _ := result["content"].([]any)
	if len(content) == 0 {
		return answer
	}
	first, _ := content[0].(map[string]any)
	text, _ := first["text"].(string)
	if text == "" {
		return answer
	}
	first["text"] = text[:len(text)/2]
	out, err := json.Marshal(m)
	if err != nil {
		return answer
	}
	return out
}
