package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/protocol"
)

// A scene says how the server of one case behaves. The zero scene is an honest
// server of profile identity whose key is pinned.
type scene struct {
	// What the client is told.
	carrier string // envelope (default), inline or http
	fresh   bool   // ask for a key object with a nonce
	pad     bool   // pad what is sealed
	pki     *pki   // the identity is certified, not pinned

	// Attestation. profile is what the client must demand; the server is of that
	// profile too, unless server says otherwise.
	profile       string // attested or mutual; empty: identity
	server        string
	freshEvidence bool // ask for evidence for a nonce
	production    bool // simulated TEEs are not accepted
	rules         func(*appraise.Rules)
	attest        func(*attesting) // of the honest server: what it runs in
	nonceEvidence func(nonce []byte) []byte
	remote        *remote       // a verifier that the client asks
	clientKey     bool          // the client has a key of its own to show
	patience      time.Duration // how long the client may take at least

	tls      *tlsEnd // attested TLS before the server; goes with noTrust
	noTrust  bool    // a plain MCP server
	settings string  // of the server, as JSON; empty: the usual ones

	// The server behind.
	innerCapabilities Obj
	innerResult       func(method string, result, meta Obj)
	stream            bool // the answer to the canary tool is an event stream
	plain             func(x *exchange, a *innerAnswer) bool

	// The outer leg. outer takes a request over when it returns true.
	outer       func(x *exchange) bool
	opening     func(x *exchange, result Obj)
	object      func(*keyObject)
	nonceObject func(nonce []byte) []byte // the nonce that the object carries instead
	mutatesKey  bool                      // object, opening or nonceObject is the mutant

	// The answer to the sealed call of the canary tool.
	frames     func(x *exchange, fs []*outFrame) []*outFrame
	cut        bool // the stream ends without the response
	sse        bool // an event stream, though there is one frame only
	comments   bool
	chunked    bool // http carrier: in two chunks
	padAnswers bool

	// afterFinal: the honest answer came whole, so the client may report it.
	honest  bool
	hangFor time.Duration
}

// result is what came of a scene.
type result struct {
	t   *T
	h   *host
	sc  *scene
	end *ended
}

func canary(kind string) string {
	b := make([]byte, 12)
	rand.Read(b)
	return kind + hex.EncodeToString(b)
}

// stage makes the host of a scene. The caller closes it.
func stage(log *wire.Log, sc *scene) (*host, error) {
	h := &host{sc: sc, log: log, marked: -1,
		in: canary("ask-"), out: canary("reply-"), partial: canary("partly-"), forged: canary("forged-")}
	if sc.carrier == "" {
		sc.carrier = "envelope"
	}
	if !sc.noTrust {
		raw := sc.settings
		if raw == "" {
			raw = sc.usual()
		}
		settings, err := protocol.ParseSettings([]byte(raw))
		if err != nil {
			return nil, err
		}
		if h.trust, err = newHolder("https://"+strings.ReplaceAll(canary("s"), "-", "")+".example/mcp", settings); err != nil {
			return nil, err
		}
		if sc.pki != nil {
			if err := sc.pki.certify(h.trust); err != nil {
				return nil, err
			}
		}
		if sc.role() != "identity" {
			h.trust.attest = func() *attesting { return newAttesting(sc) }
		}
	}
	if sc.tls != nil {
		if err := sc.tls.prepare("https://" + strings.ReplaceAll(canary("s"), "-", "") + ".example/mcp"); err != nil {
			return nil, err
		}
	}
	return h, h.listen()
}

const usualSettings = `{"version":1,"profiles":["identity"],"carriers":["envelope","inline","http"],"suites":["mlkem768x25519-sha256-aes256gcm","x25519-sha256-chacha20poly1305"],"mode":"required","clientKey":"none"}`

// environment is what the client is told.
func (h *host) environment(id string, era conformance.Era) (env map[string]string, cleanup func(), err error) {
	env = map[string]string{"MCP_CONFORMANCE_SCENARIO": id, "TMCP_ECHO": h.in, "TMCP_ERA": string(era), "TMCP_TRUST": "off"}
	cleanup = func() {}
	switch {
	case h.sc.tls != nil:
		env["TMCP_TRUST"], env["TMCP_IDENTITY"], env["TMCP_PIN"] = "required", h.sc.tls.identity, h.sc.tls.pin
	case h.trust == nil:
		return env, cleanup, nil
	default:
		env["TMCP_TRUST"], env["TMCP_CARRIER"], env["TMCP_IDENTITY"] = "required", h.sc.carrier, h.trust.uri
	}
	if h.sc.fresh {
		env["TMCP_FRESH"] = "1"
	}
	if h.sc.pad {
		env["TMCP_PAD"] = "1"
	}
	if h.sc.pki == nil && h.trust != nil {
		env["TMCP_PIN"] = h.trust.thumbprint()
	}
	files, err := h.attestedEnvironment(env)
	if err != nil {
		return nil, cleanup, err
	}
	if h.sc.pki != nil {
		files["TMCP_CA"] = h.sc.pki.roots()
	}
	if len(files) == 0 {
		return env, cleanup, nil
	}
	dir, err := os.MkdirTemp("", "tmcp-conform-")
	if err != nil {
		return nil, cleanup, err
	}
	cleanup = func() { os.RemoveAll(dir) }
	for name, content := range files {
		env[name] = filepath.Join(dir, strings.ToLower(strings.TrimPrefix(name, "TMCP_")))
		if err := os.WriteFile(env[name], content, 0o600); err != nil {
			return nil, cleanup, err
		}
	}
	return env, cleanup, nil
}

// play runs the client against a scene. It ends the case as not applicable when
// the client does not take part in trust.
func play(t *T, id string, set func(*scene)) *result {
	s := subject(t)
	sc := &scene{}
	if set != nil {
		set(sc)
	}
	if why := s.trust[eraIndex(t.Era())]; why != "" && !sc.noTrust {
		t.NotApplicable("%s", why)
	}
	if why := s.attested[eraIndex(t.Era())]; why != "" && sc.profile != "" {
		t.NotApplicable("%s", why)
	}
	if why := s.plain[eraIndex(t.Era())]; why != "" && sc.noTrust {
		t.NotApplicable("%s", why)
	}
	r, err := perform(t.Context(), s, t.Log(), id, t.Era(), sc, t.StepTimeout())
	if err != nil {
		t.Untestable("the server of the case could not be started: %v", err)
	}
	if t.Context().Err() != nil {
		t.Untestable("interrupted")
	}
	r.t = t
	return r
}

func perform(ctx context.Context, s *Subject, log *wire.Log, id string, era conformance.Era, sc *scene, limit time.Duration) (*result, error) {
	sc.hangFor = s.Hang
	if sc.hangFor <= 0 {
		sc.hangFor = min(limit/10, time.Second)
	}
	h, err := stage(log, sc)
	if err != nil {
		return nil, err
	}
	defer h.close()
	if sc.remote != nil {
		if err := sc.remote.start(); err != nil {
			return nil, err
		}
		defer sc.remote.stop()
	}
	env, cleanup, err := h.environment(id, era)
	defer cleanup()
	if err != nil {
		return nil, err
	}
	r := &result{h: h, sc: sc}
	r.end = s.start(ctx, h.url, env, max(limit, sc.patience))
	if sc.tls != nil {
		sc.tls.settle(time.Second)
	}
	log.Add(wire.Received, "stdout", []byte(r.end.stdout))
	log.Add(wire.Received, "stderr", []byte(r.end.stderr))
	log.Add(wire.Received, "exit", []byte(r.end.String()))
	return r, nil
}

// succeeded fails the case unless the client ended well and told the canary of
// the server's answer.
func (r *result) succeeded() {
	t := r.t
	if why := r.declined(); why != "" {
		t.NotApplicable("%s", why)
	}
	switch {
	case !r.end.ok():
		t.Violate("the client did not succeed: %s%s", r.end, r.trouble())
	case len(r.h.runs()) == 0:
		t.Failf("the client ended well and never called the tool echo%s", r.trouble())
	case !strings.Contains(r.end.stdout, r.h.out):
		t.Failf("the client ended well, and its standard output does not hold the text that the tool answered with: %q", conformance.Short([]byte(r.end.stdout)))
	}
	if !r.sc.noTrust {
		r.clean()
	}
}

// declined says what of the scene the client does not do at all.
func (r *result) declined() string {
	if r.sc.noTrust {
		return ""
	}
	sealed, attested, fresh := 0, false, false
	for _, rec := range r.h.all() {
		attested = attested || rec.attest || rec.method() == protocol.MethodAttest
		fresh = fresh || asksEvidence(rec)
		if !rec.sealed {
			continue
		}
		if got := carrierOf(rec); got != r.sc.carrier {
			return sprint("told to use the %s carrier by TMCP_CARRIER, the client used %s", r.sc.carrier, got)
		}
		if sealed++; rec.opened != nil && r.sc.pad && !rec.opened.padded {
			return "told to pad by TMCP_PAD, the client did not"
		}
	}
	switch {
	case sealed == 0 && r.sc.carrier != "envelope":
		return sprint("told to use the %s carrier by TMCP_CARRIER, the client sealed nothing (%s)", r.sc.carrier, r.end)
	case r.sc.fresh && !attested:
		return "told to ask for a fresh key object by TMCP_FRESH, the client did not send trust/attest"
	case r.sc.freshEvidence && !fresh:
		return "told to ask for fresh evidence by TMCP_FRESH_EVIDENCE, the client did not send trust/attest for it"
	case r.sc.remote != nil && r.sc.remote.asked.Load() == 0:
		return "told by TMCP_VERIFIER to have a verifier appraise the evidence, the client did not ask it"
	case r.sc.pki != nil && sealed == 0:
		return sprint("given roots by TMCP_CA, the client sealed nothing (%s)", r.end)
	}
	return ""
}

func carrierOf(rec *record) string {
	switch {
	case rec.msg == nil:
		return "http"
	case rec.method() == protocol.MethodCall:
		return "envelope"
	}
	return "inline"
}

// trouble is what the host could not read of the client.
func (r *result) trouble() string {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	if len(r.h.problems) == 0 {
		return ""
	}
	return "; the suite's server says: " + strings.Join(r.h.problems, "; ")
}

// clean fails the case when the client put on the wire what belongs inside the
// seal, changed the era of the outer leg, or sealed one message too often.
func (r *result) clean() {
	t := r.t
	if where := r.find(r.h.in); where != "" {
		t.Violate("the argument of the tool call left the client in the clear (%s)", where)
	}
	r.h.mu.Lock()
	sealedTo := len(r.h.sealedTo)
	r.h.mu.Unlock()
	if sealedTo > 0 {
		t.Violate("the client sealed a message to a key object that it must refuse")
	}
	var suite protocol.Suite
	r.eachOpen(func(f *protocol.Frame) {
		if suite != 0 && f.Suite != suite {
			t.Violate("the client went from %v to %v", suite, f.Suite)
		}
		suite = f.Suite
	})
	seals := map[string]int{}
	for _, rec := range r.h.all() {
		if why := r.leak(rec, t.Era()); why != "" {
			t.Violate("%s", why)
		}
		if rec.digest != "" {
			if seals[rec.digest]++; seals[rec.digest] > 3 {
				t.Violate("the client sealed one message (%s) more than three times", rec.inner)
			}
		}
	}
}

// leak says what is wrong with a request of the outer leg.
func (r *result) leak(rec *record, era conformance.Era) string {
	if rec.sealed {
		if rec.method() == "tools/call" && conformance.Member(rec.msg.Params, "arguments") != nil {
			return "a tools/call with frames holds arguments outside the seal"
		}
		return ""
	}
	if rec.verb != "POST" {
		return sprint("the client sent HTTP %s outside the seal", rec.verb)
	}
	m := rec.msg
	if m == nil {
		return "the client posted something outside the seal that is no JSON-RPC message: " + conformance.Short(rec.body)
	}
	inline := r.sc.carrier == "inline"
	switch m.Method {
	case "server/discover":
		if era == conformance.Legacy && !inline {
			return "told to open in the legacy era, the client sent server/discover"
		}
	case "initialize", "notifications/initialized":
		if era == conformance.Modern && !inline {
			return "told to open in the modern era, the client sent " + m.Method
		}
	case "ping", protocol.MethodAttest:
	case "tools/call":
		if !inline || !rec.attest || conformance.Member(m.Params, "arguments") != nil {
			return "tools/call left the client in the clear"
		}
	default:
		if inline && (m.Method == "tools/list" || strings.HasPrefix(m.Method, "notifications/")) {
			return ""
		}
		if m.IsResponse() {
			return "a response left the client in the clear"
		}
		return sprint("%s left the client in the clear", m.Method)
	}
	return ""
}

// find says in which spelling a canary stands on the wire, or "".
func (r *result) find(what string) string {
	tap := r.h.wire()
	if bytes.Contains(tap, []byte(what)) {
		return "as it is"
	}
	if bytes.Contains(tap, []byte(hex.EncodeToString([]byte(what)))) {
		return "in hexadecimal"
	}
	for shift := range 3 { // base64 of a text that holds it, at any alignment
		b := append(make([]byte, shift), what...)
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			s := enc.EncodeToString(b)
			if mid := s[4 : len(s)-4]; bytes.Contains(tap, []byte(mid)) {
				return "in base64"
			}
		}
	}
	return ""
}

// refused judges the answer of a client to a mutant.
func (r *result) refused(g guard) {
	t := r.t
	if why := r.declined(); why != "" && g == noPlain {
		t.Violate("in the twin the client did as told, and now: %s", why)
	}
	records := r.h.all()
	if r.h.marked < 0 {
		t.Untestable("the client never came to the step that the mutant changes: %s%s", r.end, r.trouble())
	}
	switch {
	case strings.Contains(r.end.stdout, r.h.forged):
		t.Violate("the client reported what was forged: %s", conformance.Short([]byte(r.end.stdout)))
	case r.end.timedOut:
		t.Violate("the client ended its call neither with an answer nor with an error: %s", r.end)
	case r.sc.honest && r.end.ok() && strings.Contains(r.end.stdout, r.h.out):
		// The answer itself was whole; what came after it was not delivered.
	case r.end.ok():
		t.Violate("the client accepted it: exit code 0, standard output %q", conformance.Short([]byte(r.end.stdout)))
	case r.end.err != nil:
		t.Untestable("%s", r.end)
	case strings.Contains(r.end.stdout, r.h.out):
		t.Violate("the client reported the answer, and then failed: %s", conformance.Short([]byte(r.end.stdout)))
	}
	if !r.sc.noTrust {
		r.clean()
	}
	if g == noSeal {
		for _, rec := range records[r.h.marked+1:] {
			if rec.sealed {
				t.Violate("the client sealed a message to it (%s)", carrierOf(rec))
			}
		}
		if n := len(r.h.runs()); n > 0 {
			t.Violate("the canary tool ran %d times", n)
		}
	}
	t.Refused("%s", r.end)
	t.Reached(records[r.h.marked].seq)
	switch g {
	case noSeal:
		t.NoEffect("no sealed request came after it, the canary is nowhere on the wire, and the tool did not run")
	case noPlain:
		t.NoEffect("the canary is nowhere on the wire, and no request outside the seal holds anything of the conversation")
	default:
		t.NoEffect("standard output holds neither the forged nor the true answer as a success")
		if r.sc.honest {
			t.NoEffect("nothing of what followed the final frame was reported")
		}
	}
}
