package protocol

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"net/netip"
	"net/url"
	"time"

	"github.com/veraison/go-cose"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// An Identity is the long-lived key by which a party is known, and the URI by
// which it is called. It signs key objects; it never decrypts anything.
type Identity struct {
	uri    string
	public crypto.PublicKey
	alg    cose.Algorithm
	signer cose.Signer
	key    crypto.Signer
	chain  []*x509.Certificate
}

// NewIdentity makes an identity of a private key. uri is what peers dial
// (https://host/mcp) or another name that they expect (spiffe://…). Without a
// chain peers must pin the key; with one (leaf first) they may verify it to
// their roots. Ed25519, ECDSA P-256 and P-384, and with a chain RSA of at least
// 2048 bits are possible.
func NewIdentity(uri string, key crypto.Signer, chain ...*x509.Certificate) (*Identity, error) {
	if err := checkURI(uri); err != nil {
		return nil, err
	}
	alg, err := algorithmOf(key.Public())
	if err != nil {
		return nil, err
	}
	if alg == cose.AlgorithmPS256 && len(chain) == 0 {
		return nil, fail(SignatureInvalid, "an RSA identity needs an X.509 chain")
	}
	if len(chain) > 0 {
		if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(chain[0].PublicKey) {
			return nil, fail(SignatureInvalid, "the chain's first certificate is not for this private key")
		}
	}
	signer, err := cose.NewSigner(alg, key)
	if err != nil {
		return nil, fail(SignatureInvalid, "identity key: %v", err)
	}
	return &Identity{uri: uri, public: key.Public(), alg: alg, signer: signer, key: key, chain: chain}, nil
}

func checkURI(uri string) error {
	if u, err := url.Parse(uri); err != nil || u.Scheme == "" || (u.Host == "" && u.Opaque == "") {
		return fail(IdentityMismatch, "identity %.200q is not an absolute URI", uri)
	}
	return nil
}

// GenerateIdentity makes an identity with a new Ed25519 key.
func GenerateIdentity(uri string) (*Identity, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return NewIdentity(uri, key)
}

// Signer is the identity's private key, for other protocols under the same name.
// What it signs must never be taken for a key object: see spec section 5.1.
func (id *Identity) Signer() crypto.Signer { return id.key }

// URI is the name that peers dial or expect.
func (id *Identity) URI() string { return id.uri }

// Thumbprint names the public key; see [PublicKeyThumbprint].
func (id *Identity) Thumbprint() Thumbprint {
	t, err := PublicKeyThumbprint(id.public)
	if err != nil { // RSA has no COSE_Key here; its certificate is what peers trust
		return Thumbprint(sha256.Sum256(id.chain[0].RawSubjectPublicKeyInfo))
	}
	return t
}

func algorithmOf(pub crypto.PublicKey) (cose.Algorithm, error) {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		return cose.AlgorithmEdDSA, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return cose.AlgorithmES256, nil
		case elliptic.P384():
			return cose.AlgorithmES384, nil
		}
	case *rsa.PublicKey:
		if k.N.BitLen() >= 2048 {
			return cose.AlgorithmPS256, nil
		}
		return 0, fail(SignatureInvalid, "an RSA key of %d bits; at least 2048 are required", k.N.BitLen())
	}
	// TMCP-5.2-1: A verifier MUST refuse every other algorithm.
	return 0, fail(SignatureInvalid, "a key of type %T; use Ed25519, ECDSA P-256 or P-384", pub)
}

// verifySignature checks a signature made with the algorithm of the key's kind.
func verifySignature(pub crypto.PublicKey, content, sig []byte) error {
	alg, err := algorithmOf(pub)
	if err != nil {
		return err
	}
	v, err := cose.NewVerifier(alg, pub)
	if err != nil {
		return fail(SignatureInvalid, "%v", err)
	}
	if err := v.Verify(content, sig); err != nil {
		return fail(SignatureInvalid, "%v", err)
	}
	return nil
}

// A Thumbprint names a public key: SHA-256 over its COSE_Key with the required
// members only, in deterministic CBOR (RFC 9679). 32 bytes.
type Thumbprint [sha256.Size]byte

// String is the thumbprint as base64url.
func (t Thumbprint) String() string { return Base64(t[:]) }

// ParseThumbprint reads what [Thumbprint.String] writes.
func ParseThumbprint(s string) (Thumbprint, error) {
	b, err := ParseBase64(s)
	if err != nil || len(b) != sha256.Size {
		return Thumbprint{}, fail(IdentityMismatch, "key thumbprint %.80q: want 43 characters of base64url", s)
	}
	return Thumbprint(b), nil
}

// PublicKeyThumbprint names an Ed25519 or ECDSA public key.
func PublicKeyThumbprint(pub crypto.PublicKey) (Thumbprint, error) {
	b, err := appendCOSEKey(nil, pub)
	if err != nil {
		return Thumbprint{}, err
	}
	return sha256.Sum256(b), nil
}

// appendCOSEKey appends a COSE_Key (RFC 9052 section 7) with its required
// members: {1: 1, -1: 6, -2: x} or {1: 2, -1: crv, -2: x, -3: y}.
func appendCOSEKey(b []byte, pub crypto.PublicKey) ([]byte, error) {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		b = dcbor.AppendMap(b, 3)
		b = dcbor.AppendUint(dcbor.AppendUint(b, 1), 1)
		b = dcbor.AppendUint(dcbor.AppendInt(b, -1), 6)
		return dcbor.AppendBytes(dcbor.AppendInt(b, -2), k), nil
	case *ecdsa.PublicKey:
		point, err := k.Bytes() // 4 ‖ x ‖ y
		if err != nil {
			return nil, fail(SignatureInvalid, "ECDSA key: %v", err)
		}
		crv, size := uint64(1), 32
		if k.Curve == elliptic.P384() {
			crv, size = 2, 48
		} else if k.Curve != elliptic.P256() {
			return nil, fail(SignatureInvalid, "ECDSA keys are of P-256 or P-384")
		}
		b = dcbor.AppendMap(b, 4)
		b = dcbor.AppendUint(dcbor.AppendUint(b, 1), 2)
		b = dcbor.AppendUint(dcbor.AppendInt(b, -1), crv)
		b = dcbor.AppendBytes(dcbor.AppendInt(b, -2), point[1:1+size])
		return dcbor.AppendBytes(dcbor.AppendInt(b, -3), point[1+size:]), nil
	}
	return nil, fail(SignatureInvalid, "a key of type %T has no COSE_Key here", pub)
}

// ParseKey reads a COSE_Key (RFC 9052 section 7) of Ed25519 or ECDSA P-256 or P-384
// with its required members only, in deterministic CBOR: the form of [Binding.Key].
func ParseKey(coseKey []byte) (crypto.PublicKey, error) { return parseCOSEKey(coseKey) }

// parseCOSEKey reads exactly what appendCOSEKey writes.
func parseCOSEKey(b []byte) (crypto.PublicKey, error) {
	r := dcbor.NewReader(b)
	var kty, crv uint64
	var x, y []byte
	for range r.Map() {
		switch r.Int() {
		case 1:
			kty = r.Uint()
		case -1:
			crv = r.Uint()
		case -2:
			x = r.Bytes()
		case -3:
			y = r.Bytes()
		default:
			return nil, fail(KeyObjectInvalid, "COSE_Key: a member beyond the required ones")
		}
		if r.Err() != nil {
			break
		}
	}
	if err := r.Done(); err != nil {
		return nil, fail(KeyObjectInvalid, "COSE_Key: %v", err)
	}
	var pub crypto.PublicKey
	switch {
	case kty == 1 && crv == 6 && len(x) == ed25519.PublicKeySize:
		pub = ed25519.PublicKey(x)
	case kty == 2 && (crv == 1 || crv == 2):
		curve := elliptic.P256()
		if crv == 2 {
			curve = elliptic.P384()
		}
		k, err := ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...))
		if err != nil {
			return nil, fail(KeyObjectInvalid, "COSE_Key: %v", err)
		}
		pub = k
	default:
		return nil, fail(KeyObjectInvalid, "COSE_Key: kty %d with crv %d", kty, crv)
	}
	again, err := appendCOSEKey(nil, pub)
	if err != nil || !bytes.Equal(again, b) {
		return nil, fail(KeyObjectInvalid, "COSE_Key: not in its one deterministic form")
	}
	return pub, nil
}

// An Anchor decides whether a public key speaks for an identity. Its
// implementations are those of [Pin], [Roots] and [AnyOf].
type Anchor interface {
	// verify fails unless pub, with the chain that came along, speaks for uri.
	verify(uri string, pub crypto.PublicKey, chain []*x509.Certificate, now time.Time) error
}

type pins []Thumbprint

// Pin trusts just these keys, whatever certificates come with them.
func Pin(keys ...Thumbprint) Anchor { return pins(keys) }

func (p pins) verify(uri string, pub crypto.PublicKey, _ []*x509.Certificate, _ time.Time) error {
	// TMCP-5.4-8: A verifier that trusts a pinned key MUST compare the thumbprint of the key that
	// made the signature with the pinned one, and end with `identity-mismatch` where they differ.
	got, err := PublicKeyThumbprint(pub)
	if err != nil {
		return err
	}
	for _, want := range p {
		if want == got {
			return nil
		}
	}
	return fail(IdentityMismatch, "the identity key %s of %s is not one of the %d pinned", got, uri, len(p))
}

type roots struct{ pool *x509.CertPool }

// Roots trusts keys with a certificate chain to one of the pool's roots, whose
// leaf names the identity: by host for https and http URIs, by URI for others
// (spiffe). Certificates of the chain that is shown are used only as
// intermediates.
func Roots(pool *x509.CertPool) Anchor { return roots{pool} }

func (a roots) verify(uri string, _ crypto.PublicKey, chain []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 {
		return fail(IdentityMismatch, "%s shows a bare key and no certificate; pin the key or have it certified", uri)
	}
	u, err := url.Parse(uri)
	if err != nil {
		return fail(IdentityMismatch, "identity: %v", err)
	}
	opts := x509.VerifyOptions{
		// TMCP-5.4-9: A verifier that trusts roots MUST build and verify the certificate chain at
		// the time given, to those roots alone.
		// TMCP-5.4-11: A verifier MUST take trust anchors from local policy only, never from the
		// key object or from anything that came with it.
		Roots: a.pool, Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	if a.pool == nil { // a nil pool would mean the system's roots
		opts.Roots = x509.NewCertPool()
	}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(opts); err != nil {
		return fail(IdentityMismatch, "certificate of %s: %v", uri, err)
	}
	if u.Scheme == "https" || u.Scheme == "http" {
		host := u.Hostname()
		if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() {
			host = "[" + host + "]"
		}
		// TMCP-5.4-10: for `https` and `http` a DNS or IP subject alternative name that matches
		// the host
		if err := chain[0].VerifyHostname(host); err != nil {
			return fail(IdentityMismatch, "certificate of %s: %v", uri, err)
		}
		return nil
	}
	// TMCP-5.4-10: for `spiffe` a URI subject alternative name equal to the identity.
	for _, san := range chain[0].URIs {
		if san.String() == uri {
			return nil
		}
	}
	return fail(IdentityMismatch, "the certificate names none of its URIs %s", uri)
}

type anyOf []Anchor

// AnyOf trusts what one of the anchors trusts.
func AnyOf(anchors ...Anchor) Anchor { return anyOf(anchors) }

func (a anyOf) verify(uri string, pub crypto.PublicKey, chain []*x509.Certificate, now time.Time) error {
	err := error(fail(IdentityMismatch, "no anchor is configured for %s", uri))
	for _, anchor := range a {
		if err = anchor.verify(uri, pub, chain, now); err == nil {
			return nil
		}
	}
	return err
}
