package demo

import (
	"testing"

	"github.com/trustedmcp/tmcp/internal/hostile"
	"github.com/trustedmcp/tmcp/protocol"
)

// Every attack succeeds against the client that lacks the one check, and fails
// for its own reason against the one that lacks none: the three statements of the
// headline theorem, with the key that each is about leaked.
func TestAttestedAttacks(t *testing.T) {
	want := map[hostile.Attack]protocol.Reason{
		Relay: protocol.EvidenceRefused, Divert: protocol.IdentityMismatch, Reflect: protocol.EvidenceRefused,
		Stale: protocol.EvidenceStale, Debug: protocol.EvidenceRefused, Revoked: protocol.EvidenceRefused,
		OutOfDate: protocol.EvidenceRefused, LeakedAttestation: protocol.IdentityMismatch, LeakedIdentity: protocol.EvidenceRefused,
	}
	for _, a := range AttestedAttacks {
		t.Run(string(a), func(t *testing.T) {
			t.Parallel()
			lax, err := RunAttested(t.Context(), a, true)
			if err != nil {
				t.Fatal(err)
			}
			if !lax.Succeeded {
				t.Errorf("against %s: %s", Lax[a], lax.What)
			}
			o, err := RunAttested(t.Context(), a, false)
			if err != nil {
				t.Fatal(err)
			}
			if o.Succeeded || o.Reason != want[a] {
				t.Errorf("%s, reason %s; want %s", o.What, o.Reason, want[a])
			}
		})
	}
}
