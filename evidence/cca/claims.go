package cca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// Profiles of the tokens. A realm token of the legacy profile names none, and
// gives its key as an uncompressed point in place of a COSE_Key.
const (
	ProfilePlatform       = "tag:arm.com,2023:cca_platform#1.0.0"
	ProfilePlatformLegacy = "http://arm.com/CCA-SSD/1.0.0"
	ProfileRealm          = "tag:arm.com,2023:realm#1.0.0"
)

// Platform are the claims of a platform token (draft-ffm-rats-cca-token section
// 4.4). The challenge is the digest of the realm's key.
type Platform struct {
	Profile          string      `cbor:"265,keyasint"`
	Challenge        []byte      `cbor:"10,keyasint"`   // 32, 48 or 64 bytes
	ImplementationID []byte      `cbor:"2396,keyasint"` // 32 bytes
	InstanceID       []byte      `cbor:"256,keyasint"`  // 33 bytes, a UEID that opens with 0x01
	Config           []byte      `cbor:"2401,keyasint"`
	Lifecycle        *uint16     `cbor:"2395,keyasint"`
	Components       []Component `cbor:"2399,keyasint"`
	Service          string      `cbor:"2400,keyasint,omitempty"` // where to have it verified
	HashAlgorithm    string      `cbor:"2402,keyasint"`           // of the components' measurements
}

// A Component is a part of the platform's firmware.
type Component struct {
	Type          string `cbor:"1,keyasint,omitempty"`
	Measurement   []byte `cbor:"2,keyasint"`
	Version       string `cbor:"4,keyasint,omitempty"`
	Signer        []byte `cbor:"5,keyasint"`           // digest of the signer's key
	HashAlgorithm string `cbor:"6,keyasint,omitempty"` // default: the platform's
}

// Realm are the claims of a realm token (draft-ffm-rats-cca-token section 4.3).
type Realm struct {
	Profile          string   `cbor:"265,keyasint,omitempty"`
	Challenge        []byte   `cbor:"10,keyasint"`    // 64 bytes
	Personalization  []byte   `cbor:"44235,keyasint"` // 64 bytes, the host's
	HashAlgorithm    string   `cbor:"44236,keyasint"` // of the measurements
	PublicKey        []byte   `cbor:"44237,keyasint"` // the RAK, of P-384
	Initial          []byte   `cbor:"44238,keyasint"` // RIM
	Extensible       [][]byte `cbor:"44239,keyasint"` // REM 0 to 3
	KeyHashAlgorithm string   `cbor:"44240,keyasint"` // of the platform's challenge
}

// claimsMode reads claims: signed by the platform, and still strictly.
var claimsMode = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		MaxNestedLevels:  8,
		MaxArrayElements: 64,
		MaxMapPairs:      64,
	}.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return m
}()

var hashLen = map[string]int{"sha-256": 32, "sha-384": 48, "sha-512": 64}

// digestLen tells whether n is the length of a digest.
func digestLen(n int) bool { return n == 32 || n == 48 || n == 64 }

func parsePlatform(b []byte) (Platform, error) {
	var p Platform
	if err := claimsMode.Unmarshal(b, &p); err != nil {
		return p, err
	}
	switch {
	case p.Profile != ProfilePlatform && p.Profile != ProfilePlatformLegacy:
		return p, fmt.Errorf("profile %q, want %q or %q", p.Profile, ProfilePlatform, ProfilePlatformLegacy)
	case !digestLen(len(p.Challenge)):
		return p, fmt.Errorf("a challenge of %d bytes, want 32, 48 or 64", len(p.Challenge))
	case len(p.ImplementationID) != 32:
		return p, fmt.Errorf("an implementation id of %d bytes, want 32", len(p.ImplementationID))
	case len(p.InstanceID) != 33 || p.InstanceID[0] != 1:
		return p, fmt.Errorf("the instance id %x, want a UEID of 33 bytes that opens with 01", p.InstanceID)
	case p.Config == nil:
		return p, errors.New("no configuration")
	case p.Lifecycle == nil || lifecycle(*p.Lifecycle) == "":
		return p, errors.New("no lifecycle, or one that is not defined")
	case hashLen[p.HashAlgorithm] == 0:
		return p, fmt.Errorf("hash algorithm %q, want sha-256, sha-384 or sha-512", p.HashAlgorithm)
	case len(p.Components) == 0:
		return p, errors.New("no software components")
	}
	for i, c := range p.Components {
		alg := c.HashAlgorithm
		if alg == "" {
			alg = p.HashAlgorithm
		}
		if hashLen[alg] == 0 || len(c.Measurement) != hashLen[alg] {
			return p, fmt.Errorf("software component %d: a measurement of %d bytes by %q", i, len(c.Measurement), alg)
		}
		if !digestLen(len(c.Signer)) {
			return p, fmt.Errorf("software component %d: a signer id of %d bytes, want 32, 48 or 64", i, len(c.Signer))
		}
	}
	return p, nil
}

func parseRealm(b []byte) (Realm, error) {
	var r Realm
	if err := claimsMode.Unmarshal(b, &r); err != nil {
		return r, err
	}
	n := hashLen[r.HashAlgorithm]
	switch {
	case r.Profile != "" && r.Profile != ProfileRealm:
		return r, fmt.Errorf("profile %q, want %q or none", r.Profile, ProfileRealm)
	case len(r.Challenge) != 64:
		return r, fmt.Errorf("a challenge of %d bytes, want 64", len(r.Challenge))
	case len(r.Personalization) != 64:
		return r, fmt.Errorf("a personalization value of %d bytes, want 64", len(r.Personalization))
	case n == 0:
		return r, fmt.Errorf("hash algorithm %q, want sha-256, sha-384 or sha-512", r.HashAlgorithm)
	case len(r.Initial) != n:
		return r, fmt.Errorf("an initial measurement of %d bytes by %q", len(r.Initial), r.HashAlgorithm)
	case len(r.Extensible) != 4:
		return r, fmt.Errorf("%d extensible measurements, want 4", len(r.Extensible))
	case hashLen[r.KeyHashAlgorithm] == 0:
		return r, fmt.Errorf("hash algorithm %q of the key, want sha-256, sha-384 or sha-512", r.KeyHashAlgorithm)
	}
	for i, m := range r.Extensible {
		if len(m) != n {
			return r, fmt.Errorf("extensible measurement %d of %d bytes by %q", i, len(m), r.HashAlgorithm)
		}
	}
	return r, nil
}

// keyDigest is what the platform token must have as its challenge: the digest of
// the bytes of the key claim.
func (r *Realm) keyDigest() []byte {
	switch r.KeyHashAlgorithm {
	case "sha-256":
		d := sha256.Sum256(r.PublicKey)
		return d[:]
	case "sha-384":
		d := sha512.Sum384(r.PublicKey)
		return d[:]
	default:
		d := sha512.Sum512(r.PublicKey)
		return d[:]
	}
}

// key returns the RAK: in the legacy profile an uncompressed point (97 bytes),
// else a COSE_Key of type EC2.
func (r *Realm) key() (*ecdsa.PublicKey, error) {
	point := r.PublicKey
	if r.Profile != "" {
		var err error
		if point, err = coseKeyPoint(r.PublicKey); err != nil {
			return nil, fmt.Errorf("realm key: %w", err)
		}
	}
	k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), point)
	if err != nil {
		return nil, fmt.Errorf("realm key: want a point of P-384: %w", err)
	}
	return k, nil
}

// coseKeyPoint returns the uncompressed point of a COSE_Key of P-384 (RFC 9053
// section 7.1.1). Parameters other than type, curve and coordinates are passed
// over, except that an algorithm must be ES384.
func coseKeyPoint(b []byte) ([]byte, error) {
	var kty, crv int64
	var x, y []byte
	r := dcbor.NewReader(b)
	seen := map[int64]bool{}
	for range r.Map() {
		label := r.Int()
		if r.Err() == nil && seen[label] {
			return nil, fmt.Errorf("COSE_Key: label %d is there twice", label)
		}
		seen[label] = true
		switch label {
		case 1:
			kty = r.Int()
		case 3:
			if alg := r.Int(); r.Err() == nil && alg != -35 {
				return nil, fmt.Errorf("COSE_Key: algorithm %d, want -35", alg)
			}
		case -1:
			crv = r.Int()
		case -2:
			x = r.BytesN(48)
		case -3:
			y = r.BytesN(48)
		default:
			r.Skip()
		}
		if r.Err() != nil {
			break
		}
	}
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("COSE_Key: %w", err)
	}
	if kty != 2 || crv != 2 || x == nil || y == nil {
		return nil, fmt.Errorf("COSE_Key: type %d and curve %d, want 2 and 2 with both coordinates", kty, crv)
	}
	return append(append([]byte{4}, x...), y...), nil
}

// lifecycle names a platform's state by the high byte of the claim; "" when it
// is not defined (draft-ffm-rats-cca-token section 4.4.5).
func lifecycle(v uint16) string {
	states := []string{"unknown", "assembly and test", "provisioning of the root of trust", secured, "debug of what is outside CCA", "recoverable debug of the CCA platform", "decommissioned"}
	if v&0x0f00 != 0 || int(v>>12) >= len(states) {
		return ""
	}
	return states[v>>12]
}

const secured = "secured"
