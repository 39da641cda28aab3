package dist

import (
	"errors"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trustedmcp/tmcp/policy-wasm/signed"
)

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.trustedmcp.policy.v1","config":{"mediaType":"application/vnd.wasm.config.v0+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[{"mediaType":"application/wasm","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}]}`))
	l := signed.DefaultLimits()
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseManifest(b, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest}, TypePolicy)
		if err != nil {
			if !errors.Is(err, ErrType) {
				t.Error(err)
			}
			return
		}
		kind, main, err := mainLayer(m, l)
		if err == nil && (main.Size < 1 || main.Size > signed.MaxModule || kind == signed.Module && len(m.Layers) != 1) {
			t.Errorf("%s %+v", kind, main)
		}
		if sum, err := sumOf(main.Digest); err == nil && digestOf(sum) != main.Digest {
			t.Errorf("%s is %x", main.Digest, sum)
		}
	})
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"oci://example.com/a/b@sha256:" + strings.Repeat("a", 64), "oci://localhost:5000/a:1", "a@b", "oci://[::1]:5000/a:1", "oci://example.com/a:1@sha256:" + strings.Repeat("0", 64)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, pinned, err := parseRef(s)
		if err != nil {
			if !errors.Is(err, ErrRef) {
				t.Error(err)
			}
			return
		}
		if ref.Registry == "" || ref.Repository == "" || ref.Reference == "" || strings.ContainsAny(ref.Host()+ref.Repository+ref.Reference, " /\\?#@\n") && !strings.Contains(ref.Repository, "/") {
			t.Errorf("%q: %+v", s, ref)
		}
		if pinned != "" {
			again, p, err := parseRef(pinnedRef(ref, pinned))
			if err != nil || again != ref || p != pinned || !IsRef(pinnedRef(ref, pinned)) {
				t.Errorf("%q: %+v, then %+v, %v", s, ref, again, err)
			}
		}
	})
}
