package acs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/corim"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

var (
	attester = corim.KeyID([]byte("attester"))
	vendor   = corim.KeyID([]byte("vendor"))
	lab      = corim.KeyID([]byte("lab"))
)

// verified is a manifest that the given authority vouches for.
func verified(t testing.TB, id string, by corim.Key, tr corim.Triples, edit ...func(*corim.CoRIM)) *corim.Verified {
	t.Helper()
	c := &corim.CoRIM{ID: corim.ID{Text: id}, Tags: []corim.Tag{{CoMID: &corim.CoMID{ID: corim.TagID{ID: corim.ID{Text: id + ".m"}}, Triples: tr}}}}
	for _, e := range edit {
		e(c)
	}
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	v, err := corim.Conveyed(b, id, by, &corim.Trust{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func store(t testing.TB, vs ...*corim.Verified) *Store {
	t.Helper()
	s, err := NewStore(vs...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func appraise(t testing.TB, s *Store, es ...ECT) *Result {
	t.Helper()
	r, err := s.Appraise(es, Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func env(model string) corim.Environment {
	return corim.Environment{Class: &corim.Class{Vendor: "v", Model: model}}
}

func meas(key string, v corim.Values) corim.Measurement {
	m := corim.Measurement{Values: v}
	if key != "" {
		m.Key = corim.TextItem(key)
	}
	return m
}

func digests(b byte) corim.Values { return corim.Values{Digests: []corim.Digest{sha(b)}} }
func named(s string) corim.Values { return corim.Values{Name: s} }

func rec(e corim.Environment, ms ...corim.Measurement) corim.Record {
	return corim.Record{Environment: e, Claims: ms}
}

func ev(e corim.Environment, ms ...corim.Measurement) ECT {
	return ECT{Name: "subject", Type: Evidence, Environment: e, Elements: ms, Authority: []corim.Key{attester}}
}

func TestCorroboration(t *testing.T) {
	inst := env("a")
	inst.Instance = corim.BytesItem([]byte("chip 1"))
	s := store(t, verified(t, "good", vendor, corim.Triples{Reference: []corim.Record{
		rec(env("a"), meas("fw", digests(1)), meas("os", digests(2))),
		rec(env("a"), meas("fw", digests(3)), meas("os", digests(4))),
	}}))
	r := appraise(t, s, ev(inst, meas("fw", digests(3)), meas("os", digests(4)), meas("extra", digests(9)), meas("", named("x"))))
	sub := r.Subject("subject")
	if sub == nil || sub.Outcome != Corroborated || len(sub.Matches) != 1 || sub.Matches[0].Manifest != "good" || !sub.Matches[0].Authority[0].Equal(vendor) {
		t.Fatalf("%+v", sub)
	}
	// What is added is what was measured, of the elements that the triple names,
	// under its author's authority.
	if len(r.ACS) != 2 || r.ACS[0].Type != Evidence || r.ACS[1].Type != ReferenceValues || !r.ACS[1].Authority[0].Equal(vendor) {
		t.Fatalf("ACS %+v", r.ACS)
	}
	if want := []corim.Measurement{meas("fw", digests(3)), meas("os", digests(4))}; !reflect.DeepEqual(r.ACS[1].Elements, want) {
		t.Errorf("corroborated %+v", r.ACS[1].Elements)
	}
	if !strings.Contains(sub.Explain(), `matches a reference value of "good"`) {
		t.Error(sub.Explain())
	}

	// A state made of two acceptable ones is not acceptable.
	r = appraise(t, s, ev(inst, meas("fw", digests(1)), meas("os", digests(4))))
	if sub = r.Subject("subject"); sub.Outcome != Contradicted || len(r.ACS) != 1 {
		t.Errorf("%+v", sub)
	}
	if x := sub.Explain(); !strings.Contains(x, "no reference value matches") || !strings.Contains(x, "digests: want sha-256:") {
		t.Error(x)
	}
	if c, _ := r.Checks().Find("reference-values"); c.Outcome != evidence.Fail {
		t.Errorf("%+v", c)
	}
	// An element missing in evidence.
	r = appraise(t, s, ev(inst, meas("fw", digests(1))))
	if x := r.Subject("subject").Explain(); !strings.Contains(x, "os digests: want sha-256:0202") || !strings.Contains(x, "have nothing") {
		t.Error(x)
	}
	// An anonymous element is not one with a key.
	r = appraise(t, s, ev(inst, meas("", digests(1)), meas("os", digests(2))))
	if r.Subject("subject").Outcome != Contradicted {
		t.Error("an anonymous element passes for another")
	}
	// No reference values for another class, or for the class with another model.
	r = appraise(t, s, ev(env("b"), meas("fw", digests(1))))
	if r.Subject("subject").Outcome != Unknown || r.Checks()[0].Outcome != evidence.NotPerformed {
		t.Errorf("%+v", r.Subject("subject"))
	}
}

// The environment of a condition must be contained in that of the entry.
func TestEnvironments(t *testing.T) {
	full := corim.Environment{Class: &corim.Class{Vendor: "v"}, Instance: corim.BytesItem([]byte("i")), Group: corim.BytesItem([]byte("g"))}
	class, inst, group := corim.Environment{Class: full.Class}, corim.Environment{Instance: full.Instance}, corim.Environment{Group: full.Group}
	for i, tt := range []struct {
		condition, entry corim.Environment
		want             Outcome
	}{
		{full, full, Corroborated}, {class, full, Corroborated}, {inst, full, Corroborated}, {group, full, Corroborated},
		{corim.Environment{Class: full.Class, Group: full.Group}, full, Corroborated},
		{full, class, Unknown}, {inst, class, Unknown},
		{corim.Environment{Instance: corim.UEIDItem([]byte("i"))}, full, Unknown}, // another type
		{corim.Environment{Class: &corim.Class{Vendor: "v", Model: "m"}}, full, Unknown},
		{class, corim.Environment{Class: &corim.Class{Vendor: "v", Model: "m"}}, Unknown}, // classes are compared whole
	} {
		s := store(t, verified(t, "x", vendor, corim.Triples{Reference: []corim.Record{rec(tt.condition, meas("", named("n")))}}))
		if got := appraise(t, s, ev(tt.entry, meas("", named("n")))).Subjects[0].Outcome; got != tt.want {
			t.Errorf("%d: %s", i, got)
		}
	}
}

func TestAuthorizedBy(t *testing.T) {
	m := meas("", named("n"))
	for _, tt := range []struct {
		by   []corim.Key
		want Outcome
	}{{nil, Corroborated}, {[]corim.Key{attester}, Corroborated}, {[]corim.Key{lab}, Contradicted}, {[]corim.Key{attester, lab}, Contradicted}} {
		m.AuthorizedBy = tt.by
		s := store(t, verified(t, "x", vendor, corim.Triples{Reference: []corim.Record{rec(env("a"), m)}}))
		if got := appraise(t, s, ev(env("a"), meas("", named("n")))).Subjects[0].Outcome; got != tt.want {
			t.Errorf("%v: %s", tt.by, got)
		}
	}
}

func endorsed(r *Result) []string {
	var out []string
	for _, e := range r.Endorsed() {
		for _, m := range e.Elements {
			out = append(out, m.Values.Name)
		}
	}
	slices.Sort(out)
	return out
}

func TestEndorsements(t *testing.T) {
	a, b := env("a"), env("b")
	cond := func(conditions []corim.Record, name string) corim.ConditionalTriple {
		return corim.ConditionalTriple{Conditions: conditions, Endorsements: []corim.Record{rec(a, meas("cert", named(name)))}}
	}
	tr := corim.Triples{
		Endorsed: []corim.Record{rec(a, meas("e", named("for a"))), rec(env("c"), meas("e", named("for c")))},
		Conditional: []corim.ConditionalTriple{
			cond([]corim.Record{rec(a, meas("fw", digests(1))), rec(b, meas("fw", digests(2)))}, "both"),
			cond([]corim.Record{rec(a, meas("fw", digests(1))), rec(b, meas("fw", digests(9)))}, "one of two"),
			cond([]corim.Record{rec(a, meas("cert", named("both")))}, "after both"),
			cond([]corim.Record{rec(a, meas("cert", named("never")))}, "after never"),
		},
	}
	r := appraise(t, store(t, verified(t, "lab", lab, tr)), ev(a, meas("fw", digests(1))), ev(b, meas("fw", digests(2))))
	if got, want := endorsed(r), []string{"after both", "both", "for a"}; !slices.Equal(got, want) {
		t.Errorf("endorsed %q, want %q", got, want)
	}
	for _, e := range r.Endorsed() {
		if !e.Authority[0].Equal(lab) || e.Manifest != "lab" {
			t.Errorf("%+v", e)
		}
	}
	if !strings.Contains(fmt.Sprint(r.Checks()), "after both") {
		t.Error(r.Checks())
	}

	// An endorsement can ask who said what it depends on: evidence alone is not
	// enough then.
	m := meas("fw", digests(1))
	m.AuthorizedBy = []corim.Key{vendor}
	only := verified(t, "lab", lab, corim.Triples{Conditional: []corim.ConditionalTriple{cond([]corim.Record{rec(a, m)}, "corroborated")}})
	ref := verified(t, "ref", vendor, corim.Triples{Reference: []corim.Record{rec(a, meas("fw", digests(1)))}})
	if got := endorsed(appraise(t, store(t, only), ev(a, meas("fw", digests(1))))); len(got) != 0 {
		t.Errorf("endorsed %q on the attester's word", got)
	}
	for _, s := range []*Store{store(t, only, ref), store(t, ref, only)} {
		if got := endorsed(appraise(t, s, ev(a, meas("fw", digests(1))))); !slices.Equal(got, []string{"corroborated"}) {
			t.Errorf("endorsed %q", got)
		}
	}
}

func TestSeries(t *testing.T) {
	a := env("a")
	svn := func(n uint64, f corim.SVNForm) corim.Measurement {
		return corim.Measurement{Values: corim.Values{SVN: &corim.SVN{Value: n, Form: f}}}
	}
	add := func(s string) []corim.Measurement { return []corim.Measurement{meas("status", named(s))} }
	series := func(authority ...corim.Key) corim.SeriesTriple {
		return corim.SeriesTriple{Environment: a, Claims: []corim.Measurement{meas("model", named("x"))}, AuthorizedBy: authority, Series: []corim.SeriesRecord{
			{Condition: []corim.Measurement{svn(5, corim.MinSVN)}, Addition: add("UpToDate")},
			{Condition: []corim.Measurement{svn(3, corim.MinSVN)}, Addition: add("OutOfDate")},
		}}
	}
	for _, tt := range []struct {
		svn   uint64
		model string
		by    []corim.Key
		want  []string
	}{
		{7, "x", nil, []string{"UpToDate"}}, // not OutOfDate as well: the first match ends it
		{5, "x", nil, []string{"UpToDate"}},
		{4, "x", nil, []string{"OutOfDate"}},
		{2, "x", nil, nil},
		{7, "y", nil, nil}, // the common condition does not hold
		{7, "x", []corim.Key{attester}, []string{"UpToDate"}},
		{7, "x", []corim.Key{lab}, nil},
	} {
		s := store(t, verified(t, "x", vendor, corim.Triples{Series: []corim.SeriesTriple{series(tt.by...)}}))
		if got := endorsed(appraise(t, s, ev(a, svn(tt.svn, 0), meas("model", named(tt.model))))); !slices.Equal(got, tt.want) {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}

// "authorized-by in common-condition takes precedence over the authorized-by in
// condition."
func TestSeriesAuthority(t *testing.T) {
	a := env("a")
	m := meas("", named("n"))
	m.AuthorizedBy = []corim.Key{lab}
	for _, common := range [][]corim.Key{nil, {attester}} {
		s := corim.SeriesTriple{Environment: a, AuthorizedBy: common, Series: []corim.SeriesRecord{{Condition: []corim.Measurement{m}, Addition: []corim.Measurement{meas("", named("added"))}}}}
		r := appraise(t, store(t, verified(t, "x", vendor, corim.Triples{Series: []corim.SeriesTriple{s}})), ev(a, meas("", named("n"))))
		if got := len(endorsed(r)); got != len(common) {
			t.Errorf("common authority %v: %d added", common, got)
		}
	}
}

// A series that looks at what another adds is decided after it, whatever the order
// of triples and manifests.
func TestSeriesInOrder(t *testing.T) {
	a := env("a")
	one := func(k, v string) []corim.Measurement { return []corim.Measurement{meas(k, named(v))} }
	first := corim.SeriesTriple{Environment: a, Series: []corim.SeriesRecord{{Condition: one("fw", "good"), Addition: one("status", "fine")}}}
	then := corim.ConditionalTriple{Conditions: []corim.Record{rec(a, one("status", "fine")...)}, Endorsements: []corim.Record{rec(a, one("level", "high")...)}}
	last := corim.SeriesTriple{Environment: a, Series: []corim.SeriesRecord{{Condition: one("level", "high"), Addition: one("verdict", "trust")}, {Condition: one("fw", "good"), Addition: one("verdict", "doubt")}}}
	vs := []*corim.Verified{
		verified(t, "1", vendor, corim.Triples{Series: []corim.SeriesTriple{first}}),
		verified(t, "2", vendor, corim.Triples{Conditional: []corim.ConditionalTriple{then}}),
		verified(t, "3", vendor, corim.Triples{Series: []corim.SeriesTriple{last}}),
	}
	for _, p := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		s := store(t, vs[p[0]], vs[p[1]], vs[p[2]])
		if got, want := endorsed(appraise(t, s, ev(a, one("fw", "good")...))), []string{"fine", "high", "trust"}; !slices.Equal(got, want) {
			t.Errorf("%v: %q, want %q", p, got, want)
		}
	}
	// Two that look at each other have no order: neither is used, and it is said.
	x := corim.SeriesTriple{Environment: a, Series: []corim.SeriesRecord{{Condition: one("p", "1"), Addition: one("q", "1")}, {Condition: one("fw", "good"), Addition: one("q", "2")}}}
	y := corim.SeriesTriple{Environment: a, Series: []corim.SeriesRecord{{Condition: one("q", "1"), Addition: one("p", "1")}, {Condition: one("fw", "good"), Addition: one("p", "2")}}}
	r := appraise(t, store(t, verified(t, "x", vendor, corim.Triples{Series: []corim.SeriesTriple{x, y}})), ev(a, one("fw", "good")...))
	if len(endorsed(r)) != 0 || !strings.Contains(fmt.Sprint(r.Notes), "depends on itself") {
		t.Errorf("%q, %q", endorsed(r), r.Notes)
	}
}

func TestDomains(t *testing.T) {
	board, cpu, nic, fw := env("board"), env("cpu"), env("nic"), env("fw")
	dom := func(d corim.Environment, m ...corim.Environment) corim.DomainTriple {
		return corim.DomainTriple{Domain: d, Members: m}
	}
	kinds := func(r *Result) (out []string) {
		for _, e := range r.ACS {
			if e.Kind == Membership || e.Kind == Dependency {
				out = append(out, fmt.Sprint(e.Kind, e.Environment))
			}
		}
		slices.Sort(out)
		return out
	}
	es := []ECT{ev(cpu, meas("", named("c"))), ev(nic, meas("", named("n"))), ev(fw, meas("", named("f")))}
	// The board is found once its parts are, bottom up.
	s := store(t, verified(t, "x", vendor, corim.Triples{
		Membership: []corim.DomainTriple{dom(board, cpu, nic), dom(cpu, fw), dom(env("rack"), board), dom(env("other"), nic, env("absent"))},
		Dependency: []corim.DomainTriple{dom(cpu, fw), dom(nic, env("absent"))},
	}))
	want := []string{fmt.Sprint(Membership, board), fmt.Sprint(Membership, cpu), fmt.Sprint(Membership, env("rack")), fmt.Sprint(Dependency, cpu)}
	slices.Sort(want)
	if got := kinds(appraise(t, s, es...)); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	// A cycle within a manifest, and one made by two.
	s = store(t, verified(t, "x", vendor, corim.Triples{Membership: []corim.DomainTriple{dom(cpu, nic), dom(nic, cpu)}}))
	if got := kinds(appraise(t, s, es...)); len(got) != 0 || !strings.Contains(fmt.Sprint(s.Skipped), "cycle") {
		t.Errorf("%q, %q", got, s.Skipped)
	}
	s = store(t, verified(t, "x", vendor, corim.Triples{Membership: []corim.DomainTriple{dom(cpu, nic)}}), verified(t, "y", lab, corim.Triples{Membership: []corim.DomainTriple{dom(nic, cpu)}}))
	r := appraise(t, s, es...)
	if got := kinds(r); len(got) != 1 || !strings.Contains(fmt.Sprint(r.Notes), "cycle") {
		t.Errorf("%q, %q", got, r.Notes)
	}
	s = store(t, verified(t, "x", vendor, corim.Triples{Dependency: []corim.DomainTriple{dom(cpu, cpu)}, Membership: []corim.DomainTriple{dom(board, cpu)}}))
	if got := kinds(appraise(t, s, es...)); len(got) != 1 {
		t.Errorf("an environment depends on itself: %q", got)
	}
}

func TestKeys(t *testing.T) {
	ca, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := func(tmpl, parent *x509.Certificate) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, ca.Public(), ca)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	root := cert(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "r"}, NotAfter: now.AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true}, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "r"}})
	leaf := cert(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "l"}, NotAfter: now.AddDate(1, 0, 0)}, root)
	old := cert(&x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "o"}, NotAfter: now.AddDate(-1, 0, 0)}, root)
	roots := x509.NewCertPool()
	roots.AddCert(root)

	a := env("a")
	bare := corim.KeyID([]byte("bare"))
	good, expired, absent := corim.CertificateKey(leaf), corim.CertificateKey(old), corim.KeyID([]byte("absent"))
	evidence := ev(a, meas("slot", corim.Values{Keys: []corim.Key{bare, good, expired}}))
	tr := corim.Triples{
		Identity:  []corim.KeyTriple{{Environment: a, Keys: []corim.Key{bare, good, expired, absent}}},
		AttestKey: []corim.KeyTriple{{Environment: a, Keys: []corim.Key{attester, absent}}, {Environment: env("b"), Keys: []corim.Key{attester}}},
	}
	s := store(t, verified(t, "x", vendor, tr))
	r, err := s.Appraise([]ECT{evidence}, Options{Now: now, KeyRoots: roots})
	if err != nil {
		t.Fatal(err)
	}
	var identity, attest []corim.Key
	for _, e := range r.ACS {
		switch e.Kind {
		case IdentityKeys:
			identity = append(identity, e.Keys...)
		case AttestKeys:
			attest = append(attest, e.Keys...)
		}
	}
	if !slices.EqualFunc(identity, []corim.Key{bare, good}, corim.Key.Equal) || !slices.EqualFunc(attest, []corim.Key{attester}, corim.Key.Equal) {
		t.Errorf("identity %v, attestation %v", identity, attest)
	}
	if !strings.Contains(fmt.Sprint(r.Notes), "expired") {
		t.Errorf("notes %q", r.Notes)
	}
	// Without roots no certificate is verified.
	r = appraise(t, s, evidence)
	for _, e := range r.ACS {
		if e.Kind == IdentityKeys && slices.ContainsFunc(e.Keys, good.Equal) {
			t.Error("a certificate is verified without roots")
		}
	}
	// The element and the authority are conditions. What the attester says becomes
	// no endorsement of the vendor's by being corroborated.
	ref := []corim.Record{rec(a, meas("slot", corim.Values{Keys: []corim.Key{bare}}))}
	for i, tr := range []corim.Triples{
		{Identity: []corim.KeyTriple{{Environment: a, Keys: []corim.Key{bare}, MKey: corim.TextItem("other")}}},
		{Identity: []corim.KeyTriple{{Environment: a, Keys: []corim.Key{bare}, AuthorizedBy: []corim.Key{lab}}}},
		{Identity: []corim.KeyTriple{{Environment: a, Keys: []corim.Key{bare}, AuthorizedBy: []corim.Key{vendor}}}},
		{AttestKey: []corim.KeyTriple{{Environment: a, Keys: []corim.Key{attester}, MKey: corim.TextItem("slot")}}},
	} {
		tr.Reference = ref
		r := appraise(t, store(t, verified(t, "x", vendor, tr)), evidence)
		if len(r.ACS) != 2 || r.ACS[1].Type != ReferenceValues {
			t.Errorf("condition %d is not looked at", i)
		}
	}
}

func TestAllThatMatchAreFound(t *testing.T) {
	same := corim.Triples{Reference: []corim.Record{rec(env("a"), meas("", digests(1)))}}
	two := corim.Triples{Reference: []corim.Record{rec(env("a"), meas("", corim.Values{Digests: []corim.Digest{sha384(9), sha(1)}}))}}
	r := appraise(t, store(t, verified(t, "1", vendor, same), verified(t, "2", lab, same), verified(t, "3", lab, two)), ev(env("a"), meas("", digests(1))))
	if n := len(r.Subjects[0].Matches); n != 3 {
		t.Errorf("%d match", n)
	}
}

// A manifest that has expired since the store was made says nothing any more.
func TestExpiresLater(t *testing.T) {
	until := func(c *corim.CoRIM) { c.Validity = corim.Validity{NotAfter: now.Add(time.Hour)} }
	a := env("a")
	s := store(t, verified(t, "x", vendor, corim.Triples{Reference: []corim.Record{rec(a, meas("", named("n")))}, Endorsed: []corim.Record{rec(a, meas("", named("e")))}}, until))
	e := ev(a, meas("", named("n")))
	if r := appraise(t, s, e); r.Subjects[0].Outcome != Corroborated || len(endorsed(r)) != 1 {
		t.Fatalf("%+v", r)
	}
	r, err := s.Appraise([]ECT{e}, Options{Now: now.Add(2 * time.Hour)})
	if err != nil || r.Subjects[0].Outcome != Unknown || len(r.Endorsed()) != 0 || !strings.Contains(fmt.Sprint(r.Notes), "expired") {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAppraiseRefuses(t *testing.T) {
	s := store(t)
	good := ev(env("a"), meas("", named("n")))
	for name, es := range map[string][]ECT{
		"none": nil, "too many": make([]ECT, MaxEvidence+1),
		"no authority":     {{Type: Evidence, Environment: env("a"), Elements: good.Elements}},
		"not evidence":     {{Type: Endorsements, Environment: env("a"), Elements: good.Elements, Authority: good.Authority}},
		"no environment":   {{Type: Evidence, Elements: good.Elements, Authority: good.Authority}},
		"no elements":      {{Type: Evidence, Environment: env("a"), Authority: good.Authority}},
		"keys as evidence": {{Type: Evidence, Kind: AttestKeys, Environment: env("a"), Elements: good.Elements, Authority: good.Authority}},
	} {
		if _, err := s.Appraise(es, Options{Now: now}); err == nil {
			t.Errorf("%s: appraised", name)
		}
	}
	if _, err := s.Appraise([]ECT{good}, Options{}); err == nil {
		t.Error("appraised without a time")
	}
	if _, err := NewStore(nil); err == nil {
		t.Error("a store of nothing verified")
	}
}

// The index finds what comparing with every triple finds.
func TestIndexFindsAll(t *testing.T) {
	small := rapid.ByteRange(0, 2)
	values := rapid.Custom(func(t *rapid.T) corim.Values {
		var v corim.Values
		switch rapid.IntRange(0, 6).Draw(t, "kind") {
		case 0:
			v = digests(small.Draw(t, "d"))
		case 1:
			v.Digests = []corim.Digest{sha(small.Draw(t, "d")), sha384(small.Draw(t, "d2"))}
		case 2:
			v.Digests = []corim.Digest{{Name: "sha-256", Value: h(small.Draw(t, "d"), 32)}}
		case 3:
			v.Raw = &corim.RawValue{Value: []byte{small.Draw(t, "r")}}
		case 4:
			v.Raw = &corim.RawValue{Value: []byte{small.Draw(t, "r")}, Mask: []byte{small.Draw(t, "m")}}
		case 5:
			for i := range rapid.IntRange(1, 3).Draw(t, "regs") {
				v.Registers = append(v.Registers, corim.Register{RegisterID: corim.RegisterID{Index: uint64(i)}, Digests: []corim.Digest{sha(small.Draw(t, "g"))}})
			}
		case 6:
			v.SVN = &corim.SVN{Value: uint64(small.Draw(t, "s")), Form: corim.SVNForm(rapid.IntRange(0, 2).Draw(t, "f"))}
		}
		return v
	})
	measurement := rapid.Custom(func(t *rapid.T) corim.Measurement {
		return meas(rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "key"), values.Draw(t, "v"))
	})
	environment := rapid.Custom(func(t *rapid.T) corim.Environment {
		e := env(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "model"))
		if rapid.Bool().Draw(t, "inst") {
			e.Instance = corim.BytesItem([]byte("i"))
		}
		return e
	})
	record := rapid.Custom(func(t *rapid.T) corim.Record {
		return rec(environment.Draw(t, "env"), rapid.SliceOfN(measurement, 1, 3).Draw(t, "claims")...)
	})
	rapid.Check(t, func(rt *rapid.T) {
		refs := rapid.SliceOfN(record, 1, 12).Draw(rt, "refs")
		e := ev(environment.Draw(rt, "env"), rapid.SliceOfN(measurement, 1, 4).Draw(rt, "entry")...)
		e.Elements = slices.DeleteFunc(e.Elements, func(m corim.Measurement) bool { return m.Values.Raw != nil && m.Values.Raw.Mask != nil })
		if len(e.Elements) == 0 {
			return
		}
		r := appraise(t, store(t, verified(t, "x", vendor, corim.Triples{Reference: refs})), e)
		want := 0
		for _, ref := range refs {
			c := condition{elements: ref.Claims}
			if keyOf(ref.Environment).in(keyOf(e.Environment)) && c.elementsIn(&e) {
				want++
			}
		}
		sub := r.Subjects[0]
		if len(sub.Matches) != want || (want > 0) != (sub.Outcome == Corroborated) {
			rt.Fatalf("the index finds %d, comparing finds %d", len(sub.Matches), want)
		}
		if want == 0 && sub.Outcome == Contradicted {
			if ref, diff := sub.Nearest(); ref == nil || len(diff) == 0 {
				rt.Fatalf("nothing differs, and nothing matches: %+v", ref)
			}
			_ = sub.Explain()
		}
	})
}

// references is a store of n TDX-like reference values of one class: the firmware
// is the same, images differ.
func references(t testing.TB, n int) *Store {
	var vs []*corim.Verified
	for i := 0; i < n; {
		var tr corim.Triples
		for ; i < n && len(tr.Reference) < 20000; i++ {
			tr.Reference = append(tr.Reference, rec(env("td"), tdx(i)...))
		}
		vs = append(vs, verified(t, fmt.Sprint("bench ", i), vendor, tr))
	}
	return store(t, vs...)
}

func tdx(i int) []corim.Measurement {
	reg := func(n uint64, v int) corim.Register {
		d := sha384(byte(n))
		binary.BigEndian.PutUint64(d.Value, uint64(v))
		return corim.Register{RegisterID: corim.RegisterID{Index: n}, Digests: []corim.Digest{d}}
	}
	return []corim.Measurement{
		{Values: corim.Values{Registers: []corim.Register{reg(0, 0), reg(1, i), reg(2, i/2), reg(3, 0)}}},
		{Key: corim.UintItem(83), Values: corim.Values{Digests: []corim.Digest{sha384(1)}}},
	}
}

func TestManyReferences(t *testing.T) {
	s := references(t, 3000)
	for _, i := range []int{0, 1, 1499, 2999} {
		if r := appraise(t, s, ev(env("td"), tdx(i)...)); len(r.Subjects[0].Matches) != 1 {
			t.Errorf("%d: %d matches", i, len(r.Subjects[0].Matches))
		}
	}
	r := appraise(t, s, ev(env("td"), tdx(3001)...))
	if x := r.Subjects[0].Explain(); r.Subjects[0].Outcome != Contradicted || !strings.Contains(x, "register 1 integrity-registers: want sha-384:") {
		t.Error(x)
	}
}

// Appraisal, with the making of the evidence's index, against that many reference
// values.
func BenchmarkAppraise(b *testing.B) {
	for _, n := range []int{1, 1000, 100000} {
		s := references(b, n)
		more := ev(env("td"), tdx(n/2)...)
		for i := range 30 { // as much as a quote says besides
			more.Elements = append(more.Elements, meas(fmt.Sprint("claim", i), corim.Values{Raw: &corim.RawValue{Value: h(byte(i), 48)}}))
		}
		none := ev(env("td"), tdx(n+1)...)
		b.Run(fmt.Sprintf("%d/match", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if r, err := s.Appraise([]ECT{more}, Options{Now: now}); err != nil || r.Subjects[0].Outcome != Corroborated {
					b.Fatal(r, err)
				}
			}
		})
		b.Run(fmt.Sprintf("%d/none", n), func(b *testing.B) {
			for b.Loop() {
				if r, err := s.Appraise([]ECT{none}, Options{Now: now}); err != nil || r.Subjects[0].Outcome != Contradicted {
					b.Fatal(r, err)
				}
			}
		})
	}
}

// The worst case: a thousand reference values with nothing to look up by, masked
// and with minimums only, each of which is compared.
func BenchmarkAppraiseMasked(b *testing.B) {
	var tr corim.Triples
	for i := range 1000 {
		tr.Reference = append(tr.Reference, rec(env("td"),
			corim.Measurement{Values: corim.Values{SVN: &corim.SVN{Value: 1, Form: corim.MinSVN}}},
			meas("attributes", corim.Values{Raw: &corim.RawValue{Value: []byte{1, byte(i), byte(i >> 8)}, Mask: []byte{0, 0xff, 0xff}}})))
	}
	s := store(b, verified(b, "masked", vendor, tr))
	e := ev(env("td"), corim.Measurement{Values: corim.Values{SVN: &corim.SVN{Value: 2}}}, meas("attributes", corim.Values{Raw: &corim.RawValue{Value: []byte{2, 0xe7, 0x03}}}))
	for b.Loop() {
		if r, err := s.Appraise([]ECT{e}, Options{Now: now}); err != nil || r.Subjects[0].Outcome != Corroborated {
			b.Fatal(r, err)
		}
	}
}

// Any manifest that can be read can be appraised with: no panic, bounded, and what
// is corroborated compares equal.
func FuzzAppraise(f *testing.F) {
	a := env("a")
	one := []corim.Measurement{meas("k", digests(1)), {Values: corim.Values{SVN: &corim.SVN{Value: 3, Form: corim.MinSVN}}}}
	c := &corim.CoRIM{ID: corim.ID{Text: "f"}, Profile: corim.ProfileIntel, Tags: []corim.Tag{{CoMID: &corim.CoMID{ID: corim.TagID{ID: corim.ID{Text: "m"}}, Triples: corim.Triples{
		Reference: []corim.Record{rec(a, one...)}, Endorsed: []corim.Record{rec(a, one...)},
		Identity: []corim.KeyTriple{{Environment: a, Keys: []corim.Key{attester}}}, AttestKey: []corim.KeyTriple{{Environment: a, Keys: []corim.Key{attester}}},
		Membership: []corim.DomainTriple{{Domain: env("b"), Members: []corim.Environment{a}}}, Dependency: []corim.DomainTriple{{Domain: env("b"), Members: []corim.Environment{a}}},
		Series:      []corim.SeriesTriple{{Environment: a, Claims: one, Series: []corim.SeriesRecord{{Condition: one, Addition: one}}}},
		Conditional: []corim.ConditionalTriple{{Conditions: []corim.Record{rec(a, one...)}, Endorsements: []corim.Record{rec(a, one...)}}},
	}}}}}
	b, err := c.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := corim.Conveyed(b, "f", vendor, &corim.Trust{Now: now, Legacy: true})
		if err != nil {
			return
		}
		s, err := NewStore(v)
		if err != nil {
			return
		}
		es := []ECT{ev(a, meas("k", digests(1)), corim.Measurement{Values: corim.Values{SVN: &corim.SVN{Value: 4}}})}
		for _, m := range v.CoRIM().CoMIDs() {
			for _, r := range m.Triples.Reference {
				if len(es) < 8 {
					es = append(es, ev(r.Environment, r.Claims...))
				}
			}
		}
		r, err := s.Appraise(es, Options{Now: now})
		if err != nil {
			return
		}
		for i := range r.Subjects {
			for _, m := range r.Subjects[i].Matches {
				c := condition{elements: m.Record.Claims, profile: v.CoRIM().Profile}
				if !c.elementsIn(r.Subjects[i].Evidence) {
					t.Fatal("corroborated by what does not match")
				}
			}
			_ = r.Subjects[i].Explain()
		}
		_ = r.Checks()
	})
}
