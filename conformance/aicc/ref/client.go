package ref

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/aicc"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// Clients are the mutants of the client.
func Clients() []Mutant {
	return []Mutant{
		{"falls-back", []string{"strip-offer", "strip-other-name", "initialize-unreadable", "initialize-refused", "initialize-not-found"}},
		{"any-name", []string{"strip-other-name"}},
		{"takes-plaintext", []string{"plaintext-answer", "plaintext-stream"}},
		{"shows-plaintext", []string{"plaintext-status", "plaintext-error"}},
		{"believes-what-does-not-open", []string{"plaintext-marked", "other-key", "old-answer", "swapped-answer", "mac-altered", "line-plain"}},
		{"no-mac", []string{"mac-altered"}},
		{"earlier-keys", []string{"swapped-answer"}},
		{"takes-its-own", []string{"reflected", "reflected-in-stream"}},
		{"any-id", []string{"other-id"}},
		{"takes-twice", []string{"line-twice"}},
		{"no-end", []string{"stream-cut", "stream-empty"}},
		{"follows", []string{"redirected"}},
		{"any-key", []string{"weak-key"}},
		{"own-key", []string{"no-key", "no-pem"}},
		{"one-key", []string{"fresh-keys"}},
		{"no-streams", []string{"sealed-stream"}},
		{"small", []string{"large-answer"}},
		{"ascii", []string{"unicode"}},
		{"seals-nothing", []string{"sealed-call"}},
	}
}

// Client is a client with a fault or "", which package conformance/aicc
// describes.
func Client(fault string) conformance.Subject {
	return conformance.FuncSubject("the reference client", func(ctx context.Context, url string, env []string) conformance.SubjectRun {
		vars := map[string]string{}
		for _, e := range env {
			k, v, _ := strings.Cut(e, "=")
			vars[k] = v
		}
		c := &client{ctx: ctx, fault: fault, url: url}
		tr := &http.Transport{}
		defer tr.CloseIdleConnections()
		c.http = &http.Client{Transport: tr}
		if !c.has("follows") {
			c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		}
		err := c.run(vars["TMCP_AICC_PUBLIC_KEY"], vars["TMCP_ECHO"])
		run := conformance.SubjectRun{Stdout: c.out.Bytes()}
		if err != nil {
			run.Exit, run.Stderr = 1, []byte(err.Error())
		}
		return run
	})
}

type client struct {
	ctx    context.Context
	fault  string
	url    string
	http   *http.Client
	pub    *rsa.PublicKey
	out    bytes.Buffer
	id     int
	plain  bool
	key    []byte // fault one-key
	former [][]byte
}

func (c *client) has(fault string) bool { return c.fault == fault }

func (c *client) run(file, echo string) error {
	var err error
	if c.pub, err = c.load(file); err != nil {
		return err
	}
	if err := c.open(); err != nil {
		return err
	}
	if _, err := c.call("notifications/initialized", nil); err != nil {
		return err
	}
	if _, err := c.call("tools/list", conformance.Obj{}); err != nil {
		return err
	}
	if c.has("ascii") && strings.Trim(echo, "0123456789") != "" {
		return errors.New("not ASCII")
	}
	res, err := c.call("tools/call", conformance.Obj{"name": "echo", "arguments": conformance.Obj{"text": echo}, "_meta": conformance.Obj{"progressToken": "p"}})
	if err != nil {
		return err
	}
	c.out.Write(res)
	return nil
}

func (c *client) load(file string) (*rsa.PublicKey, error) {
	b, err := os.ReadFile(file)
	block, _ := pem.Decode(b)
	if err == nil && block == nil {
		err = errors.New("no PEM")
	}
	if err != nil {
		if !c.has("own-key") {
			return nil, err
		}
		priv, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, err
		}
		return &priv.PublicKey, nil
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	pub, ok := key.(*rsa.PublicKey)
	if !ok || pub.N.BitLen() < 2048 && !c.has("any-key") {
		return nil, errors.New("weak-key")
	}
	return pub, nil
}

// open sends initialize in plaintext, and looks for the offer.
func (c *client) open() error {
	body := conformance.JSON(conformance.Obj{"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": conformance.Obj{
		"protocolVersion": conformance.LegacyVersion, "clientInfo": conformance.ClientInfo,
		"capabilities": conformance.Obj{"experimental": conformance.Obj{"trustProtocol": conformance.Obj{"name": "AICC", "version": "0.1"}}}}})
	resp, text, err := c.post(body, false)
	if err != nil {
		return err
	}
	var name string
	if m, err := jsonrpc.Parse(text, jsonrpc.Limits{}); err == nil && resp.StatusCode == 200 {
		name, _ = conformance.MemberText(m.Result, "capabilities", "experimental", "trustProtocol", "name")
	}
	c.plain = c.has("seals-nothing")
	switch {
	case name == "AICC", name != "" && c.has("any-name"):
		return nil
	case c.has("falls-back"):
		c.plain = true
		return nil
	}
	return errors.New("trust-missing")
}

func (c *client) post(body []byte, marked bool) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(c.ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if marked {
		req.Header.Set(header, "1")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	return resp, text, err
}

// call makes a request (or with nil params a notification) and returns its result.
func (c *client) call(method string, params conformance.Obj) (jsontext.Value, error) {
	msg := conformance.Obj{"jsonrpc": "2.0", "method": method}
	id := jsonrpc.ID("")
	if params != nil {
		c.id++
		id = jsonrpc.ID(fmt.Sprint(c.id))
		msg["id"], msg["params"] = c.id, params
	}
	text := conformance.JSON(msg)
	if c.plain {
		_, got, err := c.post(text, false)
		if err != nil || id == "" {
			return nil, err
		}
		return c.result(id, [][]byte{got})
	}
	e, key, err := c.seal(text)
	if err != nil {
		return nil, err
	}
	resp, got, err := c.post(e.JSON(), true)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode/100 == 3:
		return nil, errors.New("redirected")
	case resp.Header.Get(header) == "" && resp.StatusCode/100 == 2 && !c.has("takes-plaintext"):
		return nil, errors.New("plaintext-answer")
	case resp.Header.Get(header) == "" && resp.StatusCode/100 != 2:
		if c.has("shows-plaintext") {
			c.out.Write(got)
			return nil, nil
		}
		return nil, fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	texts, err := c.openAll(resp, got, e, key)
	if err != nil || id == "" {
		return nil, err
	}
	return c.result(id, texts)
}

func (c *client) seal(text []byte) (*aicc.Envelope, []byte, error) {
	if c.has("one-key") && c.key != nil {
		wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, c.pub, c.key, nil)
		return aicc.SealWith(c.key, wrapped, text), c.key, err
	}
	e, key, err := aicc.Seal(c.pub, text)
	if err != nil {
		return nil, nil, err
	}
	c.key, c.former = key, append(c.former, key)
	return e, key, nil
}

func (c *client) openAll(resp *http.Response, body []byte, request *aicc.Envelope, key []byte) (texts [][]byte, err error) {
	items := [][]byte{body}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		if c.has("no-streams") {
			return nil, errors.New("no JSON")
		}
		items = nil
		for line := range bytes.Lines(body) {
			if d, ok := bytes.CutPrefix(bytes.TrimRight(line, "\r\n"), []byte("data: ")); ok {
				items = append(items, d)
			}
		}
	}
	if c.has("small") && len(body) > 256<<10 {
		return nil, errors.New("too-large")
	}
	nonces := map[string]bool{}
	if !c.has("takes-its-own") {
		nonces[string(request.Nonce)] = true
	}
	for _, d := range items {
		text, nonce, err := c.one(d, key)
		switch {
		case c.has("takes-plaintext") && resp.Header.Get(header) == "":
			text = d
		case err != nil && c.has("believes-what-does-not-open"):
			text = []byte(`{"jsonrpc":"2.0","id":` + fmt.Sprint(c.id) + `,"result":{}}`)
		case err != nil:
			return nil, err
		case nonces[nonce] && !c.has("takes-twice"):
			return nil, errors.New("replayed")
		}
		nonces[nonce] = true
		texts = append(texts, text)
	}
	return texts, nil
}

func (c *client) one(body, key []byte) (text []byte, nonce string, err error) {
	e, err := aicc.Read(body)
	if err != nil {
		return nil, "", err
	}
	if e.Key != nil {
		return nil, "", errors.New("an answer with a key")
	}
	nonce = string(e.Nonce)
	if c.has("no-mac") {
		b, err := aes.NewCipher(key)
		if err != nil {
			return nil, "", err
		}
		return unchecked(b, e), nonce, nil
	}
	if text, err = e.Open(key); err != nil && c.has("earlier-keys") {
		for _, k := range c.former {
			if text, err = e.Open(k); err == nil {
				break
			}
		}
	}
	return text, nonce, err
}

// result finds the answer to a request among messages.
func (c *client) result(id jsonrpc.ID, texts [][]byte) (jsontext.Value, error) {
	for _, t := range texts {
		m, err := jsonrpc.Parse(t, jsonrpc.Limits{})
		if err != nil {
			return nil, err
		}
		switch {
		case m.IsResponse() && (m.ID == id || c.has("any-id")):
			if m.Error != nil {
				return nil, fmt.Errorf("error %s", m.Error)
			}
			return m.Result, nil
		case m.IsResponse():
			return nil, errors.New("answer-invalid")
		case m.IsRequest():
			if c.has("takes-its-own") {
				return m.Params, nil
			}
			return nil, errors.New("answer-invalid")
		}
	}
	if c.has("no-end") {
		return nil, nil
	}
	return nil, errors.New("truncated")
}
