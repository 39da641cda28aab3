// Package verifier speaks Veraison's challenge-response API
// (github.com/veraison/docs, api/challenge-response, version 1): [NewServer]
// makes a small verifier for tests and small sites, [NewClient] an appraiser
// that asks a remote one.
//
// A session has a nonce of 8 to 64 bytes, which the server or the relying party
// chose, takes evidence once, and answers with an EAR as a JWT. What evidence
// must bind is the nonce followed by zeros up to 64 bytes; a nonce of 64 bytes
// is report data as it is, which is how a [Client] has the evidence of a key
// object appraised.
package verifier

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Media types and paths of the API.
const (
	TypeSession   = "application/vnd.veraison.challenge-response-session+json"
	TypeDiscovery = "application/vnd.veraison.discovery+json"
	typeProblem   = "application/problem+json" // RFC 9457

	PathDiscovery  = "/.well-known/veraison/verification"
	PathNewSession = "/challenge-response/v1/newSession"
	pathSession    = "/challenge-response/v1/session/"
)

const (
	minNonce     = 8 // bytes
	maxNonce     = 64
	defaultNonce = 32

	// maxSubmissions are read and appraised at the same time.
	maxSubmissions = 64
	// bodyTimeout is how long evidence may take to come in.
	bodyTimeout = 10 * time.Second
)

// Bounds of a server, unless configured.
const (
	DefaultMaxEvidence = 1 << 20 // bytes
	DefaultMaxSessions = 10_000
	DefaultLifetime    = 2 * time.Minute
)

// A Submission is evidence that was submitted to a session.
type Submission struct {
	MediaType string // of Evidence, with its parameters
	Evidence  []byte
	Nonce     []byte // of the session
	Now       time.Time
}

// ReportData is what the evidence must bind.
func (s *Submission) ReportData() (rd [maxNonce]byte) {
	copy(rd[:], s.Nonce)
	return rd
}

// An Issuer appraises evidence. Safe for concurrent use.
type Issuer interface {
	// MediaTypes are those of the evidence that it takes.
	MediaTypes() []string
	// Issue returns an EAR, a JWT with the nonce, whatever the verdict: bad
	// evidence gets a bad result. It fails only when it can't appraise.
	Issue(ctx context.Context, s Submission) (jwt string, err error)
	// Key is the public key of the EARs, as a JWK with "alg".
	Key() (jwk []byte)
}

// ServerConfig says what a server does.
type ServerConfig struct {
	Issuer      Issuer        // required
	MaxEvidence int           // bytes; default DefaultMaxEvidence
	MaxSessions int           // at the same time; default DefaultMaxSessions
	Lifetime    time.Duration // of a session; default DefaultLifetime
	Version     string        // for the discovery document
	Logger      *slog.Logger
	Now         func() time.Time
}

// A Server is an http.Handler for the API.
type Server struct {
	cfg   ServerConfig
	mux   *http.ServeMux
	slots chan struct{} // submissions under way: each holds evidence in memory

	mu       sync.Mutex
	sessions map[string]*session
	swept    time.Time
}

type status string

const (
	waiting    status = "waiting"
	processing status = "processing"
	complete   status = "complete"
	failed     status = "failed"
)

// A session is guarded by its server's mutex.
type session struct {
	nonce  []byte
	expiry time.Time
	status status
	result string
}

// A document is a session as the API shows it. The evidence, which it may
// repeat, is not kept.
type document struct {
	Nonce  string    `json:"nonce"` // base64
	Expiry time.Time `json:"expiry"`
	Accept []string  `json:"accept"`
	Status status    `json:"status"`
	Result string    `json:"result,omitzero"`
}

// NewServer makes a server.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Issuer == nil {
		return nil, errors.New("verifier: a server needs an issuer")
	}
	if cfg.MaxEvidence <= 0 {
		cfg.MaxEvidence = DefaultMaxEvidence
	}
	if cfg.MaxSessions <= 0 {
		cfg.MaxSessions = DefaultMaxSessions
	}
	if cfg.Lifetime <= 0 {
		cfg.Lifetime = DefaultLifetime
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{cfg: cfg, mux: http.NewServeMux(), slots: make(chan struct{}, maxSubmissions), sessions: map[string]*session{}}
	s.mux.HandleFunc("GET "+PathDiscovery, s.discovery)
	s.mux.HandleFunc("POST "+PathNewSession, s.newSession)
	s.mux.HandleFunc("GET "+pathSession+"{id}", s.show)
	s.mux.HandleFunc("POST "+pathSession+"{id}", s.submit)
	s.mux.HandleFunc("DELETE "+pathSession+"{id}", s.remove)
	return s, nil
}

// ServeHTTP serves the API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Header.Get("Origin") != "" {
		problem(w, http.StatusForbidden, "no web pages", "this API is not for browsers")
		return
	}
	s.mux.ServeHTTP(w, r)
}

// Serve serves on l until ctx ends, and then lets requests under way finish for
// a few seconds.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler: s, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		_ = srv.Close()
	}
	<-ended
	return nil
}

func (s *Server) discovery(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, TypeDiscovery, struct {
		Key       jsontext.Value    `json:"ear-verification-key"`
		Types     []string          `json:"media-types"`
		Version   string            `json:"version"`
		State     string            `json:"service-state"`
		Endpoints map[string]string `json:"api-endpoints"`
	}{s.cfg.Issuer.Key(), s.cfg.Issuer.MediaTypes(), s.cfg.Version, "READY", map[string]string{"newChallengeResponseSession": PathNewSession}})
}

func (s *Server) newSession(w http.ResponseWriter, r *http.Request) {
	if !acceptable(w, r) {
		return
	}
	nonce, err := chosenNonce(r)
	if err != nil {
		problem(w, http.StatusBadRequest, "bad nonce", err.Error())
		return
	}
	now := s.cfg.Now()
	se := &session{nonce: nonce, expiry: now.Add(s.cfg.Lifetime).UTC().Truncate(time.Millisecond), status: waiting}
	var id [16]byte
	rand.Read(id[:]) // never fails
	name := hex.EncodeToString(id[:])
	s.mu.Lock()
	s.sweep(now)
	full := len(s.sessions) >= s.cfg.MaxSessions
	if !full {
		s.sessions[name] = se
	}
	doc := s.document(se)
	s.mu.Unlock()
	if full {
		busy(w, fmt.Sprintf("%d sessions are open", s.cfg.MaxSessions))
		return
	}
	w.Header().Set("Location", "session/"+name) // relative: whatever prefix a proxy adds
	reply(w, http.StatusCreated, TypeSession, doc)
}

// chosenNonce makes a nonce, or takes the client's.
func chosenNonce(r *http.Request) ([]byte, error) {
	q := r.URL.Query()
	given, size := q["nonce"], q["nonceSize"]
	switch {
	case len(given)+len(size) > 1:
		return nil, errors.New("give nonce or nonceSize, once")
	case len(given) == 1:
		nonce, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(given[0], "="))
		if err != nil || len(nonce) < minNonce || len(nonce) > maxNonce {
			return nil, fmt.Errorf("nonce: want %d to %d bytes in base64url", minNonce, maxNonce)
		}
		return nonce, nil
	}
	n := defaultNonce
	if len(size) == 1 {
		var err error
		if n, err = strconv.Atoi(size[0]); err != nil || n < minNonce || n > maxNonce {
			return nil, fmt.Errorf("nonceSize %.20q: want %d to %d", size[0], minNonce, maxNonce)
		}
	}
	nonce := make([]byte, n)
	rand.Read(nonce)
	return nonce, nil
}

func (s *Server) show(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	se := s.find(r)
	var doc document
	if se != nil {
		doc = s.document(se)
	}
	s.mu.Unlock()
	if se == nil {
		noSession(w)
		return
	}
	reply(w, http.StatusOK, TypeSession, doc)
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	se := s.find(r)
	delete(s.sessions, r.PathValue("id"))
	s.mu.Unlock()
	if se == nil {
		noSession(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) submit(w http.ResponseWriter, r *http.Request) {
	if !acceptable(w, r) {
		return
	}
	mediaType := r.Header.Get("Content-Type")
	if !s.takes(mediaType) {
		problem(w, http.StatusUnsupportedMediaType, "unsupported evidence", fmt.Sprintf("Content-Type %.100q is not one of %v", mediaType, s.cfg.Issuer.MediaTypes()))
		return
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		busy(w, "too many submissions at the same time")
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // a recorder in tests has none
	evidence, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(s.cfg.MaxEvidence)))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		problem(w, http.StatusRequestEntityTooLarge, "evidence too large", fmt.Sprintf("more than %d bytes", s.cfg.MaxEvidence))
		return
	}
	if err != nil || len(evidence) == 0 {
		problem(w, http.StatusBadRequest, "no evidence", "the body is empty or broke off")
		return
	}
	// TMCP-19.6-6: A verifier MUST take each nonce of its own once.
	// From here it is used up, whatever comes of it.
	s.mu.Lock()
	se := s.find(r)
	conflict := se != nil && se.status != waiting
	if se != nil && !conflict {
		se.status = processing
	}
	s.mu.Unlock()
	switch {
	case se == nil:
		noSession(w)
		return
	case conflict:
		problem(w, http.StatusConflict, "nonce used", "the session took evidence already; open a new one")
		return
	}
	// TMCP-19.6-7: A verifier MUST NOT appraise evidence against a nonce of another session.
	jwt, err := s.issue(r.Context(), Submission{mediaType, evidence, se.nonce, s.cfg.Now()})
	s.mu.Lock()
	if se.status, se.result = complete, jwt; err != nil {
		se.status = failed
	}
	doc := s.document(se)
	s.mu.Unlock()
	if err != nil {
		s.cfg.Logger.Error("appraisal failed", "err", err)
		problem(w, http.StatusInternalServerError, "appraisal failed", "the verifier could not appraise the evidence; its log says why")
		return
	}
	reply(w, http.StatusOK, TypeSession, doc)
}

// issue keeps a fault of the appraisal from ending the server.
func (s *Server) issue(ctx context.Context, sub Submission) (jwt string, err error) {
	defer func() {
		if v := recover(); v != nil {
			jwt, err = "", fmt.Errorf("panic: %v", v)
		}
	}()
	return s.cfg.Issuer.Issue(ctx, sub)
}

// takes reports whether the issuer knows a media type. Parameters must be among
// what it names, if it names any.
func (s *Server) takes(mediaType string) bool {
	got, _, err := mime.ParseMediaType(mediaType)
	return err == nil && slices.ContainsFunc(s.cfg.Issuer.MediaTypes(), func(want string) bool {
		w, params, _ := mime.ParseMediaType(want)
		return w == got && (len(params) == 0 || want == mediaType)
	})
}

// find returns the session of a request, or nil. Callers hold the mutex.
func (s *Server) find(r *http.Request) *session {
	se := s.sessions[r.PathValue("id")]
	if se == nil || !s.cfg.Now().Before(se.expiry) {
		return nil
	}
	return se
}

// sweep forgets sessions that are over, now and then. Callers hold the mutex.
func (s *Server) sweep(now time.Time) {
	if len(s.sessions) < s.cfg.MaxSessions && now.Sub(s.swept) < time.Second {
		return
	}
	s.swept = now
	for id, se := range s.sessions {
		if !now.Before(se.expiry) {
			delete(s.sessions, id)
		}
	}
}

// document shows a session. Callers hold the mutex.
func (s *Server) document(se *session) document {
	return document{base64.StdEncoding.EncodeToString(se.nonce), se.expiry, s.cfg.Issuer.MediaTypes(), se.status, se.result}
}

// acceptable answers 406 to who wants none of our media types.
func acceptable(w http.ResponseWriter, r *http.Request) bool {
	accept := strings.Join(r.Header.Values("Accept"), ",")
	if accept == "" {
		return true
	}
	for part := range strings.SplitSeq(accept, ",") {
		mt, _, err := mime.ParseMediaType(part)
		if err == nil && (mt == TypeSession || mt == "*/*" || mt == "application/*") {
			return true
		}
	}
	problem(w, http.StatusNotAcceptable, "not acceptable", "this answers with "+TypeSession)
	return false
}

func noSession(w http.ResponseWriter) {
	problem(w, http.StatusNotFound, "no such session", "it never was, was deleted, or is over; open a new one")
}

func busy(w http.ResponseWriter, detail string) {
	w.Header().Set("Retry-After", "5")
	problem(w, http.StatusServiceUnavailable, "busy", detail)
}

func problem(w http.ResponseWriter, code int, title, detail string) {
	reply(w, code, typeProblem, struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{title, code, detail})
}

func reply(w http.ResponseWriter, code int, mediaType string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(code)
	_, _ = w.Write(b)
}
