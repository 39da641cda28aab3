package conformance

import (
	"context"
	"errors"

	"github.com/trustedmcp/tmcp/conformance/wire"
)

// RunClient tries a client on the cases of role relay, or on those that
// cfg.Survey fits: it is [Run] for a subject in place of a target. cfg.Subject is
// required.
func RunClient(ctx context.Context, cfg Config) (*Report, error) {
	if cfg.Subject == nil {
		return nil, errors.New("conformance: no client to test")
	}
	cfg.Target = subjectTarget{cfg.Subject.String()}
	if cfg.Survey == nil {
		cfg.Survey = &Survey{Modern: EraInfo{Spoken: true, Version: ModernVersion}, Legacy: EraInfo{Why: "role relay speak the modern era on the outer leg"}}
	}
	return Run(ctx, cfg)
}

// subjectTarget stands in a report for a client, which can't be opened.
type subjectTarget struct{ name string }

func (subjectTarget) Transport() wire.Transport { return wire.TransportHTTP }
func (t subjectTarget) String() string          { return t.name }
func (t subjectTarget) Open(context.Context, *wire.Log) (wire.Link, error) {
	return nil, &wire.UnreachableError{Target: t.name, Err: errors.New("a client is run, not opened")}
}
