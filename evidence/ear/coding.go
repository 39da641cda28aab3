package ear

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/evidence/eat"
	"github.com/trustedmcp/tmcp/evidence/internal/jose"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// The claims, by their names in JSON and their keys in CBOR.
const (
	keyStatus, nameStatus     = 1000, "ear_status"
	keyVector, nameVector     = 1001, "ear_trustworthiness_vector"
	keyRaw, nameRaw           = 1002, "ear_raw_evidence"
	keyPolicies, namePolicies = 1003, "ear_appraisal_policy_ids"
	keyVerifier, nameVerifier = 1004, "ear_verifier_id"
)

// SignJWT signs the result as a compact JWT. kid may be "".
func (r *Result) SignJWT(key crypto.Signer, kid string) ([]byte, error) {
	c, err := r.claims(true)
	if err != nil {
		return nil, err
	}
	return eat.SignJWT(c, key, kid)
}

// SignCWT signs the result as a CWT: tag 18 before a COSE_Sign1. kid may be "".
func (r *Result) SignCWT(key crypto.Signer, kid string) ([]byte, error) {
	c, err := r.claims(false)
	if err != nil {
		return nil, err
	}
	return eat.SignCWT(c, key, kid)
}

// EncodeJSON returns the claims-set without a signature, for people and tests.
func (r *Result) EncodeJSON() ([]byte, error) {
	c, err := r.claims(true)
	if err != nil {
		return nil, err
	}
	return c.EncodeJSON()
}

// EncodeCBOR returns the claims-set without a signature, in deterministic CBOR.
func (r *Result) EncodeCBOR() ([]byte, error) {
	c, err := r.claims(false)
	if err != nil {
		return nil, err
	}
	return c.EncodeCBOR()
}

func label(js bool, key int64, name string) eat.Label {
	if js {
		return eat.Label{Name: name}
	}
	return eat.Label{Number: key}
}

// claims makes the claims-set of r for an encoding.
func (r *Result) claims(js bool) (*eat.Claims, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("ear: %w", err)
	}
	c := &eat.Claims{Issuer: r.Issuer, Subject: r.Subject, Audience: r.Audience, IssuedAt: r.IssuedAt, NotBefore: r.NotBefore, Expires: r.Expires, ID: r.ID,
		Profile: Profile, Nonces: nonces(js, r.Nonce), Other: map[eat.Label][]byte{}, Submods: map[string]eat.Submod{}}
	maps.Copy(c.Other, r.Other)
	if r.Status != nil {
		c.Other[label(js, keyStatus, nameStatus)] = writeTier(js, *r.Status)
	}
	if r.RawEvidence != nil {
		c.Other[label(js, keyRaw, nameRaw)] = writeBytes(js, r.RawEvidence)
	}
	var v []byte
	if js {
		v = append(append([]byte(`{"build":`), jsonrpc.Quote(r.Verifier.Build)...), `,"developer":`...)
		v = append(append(v, jsonrpc.Quote(r.Verifier.Developer)...), '}')
	} else {
		v = dcbor.AppendText(dcbor.AppendUint(dcbor.AppendMap(nil, 2), 0), r.Verifier.Developer)
		v = dcbor.AppendText(dcbor.AppendUint(v, 1), r.Verifier.Build)
	}
	c.Other[label(js, keyVerifier, nameVerifier)] = v
	for name, a := range r.Submods {
		sub, err := a.claims(js)
		if err != nil {
			return nil, fmt.Errorf("ear: appraisal %.80q: %w", name, err)
		}
		c.Submods[name] = eat.Submod{Claims: sub}
	}
	return c, nil
}

func (a *Appraisal) claims(js bool) (*eat.Claims, error) {
	c := &eat.Claims{Profile: a.Profile, Nonces: nonces(js, a.Nonce), Other: map[eat.Label][]byte{}}
	maps.Copy(c.Other, a.Other)
	c.Other[label(js, keyStatus, nameStatus)] = writeTier(js, a.Status)
	if a.Vector != nil {
		c.Other[label(js, keyVector, nameVector)] = a.Vector.write(js)
	}
	if len(a.Policies) > 0 {
		c.Other[label(js, keyPolicies, namePolicies)] = writeTexts(js, a.Policies)
	}
	if a.Extension != nil {
		b, err := json.Marshal(a.Extension, json.Deterministic(true))
		if err == nil && !js {
			b, err = dcbor.FromJSON(nil, b)
		}
		if err != nil {
			return nil, fmt.Errorf("extension: %w", err)
		}
		c.Other[label(js, ExtensionKey, ExtensionName)] = b
	}
	return c, nil
}

// nonces: in a JWT a nonce is base64 with padding, 12 to 88 characters (section
// 4 of the draft).
func nonces(js bool, n []byte) [][]byte {
	switch {
	case n == nil:
		return nil
	case js:
		return [][]byte{base64.StdEncoding.AppendEncode(nil, n)}
	}
	return [][]byte{n}
}

func writeTier(js bool, t Tier) []byte {
	if js {
		return jsonrpc.Quote(t.String())
	}
	return dcbor.AppendInt(nil, int64(t))
}

func writeBytes(js bool, b []byte) []byte {
	if js {
		return append(base64.RawURLEncoding.AppendEncode([]byte{'"'}, b), '"')
	}
	return dcbor.AppendBytes(nil, b)
}

func writeTexts(js bool, list []string) []byte {
	if !js {
		b := dcbor.AppendArray(nil, len(list))
		for _, s := range list {
			b = dcbor.AppendText(b, s)
		}
		return b
	}
	quoted := make([][]byte, len(list))
	for i, s := range list {
		quoted[i] = jsonrpc.Quote(s)
	}
	return append(append([]byte{'['}, bytes.Join(quoted, []byte{','})...), ']')
}

func (v *Vector) write(js bool) []byte {
	n := 0
	for _, c := range v {
		if c != NoClaim {
			n++
		}
	}
	if !js {
		b := dcbor.AppendMap(nil, n)
		for i, c := range v {
			if c != NoClaim {
				b = dcbor.AppendInt(dcbor.AppendUint(b, uint64(i)), int64(c))
			}
		}
		return b
	}
	b := []byte{'{'}
	for i, c := range v {
		if c == NoClaim {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(b, jsonrpc.Quote(categoryNames[i])...), ':')
		b = strconv.AppendInt(b, int64(c), 10)
	}
	return append(b, '}')
}

// Options say what a token must be.
type Options struct {
	Keys          eat.Keys      // of the verifiers that are trusted; required
	Now           time.Time     // required
	Skew          time.Duration // how far the verifier's clock may be ahead
	MaxAge        time.Duration // how old iat may be; 0: any age
	Nonce         []byte        // that the result must echo; nil: not checked
	Issuer        string        // that the result must be of; "": not checked
	Audience      string        // that must be among the result's; "": not checked
	RequireExpiry bool
	// Legacy takes the profiles of 2023 and 2024 too, as JWT. Their names of claims
	// have dots and dashes, and one policy.
	Legacy bool
}

// Verify verifies a token, a JWT or a CWT, and returns the result. What it says
// of statuses is checked against its vectors.
func Verify(token []byte, o *Options) (*Result, error) {
	if o == nil {
		return nil, errors.New("ear: keys and the time are required to verify a result")
	}
	js := len(token) > 0 && token[0] < 0x80
	c, err := eat.Verify(token, &eat.Options{Keys: o.Keys, Now: o.Now, Skew: o.Skew, Audience: o.Audience, RequireExpiry: o.RequireExpiry})
	if err != nil {
		return nil, fmt.Errorf("ear: %w", err)
	}
	r, err := read(c, js, o.Legacy)
	if err != nil {
		return nil, fmt.Errorf("ear: %w", err)
	}
	switch {
	case o.Issuer != "" && r.Issuer != o.Issuer:
		return nil, fmt.Errorf("ear: issuer %.80q; want %q", r.Issuer, o.Issuer)
	case o.MaxAge > 0 && o.Now.Sub(r.IssuedAt) > o.MaxAge:
		return nil, fmt.Errorf("ear: issued at %s, which is more than %s ago", r.IssuedAt.Format(time.RFC3339), o.MaxAge)
	case o.Nonce != nil && !sameNonce(c.Nonces, o.Nonce, js):
		return nil, errors.New("ear: the result does not echo the nonce that was asked for")
	}
	return r, nil
}

// sameNonce compares the only nonce. In JSON any spelling in base64 is taken, and
// for legacy results the text itself.
func sameNonce(got [][]byte, want []byte, js bool) bool {
	if len(got) != 1 || len(want) == 0 {
		return false
	}
	if bytes.Equal(got[0], want) {
		return true
	}
	if !js {
		return false
	}
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
		if e.EncodeToString(want) == string(got[0]) {
			return true
		}
	}
	return false
}

// ParseJSON and ParseCBOR read results that nobody signed, such as those that a
// verifier of one's own hands over.
func ParseJSON(b []byte) (*Result, error) { return parse(eat.ParseJSON(b))(true) }

// ParseCBOR: see [ParseJSON].
func ParseCBOR(b []byte) (*Result, error) { return parse(eat.ParseCBOR(b))(false) }

func parse(c *eat.Claims, err error) func(js bool) (*Result, error) {
	return func(js bool) (*Result, error) {
		if err != nil {
			return nil, fmt.Errorf("ear: %w", err)
		}
		r, err := read(c, js, false)
		if err != nil {
			return nil, fmt.Errorf("ear: %w", err)
		}
		return r, nil
	}
}

func read(c *eat.Claims, js, legacy bool) (*Result, error) {
	names := draft
	switch {
	case c.Profile == Profile:
	case legacy && js && (c.Profile == LegacyProfile || c.Profile == TrusteeProfile):
		names = old
	default:
		return nil, fmt.Errorf("eat_profile %.80q; want %q", c.Profile, Profile)
	}
	r := &Result{Profile: c.Profile, Issuer: c.Issuer, Subject: c.Subject, Audience: c.Audience, IssuedAt: c.IssuedAt, NotBefore: c.NotBefore, Expires: c.Expires, ID: c.ID, Submods: map[string]*Appraisal{}}
	var err error
	if r.Nonce, err = readNonce(c, js, names.legacy); err != nil {
		return nil, err
	}
	take := taker(c, js)
	if v := take(keyStatus, names.status); v != nil {
		t, err := readTier(v, js)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", names.status, err)
		}
		r.Status = &t
	}
	if v := take(keyRaw, names.raw); v != nil {
		if r.RawEvidence, err = readBytes(v, js); err != nil {
			return nil, fmt.Errorf("%s: %w", names.raw, err)
		}
	}
	if v := take(keyVerifier, names.verifier); v != nil {
		if r.Verifier, err = readVerifier(v, js); err != nil {
			return nil, fmt.Errorf("%s: %w", names.verifier, err)
		}
	}
	for name, s := range c.Submods {
		if s.Claims == nil {
			return nil, fmt.Errorf("submodule %.80q is no appraisal", name)
		}
		if r.Submods[name], err = readAppraisal(s.Claims, js, names); err != nil {
			return nil, fmt.Errorf("appraisal %.80q: %w", name, err)
		}
	}
	r.Other = c.Other
	return r, r.check()
}

type naming struct {
	status, vector, raw, policies, verifier string
	legacy                                  bool
}

var (
	draft = naming{nameStatus, nameVector, nameRaw, namePolicies, nameVerifier, false}
	old   = naming{"ear.status", "ear.trustworthiness-vector", "ear.raw-evidence", "ear.appraisal-policy-id", "ear.verifier-id", true}
)

// taker returns a function that takes claims out of c.Other.
func taker(c *eat.Claims, js bool) func(int64, string) []byte {
	return func(key int64, name string) []byte {
		l := label(js, key, name)
		v := c.Other[l]
		delete(c.Other, l)
		if len(c.Other) == 0 {
			c.Other = nil
		}
		return v
	}
}

func readAppraisal(c *eat.Claims, js bool, names naming) (*Appraisal, error) {
	a := &Appraisal{Profile: c.Profile}
	take := taker(c, js)
	v := take(keyStatus, names.status)
	if v == nil {
		return nil, fmt.Errorf("no %s, which is required", names.status)
	}
	var err error
	if a.Status, err = readTier(v, js); err != nil {
		return nil, fmt.Errorf("%s: %w", names.status, err)
	}
	if a.Nonce, err = readNonce(c, js, names.legacy); err != nil {
		return nil, err
	}
	if v := take(keyVector, names.vector); v != nil {
		if a.Vector, err = readVector(v, js); err != nil {
			return nil, fmt.Errorf("%s: %w", names.vector, err)
		}
		if names.legacy && *a.Vector == (Vector{}) {
			a.Vector = nil // veraison/ear writes empty ones
		}
	}
	if v := take(keyPolicies, names.policies); v != nil {
		if a.Policies, err = readTexts(v, js, names.legacy); err != nil {
			return nil, fmt.Errorf("%s: %w", names.policies, err)
		}
	}
	if v := take(ExtensionKey, ExtensionName); v != nil {
		if !js {
			if v, err = dcbor.ToJSON(nil, v); err != nil {
				return nil, fmt.Errorf("extension: %w", err)
			}
		}
		a.Extension = &Extension{}
		if err := json.Unmarshal(v, a.Extension); err != nil {
			return nil, fmt.Errorf("extension: %w", err)
		}
	}
	a.Other = c.Other
	return a, nil
}

func readNonce(c *eat.Claims, js, legacy bool) ([]byte, error) {
	switch {
	case len(c.Nonces) == 0:
		return nil, nil
	case len(c.Nonces) > 1:
		return nil, errors.New("eat_nonce: more than one nonce")
	case !js:
		return c.Nonces[0], nil
	}
	s := strings.TrimRight(string(c.Nonces[0]), "=")
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if b, err := e.Strict().DecodeString(s); err == nil && len(b) >= 8 && len(b) <= 64 && !strings.ContainsAny(s, "\r\n") {
			return b, nil
		}
	}
	if legacy && len(s) <= 64 { // any text
		return c.Nonces[0], nil
	}
	return nil, errors.New("eat_nonce: not base64 of 8 to 64 bytes")
}

func readTier(v []byte, js bool) (Tier, error) {
	if js {
		s, _ := jsonrpc.Text(v)
		for t, name := range tierNames {
			if name == s {
				return t, nil
			}
		}
		return 0, fmt.Errorf("%.40q is no tier", v)
	}
	r := dcbor.NewReader(v)
	n := r.Int()
	if err := r.Done(); err != nil {
		return 0, err
	}
	if n < 0 || n > 127 || tierNames[Tier(n)] == "" {
		return 0, fmt.Errorf("%d is no tier", n)
	}
	return Tier(n), nil
}

func readBytes(v []byte, js bool) ([]byte, error) {
	if js {
		s, ok := jsonrpc.Text(v)
		if !ok {
			return nil, errors.New("want base64url")
		}
		return jose.Decode([]byte(s))
	}
	r := dcbor.NewReader(v)
	b := r.Bytes()
	return b, r.Done()
}

func readVerifier(v []byte, js bool) (id VerifierID, err error) {
	if !js {
		r := dcbor.NewReader(v)
		if n := r.Map(); r.Err() == nil && n != 2 {
			r.Fail("want developer and build")
		}
		for i := range uint64(2) {
			if r.Uint() != i {
				r.Fail("want developer and build")
			}
			*[]*string{&id.Developer, &id.Build}[i] = r.Text()
		}
		return id, r.Done()
	}
	if jsontext.Value(v).Kind() != '{' {
		return id, errors.New("want an object")
	}
	err = jsonrpc.Members(v, func(name string, val jsontext.Value) error {
		s, ok := jsonrpc.Text(val)
		switch {
		case !ok:
			return fmt.Errorf("%.40q is no text", name)
		case name == "developer":
			id.Developer = s
		case name == "build":
			id.Build = s
		default:
			return fmt.Errorf("%.40q is not expected", name)
		}
		return nil
	})
	return id, err
}

func readVector(v []byte, js bool) (*Vector, error) {
	out := &Vector{}
	set := func(i int, n int64) error {
		if i < 0 || i >= categories {
			return errors.New("a claim that is not of the eight categories")
		}
		if n < -128 || n > 127 {
			return fmt.Errorf("%s is %d; -128 to 127 are possible", categoryNames[i], n)
		}
		out[i] = Claim(n)
		return nil
	}
	if js {
		if jsontext.Value(v).Kind() != '{' {
			return nil, errors.New("want an object")
		}
		return out, jsonrpc.Members(v, func(name string, val jsontext.Value) error {
			n, err := strconv.ParseInt(string(val), 10, 16)
			if err != nil {
				return fmt.Errorf("%.40q is no whole number of -128 to 127", val)
			}
			return set(slices.Index(categoryNames[:], name), n)
		})
	}
	r := dcbor.NewReader(v)
	for range r.Map() {
		i, n := r.Uint(), r.Int()
		if r.Err() != nil {
			break
		}
		if err := set(int(min(i, categories)), n); err != nil {
			return nil, err
		}
	}
	return out, r.Done()
}

// maxPolicies bounds the policy ids of an appraisal.
const maxPolicies = 64

func readTexts(v []byte, js, legacy bool) (list []string, err error) {
	if js {
		if s, ok := jsonrpc.Text(v); ok && legacy {
			return []string{s}, nil
		}
		if jsontext.Value(v).Kind() != '[' {
			return nil, errors.New("want an array of texts")
		}
		err = jsonrpc.Elements(v, func(e jsontext.Value) error {
			s, ok := jsonrpc.Text(e)
			if !ok {
				return errors.New("want an array of texts")
			}
			list = append(list, s)
			return nil
		})
	} else {
		r := dcbor.NewReader(v)
		for range r.Array() {
			if r.Err() != nil {
				break
			}
			list = append(list, r.Text())
		}
		err = r.Done()
	}
	if err == nil && (len(list) == 0 || len(list) > maxPolicies) {
		err = fmt.Errorf("%d policies; 1 to %d are possible", len(list), maxPolicies)
	}
	return list, err
}
