// Package corim reads and writes Concise Reference Integrity Manifests
// (draft-ietf-rats-corim-11): what the makers of firmware and software say that
// measurements should be.
//
// Make one with [CoRIM.Encode] and [Sign]; read one that is to be relied on
// with [Verify], which checks signature, signer, validity and profile against a
// [Trust]. Package acs compares evidence with verified manifests, and package
// tee knows which measurements each TEE has.
//
// Reading is strict: the one deterministic encoding (RFC 8949 section 4.2.1),
// nothing twice, nothing left over, sizes and counts bounded. What the draft
// leaves open to extensions is kept as it came, and never matches anything.
package corim

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// Limits of what is read.
const (
	MaxSize    = 16 << 20 // bytes of a CoRIM, signed or not
	maxItems   = 1 << 18  // entries of one array or map
	maxClaims  = 1024     // measurements of one triple
	maxTags    = 1024     // tags of one CoRIM
	maxRecords = 1024     // conditions, endorsements or records of one triple
)

// CBOR tags, section "New CBOR Tags" of the draft.
const (
	tagCoRIM  = 501
	tagCoSWID = 505
	tagCoMID  = 506
	tagCoTL   = 508

	tagEpoch = 1
	tagURI   = 32
	tagUUID  = 37
	tagOID   = 111

	tagUEID       = 550
	tagSVN        = 552
	tagMinSVN     = 553
	tagPEMKey     = 554
	tagPEMCert    = 555
	tagPEMPath    = 556
	tagKeyPrint   = 557
	tagCOSEKey    = 558
	tagCertPrint  = 559
	tagBytes      = 560
	tagPathPrint  = 561
	tagDERCert    = 562
	tagMasked     = 563
	tagIntRange   = 564
	tagCOSESign1  = 18
	tagsOfKeyText = "554 to 559, 561, 562 or 560"
)

// Errors of [Verify], for errors.Is. Each is a different reason not to use a
// manifest.
var (
	ErrMalformed    = errors.New("malformed CoRIM")
	ErrUnsigned     = errors.New("the CoRIM is not signed")
	ErrUnauthorized = errors.New("the CoRIM's signer is not authorized")
	ErrSignature    = errors.New("the CoRIM's signature does not verify")
	ErrExpired      = errors.New("the CoRIM has expired")
	ErrNotYetValid  = errors.New("the CoRIM is not valid yet")
	ErrProfile      = errors.New("the CoRIM's profile is not accepted")
)

// A CoRIM is a manifest: corim-map, section "CoRIM Map".
type CoRIM struct {
	ID       ID
	Tags     []Tag    // at least one
	Locators []Item   // dependent-rims: corim-locator-maps, carried; nothing is fetched
	Profile  string   // a URI, or an OID in dotted form; "" for none
	Validity Validity // of the contents
	Entities []Entity
	Extra    []Field // extensions, carried
}

// A Tag is one of a CoRIM's tags. Exactly one field is set.
type Tag struct {
	CoMID  *CoMID
	CoTL   *CoTL
	CoSWID Item // concise-swid-tag (RFC 9393), carried
}

// CoMIDs returns the CoMID tags.
func (c *CoRIM) CoMIDs() []*CoMID {
	var out []*CoMID
	for _, t := range c.Tags {
		if t.CoMID != nil {
			out = append(out, t.CoMID)
		}
	}
	return out
}

// An ID is a text, or a UUID when Text is empty.
type ID struct {
	Text string
	UUID [16]byte
}

// String gives the text, or the UUID as a URN (RFC 9562).
func (i ID) String() string {
	if i.Text != "" {
		return i.Text
	}
	u := i.UUID
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

func (i ID) encode() Item {
	if i.Text != "" {
		return dcbor.AppendText(nil, i.Text)
	}
	return dcbor.AppendBytes(nil, i.UUID[:])
}

func decodeID(v Item, i *ID) error {
	if dcbor.NewReader(v).PeekMajor() == 3 {
		return text(v, &i.Text)
	}
	r := dcbor.NewReader(v)
	copy(i.UUID[:], r.BytesN(16))
	return r.Done()
}

// An Entity is an organization with its roles: in a CoRIM 1 manifest-creator
// and 2 manifest-signer, in a CoMID 0 tag-creator, 1 creator and 2 maintainer.
type Entity struct {
	Name  string
	RegID string // a URI; "" for none
	Roles []int64
	Extra []Field
}

// A Validity bounds when something holds, to the second. Without NotAfter there
// is no validity map; NotBefore is optional.
type Validity struct{ NotBefore, NotAfter time.Time }

func (v Validity) encode() Item {
	var m mapWriter
	if !v.NotBefore.IsZero() {
		m.add(0, epoch(v.NotBefore))
	}
	m.add(1, epoch(v.NotAfter))
	return m.encode()
}

func epoch(t time.Time) Item { return dcbor.AppendInt(dcbor.AppendTag(nil, tagEpoch), t.Unix()) }

func decodeValidity(v Item, out *Validity) error {
	err := eachField(v, func(code int64, v Item) error {
		switch code {
		case 0:
			return decodeEpoch(v, &out.NotBefore)
		case 1:
			return decodeEpoch(v, &out.NotAfter)
		}
		return unknownCode(code)
	})
	if err == nil && out.NotAfter.IsZero() {
		err = errors.New("a validity without not-after (1)")
	}
	return err
}

func decodeEpoch(v Item, out *time.Time) error {
	return in("a time: tag 1 with seconds as an integer", seconds(untag(v, tagEpoch), out))
}

func seconds(v Item, out *time.Time) error {
	var n int64
	if err := integer(v, &n); err != nil {
		return err
	}
	if n < -1<<36 || n > 1<<38 {
		return fmt.Errorf("%d seconds is no date", n)
	}
	*out = time.Unix(n, 0).UTC()
	return nil
}

// check says whether now is within v. A zero bound is none.
func (v Validity) check(now time.Time) error {
	switch {
	case !v.NotAfter.IsZero() && now.After(v.NotAfter):
		return fmt.Errorf("%w: not after %s", ErrExpired, v.NotAfter.Format(time.RFC3339))
	case !v.NotBefore.IsZero() && now.Before(v.NotBefore):
		return fmt.Errorf("%w: not before %s", ErrNotYetValid, v.NotBefore.Format(time.RFC3339))
	}
	return nil
}

// intersect is when both v and o hold.
func (v Validity) intersect(o Validity) Validity {
	if o.NotBefore.After(v.NotBefore) {
		v.NotBefore = o.NotBefore
	}
	if v.NotAfter.IsZero() || !o.NotAfter.IsZero() && o.NotAfter.Before(v.NotAfter) {
		v.NotAfter = o.NotAfter
	}
	return v
}

// A CoTL lists tags that are active together: concise-tl-tag, section "CoTL".
type CoTL struct {
	ID       TagID
	Tags     []TagID
	Validity Validity
}

// A TagID names a tag: tag-identity-map.
type TagID struct {
	ID      ID
	Version *uint64 // nil when absent, which means 0
}

func (t TagID) encode() Item {
	var m mapWriter
	m.add(0, t.ID.encode())
	if t.Version != nil {
		m.add(1, dcbor.AppendUint(nil, *t.Version))
	}
	return m.encode()
}

func decodeTagID(v Item, out *TagID) error {
	return eachField(v, func(code int64, v Item) error {
		switch code {
		case 0:
			return decodeID(v, &out.ID)
		case 1:
			out.Version = new(uint64)
			return unsigned(v, out.Version)
		}
		return unknownCode(code)
	}, 0)
}

// Encode writes an unsigned CoRIM: tag 501, deterministic CBOR. It refuses what
// [Decode] would refuse.
func (c *CoRIM) Encode() ([]byte, error) {
	b, err := c.encode()
	if err != nil {
		return nil, err
	}
	if _, err := Decode(b); err != nil {
		return nil, err
	}
	return b, nil
}

func (c *CoRIM) encode() ([]byte, error) {
	var m mapWriter
	m.add(0, c.ID.encode())
	tags := make([]Item, len(c.Tags))
	for i, t := range c.Tags {
		var tag uint64
		var in Item
		switch {
		case t.CoMID != nil:
			tag, in = tagCoMID, t.CoMID.encode()
		case t.CoTL != nil:
			tag, in = tagCoTL, t.CoTL.encode()
		default:
			tag, in = tagCoSWID, t.CoSWID
		}
		tags[i] = dcbor.AppendBytes(dcbor.AppendTag(nil, tag), in)
	}
	m.add(1, array(tags))
	if len(c.Locators) > 0 {
		m.add(2, array(c.Locators))
	}
	if c.Profile != "" {
		p, err := encodeProfile(c.Profile)
		if err != nil {
			return nil, err
		}
		m.add(3, p)
	}
	if !c.Validity.NotAfter.IsZero() {
		m.add(4, c.Validity.encode())
	}
	if len(c.Entities) > 0 {
		m.add(5, encodeEntities(c.Entities))
	}
	m.extra(c.Extra)
	return append(dcbor.AppendTag(nil, tagCoRIM), m.encode()...), nil
}

func (c *CoTL) encode() Item {
	var m mapWriter
	m.add(0, c.ID.encode())
	m.add(1, arrayOf(c.Tags, TagID.encode))
	m.add(2, c.Validity.encode())
	return m.encode()
}

func encodeEntities(es []Entity) Item {
	return arrayOf(es, func(e Entity) Item {
		var m mapWriter
		m.add(0, dcbor.AppendText(nil, e.Name))
		if e.RegID != "" {
			m.add(1, dcbor.AppendText(dcbor.AppendTag(nil, tagURI), e.RegID))
		}
		m.add(2, arrayOf(e.Roles, func(r int64) Item { return dcbor.AppendInt(nil, r) }))
		m.extra(e.Extra)
		return m.encode()
	})
}

// Decode reads an unsigned CoRIM. It says nothing about who made it: use
// [Verify] for what is to be relied on.
func Decode(b []byte) (*CoRIM, error) { return decode(b, false) }

// DecodeLegacy reads what older tools write, too: maps in any order, integers
// longer than needed, and profiles as plain text. Encode it to have it as this
// package demands it.
func DecodeLegacy(b []byte) (*CoRIM, error) { return decode(b, true) }

func decode(b []byte, legacy bool) (*CoRIM, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrMalformed, len(b), MaxSize)
	}
	d := decoder{legacy: legacy}
	b, err := d.item(bytes.Clone(b))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	c := &CoRIM{}
	if err := d.corim(untag(b, tagCoRIM), c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if legacy {
		return c, nil
	}
	// What was understood, written again, must be what came: nothing was dropped
	// on the way.
	again, err := c.encode()
	if err != nil || !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: it is not written as this decoder would write it (%d bytes, would be %d)", ErrMalformed, len(b), len(again))
	}
	return c, nil
}

// A decoder checks each CBOR item, and those embedded in byte strings, before
// it is read.
type decoder struct{ legacy bool }

func (d decoder) item(b Item) (Item, error) {
	if d.legacy {
		return Normalize(b)
	}
	r := dcbor.NewReader(b)
	r.Skip()
	return b, r.Done()
}

func (d decoder) corim(v Item, c *CoRIM) error {
	if v == nil {
		return errors.New("it does not start with tag 501")
	}
	return eachField(v, func(code int64, v Item) error {
		switch code {
		case 0:
			return in("id", decodeID(v, &c.ID))
		case 1:
			return in("tags", eachItem(v, maxTags, func(v Item) error {
				var t Tag
				err := d.tag(v, &t)
				c.Tags = append(c.Tags, t)
				return err
			}))
		case 2:
			return in("dependent-rims", eachItem(v, maxTags, func(v Item) error {
				c.Locators = append(c.Locators, v)
				return eachField(v, func(code int64, _ Item) error {
					if code > 1 || code < 0 {
						return unknownCode(code)
					}
					return nil
				}, 0)
			}))
		case 3:
			return in("profile", d.profile(v, &c.Profile))
		case 4:
			return in("rim-validity", decodeValidity(v, &c.Validity))
		case 5:
			return in("entities", decodeEntities(v, &c.Entities))
		}
		c.Extra = append(c.Extra, Field{code, v})
		return nil
	}, 0, 1)
}

func (d decoder) tag(v Item, t *Tag) error {
	tag, content, ok := splitTag(v)
	if !ok {
		return errors.New("a tag of a CoRIM has a CBOR tag: 505, 506 or 508")
	}
	r := dcbor.NewReader(content)
	b := Item(r.Bytes())
	if err := r.Done(); err != nil {
		return err
	}
	b, err := d.item(b)
	if err != nil {
		return err
	}
	switch tag {
	case tagCoMID:
		t.CoMID = &CoMID{}
		return in("comid", decodeCoMID(b, t.CoMID))
	case tagCoTL:
		t.CoTL = &CoTL{}
		return in("cotl", decodeCoTL(b, t.CoTL))
	case tagCoSWID:
		t.CoSWID = b
		return nil
	}
	return fmt.Errorf("tag %d is not one of a CoRIM: want 505, 506 or 508", tag)
}

func (d decoder) profile(v Item, out *string) error {
	tag, content, ok := splitTag(v)
	switch {
	case ok && tag == tagURI:
		return text(content, out)
	case ok && tag == tagOID:
		r := dcbor.NewReader(content)
		var err error
		if *out, err = oidString(r.Bytes()); err != nil {
			return err
		}
		return r.Done()
	case !ok && d.legacy:
		return text(v, out)
	}
	return errors.New("want a URI (tag 32) or an OID (tag 111)")
}

func encodeProfile(p string) (Item, error) {
	if isOID(p) {
		b, err := oidBytes(p)
		return dcbor.AppendBytes(dcbor.AppendTag(nil, tagOID), b), err
	}
	return dcbor.AppendText(dcbor.AppendTag(nil, tagURI), p), nil
}

func decodeCoTL(v Item, c *CoTL) error {
	return eachField(v, func(code int64, v Item) error {
		switch code {
		case 0:
			return decodeTagID(v, &c.ID)
		case 1:
			return eachItem(v, maxItems, func(v Item) error {
				var t TagID
				err := decodeTagID(v, &t)
				c.Tags = append(c.Tags, t)
				return err
			})
		case 2:
			return decodeValidity(v, &c.Validity)
		}
		return unknownCode(code)
	}, 0, 1, 2)
}

func decodeEntities(v Item, out *[]Entity) error {
	return eachItem(v, maxRecords, func(v Item) error {
		var e Entity
		err := eachField(v, func(code int64, v Item) error {
			switch code {
			case 0:
				return text(v, &e.Name)
			case 1:
				return text(untag(v, tagURI), &e.RegID)
			case 2:
				return eachItem(v, maxRecords, func(v Item) error {
					var n int64
					err := integer(v, &n)
					e.Roles = append(e.Roles, n)
					return err
				})
			}
			e.Extra = append(e.Extra, Field{code, v})
			return nil
		}, 0, 2)
		*out = append(*out, e)
		return err
	})
}
