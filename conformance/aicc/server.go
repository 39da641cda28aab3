package aicc

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

const (
	header   = "X-Trusted-Mcp"
	maxReply = 64 << 20
)

var (
	offer        = Obj{"experimental": Obj{"trustProtocol": Obj{"name": "AICC", "version": "0.1"}}}
	initialize   = Obj{"protocolVersion": conformance.LegacyVersion, "clientInfo": conformance.ClientInfo}
	offerPath    = []string{"capabilities", "experimental", "trustProtocol"}
	nestedOffer  = append([]string{"result"}, offerPath...)
	acceptBoth   = "application/json, text/event-stream"
	errNotSealed = errors.New("the answer is not sealed")
)

// server is a server of the profile, as one case knows it.
type server struct {
	t       *T
	pub     *rsa.PublicKey
	url     string
	client  *http.Client
	session string
	ids     int
	keys    map[string][]byte // AES keys by what they are wrapped in
}

// reply is an HTTP answer.
type reply struct {
	status int
	header http.Header
	body   []byte
	seq    int
	err    error
}

func (r *reply) String() string {
	if r.err != nil {
		return r.err.Error()
	}
	return fmt.Sprintf("HTTP %d %q", r.status, conformance.Short(r.body))
}

func (r *reply) sse() bool {
	return strings.HasPrefix(r.header.Get("Content-Type"), "text/event-stream")
}

// open finds the server, and opens a session with it.
func open(t *T) (s *server, done func()) {
	pub := t.Trust().AICC
	if pub == nil {
		t.NotApplicable("the server's public key was not given (--aicc-public-key)")
	}
	tr := &http.Transport{DisableCompression: true, DisableKeepAlives: true} // servers that fail close connections
	s = &server{t: t, pub: pub, keys: map[string][]byte{}, url: t.Target().String(), client: &http.Client{Transport: tr,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	return s, tr.CloseIdleConnections
}

// send makes one HTTP exchange.
func (s *server) send(verb string, fields map[string]string, size int64, body io.Reader) *reply {
	ctx, cancel := context.WithTimeout(s.t.Context(), s.t.StepTimeout())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, verb, s.url, body)
	if err != nil {
		s.t.Failf("%v", err)
	}
	req.ContentLength = size
	req.Header.Set("Accept", acceptBoth)
	req.Header.Set("Content-Type", "application/json")
	if s.session != "" {
		req.Header.Set("Mcp-Session-Id", s.session)
	}
	req.Header.Set("Mcp-Protocol-Version", conformance.LegacyVersion)
	for k, v := range fields {
		req.Header.Set(k, v)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return &reply{err: err, seq: s.t.Log().Add(wire.Received, "http-response", []byte(err.Error()))}
	}
	defer resp.Body.Close()
	r := &reply{status: resp.StatusCode, header: resp.Header}
	r.body, r.err = io.ReadAll(io.LimitReader(resp.Body, maxReply))
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP %d\n", resp.StatusCode)
	_ = resp.Header.Write(&head)
	r.seq = s.t.Log().Add(wire.Received, "http-response", append(head.Bytes(), r.body...))
	return r
}

func (s *server) post(fields map[string]string, body []byte) *reply {
	s.t.Log().Add(wire.Sent, "http-request", body)
	return s.send(http.MethodPost, fields, int64(len(body)), bytes.NewReader(body))
}

var sealedFields = map[string]string{header: "1"}

// sealed sends an envelope.
func (s *server) sealed(body []byte) *reply { return s.post(sealedFields, body) }

func (s *server) seal(text []byte) (*Envelope, []byte) {
	e, key, err := Seal(s.pub, text)
	if err != nil {
		s.t.Untestable("nothing can be sealed to this key: %v", err)
	}
	s.keys[string(e.Key)] = key
	return e, key
}

// start opens a session: initialize in plaintext, with the offer.
func (s *server) start() jsontext.Value {
	params := Obj{"capabilities": offer}
	for k, v := range initialize {
		params[k] = v
	}
	r := s.post(nil, s.message("initialize", params))
	if r.err != nil || r.status != http.StatusOK {
		s.t.Failf("initialize was answered with %s", r)
	}
	var result jsontext.Value
	for _, d := range r.datas() {
		if m, err := jsonrpc.Parse(d, jsonrpc.Limits{}); err == nil && m.Result != nil {
			result = m.Result
		}
	}
	if result == nil {
		s.t.Failf("initialize has no result: %s", r)
	}
	s.session = r.header.Get("Mcp-Session-Id")
	e, key := s.seal(conformance.JSON(Obj{"jsonrpc": "2.0", "method": "notifications/initialized"}))
	if n := s.sealed(e.JSON()); n.err != nil || n.status/100 != 2 {
		s.t.Failf("the sealed notifications/initialized was answered with %s", n)
	} else if len(n.body) > 0 && n.header.Get(header) != "" {
		if _, err := n.open(key); err != nil {
			s.t.Failf("the answer to notifications/initialized: %v", err)
		}
	}
	return result
}

// message is a request with a fresh id.
func (s *server) message(method string, params Obj) []byte {
	s.ids++
	m := Obj{"jsonrpc": "2.0", "id": fmt.Sprintf("aicc-%d-ключ-🔑", s.ids), "method": method}
	if params != nil {
		m["params"] = params
	}
	return conformance.JSON(m)
}

// work is the request that all negative cases are mutations of: the canary tool
// where there is one, else the list of tools.
func (s *server) work() []byte {
	if tool := s.t.CanaryTool(); tool != "" {
		return s.message("tools/call", Obj{"name": tool, "arguments": Obj{}})
	}
	return s.message("tools/list", nil)
}

// datas are the messages of an answer, in JSON or an event stream.
func (r *reply) datas() [][]byte {
	if r.header == nil || !r.sse() {
		return [][]byte{r.body}
	}
	var out [][]byte
	for line := range bytes.Lines(r.body) {
		if d, ok := bytes.CutPrefix(bytes.TrimRight(line, "\r\n"), []byte("data:")); ok && len(bytes.TrimSpace(d)) > 0 {
			out = append(out, bytes.TrimPrefix(d, []byte(" ")))
		}
	}
	return out
}

// open opens all messages of a sealed answer.
func (r *reply) open(key []byte) (texts [][]byte, err error) {
	if r.err != nil {
		return nil, r.err
	}
	if r.header.Get(header) == "" {
		return nil, errNotSealed
	}
	for _, d := range r.datas() {
		e, err := Read(d)
		if err != nil {
			return nil, err
		}
		if e.Key != nil {
			return nil, errors.New("the envelope of an answer has the member key")
		}
		text, err := e.Open(key)
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// result looks for the result in an answer, sealed under key or (nil) not.
func (r *reply) result(key []byte) (jsontext.Value, string) {
	texts := r.datas()
	if key != nil {
		var err error
		if texts, err = r.open(key); err != nil {
			return nil, err.Error()
		}
	}
	why := "no JSON-RPC response"
	for _, x := range texts {
		m, err := jsonrpc.Parse(x, jsonrpc.Limits{})
		if err == nil && m.Result != nil {
			return m.Result, ""
		}
		if err == nil && m.Error != nil {
			why = "the error " + conformance.Short(m.Error)
		}
	}
	return nil, why
}

// call seals a request and returns its result.
func (s *server) call(text []byte) (*Envelope, *reply, jsontext.Value) {
	e, key := s.seal(text)
	r := s.sealed(e.JSON())
	res, why := r.result(key)
	if res == nil {
		s.t.Violate("a sealed request has no sealed result: %s (%s)", why, r)
	}
	return e, r, res
}

// refused judges the answer to a mutant: whatever was asked must not have been
// done. key is that of the mutant, if it has one.
func (s *server) refused(r *reply, key []byte) {
	var netErr error
	if r.err != nil {
		if errors.Is(r.err, context.DeadlineExceeded) {
			s.t.Violate("no answer came within %s", s.t.StepTimeout())
		}
		netErr = r.err
	}
	if netErr == nil {
		for _, k := range [][]byte{nil, key} {
			if res, _ := r.result(k); res != nil {
				s.t.Violate("it was answered with a result: %s", conformance.Short(res))
			}
		}
		opened := [][]byte(nil)
		if key != nil {
			opened, _ = r.open(key)
		}
		said := false // a refusal in words, in plaintext or sealed
		for _, d := range append(r.datas(), opened...) {
			m, err := jsonrpc.Parse(d, jsonrpc.Limits{})
			said = said || err == nil && m.Error != nil
		}
		if r.status/100 == 2 && !said {
			s.t.Violate("it was taken: %s", r)
		}
	}
	s.t.Refused("%s", r)
	s.t.Reached(r.seq)
	s.t.NoEffect("no result came, sealed or not")
}

// alive makes sure that the refusal was about the mutant, and not about
// everything: a good request still has its result.
func (s *server) alive() {
	e, key := s.seal(s.message("ping", nil))
	r := s.sealed(e.JSON())
	if res, why := r.result(key); res == nil {
		s.t.Violate("afterwards a good request has no result: %s (%s)", why, r)
	}
}

func serverCases() []conformance.Case {
	all := []conformance.Case{
		on("offer", "23.2-5", conformance.Case{
			Title: "the server offers the profile to a client that does",
			About: "Sends initialize in plaintext, with the offer, and looks for the server's.",
		}, func(s *server) {
			res := s.start()
			if jsonrpc.Get(res, offerPath...) != nil {
				return
			}
			if jsonrpc.Get(res, nestedOffer...) != nil {
				s.t.Warnf("the offer stands at result.result, where event streams of the published package have it: clients that follow MCP don't find it")
				return
			}
			s.t.Violate("the result of initialize has no capabilities.experimental.trustProtocol: %s", conformance.Short(res))
		}),
		on("sealed-call", "23.4-1", conformance.Case{
			Title: "a sealed request has a sealed answer",
			About: "Sends the canary tool's call, or tools/list, sealed. It is the accepted twin of all mutants.",
		}, func(s *server) {
			s.start()
			s.call(s.work())
		}),
		on("initialize-sealed", "23.4-1", conformance.Case{
			Title: "a sealed initialize has a sealed answer", About: "Opens with a sealed initialize, as careful clients do.",
		}, func(s *server) {
			params := Obj{"capabilities": offer}
			for k, v := range initialize {
				params[k] = v
			}
			_, r, _ := s.call(s.message("initialize", params))
			s.session = r.header.Get("Mcp-Session-Id")
			e, _ := s.seal(conformance.JSON(Obj{"jsonrpc": "2.0", "method": "notifications/initialized"}))
			s.sealed(e.JSON())
			s.call(s.work())
		}),
		on("unicode", "23.4-1", conformance.Case{
			Title: "text of any script comes back as it went", About: "Sends ping with an id of several scripts, and compares the id of the answer.",
		}, func(s *server) {
			s.start()
			const id = `"ключ 鍵 🔑 ß"`
			e, key := s.seal([]byte(`{"jsonrpc":"2.0","id":` + id + `,"method":"ping"}`))
			texts, err := s.sealed(e.JSON()).open(key)
			if err != nil || len(texts) == 0 {
				s.t.Violate("no sealed answer: %v", err)
			}
			m, err := jsonrpc.Parse(texts[len(texts)-1], jsonrpc.Limits{})
			if err != nil {
				s.t.Violate("the answer is no message: %v", err)
			}
			if got, _ := jsonrpc.Text(jsontext.Value(m.ID)); got != "ключ 鍵 🔑 ß" {
				s.t.Violate("the id came back as %s", m.ID)
			}
		}),
		on("large", "23.4-1", conformance.Case{
			Title: "a message of 2 MiB is served", About: "Sends ping with 2 MiB in _meta.",
		}, func(s *server) {
			s.start()
			s.call(s.message("ping", Obj{"_meta": Obj{"com.example/fill": strings.Repeat("x", 2<<20)}}))
		}),
		on("parallel", "23.4-1", conformance.Case{
			Title: "answers to parallel requests open each under its own key", About: "Sends eight pings at once.",
		}, func(s *server) {
			s.start()
			type out struct {
				id, why string
			}
			outs := make(chan out)
			for i := range 8 {
				id := fmt.Sprintf("parallel-%d", i)
				e, key := s.seal([]byte(`{"jsonrpc":"2.0","id":"` + id + `","method":"ping"}`))
				go func() {
					texts, err := s.sealed(e.JSON()).open(key)
					o := out{id: id}
					if err != nil {
						o.why = err.Error()
					} else if len(texts) == 0 || !bytes.Contains(texts[len(texts)-1], []byte(id)) {
						o.why = "the answer is not to it"
					}
					outs <- o
				}()
			}
			why := ""
			for range 8 {
				if o := <-outs; o.why != "" {
					why = o.id + ": " + o.why
				}
			}
			if why != "" {
				s.t.Violate("%s", why)
			}
		}),
		on("fresh-nonces", "23.4-2", conformance.Case{
			Title: "each envelope has a nonce of its own", About: "Compares the nonces of four answers and of their requests.",
		}, func(s *server) {
			s.start()
			seen := map[string]bool{}
			for range 4 {
				e, r, _ := s.call(s.message("ping", nil))
				seen[string(e.Nonce)] = true
				for _, d := range r.datas() {
					a, err := Read(d)
					if err != nil {
						s.t.Violate("%v", err)
					}
					if seen[string(a.Nonce)] {
						s.t.Violate("the nonce %x comes twice", a.Nonce)
					}
					seen[string(a.Nonce)] = true
				}
			}
		}),
		on("errors-sealed", "23.4-1", conformance.Case{
			Title: "an answer that is an error is sealed", About: "Seals a request for a method that nobody knows.",
		}, func(s *server) {
			s.start()
			e, key := s.seal(s.message("no/such-method", nil))
			r := s.sealed(e.JSON())
			if _, err := r.open(key); err != nil {
				s.t.Violate("%v (%s)", err, r)
			}
		}),
		on("failures-sealed", "23.4-1", conformance.Case{
			Title: "an answer of a status that is no success is sealed", About: "Seals a text that is no JSON: whatever refuses it does so after it was opened.",
		}, func(s *server) {
			s.start()
			e, key := s.seal([]byte("{"))
			r := s.sealed(e.JSON())
			if _, err := r.open(key); err != nil {
				s.t.Violate("%v (%s)", err, r)
			}
		}),
		on("no-oracle", "23.7-1", conformance.Case{
			Title: "a wrong key and an altered message are answered alike", About: "Sends an envelope sealed to another key, and one with an altered tag, and compares the answers.",
		}, func(s *server) {
			s.start()
			e, _ := s.seal(s.work())
			e.Mac = flip(e.Mac)
			altered := s.sealed(e.JSON())
			e, _ = s.seal(s.work())
			e.Key = random(len(e.Key))
			e.Key[0] = 0 // below the modulus
			other := s.sealed(e.JSON())
			if altered.err != nil || other.err != nil || altered.status != other.status || !bytes.Equal(altered.body, other.body) {
				s.t.Violate("the answers differ: %s and %s", altered, other)
			}
		}),
		on("goes-on", "23.3-7", conformance.Case{
			Title: "bad envelopes keep nobody else from being served", About: "Sends twelve bodies that are no envelopes, and then a good request.",
		}, func(s *server) {
			s.start()
			for _, body := range []string{"", "{", "[]", "null", "\x00", `{"nonce":1}`, strings.Repeat("[", 5000), `{"key":"` + strings.Repeat("A", 684) + `"}`,
				"\xff\xfe{}", `{"nonce":"","mac":"","key":"","ciphertext":""}`, `"` + strings.Repeat("é", 2000) + `"`, "\xef\xbb\xbf{}"} {
				s.sealed([]byte(body))
			}
			s.call(s.work())
		}),
	}
	return append(append(all, mutants()...), opens()...)
}

// on makes a server case that works with a server.
func on(name, id string, c conformance.Case, run func(*server)) conformance.Case {
	c.Run = func(t *T) {
		s, done := open(t)
		defer done()
		run(s)
	}
	return define(conformance.RoleServer, name, "TMCP-"+id, c)
}

// endless is a body that does not end, of which n counts what was taken.
type endless struct {
	head  []byte
	n     int64
	most  int64
	until time.Time
}

var errEnough = errors.New("the suite sends no more")

func (b *endless) Read(p []byte) (int, error) {
	if b.n >= b.most || time.Now().After(b.until) {
		return 0, errEnough
	}
	n := copy(p, b.head)
	b.head = b.head[n:]
	for i := range p[n:] {
		p[n+i] = 'A'
	}
	b.n += int64(len(p))
	return len(p), nil
}
