package bridge

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// A toolTable remembers which tool parameters are mirrored into headers, from
// the tools/list answers that pass by.
type toolTable struct {
	mu      sync.Mutex
	mirrors map[string][]mirror // by tool; nil slice: none
	asked   time.Time           // last time the table was filled on purpose
}

const (
	maxTools       = 10_000
	maxToolPages   = 64
	toolListWait   = 10 * time.Second
	toolRefreshGap = time.Second
)

func (t *toolTable) learn(result jsontext.Value) {
	tools := jsonrpc.Get(result, "tools")
	if tools.Kind() != '[' {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mirrors == nil {
		t.mirrors = map[string][]mirror{}
	}
	_ = elements(tools, func(tool jsontext.Value) error {
		name, ok := jsonrpc.Text(jsonrpc.Get(tool, "name"))
		if !ok || len(t.mirrors) >= maxTools {
			return nil
		}
		mirrors, err := toolMirrors(jsonrpc.Get(tool, "inputSchema"))
		if err != nil {
			mirrors = nil // an invalid definition: clients don't offer it, nothing is mirrored
		}
		t.mirrors[name] = mirrors
		return nil
	})
}

func (t *toolTable) lookup(name string) (mirrors []mirror, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mirrors, known = t.mirrors[name]
	return
}

// due reports whether the table may be refreshed now, and notes that it is.
func (t *toolTable) due() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.asked) < toolRefreshGap {
		return false
	}
	t.asked = time.Now()
	return true
}

// checkToolHeaders verifies the Mcp-Param-* headers of a modern tools/call:
// "Any server that processes the message body MUST validate that encoded
// header values … match". The child sees no headers, so the bridge must, and
// asks the child for the tool's schema when it hasn't seen it.
func (be *backend) checkToolHeaders(ctx context.Context, h http.Header, m *jsonrpc.Message) error {
	name, ok := jsonrpc.Text(jsonrpc.Get(m.Params, "name"))
	if !ok {
		return nil // the child refuses it
	}
	mirrors, known := be.tools.lookup(name)
	err := checkParams(h, mirrors, m.Params)
	if known && err == nil || !be.tools.due() {
		return err
	}
	// The tool is new, or its definition may have changed.
	be.listTools(ctx, m)
	mirrors, _ = be.tools.lookup(name)
	return checkParams(h, mirrors, m.Params)
}

// listTools fills the table from the child, speaking as the client of m does.
// Failure leaves the table as it is: the child then refuses the call itself.
func (be *backend) listTools(ctx context.Context, m *jsonrpc.Message) {
	ctx, cancel := context.WithTimeout(ctx, toolListWait)
	defer cancel()
	meta := jsonrpc.Get(m.Params, "_meta")
	const caps = "io.modelcontextprotocol/clientCapabilities"
	capabilities := jsonrpc.Get(meta, caps)
	if capabilities == nil {
		return
	}
	cursor := ""
	for range maxToolPages {
		raw := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":0,"method":"tools/list","params":{%s"_meta":{%q:%s,%q:%s}}}`,
			cursor, metaVersion, jsonrpc.Get(meta, metaVersion), caps, capabilities)
		req, err := jsonrpc.Parse(raw, be.srv.o.Limits)
		if err != nil {
			return
		}
		c := &call{stream: newStream(0, 1, be.srv.o.Limits.Bytes())}
		var next jsontext.Value
		c.onAnswer = func(a *jsonrpc.Message) { next = jsonrpc.Get(a.Result, "nextCursor") }
		if be.start(ctx, req, c) != nil {
			return
		}
		gen := c.stream.attach()
		for at, last := 0, false; !last; at++ {
			if _, at, last, err = c.stream.next(ctx, gen, at); err != nil {
				be.cancel(c, "gave up", nil)
				return
			}
		}
		if next.Kind() != '"' {
			return
		}
		cursor = `"cursor":` + string(next) + `,`
	}
}
