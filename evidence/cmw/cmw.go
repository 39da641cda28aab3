// Package cmw reads and writes conceptual message wrappers (CMW, RFC 9999): the
// envelope that says of evidence, endorsements and attestation results what
// they are. Call [Parse] on bytes from a peer, then [CMW.Walk] over its
// records; build with [NewRecord] and [NewCollection], then [CMW.Encode].
//
// A record is [type, value, ? ind], a collection a map of labels to CMWs, a tag
// a record whose type stands in a CBOR tag:
//
//	82 19 fde7 44 2347da55       [64999, h'2347da55']
//	da 6374ffe6 44 2347da55      1668612070(h'2347da55'), the same as a tag
//	a1 63 637075 83 6x… 4x… 04   {"cpu": ["…", h'…', 4]}
//
// A CMW has no integrity of its own. What it says is to be believed of a record
// only once the record's own signature was verified; [VerifyCBOR] and
// [VerifyJSON] read CMWs that are signed as a whole.
//
// CBOR is read and written in its deterministic form only (RFC 8949 section
// 4.2.1). RFC 9999 leaves other forms open; [ParseUnsorted] takes collections
// in any order, for peers that do not sort. Zero indicators, empty collections,
// labels that occur twice and indefinite lengths are refused by both.
package cmw

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Limits of what is read and written.
const (
	MaxBytes   = 4 << 20 // one CMW
	MaxDepth   = 8       // collections within collections
	MaxRecords = 256     // records and collections in one CMW, all levels together
	maxType    = 512     // bytes of a media type or collection type
	maxLabel   = 128     // bytes of a text label
)

// An Ind is the bitmap that says which kinds of conceptual message a record
// holds (RFC 9999 section 3.1.1). Zero: not said.
type Ind uint32

// The bits that are registered. Others are refused.
const (
	ReferenceValues Ind = 1 << iota
	Endorsements
	Evidence
	AttestationResults
	AppraisalPolicy

	known = ReferenceValues | Endorsements | Evidence | AttestationResults | AppraisalPolicy
)

// A CMW is a record or a collection: exactly one of its fields is not nil.
type CMW struct {
	Record     *Record
	Collection *Collection
}

// A Record is one conceptual message with its type.
type Record struct {
	MediaType string // a media type, with parameters; "" when Format is the type
	Format    uint16 // CoAP content-format, when MediaType is ""; CBOR only
	Value     []byte // the message; not empty in JSON
	Ind       Ind    // 0: absent
	Tagged    bool   // in CBOR, the content-format stands in a tag (section 3.2); without Ind
}

// A Collection holds CMWs by label (RFC 9999 section 3.3).
type Collection struct {
	Type    string  // "__cmwc_t": an absolute URI or an OID in dots; "": absent
	Entries []Entry // at least one; the order does not matter
}

// An Entry is one member of a collection.
type Entry struct {
	Label Label
	CMW   *CMW
}

// typeLabel is the key of a collection's type, which no entry may have.
const typeLabel = "__cmwc_t"

// A Label names an entry in its collection: an integer or a text.
type Label struct {
	text   string
	num    int64
	isText bool
}

// TextLabel is a label of text.
func TextLabel(s string) Label { return Label{text: s, isText: true} }

// IntLabel is a label that is an integer, which JSON does not have.
func IntLabel(n int64) Label { return Label{num: n} }

// Text returns the label's text; ok is false for an integer.
func (l Label) Text() (s string, ok bool) { return l.text, l.isText }

// Int returns the label's integer; ok is false for a text.
func (l Label) Int() (n int64, ok bool) { return l.num, !l.isText }

// String is the label for people: the text or the number.
func (l Label) String() string {
	if l.isText {
		return l.text
	}
	return strconv.FormatInt(l.num, 10)
}

// A Path is how a record is reached: the labels from the outside in. It is
// empty for a CMW that is one record.
type Path []Label

// String joins the labels with slashes.
func (p Path) String() string {
	s := make([]string, len(p))
	for i, l := range p {
		s[i] = l.String()
	}
	return strings.Join(s, "/")
}

// NewRecord makes a record. What is wrong with its fields is told by Encode.
func NewRecord(mediaType string, value []byte, ind Ind) *CMW {
	return &CMW{Record: &Record{MediaType: mediaType, Value: value, Ind: ind}}
}

// NewCollection makes a collection. What is wrong with it is told by Encode.
func NewCollection(typ string, entries ...Entry) *CMW {
	return &CMW{Collection: &Collection{Type: typ, Entries: entries}}
}

// Walk calls f for each record, in the order of entries, with the labels that
// lead to it. It stops at f's first error and returns it. The path is f's to
// keep.
func (c *CMW) Walk(f func(at Path, r *Record) error) error { return c.walk(nil, f) }

func (c *CMW) walk(at Path, f func(Path, *Record) error) error {
	if len(at) > MaxDepth {
		return errDepth
	}
	switch {
	case c == nil:
		return errNeither
	case c.Record != nil:
		return f(slices.Clone(at), c.Record)
	case c.Collection == nil:
		return errNeither
	}
	for _, e := range c.Collection.Entries {
		if err := e.CMW.walk(append(at, e.Label), f); err != nil {
			return err
		}
	}
	return nil
}

// Get follows labels into collections. It returns nil where there is no such
// entry; without labels, c itself.
func (c *CMW) Get(labels ...Label) *CMW {
	for _, l := range labels {
		if c == nil || c.Collection == nil {
			return nil
		}
		i := slices.IndexFunc(c.Collection.Entries, func(e Entry) bool { return e.Label == l })
		if i < 0 {
			return nil
		}
		c = c.Collection.Entries[i].CMW
	}
	return c
}

var (
	errDepth   = fmt.Errorf("cmw: collections nested deeper than %d", MaxDepth)
	errNeither = errors.New("cmw: neither a record nor a collection")
)

// check refuses what RFC 9999 does not allow, for one encoding.
func (c *CMW) check(json bool) error {
	n := 0
	return c.checkAt(nil, json, &n)
}

func (c *CMW) checkAt(at Path, json bool, n *int) error {
	if *n++; *n > MaxRecords {
		return fmt.Errorf("cmw: more than %d records and collections", MaxRecords)
	}
	if len(at) > MaxDepth {
		return errDepth
	}
	fail := func(format string, args ...any) error {
		where := ""
		if len(at) > 0 {
			where = " at " + strconv.Quote(at.String())
		}
		return fmt.Errorf("cmw"+where+": "+format, args...)
	}
	switch {
	case c == nil || (c.Record == nil) == (c.Collection == nil):
		return fail("neither a record nor a collection, or both")
	case c.Record != nil:
		if err := c.Record.check(json); err != nil {
			return fail("%w", err)
		}
		return nil
	}
	k := c.Collection
	if len(k.Entries) == 0 {
		return fail("an empty collection; at least one entry is required")
	}
	if k.Type != "" && !isCollectionType(k.Type) {
		return fail("collection type %.80q is neither an absolute URI nor an OID", k.Type)
	}
	seen := make(map[Label]bool, min(len(k.Entries), MaxRecords))
	for _, e := range k.Entries {
		switch {
		case e.Label.isText && len(e.Label.text) > maxLabel:
			return fail("a label of %d bytes; %d are allowed", len(e.Label.text), maxLabel)
		case e.Label.isText && !validText(e.Label.text):
			return fail("a label that is not UTF-8")
		case e.Label.isText && e.Label.text == typeLabel:
			return fail("the label %q is reserved for the collection's type", typeLabel)
		case json && !e.Label.isText:
			return fail("the label %d is an integer; JSON has labels of text only", e.Label.num)
		case seen[e.Label]:
			return fail("the label %q occurs twice", e.Label)
		}
		seen[e.Label] = true
		if err := e.CMW.checkAt(append(at, e.Label), json, n); err != nil {
			return err
		}
	}
	return nil
}

func (r *Record) check(json bool) error {
	switch {
	case len(r.Value) > MaxBytes:
		return fmt.Errorf("a value of %d bytes; %d are allowed", len(r.Value), MaxBytes)
	case r.Ind&^known != 0:
		return fmt.Errorf("indicator %#x has bits that are not registered; 1 to %d are", uint32(r.Ind), known)
	case r.MediaType != "" && !isMediaType(r.MediaType):
		return fmt.Errorf("%.80q is no media type", r.MediaType)
	case r.MediaType != "" && r.Format != 0:
		return fmt.Errorf("both a media type and the content-format %d; only one is possible", r.Format)
	case r.Tagged && (r.MediaType != "" || r.Ind != 0):
		return errors.New("a tag has a content-format, and no media type or indicator")
	case r.Tagged && r.Format > lastTagged:
		return fmt.Errorf("content-format %d has no tag; those up to %d have", r.Format, lastTagged)
	case json && r.MediaType == "":
		return errors.New("JSON has media types only, and no content-formats or tags")
	case json && len(r.Value) == 0:
		return errors.New("an empty value, which JSON records can't have")
	}
	return nil
}
