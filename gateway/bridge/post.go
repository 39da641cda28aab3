package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// accepts reports whether the Accept header admits the media type. Quality
// values are ignored, except that q=0 refuses.
func accepts(r *http.Request, want string) bool {
	major, _, _ := strings.Cut(want, "/")
	for _, line := range r.Header["Accept"] {
		for part := range strings.SplitSeq(line, ",") {
			t, params, err := mime.ParseMediaType(part)
			if err != nil || t != want && t != "*/*" && t != major+"/*" {
				continue
			}
			if q, err := strconv.ParseFloat(params["q"], 64); err != nil || q > 0 {
				return true
			}
		}
	}
	return false
}

// readBody reads a whole request body; on failure it has answered.
func readBody(w http.ResponseWriter, r *http.Request, max int) ([]byte, bool) {
	var buf bytes.Buffer
	if r.ContentLength > 0 {
		buf.Grow(int(min(r.ContentLength, int64(max), 64<<10)) + bytes.MinRead) // more only as it comes
	}
	_, err := buf.ReadFrom(http.MaxBytesReader(w, r.Body, int64(max)))
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		writeError(w, http.StatusRequestEntityTooLarge, "", jsonrpc.CodeInvalidRequest,
			fmt.Sprintf("the request body is larger than the limit of %d bytes", max), reasonData("request-too-large"))
		return nil, false
	case err != nil:
		writeError(w, http.StatusBadRequest, "", jsonrpc.CodeParse, "the request body broke off: "+err.Error(), nil)
		return nil, false
	}
	return buf.Bytes(), true
}

func (s *StdioServer) servePost(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r, s.o.Limits.Bytes())
	if !ok {
		return
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		writeError(w, http.StatusUnsupportedMediaType, "", jsonrpc.CodeInvalidRequest, "Content-Type must be application/json", nil)
		return
	}
	if !accepts(r, "application/json") || !accepts(r, "text/event-stream") {
		writeError(w, http.StatusNotAcceptable, "", jsonrpc.CodeInvalidRequest, "Accept must list application/json and text/event-stream", nil)
		return
	}
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("[")) {
		s.serveBatch(w, r, body)
		return
	}
	m, err := jsonrpc.Parse(body, s.o.Limits)
	if err != nil {
		refuseParse(w, err)
		return
	}
	version, hasVersion, err := one(r.Header, hdrVersion)
	if err != nil {
		writeError(w, http.StatusBadRequest, m.ID, jsonrpc.CodeHeaderMismatch, err.Error(), nil)
		return
	}
	_, hasSession := r.Header[hdrSession]
	switch {
	case modernVersion(m) != "" || hasVersion && !legacyVersion(version) && !hasSession:
		s.serveModern(w, r, m, version)
	case m.Method == "initialize" && !hasSession:
		s.serveInitialize(w, r, m)
	default:
		sess := s.sessionOf(w, r)
		if sess == nil {
			return
		}
		sess.enter()
		defer sess.leave()
		s.serveLegacy(w, r, sess, m)
	}
}

func refuseParse(w http.ResponseWriter, err error) {
	code, reason := jsonrpc.CodeParse, ""
	var pe *jsonrpc.ParseError
	if errors.As(err, &pe) {
		code, reason = pe.Code, pe.Reason
	}
	writeError(w, http.StatusBadRequest, "", code, err.Error(), reasonData(reason))
}

// serveModern serves one request of 2026-07-28 or later.
func (s *StdioServer) serveModern(w http.ResponseWriter, r *http.Request, m *jsonrpc.Message, version string) {
	refuse := func(code int, why string) { writeError(w, http.StatusBadRequest, m.ID, code, why, nil) }
	declared, _ := jsonrpc.Text(jsonrpc.Get(m.Params, "_meta", metaVersion))
	switch {
	case m.IsResponse():
		refuse(jsonrpc.CodeInvalidRequest, "clients send no responses in this protocol revision")
		return
	case version == "":
		refuse(jsonrpc.CodeHeaderMismatch, "required header "+hdrVersion+" is missing")
		return
	case declared == "" && m.IsRequest():
		refuse(jsonrpc.CodeInvalidParams, "params._meta lacks the required "+metaVersion)
		return
	case declared != version && m.IsRequest():
		refuse(jsonrpc.CodeHeaderMismatch, fmt.Sprintf("header %s is %q, the body declares %q", hdrVersion, version, declared))
		return
	}
	if err := checkMirrors(r.Header, m); err != nil {
		refuse(jsonrpc.CodeHeaderMismatch, err.Error())
		return
	}
	be, err := s.stateless()
	if err != nil {
		unavailable(w, m.ID, err)
		return
	}
	ctx, cancel := sendContext(r)
	defer cancel()
	if m.IsNotification() {
		// The one core notification, cancelled, names an id of this client's
		// own leg; over HTTP the cancellation is the disconnect.
		if m.Method != "notifications/cancelled" {
			if err := be.proc.send(ctx, rewrite(m.Raw)); err != nil {
				writeError(w, http.StatusBadGateway, "", jsonrpc.CodeInternal, err.Error(), nil)
				return
			}
		}
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if be.era.Load() == eraLegacy && m.Method != "server/discover" {
		writeError(w, http.StatusBadRequest, m.ID, jsonrpc.CodeInvalidRequest, legacyOnly, reasonData("legacy-server"))
		return
	}
	if m.Method == "tools/call" {
		if err := be.checkToolHeaders(ctx, r.Header, m); err != nil {
			refuse(jsonrpc.CodeHeaderMismatch, err.Error())
			return
		}
	}
	c := &call{stream: newStream(0, 1, s.streamBytes())}
	if err := be.start(ctx, m, c); err != nil {
		unavailable(w, m.ID, err)
		return
	}
	unsuspect := be.suspect(r.Context(), m, c)
	out := &sseWriter{w: w, keepAlive: s.o.KeepAlive, st: c.stream, modern: true, single: m.ID}
	out.respond(r.Context())
	unsuspect()
	// "The server MUST treat a client disconnect as cancellation of that
	// request." After a complete answer this does nothing.
	be.cancel(c, "the client closed the response stream", nil)
}

// serveInitialize opens a legacy session.
func (s *StdioServer) serveInitialize(w http.ResponseWriter, r *http.Request, m *jsonrpc.Message) {
	if !m.IsRequest() {
		writeError(w, http.StatusBadRequest, "", jsonrpc.CodeInvalidRequest, "initialize must be a request", nil)
		return
	}
	sess, err := s.openSession()
	if err != nil {
		unavailable(w, m.ID, err)
		return
	}
	sess.enter()
	defer sess.leave()
	refused := true
	c := &call{sess: sess, stream: sess.newStream(1), onAnswer: func(a *jsonrpc.Message) {
		v, ok := jsonrpc.Text(jsonrpc.Get(a.Result, "protocolVersion"))
		refused = !ok
		sess.setVersion(v)
	}}
	sess.add(c, m.ID)
	ctx, cancel := sendContext(r)
	defer cancel()
	if err := sess.be.start(ctx, m, c); err != nil {
		s.endSession(sess, err)
		unavailable(w, m.ID, err)
		return
	}
	// Not resumable: a client that loses this answer has no session id.
	out := &sseWriter{w: w, keepAlive: s.o.KeepAlive, st: c.stream, single: m.ID, sessionID: sess.id}
	if !out.respond(r.Context()) || refused {
		s.endSession(sess, errSessionEnded)
	}
}

// serveLegacy serves one message within a session.
func (s *StdioServer) serveLegacy(w http.ResponseWriter, r *http.Request, sess *session, m *jsonrpc.Message) {
	if !m.IsRequest() {
		if err := s.forward(r, sess, m); err != nil {
			writeError(w, http.StatusBadGateway, "", jsonrpc.CodeInternal, err.Error(), nil)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		return
	}
	st := sess.newStream(1)
	if err := s.begin(r, sess, m, st); err != nil {
		if errors.Is(err, errIDInUse) {
			writeError(w, http.StatusBadRequest, m.ID, jsonrpc.CodeInvalidRequest, err.Error(), nil)
			return
		}
		unavailable(w, m.ID, err)
		return
	}
	out := &sseWriter{w: w, keepAlive: s.o.KeepAlive, st: st, sess: sess, single: m.ID}
	out.respond(r.Context())
	// "Disconnection SHOULD NOT be interpreted as the client cancelling its
	// request": the call goes on, and its stream can be resumed.
	sess.retireIfEnded(st)
}

var errIDInUse = errors.New("a request with this id is in progress in the session")

func (s *StdioServer) begin(r *http.Request, sess *session, m *jsonrpc.Message, st *stream) error {
	c := &call{sess: sess, stream: st}
	if !sess.add(c, m.ID) {
		return errIDInUse
	}
	if m.Method == "resources/subscribe" || m.Method == "resources/unsubscribe" {
		sess.subscribe(m)
	}
	ctx, cancel := sendContext(r)
	defer cancel()
	if err := sess.be.start(ctx, m, c); err != nil {
		sess.done(c)
		return err
	}
	return nil
}

// forward passes on a client's notification, or its answer to a request.
func (s *StdioServer) forward(r *http.Request, sess *session, m *jsonrpc.Message) error {
	be := sess.be
	ctx, cancel := sendContext(r)
	defer cancel()
	if m.IsResponse() {
		be.mu.Lock()
		mine := be.asked[m.ID] == sess
		if mine {
			delete(be.asked, m.ID)
		}
		be.mu.Unlock()
		if !mine { // late, repeated, or an attempt to answer for another client
			s.log.Debug("a client answered a request that is not pending in its session", "id", m.ID)
			return nil
		}
		return be.proc.send(ctx, rewrite(m.Raw))
	}
	if m.Method != "notifications/cancelled" {
		return be.proc.send(ctx, rewrite(m.Raw))
	}
	c := sess.callOf(jsonrpc.ID(jsonrpc.Get(m.Params, "requestId")))
	if c == nil || c.method == "initialize" {
		return nil // it has been answered already
	}
	// "The receiver SHOULD … not send a response"; the HTTP answer must end
	// nevertheless, and a child that does respond gets a moment to do so.
	time.AfterFunc(cancelWait, func() {
		if be.take(c.id) != nil {
			c.finish(c.failure(codeCancelled, "the request was cancelled", "cancelled"))
		}
	})
	return be.proc.send(ctx, rewrite(m.Raw, set(fmt.Append(nil, c.id), "params", "requestId")))
}

const (
	cancelWait    = time.Second
	codeCancelled = -32800 // as in the Language Server Protocol; outside JSON-RPC's reserved range
)

// serveBatch serves a JSON-RPC batch, which 2025-03-26 alone has.
func (s *StdioServer) serveBatch(w http.ResponseWriter, r *http.Request, body []byte) {
	refuse := func(why string) {
		writeError(w, http.StatusBadRequest, "", jsonrpc.CodeInvalidRequest, why, reasonData("batch"))
	}
	if _, ok := r.Header[hdrSession]; !ok {
		refuse("a JSON-RPC batch needs a session of protocol revision 2025-03-26")
		return
	}
	sess := s.sessionOf(w, r)
	if sess == nil {
		return
	}
	if v := sess.negotiated(); v != "2025-03-26" {
		refuse("JSON-RPC batches are not part of protocol revision " + v)
		return
	}
	msgs, err := jsonrpc.Split(body, s.o.Limits)
	if err != nil {
		refuseParse(w, err)
		return
	}
	if len(msgs) > maxBatch {
		refuse(fmt.Sprintf("a batch of %d messages, the limit is %d", len(msgs), maxBatch))
		return
	}
	sess.enter()
	defer sess.leave()
	requests := 0
	for _, m := range msgs {
		if m.IsRequest() {
			requests++
		}
	}
	st := sess.newStream(max(requests, 1))
	for _, m := range msgs {
		var err error
		if m.IsRequest() {
			if err = s.begin(r, sess, m, st); err != nil {
				st.push(jsonrpc.ErrorResponse(m.ID, jsonrpc.CodeInvalidRequest, err.Error(), nil), true)
			}
		} else if err = s.forward(r, sess, m); err != nil {
			s.log.Warn("a message of a batch was not passed on", "error", err)
		}
	}
	if requests == 0 {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	out := &sseWriter{w: w, keepAlive: s.o.KeepAlive, st: st, sess: sess, streamOnly: true}
	out.respond(r.Context())
	sess.retireIfEnded(st)
}

const maxBatch = 100

// withIdle returns a context that ends with ctx or after d.
func withIdle(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d)
}
