// Package catalog gathers the cases of all profiles. Call [All].
package catalog

import (
	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/aicc"
	"github.com/trustedmcp/tmcp/conformance/attested"
	"github.com/trustedmcp/tmcp/conformance/client"
	"github.com/trustedmcp/tmcp/conformance/core"
	"github.com/trustedmcp/tmcp/conformance/identity"
	"github.com/trustedmcp/tmcp/conformance/policy"
	"github.com/trustedmcp/tmcp/conformance/relay"
	"github.com/trustedmcp/tmcp/conformance/verifier"
)

// All returns every case of the suite in report order.
func All() []conformance.Case {
	var all []conformance.Case
	all = append(all, core.Cases()...)
	all = append(all, identity.Cases()...)
	all = append(all, attested.Cases()...)
	all = append(all, client.Cases()...)
	all = append(all, relay.Cases()...)
	all = append(all, verifier.Cases()...)
	all = append(all, policy.Cases()...)
	all = append(all, aicc.Cases()...)
	return all
}

// ByID returns the case with an id, or nil.
func ByID(cases []conformance.Case, id string) *conformance.Case {
	for i := range cases {
		if cases[i].ID == id {
			return &cases[i]
		}
	}
	return nil
}
