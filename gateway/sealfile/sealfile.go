// Package sealfile is the I/O of sealing files: [KeyObject] gets what is sealed to,
// [Create] makes an output that appears whole or not at all, and [Copy] can be
// interrupted. The format is that of package protocol/sealfile.
package sealfile

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/protocol"
)

// MediaTypeKey is that of a key object for files, where it is served.
const MediaTypeKey = "application/vnd.trustedmcp.file-key+cose"

const (
	maxKeyObject = 256 << 10 // bytes, also in base64url
	patience     = 30 * time.Second
)

// ErrUnreachable is of a key object that can't be fetched.
var ErrUnreachable = errors.New("the key object can't be fetched")

// IsURL reports whether KeyObject takes name for a URL.
func IsURL(name string) bool {
	return strings.HasPrefix(name, "https://") || strings.HasPrefix(name, "http://")
}

// KeyObject gets a key object from a URL, or from a file ("-": stdin): as it is, or
// in base64url. Nothing of it is verified: it may come from anywhere, and over plain
// http too.
func KeyObject(ctx context.Context, name string, stdin io.Reader) ([]byte, error) {
	b, err := get(ctx, name, stdin)
	if err != nil {
		return nil, err
	}
	if len(b) > maxKeyObject {
		return nil, fmt.Errorf("%s is larger than %d bytes: no key object", name, maxKeyObject)
	}
	if len(b) > 0 && b[0] >= 0x80 { // CBOR, not text
		return b, nil
	}
	raw, err := protocol.ParseBase64(strings.TrimSpace(string(b)))
	if err != nil || len(raw) == 0 {
		return nil, fmt.Errorf("%s holds no key object: want CBOR or base64url, as tmcp keyobject writes it", name)
	}
	return raw, nil
}

func get(ctx context.Context, name string, stdin io.Reader) ([]byte, error) {
	switch {
	case name == "-":
		return io.ReadAll(io.LimitReader(stdin, maxKeyObject+1))
	case !IsURL(name):
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, maxKeyObject+1))
	}
	u, err := url.Parse(name)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%q is no URL", name)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, name, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", MediaTypeKey+", */*;q=0.1")
	base := http.DefaultTransport.(*http.Transport).Clone()
	defer base.CloseIdleConnections()
	resp, err := (&http.Client{Transport: base}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: %s answers %s", ErrUnreachable, name, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxKeyObject+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return b, nil
}

// An Output is a file that has its name only once it is whole.
type Output struct {
	*os.File
	path    string
	replace bool
	done    bool
}

// Create makes an output for path beside it, under a name that begins with a dot.
// Without replace a file of that name is left alone, and is an error. mode is less
// the process's umask.
func Create(path string, mode fs.FileMode, replace bool) (*Output, error) {
	if !replace {
		if err := free(path); err != nil {
			return nil, err
		}
	} else if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeSymlink {
		// A device or pipe would be gone, with what others do with it.
		return nil, fmt.Errorf("%s is no file that could be replaced; choose another --out, or - for stdout", path)
	}
	part := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+rand.Text()[:8]+".part")
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return nil, err
	}
	return &Output{File: f, path: path, replace: replace}, nil
}

func free(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s exists; choose another --out, or say --force", path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Commit gives the output its name.
func (o *Output) Commit() error {
	if err := errors.Join(o.Sync(), o.Close()); err != nil {
		return err
	}
	if o.replace {
		return o.rename()
	}
	// A link does not replace what came to be in the meantime.
	err := os.Link(o.Name(), o.path)
	switch {
	case err == nil:
		return nil // Discard removes the other name
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s exists since; choose another --out, or say --force", o.path)
	}
	if err := free(o.path); err != nil { // a file system without links
		return err
	}
	return o.rename()
}

// rename leaves the other name for Discard to remove when it fails.
func (o *Output) rename() error {
	err := os.Rename(o.Name(), o.path)
	o.done = err == nil
	return err
}

// Discard removes what is not committed. Always call it in the end.
func (o *Output) Discard() {
	if !o.done {
		_ = o.Close()
		_ = os.Remove(o.Name())
	}
}

// Copy copies src to dst until ctx ends.
func Copy(ctx context.Context, dst io.Writer, src io.Reader) (int64, error) {
	return io.Copy(dst, until{ctx, src})
}

type until struct {
	ctx context.Context
	src io.Reader
}

func (u until) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.src.Read(p)
}
