package main

import (
	"os"
	"slices"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	wireaicc "github.com/trustedmcp/tmcp/protocol/aicc"
)

const aiccAlone = "--profile aicc-0.1 goes alone: it is another protocol than that of the rest"

// aicc reports whether profile aicc-0.1 was asked for by name.
func (f *runFlags) aicc() bool { return slices.Contains(f.profiles, string(conformance.ProfileAICC)) }

// loadAICC reads the public key of a server of profile aicc-0.1.
func (f *runFlags) loadAICC(target wire.Target) error {
	switch {
	case !f.aicc() && f.aiccKey == "":
		return nil
	case !f.aicc():
		return usage("--aicc-public-key is for --profile aicc-0.1")
	case len(f.profiles) > 1:
		return usage("%s", aiccAlone)
	case target.Transport() != wire.TransportHTTP:
		return usage("profile aicc-0.1 goes over HTTP: give a URL")
	case f.aiccKey == "":
		return usage("name the server's public key with --aicc-public-key FILE; tmcp serve --profile aicc-0.1 and the published package call it %s", wireaicc.PublicKeyFile)
	}
	text, err := os.ReadFile(f.aiccKey)
	if err != nil {
		return usage("--aicc-public-key: %v", err)
	}
	if f.trust.trust.AICC, err = wireaicc.ParsePublicKey(text); err != nil {
		return usage("--aicc-public-key %s: %v", f.aiccKey, err)
	}
	return nil
}
