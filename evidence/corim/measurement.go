package corim

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// A Measurement is what is known of one element of an environment:
// measurement-map, section "Measurements".
type Measurement struct {
	Key          Item // mkey: UUID, OID, unsigned integer or text; nil for an anonymous one
	Values       Values
	AuthorizedBy []Key // in a condition: who must have said so
}

// Values are the measured values: measurement-values-map. At least one is set.
// The comments give the code points.
type Values struct {
	Version   *Version   // 0
	SVN       *SVN       // 1
	Digests   []Digest   // 2
	Flags     []Field    // 3: booleans by code point, see the Flag constants
	Raw       *RawValue  // 4
	RawMask   []byte     // 5, deprecated: mask of an unmasked raw value
	MAC       []byte     // 6: 6 or 8 bytes
	IP        []byte     // 7: 4 or 16 bytes
	Serial    string     // 8
	UEID      []byte     // 9: 7 to 33 bytes
	UUID      []byte     // 10: 16 bytes
	Name      string     // 11
	Keys      []Key      // 13
	Registers []Register // 14
	Int       *IntRange  // 15
	Extra     []Field    // a profile's, or unknown
}

// Code points of measurement-values-map.
const (
	CodeVersion   = 0
	CodeSVN       = 1
	CodeDigests   = 2
	CodeFlags     = 3
	CodeRaw       = 4
	CodeRawMask   = 5
	CodeMAC       = 6
	CodeIP        = 7
	CodeSerial    = 8
	CodeUEID      = 9
	CodeUUID      = 10
	CodeName      = 11
	CodeKeys      = 13
	CodeRegisters = 14
	CodeInt       = 15
)

// Code points of flags-map.
const (
	FlagConfigured               = 0
	FlagSecure                   = 1
	FlagRecovery                 = 2
	FlagDebug                    = 3
	FlagReplayProtected          = 4
	FlagIntegrityProtected       = 5
	FlagRuntimeMeasured          = 6
	FlagImmutable                = 7
	FlagTCB                      = 8
	FlagConfidentialityProtected = 9
	FlagRuntimeUpdatable         = 10
)

// Flag is an entry of [Values.Flags].
func Flag(code int64, v bool) Field { return Field{code, dcbor.AppendBool(nil, v)} }

// A Version is a version with its scheme (RFC 9393): an integer or a text, nil
// for none.
type Version struct {
	Version string
	Scheme  Item
}

// Version schemes.
const (
	SchemeDecimal = 4
	SchemeSemver  = 16384
)

// An SVN is a security version number, exact or, in a condition, a minimum.
type SVN struct {
	Value uint64
	Form  SVNForm
}

// An SVNForm is how an SVN is written.
type SVNForm uint8

// The forms: a bare number, tag 552, tag 553.
const (
	PlainSVN SVNForm = iota
	TaggedSVN
	MinSVN
)

// A Digest is a hash with its algorithm, an integer of the registry "Named
// Information Hash Algorithms" or a text when Name is set.
type Digest struct {
	Alg   int64
	Name  string
	Value []byte
}

// Hash algorithms of the registry "Named Information Hash Algorithms".
const (
	SHA256 = 1
	SHA384 = 7
	SHA512 = 8
)

var hashNames = map[string]int64{"sha-256": 1, "sha-384": 7, "sha-512": 8, "sha3-224": 9, "sha3-256": 10, "sha3-384": 11, "sha3-512": 12}

// Algorithm is the algorithm by which digests are compared: names that the
// registry knows are the same as their numbers, so that nobody hides a digest
// behind the other spelling.
func (d Digest) Algorithm() (int64, string) {
	if n, ok := hashNames[d.Name]; ok {
		return n, ""
	}
	if d.Name != "" {
		return 0, d.Name
	}
	return d.Alg, ""
}

// String shows the digest as its algorithm and hex.
func (d Digest) String() string {
	alg, name := d.Algorithm()
	for n, a := range hashNames {
		if name == "" && a == alg {
			name = n
		}
	}
	if name == "" {
		name = fmt.Sprint("algorithm ", alg)
	}
	return fmt.Sprintf("%s:%x", name, d.Value)
}

// A RawValue is a value as it was measured: tag 560, or in a condition 563 with
// a mask whose set bits are compared. Unknown is any other type: it never
// matches.
type RawValue struct {
	Value   []byte
	Mask    []byte // nil for none
	Unknown Item
}

// A Register is a named register with the digests that are acceptable.
type Register struct {
	RegisterID
	Digests []Digest
}

// A RegisterID names a register: by number, or by text when Name is set. 5 is
// not "5".
type RegisterID struct {
	Index uint64
	Name  string
}

// String is the number or the name.
func (r RegisterID) String() string {
	if r.Name != "" {
		return r.Name
	}
	return fmt.Sprint(r.Index)
}

func (r RegisterID) key() Item {
	if r.Name != "" {
		return dcbor.AppendText(nil, r.Name)
	}
	return dcbor.AppendUint(nil, r.Index)
}

// An IntRange is an integer, or with Range an inclusive range (tag 564) whose
// nil ends are open.
type IntRange struct {
	Range    bool
	Min, Max *int64 // both set and equal when Range is false
}

// Int is the integer n.
func Int(n int64) *IntRange { return &IntRange{Min: &n, Max: &n} }

func (m Measurement) encode() Item {
	var w mapWriter
	if m.Key != nil {
		w.add(0, m.Key)
	}
	w.add(1, m.Values.Encode())
	put(&w, 2, m.AuthorizedBy, Key.item)
	return w.encode()
}

func decodeMeasurement(v Item, out *Measurement) error {
	return eachField(v, func(code int64, v Item) error {
		switch code {
		case 0:
			switch dcbor.NewReader(v).PeekMajor() {
			case 0, 3, 6:
			default:
				return errors.New("mkey: want an unsigned integer, a text or a tagged item")
			}
			out.Key = v
			return nil
		case 1:
			return in("mval", decodeValues(v, &out.Values))
		case 2:
			return in("authorized-by", list(v, maxRecords, &out.AuthorizedBy, decodeKey))
		}
		return unknownCode(code)
	}, 1)
}

// Encode gives the deterministic CBOR of measurement-values-map.
func (m *Values) Encode() Item {
	var w mapWriter
	if m.Version != nil {
		var v mapWriter
		v.add(0, dcbor.AppendText(nil, m.Version.Version))
		if m.Version.Scheme != nil {
			v.add(1, m.Version.Scheme)
		}
		w.add(CodeVersion, v.encode())
	}
	if m.SVN != nil {
		w.add(CodeSVN, m.SVN.encode())
	}
	put(&w, CodeDigests, m.Digests, Digest.encode)
	if len(m.Flags) > 0 {
		w.add(CodeFlags, mapWriter(m.Flags).encode())
	}
	if m.Raw != nil {
		w.add(CodeRaw, m.Raw.encode())
	}
	w.bytes(CodeRawMask, m.RawMask)
	w.bytes(CodeMAC, m.MAC)
	w.bytes(CodeIP, m.IP)
	w.text(CodeSerial, m.Serial)
	w.bytes(CodeUEID, m.UEID)
	w.bytes(CodeUUID, m.UUID)
	w.text(CodeName, m.Name)
	put(&w, CodeKeys, m.Keys, Key.item)
	if len(m.Registers) > 0 {
		w.add(CodeRegisters, encodeRegisters(m.Registers))
	}
	if m.Int != nil {
		w.add(CodeInt, m.Int.encode())
	}
	w.extra(m.Extra)
	return w.encode()
}

func (s SVN) encode() Item {
	n := dcbor.AppendUint(nil, s.Value)
	switch s.Form {
	case TaggedSVN:
		return append(dcbor.AppendTag(nil, tagSVN), n...)
	case MinSVN:
		return append(dcbor.AppendTag(nil, tagMinSVN), n...)
	}
	return n
}

func (d Digest) encode() Item {
	b := dcbor.AppendArray(nil, 2)
	if d.Name != "" {
		b = dcbor.AppendText(b, d.Name)
	} else {
		b = dcbor.AppendInt(b, d.Alg)
	}
	return dcbor.AppendBytes(b, d.Value)
}

func (r *RawValue) encode() Item {
	switch {
	case r.Unknown != nil:
		return r.Unknown
	case r.Mask != nil:
		b := dcbor.AppendArray(dcbor.AppendTag(nil, tagMasked), 2)
		return dcbor.AppendBytes(dcbor.AppendBytes(b, r.Value), r.Mask)
	}
	return BytesItem(r.Value)
}

func encodeRegisters(regs []Register) Item {
	regs = slices.Clone(regs)
	slices.SortFunc(regs, func(a, b Register) int { return bytes.Compare(a.key(), b.key()) })
	b := dcbor.AppendMap(nil, len(regs))
	for _, r := range regs {
		b = append(append(b, r.key()...), arrayOf(r.Digests, Digest.encode)...)
	}
	return b
}

func (i *IntRange) encode() Item {
	end := func(b []byte, n *int64) []byte {
		if n == nil {
			return dcbor.AppendNull(b)
		}
		return dcbor.AppendInt(b, *n)
	}
	if !i.Range {
		return end(nil, i.Min)
	}
	return end(end(dcbor.AppendArray(dcbor.AppendTag(nil, tagIntRange), 2), i.Min), i.Max)
}

// DecodeValues reads a measurement-values-map in deterministic CBOR.
func DecodeValues(b Item) (*Values, error) {
	r := dcbor.NewReader(b)
	r.Skip()
	if err := r.Done(); err != nil {
		return nil, err
	}
	v := &Values{}
	if err := decodeValues(bytes.Clone(b), v); err != nil {
		return nil, err
	}
	return v, nil
}

func decodeValues(v Item, m *Values) error {
	err := eachField(v, func(code int64, v Item) error {
		return in(ValueName(code), m.decode(code, v))
	})
	if err == nil && m.RawMask != nil && m.Raw == nil {
		err = errors.New("raw-value-mask (5) without raw-value (4)")
	}
	return err
}

func (m *Values) decode(code int64, v Item) error {
	switch code {
	case CodeVersion:
		m.Version = &Version{}
		return eachField(v, func(code int64, v Item) error {
			switch code {
			case 0:
				return text(v, &m.Version.Version)
			case 1:
				if k := dcbor.NewReader(v).PeekMajor(); k != 0 && k != 1 && k != 3 {
					return errors.New("a version scheme is an integer or a text")
				}
				m.Version.Scheme = v
				return nil
			}
			return unknownCode(code)
		}, 0)
	case CodeSVN:
		m.SVN = &SVN{}
		tag, content, ok := splitTag(v)
		switch {
		case !ok:
			content = v
		case tag == tagSVN:
			m.SVN.Form = TaggedSVN
		case tag == tagMinSVN:
			m.SVN.Form = MinSVN
		default:
			return fmt.Errorf("tag %d, want an SVN (552) or a minimum SVN (553)", tag)
		}
		return unsigned(content, &m.SVN.Value)
	case CodeDigests:
		return list(v, maxRecords, &m.Digests, decodeDigest)
	case CodeFlags:
		return eachField(v, func(code int64, v Item) error {
			if code >= FlagConfigured && code <= FlagRuntimeUpdatable && !bytes.Equal(v, []byte{0xf4}) && !bytes.Equal(v, []byte{0xf5}) {
				return fmt.Errorf("flag %d is not true or false", code)
			}
			m.Flags = append(m.Flags, Field{code, v})
			return nil
		})
	case CodeRaw:
		m.Raw = &RawValue{}
		return decodeRaw(v, m.Raw)
	case CodeRawMask:
		return sized(v, &m.RawMask, 1, MaxSize)
	case CodeMAC:
		return lengths(v, &m.MAC, 6, 8)
	case CodeIP:
		return lengths(v, &m.IP, 4, 16)
	case CodeSerial:
		return text(v, &m.Serial)
	case CodeUEID:
		return sized(v, &m.UEID, 7, 33)
	case CodeUUID:
		return sized(v, &m.UUID, 16, 16)
	case CodeName:
		return text(v, &m.Name)
	case CodeKeys:
		return list(v, maxRecords, &m.Keys, decodeKey)
	case CodeRegisters:
		return decodeRegisters(v, &m.Registers)
	case CodeInt:
		m.Int = &IntRange{}
		return decodeInt(v, m.Int)
	}
	m.Extra = append(m.Extra, Field{code, v})
	return nil
}

func lengths(v Item, out *[]byte, a, b int) error {
	if err := byteString(v, out); err != nil {
		return err
	}
	if n := len(*out); n != a && n != b {
		return fmt.Errorf("a byte string of %d bytes, want %d or %d", n, a, b)
	}
	return nil
}

func decodeDigest(v Item, out *Digest) error {
	t, err := tuple(v, 2, 2)
	if err != nil {
		return err
	}
	if dcbor.NewReader(t[0]).PeekMajor() == 3 {
		err = text(t[0], &out.Name)
	} else {
		err = integer(t[0], &out.Alg)
	}
	if err != nil {
		return err
	}
	return sized(t[1], &out.Value, 1, MaxSize)
}

// DecodeDigest reads a digest: [algorithm, bytes].
func DecodeDigest(v Item) (d Digest, err error) {
	err = decodeDigest(v, &d)
	return d, err
}

func decodeRaw(v Item, out *RawValue) error {
	tag, content, ok := splitTag(v)
	switch {
	case !ok:
		return errors.New("a raw value is a tagged item")
	case tag == tagBytes:
		return byteString(content, &out.Value)
	case tag == tagMasked:
		t, err := tuple(content, 2, 2)
		if err != nil {
			return err
		}
		if err := byteString(t[0], &out.Value); err != nil {
			return err
		}
		if err := byteString(t[1], &out.Mask); err != nil {
			return err
		}
		if len(out.Mask) != len(out.Value) {
			return fmt.Errorf("a mask of %d bytes for a value of %d", len(out.Mask), len(out.Value))
		}
		return nil
	}
	out.Unknown = v
	return nil
}

// DecodeRaw reads a raw value: tag 560 or 563.
func DecodeRaw(v Item) (*RawValue, error) {
	r := &RawValue{}
	return r, decodeRaw(v, r)
}

func decodeRegisters(v Item, out *[]Register) error {
	r := dcbor.NewReader(v)
	n := r.Map()
	if r.Err() == nil && (n == 0 || n > maxRecords) {
		return fmt.Errorf("%d registers, want 1 to %d", n, maxRecords)
	}
	for range n {
		var reg Register
		if r.PeekMajor() == 3 {
			if reg.Name = r.Text(); reg.Name == "" {
				r.Fail("a register without a name")
			}
		} else {
			reg.Index = r.Uint()
		}
		ds := Item(r.Skip())
		if r.Err() != nil {
			break
		}
		if err := list(ds, maxRecords, &reg.Digests, decodeDigest); err != nil {
			return in(reg.String(), err)
		}
		*out = append(*out, reg)
	}
	return r.Done()
}

func decodeInt(v Item, out *IntRange) error {
	content := untag(v, tagIntRange)
	if content == nil {
		out.Min = new(int64)
		out.Max = out.Min
		return integer(v, out.Min)
	}
	out.Range = true
	t, err := tuple(content, 2, 2)
	if err != nil {
		return err
	}
	for i, end := range []**int64{&out.Min, &out.Max} {
		if bytes.Equal(t[i], []byte{0xf6}) {
			continue
		}
		*end = new(int64)
		if err := integer(t[i], *end); err != nil {
			return err
		}
	}
	if out.Min != nil && out.Max != nil && *out.Min > *out.Max {
		return fmt.Errorf("the range %d to %d is empty", *out.Min, *out.Max)
	}
	return nil
}

// DecodeInt reads an integer or a range of integers (tag 564).
func DecodeInt(v Item) (*IntRange, error) {
	i := &IntRange{}
	return i, decodeInt(v, i)
}

var codeNames = map[int64]string{
	0: "version", 1: "svn", 2: "digests", 3: "flags", 4: "raw-value", 5: "raw-value-mask", 6: "mac-addr",
	7: "ip-addr", 8: "serial-number", 9: "ueid", 10: "uuid", 11: "name", 13: "cryptokeys",
	14: "integrity-registers", 15: "int-range",
	// The Intel profile's.
	-70: "vendor", -71: "model", -72: "tcbdate", -73: "isvsvn", -80: "pceid", -81: "miscselect",
	-82: "attributes", -83: "mrtee", -84: "mrsigner", -85: "isvprodid", -86: "tcb-eval-num",
	-88: "tcbstatus", -89: "advisory-ids", -91: "cryptokeys", -101: "platform-instance-id", -125: "tcb-comp-svn",
}

// ValueName names a code point of measurement-values-map for people.
func ValueName(code int64) string {
	if n, ok := codeNames[code]; ok {
		return n
	}
	return fmt.Sprint("code point ", code)
}
