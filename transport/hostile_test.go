package transport_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// relay is a hostile proxy. It sees and changes what it likes.
type relay struct {
	next http.Handler
	// request and answer change bodies on their way; nil leaves them.
	request func(method string, r *http.Request, body []byte) []byte
	answer  func(method string, rec *httptest.ResponseRecorder, body []byte) []byte
	// twice delivers each trust/call twice, and answers with the second answer.
	twice bool

	calls [][]byte // bodies of trust/call as they came
	plain atomic.Bool
}

func (h *relay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var m struct{ Method string }
	json.Unmarshal(body, &m)
	if bytes.Contains(body, []byte(canary)) {
		h.plain.Store(true)
	}
	call := m.Method == protocol.MethodCall
	if call {
		h.calls = append(h.calls, body)
	}
	if h.request != nil {
		body = h.request(m.Method, r, body)
	}
	deliver := func() *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		in := r.Clone(r.Context())
		in.Body, in.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		h.next.ServeHTTP(rec, in)
		return rec
	}
	rec := deliver()
	if h.twice && call {
		rec = deliver()
	}
	out := rec.Body.Bytes()
	if h.answer != nil {
		out = h.answer(m.Method, rec, out)
	}
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.Header().Del("Content-Length")
	w.WriteHeader(rec.Code)
	w.Write(out)
}

// target is a server with a canary tool, behind a relay.
type target struct {
	*sealed
	relay *relay
	again *http.Client // the client that is attacked
	runs  *atomic.Int64
}

func newTarget(t *testing.T, jsonAnswers bool, cfg transport.ServerConfig) *target {
	var runs atomic.Int64
	inner := fixture()
	mcp.AddTool(inner, &mcp.Tool{Name: "run"}, func(ctx context.Context, req *mcp.CallToolRequest, a textIn) (*mcp.CallToolResult, any, error) {
		runs.Add(1)
		for i := range 2 {
			if token := req.Params.GetProgressToken(); token != nil {
				req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: float64(i)})
			}
		}
		return said(a.Text), nil, nil
	})
	rl := &relay{}
	s := serve(t, overHTTP(inner, mcp.StreamableHTTPOptions{JSONResponse: jsonAnswers}), cfg, func(h http.Handler) http.Handler {
		rl.next = h
		return rl
	})
	return &target{sealed: s, relay: rl, runs: &runs}
}

const runBody = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"run","arguments":{"text":"` + canary + `"},"_meta":{` +
	`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"progressToken":"p"}}}`

// run calls the canary tool and returns the reason why it failed, or "".
func (g *target) run(t *testing.T, hc *http.Client) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url, strings.NewReader(runBody))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
		"Mcp-Protocol-Version": {modernVersion}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"run"}}
	resp, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		for _, r := range protocol.Reasons() {
			if protocol.IsReason(err, r) {
				return "stream broke: " + string(r)
			}
		}
		return err.Error()
	}
	var m struct {
		Error *struct {
			Code int
			Data struct{ Reason string }
		}
	}
	text := body
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		for line := range strings.SplitSeq(string(body), "\n") {
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				text = []byte(data)
			}
		}
	}
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatalf("HTTP %d %q: %v", resp.StatusCode, body, err)
	}
	if m.Error != nil {
		if resp.StatusCode != http.StatusOK {
			t.Errorf("an error of the trust layer came with HTTP status %d", resp.StatusCode)
		}
		return m.Error.Data.Reason
	}
	if !bytes.Contains(text, []byte(canary)) {
		t.Fatalf("a result without the canary: %s", text)
	}
	return ""
}

func replace(old, new string) func(string, *httptest.ResponseRecorder, []byte) []byte {
	return func(_ string, _ *httptest.ResponseRecorder, b []byte) []byte {
		return bytes.ReplaceAll(b, []byte(old), []byte(new))
	}
}

// onAnswer changes answers to method only.
func onAnswer(method string, f func(rec *httptest.ResponseRecorder, b []byte) []byte) func(string, *httptest.ResponseRecorder, []byte) []byte {
	return func(m string, rec *httptest.ResponseRecorder, b []byte) []byte {
		if m != method {
			return b
		}
		return f(rec, b)
	}
}

func asJSON(rec *httptest.ResponseRecorder, body string) []byte {
	rec.Header().Set("Content-Type", "application/json")
	return []byte(body)
}

// flip changes one character of the last frame in b.
func flip(b []byte) []byte {
	i := bytes.LastIndex(b, []byte(`"frame":"`))
	if i < 0 {
		return b
	}
	b = bytes.Clone(b)
	i += len(`"frame":"`)
	end := i + bytes.IndexByte(b[i:], '"') - 4
	if b[end] == 'A' {
		b[end] = 'B'
	} else {
		b[end] = 'A'
	}
	return b
}

// events splits a stream into its events.
func events(b []byte) []string { return strings.SplitAfter(string(b), "\n\n") }

// Each attack is one change to an exchange that succeeds without it.
func TestHostileRelay(t *testing.T) {
	attacks := []struct {
		name string
		arm  func(t *testing.T, g *target)
		want string // reason
		runs int64  // of the canary tool, after the one that the twin made
	}{
		{"strip-extension", func(t *testing.T, g *target) {
			g.relay.answer = replace(protocol.ExtensionID, "org.example/other")
		}, "trust-missing", 0},
		{"strip-key", func(t *testing.T, g *target) {
			g.relay.answer = func(m string, rec *httptest.ResponseRecorder, b []byte) []byte {
				return bytes.ReplaceAll(bytes.ReplaceAll(b, []byte(protocol.MetaKey), []byte("x/key")), []byte(`"key":`), []byte(`"nokey":`))
			}
		}, "trust-missing", 0},
		{"swap-key", func(t *testing.T, g *target) {
			id, err := protocol.GenerateIdentity(g.url)
			if err != nil {
				t.Fatal(err)
			}
			evil, err := transport.Handler(http.NotFoundHandler(), transport.ServerConfig{Identity: id})
			if err != nil {
				t.Fatal(err)
			}
			next := g.relay.next
			g.relay.next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Mcp-Method") == "server/discover" {
					next = evil
				}
				next.ServeHTTP(w, r)
			})
		}, "identity-mismatch", 0},
		{"rewrite-suites", func(t *testing.T, g *target) {
			g.relay.answer = replace(`"suites":["mlkem768x25519-sha256-aes256gcm","x25519-sha256-chacha20poly1305"]`, `"suites":["x25519-sha256-chacha20poly1305"]`)
		}, "settings-mismatch", 0},
		{"rewrite-client-settings", func(t *testing.T, g *target) {
			g.relay.request = func(_ string, _ *http.Request, b []byte) []byte {
				return bytes.ReplaceAll(b, []byte(`"mlkem768x25519-sha256-aes256gcm",`), nil)
			}
		}, "negotiation-mismatch", 0},
		{"discover-error", func(t *testing.T, g *target) {
			g.relay.answer = onAnswer("server/discover", func(rec *httptest.ResponseRecorder, _ []byte) []byte {
				rec.Code = http.StatusBadRequest
				return asJSON(rec, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}`)
			})
		}, "discover-error", 0},
		{"discover-html", func(t *testing.T, g *target) {
			g.relay.answer = onAnswer("server/discover", func(rec *httptest.ResponseRecorder, _ []byte) []byte {
				rec.Code = http.StatusForbidden
				rec.Header().Set("Content-Type", "text/html")
				return []byte("<p>no")
			})
		}, "discover-error", 0},
		{"era-fallback", func(t *testing.T, g *target) {
			g.relay.answer = onAnswer("server/discover", func(rec *httptest.ResponseRecorder, b []byte) []byte {
				return bytes.Replace(b, []byte(`"2026-07-28",`), nil, 1)
			})
		}, "era-fallback", 0},
		{"plaintext-answer", func(t *testing.T, g *target) {
			g.relay.answer = onAnswer("trust/call", func(rec *httptest.ResponseRecorder, _ []byte) []byte {
				return asJSON(rec, `{"jsonrpc":"2.0","id":2,"result":{"resultType":"complete","content":[]}}`)
			})
		}, "plaintext-answer", 1},
		{"plaintext-status", func(t *testing.T, g *target) {
			g.relay.answer = onAnswer("trust/call", func(rec *httptest.ResponseRecorder, _ []byte) []byte {
				rec.Code = http.StatusAccepted
				rec.Header().Del("Content-Type")
				return nil
			})
		}, "plaintext-answer", 1},
		{"unsealed-error", func(t *testing.T, g *target) {
			g.relay.answer = onAnswer("trust/call", func(rec *httptest.ResponseRecorder, _ []byte) []byte {
				return asJSON(rec, `{"jsonrpc":"2.0","id":2,"error":{"code":-32603,"message":"oops"}}`)
			})
		}, "unsealed-error", 1},
		{"forged-local-reason", func(t *testing.T, g *target) {
			g.relay.answer = onAnswer("trust/call", func(rec *httptest.ResponseRecorder, _ []byte) []byte {
				return asJSON(rec, `{"jsonrpc":"2.0","id":2,"error":{"code":29100,"message":"x","data":{"extension":"`+protocol.ExtensionID+`","reason":"trust-missing"}}}`)
			})
		}, "unsealed-error", 1},
		// The server executed the message: its fresh seal says so, and is refused.
		{"forged-unknown-context", func(t *testing.T, g *target) {
			first := true
			g.relay.answer = onAnswer("trust/call", func(rec *httptest.ResponseRecorder, b []byte) []byte {
				if !first {
					return b
				}
				first = false
				return asJSON(rec, `{"jsonrpc":"2.0","id":2,"error":{"code":29006,"message":"x","data":{"extension":"`+protocol.ExtensionID+`","reason":"unknown-context"}}}`)
			})
		}, "replayed", 1},
		{"forged-unknown-context-for-ever", func(t *testing.T, g *target) {
			g.relay.answer = onAnswer("trust/call", func(rec *httptest.ResponseRecorder, b []byte) []byte {
				return asJSON(rec, `{"jsonrpc":"2.0","id":2,"error":{"code":29006,"message":"x","data":{"extension":"`+protocol.ExtensionID+`","reason":"unknown-context"}}}`)
			})
		}, "retries-exhausted", 1},
		{"replay", func(t *testing.T, g *target) { g.relay.twice = true }, "replayed", 1},
		{"alter-request", func(t *testing.T, g *target) {
			g.relay.request = func(m string, _ *http.Request, b []byte) []byte {
				if m == protocol.MethodCall {
					return flip(b)
				}
				return b
			}
		}, "open-failed", 0},
		{"add-name-header", func(t *testing.T, g *target) {
			g.relay.request = func(m string, r *http.Request, b []byte) []byte {
				if m == protocol.MethodCall {
					r.Header.Set("Mcp-Name", "echo")
				}
				return b
			}
		}, "outer-mismatch", 0},
		{"add-param-header", func(t *testing.T, g *target) {
			g.relay.request = func(m string, r *http.Request, b []byte) []byte {
				if m == protocol.MethodCall {
					r.Header.Set("Mcp-Param-Region", "x")
				}
				return b
			}
		}, "outer-mismatch", 0},
		{"method-header", func(t *testing.T, g *target) {
			g.relay.request = func(m string, r *http.Request, b []byte) []byte {
				if m == protocol.MethodCall {
					r.Header.Set("Mcp-Method", "tools/list")
				}
				return b
			}
		}, "unsealed-error", 0},
		{"alter-answer", func(t *testing.T, g *target) {
			g.relay.answer = onAnswer("trust/call", func(_ *httptest.ResponseRecorder, b []byte) []byte {
				ev := events(b)
				ev[0] = string(flip([]byte(ev[0])))
				return []byte(strings.Join(ev, ""))
			})
		}, "answer-invalid", 1},
		{"alter-later-frame", func(t *testing.T, g *target) {
			g.relay.answer = onAnswer("trust/call", func(_ *httptest.ResponseRecorder, b []byte) []byte { return flip(b) })
		}, "answer-invalid", 1},
		{"truncate", func(t *testing.T, g *target) {
			g.relay.answer = onAnswer("trust/call", func(_ *httptest.ResponseRecorder, b []byte) []byte {
				ev := events(b)
				return []byte(strings.Join(ev[:len(ev)-2], ""))
			})
		}, "truncated", 1},
		{"truncate-all", func(t *testing.T, g *target) {
			g.relay.answer = onAnswer("trust/call", func(*httptest.ResponseRecorder, []byte) []byte { return nil })
		}, "truncated", 1},
		{"drop-frame", func(t *testing.T, g *target) {
			g.relay.answer = onAnswer("trust/call", func(_ *httptest.ResponseRecorder, b []byte) []byte {
				ev := events(b)
				return []byte(ev[0] + strings.Join(ev[2:], ""))
			})
		}, "answer-out-of-order", 1},
		{"reorder", func(t *testing.T, g *target) {
			g.relay.answer = onAnswer("trust/call", func(_ *httptest.ResponseRecorder, b []byte) []byte {
				ev := events(b)
				ev[0], ev[1] = ev[1], ev[0]
				return []byte(strings.Join(ev, ""))
			})
		}, "answer-out-of-order", 1},
		{"duplicate-frame", func(t *testing.T, g *target) {
			g.relay.answer = onAnswer("trust/call", func(_ *httptest.ResponseRecorder, b []byte) []byte {
				ev := events(b)
				return []byte(ev[0] + strings.Join(ev, ""))
			})
		}, "", 1}, // TMCP-9.3-2: ignored
		{"duplicate-final", func(t *testing.T, g *target) {
			g.relay.answer = onAnswer("trust/call", func(_ *httptest.ResponseRecorder, b []byte) []byte {
				ev := events(b)
				return []byte(strings.Join(ev, "") + ev[len(ev)-2])
			})
		}, "", 1},
		{"splice", func(t *testing.T, g *target) {
			var last []string
			g.relay.answer = onAnswer("trust/call", func(_ *httptest.ResponseRecorder, b []byte) []byte {
				ev := events(b)
				if last == nil {
					last = ev
					return b
				}
				return []byte(ev[0] + strings.Join(last[1:], ""))
			})
			// One undisturbed call of the same context gives the relay its frames.
			if r := g.run(t, g.again); r != "" {
				t.Fatal("the call before failed:", r)
			}
			g.runs.Add(-1)
		}, "spliced", 1},
		{"plaintext-within", func(t *testing.T, g *target) {
			g.relay.answer = onAnswer("trust/call", func(_ *httptest.ResponseRecorder, b []byte) []byte {
				ev := events(b)
				return []byte(ev[0] + `data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}` + "\n\n" + strings.Join(ev[1:], ""))
			})
		}, "plaintext-answer", 1},
	}
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			g := newTarget(t, false, transport.ServerConfig{})
			hc := g.client(t, transport.ClientConfig{})
			g.again = hc
			if reason := g.run(t, g.client(t, transport.ClientConfig{})); reason != "" || g.runs.Load() != 1 {
				t.Fatalf("the twin without the attack failed: %s", reason)
			}
			a.arm(t, g)
			if got := g.run(t, hc); got != a.want {
				t.Errorf("reason %q, want %q", got, a.want)
			}
			if got := g.runs.Load() - 1; got != a.runs {
				t.Errorf("the tool ran %d times, want %d", got, a.runs)
			}
			if g.relay.plain.Load() {
				t.Error("plaintext left the client")
			}
		})
	}
}
