package policy

import (
	"context"
	"errors"
	"fmt"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/gateway/policy/runtime"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// A Live is policies that are loaded anew while they decide. Each question is
// answered by the old ones or by the new, and none is dropped. It implements
// [appraise.Source].
type Live struct {
	o    Options
	held *runtime.Live[*Loaded]
}

// NewLive loads policies that [Live.Reload] replaces.
func NewLive(ctx context.Context, o Options) (*Live, error) {
	first, err := Load(ctx, o)
	if err != nil {
		return nil, err
	}
	return &Live{o: o, held: runtime.NewLive(first)}, nil
}

// Reload reads the same files again. What can't be loaded, or is another kind of
// policy than before, changes nothing: the old ones go on.
func (l *Live) Reload(ctx context.Context) (digest [32]byte, err error) {
	err = l.held.Reload(ctx, func(ctx context.Context) (*Loaded, error) {
		next, err := Load(ctx, l.o)
		if err != nil {
			return nil, err
		}
		if err := l.fits(next); err != nil {
			return nil, errors.Join(err, next.Close(ctx))
		}
		digest = next.digest()
		return next, nil
	})
	return digest, err
}

// fits says what the program that uses l relies on.
func (l *Live) fits(next *Loaded) (err error) {
	l.held.Use(context.Background(), func(was *Loaded) {
		switch a, b := was.Appraises(), next.Appraises(); {
		case (a == nil) != (b == nil) || (was.Authorizes() == nil) != (next.Authorizes() == nil):
			err = errors.New("the new policies answer other questions than the old ones: restart for them")
		case a != nil && a.Development() != b.Development():
			err = fmt.Errorf("the new policies are for %s: restart for them", environment(b.Development()))
		case rulesDigest(was) != rulesDigest(next):
			err = errors.New("rules in JSON have changed, which verifiers were made by: restart for them")
		}
	})
	return err
}

func rulesDigest(l *Loaded) (d [32]byte) {
	if r := l.Rules; r != nil {
		d = r.Digest()
	}
	return d
}

func (l *Loaded) digest() [32]byte {
	if l.Policy == nil {
		return l.Rules.Digest()
	}
	return l.Policy.Digest()
}

// Close lets go of the policies once nobody uses them.
func (l *Live) Close(ctx context.Context) error { return l.held.Close(ctx) }

// Use implements [appraise.Source].
func (l *Live) Use(f func(appraise.Policy)) bool {
	there := false
	l.held.Use(context.Background(), func(p *Loaded) {
		if a := p.Appraises(); a != nil {
			there = true
			f(a)
		}
	})
	return there
}

// Appraises is l where its policies decide appraisals, and else nil.
func (l *Live) Appraises() (p appraise.Policy) {
	l.held.Use(context.Background(), func(now *Loaded) {
		if now.Appraises() != nil {
			p = l
		}
	})
	return p
}

// Authorizes is what decides about calls; nil where nothing does.
func (l *Live) Authorizes() (ask transport.Authorizer) {
	l.held.Use(context.Background(), func(now *Loaded) {
		if now.Authorizes() != nil {
			ask = l.authorize
		}
	})
	return ask
}

func (l *Live) authorize(ctx context.Context, c *transport.Call) error {
	err := errors.New("the policy is closed")
	l.held.Use(ctx, func(now *Loaded) { err = now.Authorizes()(ctx, c) })
	return err
}

// Rules are those among the policies; nil where there are none. They stay what
// they are.
func (l *Live) Rules() (r *appraise.RulesPolicy) {
	l.held.Use(context.Background(), func(now *Loaded) { r = now.Rules })
	return r
}

// References are manifests of reference values that came with the policies when
// they were first loaded.
func (l *Live) References() (all [][]byte) {
	l.held.Use(context.Background(), func(now *Loaded) { all = now.References })
	return all
}

// Name is that of this moment.
func (l *Live) Name() (s string) {
	l.held.Use(context.Background(), func(now *Loaded) {
		if s = "rules"; now.Policy != nil {
			s = now.Policy.Name()
		} else if now.Rules != nil {
			s = now.Rules.Name()
		}
	})
	return s
}

// Digest is that of this moment. A result names the one that decided.
func (l *Live) Digest() (d protocol.Digest) {
	l.held.Use(context.Background(), func(now *Loaded) { d = now.digest() })
	return d
}

// Development is that of all versions.
func (l *Live) Development() (dev bool) {
	l.Use(func(p appraise.Policy) { dev = p.Development() })
	return dev
}

// Decide is [Policy.Decide] of this moment.
func (l *Live) Decide(f *appraise.Facts) (c evidence.Checks) {
	if !l.Use(func(p appraise.Policy) { c = p.Decide(f) }) {
		c.Add("policy", evidence.Fail, "the policy is closed")
	}
	return c
}
