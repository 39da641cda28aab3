package conformance

import (
	"strings"
	"sync"

	"github.com/trustedmcp/tmcp/spec"
)

// RequirementOf takes a requirement from the chapters of the specification
// themselves; the zero value for an id that none has.
func RequirementOf(id string) Requirement {
	r, ok := requirements()[id]
	if !ok {
		return Requirement{}
	}
	level, _, _ := strings.Cut(r.Level, " ")
	return Requirement{ID: r.ID, Level: Level(level), Text: r.Text, URL: r.URL()}
}

// RolesOf are the roles that a requirement binds, as the ledger names them.
func RolesOf(id string) []string { return requirements()[id].Roles }

var requirements = sync.OnceValue(func() map[string]spec.Req {
	out := map[string]spec.Req{}
	chapters, _ := spec.Chapters(spec.Files())
	for _, c := range chapters {
		for _, r := range c.Requirements {
			out[r.ID] = r
		}
	}
	return out
})
