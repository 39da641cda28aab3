// Package appraisal makes an appraiser of files: collateral, manifests of
// reference values with the keys of who may sign them, and a policy.
package appraisal

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/corim"
	"github.com/trustedmcp/tmcp/evidence/corim/acs"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/evidence/verifiers"
	"github.com/trustedmcp/tmcp/gateway/evidencefile"
	"github.com/trustedmcp/tmcp/gateway/policy"
)

// Options name files. The zero value is the strict policy with no collateral and
// no reference values, which accepts little.
type Options struct {
	// Policy is what decides; nil: Default.
	Policy *policy.Live
	// Default is the policy when none is given; nil: policy.Strict, or
	// policy.Simulated with Simulator.
	Default    *appraise.RulesPolicy
	Collateral []string // files and directories, see evidencefile.Collateral
	CoRIMs     []string // manifests, signed unless Unsigned
	Keys       []string // PEM public keys, or certificates, of who may sign manifests
	Roots      []string // PEM roots that signers' certificates may lead to
	Unsigned   bool     // manifests of local files need no signature
	// CCAKeys are initial attestation keys of Arm CCA platforms, which have no common
	// root: IMPLEMENTATION-ID=FILE, the id in hex and the public key in PEM.
	CCAKeys []string
	// Simulator has simulated TEEs accepted, under a policy for development only.
	Simulator bool
	Passports []appraise.Passport
	Build     string // of the program, for attestation results
	Now       time.Time
	Stdin     io.Reader // for the file "-"
}

// An InputError is about what a file of collateral or reference values holds:
// evidence can't be accepted with it. Check is the name of the check that fails.
type InputError struct {
	Check string
	Err   error
}

func (e *InputError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *InputError) Unwrap() error { return e.Err }

// Load reads the files and makes the appraiser. Errors name the file.
func Load(ctx context.Context, o Options) (*appraise.Appraiser, error) {
	p, err := o.policy(ctx)
	if err != nil {
		return nil, err
	}
	if p.Development() != o.Simulator {
		if o.Simulator {
			return nil, fmt.Errorf("policy %q is for production, and simulated TEEs are to be accepted: no policy is for both; name one for development, or trust no simulator", p.Name())
		}
		return nil, fmt.Errorf("policy %q is for development: it accepts simulated TEEs, which must be asked for too", p.Name())
	}
	cfg := appraise.Config{Policy: p, Anchors: vendor.Anchors(), Passports: o.Passports, Build: o.Build,
		Verifiers: verifiers.All(verifiers.Options{}), Attributes: policy.Attributes}
	if rules := policy.RulesOf(p); rules != nil {
		cfg.Verifiers = verifiers.For(rules.Rules())
	}
	for _, arg := range o.CCAKeys {
		id, file, _ := strings.Cut(arg, "=")
		impl, err := hex.DecodeString(id)
		if err != nil || len(impl) != 32 || file == "" {
			return nil, fmt.Errorf("CCA key %.100q: want IMPLEMENTATION-ID=FILE, the id as 64 hex digits", arg)
		}
		keys, err := PublicKeys(file, o.Stdin)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			cfg.Anchors.CCA = append(cfg.Anchors.CCA, evidence.CCAKey{ImplementationID: impl, Key: k})
		}
	}
	if o.Simulator {
		cfg.Simulator = sim.Default().Simulator()
	}
	if o.Simulator && len(o.Collateral) == 0 && !o.Now.IsZero() {
		// For evidence that comes without, as in other projects' certificates.
		today := o.Now.UTC().Truncate(24 * time.Hour)
		for _, sgx := range []bool{false, true} {
			b, err := sim.Default().Collateral(sim.Collateral{SGX: sgx, Issued: today, NextUpdate: today.AddDate(0, 0, 30)})
			if err != nil {
				return nil, err
			}
			cfg.Collateral = append(cfg.Collateral, evidence.Item{MediaType: evidence.TypeDCAPCollateral, Value: b})
		}
	}
	if len(o.Collateral) > 0 {
		if cfg.Collateral, err = evidencefile.Collateral(o.Collateral, o.Stdin); err != nil {
			return nil, &InputError{"collateral", err}
		}
	}
	var bundled [][]byte
	if o.Policy != nil {
		bundled = o.Policy.References()
	}
	if len(o.CoRIMs)+len(bundled) > 0 {
		store, err := manifests(o, bundled)
		if err != nil {
			return nil, err
		}
		cfg.References = appraise.CoRIM(store)
	}
	return appraise.New(cfg)
}

func (o *Options) policy(ctx context.Context) (appraise.Policy, error) {
	found := o.Policy
	if found == nil {
		if o.Default != nil {
			return o.Default, nil
		}
		name := policy.Strict
		if o.Simulator {
			name = policy.Simulated
		}
		var err error
		if found, err = policy.NewLive(ctx, policy.Options{Names: []string{name}}); err != nil {
			return nil, err
		}
	}
	p := found.Appraises()
	if p == nil {
		return nil, fmt.Errorf("policy %q authorizes calls, and says nothing of evidence: name one beside it that appraises, as %s does", found.Name(), policy.Strict)
	}
	return p, nil
}

// manifests are those of files, and those that came with policies: a bundle is a
// file of the operator's, or signed by whom he named, so these may be unsigned.
func manifests(o Options, bundled [][]byte) (*acs.Store, error) {
	// TMCP-19.2-1: A verifier MUST accept a signed CoRIM only from a signer that its local policy
	// pins, by key or by trust anchor.
	trust := &corim.Trust{Now: o.Now}
	for _, name := range o.Keys {
		keys, err := PublicKeys(name, o.Stdin)
		if err != nil {
			return nil, err
		}
		trust.Keys = append(trust.Keys, keys...)
	}
	for _, name := range o.Roots {
		certs, err := certificates(name, o.Stdin)
		if err != nil {
			return nil, err
		}
		trust.Roots = append(trust.Roots, certs...)
	}
	if len(o.CoRIMs) > 0 && len(trust.Keys)+len(trust.Roots) == 0 && !o.Unsigned {
		return nil, errors.New("manifests of reference values are given, and nobody who may sign them: name a key or a root, or say that local files need no signature")
	}
	var all []*corim.Verified
	for _, name := range o.CoRIMs {
		b, err := evidencefile.Read(name, o.Stdin)
		if err != nil {
			return nil, err
		}
		v, err := corim.Verify(b, trust)
		// TMCP-19.2-5: A verifier MUST NOT use an unsigned CoRIM unless its operator gave it as a
		// local file.
		if errors.Is(err, corim.ErrUnsigned) && o.Unsigned {
			v, err = corim.Conveyed(b, name, corim.KeyID([]byte("local file")), trust)
		}
		if err != nil {
			return nil, &InputError{"reference-values", fmt.Errorf("%s: %w", name, err)}
		}
		all = append(all, v)
	}
	for i, b := range bundled {
		v, err := corim.Verify(b, trust)
		if errors.Is(err, corim.ErrUnsigned) {
			v, err = corim.Conveyed(b, "policy bundle", corim.KeyID([]byte("policy bundle")), trust)
		}
		if err != nil {
			return nil, &InputError{"reference-values", fmt.Errorf("manifest %d of the policy's bundle: %w", i+1, err)}
		}
		all = append(all, v)
	}
	return acs.NewStore(all...)
}

// PublicKeys reads public keys from PEM: bare ones, or those of certificates.
func PublicKeys(name string, stdin io.Reader) ([]crypto.PublicKey, error) {
	b, err := evidencefile.Read(name, stdin)
	if err != nil {
		return nil, err
	}
	keys, err := ParsePublicKeys(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return keys, nil
}

// ParsePublicKeys is [PublicKeys] for what a file holds.
func ParsePublicKeys(b []byte) ([]crypto.PublicKey, error) {
	var keys []crypto.PublicKey
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		var key crypto.PublicKey
		var err error
		switch block.Type {
		case "PUBLIC KEY":
			key, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "CERTIFICATE":
			var c *x509.Certificate
			if c, err = x509.ParseCertificate(block.Bytes); err == nil {
				key = c.PublicKey
			}
		default:
			err = fmt.Errorf("PEM block %q: want PUBLIC KEY or CERTIFICATE", block.Type)
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("no public key in PEM")
	}
	return keys, nil
}

func certificates(name string, stdin io.Reader) ([]*x509.Certificate, error) {
	b, err := evidencefile.Read(name, stdin)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM", name)
	}
	return certs, nil
}
