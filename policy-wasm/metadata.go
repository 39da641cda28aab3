package policywasm

import (
	"fmt"
	"slices"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// An Encoding is how input and output are written.
type Encoding string

// The encodings. JSON is canonical (RFC 8785), CBOR deterministic (RFC 8949
// section 4.2.1); one document has the same data model in both.
const (
	JSON Encoding = "json"
	CBOR Encoding = "cbor"
)

// Metadata is what a module says of itself, in the custom section
// "tmcp.policy": a map in deterministic CBOR with the integer keys below.
// Nothing of it is believed further than its signature; fuel and pages are
// wishes.
type Metadata struct {
	ABI      uint64   // 1: version of the ABI
	Name     string   // 2
	Version  string   // 3: of the policy
	Author   string   // 4
	Licence  string   // 5: SPDX expression
	Entries  []Entry  // 6: the questions that it answers
	Encoding Encoding // 7
	Inputs   []string // 8: JSON pointers of the claims that it reads
	Fuel     uint64   // 9: enough for an evaluation; 0: not said
	Pages    uint64   // 10: enough memory, in pages of 64 KiB; 0: not said
	// Development (11) says that the policy is for simulated TEEs. A host asks it
	// about no others then, and about simulated ones it asks nobody else.
	Development bool
}

const (
	members   = 11
	maxText   = 128 // bytes of a text in metadata
	maxInputs = 256
)

// Append appends the encoding of m to b.
func (m *Metadata) Append(b []byte) []byte {
	b = dcbor.AppendMap(b, members)
	b = dcbor.AppendUint(dcbor.AppendUint(b, 1), m.ABI)
	for i, s := range []string{m.Name, m.Version, m.Author, m.Licence} {
		b = dcbor.AppendText(dcbor.AppendUint(b, uint64(i+2)), s)
	}
	b = dcbor.AppendArray(dcbor.AppendUint(b, 6), len(m.Entries))
	for _, e := range m.Entries {
		b = dcbor.AppendText(b, string(e))
	}
	b = dcbor.AppendText(dcbor.AppendUint(b, 7), string(m.Encoding))
	b = dcbor.AppendArray(dcbor.AppendUint(b, 8), len(m.Inputs))
	for _, s := range m.Inputs {
		b = dcbor.AppendText(b, s)
	}
	b = dcbor.AppendUint(dcbor.AppendUint(b, 9), m.Fuel)
	b = dcbor.AppendUint(dcbor.AppendUint(b, 10), m.Pages)
	return dcbor.AppendBool(dcbor.AppendUint(b, 11), m.Development)
}

// ParseMetadata reads the section's content. All eleven members must be there.
func ParseMetadata(b []byte) (*Metadata, error) {
	r := dcbor.NewReader(b)
	m := &Metadata{}
	if n := r.Map(); r.Err() == nil && n != members {
		return nil, fmt.Errorf("metadata has %d members; it must have %d", n, members)
	}
	key := func(n uint64) {
		if k := r.Uint(); r.Err() == nil && k != n {
			r.Fail(fmt.Sprintf("key %d where %d must stand", k, n))
		}
	}
	text := func(n uint64) string {
		key(n)
		s := r.Text()
		if len(s) > maxText {
			r.Fail(fmt.Sprintf("a text of more than %d bytes", maxText))
		}
		return s
	}
	list := func(n uint64, limit int) (out []string) {
		key(n)
		count := r.Array()
		if count > limit {
			r.Fail(fmt.Sprintf("more than %d entries", limit))
		}
		for i := 0; i < count && r.Err() == nil; i++ {
			s := r.Text()
			if len(s) > maxText || slices.Contains(out, s) {
				r.Fail("an entry that is too long, or stands twice")
			}
			out = append(out, s)
		}
		return out
	}
	key(1)
	m.ABI = r.Uint()
	m.Name, m.Version, m.Author, m.Licence = text(2), text(3), text(4), text(5)
	for _, e := range list(6, 2) {
		m.Entries = append(m.Entries, Entry(e))
	}
	m.Encoding = Encoding(text(7))
	m.Inputs = list(8, maxInputs)
	key(9)
	m.Fuel = r.Uint()
	key(10)
	m.Pages = r.Uint()
	key(11)
	m.Development = r.Bool()
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	return m, m.check()
}

func (m *Metadata) check() error {
	switch {
	case m.Name == "" || m.Version == "":
		return fmt.Errorf("metadata has no name or no version")
	case m.Encoding != JSON && m.Encoding != CBOR:
		return fmt.Errorf("metadata asks for the encoding %q; there are json and cbor", m.Encoding)
	case len(m.Entries) == 0:
		return fmt.Errorf("metadata names no entry point")
	}
	for _, e := range m.Entries {
		if !e.known() {
			return fmt.Errorf("metadata names the entry point %q; there are appraise and authorize", e)
		}
	}
	return nil
}
