package dist

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trustedmcp/tmcp/policy-wasm/signed"
)

// Pushed is what is in the registry now.
type Pushed struct {
	Ref        string   // with the digest of the manifest: what others pull
	Signatures []string // references of the signatures' manifests
}

// Push puts a module or bundle into a registry, with its signatures as
// referrers. The reference has a tag, or neither tag nor digest. Each signature
// must be over what is pushed; whose it is does not matter here. The same input
// gives the same digests.
func Push(ctx context.Context, ref string, file []byte, signatures [][]byte, o Options) (*Pushed, error) {
	p, err := open(ref, file, signatures, nil, o.limits())
	if err != nil {
		return nil, err
	}
	kind := signed.Module
	if p.Bundle != nil {
		kind = signed.Manifest
	}
	var sigs [][]byte
	for i, b := range p.Signatures {
		s, err := signed.Inspect(b)
		if err != nil {
			return nil, fmt.Errorf("signature %d: %w", i+1, err)
		}
		if s.Kind != kind || s.Digest != p.Digest {
			return nil, fmt.Errorf("signature %d: %w: it is over the %s %q version %q with SHA-256 %x, and this %s has %x", i+1, signed.ErrOther, s.Kind, s.Name, s.Version, s.Digest, kind, p.Digest)
		}
		if !slices.ContainsFunc(sigs, func(have []byte) bool { return bytes.Equal(have, b) }) {
			sigs = append(sigs, b)
		}
	}
	if len(sigs) > signed.MaxSignatures {
		return nil, fmt.Errorf("%d signatures; %d are allowed", len(sigs), signed.MaxSignatures)
	}
	parsed, pinned, err := parseRef(withTag(ref))
	if err != nil {
		return nil, err
	}
	if pinned != "" {
		return nil, fmt.Errorf("reference %.300q: the digest follows from what is pushed; give a tag", ref)
	}
	c, err := newClient(parsed, o.Registry, o.limits())
	if err != nil {
		return nil, err
	}
	defer c.close()
	ctx, cancel := o.Registry.within(ctx)
	defer cancel()
	a, err := artifactOf(p)
	if err != nil {
		return nil, err
	}
	desc, err := c.push(ctx, a, parsed.Reference)
	if err != nil {
		return nil, failed(ctx, ref, err)
	}
	out := &Pushed{Ref: pinnedRef(parsed, desc.Digest)}
	for _, s := range sigs {
		d, err := c.push(ctx, signatureArtifact(s, desc), "")
		if err != nil {
			return nil, failed(ctx, ref, fmt.Errorf("a signature: %w", err))
		}
		out.Signatures = append(out.Signatures, pinnedRef(parsed, d.Digest))
	}
	return out, nil
}

// withTag lets a name without tag and digest stand for the tag latest, as docker
// does.
func withTag(ref string) string {
	if strings.ContainsAny(ref[strings.LastIndexByte(ref, '/')+1:], ":@") {
		return ref
	}
	return ref + ":latest"
}

// An artifact is a manifest with the content of its blobs.
type artifact struct {
	manifest ocispec.Manifest
	blobs    [][]byte // the config and the layers
}

func (a *artifact) layer(mediaType, title string, b []byte) {
	d := descriptorOf(mediaType, b)
	if slices.ContainsFunc(a.manifest.Layers, func(have ocispec.Descriptor) bool { return have.Digest == d.Digest }) {
		return // a file may stand twice in a bundle
	}
	if title != "" {
		d.Annotations = map[string]string{ocispec.AnnotationTitle: title}
	}
	a.manifest.Layers = append(a.manifest.Layers, d)
	a.blobs = append(a.blobs, b)
}

func newArtifact(artifactType string) *artifact {
	return &artifact{manifest: ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
	}}
}

func (a *artifact) config(mediaType string, b []byte) {
	a.manifest.Config = descriptorOf(mediaType, b)
	a.blobs = append(a.blobs, b)
}

// wasmConfig is CNCF's config. Its time is fixed: what is the same has the same
// digest.
type wasmConfig struct {
	Created      string   `json:"created"`
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	LayerDigests []string `json:"layerDigests"`
}

const epoch = "1970-01-01T00:00:00Z"

func artifactOf(p *Pulled) (*artifact, error) {
	a := newArtifact(TypePolicy)
	title, version := "", ""
	if p.Bundle == nil {
		a.layer(TypeModule, "policy.wasm", p.File)
		if s, err := signed.ModuleStatement(p.File, "", ""); err == nil {
			title, version = s.Name, s.Version
		}
	} else {
		m := p.Bundle.Manifest()
		title, version = m.Name, m.Version
		for _, name := range slices.Sorted(maps.Keys(m.Files)) { // policies/ is the first folder
			a.layer(layerType(name), name, p.Bundle.File(name))
		}
		a.layer(TypeManifest, signed.ManifestPath, p.Bundle.ManifestBytes())
	}
	c := wasmConfig{Created: epoch, Architecture: "wasm", OS: "wasip1"}
	for _, l := range a.manifest.Layers {
		c.LayerDigests = append(c.LayerDigests, l.Digest.String())
	}
	b, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	a.config(TypeConfig, b)
	a.manifest.Annotations = map[string]string{ocispec.AnnotationCreated: epoch}
	if title != "" {
		a.manifest.Annotations[ocispec.AnnotationTitle] = title
		a.manifest.Annotations[ocispec.AnnotationVersion] = version
	}
	return a, nil
}

func layerType(name string) string {
	switch path.Dir(name) {
	case signed.FolderPolicies:
		return TypeModule
	case signed.FolderReferences:
		return TypeCoRIM
	}
	return TypeTests
}

func signatureArtifact(sig []byte, subject ocispec.Descriptor) *artifact {
	a := newArtifact(TypeSignature)
	// Some registries tell the type of an artifact by its config, as was done before
	// there was artifactType.
	a.config(TypeSignature, ocispec.DescriptorEmptyJSON.Data)
	a.layer(TypeCOSE, "", sig)
	a.manifest.Subject = &ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
	a.manifest.Annotations = map[string]string{ocispec.AnnotationCreated: epoch}
	return a
}

// push uploads what the registry does not have, and then the manifest.
func (c *client) push(ctx context.Context, a *artifact, tag string) (ocispec.Descriptor, error) {
	manifest, err := json.Marshal(a.manifest, json.Deterministic(true))
	if err == nil && len(manifest) > maxManifest {
		err = fmt.Errorf("a manifest of %d bytes; %d are allowed", len(manifest), maxManifest)
	}
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, b := range a.blobs {
		d := descriptorOf("application/octet-stream", b)
		if have, err := c.repo.Blobs().Exists(ctx, d); err != nil {
			return d, err
		} else if have {
			continue
		}
		if err := c.repo.Blobs().Push(ctx, d, bytes.NewReader(b)); err != nil {
			return d, fmt.Errorf("uploading %s: %w", d.Digest, err)
		}
	}
	d := descriptorOf(ocispec.MediaTypeImageManifest, manifest)
	if tag != "" {
		err = c.repo.Manifests().PushReference(ctx, d, bytes.NewReader(manifest), tag)
	} else {
		err = c.repo.Manifests().Push(ctx, d, bytes.NewReader(manifest))
	}
	if err != nil {
		return d, fmt.Errorf("uploading the manifest: %w", err)
	}
	return d, nil
}
