package signed

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

const metadataSection = scan.Metadata

var magic = []byte("\x00asm\x01\x00\x00\x00")

// IsModule reports whether b begins as a module of core WebAssembly does.
func IsModule(b []byte) bool { return bytes.HasPrefix(b, magic) }

// customSection is the content of the one custom section of that name; nil
// without one.
func customSection(module []byte, name string) ([]byte, error) {
	if !IsModule(module) {
		return nil, errors.New("not a WebAssembly module: want 00 61 73 6d 01 00 00 00 at the start")
	}
	var found []byte
	for b := module[len(magic):]; len(b) > 0; {
		id := b[0]
		size, rest, ok := leb(b[1:])
		if !ok || uint64(size) > uint64(len(rest)) {
			return nil, fmt.Errorf("the section at byte %d ends beyond the module", len(module)-len(b))
		}
		content := rest[:size]
		b = rest[size:]
		if id != 0 {
			continue
		}
		n, after, ok := leb(content)
		if !ok || uint64(n) > uint64(len(after)) {
			return nil, errors.New("a custom section without a name")
		}
		if string(after[:n]) != name {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("the section %s stands twice", name)
		}
		found = append([]byte{}, after[n:]...)
	}
	return found, nil
}

// leb reads an unsigned LEB128 of at most 32 bits.
func leb(b []byte) (n uint32, rest []byte, ok bool) {
	for i := 0; i < 5 && i < len(b); i++ {
		if i == 4 && b[i] > 0x0f {
			return 0, nil, false
		}
		n |= uint32(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return n, b[i+1:], true
		}
	}
	return 0, nil, false
}
