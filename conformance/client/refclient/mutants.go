package refclient

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// A Mutant is a client with one flaw, and the cases that must notice it.
type Mutant struct {
	Flaw  *Flaw
	Kills []string // ids of cases, without client/
}

const (
	idn = "identity/"
	mod = "core/modern/"
	leg = "core/legacy/"
)

func under(prefix string, names ...string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = prefix + n
	}
	return out
}

// Mutants are the clients that the suite must catch.
func Mutants() []Mutant {
	var all []Mutant
	for _, part := range [][]Mutant{narrow(), coreMutants(), givingUp(), gullible(), credulous(), unbound(), deliverers(), leaky()} {
		all = append(all, part...)
	}
	return all
}

type refusal = func(r *run, e *protocol.Error, method, name string, body []byte, err error) (jsontext.Value, error)

// on runs f when the trust layer refuses for one of the reasons.
func on(f refusal, reasons ...protocol.Reason) refusal {
	return func(r *run, e *protocol.Error, method, name string, body []byte, err error) (jsontext.Value, error) {
		for _, want := range reasons {
			if e.Reason == want {
				return f(r, e, method, name, body, err)
			}
		}
		return nil, err
	}
}

// inTheClear goes on without the trust layer. What opens the conversation may
// fail again: such a client takes the server for one that can do without.
func inTheClear(r *run, _ *protocol.Error, method, name string, body []byte, _ error) (jsontext.Value, error) {
	r.http = r.plain()
	result, err := r.exchange(r.http, method, name, body)
	if err != nil && (method == "server/discover" || method == "initialize") {
		return jsontext.Value(`{}`), nil
	}
	return result, err
}

// success makes of a refusal an empty result.
func success(*run, *protocol.Error, string, string, []byte, error) (jsontext.Value, error) {
	return jsontext.Value(`{"resultType":"complete","content":[{"type":"text","text":""}]}`), nil
}

// otherEra opens in the era that the client was not told to use.
func otherEra(r *run, _ *protocol.Error, _, _ string, _ []byte, err error) (jsontext.Value, error) {
	r.legacy = !r.legacy
	method := "server/discover"
	params := conformance.Obj{}
	if r.legacy {
		method, params = "initialize", conformance.Obj{"protocolVersion": conformance.LegacyVersion, "capabilities": conformance.Obj{}, "clientInfo": clientInfo}
	}
	_, _ = r.exchange(r.plain(), method, "", r.message(method, params, 90))
	return nil, err
}

// again has the same message sealed anew.
func again(r *run, _ *protocol.Error, method, name string, body []byte, err error) (jsontext.Value, error) {
	for range 4 {
		if result, e := r.exchange(r.http, method, name, body); e == nil {
			return result, nil
		}
	}
	return nil, err
}

func otherwise(adjust func(*transport.ClientConfig)) refusal {
	return func(r *run, _ *protocol.Error, method, name string, body []byte, err error) (jsontext.Value, error) {
		if e := r.trust(adjust); e != nil {
			return nil, errors.Join(err, e)
		}
		return r.exchange(r.http, method, name, body)
	}
}

// givingUp are clients that do without trust, or with less, when it is refused.
func givingUp() []Mutant {
	weak := func(cfg *transport.ClientConfig) {
		s, err := protocol.NewSettings(protocol.Offer{Suites: []protocol.Suite{protocol.SuiteX25519}})
		if err == nil {
			cfg.Settings = s
		}
	}
	m := func(name string, f refusal, kills []string, reasons ...protocol.Reason) Mutant {
		return Mutant{&Flaw{Name: name, OnRefusal: on(f, reasons...)}, kills}
	}
	return []Mutant{
		m("goes on in plaintext when the extension is missing", inTheClear, under(idn, "strip-extension"), protocol.TrustMissing),
		m("goes on in plaintext when the opening fails", inTheClear, under(idn, "strip-key", "discover-error", "discover-internal", "discover-400", "discover-401", "discover-403",
			"discover-404", "discover-405", "discover-500", "discover-503", "discover-empty", "discover-accepted", "discover-html", "discover-stream-ends",
			"discover-missing-capability"), protocol.DiscoverError),
		m("goes on in plaintext when nobody answers", inTheClear, under(idn, "discover-hang", "discover-reset", "answer-hang"), protocol.Unreachable),
		m("opens in the other era when told to", otherEra, under(idn, "era-fallback", "era-versions"), protocol.EraFallback),
		m("goes on in plaintext when an error came unsealed", inTheClear, under(idn, "unsealed-error", "unsealed-not-found", "unsealed-400", "unsealed-401", "unsealed-502", "missing-capability",
			"local-reason", "redirect-call"), protocol.UnsealedError),
		m("opens in the other era when an error came unsealed", otherEra, under(idn, "unsealed-version"), protocol.UnsealedError),
		m("goes on in plaintext when the peer knows no version", inTheClear, under(idn, "trust-off"), protocol.UnsupportedVersion),
		m("takes another carrier when one is refused", otherwise(func(cfg *transport.ClientConfig) { cfg.Carrier, cfg.Settings = protocol.HTTP, nil }), under(idn, "carrier-refused"), protocol.CarrierRefused),
		m("takes a weaker suite when one is refused", otherwise(weak), under(idn, "suite-refused"), protocol.UnsupportedSuite),
		m("seals without bound", again, under(idn, "busy", "unknown-context-forever", "unknown-key-forever"), protocol.Busy, protocol.RetriesExhausted),
		m("talks plaintext to a server with nothing in common", inTheClear, under(idn, "no-common-carrier", "no-common-profile"), protocol.NoOverlap),
		{&Flaw{Name: "follows redirects", FollowsRedirects: true}, under(idn, "redirect-opening", "redirect-call")},
	}
}

// gullible are clients that skip a check of a key object or of settings.
func gullible() []Mutant {
	skip := func(name string, reason protocol.Reason, detail string, kills ...string) Mutant {
		return Mutant{&Flaw{Name: "skips " + name, Accepts: func(e *protocol.Error) bool {
			return e.Reason == reason && strings.Contains(e.Detail, detail)
		}}, under(idn, kills...)}
	}
	invalid, mismatch := protocol.KeyObjectInvalid, protocol.IdentityMismatch
	return []Mutant{
		skip("the identity", mismatch, "the key object is for", "key-other-identity", "key-identity-prefix", "key-diverted"),
		skip("the pin", mismatch, "pinned", "key-unpinned", "key-own-anchor"),
		skip("the expiry", protocol.KeyObjectExpired, "", "key-expired"),
		skip("nbf", protocol.KeyObjectNotYetValid, "valid from", "key-not-yet-valid"),
		skip("iat", protocol.KeyObjectNotYetValid, "issued at", "key-issued-in-future"),
		skip("the length of validity", invalid, "at most", "key-too-long"),
		skip("the order of exp and nbf", invalid, "exp is not after", "key-never-valid"),
		skip("the role", protocol.RoleMismatch, "", "key-role-client"),
		skip("the settings digest", protocol.SettingsMismatch, "", "key-settings-digest", "suite-rewrite", "suite-reorder", "mode-rewrite", "member-added", "settings-duplicate"),
		skip("the version of settings", protocol.UnsupportedVersion, "", "version-two"),
		skip("the shape of settings", protocol.NegotiationMismatch, "settings.", "settings-missing-member", "settings-wrong-type"),
		skip("common carriers and profiles", protocol.NoOverlap, "", "no-common-profile"),
		skip("the signature", protocol.SignatureInvalid, "verification", "key-signature-altered", "key-claims-altered", "key-purpose-label"),
		skip("the kind of key", protocol.SignatureInvalid, "algorithm", "key-algorithm"),
		skip("whether there is a signature", invalid, "0 signatures", "key-signature-missing"),
		skip("the number of signatures", invalid, "3 signatures", "key-signatures-three"),
		skip("the names of signatures", invalid, "has key id", "key-signature-twice", "key-signature-name"),
		skip("the type", invalid, "protected header", "key-type-header"),
		skip("the profile URI", invalid, "eat_profile", "key-profile-uri"),
		skip("the order of claims", invalid, "unsorted", "key-claims-unsorted", "key-claims-twice"),
		skip("whether CBOR is shortest", invalid, "more bytes than it needs", "key-claims-not-shortest"),
		skip("trailing bytes", invalid, "after the value", "key-claims-trailing", "key-trailing"),
		skip("unprotected headers", invalid, "unprotected", "key-unprotected"),
		skip("missing claims", invalid, "is missing", "key-claim-missing", "key-time-missing"),
		skip("whose key it is", invalid, "neither an identity key", "key-identity-key-missing"),
		skip("the mandatory suite", invalid, "mandatory suite", "key-suite-one-missing"),
		skip("public keys", invalid, "public key", "key-suite-one-short"),
		skip("the size", invalid, "the limit is", "key-too-large"),
		skip("the depth", invalid, "nested deeper", "key-deep"),
		skip("the form of base64url", invalid, "base64url", "key-padded-text"),
		skip("the nonce", protocol.NonceMismatch, "", "key-nonce-other", "key-nonce-missing", "key-nonce-cut"),
		skip("the host of certificates", mismatch, "x509: certificate is valid for", "certificate-other-host"),
		skip("names of certificates", mismatch, "Common Name", "certificate-name-in-subject"),
		skip("the time of certificates", mismatch, "x509: certificate has expired or is not yet valid", "certificate-expired", "certificate-not-yet-valid"),
		skip("the root of certificates", mismatch, "x509: certificate signed by unknown", "certificate-unknown-root"),
		skip("whether there is a certificate", mismatch, "bare key", "certificate-none"),
		skip("for a key object in an error the pin", mismatch, "pinned", "unknown-key-foreign"),
		skip("for a key object in an error the expiry", protocol.KeyObjectExpired, "", "unknown-key-expired"),
	}
}

// credulous are clients that skip a check of what stands for a server's TEE.
func credulous() []Mutant {
	skip := func(name string, reason protocol.Reason, detail string, kills ...string) Mutant {
		return Mutant{&Flaw{Name: "skips " + name, Accepts: func(e *protocol.Error) bool {
			return e.Reason == reason && strings.Contains(e.Detail, detail)
		}}, kills}
	}
	att, mut := "attested/", "mutual/"
	invalid, refused, stale := protocol.KeyObjectInvalid, protocol.EvidenceRefused, protocol.EvidenceStale
	return []Mutant{
		skip("the profile", protocol.ProfileTooWeak, "", att+"identity-only", mut+"attested-only"),
		skip("whether profile and attested key go together", invalid, "do not go together", att+"claims-identity"),
		skip("whether the profile is known", invalid, "is not one that a key object can have", att+"profile-unknown"),
		skip("whether there is evidence", invalid, "without evidence", att+"evidence-missing", att+"freshness-missing"),
		skip("whether the attested key signed", invalid, "must come together", att+"attested-signature-missing", att+"attested-key-missing"),
		skip("the attested key's signature", protocol.SignatureInvalid, "attested signature", att+"attested-signature-other", att+"attested-signature-altered"),
		skip("the order of signatures", invalid, "has key id", att+"signatures-swapped"),
		skip("the form of freshness", invalid, "freshness of kind", att+"freshness-form"),
		skip("the length of configuration digests", invalid, "where 32 are required", att+"config-short"),
		skip("the identity of attested servers", protocol.IdentityMismatch, "the key object is for", att+"diverted"),
		skip("the pin of attested servers", protocol.IdentityMismatch, "pinned", att+"leaked-attestation-key"),
		skip("what the evidence binds", refused, "binding:", under(att, "diverted-evidence", "relayed", "nonce-only", "concatenated", "resplit", "beside-report-data", "role", "config-unbound", "time-unbound")...),
		skip("the quote's signature", refused, "quote-signature", att+"unsigned-report-data"),
		skip("whose nonce the evidence is for", stale, "another verifier's nonce", att+"nonce-reused", att+"nonce-unasked"),
		skip("whether the evidence is for the nonce", stale, "is demanded", att+"nonce-ignored"),
		skip("the age of evidence", stale, "is older than", att+"stale"),
		skip("whether evidence is of the future", stale, ", now is", att+"future"),
		skip("the epoch", stale, "epoch", att+"epoch"),
		skip("measurements", refused, "policy-claim-tdx.mrtd", att+"other-code"),
		skip("whether the TEE is under debug", refused, "debug:", att+"debug"),
		skip("the TCB status", refused, "policy-tcb", att+"out-of-date"),
		skip("revocation", refused, "revocation", att+"revoked"),
		skip("the root of evidence", refused, "pck-chain:", att+"other-root", att+"simulator-in-production"),
		skip("the configuration", refused, "policy-config", att+"config-missing", att+"config-other"),
		skip("what it does not know", refused, "format", att+"type-unknown", att+"device-unknown"),
		skip("the type of evidence", refused, "quote-structure:", att+"type-swapped"),
		skip("how many CPUs there are", refused, "binding/cpu-1:", att+"second-cpu"),
		skip("the form of the wrapper", refused, "wrapper:", under(att, "wrapper-bytes", "wrapper-ind", "wrapper-empty")...),
		skip("whether GPUs are bound", refused, "binding/gpu-0", att+"gpu-unbound", att+"gpu-swapped"),
		skip("a verifier that gives no result", refused, "gave no result", under(att, "verifier-gone", "verifier-fails", "verifier-hangs")...),
		skip("who signed the result", refused, "is not believed", att+"verifier-foreign"),
		skip("whether the result affirms", refused, "does not affirm", att+"verifier-refuses"),
		skip("what the evidence in an error binds", refused, "binding:", mut+"reflected"),
		skip("whose key object stands in an error", protocol.IdentityMismatch, "the key object is for", mut+"reflected-object"),
		skip("the evidence in an error", refused, "policy-claim", mut+"renewed-other-code"),
		{&Flaw{Name: "goes on in plaintext when its key is refused", OnRefusal: on(inTheClear, protocol.ClientKeyRefused)}, []string{mut + "refused-by-server"}},
	}
}

// deliverers are clients that deliver what the trust layer refused.
func deliverers() []Mutant {
	m := func(name string, f refusal, kills []string, reasons ...protocol.Reason) Mutant {
		return Mutant{&Flaw{Name: name, OnRefusal: on(f, reasons...)}, kills}
	}
	takes := func(r *run, _ *protocol.Error, _, _ string, _ []byte, err error) (jsontext.Value, error) {
		if r.outer.plain == nil {
			return nil, err
		}
		return r.outer.plain, nil
	}
	partly := func(r *run, e *protocol.Error, method, name string, body []byte, err error) (jsontext.Value, error) {
		if r.partial == "" {
			return success(r, e, method, name, body, err)
		}
		return conformance.JSON(conformance.Obj{"content": []conformance.Obj{{"type": "text", "text": r.partial}}}), nil
	}
	return []Mutant{
		{&Flaw{Name: "takes a plain result", TakesPlaintext: true, OnRefusal: on(takes, protocol.PlaintextAnswer, protocol.AnswerInvalid)},
			under(idn, "plaintext-answer", "plaintext-stream", "plaintext-inner-id", "plaintext-beside-frame", "plaintext-after-frames", "plaintext-http", "plaintext-inline")},
		m("takes what is no answer for an empty one", success, under(idn, "answer-html", "answer-frame-missing", "answer-empty", "answer-deep", "answer-double-member"), protocol.PlaintextAnswer),
		m("takes an answer without end for an empty one", success, under(idn, "answer-huge"), protocol.TooLarge),
		m("takes a part for the whole", partly, under(idn, "answer-truncated", "answer-broken-off", "answer-slow"), protocol.Truncated),
		{&Flaw{Name: "stops at the response", StopsAtResponse: true, OnRefusal: on(success, protocol.Truncated)}, under(idn, "answer-response-not-final")},
		{&Flaw{Name: "ignores the lack of a final chunk", OnRefusal: on(success, protocol.Truncated)}, under(idn, "answer-truncated-http")},
		m("ignores the order of frames", success, under(idn, "answer-swapped", "answer-first-lost", "answer-gap"), protocol.AnswerOutOfOrder),
		m("takes a frame after the final one for the answer", success, under(idn, "answer-after-final"), protocol.AfterFinal),
		m("takes the answer to another call", success, under(idn, "answer-spliced", "answer-spliced-head", "answer-context-rewritten"), protocol.Spliced),
		m("takes what does not open for an empty answer", success, under(idn, "answer-redelivered-altered", "answer-altered", "answer-salt-altered", "answer-final-cleared", "answer-final-set",
			"answer-other-carrier", "answer-reflected", "answer-request-key", "answer-not-cbor", "answer-trailing", "answer-not-shortest", "answer-salt-short", "answer-kind-get",
			"answer-kind-unknown", "answer-status-out-of-range", "answer-padding-not-zero", "answer-field-injection", "answer-field-name", "answer-padded-text"), protocol.AnswerInvalid),
	}
}

// leaky are clients that put outside what belongs inside.
func leaky() []Mutant {
	m := func(name string, leak func(r *run, req *http.Request, body []byte) []byte, kills ...string) Mutant {
		return Mutant{&Flaw{Name: name, Leak: leak}, under(idn, kills...)}
	}
	header := func(name, value string) func(r *run, req *http.Request, body []byte) []byte {
		return func(r *run, req *http.Request, body []byte) []byte {
			if bytes.Contains(body, []byte(protocol.MethodCall)) {
				req.Header.Set(name, strings.ReplaceAll(value, "{in}", r.env["TMCP_ECHO"]))
			}
			return body
		}
	}
	swap := func(old, new string) func(r *run, req *http.Request, body []byte) []byte {
		return func(_ *run, _ *http.Request, body []byte) []byte {
			return bytes.ReplaceAll(body, []byte(old), []byte(new))
		}
	}
	return []Mutant{
		m("mirrors an argument in a header", header("X-Text", "{in}"), "canary"),
		m("hides an argument in a header", func(r *run, req *http.Request, body []byte) []byte {
			req.Header.Set("X-Trace", hex.EncodeToString([]byte(r.env["TMCP_ECHO"])))
			return body
		}, "canary"),
		m("mirrors the tool's name", header("Mcp-Name", "echo"), "no-name-headers"),
		m("mirrors a parameter", header("Mcp-Param-Text", "x"), "no-name-headers"),
		m("sends the token outside", header("Authorization", "Bearer x"), "no-inner-fields"),
		m("sends the inner session outside", header("Mcp-Session-Id", "x"), "no-inner-fields"),
		m("sends the trace outside", swap(`"_meta":{`, `"_meta":{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",`), "outer-meta"),
		m("names itself outside", swap(`{"name":"org.trustedmcp/trust","version":"1"}`, `{"name":"tmcp-conform-refclient","version":"1"}`), "discovery-tells-nothing", "initialize-tells-nothing"),
		m("tells its capabilities outside", func(_ *run, _ *http.Request, body []byte) []byte {
			body = bytes.ReplaceAll(body, []byte(`{"extensions":`), []byte(`{"sampling":{},"extensions":`))
			return body
		}, "discovery-tells-nothing", "initialize-tells-nothing"),
		m("declares nothing", swap(`"org.trustedmcp/trust":{`, `"com.example/other":{`), "declares", "declares-experimental"),
		m("puts more into trust/call", swap(`"params":{"frame"`, `"params":{"name":"echo","frame"`), "one-frame"),
		m("names another method in the header", func(_ *run, req *http.Request, body []byte) []byte {
			if req.Header.Get("Mcp-Method") != "" {
				req.Header.Set("Mcp-Method", "tools/call")
			}
			return body
		}, "headers-equal-body"),
		m("opens a stream outside", func(r *run, req *http.Request, body []byte) []byte {
			if bytes.Contains(body, []byte(protocol.MethodCall)) {
				if get, err := http.NewRequestWithContext(r.ctx, http.MethodGet, r.url, nil); err == nil {
					if resp, err := r.base.RoundTrip(get); err == nil {
						resp.Body.Close()
					}
				}
			}
			return body
		}, "posts-only"),
		m("initializes outside", func(r *run, _ *http.Request, body []byte) []byte {
			if r.legacy && bytes.Contains(body, []byte(protocol.MethodCall)) {
				params := conformance.Obj{"protocolVersion": conformance.LegacyVersion, "capabilities": conformance.Obj{}, "clientInfo": conformance.Obj{"name": "x", "version": "1"}}
				_, _ = r.exchange(r.plain(), "initialize", "", r.message("initialize", params, 91))
			}
			return body
		}, "initialize-sealed"),
	}
}

// narrow are clients that refuse what they must put up with.
func narrow() []Mutant {
	m := func(name string, refuses func(contentType string, body []byte) bool, kills ...string) Mutant {
		return Mutant{&Flaw{Name: name, Refuses: refuses}, under(idn, kills...)}
	}
	holds := func(s string) func(string, []byte) bool {
		return func(_ string, body []byte) bool { return bytes.Contains(body, []byte(s)) }
	}
	stream := func(t string, _ []byte) bool { return strings.HasPrefix(t, "text/event-stream") }
	return []Mutant{
		m("refuses every sealed answer", func(t string, body []byte) bool {
			return strings.HasPrefix(t, protocol.MediaTypeFrames) || bytes.Contains(body, []byte(`"frame":`)) || bytes.Contains(body, []byte(protocol.MetaFrames))
		}, "call", "stream", "inline", "http", "http-chunked", "certificate", "fresh", "padding", "padded-answer", "unknown-meta", "salt-of-answer", "redelivered",
			"key-expires", "numbering", "warm-after-answer", "suite-choice", "client-key-null", "revision"),
		m("refuses unknown members of settings", holds(`"pigeon"`), "unknown-settings"),
		m("refuses unknown members outside", holds(`"x-proxy"`), "outer-id"),
		m("refuses comments", holds(": still here"), "comments"),
		m("knows no event streams", stream, "stream", "stream-of-one"),
		m("gives up at unknown-context", holds(`"unknown-context"`), "unknown-context"),
		m("gives up at unknown-key", holds(`"unknown-key"`), "unknown-key"),
		m("refuses unknown claims", func(_ string, body []byte) bool { return objectHolds(body, []byte{0x3a, 0, 1, 0x24, 0xf7, 0x80}) }, "unknown-claims"),
		m("refuses keys of unknown suites", func(_ string, body []byte) bool { return objectHolds(body, []byte("a key of a later suite")) }, "unknown-suite-key"),
	}
}

// objectHolds reports whether the key object in an opening answer holds b.
func objectHolds(body, b []byte) bool {
	_, rest, ok := bytes.Cut(body, []byte(`"`+protocol.MetaKey+`":"`))
	if !ok {
		return false
	}
	text, _, _ := bytes.Cut(rest, []byte(`"`))
	object, err := protocol.ParseBase64(string(text))
	return err == nil && bytes.Contains(object, b)
}

// coreMutants are clients that break MCP itself.
func coreMutants() []Mutant {
	both := func(names ...string) []string { return append(under(mod, names...), under(leg, names...)...) }
	errUnknown := errors.New("this client does not know that")
	check := func(f func(method string, result jsontext.Value) bool) func(string, jsontext.Value) error {
		return func(method string, result jsontext.Value) error {
			if f(method, result) {
				return errUnknown
			}
			return nil
		}
	}
	holds := func(path ...string) func(string, jsontext.Value) bool {
		return func(_ string, result jsontext.Value) bool { return conformance.Member(result, path...) != nil }
	}
	header := func(name string) func(*run, *http.Request) {
		return func(_ *run, req *http.Request) { req.Header.Del(name) }
	}
	taken := func(r *run, _ *protocol.Error, _, _ string, _ []byte, _ error) (jsontext.Value, error) {
		return jsontext.Value(`{"content":[]}`), nil
	}
	return []Mutant{
		{&Flaw{Name: "puts a body into GET", Post: func(r *run, req *http.Request) {
			if req.Header.Get("Mcp-Method") == "tools/list" || r.legacy && req.Header.Get("Mcp-Protocol-Version") != "" {
				req.Method = http.MethodGet
			}
		}}, both("tool-call")},
		{&Flaw{Name: "accepts JSON only", Post: func(_ *run, req *http.Request) { req.Header.Set("Accept", "application/json") }}, both("accept")},
		{&Flaw{Name: "leaves Mcp-Name out", Post: header("Mcp-Name")}, under(mod, "request-headers")},
		{&Flaw{Name: "leaves Mcp-Method out", Post: header("Mcp-Method")}, under(mod, "request-headers")},
		{&Flaw{Name: "leaves MCP-Protocol-Version out", Post: header("Mcp-Protocol-Version")}, under(leg, "version-header")},
		{&Flaw{Name: "leaves initialized out", NoInitialized: true}, under(leg, "initialized")},
		{&Flaw{Name: "knows no event streams at all", NoStreams: true}, both("stream")},
		{&Flaw{Name: "takes an event without data for a message", EventsAreMessages: true}, under(leg, "priming-event")},
		{&Flaw{Name: "refuses unknown extensions", Check: check(holds("capabilities", "extensions"))}, both("unknown-extension", "trust-extension")},
		{&Flaw{Name: "refuses unknown capabilities", Check: check(holds("capabilities", "x-later"))}, both("unknown-capability")},
		{&Flaw{Name: "refuses unknown _meta", Check: check(holds("_meta", "com.example/odd"))}, both("unknown-meta")},
		{&Flaw{Name: "wants a resultType", Check: check(func(method string, result jsontext.Value) bool {
			return method == "tools/call" && conformance.Member(result, "resultType") == nil
		})}, under(mod, "absent-result-type")},
		{&Flaw{Name: "takes any resultType", AnyResultType: true}, under(mod, "unknown-result-type")},
		{&Flaw{Name: "takes an error for an answer", OnRefusal: taken}, append(both("trust-required"), mod+"missing-capability")},
	}
}
