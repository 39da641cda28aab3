package sealfile_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/trustedmcp/tmcp/gateway/sealfile"
)

// What can't be replaced is left alone, and nothing that was opened stays behind.
func TestOutputOverWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := sealfile.Create(target, 0o600, true); err == nil {
		t.Error("a directory was to be replaced")
	}
	if err := os.Remove(target); err != nil {
		t.Fatal(err)
	}
	o, err := sealfile.Create(target, 0o600, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.WriteString("secret"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := o.Commit(); err == nil {
		t.Error("a directory was replaced")
	}
	o.Discard()
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}
