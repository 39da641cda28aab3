package verifier

import (
	"context"
	"errors"
	"time"

	"github.com/trustedmcp/tmcp/conformance/shim"
	"github.com/trustedmcp/tmcp/conformance/wire"
)

// ExitNotImplemented is the exit code of a shim that ends because it has not
// the operation it was asked for. It is started again for the next.
const ExitNotImplemented = shim.ExitNotImplemented

// A Subject is the verifier under test, behind its shim. Close it after the run.
type Subject struct{ *shim.Shim }

// Command is a shim that is started as a process.
func Command(argv []string) *Subject { return &Subject{shim.Command(argv)} }

// InProcess is a verifier in this process, over the same bytes.
func InProcess(name string, verify func(*Request) *Answer) *Subject {
	return &Subject{shim.InProcess(name, func(line []byte) ([]byte, error) {
		req, err := ParseRequest(line)
		if err != nil {
			return nil, err
		}
		ans := verify(req)
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
	seq  int // log entry of the answer
	took time.Duration
	grew int64 // bytes by which the process's peak memory exceeded what it held before; -1: not known
}

// line is a request to the shim.
type line struct{ Request }

func (l line) Encode(id string) ([]byte, error) {
	l.ID = id
	return l.Request.Encode()
}

func (l line) Log(b []byte) []byte { return b }

// ask sends one request and waits for its answer, no longer than limit. An error
// is a fault of the shim: it crashed, was silent, or wrote what is no answer.
func (s *Subject) ask(ctx context.Context, log *wire.Log, req Request, limit time.Duration) (*asked, error) {
	a := &asked{}
	r, err := s.Ask(ctx, log, line{req}, limit, func(out []byte, id string) (err error) {
		a.Answer, err = parseAnswer(out, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	if r.NotImplemented {
		a.Answer = &Answer{Outcome: NotImplemented}
	}
	a.seq, a.took, a.grew = r.Seq, r.Took, r.Grew
	return a, nil
}
