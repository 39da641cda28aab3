package verifier

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
)

// A vector is one request with what must come of it.
type vector struct {
	name    string // within its profile
	req     string // requirement
	title   string
	twin    string // name of the accepted vector that this is one mutation of; "" for an accepted one
	hole    string // of a negative: what a verifier that accepts it does not look at; see [Holes]
	reason  string // of a refused key object
	make    func() Request
	look    func(*conformance.T, *asked) // further demands on what is accepted, or refused
	profile conformance.Profile
}

func (v *vector) id() string { return "verifier/" + string(v.profile) + "/" + v.name }

// vectors are all, in report order. Requests are made once.
var vectors = sync.OnceValue(func() []vector {
	var all []vector
	add := func(p conformance.Profile, list []vector) {
		for _, v := range list {
			v.profile = p
			make := v.make
			v.make = sync.OnceValue(make)
			all = append(all, v)
		}
	}
	add(conformance.ProfileIdentity, specVectors())
	add(conformance.ProfileAttested, reportDataVectors())
	for _, part := range [][]vector{keyObjectVectors(), wrapperVectors(), evidenceVectors(), intelVectors(), policyVectors(), corimVectors(), matchVectors(), tokenVectors(), malformedVectors()} {
		add(conformance.ProfileAttested, part)
	}
	return all
})

// Cases returns the cases of role verifier in report order.
func Cases() []conformance.Case {
	var out []conformance.Case
	ids := map[string]string{}
	for _, v := range vectors() {
		ids[v.name] = v.id()
	}
	for _, v := range vectors() {
		c := conformance.Case{ID: v.id(), Role: conformance.RoleVerifier, Profile: v.profile, Level: conformance.MUST,
			Eras: []conformance.Era{conformance.Modern}, Requirement: conformance.RequirementOf(v.req), Title: v.title, Run: v.run}
		if v.twin == "" {
			c.About = "Asks the verifier, through its shim, about something that is as it must be. It must be accepted."
			c.Fix = "Verify the request by hand: tmcp-conform verifier --export writes it to a file. What is refused here is what an honest peer sends."
		} else {
			c.Twin = ids[v.twin]
			c.About = "Asks the verifier about something that differs from its twin in one respect. It must be refused, and no claim may come with the refusal."
			c.Fix = "Find the check that the title names, and make it one that fails closed. The twin differs in nothing else: tmcp-conform verifier --export writes both to files."
		}
		out = append(out, c)
	}
	return out
}

// Holes are what verifiers that accept what they must refuse do not look at,
// each with the ids of the cases that show it: what a self-test makes mutants of.
func Holes() map[string][]string {
	out := map[string][]string{}
	for _, v := range vectors() {
		if v.twin != "" {
			out[v.hole] = append(out[v.hole], v.id())
		}
	}
	return out
}

// limit bounds one answer.
const limit = 10 * time.Second

func (v *vector) run(t *conformance.T) {
	s, ok := t.Target().(*Subject)
	if !ok {
		t.Untestable("the target is not a verifier's shim")
	}
	a := s.mustAsk(t, v.make())
	if a.Outcome == NotImplemented {
		t.NotApplicable("the shim has not the operation %s", v.make().Op)
	}
	if v.twin == "" {
		if a.Outcome != Accept {
			t.Violate("refused, and must be accepted: %s", a.why())
		}
		if v.look != nil {
			v.look(t, a)
		}
		return
	}
	switch {
	case a.Outcome == Accept:
		t.Violate("accepted, and must be refused")
	case a.hasClaims():
		t.Violate("refused, and claims came with the refusal all the same: %s", conformance.Short(a.Claims))
	case v.reason != "" && a.Reason != "" && a.Reason != v.reason:
		t.Violate("refused with the reason %.200q, want %s", a.Reason, v.reason)
	}
	if v.look != nil {
		v.look(t, a)
	}
	t.Refused("%s", a.why())
	t.Reached(a.seq)
	t.NoEffect("no claim came with the refusal")
}

// mustAsk asks, and fails the case for faults of the shim.
func (s *Subject) mustAsk(t *conformance.T, r Request) *asked {
	a, err := s.ask(t.Context(), t.Log(), r, min(limit, t.StepTimeout()))
	switch {
	case t.Context().Err() != nil:
		t.Untestable("interrupted")
	case err != nil:
		t.Failf("the shim: %v", err)
	}
	return a
}

// why says how an answer refused.
func (a *asked) why() string {
	if a.Reason != "" {
		return fmt.Sprintf("%.300s", a.Reason)
	}
	for _, c := range a.Checks {
		if c.Outcome == "fail" {
			return fmt.Sprintf("%.100s: %.200s", c.Name, c.Detail)
		}
	}
	return "no reason given"
}

// Survey greets the shim, and says what there is to test. It fails with a
// [*conformance.PrerequisiteError] when no shim answers.
func Survey(ctx context.Context, s *Subject, limit time.Duration) (*conformance.Survey, error) {
	began := time.Now()
	a, err := s.ask(ctx, wire.NewLog(), Request{Op: OpHello}, limit)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		var missing *conformance.PrerequisiteError
		if errors.As(err, &missing) {
			return nil, missing
		}
		return nil, &conformance.PrerequisiteError{Reason: fmt.Sprintf("%s: asked for its name: %v", s, err)}
	}
	sv := &conformance.Survey{Startup: time.Since(began)}
	sv.Modern = conformance.EraInfo{Spoken: true, Version: "shim protocol 1", Capabilities: []byte("{}")}
	sv.Legacy = conformance.EraInfo{Why: "verifiers are asked through a shim, not over MCP", Capabilities: []byte("{}")}
	if a.hasClaims() {
		sv.Modern.ServerInfo = a.Claims
	}
	return sv, nil
}
