package aicc

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// hostKey is the key of all servers that the suite hosts for clients.
var hostKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// A scene is how the hosted server behaves in one case.
type scene struct {
	name, id, title, about string
	sse                    bool // answers are event streams
	progress               int  // messages ahead of the answer to the call
	large                  int  // bytes of the tool's answer
	text                   string

	// pem, if set, is the client's key file; nil: there is none.
	pem func(pub *rsa.PublicKey) []byte
	// first answers initialize, sealed or not; true: it did.
	first func(x *exchange) bool
	// call answers the sealed call of the tool; true: it did.
	call func(x *exchange) bool
	// lines changes the data lines of the answer to the call.
	lines func(x *exchange, lines []string) []string
}

// host is one run of the client against one scene.
type host struct {
	t      *T
	sc     *scene
	priv   *rsa.PrivateKey
	out    string // what the tool says
	forged string // what only an attacker says

	mu     sync.Mutex
	leaks  []string        // what came unsealed
	other  int             // requests to other paths
	keys   map[string]int  // AES keys, and how often each came
	nonces map[string]bool // of requests
	old    []byte          // the envelope of an earlier answer
	oldKey []byte          // the AES key of an earlier request
	bad    string          // what was wrong with a sealed request
	hits   int             // how often the attack was made
	seq    int             // log entry of the last of them
	sealed int             // sealed requests that opened
	ran    bool            // the tool ran
}

// exchange is one request of the client.
type exchange struct {
	h    *host
	w    http.ResponseWriter
	env  *Envelope // nil: plaintext
	key  []byte
	msg  *jsonrpc.Message // nil: none
	body []byte
	seq  int
}

// hit says that the scene's attack is made here.
func (x *exchange) hit() {
	x.h.mu.Lock()
	x.h.hits++
	x.h.seq = x.seq
	x.h.mu.Unlock()
}

func (x *exchange) write(status int, contentType string, marked bool, body []byte) {
	if marked {
		x.w.Header().Set(header, "1")
	}
	x.w.Header().Set("Content-Type", contentType)
	x.w.WriteHeader(status)
	_, _ = x.w.Write(body)
	x.h.t.Log().Add(wire.Sent, "http-response", body)
}

func (x *exchange) seal(text []byte) []byte { return SealWith(x.key, nil, text).JSON() }

func (x *exchange) response(result any) []byte {
	return jsonrpc.Response(x.msg.ID, conformance.JSON(result))
}

// answer is what an honest server says: messages, the response last.
func (h *host) answer(x *exchange) [][]byte {
	switch x.msg.Method {
	case "initialize":
		v, _ := conformance.MemberText(x.msg.Params, "protocolVersion")
		if v >= conformance.ModernVersion || v == "" {
			v = conformance.LegacyVersion
		}
		return [][]byte{x.response(Obj{"protocolVersion": v, "serverInfo": Obj{"name": "tmcp-conform-host", "version": "1"},
			"capabilities": Obj{"tools": Obj{}, "experimental": offer["experimental"]}})}
	case "tools/list":
		return [][]byte{x.response(Obj{"tools": []any{Obj{"name": "echo", "description": "Returns the text it is given",
			"inputSchema": Obj{"type": "object", "properties": Obj{"text": Obj{"type": "string"}}, "required": []string{"text"}}}}})}
	case "tools/call":
		h.mu.Lock()
		h.ran = true
		h.mu.Unlock()
		var out [][]byte
		for i := range h.sc.progress {
			token := conformance.Member(x.msg.Params, "_meta", "progressToken")
			p := Obj{"jsonrpc": "2.0", "method": "notifications/message", "params": Obj{"level": "info", "data": fmt.Sprintf("part %d", i)}}
			if token != nil {
				p = Obj{"jsonrpc": "2.0", "method": "notifications/progress", "params": Obj{"progressToken": token, "progress": i + 1, "total": h.sc.progress + 1}}
			}
			out = append(out, conformance.JSON(p))
		}
		return append(out, x.response(Obj{"content": []any{Obj{"type": "text", "text": h.out + strings.Repeat(" filler", h.sc.large/7)}}}))
	}
	return [][]byte{x.response(Obj{})}
}

// ServeHTTP answers one request as the scene has it.
func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, wire.MaxBytes))
	if err != nil {
		return
	}
	x := &exchange{h: h, w: w, body: body, seq: h.t.Log().Add(wire.Received, "http-request", fmt.Appendf(nil, "%s %s %s: %s\n%s", r.Method, r.URL.Path, header, r.Header.Get(header), body))}
	if r.URL.Path != "/mcp" {
		h.mu.Lock()
		h.other++
		h.mu.Unlock()
	}
	text := body
	if r.Header.Get(header) != "" {
		if text, err = x.open(); err != nil {
			h.note(&h.bad, "%v", err)
			x.write(400, "application/json", false, jsonrpc.ErrorResponse("", -32600, "bad envelope", nil))
			return
		}
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	if x.msg, err = jsonrpc.Parse(text, jsonrpc.Limits{}); err != nil {
		h.note(&h.bad, "what it sealed is no message: %v", err)
		w.WriteHeader(400)
		return
	}
	h.route(x)
}

func (h *host) note(where *string, format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if *where == "" {
		*where = fmt.Sprintf(format, args...)
	}
}

// open opens the envelope of a request.
func (x *exchange) open() (text []byte, err error) {
	if x.env, err = Read(x.body); err != nil {
		return nil, err
	}
	if x.key, err = x.env.Unwrap(x.h.priv); err != nil {
		return nil, err
	}
	if text, err = x.env.Open(x.key); err != nil {
		return nil, err
	}
	h := x.h
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keys[string(x.key)]++
	h.nonces[string(x.env.Nonce)] = true
	h.sealed++
	return text, nil
}

func (h *host) route(x *exchange) {
	first := x.msg.Method == "initialize"
	if x.env == nil && !first {
		h.mu.Lock()
		h.leaks = append(h.leaks, x.msg.Method+" in plaintext")
		h.mu.Unlock()
		// A gullible client shall come to its end, so that all that it does is seen.
		if x.msg.IsRequest() && h.sc.first != nil {
			msgs := h.answer(x)
			x.write(200, "application/json", false, bytes.ReplaceAll(msgs[len(msgs)-1], []byte(h.out), []byte(h.forged)))
			return
		}
		x.write(400, "application/json", false, jsonrpc.ErrorResponse(x.msg.ID, -32600, "sealed messages only", nil))
		return
	}
	if first && h.sc.first != nil && h.sc.first(x) {
		return
	}
	if !x.msg.IsRequest() {
		if x.env != nil {
			sealed := x.seal(nil)
			h.mu.Lock()
			h.old, h.oldKey = sealed, x.key
			h.mu.Unlock()
			x.write(202, "application/json", true, sealed)
		} else {
			x.w.WriteHeader(202)
		}
		return
	}
	if x.msg.Method == "tools/call" && h.sc.call != nil && h.sc.call(x) {
		return
	}
	msgs := h.answer(x)
	if x.env == nil {
		x.write(200, "application/json", false, msgs[len(msgs)-1])
		return
	}
	call := x.msg.Method == "tools/call"
	if !h.sc.sse && len(msgs) == 1 && (!call || h.sc.lines == nil) {
		sealed := x.seal(msgs[0])
		h.mu.Lock()
		h.old, h.oldKey = sealed, x.key
		h.mu.Unlock()
		x.write(200, "application/json", true, sealed)
		return
	}
	lines := make([]string, len(msgs))
	for i, m := range msgs {
		lines[i] = string(x.seal(m))
	}
	if call && h.sc.lines != nil {
		x.hit()
		lines = h.sc.lines(x, lines)
	}
	var out bytes.Buffer
	for _, l := range lines {
		out.WriteString("event: message\r\ndata: " + l + "\r\n\r\n")
	}
	x.write(200, "text/event-stream", true, out.Bytes())
}

// play runs the client against a scene.
func play(t *T, sc *scene) (*host, conformance.SubjectRun) {
	subject := t.Subject()
	if subject == nil {
		t.NotApplicable("the profile goes alone: --profile %s", conformance.ProfileAICC)
	}
	priv, err := hostKey()
	if err != nil {
		t.Untestable("%v", err)
	}
	mark := fmt.Sprintf("%d", time.Now().UnixNano())
	h := &host{t: t, sc: sc, priv: priv, out: sc.text + "said-" + mark, forged: "forged-" + mark, keys: map[string]int{}, nonces: map[string]bool{}}
	dir, err := os.MkdirTemp("", "tmcp-conform-aicc-")
	if err != nil {
		t.Untestable("%v", err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "myPublicKey.pem")
	key := publicPEM(&priv.PublicKey)
	if sc.pem != nil {
		key = sc.pem(&priv.PublicKey)
	}
	if key != nil {
		if err := os.WriteFile(file, key, 0o600); err != nil {
			t.Untestable("%v", err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Untestable("no loopback port: %v", err)
	}
	var busy sync.WaitGroup // handlers too, so that nothing is written once it is judged
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		busy.Add(1)
		defer busy.Done()
		h.ServeHTTP(w, r)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	defer func() { _ = srv.Close(); <-done; busy.Wait() }()
	ctx, cancel := context.WithTimeout(t.Context(), t.StepTimeout())
	defer cancel()
	run := subject.Run(ctx, "http://"+l.Addr().String()+"/mcp", []string{"MCP_CONFORMANCE_SCENARIO=" + sc.name, "TMCP_ECHO=" + sc.text + mark,
		"TMCP_ERA=legacy", "TMCP_TRUST=required", "TMCP_PROFILE=" + string(conformance.ProfileAICC), "TMCP_AICC_PUBLIC_KEY=" + file})
	h.t.Log().Add(wire.Received, "stdout", run.Stdout)
	h.t.Log().Add(wire.Received, "stderr", run.Stderr)
	end := h.t.Log().Add(wire.Received, "exit", fmt.Appendf(nil, "exit code %d", run.Exit))
	if run.Err != nil {
		t.Failf("the client: %v (stderr %q)", run.Err, conformance.Short(run.Stderr))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if sc.pem != nil { // what is tried is the key, which is never used
		h.hits, h.seq = 1, end
	}
	return h, run
}

func publicPEM(pub *rsa.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// good judges a scene in which all is honest.
func good(t *T, sc *scene) *host {
	h, run := play(t, sc)
	switch {
	case len(h.leaks) > 0:
		t.Violate("the client sent %s", h.leaks[0])
	case h.bad != "":
		t.Violate("a sealed request: %s", h.bad)
	case run.Exit != 0:
		t.Violate("the client failed against an honest server (exit code %d, stderr %q)", run.Exit, conformance.Short(run.Stderr))
	case !h.ran:
		t.Violate("the client did not call the tool, sealed")
	case !bytes.Contains(run.Stdout, []byte(h.out)):
		t.Violate("what the tool said is not on standard output")
	}
	return h
}

// hostile judges an attack.
func hostile(t *T, sc *scene) {
	h, run := play(t, sc)
	switch {
	case len(h.leaks) > 0:
		t.Violate("the client sent %s", h.leaks[0])
	case h.other > 0:
		t.Violate("the client followed the redirect")
	case bytes.Contains(run.Stdout, []byte(h.forged)):
		t.Violate("what the attacker forged reached the client's user")
	case h.hits == 0:
		t.Untestable("the client never came to where the attack is made (%d sealed requests, exit code %d, stderr %q)", h.sealed, run.Exit, conformance.Short(run.Stderr))
	case sc.pem != nil && (h.sealed > 0 || h.bad != ""):
		t.Violate("the client sealed to a key that it must not have")
	case run.Exit == 0:
		t.Violate("the client reported success (stdout %q)", conformance.Short(run.Stdout))
	}
	t.Refused("exit code %d", run.Exit)
	t.Reached(h.seq)
	t.NoEffect("nothing left the client unsealed, and nothing forged reached its user")
}

// left judges what the profile leaves open.
func left(t *T, sc *scene, what string) {
	h, run := play(t, sc)
	if h.hits == 0 {
		t.Untestable("the client never came to where the attack is made (exit code %d)", run.Exit)
	}
	if run.Exit == 0 {
		t.Weakness("%s%s", Weakness, what)
	}
}

// weakPEM is a key of 1024 bits. Nobody has its private half.
func weakPEM(*rsa.PublicKey) []byte {
	n := new(big.Int).SetBytes(random(128))
	n.SetBit(n.SetBit(n, 1023, 1), 0, 1)
	return publicPEM(&rsa.PublicKey{N: n, E: 65537})
}

func (x *exchange) forgedResult() []byte {
	return x.response(Obj{"content": []any{Obj{"type": "text", "text": x.h.forged}}})
}

// withoutOffer is an honest answer to initialize, in plaintext, without the offer.
func (x *exchange) withoutOffer() []byte {
	return x.response(Obj{"protocolVersion": conformance.LegacyVersion, "serverInfo": Obj{"name": "plain", "version": "1"}, "capabilities": Obj{"tools": Obj{}}})
}

// onFirst answers initialize so.
func onFirst(name, id, title string, status int, contentType string, body func(x *exchange) []byte) scene {
	return scene{name: name, id: id, title: title, about: "Answers initialize so, sealed or not, and plaintext after it as any server does.", first: func(x *exchange) bool {
		x.hit()
		x.write(status, contentType, false, body(x))
		return true
	}}
}

// onCall answers the sealed call of the tool so.
func onCall(name, id, title string, f func(x *exchange)) scene {
	return scene{name: name, id: id, title: title, about: "Answers the client's sealed tools/call so.", call: func(x *exchange) bool {
		x.hit()
		f(x)
		return true
	}}
}

// onOld answers with what an earlier exchange left, where there was one.
func onOld(name, title string, f func(x *exchange, old, key []byte) []byte) scene {
	sc := onCall(name, "23.4-5", title, nil)
	sc.call = func(x *exchange) bool {
		x.h.mu.Lock()
		old, key := x.h.old, x.h.oldKey
		x.h.mu.Unlock()
		if old == nil {
			return false
		}
		x.hit()
		x.write(200, "application/json", true, f(x, old, key))
		return true
	}
	return sc
}

// onLines changes the event stream that answers the call.
func onLines(name, id, title string, f func(x *exchange, lines []string) []string) scene {
	return scene{name: name, id: id, title: title, about: "Answers the client's sealed tools/call with an event stream of two messages of progress and the answer, changed so.", progress: 2, lines: f}
}

func attacks() []scene {
	const html = "<html>welcome</html>"
	return []scene{
		onFirst("strip-offer", "23.2-2", "the offer is taken out of the answer to initialize", 200, "application/json", (*exchange).withoutOffer),
		onFirst("strip-other-name", "23.2-2", "the offer is of something else", 200, "application/json", func(x *exchange) []byte {
			return bytes.Replace(x.withoutOffer(), []byte(`"capabilities":{`), []byte(`"capabilities":{"experimental":{"trustProtocol":{"name":"NONE","version":"0.1"}},`), 1)
		}),
		onFirst("initialize-unreadable", "23.2-1", "initialize is answered with a web page", 200, "text/html", func(*exchange) []byte { return []byte(html) }),
		onFirst("initialize-refused", "23.2-1", "initialize is answered with HTTP 400", 400, "application/json", func(x *exchange) []byte {
			return jsonrpc.ErrorResponse(x.msg.ID, -32600, "no", nil)
		}),
		onFirst("initialize-not-found", "23.2-1", "initialize is answered with HTTP 404", 404, "text/plain", func(*exchange) []byte { return []byte("not found\n") }),
		onCall("plaintext-answer", "23.4-3", "a sealed request is answered in plaintext", func(x *exchange) {
			x.write(200, "application/json", false, x.forgedResult())
		}),
		onCall("plaintext-stream", "23.4-3", "a sealed request is answered with an event stream in plaintext", func(x *exchange) {
			x.write(200, "text/event-stream", false, append(append([]byte("event: message\r\ndata: "), x.forgedResult()...), "\r\n\r\n"...))
		}),
		onCall("plaintext-marked", "23.4-5", "the answer is plaintext, and the header field says that it is sealed", func(x *exchange) {
			x.write(200, "application/json", true, x.forgedResult())
		}),
		onCall("plaintext-status", "23.4-4", "a sealed request is answered with HTTP 400 and a result in plaintext", func(x *exchange) {
			x.write(400, "application/json", false, x.forgedResult())
		}),
		onCall("plaintext-error", "23.4-4", "a sealed request is answered with HTTP 500 and an error in plaintext", func(x *exchange) {
			x.write(500, "application/json", false, jsonrpc.ErrorResponse(x.msg.ID, -32603, x.h.forged, nil))
		}),
		onCall("other-key", "23.4-5", "the answer is sealed under another key", func(x *exchange) {
			x.write(200, "application/json", true, SealWith(random(32), nil, x.forgedResult()).JSON())
		}),
		onOld("old-answer", "an earlier answer comes in the place of this one", func(_ *exchange, old, _ []byte) []byte { return old }),
		onOld("swapped-answer", "the answer is sealed under the key of another request", func(x *exchange, _, key []byte) []byte {
			return SealWith(key, nil, x.forgedResult()).JSON()
		}),
		onCall("mac-altered", "23.4-5", "one bit of the answer's tag is another", func(x *exchange) {
			e := SealWith(x.key, nil, x.forgedResult())
			e.Mac = flip(e.Mac)
			x.write(200, "application/json", true, e.JSON())
		}),
		onCall("reflected", "23.4-6", "the client's own request comes back as the answer", func(x *exchange) {
			e := *x.env
			e.Key = nil
			x.write(200, "application/json", true, e.JSON())
		}),
		onLines("reflected-in-stream", "23.4-6", "the client's own request comes back within the stream", func(x *exchange, lines []string) []string {
			e := *x.env
			e.Key = nil
			return []string{string(e.JSON()), lines[len(lines)-1]}
		}),
		onCall("other-id", "23.4-7", "the answer has another JSON-RPC id", func(x *exchange) {
			x.write(200, "application/json", true, x.seal(jsonrpc.Response(`"another"`, conformance.JSON(Obj{"content": []any{Obj{"type": "text", "text": x.h.forged}}}))))
		}),
		onLines("line-twice", "23.4-8", "a message of the stream comes twice", func(_ *exchange, lines []string) []string {
			return []string{lines[0], lines[0], lines[1], lines[2]}
		}),
		onLines("stream-cut", "23.4-9", "the stream ends before the answer", func(_ *exchange, lines []string) []string { return lines[:2] }),
		onLines("stream-empty", "23.4-9", "the stream is empty", func(*exchange, []string) []string { return nil }),
		onLines("line-plain", "23.4-5", "one message of the stream is plaintext", func(x *exchange, lines []string) []string {
			return []string{lines[0], string(x.forgedResult())}
		}),
		onCall("redirected", "23.4-10", "a sealed request is redirected", func(x *exchange) {
			x.w.Header().Set("Location", "/elsewhere")
			x.write(307, "text/plain", false, nil)
		}),
		{name: "no-key", id: "23.5-3", title: "there is no key file", about: "Starts the client without its key file.", pem: func(*rsa.PublicKey) []byte { return nil }},
		{name: "weak-key", id: "23.5-2", title: "the key has 1024 bits", about: "Gives the client a key file with a key of 1024 bits.", pem: weakPEM},
		{name: "no-pem", id: "23.5-3", title: "the key file holds no key", about: "Gives the client a key file with other text.", pem: func(*rsa.PublicKey) []byte { return []byte(html) }},
	}
}

func clientCases() []conformance.Case {
	var all []conformance.Case
	add := func(name, id, twin, title, about string, run func(*T)) {
		all = append(all, define(conformance.RoleClient, name, "TMCP-"+id, conformance.Case{Title: title, About: about, Twin: twin, Run: run,
			Fix: "Read sections 23.2 to 23.5: fail closed, with the reason of section 23.7."}))
	}
	for _, sc := range []scene{
		{name: "sealed-call", title: "an honest server is used, with everything sealed", about: "Answers in JSON. It is the accepted twin of all attacks."},
		{name: "sealed-stream", title: "answers in event streams are read", about: "Answers in event streams, with three messages of progress.", sse: true, progress: 3},
		{name: "large-answer", title: "an answer of 512 KiB is read", about: "Has the tool say that much.", large: 512 << 10},
		{name: "unicode", title: "text of any script is read and written", about: "Has the tool get and say text of several scripts.", text: "ключ 鍵 🔑 ß "},
	} {
		add(sc.name, "23.2-1", "", sc.title, sc.about, func(t *T) { good(t, &sc) })
	}
	fresh := scene{name: "fresh-keys"}
	add(fresh.name, "23.3-1", "", "each message is sealed under a key of its own", "Compares the AES keys of all that the client seals.", func(t *T) {
		h := good(t, &fresh)
		for _, n := range h.keys {
			if n > 1 {
				t.Violate("one key sealed %d messages", n)
			}
		}
		if len(h.nonces) < h.sealed {
			t.Violate("a nonce came twice")
		}
	})
	for _, sc := range attacks() {
		add(sc.name, sc.id, "sealed-call", sc.title+": the client gives up", sc.about, func(t *T) { hostile(t, &sc) })
	}
	for _, sc := range []struct {
		scene
		what string
	}{
		{onLines("open-line-dropped", "", "a message of the stream is left out", func(_ *exchange, l []string) []string { return append(l[:1:1], l[2]) }), "a message of an event stream was left out, and the client did not see it"},
		{onLines("open-lines-swapped", "", "two messages of the stream change places", func(_ *exchange, l []string) []string { return []string{l[1], l[0], l[2]} }), "two messages of an event stream changed places, and the client did not see it"},
	} {
		all = append(all, define(conformance.RoleClient, sc.name, "TMCP-23.9-1", conformance.Case{Title: sc.title, About: sc.about + " It works by the design of the profile, and is reported so.",
			Fix: "Nothing that the profile has. Take profile identity or attested, whose frames are numbered.",
			Run: func(t *T) { left(t, &sc.scene, sc.what) }}))
	}
	return all
}
