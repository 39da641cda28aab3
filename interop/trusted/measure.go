package trusted

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/catalog"
	"github.com/trustedmcp/tmcp/conformance/selftest"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/gateway"
	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/protocol"
)

// A Measured is what tmcp-conform says of one server at one endpoint: profile
// core of the server as it is, and profile identity of it behind serve.
type Measured struct {
	Target   *interop.Target
	Endpoint interop.Endpoint
	Core     map[conformance.Outcome]int
	Identity map[conformance.Outcome]int
	// Findings are the cases of core that fail or warn, and all of identity that
	// neither pass nor are declared not to apply, in catalog order.
	Findings []Finding
}

// A Finding is one verdict that isn't in order.
type Finding struct {
	Case    *conformance.Case
	Era     conformance.Era
	Outcome conformance.Outcome
	Reason  string // of this run; it may hold what differs from run to run
}

func (f Finding) String() string {
	return fmt.Sprintf("%s, %s: %s: %s", f.Case.ID, f.Era, f.Outcome, f.Reason)
}

// Measure runs the suite against an installed server at one endpoint, started
// anew for each of the two profiles.
func Measure(ctx context.Context, cacheDir string, target *interop.Target, e interop.Endpoint) (*Measured, error) {
	m := &Measured{Target: target, Endpoint: e}
	for _, part := range []struct {
		profile conformance.Profile
		counts  *map[conformance.Outcome]int
	}{{conformance.ProfileCore, &m.Core}, {conformance.ProfileIdentity, &m.Identity}} {
		counts, findings, err := m.run(ctx, cacheDir, part.profile)
		if err != nil {
			return nil, fmt.Errorf("%s at %s, profile %s: %w", target.Name, e.Name, part.profile, err)
		}
		*part.counts = counts
		m.Findings = append(m.Findings, findings...)
	}
	return m, nil
}

func (m *Measured) run(ctx context.Context, cacheDir string, profile conformance.Profile) (map[conformance.Outcome]int, []Finding, error) {
	r, err := m.Target.Start(ctx, cacheDir, m.Endpoint)
	if err != nil {
		return nil, nil, err
	}
	defer r.Stop()
	url := r.URL
	if profile == conformance.ProfileIdentity {
		cfg := gateway.ServeConfig{Upstream: r.URL, Offer: protocol.Offer{Mode: protocol.ModeRequired}, Stderr: io.Discard}
		if r.URL == "" {
			cfg.Command = r.Command
		}
		g, err := Serve(ctx, cfg)
		if err != nil {
			return nil, nil, err
		}
		defer g.Stop()
		url = g.URL
	}
	obs := &conformance.Observations{Validator: selftest.SchemaValidator}
	target := wire.Command(r.Command, r.Env, obs.Observe)
	if url != "" {
		if target, err = wire.HTTP(url, nil, obs.Observe); err != nil {
			return nil, nil, err
		}
	}
	rep, err := conformance.Run(ctx, conformance.Config{
		Target: target, Observed: obs, Cases: catalog.All(), Seed: 1,
		Select: func(c *conformance.Case) bool {
			return c.Role == conformance.RoleServer && c.Profile == profile
		},
		CanaryTool: canaryTool(m.Target, profile),
	})
	if err != nil {
		return nil, nil, err
	}
	if rep.Interrupted != "" {
		return nil, nil, fmt.Errorf("interrupted during %s: %w", rep.Interrupted, context.Cause(ctx))
	}
	counts := map[conformance.Outcome]int{}
	var findings []Finding
	for _, res := range rep.Results {
		if res.Case.Profile != profile { // a twin
			continue
		}
		counts[res.Outcome]++
		in := res.Outcome != conformance.Pass && res.Outcome != conformance.NotApplicable
		if profile == conformance.ProfileCore {
			in = in && res.Outcome != conformance.Untestable
		}
		if in {
			findings = append(findings, Finding{res.Case, res.Era, res.Outcome, res.Reason})
		}
	}
	return counts, findings, nil
}

// canaryTool is a harmless tool of the target that takes no arguments. Profile core
// goes without, as it does for someone who knows nothing of the server.
func canaryTool(target *interop.Target, profile conformance.Profile) string {
	if profile == conformance.ProfileCore {
		return ""
	}
	switch target.Name {
	case "go-sdk-everything":
		return "test_simple_text"
	case "mcp-go-everything":
		return "getTinyImage"
	case "ts-everything":
		return "get-tiny-image"
	}
	return "fail"
}

// Green reports whether the server behind serve keeps all of profile identity:
// something was tried, and nothing failed, warned or could not be tried.
func (m *Measured) Green() bool {
	return m.Identity[conformance.Pass] > 0 && !slices.ContainsFunc(m.Findings, func(f Finding) bool {
		return f.Case.Profile == conformance.ProfileIdentity
	})
}

// MeasureAll measures all server targets at all their endpoints, in order, and
// installs them as needed. progress is told what comes next.
func MeasureAll(ctx context.Context, cacheDir string, progress func(string)) ([]*Measured, error) {
	var all []*Measured
	for _, target := range interop.Servers() {
		if err := target.Install(ctx, cacheDir); err != nil {
			return nil, err
		}
		for _, e := range target.Endpoints {
			progress(target.Name + " at " + e.Name)
			m, err := Measure(ctx, cacheDir, target, e)
			if err != nil {
				return nil, err
			}
			all = append(all, m)
		}
	}
	return all, nil
}

// byCase groups findings of profile core, in order of the case's id: where each
// was made.
func byCase(all []*Measured) (ids []string, where map[string][]string, cases map[string]*conformance.Case) {
	where, cases = map[string][]string{}, map[string]*conformance.Case{}
	for _, m := range all {
		for _, f := range m.Findings {
			if f.Case.Profile != conformance.ProfileCore {
				continue
			}
			if cases[f.Case.ID] == nil {
				ids = append(ids, f.Case.ID)
			}
			cases[f.Case.ID] = f.Case
			where[f.Case.ID] = append(where[f.Case.ID], m.Target.Name+" "+m.Endpoint.Name)
		}
	}
	slices.SortFunc(ids, strings.Compare)
	return ids, where, cases
}
