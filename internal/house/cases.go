package house

import (
	"fmt"
	"slices"
	"strings"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/catalog"
	"github.com/trustedmcp/tmcp/spec"
)

// addCases names at each requirement the conformance cases that test it.
func addCases(l *spec.Ledger) []error { return joinCases(l, catalog.All()) }

// joinCases refuses cases of requirements that do not exist, or that quote
// them wrongly or at another level. Requirements of MCP's own specification
// (profile core) have other ids and are not in the ledger.
func joinCases(l *spec.Ledger, cases []conformance.Case) (errs []error) {
	for i := range cases {
		c := &cases[i]
		q := c.Requirement
		if !strings.HasPrefix(q.ID, "TMCP-") {
			if c.Profile != conformance.ProfileCore {
				errs = append(errs, fmt.Errorf("case %s: profile %s with the requirement %s, which is not this specification's", c.ID, c.Profile, q.ID))
			}
			continue
		}
		r := l.Get(q.ID)
		if r == nil {
			errs = append(errs, fmt.Errorf("case %s: %s is not in the specification", c.ID, q.ID))
			continue
		}
		// The suite takes most texts from the ledger that it was built with, which
		// may be the one before this.
		built, err := spec.Requirement(q.ID)
		fromLedger := err == nil && q.Text == built.Text
		if !fromLedger && !quotes(r.Text, q.Text) {
			errs = append(errs, fmt.Errorf("case %s does not quote %s\n\twant (a part of): %s\n\tgot:              %s", c.ID, r.ID, r.Text, q.Text))
		}
		if want, _, _ := strings.Cut(r.Level, " "); !fromLedger && string(q.Level) != want {
			errs = append(errs, fmt.Errorf("case %s: %s is a %s, the case says %s", c.ID, r.ID, r.Level, q.Level))
		}
		if !binds(r, c.Role) {
			errs = append(errs, fmt.Errorf("case %s tries %s in the role %s, it binds %s", c.ID, r.ID, c.Role, strings.Join(r.Roles, ", ")))
		}
		if !slices.Contains(r.Cases, c.ID) {
			r.Cases = append(r.Cases, c.ID)
		}
	}
	for i := range l.Requirements {
		slices.Sort(l.Requirements[i].Cases)
	}
	return errs
}

// binds reports whether a case of a role can show r. A gateway stands in for
// the end that it serves, and a relay stands between both.
func binds(r *spec.Req, role conformance.Role) bool {
	switch role {
	case conformance.RoleServer, conformance.RoleClient:
		return slices.Contains(r.Roles, string(role)) || slices.Contains(r.Roles, "gateway")
	case conformance.RoleRelay:
		return slices.Contains(r.Roles, "client") || slices.Contains(r.Roles, "server") || slices.Contains(r.Roles, "gateway")
	case conformance.RolePolicy:
		return slices.Contains(r.Roles, "host")
	}
	return slices.Contains(r.Roles, string(role))
}
