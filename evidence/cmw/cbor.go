package cmw

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// Encode returns c as deterministic CBOR.
func (c *CMW) Encode() ([]byte, error) {
	if err := c.check(false); err != nil {
		return nil, err
	}
	b := c.append(nil)
	if len(b) > MaxBytes {
		return nil, errTooLong(len(b))
	}
	return b, nil
}

func errTooLong(n int) error {
	return fmt.Errorf("cmw: %d bytes; %d are allowed", n, MaxBytes)
}

func (c *CMW) append(b []byte) []byte {
	if r := c.Record; r != nil {
		return r.append(b)
	}
	type pair struct{ key, value []byte }
	var pairs []pair
	if t := c.Collection.Type; t != "" {
		pairs = append(pairs, pair{dcbor.AppendText(nil, typeLabel), dcbor.AppendText(nil, t)})
	}
	for _, e := range c.Collection.Entries {
		pairs = append(pairs, pair{e.Label.append(nil), e.CMW.append(nil)})
	}
	slices.SortFunc(pairs, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	b = dcbor.AppendMap(b, len(pairs))
	for _, p := range pairs {
		b = append(append(b, p.key...), p.value...)
	}
	return b
}

func (l Label) append(b []byte) []byte {
	if l.isText {
		return dcbor.AppendText(b, l.text)
	}
	return dcbor.AppendInt(b, l.num)
}

func (r *Record) append(b []byte) []byte {
	if r.Tagged {
		return dcbor.AppendBytes(dcbor.AppendTag(b, Tag(r.Format)), r.Value)
	}
	n := 2
	if r.Ind != 0 {
		n = 3
	}
	b = dcbor.AppendArray(b, n)
	if r.MediaType != "" {
		b = dcbor.AppendText(b, r.MediaType)
	} else {
		b = dcbor.AppendUint(b, uint64(r.Format))
	}
	b = dcbor.AppendBytes(b, r.Value)
	if r.Ind != 0 {
		b = dcbor.AppendUint(b, uint64(r.Ind))
	}
	return b
}

// Parse reads one CMW, in CBOR or in JSON; see [Demux]. Values alias b where
// they can.
func Parse(b []byte) (*CMW, error) {
	switch Demux(b) {
	case CBORRecord, CBORTag, CBORCollection:
		return ParseCBOR(b)
	case JSONRecord, JSONCollection:
		return ParseJSON(b)
	}
	return nil, errors.New("cmw: the first byte is that of no CMW: want a record, a tag or a collection")
}

// ParseCBOR reads one CMW in deterministic CBOR, and nothing after it.
func ParseCBOR(b []byte) (*CMW, error) { return parse(b, false) }

// ParseUnsorted is [ParseCBOR], but takes the entries of collections in any
// order. What it returns is encoded in another way than it came when that was
// not sorted.
func ParseUnsorted(b []byte) (*CMW, error) { return parse(b, true) }

func parse(b []byte, unsorted bool) (*CMW, error) {
	if len(b) > MaxBytes {
		return nil, errTooLong(len(b))
	}
	r, n := dcbor.NewReader(b), 0
	c := (&reader{r, b, &n}).cmw(0)
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("cmw: %w", err)
	}
	if err := c.check(false); err != nil {
		return nil, err
	}
	if !unsorted && !bytes.Equal(c.append(make([]byte, 0, len(b))), b) {
		return nil, fmt.Errorf("cmw: a collection whose labels are not sorted: %w", dcbor.ErrNotDeterministic)
	}
	return c, nil
}

// A reader reads the parts of a CMW. The rules on fields are left to check.
type reader struct {
	*dcbor.Reader
	b []byte
	n *int // records and collections so far
}

func (r *reader) cmw(depth int) *CMW {
	if *r.n++; *r.n > MaxRecords || depth > MaxDepth {
		r.Fail("too many or too deeply nested collections and records")
		return nil
	}
	switch r.PeekMajor() {
	case 4:
		return &CMW{Record: r.record()}
	case 5:
		return &CMW{Collection: r.collection(depth)}
	case 6:
		return &CMW{Record: r.tag()}
	}
	r.Fail("neither a record, a tag nor a collection")
	return nil
}

// tag reads a record in the form of a tag. All tags of content-formats have
// heads of five bytes.
func (r *reader) tag() *Record {
	at := r.b[r.Offset():]
	if len(at) < 5 || at[0] != 0xda {
		r.Fail("a tag that stands for no content-format")
		return nil
	}
	tag := uint64(binary.BigEndian.Uint32(at[1:]))
	format, ok := Format(tag)
	if !ok {
		r.Fail(fmt.Sprintf("tag %d stands for no content-format", tag))
		return nil
	}
	r.Tag(tag)
	return &Record{Format: format, Value: r.Bytes(), Tagged: true}
}

func (r *reader) record() *Record {
	n := r.Array()
	if r.Err() == nil && n != 2 && n != 3 {
		r.Fail(fmt.Sprintf("a record of %d items; 2 or 3 are required", n))
	}
	rec := &Record{}
	if r.PeekMajor() == 0 {
		f := r.Uint()
		if f > 0xffff {
			r.Fail("a content-format beyond 65535")
		}
		rec.Format = uint16(f)
	} else if rec.MediaType = r.Text(); rec.MediaType == "" {
		r.Fail("an empty media type")
	}
	rec.Value = r.Bytes()
	if n == 3 {
		rec.Ind = r.ind()
	}
	return rec
}

func (r *reader) ind() Ind {
	i := r.Uint()
	if r.Err() == nil && (i == 0 || i > uint64(known)) {
		r.Fail(fmt.Sprintf("indicator %d; 1 to %d are possible, and leaving it out", i, known))
	}
	return Ind(i)
}

func (r *reader) collection(depth int) *Collection {
	c, typed := &Collection{}, false
	for range r.Map() {
		if r.Err() != nil {
			return c
		}
		var l Label
		if m := r.PeekMajor(); m == 0 || m == 1 {
			l = IntLabel(r.Int())
		} else {
			l = TextLabel(r.Text())
		}
		if l == TextLabel(typeLabel) {
			if typed {
				r.Fail("the collection's type occurs twice")
			}
			if c.Type, typed = r.Text(), true; c.Type == "" {
				r.Fail("an empty collection type")
			}
			continue
		}
		c.Entries = append(c.Entries, Entry{l, r.cmw(depth + 1)})
	}
	return c
}

// Open reads the collection within a tag of table 4 of RFC 9999. It refuses
// other records, and signed ones; for those see [VerifyCBOR] and [VerifyJSON].
func (r *Record) Open() (*CMW, error) {
	var c *CMW
	var err error
	switch t := r.Type(); {
	case !r.Tagged:
		return nil, errors.New("cmw: not a tag; only tags hold collections")
	case t == TypeCBOR:
		c, err = ParseCBOR(r.Value)
	case t == TypeJSON:
		c, err = ParseJSON(r.Value)
	default:
		return nil, fmt.Errorf("cmw: tag %d does not hold a collection", Tag(r.Format))
	}
	if err != nil {
		return nil, err
	}
	if c.Collection == nil {
		return nil, errors.New("cmw: a tag around a record; it holds collections only")
	}
	return c, nil
}
