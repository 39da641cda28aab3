// Package refclient is the client that the suite tests itself with: a small
// MCP client over the project's own trust layer, and, with a [Flaw], one that
// breaks a rule. Call [Main].
//
// Flaws stand around the trust layer and never in it: they bend what it is
// given (the peer's answers, the trust anchors) and what becomes of its
// refusals. A client that "skips a check" is one whose trust layer refused, and
// which goes on with a key that it should not have accepted.
package refclient

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/client"
	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/evidence/verifiers"
	"github.com/trustedmcp/tmcp/gateway/keyfile"
	"github.com/trustedmcp/tmcp/gateway/verifier"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/internal/sse"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

const maxAnswer = 8 << 20

// run is one run of the client.
type run struct {
	ctx   context.Context
	url   string
	env   map[string]string
	flaw  *Flaw
	base  *http.Transport
	outer *outerLeg // what stands below the trust layer; nil without trust
	http  *http.Client

	legacy  bool
	session string
	ids     int
	partial string // of the last progress notification
}

// Main is the client with a flaw, or with none.
func Main(flaw *Flaw) client.Main {
	if flaw == nil {
		flaw = &Flaw{}
	}
	return func(ctx context.Context, url string, env map[string]string, stdout, stderr io.Writer) int {
		base := &http.Transport{DisableCompression: true}
		r := &run{ctx: ctx, url: url, env: env, flaw: flaw, base: base, legacy: env["TMCP_ERA"] == string(conformance.Legacy)}
		r.http = &http.Client{Transport: base}
		defer func() { r.base.CloseIdleConnections() }()
		var err error
		switch {
		case env["TMCP_TRUST"] != "required" || flaw.NoTrust:
		case env["TMCP_PROFILE"] == "attested-tls" && !flaw.NoDemands:
			err = r.attestedTLS()
		default:
			err = r.trust(nil)
		}
		var said string
		if err == nil {
			said, err = r.converse()
		}
		if err != nil {
			fmt.Fprintln(stderr, err)
			return 1
		}
		out, err := json.Marshal(map[string]string{"echo": said})
		if err != nil {
			fmt.Fprintln(stderr, err)
			return 1
		}
		fmt.Fprintf(stdout, "%s\n", out)
		return 0
	}
}

// trust puts the trust layer behind the client. adjust bends its settings.
func (r *run) trust(adjust func(*transport.ClientConfig)) error {
	cfg := transport.ClientConfig{Identity: r.env["TMCP_IDENTITY"], Fresh: r.env["TMCP_FRESH"] != "", Pad: r.env["TMCP_PAD"] != "", OuterEra: transport.Modern}
	if r.legacy {
		cfg.OuterEra = transport.Legacy
	}
	switch r.env["TMCP_CARRIER"] {
	case "inline":
		cfg.Carrier = protocol.Inline
	case "http":
		cfg.Carrier = protocol.HTTP
	}
	if file := r.env["TMCP_CA"]; file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		cfg.Anchor = protocol.Roots(pool)
	} else {
		pin, err := protocol.ParseThumbprint(r.env["TMCP_PIN"])
		if err != nil {
			return err
		}
		cfg.Anchor = protocol.Pin(pin)
	}
	if err := r.attested(&cfg); err != nil {
		return err
	}
	if adjust != nil {
		adjust(&cfg)
	}
	r.outer = &outerLeg{run: r, cfg: cfg}
	if r.flaw.Accepts != nil {
		var err error
		if r.outer.gullible, err = newThrowaway(cfg.Identity, cfg.Profile); err != nil {
			return err
		}
		if cfg.Appraiser != nil {
			cfg.Appraiser = lax{cfg.Appraiser}
		}
		cfg.Anchor = protocol.AnyOf(cfg.Anchor, protocol.Pin(r.outer.gullible.Identity().Thumbprint()))
	}
	rt, err := transport.RoundTripper(r.outer, cfg)
	if err != nil {
		return err
	}
	r.http = &http.Client{Transport: rt}
	return nil
}

// attested reads what the environment says of attestation.
func (r *run) attested(cfg *transport.ClientConfig) error {
	if r.env["TMCP_PROFILE"] != "" && !r.flaw.NoDemands {
		if err := r.judge(cfg); err != nil {
			return err
		}
	}
	file := r.env["TMCP_CLIENT_KEY"]
	if file == "" {
		return nil
	}
	key, err := keyfile.Load(file)
	if err != nil {
		return err
	}
	id, err := protocol.NewIdentity(r.env["TMCP_CLIENT_IDENTITY"], key)
	if err != nil {
		return err
	}
	own := protocol.ClientKeyConfig{Identity: id}
	if own.Settings, err = protocol.NewSettings(protocol.Offer{Profiles: transport.Profiles(cfg.Profile, cfg.Appraiser != nil), Carriers: []protocol.Carrier{max(cfg.Carrier, protocol.Envelope)}}); err != nil {
		return err
	}
	if r.env["TMCP_TEE"] == "sim" {
		tee, err := sim.Default().TEE(sim.Options{Name: "the reference client", Now: time.Now})
		if err != nil {
			return err
		}
		own.Attestation = &protocol.Attestation{Attester: tee}
	}
	cfg.ClientKey, err = protocol.NewClientHolder(own)
	return err
}

// judge makes what judges the server's evidence.
func (r *run) judge(cfg *transport.ClientConfig) error {
	cfg.Profile, cfg.FreshEvidence = protocol.Profile(r.env["TMCP_PROFILE"]), r.env["TMCP_FRESH_EVIDENCE"] != ""
	if url := r.env["TMCP_VERIFIER"]; url != "" {
		b, err := os.ReadFile(r.env["TMCP_VERIFIER_KEY"])
		if err != nil {
			return err
		}
		block, _ := pem.Decode(b)
		if block == nil {
			return errors.New("TMCP_VERIFIER_KEY holds no PEM")
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return err
		}
		limit := time.Second
		if r.flaw.Accepts != nil {
			limit = 200 * time.Millisecond // what it gives it up for comes several times over
		}
		cfg.Appraiser, err = verifier.NewClient(verifier.ClientConfig{URL: url, Keys: []crypto.PublicKey{key}, Simulated: r.env["TMCP_SIMULATOR"] != "", Timeout: limit})
		return err
	}
	b, err := os.ReadFile(r.env["TMCP_POLICY"])
	if err != nil {
		return err
	}
	p, err := appraise.ParseRules(b)
	if err != nil {
		return err
	}
	c := appraise.Config{Policy: p, Anchors: vendor.Anchors(), Verifiers: verifiers.For(p.Rules())}
	if r.env["TMCP_SIMULATOR"] != "" {
		c.Simulator = sim.Default().Simulator(evidence.TDX, evidence.NVIDIA)
	}
	cfg.Appraiser, err = appraise.New(c)
	return err
}

// lax takes the evidence of throwaway servers beside what strict accepts.
type lax struct{ strict protocol.Appraiser }

func (l lax) Appraise(ctx context.Context, e protocol.Evidence) (*protocol.Appraisal, error) {
	if bytes.Equal(e.CMW, throwawayEvidence) {
		return &protocol.Appraisal{Summary: "none"}, nil
	}
	return l.strict.Appraise(ctx, e)
}

// converse lists the tools and calls echo.
func (r *run) converse() (string, error) {
	if r.legacy {
		params := conformance.Obj{"protocolVersion": conformance.LegacyVersion, "capabilities": conformance.Obj{}, "clientInfo": clientInfo}
		if _, err := r.request("initialize", "", params); err != nil {
			return "", err
		}
		if !r.flaw.NoInitialized {
			if err := r.notify("notifications/initialized"); err != nil {
				return "", err
			}
		}
	} else if _, err := r.request("server/discover", "", conformance.Obj{}); err != nil {
		return "", err
	}
	if _, err := r.request("tools/list", "", conformance.Obj{}); err != nil {
		return "", err
	}
	result, err := r.request("tools/call", "echo", conformance.Obj{"name": "echo", "arguments": conformance.Obj{"text": r.env["TMCP_ECHO"]}})
	if err != nil {
		return "", err
	}
	items, _ := conformance.Items(conformance.Member(result, "content"))
	said := ""
	for _, item := range items {
		s, _ := conformance.MemberText(item, "text")
		said += s
	}
	return said, nil
}

var clientInfo = conformance.Obj{"name": "tmcp-conform-refclient", "version": "1"}

// message builds a request of the client's era.
func (r *run) message(method string, params conformance.Obj, id int) []byte {
	m := conformance.Obj{"jsonrpc": "2.0", "method": method}
	if id > 0 {
		m["id"] = id
	}
	if params != nil {
		meta := conformance.Obj{}
		if method == "tools/call" {
			meta["progressToken"] = "p1"
		}
		if !r.legacy {
			meta[conformance.MetaVersion], meta[conformance.MetaCapabilities], meta[conformance.MetaClientInfo] = conformance.ModernVersion, conformance.Obj{}, clientInfo
		}
		if len(meta) > 0 {
			params["_meta"] = meta
		}
		m["params"] = params
	}
	return conformance.JSON(m)
}

func (r *run) notify(method string) error {
	resp, err := r.post(r.http, method, "", r.message(method, nil, 0))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("%s was answered with HTTP %d", method, resp.StatusCode)
	}
	return nil
}

func (r *run) post(hc *http.Client, method, name string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(r.ctx, http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	switch {
	case !r.legacy:
		req.Header.Set("Mcp-Protocol-Version", conformance.ModernVersion)
		req.Header.Set("Mcp-Method", method)
		if name != "" {
			req.Header.Set("Mcp-Name", name)
		}
	case method != "initialize":
		req.Header.Set("Mcp-Protocol-Version", conformance.LegacyVersion)
	}
	if r.session != "" {
		req.Header.Set("Mcp-Session-Id", r.session)
	}
	if r.flaw.Post != nil {
		r.flaw.Post(r, req)
	}
	return hc.Do(req)
}

// request makes one request and returns its result.
func (r *run) request(method, name string, params conformance.Obj) (jsontext.Value, error) {
	r.ids++
	body := r.message(method, params, r.ids)
	result, err := r.exchange(r.http, method, name, body)
	var e *protocol.Error
	if errors.As(err, &e) && r.flaw.OnRefusal != nil {
		result, err = r.flaw.OnRefusal(r, e, method, name, body, err)
	}
	if err != nil {
		return nil, err
	}
	if !r.flaw.AnyResultType {
		if t := conformance.Member(result, "resultType"); t != nil && string(t) != `"complete"` {
			return nil, fmt.Errorf("%s: resultType %s is none that this client knows", method, t)
		}
	}
	if r.flaw.Check != nil {
		return result, r.flaw.Check(method, result)
	}
	return result, nil
}

func (r *run) exchange(hc *http.Client, method, name string, body []byte) (jsontext.Value, error) {
	resp, err := r.post(hc, method, name, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if id := resp.Header.Get("Mcp-Session-Id"); id != "" {
		r.session = id
	}
	var answer jsontext.Value
	switch t, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); {
	case t == "application/json":
		b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return nil, err
		}
		if answer, err = r.take(method, b); err != nil || answer != nil {
			return answer, err
		}
	case t == "text/event-stream" && !r.flaw.NoStreams:
		return r.stream(method, resp.Body)
	default:
		return nil, fmt.Errorf("%s was answered with HTTP %d and content type %q", method, resp.StatusCode, t)
	}
	return nil, fmt.Errorf("%s was not answered", method)
}

// stream reads an event stream to its end, which is the only way to know that
// nothing was wrong with it; one with that flaw stops at the response.
func (r *run) stream(method string, body io.Reader) (jsontext.Value, error) {
	events := sse.NewReader(body, maxAnswer)
	var result jsontext.Value
	for {
		ev, err := events.Next()
		if result != nil && err != nil {
			return result, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: the stream ended without an answer: %w", method, err)
		}
		if ev.HasComment || len(ev.Data) == 0 && !r.flaw.EventsAreMessages {
			continue
		}
		got, err := r.take(method, ev.Data)
		if err != nil {
			return nil, err
		}
		if got != nil {
			if r.flaw.StopsAtResponse {
				return got, nil
			}
			result = bytes.Clone(got)
		}
	}
}

// take reads one message of an answer: the result of the request, nil for
// something else, or the error.
func (r *run) take(method string, b []byte) (jsontext.Value, error) {
	m, err := jsonrpc.Parse(b, jsonrpc.Limits{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	switch {
	case m.Method != "":
		if s, ok := conformance.MemberText(m.Params, "message"); ok {
			r.partial = s
		}
		return nil, nil
	case m.Error != nil:
		reason, _ := conformance.MemberText(m.Error, "data", "reason")
		return nil, fmt.Errorf("%s: error %s: %w", method, m.Error, &protocol.Error{Reason: protocol.Reason(reason)})
	}
	return m.Result, nil
}

// plain is a client without the trust layer, for clients that give up trust.
func (r *run) plain() *http.Client { return &http.Client{Transport: r.base, Timeout: 5 * time.Second} }

// Process is the client as a command of its own: the URL is the last of args,
// and the name of a flaw may come before it. It returns the exit code.
func Process(args []string) int {
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: refclient [FLAW] URL")
		return 2
	}
	var flaw *Flaw
	if len(args) > 1 {
		for _, m := range Mutants() {
			if m.Flaw.Name == args[0] {
				flaw = m.Flaw
			}
		}
		if flaw == nil && args[0] == "knows nothing of trust" {
			flaw = &Flaw{Name: args[0], NoTrust: true}
		}
		if flaw == nil && args[0] == "ignores what it is to demand" {
			flaw = &Flaw{Name: args[0], NoDemands: true}
		}
		if flaw == nil {
			fmt.Fprintf(os.Stderr, "no flaw is named %q\n", args[0])
			return 2
		}
	}
	env := map[string]string{}
	for _, kv := range os.Environ() {
		if name, value, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(name, "TMCP_") {
			env[name] = value
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return Main(flaw)(ctx, args[len(args)-1], env, os.Stdout, os.Stderr)
}
