package protocol

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/hpke"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"time"

	"github.com/veraison/go-cose"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// Claim keys of a key object (spec chapter "Registries"). Those below -65536
// are of the private use range of CWT claims.
const (
	claimSub      = 2   // tstr: identity, the URI that peers dial
	claimExp      = 4   // uint: seconds since 1970
	claimNbf      = 5   // uint: seconds since 1970
	claimIat      = 6   // uint: seconds since 1970
	claimNonce    = 10  // bstr 8..64: the peer's nonce (EAT)
	claimProfile  = 265 // tstr: KeyProfile (EAT)
	claimCMW      = 299 // any: evidence (RFC 9999)
	claimRole     = -70000
	claimKeys     = -70001
	claimTrust    = -70002
	claimSettings = -70003
	claimToolSet  = -70004
	claimDemands  = -70005
	claimIDKey    = -70006
	claimAttKey   = -70007
	claimFresh    = -70008 // array [kind, value]: of the evidence, see Freshness
	claimConfig   = -70009 // bstr 32: configuration digest, see Attestation
	claimSealing  = -70010 // bstr 32: what a sender of a sealed file signs, see SignSealing
)

const (
	tagCOSESign = 98
	hdrAlg      = 1
	hdrKid      = 4
	hdrTyp      = 16
	hdrX5Chain  = 33

	kidIdentity = "identity"
	kidAttested = "attested"

	maxKeyObject = 128 << 10        // bytes
	maxRSABits   = 8192             // larger keys cost a verifier seconds
	maxValidity  = time.Hour        // exp - nbf
	clockSkew    = 60 * time.Second // for nbf only: an expired object is expired
)

// Bounds of a nonce in bytes (EAT, RFC 9711 section 4.1).
const (
	MinNonce = 8
	MaxNonce = 64
)

// hpkeKey is a public key with its suite.
type hpkeKey struct {
	suite  Suite
	public hpke.PublicKey
}

// claims is the content of a key object. Only code that holds a verified
// object, or makes one, sees it.
type claims struct {
	purpose     *purpose // nil: forCalls
	identity    string
	notBefore   time.Time
	expires     time.Time
	issued      time.Time
	nonce       []byte
	role        Role
	keys        []hpkeKey // ascending by suite
	profile     Profile
	settings    Digest
	toolSet     []byte     // nil or 32 bytes
	demands     []byte     // nil or 32 bytes
	identityKey []byte     // COSE_Key; nil when the identity is an X.509 chain
	attestedKey []byte     // COSE_Key; nil without a TEE
	evidence    []byte     // one CBOR item, a CMW; nil without a TEE
	freshness   *Freshness // of the evidence; nil without a TEE
	config      []byte     // nil or 32 bytes
}

// A purpose is what a signed claims-set is for. Its three names keep one that was
// made for one purpose from being taken for another.
type purpose struct {
	typ      string        // COSE typ, in the protected header
	label    string        // external_aad of the signatures
	profile  string        // eat_profile
	digest   int64         // claim with a digest of what the set goes with; 0: none
	validity time.Duration // exp - nbf at most
}

// forCalls is that of the key objects of chapter 5.
var forCalls = &purpose{mediaTypeKeyCOSE, labelKey, KeyProfile, claimSettings, maxValidity}

// A keySigner signs key objects beside the identity: the attested key.
type keySigner struct {
	alg    cose.Algorithm
	signer cose.Signer
}

func (c *claims) use() *purpose { return cmp.Or(c.purpose, forCalls) }

// encode writes the claims-set, a map in deterministic order.
func (c *claims) encode() []byte {
	type pair struct{ key, val []byte }
	var pairs []pair
	add := func(key int64, val []byte) { pairs = append(pairs, pair{dcbor.AppendInt(nil, key), val}) }
	add(claimSub, dcbor.AppendText(nil, c.identity))
	add(claimExp, dcbor.AppendInt(nil, c.expires.Unix()))
	add(claimNbf, dcbor.AppendInt(nil, c.notBefore.Unix()))
	add(claimIat, dcbor.AppendInt(nil, c.issued.Unix()))
	add(claimProfile, dcbor.AppendText(nil, c.use().profile))
	add(claimRole, dcbor.AppendUint(nil, uint64(c.role)))
	keys := dcbor.AppendArray(nil, len(c.keys))
	for _, k := range c.keys {
		keys = dcbor.AppendArray(keys, 2)
		keys = dcbor.AppendUint(keys, uint64(k.suite))
		keys = dcbor.AppendBytes(keys, k.public.Bytes())
	}
	add(claimKeys, keys)
	add(claimTrust, dcbor.AppendText(nil, string(c.profile)))
	if claim := c.use().digest; claim != 0 {
		add(claim, dcbor.AppendBytes(nil, c.settings[:]))
	}
	for _, opt := range []struct {
		key int64
		val []byte
	}{{claimNonce, c.nonce}, {claimToolSet, c.toolSet}, {claimDemands, c.demands}, {claimConfig, c.config}} {
		if opt.val != nil {
			add(opt.key, dcbor.AppendBytes(nil, opt.val))
		}
	}
	for _, opt := range []struct {
		key  int64
		item []byte
	}{{claimIDKey, c.identityKey}, {claimAttKey, c.attestedKey}, {claimCMW, c.evidence}} {
		if opt.item != nil {
			add(opt.key, opt.item)
		}
	}
	if c.freshness != nil {
		add(claimFresh, c.freshness.append(nil))
	}
	slices.SortFunc(pairs, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	b := dcbor.AppendMap(nil, len(pairs))
	for _, p := range pairs {
		b = append(append(b, p.key...), p.val...)
	}
	return b
}

// decodeClaims reads a claims-set strictly. Claims it does not know are checked
// for well-formedness and ignored.
func decodeClaims(b []byte, use *purpose) (*claims, error) {
	r := dcbor.NewReader(b)
	whole := dcbor.NewReader(b)
	// TMCP-5.1-1: A key object MUST be dCBOR throughout, including the byte strings that wrap
	// protected headers and payload.
	whole.Skip() // sorted, unique keys and deterministic all the way down
	if err := whole.Done(); err != nil {
		return nil, fail(KeyObjectInvalid, "claims-set: %v", err)
	}
	c := &claims{purpose: use}
	var profile string
	var have [11]bool
	have[8] = use.digest == 0
	for range r.Map() {
		if k := r.PeekMajor(); k != 0 && k != 1 {
			r.Skip()
			r.Skip()
			continue
		}
		switch claim := r.Int(); claim {
		case claimSub:
			c.identity, have[0] = r.Text(), true
		case claimExp:
			c.expires, have[1] = seconds(r), true
		case claimNbf:
			c.notBefore, have[2] = seconds(r), true
		case claimIat:
			c.issued, have[3] = seconds(r), true
		case claimNonce:
			if c.nonce = r.Bytes(); r.Err() == nil && (len(c.nonce) < MinNonce || len(c.nonce) > MaxNonce) {
				return nil, fail(KeyObjectInvalid, "eat_nonce of %d bytes, want %d to %d", len(c.nonce), MinNonce, MaxNonce)
			}
		case claimProfile:
			profile, have[4] = r.Text(), true
		case claimRole:
			c.role, have[5] = Role(min(r.Uint(), 255)), true
		case claimKeys:
			if err := c.decodeKeys(r); err != nil {
				return nil, err
			}
			have[6] = true
		case claimTrust:
			c.profile, have[7] = Profile(r.Text()), true
		case claimSettings, claimSealing:
			if claim != use.digest {
				r.Skip()
				break
			}
			copy(c.settings[:], r.BytesN(len(c.settings)))
			have[8] = true
		case claimToolSet:
			c.toolSet = r.BytesN(sha256.Size)
		case claimDemands:
			c.demands = r.BytesN(sha256.Size)
		case claimIDKey:
			c.identityKey = r.Skip()
		case claimAttKey:
			c.attestedKey = r.Skip()
		case claimFresh:
			c.freshness = &Freshness{}
			c.freshness.read(r)
			if err := c.freshness.check(); r.Err() == nil && err != nil {
				return nil, err
			}
		case claimConfig:
			c.config = r.BytesN(sha256.Size)
		case claimCMW:
			c.evidence = r.Skip()
		default:
			r.Skip()
		}
		if r.Err() != nil {
			break
		}
	}
	if err := r.Done(); err != nil {
		return nil, fail(KeyObjectInvalid, "claims-set: %v", err)
	}
	// TMCP-5.3-7: A verifier MUST refuse a key object that lacks one of the claims 2, 4, 5, 6,
	// 265, -70000, -70001, -70002 and -70003, or in which a known claim has the wrong type.
	// TMCP-5.3-1: The claims `exp`, `nbf` and `iat` MUST be present.
	for i, name := range []string{"sub", "exp", "nbf", "iat", "eat_profile", "role", "keys", "profile", "settings digest"} {
		if !have[i] {
			return nil, fail(KeyObjectInvalid, "claim %s is missing", name)
		}
	}
	// TMCP-5.3-2: A verifier MUST refuse a key object with another `eat_profile`.
	if profile != use.profile {
		return nil, fail(KeyObjectInvalid, "eat_profile is %.100q, want %q", profile, use.profile)
	}
	// TMCP-5.3-3: The claim `keys` of a server MUST hold a key for suite 1
	if c.role == RoleServer && (len(c.keys) == 0 || c.keys[0].suite != SuiteHybrid) {
		return nil, fail(KeyObjectInvalid, "no public key for the mandatory suite %v", SuiteHybrid)
	}
	return c, nil
}

func seconds(r *dcbor.Reader) time.Time {
	return time.Unix(int64(min(r.Uint(), 1<<40)), 0)
}

func (c *claims) decodeKeys(r *dcbor.Reader) error {
	last := uint64(0)
	for range r.Array() {
		r.ArrayN(2)
		number, public := r.Uint(), r.Bytes()
		if r.Err() != nil {
			return nil // reported by the caller
		}
		// TMCP-5.3-3: at most one for each suite, in ascending order.
		if number <= last {
			return fail(KeyObjectInvalid, "keys are not in ascending order of suites")
		}
		last = number
		suite := Suite(min(number, 255))
		if !suite.valid() {
			// TMCP-5.3-5: A verifier MUST ignore entries of suites that it does not know.
			continue // a suite of a later version
		}
		// TMCP-5.3-4: A verifier MUST refuse a public key whose length or value its KEM does not
		// allow.
		pub, err := suite.kem().NewPublicKey(public)
		if err != nil {
			return fail(KeyObjectInvalid, "public key for %v: %v", suite, err)
		}
		c.keys = append(c.keys, hpkeKey{suite, pub})
	}
	return nil
}

// sign makes the key object: COSE_Sign (RFC 9052 section 4.1) over the claims,
// by the identity key and, when there is one, the attested key.
func (c *claims) sign(id *Identity, attested *keySigner) ([]byte, error) {
	payload := c.encode()
	body := dcbor.AppendMap(nil, 1)
	body = dcbor.AppendText(dcbor.AppendUint(body, hdrTyp), c.use().typ)

	b := dcbor.AppendTag(nil, tagCOSESign)
	b = dcbor.AppendArray(b, 4)
	b = dcbor.AppendBytes(b, body)
	b = dcbor.AppendMap(b, 0)
	b = dcbor.AppendBytes(b, payload)
	n := 1
	if attested != nil {
		n = 2
	}
	b = dcbor.AppendArray(b, n)
	add := func(alg cose.Algorithm, kid string, chain []*x509.Certificate, signer cose.Signer) error {
		prot := signatureHeader(alg, kid, chain)
		sig, err := signer.Sign(rand.Reader, sigStructure(c.use(), body, prot, payload))
		if err != nil {
			return fail(SignatureInvalid, "signing the key object (%s): %v", kid, err)
		}
		b = dcbor.AppendArray(b, 3)
		b = dcbor.AppendBytes(b, prot)
		b = dcbor.AppendMap(b, 0)
		b = dcbor.AppendBytes(b, sig)
		return nil
	}
	if err := add(id.alg, kidIdentity, id.chain, id.signer); err != nil {
		return nil, err
	}
	if attested != nil {
		if err := add(attested.alg, kidAttested, nil, attested.signer); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func signatureHeader(alg cose.Algorithm, kid string, chain []*x509.Certificate) []byte {
	n := 2
	if len(chain) > 0 {
		n = 3
	}
	b := dcbor.AppendMap(nil, n)
	b = dcbor.AppendInt(dcbor.AppendUint(b, hdrAlg), int64(alg))
	b = dcbor.AppendBytes(dcbor.AppendUint(b, hdrKid), []byte(kid))
	switch {
	case len(chain) == 1:
		b = dcbor.AppendBytes(dcbor.AppendUint(b, hdrX5Chain), chain[0].Raw)
	case len(chain) > 1:
		b = dcbor.AppendArray(dcbor.AppendUint(b, hdrX5Chain), len(chain))
		for _, c := range chain {
			b = dcbor.AppendBytes(b, c.Raw)
		}
	}
	return b
}

// sigStructure is what is signed: RFC 9052 section 4.4, context "Signature",
// with the label as externally supplied data.
func sigStructure(use *purpose, body, prot, payload []byte) []byte {
	b := dcbor.AppendArray(nil, 5)
	b = dcbor.AppendText(b, "Signature")
	b = dcbor.AppendBytes(b, body)
	b = dcbor.AppendBytes(b, prot)
	// TMCP-5.1-4: Signatures MUST be computed with the bytes of L`"key"` as external_aad.
	b = dcbor.AppendBytes(b, []byte(use.label))
	return dcbor.AppendBytes(b, payload)
}

// signature is one entry of a COSE_Sign's signatures.
type signature struct {
	prot  []byte
	alg   cose.Algorithm
	kid   string
	chain []*x509.Certificate
	sig   []byte
}

func (s *signature) verify(pub crypto.PublicKey, o *sealedClaims) error {
	want, err := algorithmOf(pub)
	if err != nil {
		return err
	}
	// TMCP-5.2-2: A verifier MUST take the algorithm from the kind of the trusted key and refuse a
	// signature whose `alg` says otherwise.
	if want != s.alg {
		return fail(SignatureInvalid, "%s signature: algorithm %v with a key for %v", s.kid, s.alg, want)
	}
	v, err := cose.NewVerifier(s.alg, pub)
	if err != nil {
		return fail(SignatureInvalid, "%s signature: %v", s.kid, err)
	}
	if err := v.Verify(sigStructure(o.use, o.body, s.prot, o.payload), s.sig); err != nil {
		return fail(SignatureInvalid, "%s signature: %v", s.kid, err)
	}
	return nil
}

// sealedClaims is a key object taken apart and not yet verified.
type sealedClaims struct {
	use           *purpose
	body, payload []byte
	sigs          []signature
}

// splitKeyObject reads the outer structure strictly: every item deterministic,
// no header beyond the known ones, one or two signatures in their order.
func splitKeyObject(b []byte, use *purpose) (*sealedClaims, error) {
	// TMCP-5.1-5: A verifier MUST refuse a key object longer than 128 KiB, before it decodes it.
	if len(b) > maxKeyObject {
		return nil, fail(KeyObjectInvalid, "%d bytes, the limit is %d", len(b), maxKeyObject)
	}
	r := dcbor.NewReader(b)
	o := &sealedClaims{use: use}
	r.Tag(tagCOSESign)
	r.ArrayN(4)
	o.body = r.Bytes()
	emptyMap(r)
	o.payload = r.Bytes()
	n := r.Array()
	if r.Err() == nil && n != 1 && n != 2 {
		return nil, fail(KeyObjectInvalid, "%d signatures, want 1 or 2", n)
	}
	for i := range n {
		r.ArrayN(3)
		s := signature{prot: r.Bytes()}
		emptyMap(r)
		s.sig = r.Bytes()
		if r.Err() != nil {
			break
		}
		if err := s.decodeHeader(); err != nil {
			return nil, err
		}
		// TMCP-5.2-3: A verifier MUST refuse a key object whose signatures are not named
		// `identity` and, where there is a second, `attested`, in this order.
		if want := []string{kidIdentity, kidAttested}[i]; s.kid != want {
			return nil, fail(KeyObjectInvalid, "signature %d has key id %.20q, want %q", i, s.kid, want)
		}
		o.sigs = append(o.sigs, s)
	}
	if err := r.Done(); err != nil {
		return nil, fail(KeyObjectInvalid, "COSE_Sign: %v", err)
	}
	// TMCP-5.1-2: The protected header MUST hold exactly `typ` (16) with the value
	// `application/vnd.trustedmcp.key+cose`, so that no signature made for another purpose is
	// taken for this one.
	h := dcbor.NewReader(o.body)
	if h.Map() != 1 || h.Uint() != hdrTyp || h.Text() != use.typ || h.Done() != nil {
		return nil, fail(KeyObjectInvalid, "the protected header is not {typ: %q}", use.typ)
	}
	return o, nil
}

func emptyMap(r *dcbor.Reader) {
	// TMCP-5.1-3: The unprotected headers MUST be empty, so that nothing unsigned can influence a
	// verifier.
	if r.Map() != 0 {
		r.Fail("unprotected headers are not allowed")
	}
}

func (s *signature) decodeHeader() error {
	r := dcbor.NewReader(s.prot)
	last := int64(0)
	for range r.Map() {
		key := r.Int()
		if r.Err() == nil && key <= last {
			return fail(KeyObjectInvalid, "signature header: labels unsorted, double or negative")
		}
		last = key
		switch key {
		case hdrAlg:
			s.alg = cose.Algorithm(r.Int())
		case hdrKid:
			s.kid = string(r.Bytes())
		case hdrX5Chain:
			var ders [][]byte
			if r.PeekMajor() == 4 {
				n := r.Array()
				if n < 2 || n > 8 {
					return fail(KeyObjectInvalid, "x5chain: an array of %d, want 2 to 8", n)
				}
				for range n {
					ders = append(ders, r.Bytes())
				}
			} else {
				ders = append(ders, r.Bytes())
			}
			for _, der := range ders {
				c, err := x509.ParseCertificate(der)
				if err != nil {
					return fail(KeyObjectInvalid, "x5chain: %v", err)
				}
				// TMCP-5.2-5: A verifier MUST refuse RSA keys of fewer than 2048 or more than 8192
				// bits, and chains of more than 8 certificates.
				if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > maxRSABits {
					return fail(KeyObjectInvalid, "x5chain: an RSA key of %d bits, the limit is %d", k.N.BitLen(), maxRSABits)
				}
				s.chain = append(s.chain, c)
			}
		default:
			return fail(KeyObjectInvalid, "signature header: label %d is not known", key)
		}
		if r.Err() != nil {
			break
		}
	}
	if err := r.Done(); err != nil {
		return fail(KeyObjectInvalid, "signature header: %v", err)
	}
	return nil
}
