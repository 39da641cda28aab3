// Package refverifier answers the suite's requests to verifiers with this
// module's own packages: it is what the shim in Go and the suite's self-test
// run. Call [New]. A [Flaw] makes it a mutant that lacks one thing.
package refverifier

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/trustedmcp/tmcp/conformance/verifier"
	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/corim"
	"github.com/trustedmcp/tmcp/evidence/corim/acs"
	"github.com/trustedmcp/tmcp/evidence/verifiers"
)

// A Flaw is what a mutant does wrong. The zero value does nothing.
type Flaw struct {
	Name string
	// Blind has it overlook what it finds wrong where that matches.
	Blind *regexp.Regexp
	// Read changes a request before it is looked at, Manifest a manifest before it
	// is used, Write an answer before it is given.
	Read     func(*verifier.Request)
	Manifest func(*corim.CoRIM)
	Write    func(*verifier.Request, *verifier.Answer) *verifier.Answer
}

// New returns a verifier with a flaw; nil is none.
func New(f *Flaw) func(*verifier.Request) *verifier.Answer {
	if f == nil {
		f = &Flaw{}
	}
	return func(r *verifier.Request) *verifier.Answer {
		asked := *r
		if f.Read != nil {
			f.Read(&asked)
		}
		v := &run{req: &asked, flaw: f}
		began := time.Now()
		a := v.answer()
		a.Micros = time.Since(began).Microseconds()
		if f.Write != nil {
			return f.Write(r, a)
		}
		return a
	}
}

// run is one request under way.
type run struct {
	req    *verifier.Request
	flaw   *Flaw
	wrong  []string // what is wrong, each as "check: detail"
	checks evidence.Checks
	reason string
	claims map[string]any
}

// bad notes what is wrong, unless the flaw is blind to it.
func (v *run) bad(what string) {
	if v.flaw.Blind == nil || !v.flaw.Blind.MatchString(what) {
		v.wrong = append(v.wrong, what)
	}
}

func (v *run) fail(err error) {
	if err != nil {
		v.bad(err.Error())
	}
}

var operations = map[string]func(*run){
	verifier.OpHello:      (*run).hello,
	verifier.OpReportData: (*run).reportData,
	verifier.OpKeyObject:  (*run).keyObject,
	verifier.OpEvidence:   (*run).evidence,
	verifier.OpCMW:        (*run).cmw,
	verifier.OpCoRIM:      (*run).corim,
	verifier.OpMatch:      (*run).match,
	verifier.OpToken:      (*run).token,
	verifier.OpEAT:        (*run).eat,
}

func (v *run) answer() *verifier.Answer {
	do := operations[v.req.Op]
	if do == nil {
		return &verifier.Answer{Outcome: verifier.NotImplemented}
	}
	v.claims = map[string]any{}
	do(v)
	a := &verifier.Answer{Outcome: verifier.Accept, Checks: v.checks}
	if len(v.wrong) > 0 {
		a.Outcome, a.Reason = verifier.Reject, v.wrong[0]
		if v.reason != "" {
			a.Reason = v.reason
		}
		return a
	}
	b, err := json.Marshal(v.claims, json.Deterministic(true))
	if err != nil {
		return &verifier.Answer{Outcome: verifier.Reject, Reason: err.Error()}
	}
	a.Claims = b
	return a
}

func (v *run) hello() { v.claims["name"] = "tmcp reference verifier" }

func (v *run) now() time.Time { return time.Unix(v.req.Time, 0).UTC() }

// appraiser is made of what the request gives to appraise with.
func (v *run) appraiser() (*appraise.Appraiser, error) {
	p, err := appraise.ParseRules(v.req.Policy)
	if err != nil {
		return nil, err
	}
	rules := p.Rules()
	if v.blind("policy-development") {
		// A policy for both simulated and genuine TEEs can't be made. The mutant takes
		// the one that fits.
		rules.Development = v.req.Simulator != nil
		if p, err = appraise.NewRules(rules); err != nil {
			return nil, err
		}
	}
	cfg := appraise.Config{Policy: p, Verifiers: verifiers.For(rules)}
	anchors, err := readAnchors(v.req.Anchors)
	if err != nil {
		return nil, err
	}
	cfg.Anchors = anchors
	if v.req.Simulator != nil {
		a, err := readAnchors(v.req.Simulator)
		if err != nil {
			return nil, err
		}
		if cfg.Simulator, err = evidence.NewSimulator(*a); err != nil {
			return nil, err
		}
	}
	for _, e := range v.req.Endorsements {
		cfg.Collateral = append(cfg.Collateral, evidence.Item{MediaType: e.Type, Value: e.Value})
	}
	if len(v.req.Manifests) > 0 {
		store, err := v.store()
		if err != nil {
			return nil, err
		}
		cfg.References = appraise.CoRIM(store)
	}
	return appraise.New(cfg)
}

func (v *run) blind(what string) bool {
	return v.flaw.Blind != nil && v.flaw.Blind.MatchString(what)
}

// store holds the request's manifests.
func (v *run) store() (*acs.Store, error) {
	var all []*corim.Verified
	for _, m := range v.req.Manifests {
		man, err := v.manifest(m.Value, m.Local)
		if err != nil {
			return nil, err
		}
		all = append(all, man)
	}
	return acs.NewStore(all...)
}

// manifest accepts one manifest.
func (v *run) manifest(b []byte, local bool) (*corim.Verified, error) {
	trust := &corim.Trust{Now: v.now()}
	var err error
	if trust.Keys, err = readKeys(v.req.SignerKeys); err != nil {
		return nil, err
	}
	if trust.Roots, err = readCerts(v.req.SignerRoots); err != nil {
		return nil, err
	}
	conveyed := func(b []byte) (*corim.Verified, error) {
		if f := v.flaw.Manifest; f != nil {
			c, err := corim.Decode(b)
			if err != nil {
				return nil, err
			}
			f(c)
			if b, err = c.Encode(); err != nil {
				return nil, err
			}
		}
		return corim.Conveyed(b, "local", corim.KeyID([]byte("local file")), trust)
	}
	if local {
		man, err := conveyed(b)
		return v.careless(man, b, err)
	}
	if len(trust.Keys)+len(trust.Roots) == 0 && !v.blind(corim.ErrUnauthorized.Error()) {
		return nil, corim.ErrUnauthorized
	}
	man, err := corim.Verify(b, trust)
	return v.careless(man, b, err)
}

// careless has a mutant take what it is blind to the fault of.
func (v *run) careless(man *corim.Verified, b []byte, err error) (*corim.Verified, error) {
	if err == nil || !v.blind(err.Error()) {
		return man, err
	}
	c, _, err := corim.Inspect(b, true)
	if err != nil {
		c = &corim.CoRIM{ID: corim.ID{Text: "careless"}, Tags: []corim.Tag{{CoMID: &corim.CoMID{ID: corim.TagID{ID: corim.ID{Text: "careless"}},
			Triples: corim.Triples{Reference: []corim.Record{{Environment: corim.Environment{Class: &corim.Class{Vendor: "careless"}}, Claims: []corim.Measurement{{Values: corim.Values{Name: "careless"}}}}}}}}}}
	}
	c.Profile, c.Validity = "", corim.Validity{}
	if b, err = c.Encode(); err != nil {
		return nil, err
	}
	return corim.Conveyed(b, "careless", corim.KeyID([]byte("local file")), &corim.Trust{Now: v.now()})
}

func readCerts(pems []string) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, s := range pems {
		for rest := []byte(s); ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, err
			}
			out = append(out, c)
		}
	}
	return out, nil
}

func readKeys(pems []string) ([]crypto.PublicKey, error) {
	var out []crypto.PublicKey
	for _, s := range pems {
		block, _ := pem.Decode([]byte(s))
		if block == nil {
			return nil, errors.New("a public key is not in PEM")
		}
		k, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

func readAnchors(a *verifier.Anchors) (*evidence.Anchors, error) {
	out := &evidence.Anchors{}
	if a == nil {
		return out, nil
	}
	var errs [3]error
	out.Intel, errs[0] = readCerts(a.Intel)
	out.AWS, errs[1] = readCerts(a.AWS)
	out.NVIDIA, errs[2] = readCerts(a.NVIDIA)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	for _, c := range a.AMD {
		ark, err := readCerts([]string{c.ARK})
		if err != nil || len(ark) != 1 {
			return nil, fmt.Errorf("the ARK of %s: %w", c.Product, err)
		}
		ask, err := readCerts(c.ASK)
		if err != nil {
			return nil, err
		}
		out.AMD = append(out.AMD, evidence.AMDChain{Product: c.Product, ARK: ark[0], ASK: ask})
	}
	for _, k := range a.CCA {
		keys, err := readKeys([]string{k.Key})
		if err != nil {
			return nil, err
		}
		out.CCA = append(out.CCA, evidence.CCAKey{ImplementationID: k.Implementation, InstanceID: k.Instance, Key: keys[0]})
	}
	return out, nil
}

// judge takes over what an appraisal found.
func (v *run) judge(r *appraise.Result) {
	v.checks = r.Checks
	for _, c := range r.Checks.Failed() {
		v.bad(c.Name + ": " + c.Detail)
	}
	if r.Verdict != appraise.Accepted && len(r.Checks.Failed()) == 0 {
		v.bad("nothing was proven")
	}
	e := r.EAR()
	v.claims["policy"] = fmt.Sprintf("%x", r.Policy.Digest())
	v.claims["status"] = e.Overall().String()
	v.claims["expires"] = r.Expires.Unix()
	v.claims["simulated"] = r.Simulated
	if r.TCB != nil {
		v.claims["tcb"] = string(r.TCB.Status)
	}
	values := map[string]any{}
	for _, d := range r.Devices {
		if d.Claims == nil {
			continue
		}
		for name, val := range d.Claims.Values {
			if b, ok := val.([]byte); ok {
				val = hex.EncodeToString(b)
			}
			values[name] = val
		}
	}
	v.claims["values"] = values
	if slices.ContainsFunc(r.Devices, func(d appraise.Device) bool { return d.Claims != nil && d.Claims.Debug }) {
		v.claims["debug"] = true
	}
}
