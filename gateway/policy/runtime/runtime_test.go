package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/trustedmcp/tmcp/gateway/policy/runtime"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
)

func TestMain(m *testing.M) {
	runtime.MaybeChild()
	goleak.VerifyTestMain(m)
}

func input(t testing.TB, doc string) *policywasm.Input {
	t.Helper()
	in, err := policywasm.NewInput([]byte(doc), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func load(t testing.TB, l *runtime.Loader, module []byte, trusted bool, caps policywasm.Caps) *policywasm.Policy {
	t.Helper()
	p, err := l.Load(context.Background(), module, trusted, caps)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(context.Background()) })
	return p
}

func appraise(e policywasm.Evaluator, in *policywasm.Input) *policywasm.Result {
	return e.Evaluate(context.Background(), policywasm.Call{Entry: policywasm.Appraise, Input: in})
}

func cache(t testing.TB) (*runtime.Cache, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "cache")
	c, err := runtime.OpenCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c, dir
}

// files are those below dir whose name matches.
func files(t testing.TB, dir, pattern string) (out []string) {
	t.Helper()
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if ok, _ := filepath.Match(pattern, filepath.Base(path)); ok && !d.IsDir() {
			out = append(out, path)
		}
		return err
	})
	return out
}

func failure(t testing.TB, err error) *policywasm.Failure {
	t.Helper()
	var f *policywasm.Failure
	if !errors.As(err, &f) {
		t.Fatalf("%v is no failure of a policy", err)
	}
	return f
}

// A module is compiled once, in the child, and comes from the cache from then on.
func TestLoader(t *testing.T) {
	c, dir := cache(t)
	child := &runtime.Child{Time: time.Minute}
	l := &runtime.Loader{Cache: c, Child: child, Memory: runtime.NewMemory(0), Warn: func(err error) { t.Error(err) }}
	defer l.Memory.Close()
	module, yes := corpus.Debug().Module(), input(t, `{"debug":false}`)
	for range 2 {
		p := load(t, l, module, false, policywasm.Defaults())
		if r := appraise(p, yes); r.Decision != policywasm.Allow {
			t.Error(r.Failure)
		}
		if sums := files(t, dir, "sum"); len(sums) != 1 {
			t.Errorf("%d entries", len(sums))
		}
		child.Program = "/nowhere" // it is not needed again
	}
	if _, err := l.Load(context.Background(), corpus.Guest{}.Module(), false, policywasm.Defaults()); err == nil {
		t.Error("another module needs no child")
	}
	if p := load(t, l, corpus.Guest{}.Module(), true, policywasm.Defaults()); appraise(p, yes).Decision != policywasm.Allow {
		t.Error("a trusted module, which is compiled here, does not allow")
	}
	caps := policywasm.Defaults()
	caps.Scan.Depth = 10 // other code
	load(t, l, module, true, caps)
	if sums := files(t, dir, "sum"); len(sums) != 3 {
		t.Errorf("%d entries", len(sums))
	}
	if left := files(t, dir, "*.tmp"); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

// An entry that rotted is compiled again, by the child.
func TestLoaderRot(t *testing.T) {
	c, dir := cache(t)
	child := &runtime.Child{Time: time.Minute}
	l := &runtime.Loader{Cache: c, Child: child, Warn: func(err error) { t.Error(err) }}
	module := corpus.Debug().Module()
	load(t, l, module, false, policywasm.Defaults())
	spoil := func() {
		compiled := files(t, dir, strings.Repeat("[0-9a-f]", 64))
		if len(compiled) != 1 {
			t.Fatalf("%d compiled modules", len(compiled))
		}
		b, err := os.ReadFile(compiled[0])
		if err == nil {
			b[len(b)/2] ^= 1
			err = os.WriteFile(compiled[0], b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	spoil()
	child.Program = "/nowhere"
	if _, err := l.Load(context.Background(), module, false, policywasm.Defaults()); err == nil {
		t.Fatal("what rotted was taken")
	}
	child.Program = ""
	if r := appraise(load(t, l, module, false, policywasm.Defaults()), input(t, `{"debug":false}`)); r.Decision != policywasm.Allow {
		t.Error(r.Failure)
	}
}

// bomb takes the compiler seconds, within the limits: hundreds of branches to one
// place, each with hundreds of locals that are other ones there.
func bomb(functions int) []byte {
	const locals, branches = 450, 500
	code := []any{0x02, corpus.Void}
	for i := range branches {
		code = append(code, 0x20, corpus.U(uint64((i+1)%locals)), 0x22, corpus.U(uint64(i%locals)), 0xa7, 0x0d, 0)
	}
	code = append(code, 0x0b)
	for i := range locals {
		code = append(code, 0x20, corpus.U(uint64(i)), 0x24, 0)
	}
	g := corpus.Guest{Globals: [][]byte{corpus.Cat(corpus.I64, 1, corpus.Const(corpus.I64, 0), 0x0b)}}
	for range functions {
		g.More = append(g.More, corpus.Locals([][]byte{corpus.Group(locals, corpus.I64)}, code...))
	}
	return g.Module()
}

// The child is killed at its deadline and held to its memory; what it refuses is
// refused with the reason of a module that was loaded here.
func TestChild(t *testing.T) {
	c, dir := cache(t)
	for name, tt := range map[string]struct {
		child  runtime.Child
		module []byte
		want   string
	}{
		"time":    {runtime.Child{Time: 300 * time.Millisecond}, bomb(16), policywasm.ReasonCompile},
		"memory":  {runtime.Child{Time: time.Minute, Memory: 64 << 20}, bomb(16), policywasm.ReasonCompile},
		"garbage": {runtime.Child{Time: time.Minute}, []byte("none"), policywasm.ReasonInvalid},
		"import": {runtime.Child{Time: time.Minute}, corpus.Guest{Types: [][]byte{corpus.Type(nil, nil)}, Imports: [][]byte{
			corpus.Cat(corpus.Sized([]byte("env")), corpus.Sized([]byte("now")), 0, 0)}}.Module(), policywasm.ReasonImport},
		"starts": {runtime.Child{Time: time.Minute}, corpus.Guest{More: [][]byte{corpus.Code(0x00)}, Start: corpus.U(4)}.Module(), policywasm.ReasonTrap},
	} {
		for _, l := range []*runtime.Loader{{Child: &tt.child}, {Child: &tt.child, Cache: c}} {
			if name == "memory" && goruntime.GOOS != "linux" {
				continue
			}
			started := time.Now()
			p, err := l.Load(context.Background(), tt.module, false, policywasm.Defaults())
			if err == nil {
				p.Close(context.Background())
				t.Errorf("%s: loaded", name)
				continue
			}
			if f := failure(t, err); f.Reason != tt.want {
				t.Errorf("%s: %v", name, f)
			}
			if d := time.Since(started); name == "time" && d > 3*time.Second {
				t.Errorf("killed after %v", d)
			}
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*", "*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	// A program that does not know about it is an error, and no failure.
	l := &runtime.Loader{Child: &runtime.Child{Program: "/bin/true"}}
	var f *policywasm.Failure
	if _, err := l.Load(context.Background(), corpus.Guest{}.Module(), false, policywasm.Defaults()); err == nil || errors.As(err, &f) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	l = &runtime.Loader{Child: &runtime.Child{}}
	if _, err := l.Load(ctx, corpus.Guest{}.Module(), false, policywasm.Defaults()); !errors.Is(err, context.Canceled) || errors.As(err, &f) {
		t.Errorf("after the end: %v", err)
	}
}

// TMCP-20.11-9: A host MUST NOT use a compiled module from a place that others than its own user can write to.
func TestCacheRefuses(t *testing.T) {
	if goruntime.GOOS == "windows" {
		t.Skip("no cache on this system")
	}
	root := t.TempDir()
	mk := func(name string, mode os.FileMode) string {
		dir := filepath.Join(root, name)
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, mode)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	link := filepath.Join(root, "link")
	good := mk("good", 0o700)
	if err := os.Symlink(good, link); err != nil {
		t.Fatal(err)
	}
	sticky := mk("sticky", 0o777|os.ModeSticky)
	open := mk("open", 0o777)
	for dir, want := range map[string]string{
		good:                            "",
		mk("readable", 0o755):           "",
		filepath.Join(root, "new"):      "",
		filepath.Join(sticky, "c"):      "",
		filepath.Join(link, "c"):        "", // what it leads to was looked at
		mk("group", 0o770):              "can be written by others",
		mk("all", 0o707):                "can be written by others",
		filepath.Join(open, "c"):        "can be written by others",
		link:                            "no regular file or folder",
		filepath.Join(root, "no", "ne"): "no such file",
	} {
		_, err := runtime.OpenCache(dir)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if os.Getuid() == 0 { // only root can give folders away
		other := mk("other", 0o700)
		if err := os.Chown(other, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{other, filepath.Join(other, "c")} {
			if _, err := runtime.OpenCache(dir); err == nil || !strings.Contains(err.Error(), "belongs to user 12345") {
				t.Errorf("%s: %v", dir, err)
			}
		}
	}
	// An entry that another one could write to, or that is a link, is not used.
	c, dir := cache(t)
	module := corpus.Debug().Module()
	for name, spoil := range map[string]func(file string) error{
		"writable": func(f string) error { return os.Chmod(f, 0o666) },
		"link":     func(f string) error { return errors.Join(os.Rename(f, f+"-"), os.Symlink(f+"-", f)) },
		"more":     func(f string) error { return os.WriteFile(f+"-", nil, 0o600) },
	} {
		load(t, &runtime.Loader{Cache: c}, module, true, policywasm.Defaults())
		if err := spoil(files(t, dir, strings.Repeat("[0-9a-f]", 64))[0]); err != nil {
			t.Fatal(err)
		}
		l := &runtime.Loader{Cache: c, Child: &runtime.Child{Program: "/nowhere"}}
		if _, err := l.Load(context.Background(), module, false, policywasm.Defaults()); err == nil {
			t.Errorf("%s: used", name)
		}
	}
}

func TestMemory(t *testing.T) {
	m := runtime.NewMemory(4 << 20)
	var all []interface {
		Reallocate(uint64) []byte
		Free()
	}
	for i := range 6 { // four of them fit, the others are of the heap
		l := m.Allocate(0, 1<<20)
		all = append(all, l)
		for _, size := range []uint64{64 << 10, 128 << 10, 1 << 20} {
			b := l.Reallocate(size)
			if uint64(len(b)) != size || uint64(cap(b)) > 1<<20 {
				t.Fatalf("%d: %d bytes of %d", i, len(b), cap(b))
			}
			if size > 64<<10 && b[0] != 7 {
				t.Errorf("%d: growing lost what was there", i)
			}
			b[0], b[size-1] = 7, 7
		}
		if l.Reallocate(1<<20+1) != nil {
			t.Errorf("%d: grew beyond what was granted", i)
		}
	}
	for _, l := range all {
		l.Free()
		l.Free()
	}
	for i, size := range []uint64{64 << 10, 64 << 10, 1 << 20, 1 << 20} {
		l := m.Allocate(0, 1<<20)
		for _, b := range l.Reallocate(size) {
			if b != 0 {
				t.Fatalf("%d: something was left of the one before", i)
			}
		}
		l.Reallocate(size)[size-1] = 9
		defer l.Free()
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if b := m.Allocate(0, 1<<20).Reallocate(1); len(b) != 1 {
		t.Error("after Close there is no memory")
	}
}

// Hostile modules get no further in memory that is mapped and in instances that
// are kept: each is refused for its own reason, twice, with good ones beside it.
func TestHostile(t *testing.T) {
	m := runtime.NewMemory(1 << 30)
	defer m.Close()
	l := &runtime.Loader{Memory: m}
	caps := policywasm.Defaults()
	caps.Pool, caps.Concurrent = 2, 2
	good := load(t, l, corpus.Debug().Module(), true, caps)
	in := input(t, `{"debug":false}`)
	for _, c := range corpus.Cases() {
		module := c.Module()
		if len(module) > 64<<10 {
			continue
		}
		p, err := l.Load(t.Context(), module, true, caps)
		if c.Load {
			if err == nil {
				t.Errorf("%s: loaded", c.Name)
			} else if f := failure(t, err); f.Reason != c.Want {
				t.Errorf("%s: %v; %s is due", c.Name, f, c.Want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		for range 2 {
			if r := appraise(p, in); r.Failure == nil || r.Failure.Reason != c.Want {
				t.Errorf("%s: %v; %s is due", c.Name, r.Failure, c.Want)
			}
			if r := appraise(good, in); r.Decision != policywasm.Allow {
				t.Errorf("beside %s: %v", c.Name, r.Failure)
			}
		}
		p.Close(t.Context())
	}
}

// A policy answers the same in memory that was used by others, at one time.
func TestMemoryShared(t *testing.T) {
	l := &runtime.Loader{Memory: runtime.NewMemory(0)}
	defer l.Memory.Close()
	// One leaves marks all over two pages; the other one traps if it finds any.
	marks := corpus.Guest{Memory: corpus.Cat(0, 1), Appraise: corpus.Code(
		corpus.Const(corpus.I32, 3), 0x40, 0, 0x1a,
		corpus.Const(corpus.I32, 4096), corpus.Const(corpus.I32, 255), corpus.Const(corpus.I32, 200_000), 0xfc, 11, 0,
		corpus.Packed(16, len(corpus.AllowAnswer)))}
	finds := corpus.Guest{Memory: corpus.Cat(0, 1), Appraise: corpus.Code(
		corpus.Const(corpus.I32, 3), 0x40, 0, 0x1a,
		corpus.Const(corpus.I32, 16384), 0x29, 0, 0, corpus.Const(corpus.I32, 200_000), 0x29, 0, 0, 0x84, 0x50, 0x45, 0x04, corpus.Void, 0x00, 0x0b,
		corpus.Packed(16, len(corpus.AllowAnswer)))}
	a, b := load(t, l, marks.Module(), true, policywasm.Defaults()), load(t, l, finds.Module(), true, policywasm.Defaults())
	in := input(t, `{}`)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				for _, p := range []*policywasm.Policy{a, b} {
					if r := appraise(p, in); r.Decision != policywasm.Allow {
						t.Error(r.Failure)
					}
				}
			}
		})
	}
	wg.Wait()
}

// watched counts who uses it, and whether that is after its end.
type watched struct {
	policywasm.Evaluator
	closed atomic.Int32
	late   *atomic.Int32
}

func (w *watched) Evaluate(ctx context.Context, c policywasm.Call) *policywasm.Result {
	r := w.Evaluator.Evaluate(ctx, c)
	w.late.Add(w.closed.Load())
	return r
}

func (w *watched) Close(ctx context.Context) error {
	w.closed.Add(1)
	return w.Evaluator.Close(ctx)
}

// Policies are replaced hundreds of times while others evaluate: no decision is
// lost, none is of one policy under another one's name, and each one is closed
// once, after its last user.
func TestLive(t *testing.T) {
	var late atomic.Int32
	var made []*watched
	answers := []string{corpus.AllowAnswer, corpus.DenyAnswer}
	caps := policywasm.Defaults()
	caps.Engine = policywasm.Interpreter
	next := func(i int) (policywasm.Evaluator, error) {
		p, err := policywasm.Load(context.Background(), corpus.Guest{Answer: answers[i%2]}.Module(), caps)
		if err != nil {
			return nil, err
		}
		w := &watched{Evaluator: p, late: &late}
		made = append(made, w)
		return w, nil
	}
	first, err := next(0)
	if err != nil {
		t.Fatal(err)
	}
	allows := first.Digest()
	live := runtime.NewLivePolicy(first)
	in := input(t, `{}`)
	stop := make(chan struct{})
	var asked atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				r := appraise(live, in)
				if r.Failure != nil || (r.Decision == policywasm.Allow) != (r.Policy == allows) {
					t.Errorf("%+v %v", r, r.Failure)
				}
				asked.Add(1)
			}
		})
	}
	for i := 1; i <= 300; i++ {
		if err := live.Reload(t.Context(), func(context.Context) (policywasm.Evaluator, error) { return next(i) }); err != nil {
			t.Error(err)
		}
		err := live.Reload(t.Context(), func(context.Context) (policywasm.Evaluator, error) { return nil, errors.New("does not load") })
		if err == nil || live.Digest() != made[i].Digest() || live.Metadata().Name != "guest" {
			t.Errorf("the last good one was not kept: %v", err)
		}
	}
	for asked.Load() < 100 {
		goruntime.Gosched()
	}
	close(stop)
	wg.Wait()
	if err := errors.Join(live.Close(t.Context()), live.Close(t.Context())); err != nil {
		t.Error(err)
	}
	if late.Load() != 0 {
		t.Errorf("%d evaluations of a policy that was closed", late.Load())
	}
	for i, w := range made {
		if w.closed.Load() != 1 {
			t.Errorf("policy %d was closed %d times", i, w.closed.Load())
		}
	}
	if r := appraise(live, in); r.Failure == nil || r.Decision != policywasm.Deny {
		t.Errorf("after the end: %+v", r)
	}
	if err := live.Reload(t.Context(), func(context.Context) (policywasm.Evaluator, error) { return next(0) }); err == nil {
		t.Error("reloaded after the end")
	}
}

func TestShadow(t *testing.T) {
	caps := policywasm.Defaults()
	l := &runtime.Loader{}
	differ := 0
	s := &runtime.Shadow{
		Active: load(t, l, corpus.Guest{}.Module(), true, caps), Next: load(t, l, corpus.Guest{Answer: corpus.DenyAnswer}.Module(), true, caps),
		Compare: func(_ policywasm.Call, active, next *policywasm.Result) {
			if active.Decision != next.Decision {
				differ++
			}
		},
	}
	if r := appraise(s, input(t, `{}`)); r.Decision != policywasm.Allow || differ != 1 || s.Digest() != s.Active.Digest() || s.Metadata().Name != "guest" {
		t.Errorf("%+v, %d differ", r, differ)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func ExampleLivePolicy() {
	ctx := context.Background()
	l := &runtime.Loader{Memory: runtime.NewMemory(0)}
	first, err := l.Load(ctx, corpus.Debug().Module(), true, policywasm.Defaults())
	if err != nil {
		fmt.Println(err)
		return
	}
	live := runtime.NewLivePolicy(first)
	defer live.Close(ctx)
	err = live.Reload(ctx, func(ctx context.Context) (policywasm.Evaluator, error) {
		return l.Load(ctx, []byte("not a module"), true, policywasm.Defaults())
	})
	fmt.Println(err)
	// Output: policy.invalid: at offset 0x4: no WebAssembly module: it does not begin with 00 61 73 6d
}
