package aicc

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	evaicc "github.com/trustedmcp/tmcp/evidence/aicc"
)

// DefaultTimeout bounds one question to the service.
const DefaultTimeout = 30 * time.Second

// A service asks the attestation service, or the server itself, and returns what
// it answers: nothing of it is verified.
type service struct {
	cfg   *ClientConfig
	local bool
	url   *url.URL
	http  *http.Client
	now   func() time.Time
}

// newService finds out whom to ask. The address is that of bytedance_top_info,
// else ra_url.
func newService(cfg *ClientConfig, o *Options) (*service, error) {
	s := &service{cfg: cfg, local: cfg.RAType == RATypeLocal, now: o.Now}
	at, scheme := cfg.RAURL, "https"
	if g := cfg.Gateway; g != nil && !s.local {
		if g.URL != "" {
			at = g.URL
		}
		if g.Scheme != "" {
			scheme = g.Scheme
		}
	}
	if !strings.Contains(at, "://") {
		at = scheme + "://" + at
	}
	u, err := url.Parse(at)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.User != nil || u.Fragment != "" {
		return nil, fmt.Errorf("the attestation service's address %.200q is no http or https URL without a query", at)
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) && o.Unattested {
		return nil, fmt.Errorf("%s: without https and without attestation anybody on the way could give a key of his own", at)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	s.url = u
	c := http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true,
		MaxIdleConns: 2, IdleConnTimeout: time.Minute,
	}}
	if o.HTTP != nil {
		c = *o.HTTP
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s.http = &c
	return s, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// newNonce is as long as those of the published package, all of it random: 64
// bits in hexadecimal.
func newNonce() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// A question is the body of a request to the service. Its members and their
// order are those of the published package.
type question struct {
	Nonce          string `json:"Nonce"`
	PolicyID       string `json:"PolicyID"`
	ServiceName    string `json:"ServiceName,omitzero"`
	AttestedPods   []Pod  `json:"AttestedPods,omitzero"`
	KeyNegotiation bool   `json:"KeyNegotiation"`
	Token          bool   `json:"Token"`
}

// ask returns the nodes that the answer tells of.
func (s *service) ask(ctx context.Context, nonce string, key bool) ([]evaicc.Node, error) {
	var body []byte
	var err error
	if s.local {
		body, err = json.Marshal(map[string]string{"nonce": nonce})
	} else {
		q := question{Nonce: nonce, PolicyID: s.cfg.PolicyID, ServiceName: s.cfg.ServiceName, KeyNegotiation: key, Token: true}
		if q.ServiceName == "" {
			q.AttestedPods = []Pod{s.cfg.PodsInfo}
		}
		body, err = json.Marshal(q)
	}
	if err != nil {
		return nil, err
	}
	at := *s.url
	if g := s.cfg.Gateway; g != nil && !s.local {
		at.RawQuery = "Action=" + escape(or(g.Action, "GetAttestationBackend")) + "&Version=" + escape(or(g.Version, "2024-12-24"))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	switch {
	case s.local:
		req.Header.Set("timestamp", strconv.FormatInt(s.now().Unix(), 10))
	case s.cfg.Gateway != nil:
		if s.cfg.UID != "" {
			req.Header["UID"] = []string{s.cfg.UID}
		}
		s.cfg.Gateway.Sign(req, body, s.now())
	}
	res, err := s.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, evaicc.MaxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the answer broke off: %w", err)
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("it answered %s: %.200q", res.Status, answer)
	case len(answer) > evaicc.MaxAnswer:
		return nil, fmt.Errorf("it answered with more than %d bytes", evaicc.MaxAnswer)
	case s.local:
		return evaicc.ParseLocal(answer)
	}
	return evaicc.ParseAnswer(answer)
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// escape is percent-encoding with %20 for a space.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// Sign signs a request with the access key: HMAC-SHA256 over method, path "/",
// query, four headers and the digest of the body, as the cloud's gateway wants
// it. It sets those headers, and Authorization.
func (g *Gateway) Sign(req *http.Request, body []byte, now time.Time) {
	sum := sha256.Sum256(body)
	digest, date := hex.EncodeToString(sum[:]), now.UTC().Format("20060102T150405Z")
	req.Host = req.URL.Hostname() // what is signed has no port
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Content-Sha256", digest)
	req.Header.Set("X-Date", date)
	req.Header.Set("Authorization", g.authorization(req.Method, req.URL.RawQuery, req.Host, date, digest))
}

const signedHeaders = "content-type;host;x-content-sha256;x-date"

func (g *Gateway) authorization(method, query, host, date, digest string) string {
	canonical := strings.Join([]string{
		method, "/", query,
		"content-type:application/json", "host:" + host, "x-content-sha256:" + digest, "x-date:" + date,
		"", signedHeaders, digest,
	}, "\n")
	hash := sha256.Sum256([]byte(canonical))
	scope := strings.Join([]string{date[:8], or(g.Region, "cn-beijing"), g.Service, "request"}, "/")
	key := []byte(g.SecretKey)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	signature := mac(key, strings.Join([]string{"HMAC-SHA256", date, scope, hex.EncodeToString(hash[:])}, "\n"))
	return "HMAC-SHA256 Credential=" + g.AccessKey + "/" + scope + ", SignedHeaders=" + signedHeaders + ", Signature=" + hex.EncodeToString(signature)
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// CheckSignature is the other side of [Gateway.Sign]: it reports whether a
// request was signed with this access key, within 15 minutes of now.
func (g *Gateway) CheckSignature(req *http.Request, body []byte, now time.Time) error {
	sum := sha256.Sum256(body)
	digest, date := hex.EncodeToString(sum[:]), req.Header.Get("X-Date")
	at, err := time.Parse("20060102T150405Z", date)
	switch {
	case err != nil:
		return errors.New("X-Date is missing or malformed")
	case now.Sub(at).Abs() > 15*time.Minute:
		return errors.New("X-Date is more than 15 minutes off")
	case req.Header.Get("X-Content-Sha256") != digest:
		return errors.New("X-Content-Sha256 is not the digest of the body")
	}
	want := g.authorization(req.Method, req.URL.RawQuery, req.Host, date, digest)
	if !hmac.Equal([]byte(want), []byte(req.Header.Get("Authorization"))) {
		return errors.New("the signature is not of this access key")
	}
	return nil
}
