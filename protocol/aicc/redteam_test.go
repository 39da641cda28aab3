package aicc_test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/trustedmcp/tmcp/protocol/aicc"
)

// A key with the exponent 1 hides nothing, and an even one opens nothing.
func TestExponents(t *testing.T) {
	for _, e := range []int{1, 2, 4} {
		pub := &rsa.PublicKey{N: key().N, E: e}
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := aicc.ParsePublicKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})); !is(err, aicc.WeakKey) {
			t.Errorf("exponent %d: %v", e, err)
		}
		if _, _, err := aicc.Seal(pub, nil); !is(err, aicc.WeakKey) {
			t.Errorf("sealed with the exponent %d: %v", e, err)
		}
	}
}
