package build

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// magic and version of core modules.
const header = "\x00asm\x01\x00\x00\x00"

// A section is one section of a module, as it stands there.
type section struct {
	id      byte
	whole   []byte // with id and size
	payload []byte
}

var errModule = errors.New("no core WebAssembly module")

// sections takes a module apart.
func sections(b []byte) (out []section, err error) {
	if !bytes.HasPrefix(b, []byte(header)) {
		if bytes.HasPrefix(b, []byte("\x00asm")) {
			return nil, fmt.Errorf("%w: version %x; components are not policies", errModule, b[4:min(8, len(b))])
		}
		return nil, fmt.Errorf("%w: it does not begin with 00 61 73 6d", errModule)
	}
	for at := len(header); at < len(b); {
		size, n := binary.Uvarint(b[at+1:])
		if n <= 0 || n > 5 || size > uint64(len(b)-at-1-n) {
			return nil, fmt.Errorf("%w: the section at %#x is longer than the file", errModule, at)
		}
		end := at + 1 + n + int(size)
		out = append(out, section{b[at], b[at:end], b[at+1+n : end]})
		at = end
	}
	return out, nil
}

// custom is the name and content of a custom section.
func (s *section) custom() (name string, content []byte, ok bool) {
	n, k := binary.Uvarint(s.payload)
	if s.id != 0 || k <= 0 || n > uint64(len(s.payload)-k) {
		return "", nil, false
	}
	return string(s.payload[k : k+int(n)]), s.payload[k+int(n):], true
}

// Attach gives a module its metadata, in place of what it had.
func Attach(module []byte, meta *policywasm.Metadata) ([]byte, error) {
	all, err := sections(module)
	if err != nil {
		return nil, err
	}
	out := []byte(header)
	for i := range all {
		if name, _, ok := all[i].custom(); !ok || name != scan.Metadata {
			out = append(out, all[i].whole...)
		}
	}
	payload := append(binary.AppendUvarint(nil, uint64(len(scan.Metadata))), scan.Metadata...)
	payload = meta.Append(payload)
	out = append(out, 0)
	out = binary.AppendUvarint(out, uint64(len(payload)))
	return append(out, payload...), nil
}
