package verifier

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/evidence/ear"
	"github.com/trustedmcp/tmcp/evidence/eat"
	"github.com/trustedmcp/tmcp/gateway/policy"
	"github.com/trustedmcp/tmcp/protocol"
)

const (
	maxAnswer = 1 << 20 // bytes
	maxAge    = 5 * time.Minute
	clockSkew = time.Minute
	pollFirst = 100 * time.Millisecond
	pollMost  = 2 * time.Second
)

// ClientConfig says whom a client asks.
type ClientConfig struct {
	// URL is the verifier's: its base, or that of its newSession endpoint. https,
	// unless the verifier is on this machine.
	URL string
	// Keys are those of the attestation results that are believed; required. They
	// are never taken from the verifier itself.
	Keys []crypto.PublicKey
	// Timeout bounds one appraisal. Default 10 seconds.
	Timeout time.Duration
	// Warnings accepts results that warn beside those that affirm.
	Warnings bool
	// Simulated accepts simulated TEEs, and nothing else: for development.
	Simulated bool
	// Legacy accepts results in the form of Veraison's services of 2023 and 2024.
	Legacy bool
	HTTP   *http.Client // nil: one without redirects
}

// A Client asks a remote verifier. It implements [protocol.Appraiser], and fails
// closed: without a result that affirms, signed with a pinned key and made for
// this very evidence, there is an error.
type Client struct {
	cfg ClientConfig
	new *url.URL
}

var _ protocol.Appraiser = (*Client)(nil)

// NewClient checks cfg.
func NewClient(cfg ClientConfig) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("verifier: %q is not an http or https URL without a query", cfg.URL)
	}
	if u.Scheme == "http" && !local(u.Hostname()) {
		return nil, fmt.Errorf("verifier: %s: plain http is for verifiers on this machine only; use https", cfg.URL)
	}
	if !strings.HasSuffix(u.Path, "/newSession") {
		if u.Path == "" {
			u.Path = "/"
		}
		u = u.JoinPath(PathNewSession)
	}
	if len(cfg.Keys) == 0 {
		return nil, errors.New("verifier: name the key of the verifier's results: one that it tells itself would prove nothing")
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{}
	}
	c := *cfg.HTTP
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	cfg.HTTP = &c
	return &Client{cfg, u}, nil
}

func local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Appraise has the verifier appraise e: it opens a session with e.ReportData as
// nonce, submits the evidence, and believes the result if its signature is of a
// pinned key, it echoes the nonce, is fresh, and affirms every part.
func (c *Client) Appraise(ctx context.Context, e protocol.Evidence) (*protocol.Appraisal, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	// TMCP-19.6-5: A relying party MUST fail closed when the remote verifier can't be reached,
	// answers late, or answers with anything but an affirming result for its nonce.
	token, err := c.ask(ctx, e.CMW, e.ReportData[:])
	if err != nil {
		return nil, fmt.Errorf("the verifier %s gave no result: %w", c.new.Host, err)
	}
	a, err := c.judge(token, e.ReportData[:], e.Now)
	if err != nil {
		return nil, fmt.Errorf("the verifier %s: %w", c.new.Host, err)
	}
	return a, nil
}

// ask speaks the protocol, and returns an EAR that nobody has looked at.
func (c *Client) ask(ctx context.Context, evidence, nonce []byte) (token []byte, err error) {
	open := *c.new
	open.RawQuery = url.Values{"nonce": {base64.URLEncoding.EncodeToString(nonce)}}.Encode()
	s, res, err := c.do(ctx, http.MethodPost, &open, "", nil, http.StatusCreated)
	if err != nil {
		return nil, err
	}
	at, err := c.new.Parse(res.Header.Get("Location"))
	if err != nil || res.Header.Get("Location") == "" || at.Scheme != c.new.Scheme || at.Host != c.new.Host {
		return nil, errors.New("its session is elsewhere, or nowhere")
	}
	defer c.drop(ctx, at)
	if got, err := base64.StdEncoding.DecodeString(s.Nonce); err != nil || !bytes.Equal(got, nonce) {
		return nil, errors.New("its session has another nonce than was asked for")
	}
	body, mediaType, err := wrap(evidence, s.Accept)
	if err != nil {
		return nil, err
	}
	if s, _, err = c.do(ctx, http.MethodPost, at, mediaType, body, http.StatusOK, http.StatusAccepted); err != nil {
		return nil, err
	}
	for pause := pollFirst; s.Status == processing || s.Status == waiting; pause = min(2*pause, pollMost) {
		select {
		case <-ctx.Done():
			return nil, errors.New("it is still at work at the end of the time allowed")
		case <-time.After(pause):
		}
		if s, _, err = c.do(ctx, http.MethodGet, at, "", nil, http.StatusOK); err != nil {
			return nil, err
		}
	}
	if s.Status != complete || s.Result == "" {
		return nil, fmt.Errorf("its session ended as %.20q without a result", string(s.Status))
	}
	return []byte(s.Result), nil
}

// wrap brings the evidence into a form that the verifier takes: the CMW as it
// is, or the one record within.
func wrap(evidence []byte, accept []string) (body []byte, mediaType string, err error) {
	for _, t := range []string{cmw.TypeCBOR, typeOldCMW} {
		if slices.Contains(accept, t) {
			return evidence, t, nil
		}
	}
	w, err := cmw.ParseCBOR(evidence)
	if err != nil {
		return nil, "", err
	}
	if w.Record == nil {
		return nil, "", fmt.Errorf("it takes no CMW, and this evidence is a collection; it takes %.200q", accept)
	}
	for _, t := range accept {
		if mt, _, err := mime.ParseMediaType(t); err == nil && mt == w.Record.Type() {
			return w.Record.Value, t, nil
		}
	}
	return nil, "", fmt.Errorf("it does not take evidence of type %s; it takes %.200q", w.Record.Type(), accept)
}

// typeOldCMW is what Veraison called a CMW before RFC 9999.
const typeOldCMW = "application/vnd.veraison.cmw+cbor"

// do makes one request, and reads the session that it is answered with.
func (c *Client) do(ctx context.Context, method string, u *url.URL, mediaType string, body []byte, want ...int) (*document, *http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Accept", TypeSession)
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	res, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, nil, err
	}
	if !slices.Contains(want, res.StatusCode) {
		var p struct {
			Title  string `json:"title"`
			Detail string `json:"detail"`
		}
		_ = json.Unmarshal(b, &p) // for people; may be anything
		return nil, nil, fmt.Errorf("it answered %s: %.100q %.200q", res.Status, p.Title, p.Detail)
	}
	if mt, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); mt != TypeSession || len(b) > maxAnswer {
		return nil, nil, fmt.Errorf("it answered with %d bytes of %.80q, want %s of at most %d", len(b), res.Header.Get("Content-Type"), TypeSession, maxAnswer)
	}
	s := &document{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, nil, fmt.Errorf("its session is malformed: %w", err)
	}
	return s, res, nil
}

// drop deletes a session, as a courtesy.
func (c *Client) drop(ctx context.Context, at *url.URL) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if req, err := http.NewRequestWithContext(ctx, http.MethodDelete, at.String(), nil); err == nil {
		if res, err := c.cfg.HTTP.Do(req); err == nil {
			res.Body.Close()
		}
	}
}

// judge verifies a result and says what it comes to.
func (c *Client) judge(token, nonce []byte, now time.Time) (*protocol.Appraisal, error) {
	keys := make(eat.Keys, len(c.cfg.Keys))
	for i, k := range c.cfg.Keys {
		keys[i] = eat.Key{Public: k}
	}
	var r *ear.Result
	var err error
	// The pinned keys are tried one after the other: what a token says of its key
	// is not listened to.
	for i := range keys {
		keys[i].ID = keyID(token)
		r, err = ear.Verify(token, &ear.Options{Keys: keys[i : i+1], Now: now, Skew: clockSkew, MaxAge: maxAge, Nonce: nonce, Legacy: c.cfg.Legacy})
		if err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("its result is not believed: %w", err)
	}
	a := &protocol.Appraisal{Result: token, Expires: r.Expires, Attributes: policy.FromEAR(r)}
	var bad []string
	warn := c.cfg.Warnings || c.cfg.Simulated // nobody affirms a simulated TEE
	for name, sub := range r.Submods {
		switch {
		case sub.Status == ear.Affirming, sub.Status == ear.Warning && warn:
		default:
			bad = append(bad, fmt.Sprintf("%s is %s%s", name, sub.Status, reasons(sub)))
		}
		x := sub.Extension
		if x == nil {
			continue
		}
		a.Simulated = a.Simulated || x.Simulated
		if !x.NotAfter.IsZero() && (a.Expires.IsZero() || x.NotAfter.Before(a.Expires)) {
			a.Expires = x.NotAfter
		}
		for _, id := range sub.Policies {
			if d, ok := ear.PolicyDigest(id); ok {
				a.Policy = d // the first is of all together
				break
			}
		}
	}
	slices.Sort(bad)
	switch {
	case r.Overall() == ear.None:
		return nil, errors.New("its result says nothing")
	case len(bad) > 0:
		return nil, fmt.Errorf("it does not affirm: %s", strings.Join(bad, "; "))
	case r.Status != nil && *r.Status != ear.Affirming && !(*r.Status == ear.Warning && warn):
		return nil, fmt.Errorf("it does not affirm the whole: %s", *r.Status)
	case a.Simulated && !c.cfg.Simulated:
		return nil, errors.New("the TEE is simulated, and proves nothing")
	case !a.Simulated && c.cfg.Simulated:
		return nil, errors.New("the TEE is genuine, and this client is for simulated ones")
	}
	a.Summary = fmt.Sprintf("%s by the verifier %s", r.Overall(), c.new.Host)
	return a, nil
}

// reasons are the checks that failed, if the verifier is one of ours.
func reasons(a *ear.Appraisal) string {
	if a.Extension == nil {
		return ""
	}
	var b strings.Builder
	for _, k := range a.Extension.Checks.Failed() {
		fmt.Fprintf(&b, "; %s: %s", k.Name, k.Detail)
	}
	return b.String()
}

// keyID is the kid of a JWT's header, or "".
func keyID(token []byte) string {
	head, _, _ := bytes.Cut(token, []byte("."))
	b, err := base64.RawURLEncoding.DecodeString(string(head))
	if err != nil {
		return ""
	}
	var h struct {
		KeyID string `json:"kid"`
	}
	if json.Unmarshal(b, &h) != nil {
		return ""
	}
	return h.KeyID
}
