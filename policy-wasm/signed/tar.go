package signed

import (
	"bytes"
	"fmt"
	"strconv"
)

// A bundle is a tar file in the one form that follows, so that equal contents
// are equal bytes, and nothing that readers of tar disagree on can be written:
//
//	for each member, in bytewise order of names:
//	  header of 512 bytes (POSIX ustar), zero but for
//	      0  name, at most 100 bytes
//	    100  "0000644\0"        mode
//	    108  "0000000\0"        owner
//	    116  "0000000\0"        group
//	    124  size in 11 octal digits, "\0"
//	    136  "00000000000\0"    time
//	    148  sum of the header's bytes, these 8 taken as spaces, in 6 octal digits, "\0 "
//	    156  "0"                a file
//	    257  "ustar\0" "00"
//	    329  "0000000\0" "0000000\0"
//	  content, and zeros up to a multiple of 512 bytes
//	1024 zero bytes
const block = 512

const maxPath = 100

type member struct {
	path    string
	content []byte
}

func tarHeader(path string, size int) []byte {
	h := make([]byte, block)
	copy(h, path)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], fmt.Sprintf("%011o\x0000000000000\x00", size))
	copy(h[148:], "        0")
	copy(h[257:], "ustar\x0000")
	copy(h[329:], "0000000\x000000000\x00")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

func padding(size int) int { return (block - size%block) % block }

// appendTar appends a bundle of members, which are sorted.
func appendTar(b []byte, all []member) []byte {
	for _, m := range all {
		b = append(append(b, tarHeader(m.path, len(m.content))...), m.content...)
		b = append(b, make([]byte, padding(len(m.content)))...)
	}
	return append(b, make([]byte, 2*block)...)
}

// splitTar reads a bundle. Contents alias b. A header is accepted when it is the
// one that would be written for its name and size.
func splitTar(b []byte, limit int) ([]member, error) {
	whole := len(b)
	fail := func(format string, args ...any) error {
		return fmt.Errorf("at byte %d: "+format, append([]any{whole - len(b)}, args...)...)
	}
	var all []member
	for {
		if len(b) < 2*block {
			return nil, fail("the file ends early")
		}
		h := b[:block]
		if h[0] == 0 {
			if len(b) != 2*block || len(bytes.Trim(b, "\x00")) > 0 {
				return nil, fail("want 1024 zero bytes at the end, and nothing after them")
			}
			return all, nil
		}
		if len(all) == limit {
			return nil, fail("more than %d members", limit)
		}
		name, _, _ := bytes.Cut(h[:maxPath], []byte{0})
		path := string(name)
		size, err := strconv.ParseUint(string(h[124:135]), 8, 40)
		if err != nil || !bytes.Equal(h, tarHeader(path, int(size))) {
			return nil, fail("the header of %.100q is not the one that a bundle has for a file", path)
		}
		if len(all) > 0 && path <= all[len(all)-1].path {
			return nil, fail("%q stands after %q: names are sorted, and each stands once", path, all[len(all)-1].path)
		}
		b = b[block:]
		if size > uint64(len(b)) || int(size)+padding(int(size)) > len(b) {
			return nil, fail("%q is said to have %d bytes, and %d follow", path, size, len(b))
		}
		n := int(size)
		all = append(all, member{path, b[:n:n]})
		if len(bytes.Trim(b[n:n+padding(n)], "\x00")) > 0 {
			return nil, fail("after %q something else than zeros", path)
		}
		b = b[n+padding(n):]
	}
}
