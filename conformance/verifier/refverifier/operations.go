package refverifier

import (
	"context"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/evidence/corim"
	"github.com/trustedmcp/tmcp/evidence/corim/acs"
	"github.com/trustedmcp/tmcp/evidence/eat"
	"github.com/trustedmcp/tmcp/evidence/token"
	"github.com/trustedmcp/tmcp/protocol"
)

// reportData computes section 18.2.
func (v *run) reportData() {
	f := v.req.Freshness
	if f == nil {
		v.bad("no freshness")
		return
	}
	b := protocol.Binding{Role: protocol.Role(v.req.Role), Identity: v.req.Identity, Key: v.req.Key, Config: v.req.Config,
		Freshness: protocol.Freshness{Kind: protocol.FreshnessKind(f.Kind), Value: f.Value}}
	if f.Kind == 1 {
		b.Freshness.At = time.Unix(f.At, 0)
	}
	d := b.ReportData()
	if v.blind("unframed") {
		d = unframed(&b)
	}
	v.claims["report_data"] = hex.EncodeToString(d[:])
}

// unframed is report data of one who only joins the members.
func unframed(b *protocol.Binding) [64]byte {
	return sha512.Sum512(slices.Concat([]byte{byte(b.Role)}, []byte(b.Identity), b.Key, b.Config, b.Freshness.Value))
}

// keyObject verifies a key object, with its evidence where a policy is given.
func (v *run) keyObject() {
	want := protocol.Expect{Identity: v.req.Identity, Now: v.now(), Role: protocol.Role(v.req.Role), Nonce: v.req.Nonce,
		Profile: protocol.Profile(v.req.Profile), MaxEvidenceAge: time.Duration(v.req.MaxAge) * time.Second, Epochs: v.req.Epochs, FreshEvidence: v.req.Fresh}
	var err error
	if want.Settings, err = protocol.ParseSettings([]byte(v.req.Settings)); err != nil {
		v.fail(err)
		return
	}
	if want.Anchor, err = v.identities(); err != nil {
		v.fail(err)
		return
	}
	if v.req.Policy != nil {
		a, err := v.appraiser()
		if err != nil {
			v.fail(err)
			return
		}
		want.Appraiser = judge{v, a}
	}
	p, err := protocol.VerifyKeyObject(v.req.Value, want)
	if err != nil {
		var e *protocol.Error
		if errors.As(err, &e) {
			v.reason = string(e.Reason)
		}
		v.bad(err.Error())
		return
	}
	d := p.KeyDigest()
	v.claims["identity"], v.claims["profile"], v.claims["key_digest"] = p.Identity(), string(p.Profile()), hex.EncodeToString(d[:])
	v.claims["expires"] = p.Expires().Unix()
}

func (v *run) identities() (protocol.Anchor, error) {
	if v.req.IDRoots != nil {
		pool := x509.NewCertPool()
		certs, err := readCerts(v.req.IDRoots)
		for _, c := range certs {
			pool.AddCert(c)
		}
		return protocol.Roots(pool), err
	}
	var pins []protocol.Thumbprint
	for _, s := range v.req.Pins {
		t, err := protocol.ParseThumbprint(s)
		if err != nil {
			return nil, err
		}
		pins = append(pins, t)
	}
	return protocol.Pin(pins...), nil
}

// judge appraises the evidence of a key object, and keeps what was found.
type judge struct {
	v *run
	a *appraise.Appraiser
}

func (j judge) Appraise(_ context.Context, e protocol.Evidence) (*protocol.Appraisal, error) {
	data := e.ReportData
	r := j.a.Evaluate(appraise.Input{CMW: e.CMW, ReportData: data[:], Config: e.Binding.Config, Now: e.Now})
	if d := unframed(&e.Binding); j.v.blind("unframed") && r.Verdict != appraise.Accepted {
		r = j.a.Evaluate(appraise.Input{CMW: e.CMW, ReportData: d[:], Config: e.Binding.Config, Now: e.Now})
	}
	before := len(j.v.wrong)
	j.v.judge(r)
	if len(j.v.wrong) > before {
		j.v.wrong = j.v.wrong[:before]
		return nil, r.Err()
	}
	return &protocol.Appraisal{Policy: r.Policy.Digest(), Expires: r.Expires, Simulated: r.Simulated}, nil
}

// evidence appraises evidence outside a key object.
func (v *run) evidence() {
	a, err := v.appraiser()
	if err != nil {
		v.fail(err)
		return
	}
	in := appraise.Input{ReportData: v.req.ReportData, Config: v.req.Config, Now: v.now()}
	if v.req.Type == "" {
		in.CMW = v.req.Value
	} else {
		in.Alone, in.Items = true, []evidence.Item{{MediaType: v.req.Type, Value: v.req.Value}}
	}
	if in.ReportData == nil {
		in.ReportData = []byte{}
	}
	v.judge(a.Evaluate(in))
}

func (v *run) cmw() {
	c, err := cmw.ParseCBOR(v.req.Value)
	if err != nil {
		v.fail(err)
		return
	}
	records := []any{}
	v.fail(c.Walk(func(at cmw.Path, r *cmw.Record) error {
		records = append(records, map[string]any{"label": at.String(), "type": r.Type(), "ind": uint32(r.Ind), "value": r.Value})
		return nil
	}))
	v.claims["records"] = records
}

func (v *run) corim() {
	m, err := v.manifest(v.req.Value, v.req.Local)
	if err != nil {
		v.fail(err)
		return
	}
	v.claims["id"] = m.CoRIM().ID.String()
}

// match holds evidence, which stands in a CoRIM as reference triples, against
// manifests.
func (v *run) match() {
	store, err := v.store()
	if err != nil {
		v.fail(err)
		return
	}
	c, err := corim.Decode(v.req.Value)
	if err != nil {
		v.fail(err)
		return
	}
	var ects []acs.ECT
	for _, m := range c.CoMIDs() {
		for _, r := range m.Triples.Reference {
			ects = append(ects, acs.ECT{Name: r.Environment.String(), Type: acs.Evidence, Environment: r.Environment, Elements: r.Claims,
				Authority: []corim.Key{corim.KeyID([]byte("attester"))}})
		}
	}
	res, err := store.Appraise(ects, acs.Options{Now: v.now()})
	if err != nil {
		v.fail(err)
		return
	}
	for _, s := range res.Subjects {
		if s.Outcome != acs.Corroborated {
			v.bad(string(s.Outcome) + ": " + s.Explain())
		}
	}
	names := []string{}
	for _, e := range res.Endorsed() {
		for _, m := range e.Elements {
			if m.Values.Name != "" {
				names = append(names, m.Values.Name)
			}
		}
	}
	slices.Sort(names)
	v.claims["endorsed"] = names
}

// token verifies an attestation result. Its nonce is the report data.
func (v *run) token() {
	keys, err := token.ParseJWKS(v.req.Keys)
	if err != nil {
		v.fail(err)
		return
	}
	r := token.Verify(v.req.Value, &token.Expect{Kind: token.Kind(v.req.Kind), Keys: keys, Now: v.now(), Skew: time.Minute, Issuer: v.req.Issuer,
		Audience: v.req.Audience, Nonces: [][]byte{v.req.ReportData}, AllowSimulated: true})
	v.checks = r.Checks
	for _, c := range r.Checks.Failed() {
		v.bad(c.Name + ": " + c.Detail)
	}
	if t := r.Token(); t != nil {
		v.claims["issuer"] = t.Issuer
	}
}

// eat verifies an entity attestation token.
func (v *run) eat() {
	keys, err := token.ParseJWKS(v.req.Keys)
	if err != nil {
		v.fail(err)
		return
	}
	c, err := eat.Verify(v.req.Value, &eat.Options{Keys: keys, Now: v.now(), Skew: time.Minute, Nonce: v.req.Nonce, RequireExpiry: true})
	if err != nil {
		v.fail(err)
		return
	}
	v.claims["issuer"] = c.Issuer
}
