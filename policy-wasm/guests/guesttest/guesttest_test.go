package guesttest

import (
	"testing"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
)

// TestReference: the tests of both policies are right about the reference.
func TestReference(t *testing.T) {
	for _, policy := range []string{"starter", "grace", "probe"} {
		Decisions(t, policy, true, Oracle(policy))
	}
}

// TestInputs: there are enough documents to compare bytes of.
func TestInputs(t *testing.T) {
	for _, policy := range []string{"starter", "grace", "probe"} {
		if n := len(Inputs(t, policy)); n < 100 {
			t.Errorf("%s: only %d documents", policy, n)
		} else {
			t.Logf("%s: %d documents", policy, n)
		}
	}
}

// TestMalformedIsMalformed: our own reader refuses these inputs as well, so
// that no SDK is stricter than the format.
func TestMalformedIsMalformed(t *testing.T) {
	for why, b := range Malformed() {
		text, err := dcbor.ToJSON(nil, b)
		if err != nil {
			continue
		}
		if _, err := policywasm.NewInput(text, 1<<20); err == nil {
			t.Errorf("%s: %x is a document: %s", why, b, text)
		}
	}
}

// TestDamaged: some of the damaged bytes are documents, and some are not.
func TestDamaged(t *testing.T) {
	still := 0
	all := damaged(t, "starter")
	for _, in := range all {
		if in.Document != nil {
			still++
		}
	}
	if still < 20 || still > len(all)-20 {
		t.Errorf("%d of %d are documents", still, len(all))
	}
}
