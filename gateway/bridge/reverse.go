package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// ReverseOptions configures [NewReverse]. Only Upstream is required.
type ReverseOptions struct {
	// Upstream is the MCP endpoint that requests go to. Its path replaces the
	// request's; the request's query is kept.
	Upstream string
	// RewriteHost sends the upstream's own name in Host. By default the
	// client's is kept, so that the upstream can validate it; an upstream that
	// is reached by another name over TLS needs it rewritten, and then Guard
	// must do the validation.
	RewriteHost bool
	// Guard validates Host and Origin here; nil leaves that to the upstream.
	Guard     *Guard
	Transport http.RoundTripper // nil: a plain one of the proxy's own
	Limits    jsonrpc.Limits    // MaxBytes bounds a request body
	// AnswerWait bounds the wait for the first byte of an answer; default 1
	// hour, since tools may work long. Streams that have begun may go on.
	AnswerWait time.Duration
	Logger     *slog.Logger // nil discards
}

// A Reverse is a transparent reverse proxy for one MCP endpoint. It forwards
// what it gets, even when malformed: judging it is up to the two ends.
type Reverse struct {
	o     ReverseOptions
	proxy *httputil.ReverseProxy
	own   *http.Transport // nil when the caller gave one
}

// NewReverse checks the options and builds the handler. Close it to drop its
// idle connections.
func NewReverse(o ReverseOptions) (*Reverse, error) {
	u, err := url.Parse(o.Upstream)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("bridge: %q is no http or https URL of an MCP endpoint", o.Upstream)
	}
	if o.AnswerWait <= 0 {
		o.AnswerWait = time.Hour
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Reverse{o: o}
	if o.Transport == nil {
		p.own = plainTransport()
		p.own.Proxy = nil // the upstream is ours; a proxy of the environment is not meant for it
		p.o.Transport = p.own
	}
	p.proxy = &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			out := pr.Out
			query := out.URL.RawQuery
			*out.URL = *u
			if query != "" {
				if out.URL.RawQuery != "" {
					query = out.URL.RawQuery + "&" + query
				}
				out.URL.RawQuery = query
			}
			if o.RewriteHost {
				out.Host = u.Host
			}
			// ReverseProxy drops these for proxies that write them anew; this
			// one stays invisible.
			for _, k := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
				if v, ok := pr.In.Header[k]; ok {
					out.Header[k] = v
				}
			}
		},
		Transport:  p.o.Transport, // ReverseProxy flushes event streams, and bodies of unknown length, as they come
		BufferPool: copyBuffers{},
		ModifyResponse: func(r *http.Response) error {
			if e, ok := r.Request.Context().Value(exchangeKey{}).(*proxied); ok && !e.timer.Stop() {
				return errLate
			}
			return nil
		},
		ErrorHandler: p.fail,
		ErrorLog:     log.New(logWriter{o.Logger}, "", 0),
	}
	return p, nil
}

// Close drops idle connections to the upstream.
func (p *Reverse) Close() error {
	if p.own != nil {
		p.own.CloseIdleConnections()
	}
	return nil
}

// copyBuffers are what answers are copied through.
type copyBuffers struct{}

var copies = sync.Pool{New: func() any { return new([32 << 10]byte) }}

func (copyBuffers) Get() []byte  { return copies.Get().(*[32 << 10]byte)[:] }
func (copyBuffers) Put(b []byte) { copies.Put((*[32 << 10]byte)(b)) }

type exchangeKey struct{}

// proxied is what the error handler needs to know of a request.
type proxied struct {
	body  []byte
	timer *time.Timer
}

var errLate = errors.New("no answer in time")

// ServeHTTP implements [http.Handler].
func (p *Reverse) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.o.Guard != nil {
		if err := p.o.Guard.Check(r); err != nil {
			writeError(w, http.StatusForbidden, "", jsonrpc.CodeInvalidRequest, err.Error(), nil)
			return
		}
	}
	// The body is read first: net/http closes an unread one as soon as the
	// answer begins, which breaks the upstream connection while the transport
	// still probes the body for its end.
	body, ok := readBody(w, r, p.o.Limits.Bytes())
	if !ok {
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	e := &proxied{body: body, timer: time.AfterFunc(p.o.AnswerWait, func() { cancel(errLate) })}
	defer e.timer.Stop()
	in := r.WithContext(context.WithValue(ctx, exchangeKey{}, e)) // ReverseProxy clones it
	if in.Header["Upgrade"] != nil {
		in.Header = in.Header.Clone()
		in.Header.Del("Upgrade") // MCP has no use for it
	}
	in.ContentLength = int64(len(body))
	in.TransferEncoding = nil
	in.Body, in.GetBody = http.NoBody, nil
	if len(body) > 0 {
		in.Body = io.NopCloser(bytes.NewReader(body))
		in.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	p.proxy.ServeHTTP(w, in)
}

// fail answers for an upstream that didn't.
func (p *Reverse) fail(w http.ResponseWriter, r *http.Request, err error) {
	if cause := context.Cause(r.Context()); errors.Is(cause, errLate) {
		err = errLate
	} else if r.Context().Err() != nil {
		return // the client is gone
	}
	status, reason := http.StatusBadGateway, "upstream-failed"
	what := "the MCP server behind this gateway failed: " + err.Error()
	var op *net.OpError
	switch {
	case errors.Is(err, errLate):
		status, reason = http.StatusGatewayTimeout, "upstream-timeout"
		what = fmt.Sprintf("the MCP server behind this gateway did not answer within %v", p.o.AnswerWait)
	case errors.As(err, &op) && op.Op == "dial":
		reason = "upstream-unreachable"
		what = "the MCP server behind this gateway can't be reached: " + err.Error()
	}
	p.o.Logger.Warn("upstream request failed", "upstream", p.o.Upstream, "error", err)
	var id jsonrpc.ID
	if e, ok := r.Context().Value(exchangeKey{}).(*proxied); ok {
		if m, err := jsonrpc.Parse(e.body, p.o.Limits); err == nil && m.IsRequest() {
			id = m.ID
		}
	}
	writeError(w, status, id, jsonrpc.CodeInternal, what, reasonData(reason))
}

type logWriter struct{ l *slog.Logger }

func (w logWriter) Write(b []byte) (int, error) {
	w.l.Warn(string(bytes.TrimSpace(b)))
	return len(b), nil
}
