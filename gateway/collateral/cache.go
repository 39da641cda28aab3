package collateral

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

const (
	cacheVersion = 1
	cacheSuffix  = ".collateral"
	maxEntries   = 4096 // oldest go first
	maxEntryFile = 2*maxBody + 64<<10
)

// A cache is a directory of answers, one file each, named by the digest of
// their URL. Every file is written whole or not at all, and read back with its
// digest compared: processes may share the directory. A nil cache is empty.
type cache struct{ dir string }

// A record is the content of one file.
type record struct {
	Version int       `json:"version"`
	URL     string    `json:"url"`
	Fetched time.Time `json:"fetched"`
	Issuer  string    `json:"issuer_chain,omitzero"`
	Body    string    `json:"body"`   // base64
	Digest  string    `json:"sha256"` // of URL, issuer and body, each followed by NUL
}

func (r *record) sum() string {
	h := sha256.New()
	for _, s := range []string{r.URL, r.Fetched.UTC().Format(time.RFC3339Nano), r.Issuer, r.Body} {
		io.WriteString(h, s)
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))
}

func openCache(dir string) (*cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("collateral: cache directory: %w", err)
	}
	return &cache{dir}, nil
}

func (c *cache) path(url string) string {
	sum := sha256.Sum256([]byte(url))
	return filepath.Join(c.dir, hex.EncodeToString(sum[:])+cacheSuffix)
}

// get never fails: what can't be read, or isn't what was written, is a miss.
func (c *cache) get(url string) (entry, time.Time, bool) {
	if c == nil {
		return entry{}, time.Time{}, false
	}
	f, err := os.Open(c.path(url))
	if err != nil {
		return entry{}, time.Time{}, false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxEntryFile))
	if err != nil {
		return entry{}, time.Time{}, false
	}
	var r record
	if json.Unmarshal(b, &r, json.RejectUnknownMembers(true)) != nil || r.Version != cacheVersion || r.URL != url || r.sum() != r.Digest {
		return entry{}, time.Time{}, false
	}
	body, err := base64.StdEncoding.DecodeString(r.Body)
	return entry{body, r.Issuer}, r.Fetched, err == nil
}

// put never fails either: a cache that can't be written is a slow one only.
func (c *cache) put(url string, e entry, now time.Time) {
	if c == nil {
		return
	}
	r := record{Version: cacheVersion, URL: url, Fetched: now.UTC(), Issuer: e.Issuer, Body: base64.StdEncoding.EncodeToString(e.Body)}
	r.Digest = r.sum()
	b, err := json.Marshal(r)
	if err != nil {
		return
	}
	f, err := os.CreateTemp(c.dir, ".new-*") // mode 0600
	if err != nil {
		return
	}
	_, err = f.Write(b)
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err == nil {
		err = os.Rename(f.Name(), c.path(url))
	}
	if err != nil {
		os.Remove(f.Name())
		return
	}
	c.prune()
}

// prune removes the oldest entries above maxEntries, and what crashed writers
// left.
func (c *cache) prune() {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	type old struct {
		name string
		at   time.Time
	}
	var all []old
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		switch {
		case strings.HasSuffix(e.Name(), cacheSuffix):
			all = append(all, old{e.Name(), info.ModTime()})
		case strings.HasPrefix(e.Name(), ".new-") && time.Since(info.ModTime()) > time.Hour:
			os.Remove(filepath.Join(c.dir, e.Name()))
		}
	}
	if len(all) <= maxEntries {
		return
	}
	slices.SortFunc(all, func(a, b old) int { return a.at.Compare(b.at) })
	for _, o := range all[:len(all)-maxEntries] {
		os.Remove(filepath.Join(c.dir, o.name))
	}
}
