// Package tee knows which measurements each TEE has, and how CoRIM profiles
// write them. [Evidence] turns verified claims into tuples for package acs;
// [Manifest] does the inverse: it makes a manifest of reference values from
// claims by the same names.
//
//	TEE      environment                                          profile
//	TDX      "tdx": class Intel Corporation, TDX TD                Intel
//	         "tdx.module": class 2.16.840.1.113741.1.2.3.4.3
//	         "intel.platform": class …4.4, Intel Corporation, FMSPC in hex; instance PPID
//	         "intel.qe": class …4.1, Intel Corporation, SGX QE TCB
//	SGX      "sgx": class 2.16.840.1.113741.1.2.3.5.1, platform and QE as above
//	SEV-SNP  "snp": class 1.3.6.1.4.1.3704.3.1 (VCEK) or .2 (VLEK);
//	         instance CHIP_ID or CSP_ID                            AMD
//	Nitro    "nitro": class Amazon Web Services, Nitro Enclave     ours
//	NVIDIA   "nvidia": class NVIDIA Corporation, architecture;
//	         instance device id                                    ours
//	CCA      "cca": class RIM (tag 560)                            Arm's, realm
//	         "cca.platform": class implementation id (tag 560);
//	         instance UEID                                         Arm's, platform
//
// The first environment of each is the workload's. RTMRs and PCRs are integrity
// registers of the anonymous element. Measurements that a profile gives a key or
// code point have it; others have the claim's name as measurement key. The flag
// is-debug of the anonymous element says whether the TEE is in debug mode.
//
// The class of a TD is ours: the Intel profile has none. AMD's draft prints its
// class ids with BER tag and length, which CoRIM's OIDs do not have; and it
// gives HOST_DATA, 32 bytes, as a SHA-384 digest. Here the class ids are right,
// evidence has HOST_DATA as digest and as raw value, and manifests as raw value.
package tee

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/corim"
	"github.com/trustedmcp/tmcp/evidence/corim/acs"
	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// Evidence makes tuples of what a TEE was proven to say, the workload's first.
// Its authority is a key id of the kind of TEE, as in "sev-snp", or
// "sev-snp/simulated", beside those given; a manifest can ask for it.
func Evidence(v *evidence.Verified, authority ...corim.Key) ([]acs.ECT, error) {
	if v == nil {
		return nil, errors.New("there is no verified evidence")
	}
	c := v.Claims()
	b := &builder{values: c.Values, kind: c.Kind, debug: c.Debug, reportData: c.ReportData}
	envs, err := b.build()
	if err != nil {
		return nil, err
	}
	name := string(c.Kind)
	if c.Simulated {
		name += "/simulated"
	}
	authority = append([]corim.Key{corim.KeyID([]byte(name))}, authority...)
	out := make([]acs.ECT, 0, len(envs))
	for _, e := range envs {
		out = append(out, acs.ECT{Name: e.name, Type: acs.Evidence, Environment: e.env, Elements: e.elements, Authority: authority, Profile: e.profile, Labels: e.labels})
	}
	return out, nil
}

// Reference makes the reference triples that evidence with these claims
// matches, and says which profile the manifest must have. SVNs are minimums.
// Claims are named, and typed, as in [evidence.Claims]; those that identify an
// instance are left out, and others that are no reference values are refused.
func Reference(kind evidence.Kind, values map[string]any) ([]corim.Record, string, error) {
	b := &builder{values: values, kind: kind, reference: true, used: map[string]bool{}}
	envs, err := b.build()
	if err != nil {
		return nil, "", err
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !b.used[name] {
			return nil, "", fmt.Errorf("%s is no reference value of %s", name, kind)
		}
	}
	var out []corim.Record
	profile := ""
	for _, e := range envs {
		if profile != "" && e.profile != profile {
			return nil, "", fmt.Errorf("claims of %s and of its platform need two manifests: their profiles differ", kind)
		}
		profile = e.profile
		e.env.Instance = nil
		out = append(out, corim.Record{Environment: e.env, Claims: e.elements})
	}
	if len(out) == 0 {
		return nil, "", fmt.Errorf("no reference value of %s is given", kind)
	}
	return out, profile, nil
}

// Manifest makes a CoRIM with one CoMID whose reference triples allow each of
// the sets of claims.
func Manifest(id string, kind evidence.Kind, sets ...map[string]any) (*corim.CoRIM, error) {
	c := &corim.CoRIM{ID: corim.ID{Text: id}}
	m := &corim.CoMID{ID: corim.TagID{ID: corim.ID{Text: id + "/" + string(kind)}}}
	for _, set := range sets {
		records, profile, err := Reference(kind, set)
		if err != nil {
			return nil, err
		}
		if c.Profile != "" && c.Profile != profile {
			return nil, errors.New("sets of claims with different profiles need manifests of their own")
		}
		c.Profile = profile
		m.Triples.Reference = append(m.Triples.Reference, records...)
	}
	if len(sets) == 0 {
		return nil, errors.New("a manifest needs at least one set of claims")
	}
	c.Tags = []corim.Tag{{CoMID: m}}
	return c, nil
}

// Defaults are the claims that identify the software in a TEE: those to put into
// a manifest when nobody says which.
func Defaults(kind evidence.Kind) []string {
	switch kind {
	case evidence.TDX:
		return []string{"tdx.mrtd", "tdx.rtmr0", "tdx.rtmr1", "tdx.rtmr2", "tdx.rtmr3"}
	case evidence.SGX:
		return []string{"sgx.mrenclave"}
	case evidence.SNP:
		return []string{"snp.measurement"}
	case evidence.Nitro:
		return []string{"nitro.pcr0", "nitro.pcr1", "nitro.pcr2"}
	case evidence.CCA:
		return []string{"cca.rim", "cca.rem0", "cca.rem1", "cca.rem2", "cca.rem3"}
	}
	return nil
}

// Select takes claims by name from verified evidence, for [Manifest]. What
// determines the environment comes along.
func Select(v *evidence.Verified, names ...string) (map[string]any, error) {
	c := v.Claims()
	out := map[string]any{}
	for _, n := range slices.Concat(names, []string{"snp.signingkey", "nvidia.arch", "cca.hashalg"}) {
		x, ok := c.Values[n]
		switch {
		case ok:
			out[n] = x
		case slices.Contains(names, n):
			return nil, fmt.Errorf("the evidence has no %s", n)
		}
	}
	if c.Kind == evidence.CCA && out["cca.rim"] == nil && slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "cca.r") }) {
		out["cca.rim"] = c.Values["cca.rim"]
	}
	return out, nil
}

// A builder makes elements of claims, either all forms that evidence can have, or
// the one form of a reference value.
type builder struct {
	values     map[string]any
	kind       evidence.Kind
	reference  bool
	debug      bool
	reportData []byte
	used       map[string]bool
	err        error
}

type environment struct {
	name     string
	env      corim.Environment
	profile  string
	elements []corim.Measurement
	labels   map[string]string // see acs.ECT
	b        *builder
}

func (b *builder) build() ([]*environment, error) {
	var envs []*environment
	switch b.kind {
	case evidence.TDX:
		envs = append(b.tdx(), b.intel()...)
	case evidence.SGX:
		envs = append(b.sgx(), b.intel()...)
	case evidence.SNP:
		envs = b.snp()
	case evidence.Nitro:
		envs = b.nitro()
	case evidence.NVIDIA:
		envs = b.nvidia()
	case evidence.CCA:
		envs = b.cca()
	default:
		return nil, fmt.Errorf("no profile for evidence of kind %q", b.kind)
	}
	if b.err != nil {
		return nil, b.err
	}
	if !b.reference && len(envs) > 0 {
		envs[0].anonymous().Flags = []corim.Field{corim.Flag(corim.FlagDebug, b.debug)}
	}
	return slices.DeleteFunc(envs, func(e *environment) bool { return len(e.elements) == 0 }), nil
}

func (b *builder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
}

// take reads a claim of type T; ok is false when it is absent.
func take[T any](b *builder, name string) (v T, ok bool) {
	x, ok := b.values[name]
	if !ok {
		return v, false
	}
	if b.used != nil {
		b.used[name] = true
	}
	v, ok = x.(T)
	if !ok {
		b.fail("the claim %s is of type %T, want %T", name, x, v)
	}
	return v, ok
}

func (b *builder) env(name, profile string, e corim.Environment) *environment {
	return &environment{name: name, env: e, profile: profile, labels: map[string]string{}, b: b}
}

func (e *environment) add(key corim.Item, claim string, v corim.Values) {
	e.labels[strings.Trim(key.Describe(), `"`)] = claim
	e.elements = append(e.elements, corim.Measurement{Key: key, Values: v})
}

// anonymous is the values of the element without a key.
func (e *environment) anonymous() *corim.Values {
	for i := range e.elements {
		if e.elements[i].Key == nil {
			return &e.elements[i].Values
		}
	}
	e.elements = slices.Insert(e.elements, 0, corim.Measurement{})
	return &e.elements[0].Values
}

// code sets a code point of the Intel profile in the anonymous element of
// evidence.
func (e *environment) code(code int64, v corim.Item) {
	if e.b.reference {
		return
	}
	a := e.anonymous()
	a.Extra = append(a.Extra, corim.Field{Code: code, Value: v})
}

func algorithm(v []byte) int64 {
	switch len(v) {
	case 32:
		return corim.SHA256
	case 48:
		return corim.SHA384
	case 64:
		return corim.SHA512
	}
	return 0
}

func digestOf(v []byte) corim.Digest { return corim.Digest{Alg: algorithm(v), Value: v} }

// measured is a hash: a digest under key, and under the Intel code point unless
// that is 0.
func (e *environment) measured(key corim.Item, code int64, claim string, size int) {
	v, ok := take[[]byte](e.b, claim)
	if !ok || !e.b.sized(claim, v, size) {
		return
	}
	if algorithm(v) == 0 {
		e.b.fail("the claim %s has %d bytes: no hash that is known has", claim, len(v))
		return
	}
	e.add(key, claim, corim.Values{Digests: []corim.Digest{digestOf(v)}})
	if code != 0 {
		d := digestOf(v)
		e.code(code, dcbor.AppendBytes(dcbor.AppendInt(dcbor.AppendArray(nil, 2), d.Alg), d.Value))
	}
}

// raw is an opaque value of size bytes (0: any).
func (e *environment) raw(key corim.Item, code int64, claim string, size int) {
	v, ok := take[[]byte](e.b, claim)
	if !ok || !e.b.sized(claim, v, size) {
		return
	}
	e.add(key, claim, corim.Values{Raw: &corim.RawValue{Value: v}})
	if code != 0 {
		e.code(code, dcbor.AppendBytes(nil, v))
	}
}

// bits is a number whose bits count: a raw value of size bytes, little endian as
// in the report.
func (e *environment) bits(key corim.Item, code int64, claim string, size int) {
	n, ok := take[uint64](e.b, claim)
	if !ok {
		return
	}
	var v [8]byte
	binary.LittleEndian.PutUint64(v[:], n)
	if size < 8 && n>>(8*size) != 0 {
		e.b.fail("the claim %s, %d, has more than %d bytes", claim, n, size)
		return
	}
	e.add(key, claim, corim.Values{Raw: &corim.RawValue{Value: v[:size]}})
	if code != 0 {
		e.code(code, dcbor.AppendBytes(nil, v[:size]))
	}
}

// svn is a security version number; of a reference value the minimum.
func (e *environment) svn(key corim.Item, code int64, claim string) {
	n, ok := take[uint64](e.b, claim)
	if !ok {
		return
	}
	e.addSVN(key, claim, n)
	if code != 0 {
		e.code(code, corim.UintItem(n))
	}
}

func (e *environment) addSVN(key corim.Item, claim string, n uint64) {
	form := corim.TaggedSVN
	if e.b.reference {
		form = corim.MinSVN
	}
	e.add(key, claim, corim.Values{SVN: &corim.SVN{Value: n, Form: form}})
}

// number is an identifier that is a number.
func (e *environment) number(key corim.Item, code int64, claim string) {
	n, ok := take[uint64](e.b, claim)
	if !ok {
		return
	}
	if n > 1<<63-1 {
		e.b.fail("the claim %s, %d, is out of range", claim, n)
		return
	}
	e.add(key, claim, corim.Values{Int: corim.Int(int64(n))})
	if code != 0 {
		e.code(code, corim.UintItem(n))
	}
}

// named is a text.
func (e *environment) named(key corim.Item, claim string) {
	if s, ok := take[string](e.b, claim); ok && s != "" {
		e.add(key, claim, corim.Values{Name: s})
	}
}

// registers are hashes under consecutive numbers: claim followed by 0 to n-1.
func (e *environment) registers(claim string, n int, size int) {
	var regs []corim.Register
	for i := range n {
		name := fmt.Sprint(claim, i)
		v, ok := take[[]byte](e.b, name)
		if ok && algorithm(v) == 0 {
			e.b.fail("the claim %s has %d bytes: no hash that is known has", name, len(v))
		} else if ok && e.b.sized(name, v, size) {
			e.labels[fmt.Sprint("register ", i)] = name
			regs = append(regs, corim.Register{RegisterID: corim.RegisterID{Index: uint64(i)}, Digests: []corim.Digest{digestOf(v)}})
		}
	}
	if len(regs) > 0 {
		e.anonymous().Registers = regs
	}
}

func (b *builder) sized(claim string, v []byte, size int) bool {
	if len(v) == 0 || size != 0 && len(v) != size {
		b.fail("the claim %s has %d bytes, want %d", claim, len(v), size)
		return false
	}
	return true
}

func (b *builder) isZero(claim string) bool {
	v, ok := b.values[claim].([]byte)
	return ok && zero(v)
}

func zero(v []byte) bool { return !slices.ContainsFunc(v, func(x byte) bool { return x != 0 }) }

func text(s string) corim.Item    { return corim.TextItem(s) }
func uintKey(n uint64) corim.Item { return corim.UintItem(n) }
