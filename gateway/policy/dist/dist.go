// Package dist finds policies: in files, and in registries of OCI artifacts.
// [Load] is for who runs them, [Push] for who publishes them, [Pull] for who
// copies them into a file.
//
// A registry is trusted with nothing: what it sends is bounded before it is
// read, compared with the digest that it should have, and needs the signature of
// a pinned signer. Only what came whole and right is returned.
package dist

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/signed"
)

// Options say whom to trust, and how to reach a registry. The zero value loads
// local files only.
type Options struct {
	// Trust pins signers. With it everything must be signed; without it, what comes
	// from a registry is refused. A zero Now is the time of the call.
	Trust *signed.Trust
	// AllowUnsigned takes what is pinned by its digest from a registry without any
	// signature, where Trust pins nobody.
	AllowUnsigned bool
	// Signatures are files of signatures of a local file, beside FILE.cose and those
	// in a bundle.
	Signatures []string
	Stdin      io.Reader     // for the file "-"
	Limits     signed.Limits // zero: the defaults
	Registry   Registry
}

func (o *Options) limits() signed.Limits {
	if o.Limits == (signed.Limits{}) {
		return signed.DefaultLimits()
	}
	return o.Limits
}

// trust is a copy with a time.
func (o *Options) trust() *signed.Trust {
	if !o.Trust.Pinned() {
		return nil
	}
	t := *o.Trust
	if t.Now.IsZero() {
		t.Now = time.Now()
	}
	return &t
}

// A Module is one policy of what was loaded.
type Module struct {
	Name     string // the file, or the path in the bundle: for people
	Bytes    []byte
	Settings jsontext.Value // canonical; nil: none
}

// Loaded is a policy or a set of them, with all that came with it. Modules were
// neither scanned nor compiled.
type Loaded struct {
	Ref     string   // the file, or oci://REGISTRY/NAME@sha256:DIGEST
	Digest  [32]byte // SHA-256 of the module, or of the bundle's manifest
	Name    string   // as signed, or as the bundle says; "" of an unsigned module
	Version string
	// Rule is how the modules decide together; nil for a module by itself.
	Rule       *policywasm.Rule
	Modules    []Module         // 1 to 64, in the order in which they are asked
	References [][]byte         // reference values (CoRIM), with whatever signatures they have
	Verified   *signed.Verified // nil: unsigned
}

// Signers are the names that accepted signers give themselves, with their keys'
// thumbprints: for people.
func (l *Loaded) Signers() []string { return signers(l.Verified) }

func signers(v *signed.Verified) (out []string) {
	if v != nil {
		for _, s := range v.Signatures() {
			out = append(out, fmt.Sprintf("%s (%s)", printable(s.Signer), s.KeyID))
		}
	}
	return out
}

// Load finds a policy. A reference begins with oci:// or ends in
// @sha256:DIGEST; all else is a file, with a module or a bundle.
func Load(ctx context.Context, ref string, o Options) (*Loaded, error) {
	if IsRef(ref) {
		p, err := Pull(ctx, ref, o)
		if err != nil {
			return nil, err
		}
		return p.loaded(), nil
	}
	b, err := ReadFile(ref, o.Stdin, o.limits().Bundle)
	if err != nil {
		return nil, err
	}
	sigs, err := o.localSignatures(ref)
	if err != nil {
		return nil, err
	}
	p, err := open(ref, b, sigs, o.trust(), o.limits())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	return p.loaded(), nil
}

// localSignatures are those in the files given, and in FILE.cose if it exists.
func (o *Options) localSignatures(file string) ([][]byte, error) {
	if !o.Trust.Pinned() {
		return nil, nil
	}
	names := o.Signatures
	if len(names) == 0 && file != "-" {
		if _, err := os.Stat(file + ".cose"); err == nil {
			names = []string{file + ".cose"}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return ReadSignatures(names, o.Stdin)
}

// open reads a module or bundle, and verifies it if somebody is pinned.
func open(name string, b []byte, sigs [][]byte, t *signed.Trust, l signed.Limits) (*Pulled, error) {
	p := &Pulled{Ref: name, File: b, Signatures: sigs}
	var err error
	switch {
	case signed.IsModule(b):
		p.Digest = sha256.Sum256(b)
		if len(b) > signed.MaxModule {
			return nil, fmt.Errorf("a module of %d bytes; %d are allowed", len(b), signed.MaxModule)
		}
		if t != nil {
			p.Verified, err = signed.VerifyModule(b, sigs, t)
		}
	case signed.IsBundle(b):
		if p.Bundle, err = signed.OpenBundle(b, l); err != nil {
			return nil, err
		}
		p.Digest = p.Bundle.Digest()
		p.Signatures = append(p.Signatures, p.Bundle.Signatures()...)
		if t != nil {
			p.Verified, err = p.Bundle.Verify(t, sigs...)
		}
	default:
		return nil, errors.New("neither a WebAssembly module nor a bundle of policies; make one with tmcp policy build or tmcp policy bundle")
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// A Pulled is a module or bundle as one file.
type Pulled struct {
	Ref        string   // with the digest of the manifest in the registry
	File       []byte   // the module, or the bundle with its signatures in it
	Digest     [32]byte // as in [Loaded]
	Bundle     *signed.Bundle
	Signatures [][]byte         // all that were found, of whomever
	Verified   *signed.Verified // nil: unsigned
}

// Signers are as of [Loaded.Signers].
func (p *Pulled) Signers() []string { return signers(p.Verified) }

func (p *Pulled) loaded() *Loaded {
	l := &Loaded{Ref: p.Ref, Digest: p.Digest, Verified: p.Verified}
	if p.Verified != nil {
		s := p.Verified.Statement()
		l.Name, l.Version = s.Name, s.Version
	}
	if p.Bundle == nil {
		l.Modules = []Module{{Name: p.Ref, Bytes: p.File}}
		return l
	}
	m := p.Bundle.Manifest()
	l.Name, l.Version = m.Name, m.Version
	if r, err := signed.ParseRule(m.Rule); err == nil { // it was checked when the manifest was read
		l.Rule = &r
	}
	for _, policy := range m.Policies {
		mod := Module{Name: policy.Module, Bytes: p.Bundle.File(policy.Module)}
		if string(policy.Settings) != "null" {
			mod.Settings = policy.Settings
		}
		l.Modules = append(l.Modules, mod)
	}
	for _, path := range p.Bundle.Folder(signed.FolderReferences) {
		l.References = append(l.References, p.Bundle.File(path))
	}
	return l
}
