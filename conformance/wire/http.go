package wire

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// HTTP returns the Streamable HTTP endpoint at rawURL as a target. header is
// added to every request, for instance for authorization. observe may be nil.
func HTTP(rawURL string, header http.Header, observe Observer) (Target, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("%q is not an http or https URL", rawURL)
	}
	return &httpTarget{url: rawURL, host: u.Hostname(), header: header, observe: observe}, nil
}

type httpTarget struct {
	url, host string
	header    http.Header
	observe   Observer
}

func (t *httpTarget) Transport() Transport { return TransportHTTP }
func (t *httpTarget) String() string       { return t.url }

// Loopback reports whether target is reached over a loopback interface.
func Loopback(target Target) bool {
	t, ok := target.(*httpTarget)
	if !ok {
		return false
	}
	ip := net.ParseIP(t.host)
	return t.host == "localhost" || (ip != nil && ip.IsLoopback())
}

func (t *httpTarget) Open(ctx context.Context, log *Log) (Link, error) {
	tr := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxResponseHeaderBytes: 1 << 20,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
	}
	return &httpLink{target: t, log: log, tr: tr, client: &http.Client{
		Transport:     tr,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

type httpLink struct {
	target *httpTarget
	tr     *http.Transport
	client *http.Client
	wg     sync.WaitGroup

	mu  sync.Mutex
	log *Log
}

func (l *httpLink) Stray() []*Message { return nil }
func (l *httpLink) Alive() bool       { return true }
func (l *httpLink) SetLog(log *Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = log
}
func (l *httpLink) CloseInput(context.Context) error { return nil }
func (l *httpLink) Close()                           { l.wg.Wait(); l.tr.CloseIdleConnections() }

func (l *httpLink) logTo() *Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log
}

func (l *httpLink) Send(ctx context.Context, out Outgoing) (*Reply, error) {
	log, rep, began := l.logTo(), &Reply{}, time.Now()
	verb := out.Verb
	if verb == "" {
		verb = http.MethodPost
	}
	var body io.Reader
	if out.Body != nil {
		body = bytes.NewReader(out.Body)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, verb, l.target.url, body)
	if err != nil {
		return rep, err
	}
	for name, values := range l.target.header {
		req.Header[name] = values
	}
	for name, values := range out.Header {
		req.Header[name] = values // no canonical form: case is part of some tests
	}
	if h := req.Header["Host"]; len(h) > 0 { // net/http takes it from here
		req.Host = h[0]
		delete(req.Header, "Host")
	}
	rep.SentSeq = log.Add(Sent, "http-request", requestBytes(req, out.Body))
	resp, err := l.client.Do(req)
	if err != nil {
		if err := stepError(ctx, began, nil); err != nil {
			return rep, err
		}
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return rep, &UnreachableError{l.target.url, op}
		}
		return rep, fmt.Errorf("%w: %v", ErrClosed, err)
	}
	defer resp.Body.Close()
	head, _ := httputil.DumpResponse(resp, false)
	rep.Status, rep.Header = resp.StatusCode, resp.Header
	rep.SeenSeq = log.Add(Received, "http-response", head)
	rep.ContentType, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if out.HeadOnly {
		return rep, nil
	}
	if rep.SSE() {
		return rep, l.readStream(ctx, began, log, resp.Body, out, rep)
	}
	return rep, l.readBody(ctx, began, log, resp.Body, out, rep)
}

func (l *httpLink) readBody(ctx context.Context, began time.Time, log *Log, body io.Reader, out Outgoing, rep *Reply) error {
	data, err := io.ReadAll(io.LimitReader(body, MaxBytes+1))
	rep.Body = data
	if len(data) > 0 {
		seq := log.Add(Received, "message", data)
		if rep.ContentType == "application/json" {
			l.take(data, seq, out, rep)
		} else if m, err := ParseMessage(data); err == nil && m.Answers(out.ID) {
			m.Seq = seq // mislabelled: the case judges the content type, but can still see the answer
			rep.Messages, rep.Answer, rep.SeenSeq = append(rep.Messages, m), m, seq
		}
	}
	switch {
	case len(data) > MaxBytes:
		return fmt.Errorf("%w: an HTTP body of more than %d bytes", ErrFlood, MaxBytes)
	case err != nil:
		return stepError(ctx, began, fmt.Errorf("%w in the middle of a body: %v", ErrClosed, err))
	}
	return nil
}

func (l *httpLink) readStream(ctx context.Context, began time.Time, log *Log, body io.Reader, out Outgoing, rep *Reply) error {
	r, total := bufio.NewReader(body), 0
	for n := 0; ; n++ {
		ev, err := readEvent(r)
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				rep.StreamEnded = true
				if rep.Answer == nil && out.ID != "" && out.Until == nil {
					return fmt.Errorf("%w: the event stream ended without the answer", ErrClosed)
				}
				return nil
			}
			if rep.Answer != nil {
				return nil // only the end of the stream was still awaited
			}
			if errors.Is(err, ErrFlood) {
				return err
			}
			return stepError(ctx, began, fmt.Errorf("%w in the middle of an event stream: %v", ErrClosed, err))
		}
		total += len(ev.raw)
		seq := log.Add(Received, "sse-event", ev.raw)
		m := l.take(ev.data, seq, out, rep)
		if total > MaxBytes || n > MaxUnsolicited {
			return fmt.Errorf("%w: %d events, %d bytes before the answer", ErrFlood, n, total)
		}
		if m != nil && m.IsRequest() {
			l.answer(m, out)
		}
		if m != nil && out.Until != nil && out.Until(m) {
			return nil
		}
		if rep.Answer != nil {
			if !out.Drain {
				return nil
			}
			if closer, ok := body.(io.Closer); ok && m == rep.Answer {
				t := time.AfterFunc(time.Second, func() { closer.Close() })
				defer t.Stop()
			}
		}
	}
}

// take parses data and files it under rep.
func (l *httpLink) take(data []byte, seq int, out Outgoing, rep *Reply) *Message {
	m, err := ParseMessage(data)
	if l.target.observe != nil {
		l.target.observe(data, m, err)
	}
	if err != nil {
		return nil
	}
	m.Seq = seq
	rep.Messages = append(rep.Messages, m)
	if m.Answers(out.ID) {
		rep.Answer, rep.SeenSeq = m, seq
	}
	return m
}

// answer replies to a request that a legacy server makes on a stream.
func (l *httpLink) answer(m *Message, out Outgoing) {
	body := autoAnswer(m)
	header := http.Header{}
	for name, v := range out.Header {
		if !slices.Contains([]string{"mcp-method", "mcp-name"}, strings.ToLower(name)) {
			header[name] = v
		}
	}
	l.wg.Add(1)
	go func() {
		defer l.wg.Done()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, _ = l.Send(ctx, Outgoing{Body: body, Header: header})
	}()
}

// autoAnswer is what a client without capabilities owes a legacy server: an
// empty result to ping, and method-not-found to all else.
func autoAnswer(m *Message) []byte {
	if m.Method == "ping" {
		return jsonrpc.Response(m.ID, []byte("{}"))
	}
	return jsonrpc.ErrorResponse(m.ID, jsonrpc.CodeMethodNotFound, "this client declared no capabilities", nil)
}

func requestBytes(req *http.Request, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", req.Method, req.URL.RequestURI(), req.Host)
	names := make([]string, 0, len(req.Header))
	for n := range req.Header {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		for _, v := range req.Header[n] {
			if strings.EqualFold(n, "authorization") {
				v = "(not shown)"
			}
			fmt.Fprintf(&b, "%s: %s\r\n", n, v)
		}
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}
