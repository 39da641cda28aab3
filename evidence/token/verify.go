package token

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/ear"
	"github.com/trustedmcp/tmcp/evidence/eat"
	"github.com/trustedmcp/tmcp/evidence/internal/jose"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// A vendor is what is particular to the tokens of one kind.
type vendor struct {
	algs    []eat.Alg
	issuers []string // default; nil: the caller must say
	types   []string // of the typ header, beside ""
	chain   bool     // x5c may lead to a root of the caller's
	// keyURL reports whether a jku is one that this vendor writes; nil: none.
	keyURL func(jku, iss string) bool
	claims func(v *verifier)
}

var vendors = map[Kind]vendor{
	TrustAuthority: {
		algs:    []eat.Alg{eat.PS384, eat.RS256},
		issuers: []string{"https://portal.trustauthority.intel.com", "https://portal.eu.trustauthority.intel.com", "Intel Trust Authority"},
		types:   []string{"jwt"},
		keyURL: func(jku, _ string) bool {
			u, err := url.Parse(jku)
			return err == nil && u.Scheme == "https" && strings.HasSuffix(u.Host, ".trustauthority.intel.com")
		},
		claims: (*verifier).trustAuthority,
	},
	AzureMAA: {
		algs:   []eat.Alg{eat.RS256},
		types:  []string{"jwt"},
		keyURL: func(jku, iss string) bool { return jku == iss+"/certs" },
		claims: (*verifier).azure,
	},
	GoogleCS: {
		algs:    []eat.Alg{eat.RS256},
		issuers: []string{"https://confidentialcomputing.googleapis.com"},
		types:   []string{"jwt"},
		chain:   true,
		claims:  (*verifier).google,
	},
	NVIDIANRAS: {
		algs:    []eat.Alg{eat.ES384},
		issuers: []string{"https://nras.attestation.nvidia.com"},
		types:   []string{"jwt"},
		claims:  (*verifier).nvidia,
	},
	AICC: {
		algs:    []eat.Alg{eat.RS384},
		issuers: []string{"Bytedance-Remote-Attestation-Service"},
		types:   []string{"jwt"},
		claims:  (*verifier).aicc,
	},
}

// earAlgs are the algorithms that EARs may be signed with.
var earAlgs = []eat.Alg{eat.ES256, eat.ES384, eat.ES512, eat.EdDSA, eat.PS256, eat.PS384}

// A verifier verifies one token.
type verifier struct {
	e      *Expect
	v      vendor
	checks *evidence.Checks
	t      *Token
	raw    jsontext.Value    // verified claims-set
	detail map[string][]byte // NVIDIA: the devices' tokens
	told   bool              // the token says whether debugging is possible
}

func (v *verifier) pass(name string, ok bool, detail string, args ...any) bool {
	o := evidence.Pass
	if !ok {
		o = evidence.Fail
	}
	v.checks.Add(name, o, fmt.Sprintf(detail, args...))
	return ok
}

func (v *verifier) warn(name string, ok bool, detail string, args ...any) {
	o := evidence.Pass
	if !ok {
		o = evidence.Warn
	}
	v.checks.Add(name, o, fmt.Sprintf(detail, args...))
}

// Verify verifies a token. Its checks are, in this order: expectation (what the
// caller asks for makes sense), format, key, signature, key-url, issuer, expiry,
// not-before, issued-at, audience, nonce, then those of the kind, then debug and
// simulated. It never returns nil.
func Verify(token []byte, e *Expect) *Result {
	r := &Result{}
	v := &verifier{e: e, checks: &r.Checks}
	if err := e.check(); err != nil {
		v.pass("expectation", false, "%v", err)
		return r
	}
	if e.Kind == EAR {
		v.ear(token)
	} else {
		v.v = vendors[e.Kind]
		if e.Issuer != "" {
			v.v.issuers = []string{e.Issuer}
		}
		v.vendor(token)
	}
	if v.t != nil {
		v.pass("debug", !v.t.Debug || e.AllowDebug, "debugging is possible: %v", v.t.Debug)
	}
	r.token = v.t
	return r
}

func (e *Expect) check() error {
	switch {
	case e == nil:
		return errors.New("nothing is expected of the token: say which kind")
	case e.Kind != EAR && vendors[e.Kind].algs == nil:
		return fmt.Errorf("kind %.40q is unknown", e.Kind)
	case e.Now.IsZero():
		return errors.New("no time was given")
	case len(e.Keys) == 0 && (e.Kind != GoogleCS || len(e.Roots) == 0):
		return errors.New("no key is pinned")
	case e.Issuer == "" && (e.Kind == EAR || vendors[e.Kind].issuers == nil):
		return fmt.Errorf("no issuer is named; tokens of kind %s have many", e.Kind)
	case len(e.Nonces) == 0 && !e.NoNonce:
		return errors.New("no nonce is expected; say NoNonce when freshness comes from elsewhere")
	case len(e.Nonces) > maxNonces:
		return fmt.Errorf("%d nonces; at most %d can be looked for", len(e.Nonces), maxNonces)
	}
	for _, n := range e.Nonces {
		if len(n) < 8 {
			return fmt.Errorf("a nonce of %d bytes; at least 8 are required", len(n))
		}
	}
	return nil
}

// vendor verifies a vendor's token.
func (v *verifier) vendor(token []byte) {
	if v.e.Kind == NVIDIANRAS {
		var err error
		if token, v.detail, err = splitNRAS(token); err != nil {
			v.pass("format", false, "%v", err)
			return
		}
	}
	raw, ok := v.verifyJWT(token)
	if !ok {
		return
	}
	v.raw = raw
	v.t = &Token{Kind: v.e.Kind, ReportData: map[string][]byte{}}
	if err := json.Unmarshal(raw, &v.t.Claims); err != nil { // checked before, so never
		v.t = nil
		v.pass("format", false, "%v", err)
		return
	}
	v.common(raw)
	v.v.claims(v)
}

// verifyJWT verifies the signature and returns the claims-set, which is strict
// JSON.
func (v *verifier) verifyJWT(token []byte) (jsontext.Value, bool) {
	j, err := jose.Parse(token)
	if !v.pass("format", err == nil, "%v", orFine(err, "a compact JWT")) {
		return nil, false
	}
	pub, err := v.key(j)
	if !v.pass("key", err == nil, "%v", orFine(err, "pinned")) {
		return nil, false
	}
	payload, err := j.Verify(pub)
	if err == nil {
		err = jose.Check(payload)
	}
	if !v.pass("signature", err == nil, "%v", orFine(err, string(j.Alg))) {
		return nil, false
	}
	if j.KeyURL != "" { // signed with a pinned key, so this is the issuer's own habit
		iss, _ := jsonrpc.Text(jsonrpc.Get(payload, "iss"))
		if !v.pass("key-url", v.v.keyURL != nil && v.v.keyURL(j.KeyURL, iss), "jku %.200q is not followed", j.KeyURL) {
			return nil, false
		}
	}
	return payload, true
}

func orFine(err error, fine string) any {
	if err != nil {
		return err
	}
	return fine
}

// key chooses the key: by kid among those that are pinned or, for Google's PKI
// tokens, the chain's leaf.
func (v *verifier) key(j *jose.JWS) (crypto.PublicKey, error) {
	if t := strings.ToLower(j.Type); t != "" && !slices.Contains(v.v.types, t) {
		return nil, fmt.Errorf("a token of type %.40q; want JWT", j.Type)
	}
	if !slices.Contains(v.v.algs, j.Alg) {
		return nil, fmt.Errorf("algorithm %s; tokens of this kind are signed with %v", j.Alg, v.v.algs)
	}
	if j.KeyURL != "" && v.v.keyURL == nil {
		return nil, errors.New("jku: a token does not choose the key that it is verified with")
	}
	if j.Chain == nil {
		k, err := v.e.Keys.Find(j.KeyID, j.Alg)
		if err != nil {
			return nil, err
		}
		return k.Public, nil
	}
	if !v.v.chain || len(v.e.Roots) == 0 {
		return nil, errors.New("x5c: a token that carries its key, and no root is pinned that its chain could lead to")
	}
	if err := chain(j.Chain, v.e.Roots, v.e.Now); err != nil {
		return nil, err
	}
	return j.Chain[0].PublicKey, nil
}

// common checks the registered claims (RFC 7519) of a verified token.
func (v *verifier) common(raw jsontext.Value) {
	t, e := v.t, v.e
	t.Issuer, t.Subject = text(raw, "iss"), text(raw, "sub")
	t.Audience = texts(raw, "aud")
	var err [3]error
	t.Expires, err[0] = instant(raw, "exp")
	t.NotBefore, err[1] = instant(raw, "nbf")
	t.IssuedAt, err[2] = instant(raw, "iat")
	v.registered(errors.Join(err[:]...))
	t.Nonces = append(t.Nonces, texts(raw, "eat_nonce")...)
	if e.Audience != "" {
		v.pass("audience", slices.Contains(t.Audience, e.Audience), "aud is %.200q; want %q", t.Audience, e.Audience)
	}
}

// registered checks issuer and times.
func (v *verifier) registered(err error) {
	t, e := v.t, v.e
	v.pass("issuer", slices.Contains(v.v.issuers, t.Issuer), "iss is %.200q; want one of %q", t.Issuer, v.v.issuers)
	if !v.pass("times", err == nil, "%v", orFine(err, "exp, nbf and iat are whole seconds")) {
		return
	}
	now := e.Now.UTC()
	v.pass("expiry", now.Before(t.Expires), "exp is %s, it is %s", show(t.Expires), show(now))
	v.pass("not-before", !now.Add(e.Skew).Before(t.NotBefore), "nbf is %s, it is %s", show(t.NotBefore), show(now))
	v.pass("issued-at", !t.IssuedAt.IsZero() && !now.Add(e.Skew).Before(t.IssuedAt), "iat is %s, it is %s", show(t.IssuedAt), show(now))
	if e.MaxAge > 0 {
		v.pass("age", now.Sub(t.IssuedAt) <= e.MaxAge, "issued %s ago; %s is allowed", now.Sub(t.IssuedAt), e.MaxAge)
	}
}

func show(t time.Time) string {
	if t.IsZero() {
		return "absent"
	}
	return t.Format(time.RFC3339)
}

// nonces checks that each expected nonce is among those of the token.
func (v *verifier) nonces() {
	if v.e.NoNonce && len(v.e.Nonces) == 0 {
		v.checks.Add("nonce", evidence.NotPerformed, "freshness comes from elsewhere, as the caller said")
		return
	}
	for _, n := range v.e.Nonces {
		if !slices.ContainsFunc(v.t.Nonces, func(s string) bool { return sameNonce(s, n) }) {
			v.pass("nonce", false, "the token does not echo the nonce %x", n)
			return
		}
	}
	v.pass("nonce", true, "echoed")
}

// sameNonce compares a nonce with one in a token: as it is, in lower-case
// hexadecimal, or in any base64. Decoding would let one text stand for several.
func sameNonce(got string, want []byte) bool {
	if got == string(want) || got == hex.EncodeToString(want) {
		return true
	}
	return slices.ContainsFunc([]*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding}, func(e *base64.Encoding) bool {
		return e.EncodeToString(want) == got
	})
}

// ear verifies an EAR, as JWT or CWT.
func (v *verifier) ear(token []byte) {
	e := v.e
	keys := slices.Clone(e.Keys)
	v.v = vendor{issuers: []string{e.Issuer}}
	res, err := ear.Verify(token, &ear.Options{Keys: allow(keys, earAlgs), Now: e.Now, Skew: e.Skew})
	if !v.pass("signature", err == nil, "%v", orFine(err, "an attestation result by a pinned key")) {
		return
	}
	t := &Token{Kind: EAR, EAR: res, Issuer: res.Issuer, Subject: res.Subject, Audience: res.Audience, IssuedAt: res.IssuedAt, NotBefore: res.NotBefore, Expires: res.Expires, ReportData: map[string][]byte{}}
	v.t = t
	v.registered(nil)
	if e.Audience != "" {
		v.pass("audience", slices.Contains(t.Audience, e.Audience), "aud is %.200q; want %q", t.Audience, e.Audience)
	}
	if res.Nonce != nil {
		t.Nonces = append(t.Nonces, string(res.Nonce))
	}
	v.nonces()
	status := res.Overall()
	if res.Status != nil && status.Better(*res.Status) {
		status = *res.Status
	}
	switch status {
	case ear.Affirming:
		v.pass("status", true, "affirming")
	case ear.Warning:
		v.warn("status", false, "warning")
	default:
		v.pass("status", false, "%s", status)
	}
	var policies []string
	for name, a := range res.Submods {
		policies = append(policies, a.Policies...)
		x := a.Extension
		if x == nil {
			continue
		}
		if len(x.ReportData) > 0 && len(x.ReportData) <= maxReportData {
			t.ReportData[name] = x.ReportData
		}
		t.Debug, t.Simulated = t.Debug || x.Debug, t.Simulated || x.Simulated
		if len(res.Submods) == 1 {
			t.TEE, t.TCB = x.Kind, x.TCB
		}
		if !x.NotAfter.IsZero() {
			v.pass("verdict-expiry", e.Now.Before(x.NotAfter), "the verdict on %.80q holds until %s", name, show(x.NotAfter))
		}
	}
	v.policies(policies)
	v.pass("simulated", !t.Simulated || e.AllowSimulated, "simulated: %v", t.Simulated)
}

// allow restricts keys to those that an algorithm of the list fits.
func allow(keys eat.Keys, algs []eat.Alg) eat.Keys {
	var out eat.Keys
	for _, k := range keys {
		if k.Alg != "" {
			if slices.Contains(algs, k.Alg) {
				out = append(out, k)
			}
			continue
		}
		for _, a := range algs {
			if a.Fits(k.Public) {
				out = append(out, eat.Key{ID: k.ID, Public: k.Public, Alg: a})
			}
		}
	}
	return out
}

func (v *verifier) policies(matched []string) {
	for _, want := range v.e.Policies {
		if !slices.Contains(matched, want) {
			v.pass("policies", false, "policy %.200q is not among %.500q", want, matched)
			return
		}
	}
	if len(v.e.Policies) > 0 {
		v.pass("policies", true, "%q", v.e.Policies)
	}
}

// text is the text at a path, "" when there is none.
func text(raw jsontext.Value, path ...string) string {
	s, _ := jsonrpc.Text(jsonrpc.Get(raw, path...))
	return s
}

// texts are the text, or the array of texts, at a path. Anything else gives none.
func texts(raw jsontext.Value, path ...string) []string {
	m := jsonrpc.Get(raw, path...)
	if s, ok := jsonrpc.Text(m); ok {
		return []string{s}
	}
	if m == nil || m.Kind() != '[' {
		return nil
	}
	var out []string
	err := jsonrpc.Elements(m, func(e jsontext.Value) error {
		s, ok := jsonrpc.Text(e)
		if !ok || len(out) >= 256 {
			return errors.New("no text, or too many")
		}
		out = append(out, s)
		return nil
	})
	if err != nil {
		return nil
	}
	return out
}

// flag is the boolean at a path; ok is false when there is none.
func flag(raw jsontext.Value, path ...string) (value, ok bool) {
	switch m := jsonrpc.Get(raw, path...); string(bytes.TrimSpace(m)) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}

// instant is the time at a claim, zero when it is absent.
func instant(raw jsontext.Value, name string) (time.Time, error) {
	m := jsonrpc.Get(raw, name)
	if m == nil {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(m)), 10, 64)
	if err != nil || n <= 0 || n > 253402300799 {
		return time.Time{}, fmt.Errorf("%s is %.40q; want whole seconds since 1970", name, m)
	}
	return time.Unix(n, 0).UTC(), nil
}

// reportData reads hexadecimal of at most 64 bytes.
func (v *verifier) reportData(label, s string) {
	b, err := hex.DecodeString(s)
	if s != "" && err == nil && len(b) <= maxReportData {
		v.t.ReportData[label] = b
	}
}
