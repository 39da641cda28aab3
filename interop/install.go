package interop

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// The sources and lock files of the fixtures that aren't Go.
//
//go:embed fixtures/aicc fixtures/assemblyscript fixtures/conformance fixtures/java fixtures/python1 fixtures/python2 fixtures/rmcp fixtures/tsv1 fixtures/tsv2 fixtures/wabt
var fixtures embed.FS

// InstallTimeout bounds the installation of one bundle.
const InstallTimeout = 10 * time.Minute

// A bundle is what is installed together: a server and a client of one SDK share one.
type bundle struct {
	name    string
	fixture string // folder of fixtures that is copied in; "" for none
	recipe  string // changes when the steps do, so that an old installation is not reused
	needs   []*bundle
	tools   []tool
	slow    bool // takes longer than the others: starts first
	// always means that steps run each time, because they keep a cache of their own.
	always bool
	steps  func(context.Context, install) error
}

// An install is the folder of one installed bundle and those it needs.
type install struct {
	cache, dir string
}

func (i install) path(elem ...string) string {
	return filepath.Join(append([]string{i.dir}, elem...)...)
}

func (i install) of(b *bundle) install { return install{i.cache, filepath.Join(i.cache, b.name)} }

// Install brings the target into the cache folder, and does nothing when it is
// already there at this version. It is safe to call from several processes.
// A missing toolchain is a *PrerequisiteError.
func (t *Target) Install(ctx context.Context, cacheDir string) error {
	if err := t.bundle.install(ctx, cacheDir); err != nil {
		return fmt.Errorf("install %s: %w", t.Name, err)
	}
	return nil
}

// InstallAll installs targets, two at a time: on more the registries and the disk
// are the limit. It tries all of them and joins the errors.
func InstallAll(ctx context.Context, cacheDir string, targets []*Target) error {
	var mu sync.Mutex
	var all []error
	seen := map[*bundle]bool{}
	targets = slices.Clone(targets)
	slices.SortStableFunc(targets, func(a, b *Target) int {
		switch {
		case a.bundle.slow == b.bundle.slow:
			return 0
		case a.bundle.slow:
			return -1
		}
		return 1
	})
	slots := make(chan struct{}, 2)
	var wg sync.WaitGroup
	for _, t := range targets {
		if seen[t.bundle] {
			continue
		}
		seen[t.bundle] = true
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := t.Install(ctx, cacheDir); err != nil {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(all...)
}

func (b *bundle) install(ctx context.Context, cacheDir string) error {
	for _, need := range b.needs {
		if err := need.install(ctx, cacheDir); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, InstallTimeout)
	defer cancel()
	for _, tool := range b.tools {
		if err := tool.check(ctx, b.name); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return err
	}
	unlock, err := lock(ctx, filepath.Join(cacheDir, b.name+".lock"))
	if err != nil {
		return err
	}
	defer unlock()
	in := install{cacheDir, filepath.Join(cacheDir, b.name)}
	want, err := b.digest()
	if err != nil {
		return err
	}
	stamp := in.path(".installed")
	got, err := os.ReadFile(stamp)
	if err == nil && string(got) == want && !b.always {
		return nil
	}
	// A half-installed or an older folder goes, except where the installer can
	// build on what is there.
	if !b.always {
		if err := os.RemoveAll(in.dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(in.dir, 0o755); err != nil {
		return err
	}
	if b.fixture != "" {
		sub, err := fs.Sub(fixtures, "fixtures/"+b.fixture)
		if err != nil {
			return err
		}
		if err := os.CopyFS(in.dir, sub); err != nil {
			return err
		}
	}
	if err := b.steps(ctx, in); err != nil {
		return err
	}
	return os.WriteFile(stamp, []byte(want), 0o644)
}

// digest is over all that decides what the installation holds.
func (b *bundle) digest() (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00%s/%s\x00", b.name, b.recipe, runtime.GOOS, runtime.GOARCH)
	for _, need := range b.needs {
		d, err := need.digest()
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s\x00", d)
	}
	if b.fixture != "" {
		err := fs.WalkDir(fixtures, "fixtures/"+b.fixture, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := fixtures.ReadFile(path)
			fmt.Fprintf(h, "%s\x00%d\x00%s", path, len(data), data)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// lock takes a lock on path against other processes too, or gives up with ctx.
func lock(ctx context.Context, path string) (func(), error) {
	type result struct {
		unlock func()
		err    error
	}
	done := make(chan result, 1)
	go func() {
		unlock, err := lockedfile.MutexAt(path).Lock()
		done <- result{unlock, err}
	}()
	select {
	case r := <-done:
		return r.unlock, r.err
	case <-ctx.Done():
		go func() { // the lock may still come: give it back
			if r := <-done; r.err == nil {
				r.unlock()
			}
		}()
		return nil, fmt.Errorf("waiting for another installation to release %s: %w", path, ctx.Err())
	}
}

// run runs one installer in the folder dir and puts the end of its output into the error.
func run(ctx context.Context, dir string, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	out := &tail{max: 16 << 10}
	cmd.Stdout, cmd.Stderr = out, out
	ownGroup(cmd)
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
		return fmt.Errorf("%s: %w\n%s", strings.Join(append([]string{name}, args...), " "), err, out)
	}
	return nil
}

// tail keeps the last bytes that were written to it. Safe for concurrent use.
type tail struct {
	mu  sync.Mutex
	max int
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - t.max; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
