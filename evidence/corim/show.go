package corim

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Codes are the code points that v has, without the deprecated mask.
func (v *Values) Codes() []int64 {
	out := make([]int64, 0, 4)
	has := func(ok bool, code int64) {
		if ok {
			out = append(out, code)
		}
	}
	has(v.Version != nil, CodeVersion)
	has(v.SVN != nil, CodeSVN)
	has(len(v.Digests) > 0, CodeDigests)
	has(len(v.Flags) > 0, CodeFlags)
	has(v.Raw != nil, CodeRaw)
	has(v.MAC != nil, CodeMAC)
	has(v.IP != nil, CodeIP)
	has(v.Serial != "", CodeSerial)
	has(v.UEID != nil, CodeUEID)
	has(v.UUID != nil, CodeUUID)
	has(v.Name != "", CodeName)
	has(len(v.Keys) > 0, CodeKeys)
	has(len(v.Registers) > 0, CodeRegisters)
	has(v.Int != nil, CodeInt)
	for _, f := range v.Extra {
		out = append(out, f.Code)
	}
	return out
}

// Text renders one attribute for people.
func (v *Values) Text(code int64) string {
	switch code {
	case CodeVersion:
		if v.Version != nil {
			return v.Version.Version
		}
	case CodeSVN:
		if v.SVN != nil && v.SVN.Form == MinSVN {
			return fmt.Sprint("at least ", v.SVN.Value)
		}
		if v.SVN != nil {
			return fmt.Sprint(v.SVN.Value)
		}
	case CodeDigests:
		return DigestsText(v.Digests)
	case CodeFlags:
		var out []string
		for _, f := range v.Flags {
			out = append(out, fmt.Sprintf("%d=%v", f.Code, len(f.Value) == 1 && f.Value[0] == 0xf5))
		}
		return strings.Join(out, " ")
	case CodeRaw:
		switch {
		case v.Raw == nil:
		case v.Raw.Unknown != nil:
			return "of an unknown type"
		case v.Raw.Mask != nil:
			return fmt.Sprintf("%x, mask %x", v.Raw.Value, v.Raw.Mask)
		case v.RawMask != nil:
			return fmt.Sprintf("%x, mask %x", v.Raw.Value, v.RawMask)
		default:
			return hex.EncodeToString(v.Raw.Value)
		}
	case CodeRegisters:
		var out []string
		for _, r := range v.Registers {
			out = append(out, r.String()+"="+DigestsText(r.Digests))
		}
		return strings.Join(out, " ")
	case CodeInt:
		if v.Int != nil {
			end := func(n *int64) string {
				if n == nil {
					return "any"
				}
				return fmt.Sprint(*n)
			}
			if v.Int.Range {
				return end(v.Int.Min) + " to " + end(v.Int.Max)
			}
			return end(v.Int.Min)
		}
	case CodeSerial:
		return v.Serial
	case CodeName:
		return v.Name
	case CodeMAC:
		return hex.EncodeToString(v.MAC)
	case CodeIP:
		return hex.EncodeToString(v.IP)
	case CodeUEID:
		return hex.EncodeToString(v.UEID)
	case CodeUUID:
		return hex.EncodeToString(v.UUID)
	case CodeKeys:
		var out []string
		for _, k := range v.Keys {
			out = append(out, k.String())
		}
		return strings.Join(out, ", ")
	default:
		for _, f := range v.Extra {
			if f.Code == code {
				return f.Value.Describe()
			}
		}
	}
	return ""
}

// DigestsText renders alternatives of one digest for people.
func DigestsText(ds []Digest) string {
	var out []string
	for _, d := range ds {
		out = append(out, d.String())
	}
	return strings.Join(out, " or ")
}

// String shows a measurement: its key and values.
func (m Measurement) String() string {
	var parts []string
	for _, code := range m.Values.Codes() {
		parts = append(parts, ValueName(code)+" "+m.Values.Text(code))
	}
	s := strings.Join(parts, ", ")
	if m.Key != nil {
		s = strings.Trim(m.Key.Describe(), `"`) + ": " + s
	}
	return s
}
