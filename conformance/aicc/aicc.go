// Package aicc holds the cases of profile aicc-0.1 (specification chapter 23),
// for servers and for clients. Call [Cases]; give [Survey] to
// [conformance.Run], or the client to [conformance.RunClient].
//
// A server is spoken to at its URL, with the public key that is in
// [conformance.Trust]. A client is a command that package client describes, with
// these variables beside TMCP_ECHO and MCP_CONFORMANCE_SCENARIO:
//
//	TMCP_PROFILE          aicc-0.1
//	TMCP_TRUST            required
//	TMCP_ERA              legacy
//	TMCP_AICC_PUBLIC_KEY  file with the server's public key (PEM)
//
// What the profile leaves open (section 23.9) is tried too. Such a case never
// passes where the attack works: it warns, with the words in [Weakness].
package aicc

import (
	"strings"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/spec"
)

// Weakness begins the reason of a warning about what the profile leaves open,
// whoever implements it.
const Weakness = "weakness of the profile: "

// Short names for what every case mentions.
type (
	T   = conformance.T
	Obj = conformance.Obj
)

// Survey stands for a target of the profile: nothing is asked of it before its
// cases.
func Survey() *conformance.Survey {
	return &conformance.Survey{
		Legacy: conformance.EraInfo{Spoken: true, Version: conformance.LegacyVersion},
		Modern: conformance.EraInfo{Why: "the profile goes over the era of initialize"},
	}
}

// Cases returns the cases of the profile in report order.
func Cases() []conformance.Case { return append(serverCases(), clientCases()...) }

// IsWeakness reports whether a case tries what the profile leaves open.
func IsWeakness(c *conformance.Case) bool { return strings.Contains(c.ID, "/open-") }

func define(role conformance.Role, name, id string, c conformance.Case) conformance.Case {
	prefix := string(role) + "/" + string(conformance.ProfileAICC) + "/"
	c.ID, c.Role, c.Profile, c.Level, c.Fresh = prefix+name, role, conformance.ProfileAICC, conformance.MUST, true
	c.Eras, c.Transports = []conformance.Era{conformance.Legacy}, []wire.Transport{wire.TransportHTTP}
	if c.Twin != "" {
		c.Twin = prefix + c.Twin
	}
	if c.Fix == "" {
		c.Fix = "Read sections 23.2 to 23.4: refuse what is not exactly as there, and hand nothing of it on."
	}
	if r, err := spec.Requirement(id); err == nil && r != nil {
		c.Requirement = conformance.Requirement{ID: id, Level: c.Level, Text: r.Text, URL: r.URL()}
	}
	return c
}
