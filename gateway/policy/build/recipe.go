package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/lockedfile"

	"github.com/trustedmcp/tmcp/policy-wasm/guests"
)

// A ToolError means that a program that a language needs is not there.
type ToolError struct {
	Tool  string
	Tried string // what was looked for, and what came of it
	Hint  string // how to get it
}

func (e *ToolError) Error() string {
	return fmt.Sprintf("%s is not there: %s\nTo get it: %s", e.Tool, e.Tried, e.Hint)
}

// A CommandError is a command that failed.
type CommandError struct {
	Command []string
	Output  string // the end of what it printed; not escaped
	Err     error
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("%s: %v", strings.Join(e.Command, " "), e.Err)
}
func (e *CommandError) Unwrap() error { return e.Err }

// A toolchain runs recipes in a project's folder.
type toolchain struct {
	dir string
	say func(format string, args ...any) // what is being done, for people
}

// run runs a recipe: tools are found, or installed, first.
func (t *toolchain) run(ctx context.Context, r *guests.Build) error {
	var found []string // pairs for a replacer
	for _, tool := range r.Tools {
		path, err := t.find(ctx, tool)
		if err != nil {
			return err
		}
		found = append(found, "{"+tool.Name+"}", path)
	}
	replace := strings.NewReplacer(found...)
	for _, step := range r.Steps {
		var args, env []string
		for _, a := range step.Args {
			args = append(args, replace.Replace(a))
		}
		for _, e := range step.Env {
			env = append(env, replace.Replace(e))
		}
		if err := t.command(ctx, env, args...); err != nil {
			return err
		}
	}
	return nil
}

// find finds a tool: in the project's own node_modules, in PATH, or in what npm
// installs.
func (t *toolchain) find(ctx context.Context, tool guests.Tool) (string, error) {
	lock := filepath.Join(t.dir, "package-lock.json")
	local := filepath.Join(t.dir, "node_modules", ".bin", tool.Programs[0])
	locked := tool.NPM != "" && isFile(lock)
	if locked && isFile(local) && !older(filepath.Join(t.dir, "node_modules", ".package-lock.json"), lock) {
		return filepath.Abs(local)
	}
	var tried []string
	for _, p := range tool.Programs {
		path, err := exec.LookPath(p)
		if err != nil {
			tried = append(tried, p+" is not in PATH")
			if filepath.IsAbs(p) {
				tried[len(tried)-1] = "there is no " + p
			}
			continue
		}
		if why := check(ctx, path, tool); why != "" {
			tried = append(tried, path+" "+why)
			continue
		}
		return filepath.Abs(path)
	}
	if tool.NPM != "" {
		path, err := t.npm(ctx, tool, locked)
		if err == nil {
			return path, nil
		}
		if ctx.Err() != nil {
			return "", err
		}
		why := err.Error()
		var failed *CommandError
		if errors.As(err, &failed) { // without a network, most of the time
			for line := range strings.Lines(failed.Output) {
				why += "\n  " + strings.TrimRight(line, "\r\n")
			}
		}
		tried = append(tried, why)
	}
	if tool.Else != "" {
		return tool.Else, nil
	}
	return "", &ToolError{Tool: tool.Name, Tried: strings.Join(tried, "; "), Hint: tool.Hint}
}

// check says why a program can't be used, or "".
func check(ctx context.Context, path string, tool guests.Tool) string {
	if tool.Check == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, tool.Check...).Output()
	if err != nil {
		return fmt.Sprintf("can't do what is needed (%s: %v)", strings.Join(tool.Check, " "), err)
	}
	if dir := strings.TrimSpace(string(out)); tool.CheckDir {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return fmt.Sprintf("has no support for WebAssembly (there is no folder %q)", dir)
		}
	}
	return ""
}

// npm installs a tool: by the project's lock file, or into a cache folder.
func (t *toolchain) npm(ctx context.Context, tool guests.Tool, locked bool) (string, error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", errors.New("npm, which could install it, is not in PATH")
	}
	if locked {
		t.say("npm ci: node_modules is missing, or older than package-lock.json")
		if err := t.command(ctx, nil, npm, "ci", "--no-audit", "--no-fund"); err != nil {
			return "", err
		}
		return filepath.Abs(filepath.Join(t.dir, "node_modules", ".bin", tool.Programs[0]))
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "tmcp", "tools", strings.NewReplacer("/", "+", "@", "_").Replace(tool.NPM))
	path := filepath.Join(dir, "node_modules", ".bin", tool.Programs[0])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := lockedfile.MutexAt(filepath.Join(dir, ".lock")).Lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	done := filepath.Join(dir, ".installed")
	if isFile(done) && isFile(path) {
		return path, nil
	}
	t.say("npm install %s, into %s", tool.NPM, dir)
	if err := t.command(ctx, nil, npm, "install", "--no-audit", "--no-fund", "--no-save", "--prefix", dir, tool.NPM); err != nil {
		return "", err
	}
	return path, os.WriteFile(done, nil, 0o644)
}

// command runs a command in the project's folder.
func (t *toolchain) command(ctx context.Context, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = t.dir
	cmd.Env = append(os.Environ(), env...)
	out := &tail{}
	cmd.Stdout, cmd.Stderr = out, out
	ownGroup(cmd)
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return &ToolError{Tool: args[0], Tried: "it is not in PATH", Hint: `install it, or change "build" in ` + ManifestFile}
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return &CommandError{args, out.String(), err}
	}
	return nil
}

const maxOutput = 64 << 10 // bytes that are kept of a command's output

// tail keeps the last bytes that were written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

var _ io.Writer = (*tail)(nil)

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if over := len(t.b) - maxOutput; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}

// older reports whether a is missing or was changed before b.
func older(a, b string) bool {
	x, err := os.Stat(a)
	y, err2 := os.Stat(b)
	return err != nil || err2 != nil || x.ModTime().Before(y.ModTime())
}
