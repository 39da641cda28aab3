package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// opened notes the session that the server's answer to initialize began.
func (p *pump) opened(m *jsonrpc.Message, answer []byte, id string) {
	v, ok := jsonrpc.Text(jsonrpc.Get(jsontext.Value(answer), "result", "protocolVersion"))
	if !ok {
		return // an error: there is no session
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session.stopGet != nil {
		p.session.stopGet()
	}
	p.session = legacySession{
		generation: p.session.generation + 1, id: id, version: v,
		initialize: m.Raw, ready: p.session.ready,
	}
}

// initialized opens the stream of server-initiated messages. Servers that have
// none answer 405.
func (p *pump) initialized(m *jsonrpc.Message) {
	ctx, cancel := context.WithCancel(p.ctx)
	p.mu.Lock()
	if p.session.stopGet != nil || p.session.version == "" || p.session.version == "2024-11-05" {
		p.mu.Unlock()
		cancel()
		return
	}
	p.session.ready = m.Raw
	p.session.stopGet = cancel
	s := p.session
	p.mu.Unlock()
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		defer cancel()
		p.listen(ctx, s)
	}()
}

// listen keeps the GET stream open until ctx or the session ends.
func (p *pump) listen(ctx context.Context, s legacySession) {
	cur := cursor{retry: firstRetry}
	failures := 0
	for ctx.Err() == nil {
		body, err := p.openStream(ctx, s, cur.last)
		if err == nil {
			failures = 0
			_, err = p.readEvents(body, "", false, &cur)
			_ = body.Close()
		} else {
			failures++
			var he *httpError
			if errors.As(err, &he) && he.status >= 400 && he.status < 500 && he.status != http.StatusConflict && he.status != http.StatusTooManyRequests {
				if cur.last == "" || he.status == http.StatusNotFound || he.status == http.StatusMethodNotAllowed {
					return // there is no such stream, or no session any more
				}
				cur.last = "" // the server forgot the place: what was missed is lost
				p.log.Warn("the stream of server messages can't be resumed where it broke off", "error", err)
			}
		}
		if ctx.Err() != nil {
			return
		}
		p.log.Debug("the stream of server messages ended; it is opened again", "error", err)
		if pause(ctx, cur.wait(failures)) != nil {
			return
		}
	}
}

// openAgain starts a new session in place of the lost one, for the first who
// notices; the others get its result.
func (p *pump) openAgain(ctx context.Context, lost int) (legacySession, error) {
	p.reinit.Lock()
	defer p.reinit.Unlock()
	p.mu.Lock()
	s := p.session
	p.mu.Unlock()
	if s.generation != lost {
		return s, nil
	}
	ctx, cancel := context.WithTimeout(ctx, notifyWait)
	defer cancel()
	m, err := jsonrpc.Parse(s.initialize, p.o.Limits)
	if err != nil {
		return s, err
	}
	if _, err := p.post(ctx, m, &pending{wrote: make(chan struct{})}, "", legacySession{}); err != nil {
		return s, err
	}
	p.mu.Lock()
	fresh := p.session
	p.mu.Unlock()
	if fresh.generation == lost {
		return s, errors.New("the server refused to initialize again")
	}
	if fresh.version != s.version {
		return s, fmt.Errorf("the server negotiated %s before and %s now", s.version, fresh.version)
	}
	p.log.Warn("the server had ended the session; a new one was started")
	if s.ready != nil {
		ready, err := jsonrpc.Parse(s.ready, p.o.Limits)
		if err != nil {
			return s, err
		}
		if _, err := p.post(ctx, ready, nil, "", fresh); err != nil {
			return s, err
		}
		p.initialized(ready)
	}
	return fresh, nil
}

// fetchTools reads the server's tools, speaking as the client of m does, and
// reports whether that succeeded.
func (p *pump) fetchTools(ctx context.Context, m *jsonrpc.Message, version string) bool {
	ctx, cancel := context.WithTimeout(ctx, toolListWait)
	defer cancel()
	const caps = "io.modelcontextprotocol/clientCapabilities"
	capabilities := jsonrpc.Get(m.Params, "_meta", caps)
	if capabilities == nil {
		return false
	}
	at := ""
	for page := range maxToolPages {
		raw := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":"bridge-tools-%d","method":"tools/list","params":{%s"_meta":{%q:%s,%q:%s}}}`,
			page, at, metaVersion, jsonrpc.Quote(version), caps, capabilities)
		list, err := jsonrpc.Parse(raw, p.o.Limits)
		if err != nil {
			return false
		}
		answer, err := p.post(ctx, list, &pending{modern: true, wrote: make(chan struct{})}, version, legacySession{})
		if err != nil {
			return false
		}
		next := jsonrpc.Get(jsontext.Value(answer), "result", "nextCursor")
		if next.Kind() != '"' {
			return true
		}
		at = `"cursor":` + string(next) + `,`
	}
	return true
}
