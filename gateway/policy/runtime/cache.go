package runtime

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
)

// A Cache is a folder of compiled modules. Whoever can write to it runs native
// code in this process, so it is refused unless this user alone can: its files,
// the folder itself, and those above it. What stands in it has no key: there is
// none that such a writer would not have too. A digest beside each entry finds
// what rotted.
//
// Entries are for one build of the program, one version of the engine, one
// architecture, and one set of limits. The folder can be deleted at any time.
type Cache struct {
	dir     string // of this build
	entries int
}

// cacheEntries is how many modules are kept; the oldest ones go.
const cacheEntries = 512

const (
	sumFile   = "sum"
	temporary = "new-"
)

// OpenCache opens a folder, and makes it, for this user only, where it is not
// there. Folders above must exist.
func OpenCache(dir string) (*Cache, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	above, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if err != nil {
		return nil, fmt.Errorf("cache of compiled policies: %w", err)
	}
	dir = filepath.Join(above, filepath.Base(dir))
	c := &Cache{dir: filepath.Join(dir, "tmcp-"+build()), entries: cacheEntries}
	for _, d := range []string{dir, c.dir} {
		if err := os.Mkdir(d, 0o700); err != nil && !os.IsExist(err) {
			return nil, fmt.Errorf("cache of compiled policies: %w", err)
		}
		if err := secure(d); err != nil {
			return nil, fmt.Errorf("cache of compiled policies: %w", err)
		}
	}
	return c, c.prune()
}

// build names what decides whether compiled code fits, but for the processor's
// features and the module, which the engine has in its own key.
func build() string {
	h := sha256.New()
	fmt.Fprintln(h, "tmcp policy cache 1", policywasm.ABI, goruntime.Version(), goruntime.GOOS, goruntime.GOARCH)
	if b, ok := debug.ReadBuildInfo(); ok {
		fmt.Fprintln(h, b.Main.Path, b.Main.Version, b.Main.Sum)
		for _, d := range b.Deps {
			if strings.HasPrefix(d.Path, "github.com/tetratelabs/wazero") || strings.HasPrefix(d.Path, "github.com/trustedmcp/") {
				fmt.Fprintln(h, d.Path, d.Version, d.Sum, d.Replace)
			}
		}
		for _, s := range b.Settings {
			if strings.HasPrefix(s.Key, "vcs.") || s.Key == "GOAMD64" || s.Key == "GOARM64" {
				fmt.Fprintln(h, s.Key, s.Value)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// key names a module under those caps that decide what is compiled.
func key(module []byte, caps policywasm.Caps) string {
	h := sha256.New()
	l := caps.Scan
	l.Allow = nil
	fmt.Fprintf(h, "%x %d %t %+v\n", sha256.Sum256(module), caps.Engine, caps.Log > 0, l)
	return hex.EncodeToString(h.Sum(nil))
}

// lookup returns the folder of an entry that is whole, or "".
func (c *Cache) lookup(key string) string {
	dir := filepath.Join(c.dir, key)
	want, err := os.ReadFile(filepath.Join(dir, sumFile))
	if err != nil {
		return ""
	}
	got, err := sum(dir)
	if err != nil || !bytes.Equal(got, want) {
		os.RemoveAll(dir)
		return ""
	}
	now := time.Now()
	_ = os.Chtimes(dir, now, now) // it is used: only pruning would miss that
	return dir
}

// stage makes the folder in which a module is compiled.
func (c *Cache) stage() (string, error) { return os.MkdirTemp(c.dir, temporary) }

// add makes what was compiled in dir the entry of that key.
func (c *Cache) add(dir, key string) error {
	s, err := sum(dir)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, sumFile), s, 0o600)
	}
	if err == nil {
		err = os.Rename(dir, filepath.Join(c.dir, key))
	}
	if err != nil {
		os.RemoveAll(dir) // as well when another process was faster
		if _, there := os.Stat(filepath.Join(c.dir, key)); there == nil {
			return nil
		}
		return err
	}
	return c.prune()
}

// sum is the SHA-256 of what stands in an entry's folder, and of nothing less:
// every file and folder in it must be this user's own.
func sum(dir string) ([]byte, error) {
	h := sha256.New()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == filepath.Join(dir, sumFile) {
			return err
		}
		if d.IsDir() {
			_, err := ours(path, fs.ModeDir)
			return err
		}
		if _, err := ours(path, 0); err != nil {
			return err
		}
		if files++; files > 2 { // one, and what an adapter puts before it
			return fmt.Errorf("%s holds more than a compiled module and its shim", dir)
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		fmt.Fprintln(h, d.Name(), info.Size())
		_, err = io.Copy(h, f)
		return err
	})
	if err == nil && files == 0 {
		err = fmt.Errorf("%s holds no compiled module", dir)
	}
	return h.Sum(nil), err
}

// prune deletes the oldest entries beyond the number that is kept, and what
// processes that ended left half done.
func (c *Cache) prune() error {
	list, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	type entry struct {
		path string
		used time.Time
	}
	var all []entry
	for _, d := range list {
		i, err := d.Info()
		if err != nil {
			continue // somebody else deletes too
		}
		e := entry{filepath.Join(c.dir, d.Name()), i.ModTime()}
		if !strings.HasPrefix(d.Name(), temporary) {
			all = append(all, e)
		} else if time.Since(e.used) > time.Hour {
			os.RemoveAll(e.path)
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return a.used.Compare(b.used) })
	for len(all) > c.entries {
		os.RemoveAll(all[0].path)
		all = all[1:]
	}
	return nil
}
