package dist

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"

	"github.com/trustedmcp/tmcp/policy-wasm/signed"
)

// Registry says how a registry is reached.
type Registry struct {
	// PlainHTTP speaks http to a registry that is not on this machine. Signatures
	// and digests are verified all the same; credentials are sent in the clear.
	PlainHTTP bool
	// TLS speaks https to a registry on this machine too.
	TLS bool
	// Credentials are asked for with HOST:PORT; nil: none. [DockerCredentials] are
	// those of the docker command.
	Credentials auth.CredentialFunc
	// TokenHosts may be given the credentials beside the registry itself, as
	// HOST[:PORT]: a registry names whom to fetch tokens from.
	TokenHosts []string
	Timeout    time.Duration     // of a whole pull or push; 0: a minute
	Transport  http.RoundTripper // nil: Go's, with the proxy of the environment
}

// DockerCredentials are those that docker login, podman login and others keep in
// DOCKER_CONFIG or ~/.docker/config.json, or that the helper which is named there
// knows. Nothing is ever written there.
func DockerCredentials() (auth.CredentialFunc, error) {
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return nil, fmt.Errorf("docker's configuration: %w", err)
	}
	return credentials.Credential(store), nil
}

const scheme = "oci://"

// ErrRef: a reference is not what one looks like.
var ErrRef = errors.New("want [oci://]REGISTRY/NAME@sha256:DIGEST, or oci://REGISTRY/NAME:TAG")

// IsRef reports whether s names something in a registry, by its spelling alone:
// it begins with oci://, or ends in @sha256: and 64 hex digits.
func IsRef(s string) bool {
	if strings.HasPrefix(s, scheme) {
		return true
	}
	_, d, ok := strings.Cut(s, "@")
	return ok && digest.Digest(d).Validate() == nil
}

// parseRef reads a reference. The digest is zero where a tag stands.
func parseRef(s string) (ref registry.Reference, pinned digest.Digest, err error) {
	bad := func(why error) error { return fmt.Errorf("reference %.300q: %w: %w", s, why, ErrRef) }
	if ref, err = registry.ParseReference(strings.TrimPrefix(s, scheme)); err != nil {
		return ref, "", bad(err)
	}
	switch d, err := ref.Digest(); {
	case err == nil && d.Algorithm() == digest.SHA256:
		pinned = d
	case err == nil:
		return ref, "", bad(fmt.Errorf("a digest of %s", d.Algorithm()))
	case ref.Reference == "":
		return ref, "", bad(errors.New("it has neither digest nor tag"))
	}
	return ref, pinned, nil
}

// pinnedRef is how the same is named for good.
func pinnedRef(ref registry.Reference, d digest.Digest) string {
	return scheme + ref.Registry + "/" + ref.Repository + "@" + d.String()
}

// A client is for one pull or push. It adds to oras-go's what a hostile registry
// calls for: bounds of requests, bytes and time, where credentials may go, and
// that http is for this machine.
type client struct {
	repo    *remote.Repository
	base    http.RoundTripper
	origin  url.URL // of the registry
	tokens  []string
	left    atomic.Int64 // bytes that may still be read
	budget  int64
	request atomic.Int64 // requests that may still be made
}

const (
	defaultTimeout = time.Minute
	maxHeaders     = 64 << 10 // bytes of a response's headers
	maxIndex       = 1 << 20  // bytes of a page of referrers
	maxPages       = 4        // of referrers
	maxManifest    = 1 << 20  // bytes of a manifest in a registry
	maxRedirects   = 4
)

func newClient(ref registry.Reference, r Registry, l signed.Limits) (*client, error) {
	repo := &remote.Repository{Reference: ref}
	host := ref.Host()
	repo.PlainHTTP = r.PlainHTTP || loopback(host) && !r.TLS
	repo.MaxMetadataBytes = maxIndex
	repo.ReferrerListMaxPages = maxPages
	repo.SkipReferrersGC = true // to delete is another right than to push
	c := &client{repo: repo, base: r.Transport, origin: url.URL{Scheme: "https", Host: strings.ToLower(host)}, tokens: r.TokenHosts}
	if repo.PlainHTTP {
		c.origin.Scheme = "http"
	}
	if ref.Registry == "docker.io" {
		c.tokens = append(slices.Clone(c.tokens), "auth.docker.io")
	}
	if c.base == nil {
		t, ok := http.DefaultTransport.(*http.Transport)
		if !ok {
			return nil, errors.New("http.DefaultTransport is another one's; give Transport")
		}
		t = t.Clone()
		t.MaxResponseHeaderBytes = maxHeaders
		t.DisableCompression = true // a digest is of what is sent
		c.base = t
	}
	c.budget = int64(l.Bundle) + int64(l.Manifest) + 8<<20
	c.left.Store(c.budget)
	c.request.Store(int64(3*l.Files) + 256)
	repo.Client = &auth.Client{
		Client: &http.Client{Transport: c, CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("more than %d redirects", maxRedirects)
			}
			return nil
		}},
		Header:     http.Header{"User-Agent": {"tmcp"}},
		Credential: c.credential(r.Credentials),
		Cache:      auth.NewSingleContextCache(),
		ClientID:   "tmcp",
	}
	return c, nil
}

// credential gives credentials of the registry itself only.
func (c *client) credential(f auth.CredentialFunc) auth.CredentialFunc {
	return func(ctx context.Context, hostport string) (auth.Credential, error) {
		if f == nil || !strings.EqualFold(hostport, c.origin.Host) {
			return auth.EmptyCredential, nil
		}
		return f(ctx, hostport)
	}
}

func (c *client) close() {
	if t, ok := c.base.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// loopback reports whether host[:port] is this machine, by its spelling: a name
// that resolves to it is not enough.
func loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || err == nil && a.IsLoopback()
}

// origin of a URL, with the port that the scheme means.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[strings.ToLower(u.Scheme)]
	}
	return strings.ToLower(u.Scheme + "://" + net.JoinHostPort(u.Hostname(), port))
}

// RoundTrip sees every request: those of redirects and for tokens too.
func (c *client) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.roundTrip(req)
	if err != nil && req.Body != nil {
		_ = req.Body.Close() // a RoundTripper must, also when it fails
	}
	return resp, err
}

func (c *client) roundTrip(req *http.Request) (*http.Response, error) {
	if c.request.Add(-1) < 0 {
		return nil, errors.New("the registry asks for too many requests")
	}
	same := origin(req.URL) == origin(&c.origin)
	switch strings.ToLower(req.URL.Scheme) {
	case "https":
	case "http":
		if c.origin.Scheme != "http" || !same && !loopback(req.URL.Host) {
			return nil, fmt.Errorf("the registry leads to http://%s, without protection", printable(req.URL.Host))
		}
	default:
		return nil, fmt.Errorf("the registry leads to a URL with the scheme %.20q", printable(req.URL.Scheme))
	}
	carries := req.Header.Get("Authorization") != "" || req.Body != nil && req.Body != http.NoBody
	if !same && carries && !slices.ContainsFunc(c.tokens, func(h string) bool {
		return origin(req.URL) == origin(&url.URL{Scheme: "https", Host: h})
	}) {
		return nil, fmt.Errorf("the registry %s wants credentials or content sent to %s: allow it with --token-host %[2]s if you know that host", c.origin.Host, printable(req.URL.Host))
	}
	resp, err := c.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.Body != nil {
		resp.Body = &meter{resp.Body, c}
	}
	return resp, nil
}

// A meter counts what is read of all responses together.
type meter struct {
	io.ReadCloser
	c *client
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if m.c.left.Add(-int64(n)) < 0 {
		return 0, fmt.Errorf("the registry sent more than %d bytes", m.c.budget)
	}
	return n, err
}

// within bounds a pull or push in time.
func (r *Registry) within(ctx context.Context) (context.Context, context.CancelFunc) {
	d := r.Timeout
	if d <= 0 {
		d = defaultTimeout
	}
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("%w, and %s are allowed", ErrTimeout, d))
}

// A remoteError is what failed at a registry. A registry's words in it are
// harmless to print.
type remoteError struct {
	ref string
	err error
}

func (e *remoteError) Error() string { // of several signatures each has a line
	return printable(e.ref) + ": " + printable(strings.ReplaceAll(e.err.Error(), "\n", "; "))
}
func (e *remoteError) Unwrap() error { return e.err }

func failed(ctx context.Context, ref string, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) && errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return &remoteError{ref, err}
}

// descriptorOf describes content.
func descriptorOf(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

func digestOf(sum [32]byte) digest.Digest {
	return digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(sum[:]))
}

// sumOf is the SHA-256 in a digest.
func sumOf(d digest.Digest) (sum [32]byte, err error) {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return sum, fmt.Errorf("the digest %.100q: want sha256 and 64 hex digits", d)
	}
	_, err = hex.Decode(sum[:], []byte(d.Encoded()))
	return sum, err
}

// read reads what is said to have that digest, and closes it.
func read(rc io.ReadCloser, sum [32]byte, limit int64) ([]byte, error) {
	defer rc.Close()
	b, err := io.ReadAll(io.LimitReader(rc, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("more than the %d bytes that were announced or are allowed", limit)
	}
	if sha256.Sum256(b) != sum {
		return nil, fmt.Errorf("%w: %d bytes with another SHA-256 than %x", ErrDigest, len(b), sum)
	}
	return b, nil
}

// ErrTimeout: a registry did not answer, or not to the end.
var ErrTimeout = errors.New("the registry takes too long")

// ErrDigest: a registry sent something else than was asked for.
var ErrDigest = errors.New("the registry sent something else")

// blob fetches content of known digest and size.
func (c *client) blob(ctx context.Context, sum [32]byte, size int64) ([]byte, error) {
	d := ocispec.Descriptor{Digest: digestOf(sum), Size: size}
	rc, err := c.repo.Blobs().Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	b, err := read(rc, sum, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Digest, err)
	}
	if int64(len(b)) != size {
		return nil, fmt.Errorf("%s: %w: %d bytes, and not %d", d.Digest, ErrDigest, len(b), size)
	}
	return b, nil
}

// manifest fetches a manifest by digest or tag.
func (c *client) manifest(ctx context.Context, ref string) ([]byte, ocispec.Descriptor, error) {
	desc, rc, err := c.repo.Manifests().FetchReference(ctx, ref)
	if err != nil {
		return nil, desc, err
	}
	sum, err := sumOf(desc.Digest)
	if err == nil && desc.Size > maxManifest {
		err = fmt.Errorf("a manifest of %d bytes; %d are allowed", desc.Size, maxManifest)
	}
	if err != nil {
		rc.Close()
		return nil, desc, err
	}
	b, err := read(rc, sum, maxManifest)
	if err != nil {
		return nil, desc, fmt.Errorf("manifest %s: %w", ref, err)
	}
	desc.Size = int64(len(b))
	return b, desc, nil
}
