package transport_test

import (
	"context"
	"errors"
	"testing"

	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

type nobody struct{}

func (nobody) Appraise(context.Context, protocol.Evidence) (*protocol.Appraisal, error) {
	return nil, errors.New("no")
}

// A client that demands evidence never speaks in plaintext to a server that shows
// none because something on the path took the offer out.
func TestPreferredDemandsNoProfile(t *testing.T) {
	for _, p := range []protocol.Profile{protocol.ProfileAttested, protocol.ProfileMutual} {
		cfg := transport.ClientConfig{Anchor: protocol.Pin(), Appraiser: nobody{}, Profile: p, Mode: protocol.ModePreferred}
		if _, err := transport.RoundTripper(nil, cfg); err == nil {
			t.Errorf("%s in mode preferred is taken", p)
		}
		cfg.Mode = protocol.ModeRequired
		if _, err := transport.RoundTripper(nil, cfg); err != nil {
			t.Error(err)
		}
	}
}
