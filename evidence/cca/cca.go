// Package cca verifies attestation tokens of Arm's Confidential Compute
// Architecture (draft-ffm-rats-cca-token): a realm's token and that of the
// platform on which it runs. Give a [Verifier] to package appraise, or call its
// Verify.
//
// There is no root of all platforms: whoever relies on a token has the
// platform's initial attestation key from its manufacturer, in
// evidence.Anchors.CCA. Certificate chains in a token are not read.
package cca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/subtle"
	"errors"
	"fmt"
	"strconv"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/internal/seal"
)

// Options are what a policy decides. The zero value is for production.
type Options struct {
	// AllowDebug warns of a platform whose lifecycle is not "secured", where it is
	// a failure otherwise.
	AllowDebug bool
}

// A Verifier verifies evidence of type evidence.TypeCCA. The zero value is that
// of New(Options{}).
type Verifier struct{ o Options }

// New returns a verifier.
func New(o Options) *Verifier { return &Verifier{o} }

var _ evidence.Verifier = (*Verifier)(nil)

// MediaTypes returns evidence.TypeCCA.
func (*Verifier) MediaTypes() []string { return []string{evidence.TypeCCA} }

// Verify makes the checks token-format, platform-signature, realm-binding,
// realm-signature and debug (the lifecycle). The first four must pass for there
// to be claims. Those of a platform whose lifecycle is not "secured" say Debug.
func (v *Verifier) Verify(mediaType string, value []byte, t *evidence.Trust) *evidence.Result {
	var checks evidence.Checks
	claims := v.verify(&checks, mediaType, value, t)
	return evidence.NewResult(seal.Mine(), evidence.CCA, checks, nil, claims)
}

func (v *Verifier) verify(checks *evidence.Checks, mediaType string, value []byte, t *evidence.Trust) *evidence.Claims {
	if mediaType != evidence.TypeCCA {
		checks.Add("token-format", evidence.Fail, fmt.Sprintf("media type %q, want %q", mediaType, evidence.TypeCCA))
		return nil
	}
	token, err := ParseToken(value)
	if err != nil {
		checks.Add("token-format", evidence.Fail, err.Error())
		return nil
	}
	checks.Add("token-format", evidence.Pass, "platform profile "+token.Platform.Profile)

	proven := true
	simulated, err := token.verifyPlatform(t)
	proven = add(checks, "platform-signature", err, "by an initial attestation key that is trusted for this platform") && proven
	proven = add(checks, "realm-binding", token.binding(), "the platform token names the realm's key by "+token.Realm.KeyHashAlgorithm) && proven
	proven = add(checks, "realm-signature", token.verifyRealm(), "by the realm attestation key") && proven
	if !proven {
		return nil
	}

	c := &evidence.Claims{ReportData: token.Realm.Challenge, Simulated: simulated, Platform: token.Platform.InstanceID}
	state := lifecycle(*token.Platform.Lifecycle)
	detail := fmt.Sprintf("%s (0x%04x)", state, *token.Platform.Lifecycle)
	switch c.Debug = state != secured; {
	case !c.Debug:
		checks.Add("debug", evidence.Pass, detail)
	case v.o.AllowDebug:
		checks.Add("debug", evidence.Warn, detail+", allowed by policy")
	default:
		checks.Add("debug", evidence.Fail, detail+", want "+secured)
	}
	c.Values = token.values()
	return c
}

func add(checks *evidence.Checks, name string, err error, detail string) bool {
	if err != nil {
		checks.Add(name, evidence.Fail, err.Error())
		return false
	}
	checks.Add(name, evidence.Pass, detail)
	return true
}

// verifyPlatform checks the platform token with the keys that are trusted for
// what it says it is. What it says is unproven until one of them fits.
func (token *Token) verifyPlatform(t *evidence.Trust) (simulated bool, err error) {
	if t == nil {
		return false, errors.New("no trust anchors")
	}
	if err := t.Anchors.Check(); err != nil {
		return false, err
	}
	if ok, err := token.signedBy(t.Anchors.CCA); ok || err != nil {
		return false, err
	}
	if ok, err := token.signedBy(t.Simulator.Anchors().CCA); ok || err != nil {
		return true, err
	}
	return false, fmt.Errorf("no trusted initial attestation key for implementation %x, instance %x signed it", token.Platform.ImplementationID, token.Platform.InstanceID)
}

func (token *Token) signedBy(keys []evidence.CCAKey) (bool, error) {
	p := &token.Platform
	for _, k := range keys {
		if !bytes.Equal(k.ImplementationID, p.ImplementationID) || k.InstanceID != nil && !bytes.Equal(k.InstanceID, p.InstanceID) {
			continue
		}
		key, ok := k.Key.(*ecdsa.PublicKey)
		if !ok || key == nil {
			return false, fmt.Errorf("the anchor of implementation %x has a key of type %T, want *ecdsa.PublicKey", k.ImplementationID, k.Key)
		}
		if token.platform.verify(key) == nil {
			return true, nil
		}
	}
	return false, nil
}

// binding checks that the platform vouches for the realm's key: else any
// platform token would do for any realm token.
func (token *Token) binding() error {
	if want := token.Realm.keyDigest(); subtle.ConstantTimeCompare(want, token.Platform.Challenge) != 1 {
		return fmt.Errorf("the platform's challenge is not the %s of the realm's key", token.Realm.KeyHashAlgorithm)
	}
	return nil
}

func (token *Token) verifyRealm() error {
	key, err := token.Realm.key()
	if err != nil {
		return err
	}
	return token.realm.verify(key)
}

// values returns the claims of both tokens by name.
func (token *Token) values() map[string]any {
	p, r := &token.Platform, &token.Realm
	v := map[string]any{
		"cca.implid":          p.ImplementationID,
		"cca.instanceid":      p.InstanceID,
		"cca.config":          p.Config,
		"cca.lifecycle":       uint64(*p.Lifecycle),
		"cca.platformprofile": p.Profile,
		"cca.hashalg":         p.HashAlgorithm,
		"cca.rim":             r.Initial,
		"cca.rpv":             r.Personalization,
		"cca.realmhashalg":    r.HashAlgorithm,
	}
	if r.Profile != "" {
		v["cca.realmprofile"] = r.Profile
	}
	for i, m := range r.Extensible {
		v["cca.rem"+strconv.Itoa(i)] = m
	}
	for i, c := range p.Components {
		// By type, or by index where a component has none or shares it: an index
		// never hides a type.
		name := "cca.sw." + c.Type
		for n := i; c.Type == "" || v[name+".measurement"] != nil; n += len(p.Components) {
			c.Type = strconv.Itoa(n)
			name = "cca.sw." + c.Type
		}
		v[name+".measurement"], v[name+".signer"] = c.Measurement, c.Signer
		if c.Version != "" {
			v[name+".version"] = c.Version
		}
	}
	return v
}
