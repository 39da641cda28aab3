package hand

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// Claims of a key object (section 5.3).
const (
	ClaimSub         = 2
	ClaimExp         = 4
	ClaimNbf         = 5
	ClaimIat         = 6
	ClaimNonce       = 10
	ClaimEATProfile  = 265
	ClaimEvidence    = 299
	ClaimRole        = -70000
	ClaimKeys        = -70001
	ClaimProfile     = -70002
	ClaimSettings    = -70003
	ClaimIdentityKey = -70006
	ClaimAttestedKey = -70007
	ClaimFreshness   = -70008
	ClaimConfig      = -70009
)

// EATProfile is the value of [ClaimEATProfile].
const EATProfile = "tag:trustedmcp.org,2026:key-1"

// Claims is a claims-set in dCBOR. Values are CBOR.
func Claims(claims map[int64][]byte) []byte {
	type pair struct{ key, val []byte }
	var pairs []pair
	for k, v := range claims {
		pairs = append(pairs, pair{dcbor.AppendInt(nil, k), v})
	}
	slices.SortFunc(pairs, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	b := dcbor.AppendMap(nil, len(pairs))
	for _, p := range pairs {
		b = append(append(b, p.key...), p.val...)
	}
	return b
}

// KeyObjectBody is the protected header of a key object (section 5.1).
func KeyObjectBody() []byte {
	return dcbor.AppendText(dcbor.AppendUint(dcbor.AppendMap(nil, 1), 16), "application/vnd.trustedmcp.key+cose")
}

// A Signature is one of a key object's, in the making (section 5.2).
type Signature struct {
	Alg   int64
	Kid   string
	Chain [][]byte // DER, leaf first; empty for a bare key
	Key   ed25519.PrivateKey
	Label string              // "": the right one
	Bend  func([]byte) []byte // bends the signature; a nil result leaves it out
}

// Encode signs: a COSE_Signature over the Sig_structure of RFC 9052, or nil.
func (s *Signature) Encode(body, payload []byte) []byte {
	n := 2
	if len(s.Chain) > 0 {
		n = 3
	}
	prot := dcbor.AppendInt(dcbor.AppendUint(dcbor.AppendMap(nil, n), 1), s.Alg)
	prot = dcbor.AppendBytes(dcbor.AppendUint(prot, 4), []byte(s.Kid))
	switch {
	case len(s.Chain) == 1:
		prot = dcbor.AppendBytes(dcbor.AppendUint(prot, 33), s.Chain[0])
	case len(s.Chain) > 1:
		prot = dcbor.AppendArray(dcbor.AppendUint(prot, 33), len(s.Chain))
		for _, der := range s.Chain {
			prot = dcbor.AppendBytes(prot, der)
		}
	}
	label := s.Label
	if label == "" {
		label = Label + "key"
	}
	tbs := dcbor.AppendText(dcbor.AppendArray(nil, 5), "Signature")
	for _, part := range [][]byte{body, prot, []byte(label), payload} {
		tbs = dcbor.AppendBytes(tbs, part)
	}
	sig := ed25519.Sign(s.Key, tbs)
	if s.Bend != nil {
		if sig = s.Bend(sig); sig == nil {
			return nil
		}
	}
	b := dcbor.AppendBytes(dcbor.AppendArray(nil, 3), prot)
	return dcbor.AppendBytes(dcbor.AppendMap(b, 0), sig)
}

// KeyObject puts a key object together. Signatures that are nil are left out.
func KeyObject(body, payload []byte, signatures ...[]byte) []byte {
	signatures = slices.DeleteFunc(slices.Clone(signatures), func(s []byte) bool { return s == nil })
	b := dcbor.AppendArray(dcbor.AppendTag(nil, 98), 4)
	b = dcbor.AppendMap(dcbor.AppendBytes(b, body), 0)
	b = dcbor.AppendArray(dcbor.AppendBytes(b, payload), len(signatures))
	for _, s := range signatures {
		b = append(b, s...)
	}
	return b
}

// COSEKey is an Ed25519 public key as the COSE_Key that key objects name.
func COSEKey(pub ed25519.PublicKey) []byte {
	b := dcbor.AppendUint(dcbor.AppendUint(dcbor.AppendMap(nil, 3), 1), 1)
	b = dcbor.AppendUint(dcbor.AppendInt(b, -1), 6)
	return dcbor.AppendBytes(dcbor.AppendInt(b, -2), pub)
}

// Freshness of evidence (section 18.3), in CBOR.
func MadeAt(seconds int64) []byte  { return dcbor.AppendInt(fresh(1), seconds) }
func ForNonce(nonce []byte) []byte { return dcbor.AppendBytes(fresh(2), nonce) }
func InEpoch(id []byte) []byte     { return dcbor.AppendBytes(fresh(3), id) }

func fresh(kind uint64) []byte { return dcbor.AppendUint(dcbor.AppendArray(nil, 2), kind) }

// A Binding is what evidence is made over (section 18.2).
type Binding struct {
	Role      uint64 // 1 server, 2 client
	Identity  string
	Key       []byte // COSE_Key
	Config    []byte // 32 bytes, or nil
	Freshness []byte // CBOR
}

// Encode is what ReportData is the digest of.
func (b Binding) Encode() []byte {
	e := dcbor.AppendText(dcbor.AppendArray(nil, 6), Label+"report data")
	e = append(dcbor.AppendText(dcbor.AppendUint(e, b.Role), b.Identity), b.Key...)
	return append(orNull(e, b.Config), b.Freshness...)
}

// ReportData is what the TEE binds.
func (b Binding) ReportData() [64]byte { return sha512.Sum512(b.Encode()) }

// Possession is what a client signs to show that it holds the key of its key
// object (section 8.7).
func Possession(ctx [16]byte, server, client [32]byte) []byte {
	b := dcbor.AppendText(dcbor.AppendArray(nil, 4), Label+"possession")
	b = dcbor.AppendBytes(dcbor.AppendBytes(b, ctx[:]), server[:])
	return dcbor.AppendBytes(b, client[:])
}

// An Object is a key object taken apart, and not verified.
type Object struct {
	Body, Payload []byte
	Claims        map[int64][]byte // values in CBOR
	Kids          []string
	sigs          []signed
}

type signed struct{ prot, sig []byte }

// ParseObject takes a key object apart.
func ParseObject(object []byte) (*Object, error) {
	r := dcbor.NewReader(object)
	r.Tag(98)
	r.ArrayN(4)
	o := &Object{Body: r.Bytes(), Claims: map[int64][]byte{}}
	r.Skip()
	o.Payload = r.Bytes()
	for range r.Array() {
		r.ArrayN(3)
		s := signed{prot: r.Bytes()}
		r.Skip()
		s.sig = r.Bytes()
		if r.Err() != nil {
			break
		}
		kid := ""
		p := dcbor.NewReader(s.prot)
		for range p.Map() {
			if p.Int() == 4 {
				kid = string(p.Bytes())
			} else {
				p.Skip()
			}
			if p.Err() != nil {
				return nil, p.Err()
			}
		}
		o.sigs, o.Kids = append(o.sigs, s), append(o.Kids, kid)
	}
	if err := r.Done(); err != nil {
		return nil, err
	}
	c := dcbor.NewReader(o.Payload)
	for range c.Map() {
		k := c.Int()
		v := c.Skip()
		if c.Err() != nil {
			break
		}
		o.Claims[k] = v
	}
	return o, c.Done()
}

// Text is a claim that is text, or "".
func (o *Object) Text(claim int64) string { return dcbor.NewReader(o.Claims[claim]).Text() }

// Uint is a claim that is an unsigned integer, or 0.
func (o *Object) Uint(claim int64) uint64 { return dcbor.NewReader(o.Claims[claim]).Uint() }

// Bytes is a claim that is a byte string, or nil.
func (o *Object) Bytes(claim int64) []byte {
	if v := o.Claims[claim]; v != nil {
		return dcbor.NewReader(v).Bytes()
	}
	return nil
}

// Binding is what the evidence in the object must bind.
func (o *Object) Binding() Binding {
	return Binding{Role: o.Uint(ClaimRole), Identity: o.Text(ClaimSub), Key: o.Claims[ClaimAttestedKey], Config: o.Bytes(ClaimConfig), Freshness: o.Claims[ClaimFreshness]}
}

// Freshness is the kind of the evidence's freshness, with the time in seconds of
// kind 1 and the value of the others.
func (o *Object) Freshness() (kind, at uint64, value []byte) {
	r := dcbor.NewReader(o.Claims[ClaimFreshness])
	r.ArrayN(2)
	if kind = r.Uint(); kind == 1 {
		at = r.Uint()
	} else {
		value = r.Bytes()
	}
	if r.Done() != nil {
		return 0, 0, nil
	}
	return kind, at, value
}

// VerifyAttested verifies the second signature by the attested key that the
// object claims, Ed25519 or ECDSA.
func (o *Object) VerifyAttested() error {
	if len(o.sigs) < 2 {
		return fmt.Errorf("there are %d signatures, and the attested key's is not among them", len(o.sigs))
	}
	return VerifyKey(o.Claims[ClaimAttestedKey], o.signed(1), o.sigs[1].sig)
}

// VerifyKey verifies a bare signature by a COSE_Key: Ed25519, ES256 or ES384.
func VerifyKey(coseKey, message, sig []byte) error {
	r := dcbor.NewReader(coseKey)
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
			r.Skip()
		}
		if r.Err() != nil {
			return r.Err()
		}
	}
	if err := r.Done(); err != nil {
		return fmt.Errorf("the COSE_Key: %w", err)
	}
	ok := false
	switch {
	case kty == 1 && crv == 6 && len(x) == ed25519.PublicKeySize:
		ok = ed25519.Verify(x, message, sig)
	case kty == 2 && (crv == 1 || crv == 2):
		curve, digest := elliptic.P256(), sha256.New()
		if crv == 2 {
			curve, digest = elliptic.P384(), sha512.New384()
		}
		pub, err := ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...))
		if err != nil {
			return err
		}
		digest.Write(message)
		n := len(sig) / 2
		ok = len(sig) == 2*len(x) && ecdsa.Verify(pub, digest.Sum(nil), new(big.Int).SetBytes(sig[:n]), new(big.Int).SetBytes(sig[n:]))
	default:
		return fmt.Errorf("a key of kind %d, curve %d", kty, crv)
	}
	if !ok {
		return errors.New("the signature is not that of the key")
	}
	return nil
}

// VerifyIdentity verifies the first signature by the identity key in the claims.
func (o *Object) VerifyIdentity() error {
	if len(o.sigs) == 0 {
		return errors.New("there is no signature")
	}
	return VerifyKey(o.Claims[ClaimIdentityKey], o.signed(0), o.sigs[0].sig)
}

func (o *Object) signed(i int) []byte {
	tbs := dcbor.AppendText(dcbor.AppendArray(nil, 5), "Signature")
	for _, part := range [][]byte{o.Body, o.sigs[i].prot, []byte(Label + "key"), o.Payload} {
		tbs = dcbor.AppendBytes(tbs, part)
	}
	return tbs
}
