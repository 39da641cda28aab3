//go:build unix

package runtime

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const othersWrite = 0o022

func owner(i fs.FileInfo) (uint32, bool) {
	s, ok := i.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return s.Uid, true
}

// ours checks that a file or folder belongs to this user, and that no other one
// can write to it. Links are not followed.
func ours(path string, kind fs.FileMode) (fs.FileInfo, error) {
	i, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	uid, ok := owner(i)
	switch {
	case i.Mode().Type() != kind:
		return nil, fmt.Errorf("%s is no regular file or folder: %v", path, i.Mode())
	case !ok || int(uid) != os.Geteuid():
		return nil, fmt.Errorf("%s belongs to user %d, not to the user who runs this", path, uid)
	case i.Mode().Perm()&othersWrite != 0:
		return nil, fmt.Errorf("%s can be written by others (%v): take that right away, with chmod go-w", path, i.Mode().Perm())
	}
	return i, nil
}

// secure checks a folder, and that nobody else can put another one in its place:
// each folder above belongs to this user or to root, and is written by its owner
// only, or has the sticky bit, as /tmp does.
func secure(dir string) error {
	if _, err := ours(dir, fs.ModeDir); err != nil {
		return err
	}
	for d := filepath.Dir(dir); ; d = filepath.Dir(d) {
		i, err := os.Lstat(d)
		if err != nil {
			return err
		}
		uid, ok := owner(i)
		if !ok || uid != 0 && int(uid) != os.Geteuid() {
			return fmt.Errorf("%s, above %s, belongs to user %d", d, dir, uid)
		}
		if i.Mode().Perm()&othersWrite != 0 && i.Mode()&fs.ModeSticky == 0 {
			return fmt.Errorf("%s, above %s, can be written by others (%v)", d, dir, i.Mode().Perm())
		}
		if d == filepath.Dir(d) {
			return nil
		}
	}
}
