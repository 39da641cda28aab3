package corim_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/corim"
	"github.com/trustedmcp/tmcp/evidence/corim/tee"
)

// A builder says what its image measures to, signs that, and a relying party that
// pinned the builder's key reads it.
func Example() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	manifest, err := tee.Manifest("https://acme.example/server/1.0", evidence.SNP, map[string]any{
		"snp.measurement": make([]byte, 48),
		"snp.guestsvn":    uint64(2),
	})
	if err != nil {
		panic(err)
	}
	at := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	signed, err := corim.Sign(manifest, &corim.Signer{Name: "ACME", Key: key, Validity: corim.Validity{NotAfter: at.AddDate(0, 3, 0)}})
	if err != nil {
		panic(err)
	}

	v, err := corim.Verify(signed, &corim.Trust{Keys: []crypto.PublicKey{key.Public()}, Now: at})
	if err != nil {
		panic(err)
	}
	fmt.Println(v.Signer(), v.CoRIM().ID, v.CoRIM().Profile)
	_, err = corim.Verify(signed, &corim.Trust{Keys: []crypto.PublicKey{key.Public()}, Now: at.AddDate(1, 0, 0)})
	fmt.Println(err)
	// Output:
	// ACME https://acme.example/server/1.0 tag:amd.com,2025:snp-corim-profile
	// the CoRIM has expired: not after 2027-02-21T00:00:00Z
}
