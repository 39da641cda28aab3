package policy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/shim"
	"github.com/trustedmcp/tmcp/conformance/wire"
)

// A Subject is the host under test, behind its shim. Close it after the run.
type Subject struct{ *shim.Shim }

// Command is a shim that is started as a process.
func Command(argv []string) *Subject { return &Subject{shim.Command(argv)} }

// InProcess is a host in this process, over the same bytes.
func InProcess(name string, host func(*Request) *Answer) *Subject {
	return &Subject{shim.InProcess(name, func(line []byte) ([]byte, error) {
		req, err := ParseRequest(line)
		if err != nil {
			return nil, err
		}
		ans := host(req)
		if ans == nil {
			return nil, errors.New("it ended without an answer")
		}
		ans.ID = req.ID
		return ans.Encode()
	})}
}

// asked is what came of one request.
type asked struct {
	*Answer
	*shim.Reply
}

// line is a request to the shim.
type line struct{ Request }

func (l line) Encode(id string) ([]byte, error) {
	l.ID = id
	return l.Request.Encode()
}

// Log leaves the middle of large modules and documents out.
func (l line) Log(b []byte) []byte {
	const most = 8 << 10
	if len(b) <= most {
		return b
	}
	return bytes.Join([][]byte{b[:most/2], b[len(b)-most/4:]}, fmt.Appendf(nil, " … %d bytes … ", len(b)-most/2-most/4))
}

// ask sends one request and waits for its answer, no longer than limit. An error
// is a fault of the shim: it crashed, was silent, or wrote what is no answer.
func (s *Subject) ask(ctx context.Context, log *wire.Log, req Request, limit time.Duration) (*asked, error) {
	a := &asked{}
	var err error
	a.Reply, err = s.Ask(ctx, log, line{req}, limit, func(out []byte, id string) (err error) {
		a.Answer, err = parseAnswer(out, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	if a.Reply.NotImplemented {
		a.Answer = &Answer{NotImplemented: true}
	}
	return a, nil
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
	sv.Modern = conformance.EraInfo{Spoken: true, Version: "policy shim protocol 1", Capabilities: []byte("{}")}
	sv.Legacy = conformance.EraInfo{Why: "hosts are asked through a shim, not over MCP", Capabilities: []byte("{}")}
	if len(a.Claims) > 0 {
		sv.Modern.ServerInfo = a.Claims
	}
	return sv, nil
}
