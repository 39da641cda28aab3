package sevsnp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Limits of what is looked at, before any work is done.
const (
	maxTable        = 128 << 10 // bytes of a certificate table, with its padding
	maxTableEntries = 16
	maxItem         = 64 << 10 // bytes of one endorsement
	maxItems        = 256      // certificates among the endorsements, and CRLs
	maxCertificates = 16       // in one endorsement
)

// A guid is as it stands in a certificate table: in the order of its text.
type guid [16]byte

// The kinds of entries (AMD 56421, section "SNP Extended Guest Request").
var (
	guidVCEK = guid{0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd}
	guidVLEK = guid{0xa8, 0x07, 0x4b, 0xc2, 0xa2, 0x5a, 0x48, 0x3e, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1}
	guidASK  = guid{0x4a, 0xb7, 0xb3, 0x79, 0xbb, 0xac, 0x4f, 0xe4, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82}
	guidARK  = guid{0xc0, 0xb4, 0x06, 0xa4, 0xa8, 0x03, 0x49, 0x52, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0, 0xae}
	guidCRL  = guid{0x92, 0xf8, 0x1b, 0xc3, 0x58, 0x11, 0x4d, 0x3d, 0x97, 0xff, 0xd1, 0x9f, 0x88, 0xdc, 0x67, 0xea}
)

func (g guid) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", g[:4], g[4:6], g[6:8], g[8:10], g[10:])
}

type entry struct {
	kind guid
	data []byte
}

const entrySize = 24

// parseTable parses the certificate table of an extended guest request: entries
// of 24 bytes (GUID, offset from the table's start, length; little endian), one
// of zeros to end them, and what they point to. Each byte belongs to exactly one
// of these, or is zero; so nothing can hide in it.
//
// It is not go-sev-guest's parser, which adds offset and length in 32 bits: a
// table of 48 bytes makes it panic.
func parseTable(b []byte) ([]entry, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) > maxTable {
		return nil, fmt.Errorf("%d bytes, want at most %d", len(b), maxTable)
	}
	type span struct{ from, to uint64 }
	var entries []entry
	var spans []span
	header := uint64(0)
	for {
		if uint64(len(b)) < header+entrySize {
			return nil, errors.New("the entries are not ended by one of zeros")
		}
		e := b[header : header+entrySize]
		header += entrySize
		if zero(e) {
			break
		}
		if len(entries) == maxTableEntries {
			return nil, fmt.Errorf("more than %d entries", maxTableEntries)
		}
		from := uint64(binary.LittleEndian.Uint32(e[16:]))
		to := from + uint64(binary.LittleEndian.Uint32(e[20:]))
		if to == from || to > uint64(len(b)) {
			return nil, fmt.Errorf("entry %d has the bytes %d to %d of %d", len(entries), from, to, len(b))
		}
		entries = append(entries, entry{guid(e[:16]), b[from:to]})
		spans = append(spans, span{from, to})
	}
	slices.SortFunc(spans, func(a, b span) int { return int(int64(a.from) - int64(b.from)) })
	at := header
	for _, s := range append(spans, span{uint64(len(b)), uint64(len(b))}) {
		if s.from < at {
			return nil, errors.New("an entry overlaps with another or with the header")
		}
		if !zero(b[at:s.from]) {
			return nil, errors.New("bytes that belong to no entry are not zero")
		}
		at = s.to
	}
	return entries, nil
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
