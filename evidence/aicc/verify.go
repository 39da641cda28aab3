package aicc

import (
	"crypto"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/eat"
	"github.com/trustedmcp/tmcp/evidence/internal/jose"
	"github.com/trustedmcp/tmcp/evidence/token"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// Expect says what a node's answer must be.
type Expect struct {
	// Keys are those of the service's tokens; required. They come from the
	// operator, never from an answer.
	Keys  eat.Keys
	Now   time.Time     // required
	Skew  time.Duration // how far the service's clock may be ahead
	Nonce string        // of the question, as it was sent; required
	// Policy must be among those that the token says matched; "": any.
	Policy string
	// NoKey expects the answer for a question without key negotiation: there is no
	// key, and the report data say so.
	NoKey bool
	// AllowDebug takes TEEs that are open to debugging, AllowSimulated what our
	// stand-in says of simulated ones (tdx.simulated). For development only.
	AllowDebug, AllowSimulated bool
}

// A Result is what was found of one node.
type Result struct {
	Checks evidence.Checks
	// ReportData are those that the token tells. With a Merkle proof they are the
	// root of a tree.
	ReportData [64]byte
	Quote      []byte // not verified; nil when the evidence has none
	Policies   []string
	Simulated  bool
	Expires    time.Time // of the token

	token *token.Token
}

// Accepted reports whether the token is the service's and no check failed.
func (r *Result) Accepted() bool { return r.token != nil && len(r.Checks.Failed()) == 0 }

// Err is nil if the result is accepted, and else says what failed.
func (r *Result) Err() error {
	if r.Accepted() {
		return nil
	}
	for _, k := range r.Checks.Failed() {
		return fmt.Errorf("%s: %s", k.Name, k.Detail)
	}
	return errors.New("nothing was verified")
}

func (r *Result) judge(name string, err error, fine string) bool {
	o := evidence.Pass
	if err != nil {
		o, fine = evidence.Fail, err.Error()
	}
	r.Checks.Add(name, o, fine)
	return err == nil
}

// Verify verifies what the service says of one node. Its checks are evidence
// (well-formed), those of the token (package token), simulated, own-key (the
// token carries no key but the one that it is signed with) and binding (the
// report data are those of nonce and key). It never returns nil.
func Verify(n *Node, e *Expect) *Result {
	r := &Result{}
	if len(e.Nonce) < 8 {
		r.judge("expectation", fmt.Errorf("the nonce has %d bytes; want at least 8", len(e.Nonce)), "")
		return r
	}
	ev, err := ParseEvidence(n.Evidence)
	if !r.judge("evidence", err, "well-formed") {
		return r
	}
	r.Quote = ev.Quote
	signer, ok := r.verifyToken(n.Token, e)
	if !ok {
		return r
	}
	if tdx, ok := r.token.Claims["tdx"].(map[string]any); ok {
		if told, there := tdx["simulated"]; there {
			r.Simulated = told != false
		}
	}
	if r.Simulated && !e.AllowSimulated {
		r.judge("simulated", errors.New("the token is about a simulated TEE, which proves nothing"), "")
	}
	r.judge("own-key", ownKey(r.token.Claims, signer), "the token carries no other key than the pinned one")
	if c, _ := r.Checks.Find("report-data"); c.Outcome != evidence.Pass {
		r.Checks.Add("binding", evidence.NotPerformed, "there are no report data")
		return r
	}
	r.judge("binding", r.bound(n, e, ev), "the report data are those of the nonce and the key")
	return r
}

// verifyToken verifies the token with one of the pinned keys, and returns that.
func (r *Result) verifyToken(text string, e *Expect) (crypto.PublicKey, bool) {
	j, err := jose.Parse([]byte(text))
	if !r.judge("token", err, "a compact JWT") {
		return nil, false
	}
	// TMCP-23.6-1: A verifier MUST verify the token with a key that its operator
	// pinned.
	// TMCP-23.6-3: A verifier MUST refuse a token whose algorithm, issuer or time is
	// not as above, or whose `policies_matched` does not name the policy that was
	// asked for.
	x := token.Expect{Kind: token.AICC, Now: e.Now, Skew: e.Skew, NoNonce: true, AllowDebug: e.AllowDebug}
	if e.Policy != "" {
		x.Policies = []string{e.Policy}
	}
	var res *token.Result
	var signer crypto.PublicKey
	for _, k := range e.Keys {
		if j.KeyID != "" && k.ID != "" && k.ID != j.KeyID {
			continue
		}
		// Keys from PEM files have no id, so what the token calls its key is no matter.
		signer = k.Public
		x.Keys = eat.Keys{{ID: j.KeyID, Public: k.Public, Alg: k.Alg}}
		if res = token.Verify([]byte(text), &x); res.Token() != nil {
			break
		}
	}
	if res == nil {
		r.judge("key", fmt.Errorf("none of the %d pinned keys has the id %.80q", len(e.Keys), j.KeyID), "")
		return nil, false
	}
	for _, c := range res.Checks {
		if c.Name == "nonce" { // it is in the binding
			continue
		}
		if c.Name == "signature" && c.Outcome == evidence.Fail && carries([]byte(text)) {
			c.Detail += "; the key that the token carries itself proves nothing"
		}
		r.Checks = append(r.Checks, c)
	}
	t := res.Token()
	if t == nil {
		return nil, false
	}
	r.token, r.Expires = t, t.Expires
	if rd := t.ReportData[""]; len(rd) == 64 {
		r.ReportData = [64]byte(rd)
	}
	r.Policies = matched(t.Claims)
	return signer, true
}

// bound compares the report data with nonce and key.
func (r *Result) bound(n *Node, e *Expect, ev *Evidence) error {
	switch {
	case e.NoKey && n.PEM != "":
		return errors.New("there is a key, and none was asked for")
	case !e.NoKey && n.PEM == "":
		return errors.New("there is no key (key_info.pub_key_info)")
	}
	// TMCP-23.6-4: A verifier MUST refuse report data that are not those of its own
	// nonce and the key, directly or through a proof of which it chose the algorithm.
	want := Binding(e.Nonce, n.PEM)
	if ev.Proof != nil {
		return ev.Proof.Verify(Leaf(want), r.ReportData)
	}
	switch {
	case r.ReportData == want:
		return nil
	case [32]byte(r.ReportData[:32]) != [32]byte(want[:32]):
		return errors.New("the report data are for another nonce: this is an old answer, or one to somebody else")
	}
	return errors.New("the report data are for another key")
}

// Members of a token's payload that carry keys, or lead to them.
var keyClaims = []string{"jwk", "jwks", "jku", "x5c", "x5u"}

// carries reports whether an unverified token carries a key in its payload: for
// a message to people, and nothing else.
func carries(tok []byte) bool {
	i, k := slices.Index(tok, '.'), len(tok)
	for j := i + 1; j < len(tok); j++ {
		if tok[j] == '.' {
			k = j
			break
		}
	}
	payload, err := jose.Decode(tok[i+1 : k])
	if err != nil || jose.Check(payload) != nil {
		return false
	}
	return slices.ContainsFunc(keyClaims, func(m string) bool { return jsonrpc.Get(payload, m) != nil })
}

// ownKey refuses tokens that carry a key other than the pinned one which signed
// them: clients that believe it would verify something else.
func ownKey(claims map[string]any, signer crypto.PublicKey) error {
	// TMCP-23.6-2: A verifier MUST refuse a token that carries a key which is not the
	// pinned one.
	for _, m := range keyClaims {
		v, there := claims[m]
		if !there {
			continue
		}
		if m != "jwk" {
			return fmt.Errorf("the token carries %s: a token does not choose the key that it is verified with", m)
		}
		b, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("the token's jwk: %w", err)
		}
		set, err := jose.ParseSet(slices.Concat(jsontext.Value(`{"keys":[`), b, jsontext.Value(`]}`)))
		if err != nil {
			return fmt.Errorf("the token's jwk: %w", err)
		}
		same, ok := signer.(interface{ Equal(crypto.PublicKey) bool })
		if len(set) != 1 || !ok || !same.Equal(set[0].Public) {
			return errors.New("the token carries a key (jwk) that is not the pinned one")
		}
	}
	return nil
}

// matched are the ids of the policies that matched: texts, or objects with id.
func matched(claims map[string]any) (ids []string) {
	list, _ := claims["policies_matched"].([]any)
	for _, v := range list {
		switch p := v.(type) {
		case string:
			ids = append(ids, p)
		case map[string]any:
			if s, ok := p["id"].(string); ok {
				ids = append(ids, s)
			}
		}
	}
	return ids
}
