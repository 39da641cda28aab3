package dist

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trustedmcp/tmcp/policy-wasm/signed"
)

// Types of what is in a registry.
const (
	TypePolicy    = "application/vnd.trustedmcp.policy.v1"                // artifactType of a policy
	TypeSignature = "application/vnd.trustedmcp.policy.signature.v1+cose" // artifactType of a signature
	TypeConfig    = "application/vnd.wasm.config.v0+json"                 // CNCF's, of WebAssembly in registries
	TypeModule    = "application/wasm"                                    // layer: a module
	TypeManifest  = "application/vnd.trustedmcp.policy.manifest.v1+json"  // layer: manifest.json of a bundle
	TypeTests     = "application/vnd.trustedmcp.policy.tests.v1+json"     // layer
	TypeCoRIM     = "application/rim+cbor"                                // layer: reference values
	TypeCOSE      = "application/cose"                                    // layer of a signature
)

// ErrType: something in a registry is no policy.
var ErrType = errors.New("no policy")

// Pull fetches a policy and verifies it. A signer must be pinned, or the
// reference must have a digest and o.AllowUnsigned be set. Signatures are
// verified over digests, before a module is fetched.
func Pull(ctx context.Context, ref string, o Options) (*Pulled, error) {
	parsed, pinned, err := parseRef(ref)
	if err != nil {
		return nil, err
	}
	t := o.trust()
	if t == nil && (!o.AllowUnsigned || pinned == "") {
		return nil, fmt.Errorf("%s: %w: what comes from a registry needs a signature by a signer that you name (tmcp policy pull also takes --allow-unsigned, with a digest in the reference)", printable(ref), signed.ErrUnauthorized)
	}
	c, err := newClient(parsed, o.Registry, o.limits())
	if err != nil {
		return nil, err
	}
	defer c.close()
	ctx, cancel := o.Registry.within(ctx)
	defer cancel()
	p, err := c.pull(ctx, parsed.Reference, pinned, t, o.limits())
	if err != nil {
		return nil, failed(ctx, ref, err)
	}
	p.Ref = pinnedRef(parsed, digest.Digest(p.Ref))
	return p, nil
}

func (c *client) pull(ctx context.Context, ref string, pinned digest.Digest, t *signed.Trust, l signed.Limits) (*Pulled, error) {
	b, desc, err := c.manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	if pinned != "" && desc.Digest != pinned { // the library checks that too
		return nil, fmt.Errorf("%w: a manifest with the digest %s", ErrDigest, desc.Digest)
	}
	m, err := parseManifest(b, desc, TypePolicy)
	if err != nil {
		return nil, err
	}
	kind, main, err := mainLayer(m, l)
	if err != nil {
		return nil, err
	}
	sum, err := sumOf(main.Digest)
	if err != nil {
		return nil, err
	}
	p := &Pulled{Ref: desc.Digest.String(), Digest: sum}
	if t != nil {
		sigs, problems := c.signatures(ctx, desc, kind, sum)
		if ctx.Err() != nil {
			return nil, errors.Join(problems...)
		}
		p.Signatures = sigs
		if p.Verified, err = signed.Verify(kind, sum, sigs, t); err != nil {
			return nil, errors.Join(append([]error{err}, problems...)...)
		}
	}
	if p.File, err = c.blob(ctx, sum, main.Size); err != nil {
		return nil, err
	}
	if kind == signed.Module {
		if p.Verified != nil {
			err = p.Verified.Module(p.File)
		} else if !signed.IsModule(p.File) {
			err = fmt.Errorf("%w: the layer is no WebAssembly module", ErrType)
		}
		if err != nil {
			return nil, err
		}
		return p, nil
	}
	bm, err := signed.ParseManifest(p.File, l)
	if err != nil {
		return nil, err
	}
	if p.Verified != nil {
		if err := p.Verified.Bundle(bm); err != nil {
			return nil, err
		}
	}
	p.Bundle, err = signed.Assemble(p.File, func(_ string, f signed.File) ([]byte, error) {
		return c.blob(ctx, f.Sum(), int64(f.Size))
	}, p.Signatures, l)
	if err != nil {
		return nil, err
	}
	p.File = p.Bundle.Bytes()
	return p, nil
}

// parseManifest reads an image manifest with that artifactType.
func parseManifest(b []byte, desc ocispec.Descriptor, artifactType string) (*ocispec.Manifest, error) {
	if desc.MediaType != ocispec.MediaTypeImageManifest {
		return nil, fmt.Errorf("%w: the manifest is of type %.100q; want %s", ErrType, desc.MediaType, ocispec.MediaTypeImageManifest)
	}
	m := &ocispec.Manifest{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%w: manifest: %w", ErrType, err)
	}
	switch {
	case m.SchemaVersion != 2 || m.MediaType != ocispec.MediaTypeImageManifest:
		return nil, fmt.Errorf("%w: the manifest says that it is of type %.100q", ErrType, m.MediaType)
	case m.ArtifactType != artifactType:
		return nil, fmt.Errorf("%w: the artifact is of type %.100q; want %s", ErrType, m.ArtifactType, artifactType)
	}
	return m, nil
}

// mainLayer is what is signed: the module, or the manifest of a bundle.
func mainLayer(m *ocispec.Manifest, l signed.Limits) (signed.Kind, ocispec.Descriptor, error) {
	if n := len(m.Layers); n < 1 || n > l.Files+1 {
		return "", ocispec.Descriptor{}, fmt.Errorf("%w: %d layers; want 1 to %d", ErrType, n, l.Files+1)
	}
	kind, limit, main := signed.Module, int64(signed.MaxModule), m.Layers[0]
	if i := slices.IndexFunc(m.Layers, func(d ocispec.Descriptor) bool { return d.MediaType == TypeManifest }); i >= 0 {
		kind, limit, main = signed.Manifest, int64(l.Manifest), m.Layers[i]
	} else if len(m.Layers) > 1 || main.MediaType != TypeModule {
		return "", main, fmt.Errorf("%w: want one layer of type %s, or one of type %s", ErrType, TypeModule, TypeManifest)
	}
	if main.Size < 1 || main.Size > limit {
		return "", main, fmt.Errorf("a layer of %d bytes; 1 to %d are allowed", main.Size, limit)
	}
	return kind, main, nil
}

var errEnough = errors.New("enough")

// signatures are those that refer to a manifest and are over what it holds.
// Anybody may have added some: what is wrong with one is no reason to stop, and is
// returned beside the rest.
func (c *client) signatures(ctx context.Context, subject ocispec.Descriptor, kind signed.Kind, sum [32]byte) (sigs [][]byte, problems []error) {
	var refs []ocispec.Descriptor
	err := c.repo.Referrers(ctx, subject, TypeSignature, func(page []ocispec.Descriptor) error {
		refs = append(refs, page...)
		if len(refs) >= signed.MaxSignatures {
			refs = refs[:signed.MaxSignatures]
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		problems = append(problems, fmt.Errorf("looking for signatures: %w", err))
	}
	for _, r := range refs {
		if len(sigs) >= signed.MaxSignatures || ctx.Err() != nil {
			break
		}
		more, err := c.signature(ctx, r, subject)
		if err != nil {
			problems = append(problems, fmt.Errorf("signature %.80s: %w", r.Digest, err))
			continue
		}
		for _, b := range more {
			s, err := signed.Inspect(b)
			if err == nil && (s.Kind != kind || s.Digest != sum) {
				err = fmt.Errorf("%w: it is over the %s %q version %q with SHA-256 %x", signed.ErrOther, s.Kind, s.Name, s.Version, s.Digest)
			}
			if err != nil {
				problems = append(problems, fmt.Errorf("signature %.80s: %w", r.Digest, err))
				continue
			}
			sigs = append(sigs, b)
		}
	}
	return sigs[:min(len(sigs), signed.MaxSignatures)], problems
}

func (c *client) signature(ctx context.Context, ref, subject ocispec.Descriptor) ([][]byte, error) {
	if _, err := sumOf(ref.Digest); err != nil {
		return nil, err
	}
	b, desc, err := c.manifest(ctx, ref.Digest.String())
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(b, desc, TypeSignature)
	if err != nil {
		return nil, err
	}
	if m.Subject == nil || m.Subject.Digest != subject.Digest {
		return nil, fmt.Errorf("%w: it is of another subject", ErrType)
	}
	if len(m.Layers) != 1 || m.Layers[0].MediaType != TypeCOSE || m.Layers[0].Size < 1 || m.Layers[0].Size > signed.MaxSignature {
		return nil, fmt.Errorf("%w: want one layer of type %s, of 1 to %d bytes", ErrType, TypeCOSE, signed.MaxSignature)
	}
	sum, err := sumOf(m.Layers[0].Digest)
	if err != nil {
		return nil, err
	}
	if b, err = c.blob(ctx, sum, m.Layers[0].Size); err != nil {
		return nil, err
	}
	return signed.Split(b)
}
