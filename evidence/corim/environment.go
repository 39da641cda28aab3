package corim

import (
	"errors"
	"fmt"
	"strings"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// An Environment is what a statement is about: environment-map. At least one of
// its attributes is set.
type Environment struct {
	Class    *Class
	Instance Item // UEID, UUID, bytes, or a key
	Group    Item // UUID or bytes
}

// A Class is a kind of environment: class-map.
type Class struct {
	ID            Item // OID, UUID or bytes; nil for none
	Vendor, Model string
	Layer, Index  *uint64
}

// Encode gives the deterministic CBOR, the bytes that environments are compared
// by.
func (e Environment) Encode() Item {
	var m mapWriter
	if e.Class != nil {
		m.add(0, e.Class.Encode())
	}
	if e.Instance != nil {
		m.add(1, e.Instance)
	}
	if e.Group != nil {
		m.add(2, e.Group)
	}
	return m.encode()
}

// Encode gives the deterministic CBOR.
func (c *Class) Encode() Item {
	var m mapWriter
	if c.ID != nil {
		m.add(0, c.ID)
	}
	m.text(1, c.Vendor)
	m.text(2, c.Model)
	if c.Layer != nil {
		m.add(3, dcbor.AppendUint(nil, *c.Layer))
	}
	if c.Index != nil {
		m.add(4, dcbor.AppendUint(nil, *c.Index))
	}
	return m.encode()
}

// String names the environment for people.
func (e Environment) String() string {
	s := ""
	if c := e.Class; c != nil {
		s = c.Vendor
		if c.Model != "" {
			s += " " + c.Model
		}
		if c.ID != nil {
			s += " " + c.ID.Describe()
		}
		if c.Layer != nil {
			s += fmt.Sprintf(" layer %d", *c.Layer)
		}
		if c.Index != nil {
			s += fmt.Sprintf(" index %d", *c.Index)
		}
	}
	if e.Instance != nil {
		s += " instance " + e.Instance.Describe()
	}
	if e.Group != nil {
		s += " group " + e.Group.Describe()
	}
	if len(s) > 0 && s[0] == ' ' {
		s = s[1:]
	}
	return s
}

func decodeEnvironment(v Item, out *Environment) error {
	return eachField(v, func(code int64, v Item) error {
		switch code {
		case 0:
			out.Class = &Class{}
			return in("class", decodeClass(v, out.Class))
		case 1:
			out.Instance = v
		case 2:
			out.Group = v
		default:
			return unknownCode(code)
		}
		if _, _, ok := splitTag(v); !ok {
			return errors.New("instance and group ids are tagged items")
		}
		return nil
	})
}

func decodeClass(v Item, out *Class) error {
	err := eachField(v, func(code int64, v Item) error {
		switch code {
		case 0:
			if _, _, ok := splitTag(v); !ok {
				return errors.New("a class id is a tagged item: OID (111), UUID (37) or bytes (560)")
			}
			out.ID = v
			return nil
		case 1:
			return text(v, &out.Vendor)
		case 2:
			return text(v, &out.Model)
		case 3:
			out.Layer = new(uint64)
			return unsigned(v, out.Layer)
		case 4:
			out.Index = new(uint64)
			return unsigned(v, out.Index)
		}
		return unknownCode(code)
	})
	if err == nil && out.Model != "" && out.Vendor == "" {
		err = errors.New("a model (2) without its vendor (1)")
	}
	return err
}

// Describe shows an identifier (measurement key, class id, instance id) or a
// profile's value to people.
func (i Item) Describe() string { return describeItem(i, 4) }

func describeItem(v Item, depth int) string {
	r := dcbor.NewReader(v)
	var out string
	switch r.PeekMajor() {
	case 0, 1:
		out = fmt.Sprint(r.Int())
	case 2:
		out = fmt.Sprintf("%x", r.Bytes())
	case 3:
		out = fmt.Sprintf("%q", r.Text())
	case 4:
		var d Digest
		if decodeDigest(v, &d) == nil {
			return d.String()
		}
		items, err := tuple(v, 0, 64)
		if err != nil || depth == 0 {
			return v.String()
		}
		parts := make([]string, len(items))
		for i, x := range items {
			parts[i] = describeItem(x, depth-1)
		}
		return "[" + strings.Join(parts, " ") + "]"
	case 6:
		return describeTagged(v, depth)
	default:
		return v.String()
	}
	if r.Done() != nil {
		return v.String()
	}
	return out
}

func describeTagged(v Item, depth int) string {
	tag, content, _ := splitTag(v)
	var b []byte
	if depth == 0 {
		return v.String()
	}
	if byteString(content, &b) != nil {
		return fmt.Sprintf("%d(%s)", tag, describeItem(content, depth-1))
	}
	switch tag {
	case tagOID:
		if s, err := oidString(b); err == nil {
			return s
		}
	case tagUUID:
		if len(b) == 16 {
			return ID{UUID: [16]byte(b)}.String()
		}
	}
	return fmt.Sprintf("%x", b)
}
