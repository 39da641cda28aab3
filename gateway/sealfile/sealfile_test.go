package sealfile_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/gateway/sealfile"
	"github.com/trustedmcp/tmcp/protocol"
)

// A key object comes from a file, a URL or stdin, as it is or as text.
func TestKeyObject(t *testing.T) {
	object := []byte{0xd8, 98, 1, 2, 3}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/key":
			_, _ = w.Write(object)
		case "/large":
			_, _ = w.Write(bytes.Repeat([]byte{0xff}, 1<<20))
		default:
			http.NotFound(w, r)
		}
	}))
	defer srv.Close()
	dir := t.TempDir()
	for name, b := range map[string][]byte{"raw": object, "text": []byte(protocol.Base64(object) + "\n"), "empty": nil, "junk": []byte("junk!")} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ name, want string }{
		{filepath.Join(dir, "raw"), ""},
		{filepath.Join(dir, "text"), ""},
		{srv.URL + "/key", ""},
		{"-", ""},
		{filepath.Join(dir, "empty"), "holds no key object"},
		{filepath.Join(dir, "junk"), "holds no key object"},
		{filepath.Join(dir, "none"), "no such file"},
		{srv.URL + "/large", "larger than"},
		{srv.URL + "/none", "404"},
		{"http://127.0.0.1:1/", "can't be fetched"},
		{"https:///", "no URL"},
	} {
		got, err := sealfile.KeyObject(t.Context(), tt.name, bytes.NewReader(object))
		if tt.want == "" && (err != nil || !bytes.Equal(got, object)) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %x, %v; want %q", tt.name, got, err, tt.want)
		}
	}
}

// An output appears whole, replaces nothing that it should not, and leaves nothing
// when it is given up.
func TestOutput(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	write := func(replace, commit bool, text string) error {
		o, err := sealfile.Create(path, 0o600, replace)
		if err != nil {
			return err
		}
		defer o.Discard()
		if _, err := o.WriteString(text); err != nil || !commit {
			return err
		}
		return o.Commit()
	}
	holds := func(want string) {
		t.Helper()
		b, err := os.ReadFile(path)
		if want == "" && !errors.Is(err, os.ErrNotExist) || string(b) != want {
			t.Errorf("%q, %v; want %q", b, err, want)
		}
		names, err := os.ReadDir(dir)
		if err != nil || len(names) != min(len(want), 1) {
			t.Errorf("%d files are there: %v, %v", len(names), names, err)
		}
	}
	if err := write(false, false, "half"); err != nil {
		t.Error(err)
	}
	holds("")
	if err := write(false, true, "whole"); err != nil {
		t.Error(err)
	}
	holds("whole")
	if err := write(false, true, "other"); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Error(err)
	}
	holds("whole")
	if err := write(true, false, "half"); err != nil {
		t.Error(err)
	}
	holds("whole")
	if err := write(true, true, "newer"); err != nil {
		t.Error(err)
	}
	holds("newer")
	// What came to be in the meantime is left alone.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	o, err := sealfile.Create(path, 0o600, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := o.Commit(); err == nil {
		t.Error("it replaced another file")
	}
	o.Discard()
	holds("theirs")
}

func TestCopyEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var b bytes.Buffer
	if n, err := sealfile.Copy(ctx, &b, strings.NewReader("x")); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d, %v", n, err)
	}
}
