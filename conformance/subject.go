package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/trustedmcp/tmcp/conformance/wire"
)

// A Subject is a client under test. It is run once for each scenario, with the
// URL of the server that it must talk to.
type Subject interface {
	// Run runs the client until it ends, or ctx does. env are variables to add.
	Run(ctx context.Context, url string, env []string) SubjectRun
	String() string
}

// SubjectRun is how one run of a client ended.
type SubjectRun struct {
	Exit   int
	Stdout []byte // at most 1 MiB
	Stderr []byte // at most 1 MiB
	Err    error  // it could not be started, or did not end in time
}

const maxSubjectOutput = 1 << 20

// CommandSubject is a client that argv starts, with the URL appended, as MCP's
// own conformance suite starts clients. {url} in an argument stands for the URL
// instead.
func CommandSubject(argv []string) Subject { return commandSubject(argv) }

type commandSubject []string

func (c commandSubject) String() string { return strings.Join(c, " ") }

func (c commandSubject) Run(ctx context.Context, url string, env []string) SubjectRun {
	argv := append([]string(nil), c...)
	placed := false
	for i, a := range argv {
		if strings.Contains(a, "{url}") {
			argv[i], placed = strings.ReplaceAll(a, "{url}", url), true
		}
	}
	if !placed {
		argv = append(argv, url)
	}
	var out, errs limited
	code, err := wire.RunGroup(ctx, argv, append(os.Environ(), env...), &out, &errs)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("%w: the client did not end", wire.ErrTimeout)
	}
	return SubjectRun{Exit: code, Stdout: out.Bytes(), Stderr: errs.Bytes(), Err: err}
}

// FuncSubject is a client in this process.
func FuncSubject(name string, f func(ctx context.Context, url string, env []string) SubjectRun) Subject {
	return funcSubject{name, f}
}

type funcSubject struct {
	name string
	f    func(context.Context, string, []string) SubjectRun
}

func (f funcSubject) String() string { return f.name }
func (f funcSubject) Run(ctx context.Context, url string, env []string) SubjectRun {
	return f.f(ctx, url, env)
}

// limited keeps the first bytes that are written to it.
type limited struct{ bytes.Buffer }

func (l *limited) Write(b []byte) (int, error) {
	if room := maxSubjectOutput - l.Len(); room > 0 {
		l.Buffer.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}
