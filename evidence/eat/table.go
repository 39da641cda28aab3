package eat

import (
	"encoding/asn1"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A claim is how one claim is read and written. write returns nil when the claim
// is absent.
type claim struct {
	key   int64
	name  string
	read  func(d *decoder, v value, c *Claims, depth int)
	write func(e encoder, c *Claims, depth int) ([]byte, error)
}

// table lists the claims by key.
var table []claim

var byKey, byName map[string]*claim // by the label's String

func init() { // not an initializer, since submodules lead back here
	table = []claim{
		simple(1, "iss", readText(func(c *Claims) *string { return &c.Issuer }), writeText(func(c *Claims) string { return c.Issuer })),
		simple(2, "sub", readText(func(c *Claims) *string { return &c.Subject }), writeText(func(c *Claims) string { return c.Subject })),
		simple(3, "aud", readAudience, writeAudience),
		simple(4, "exp", readTime(func(c *Claims) *time.Time { return &c.Expires }), writeTime(func(c *Claims) time.Time { return c.Expires })),
		simple(5, "nbf", readTime(func(c *Claims) *time.Time { return &c.NotBefore }), writeTime(func(c *Claims) time.Time { return c.NotBefore })),
		simple(6, "iat", readTime(func(c *Claims) *time.Time { return &c.IssuedAt }), writeTime(func(c *Claims) time.Time { return c.IssuedAt })),
		simple(7, "jti", readID, func(e encoder, c *Claims) []byte {
			if c.ID == nil {
				return nil
			}
			if e.json {
				return e.text(string(c.ID))
			}
			return e.octets(c.ID)
		}),
		simple(10, "eat_nonce", readNonces, writeNonces),
		simple(256, "ueid", readOctets(7, 33, func(c *Claims) *[]byte { return &c.UEID }), writeOctets(func(c *Claims) []byte { return c.UEID })),
		simple(257, "sueids", readSUEIDs, writeSUEIDs),
		simple(258, "oemid", readOEMID, writeOEMID),
		simple(259, "hwmodel", readOctets(1, 32, func(c *Claims) *[]byte { return &c.HardwareModel }), writeOctets(func(c *Claims) []byte { return c.HardwareModel })),
		simple(260, "hwversion", readVersion(func(c *Claims) **Version { return &c.HardwareVersion }), writeVersion(func(c *Claims) *Version { return c.HardwareVersion })),
		simple(261, "uptime", readNatural(func(c *Claims) **uint64 { return &c.Uptime }), writeNatural(func(c *Claims) *uint64 { return c.Uptime })),
		simple(262, "oemboot", func(d *decoder, v value, c *Claims) { b := d.boolean(v); c.OEMBoot = &b }, func(e encoder, c *Claims) []byte {
			if c.OEMBoot == nil {
				return nil
			}
			return e.boolean(*c.OEMBoot)
		}),
		simple(263, "dbgstat", func(d *decoder, v value, c *Claims) { n := Debug(d.named(v, debugNames, 0)); c.Debug = &n }, func(e encoder, c *Claims) []byte {
			if c.Debug == nil {
				return nil
			}
			return e.named(uint64(*c.Debug), debugNames)
		}),
		simple(264, "location", readLocation, writeLocation),
		simple(265, "eat_profile", readProfile, writeProfile),
		{266, "submods", readSubmods, writeSubmods},
		simple(267, "bootcount", readNatural(func(c *Claims) **uint64 { return &c.BootCount }), writeNatural(func(c *Claims) *uint64 { return c.BootCount })),
		simple(268, "bootseed", readOctets(1, 4096, func(c *Claims) *[]byte { return &c.BootSeed }), writeOctets(func(c *Claims) []byte { return c.BootSeed })),
		simple(269, "dloas", readDLOAs, writeDLOAs),
		simple(270, "swname", readText(func(c *Claims) *string { return &c.SoftwareName }), writeText(func(c *Claims) string { return c.SoftwareName })),
		simple(271, "swversion", readVersion(func(c *Claims) **Version { return &c.SoftwareVersion }), writeVersion(func(c *Claims) *Version { return c.SoftwareVersion })),
		simple(272, "manifests", readContents(func(c *Claims) *[]Content { return &c.Manifests }), writeContents(func(c *Claims) []Content { return c.Manifests })),
		simple(273, "measurements", readContents(func(c *Claims) *[]Content { return &c.Measurements }), writeContents(func(c *Claims) []Content { return c.Measurements })),
		simple(274, "measres", readResults, writeResults),
		simple(275, "intuse", func(d *decoder, v value, c *Claims) { c.IntendedUse = Use(d.named(v, useNames, 1)) }, func(e encoder, c *Claims) []byte {
			if c.IntendedUse == 0 {
				return nil
			}
			return e.named(uint64(c.IntendedUse), useNames)
		}),
	}
	byKey, byName = map[string]*claim{}, map[string]*claim{}
	for i := range table {
		byKey[Label{Number: table[i].key}.String()] = &table[i]
		byName[table[i].name] = &table[i]
	}
}

func lookup(l Label, json bool) *claim {
	if l.Name == "" {
		return byKey[l.String()]
	}
	if json {
		return byName[l.Name]
	}
	return nil // in CBOR, listed claims have numbers
}

func simple(key int64, name string, read func(*decoder, value, *Claims), write func(encoder, *Claims) []byte) claim {
	return claim{key, name,
		func(d *decoder, v value, c *Claims, _ int) { read(d, v, c) },
		func(e encoder, c *Claims, _ int) ([]byte, error) { return write(e, c), nil }}
}

func readText(at func(*Claims) *string) func(*decoder, value, *Claims) {
	return func(d *decoder, v value, c *Claims) {
		if *at(c) = d.text(v); *at(c) == "" {
			d.fail("an empty text; leave the claim out")
		}
	}
}

func writeText(of func(*Claims) string) func(encoder, *Claims) []byte {
	return func(e encoder, c *Claims) []byte {
		if of(c) == "" {
			return nil
		}
		return e.text(of(c))
	}
}

func readOctets(least, most int, at func(*Claims) *[]byte) func(*decoder, value, *Claims) {
	return func(d *decoder, v value, c *Claims) { *at(c) = d.octets(v, least, most) }
}

func writeOctets(of func(*Claims) []byte) func(encoder, *Claims) []byte {
	return func(e encoder, c *Claims) []byte {
		if of(c) == nil {
			return nil
		}
		return e.octets(of(c))
	}
}

func readNatural(at func(*Claims) **uint64) func(*decoder, value, *Claims) {
	return func(d *decoder, v value, c *Claims) { n := d.natural(v); *at(c) = &n }
}

func writeNatural(of func(*Claims) *uint64) func(encoder, *Claims) []byte {
	return func(e encoder, c *Claims) []byte {
		if of(c) == nil {
			return nil
		}
		return e.integer(int64(*of(c)))
	}
}

// maxTime is the end of the year 9999, in seconds since 1970.
const maxTime = 253402300799

func readTime(at func(*Claims) *time.Time) func(*decoder, value, *Claims) {
	return func(d *decoder, v value, c *Claims) {
		n := d.natural(v)
		if n == 0 || n > maxTime {
			d.fail("%d seconds since 1970 is no date that can be meant", n)
		}
		*at(c) = time.Unix(int64(n), 0).UTC()
	}
}

func writeTime(of func(*Claims) time.Time) func(encoder, *Claims) []byte {
	return func(e encoder, c *Claims) []byte {
		if of(c).IsZero() {
			return nil
		}
		return e.integer(of(c).Unix())
	}
}

func readID(d *decoder, v value, c *Claims) {
	if v.json {
		c.ID = []byte(d.text(v))
	} else {
		c.ID = d.octets(v, 1, 4096)
	}
}

func readAudience(d *decoder, v value, c *Claims) {
	if v.kind() != '[' {
		c.Audience = []string{d.text(v)}
		return
	}
	d.array(v, 1, maxList, func(_ int, v value) { c.Audience = append(c.Audience, d.text(v)) })
}

func writeAudience(e encoder, c *Claims) []byte {
	switch len(c.Audience) {
	case 0:
		return nil
	case 1:
		return e.text(c.Audience[0])
	}
	return e.array(each(c.Audience, e.text)...)
}

func each[T any](in []T, f func(T) []byte) [][]byte {
	out := make([][]byte, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}

func readNonces(d *decoder, v value, c *Claims) {
	one := func(v value) {
		if !v.json {
			c.Nonces = append(c.Nonces, d.octets(v, 8, 64))
			return
		}
		s := d.text(v)
		if len(s) < 8 || len(s) > 88 {
			d.fail("a nonce of %d characters; 8 to 88 are allowed", len(s))
		}
		c.Nonces = append(c.Nonces, []byte(s))
	}
	if v.kind() != '[' {
		one(v)
		return
	}
	d.array(v, 2, maxNonces, func(_ int, v value) { one(v) })
}

func writeNonces(e encoder, c *Claims) []byte {
	one := func(n []byte) []byte {
		if e.json {
			return e.text(string(n))
		}
		return e.octets(n)
	}
	switch len(c.Nonces) {
	case 0:
		return nil
	case 1:
		return one(c.Nonces[0])
	}
	return e.array(each(c.Nonces, one)...)
}

func readSUEIDs(d *decoder, v value, c *Claims) {
	c.SUEIDs = map[string][]byte{}
	d.members(v, maxList, func(l Label, v value) {
		if l.Name == "" {
			d.fail("a label that is no text")
		}
		c.SUEIDs[l.Name] = d.octets(v, 7, 33)
	})
	if len(c.SUEIDs) == 0 {
		d.fail("no sueid; at least one is required")
	}
}

func writeSUEIDs(e encoder, c *Claims) []byte {
	if len(c.SUEIDs) == 0 {
		return nil
	}
	var pairs []pair
	for k, v := range c.SUEIDs {
		pairs = append(pairs, pair{e.text(k), e.octets(v)})
	}
	return e.members(pairs)
}

func readOEMID(d *decoder, v value, c *Claims) {
	c.OEMID = &OEMID{}
	if v.kind() == '0' {
		c.OEMID.PEN = d.integer(v)
		return
	}
	c.OEMID.ID = d.octets(v, 3, 16)
	if n := len(c.OEMID.ID); d.err == nil && n != 3 && n != 16 {
		d.fail("%d bytes; 3 or 16 are possible", n)
	}
}

func writeOEMID(e encoder, c *Claims) []byte {
	switch {
	case c.OEMID == nil:
		return nil
	case c.OEMID.ID != nil:
		return e.octets(c.OEMID.ID)
	}
	return e.integer(c.OEMID.PEN)
}

func readVersion(at func(*Claims) **Version) func(*decoder, value, *Claims) {
	return func(d *decoder, v value, c *Claims) {
		ver := &Version{}
		d.array(v, 1, 2, func(i int, v value) {
			switch {
			case i == 0:
				ver.Version = d.text(v)
			case v.kind() == '0':
				if ver.Scheme = d.integer(v); ver.Scheme == 0 {
					d.fail("version scheme 0 is reserved")
				}
			default:
				if ver.SchemeName = d.text(v); ver.SchemeName == "" {
					d.fail("an empty version scheme")
				}
			}
		})
		*at(c) = ver
	}
}

func writeVersion(of func(*Claims) *Version) func(encoder, *Claims) []byte {
	return func(e encoder, c *Claims) []byte {
		v := of(c)
		if v == nil {
			return nil
		}
		items := [][]byte{e.text(v.Version)}
		if v.SchemeName != "" {
			items = append(items, e.text(v.SchemeName))
		} else if v.Scheme != 0 {
			items = append(items, e.integer(v.Scheme))
		}
		return e.array(items...)
	}
}

func readLocation(d *decoder, v value, c *Claims) {
	c.Location = Location{}
	d.members(v, len(locationNames), func(l Label, v value) {
		n := l.Number
		if l.Name != "" {
			n = int64(slices.Index(locationNames, l.Name))
		}
		if n < 1 || n >= int64(len(locationNames)) || v.json != (l.Name != "") {
			d.fail("%s is no property of a place", l)
			return
		}
		c.Location[int(n)] = d.number(v)
	})
	_, lat := c.Location[1]
	if _, long := c.Location[2]; !lat || !long {
		d.fail("a place needs latitude and longitude")
	}
}

func writeLocation(e encoder, c *Claims) []byte {
	if len(c.Location) == 0 {
		return nil
	}
	var pairs []pair
	for k, v := range c.Location {
		l := Label{Number: int64(k)}
		if e.json {
			l.Name = nameOf(locationNames, uint64(k))
		}
		pairs = append(pairs, pair{e.label(l), e.number(v)})
	}
	return e.members(pairs)
}

var oid = regexp.MustCompile(`^[0-2](?:\.(?:0|[1-9][0-9]{0,8})){1,30}$`)

func readProfile(d *decoder, v value, c *Claims) {
	if v.kind() == '"' {
		if c.Profile = d.text(v); c.Profile == "" {
			d.fail("an empty profile")
		} else if !v.json && oid.MatchString(c.Profile) {
			d.fail("an OID as text; in CBOR it is a byte string")
		}
		return
	}
	if v.json {
		d.fail("want a text")
		return
	}
	der := d.octets(v, 1, 127)
	var o asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(append([]byte{6, byte(len(der))}, der...), &o); err != nil || len(rest) > 0 || !oid.MatchString(o.String()) {
		d.fail("want a URI or an OID (RFC 9090)")
		return
	}
	c.Profile = o.String()
}

func writeProfile(e encoder, c *Claims) []byte {
	if c.Profile == "" {
		return nil
	}
	if e.json || !oid.MatchString(c.Profile) {
		return e.text(c.Profile)
	}
	var o asn1.ObjectIdentifier
	for s := range strings.SplitSeq(c.Profile, ".") {
		n := 0
		for _, ch := range []byte(s) { // at most nine digits
			n = n*10 + int(ch-'0')
		}
		o = append(o, n)
	}
	der, err := asn1.Marshal(o)
	if err != nil || len(der) > 127 {
		return e.text(c.Profile) // what reads the result again refuses it
	}
	return e.octets(der[2:])
}

func readDLOAs(d *decoder, v value, c *Claims) {
	d.array(v, 1, maxList, func(_ int, v value) {
		var l DLOA
		d.array(v, 2, 3, func(i int, v value) {
			s := d.text(v)
			if s == "" {
				d.fail("an empty text")
			}
			*[]*string{&l.Registrar, &l.Platform, &l.Application}[i] = s
		})
		c.DLOAs = append(c.DLOAs, l)
	})
}

func writeDLOAs(e encoder, c *Claims) []byte {
	if len(c.DLOAs) == 0 {
		return nil
	}
	return e.array(each(c.DLOAs, func(l DLOA) []byte {
		items := [][]byte{e.text(l.Registrar), e.text(l.Platform)}
		if l.Application != "" {
			items = append(items, e.text(l.Application))
		}
		return e.array(items...)
	})...)
}

func readContents(at func(*Claims) *[]Content) func(*decoder, value, *Claims) {
	return func(d *decoder, v value, c *Claims) {
		d.array(v, 1, maxList, func(_ int, v value) {
			var m Content
			d.array(v, 2, 2, func(i int, v value) {
				if i == 1 {
					m.Body = d.octets(v, 1, MaxBytes)
					return
				}
				n := d.natural(v)
				if n > 0xffff {
					d.fail("a content-format beyond 65535")
				}
				m.Format = uint16(n)
			})
			*at(c) = append(*at(c), m)
		})
	}
}

func writeContents(of func(*Claims) []Content) func(encoder, *Claims) []byte {
	return func(e encoder, c *Claims) []byte {
		if len(of(c)) == 0 {
			return nil
		}
		return e.array(each(of(c), func(m Content) []byte { return e.array(e.integer(int64(m.Format)), e.octets(m.Body)) })...)
	}
}

func readResults(d *decoder, v value, c *Claims) {
	d.array(v, 1, maxList, func(_ int, v value) {
		var g Results
		d.array(v, 2, 2, func(i int, v value) {
			if i == 0 {
				g.System = d.text(v)
				return
			}
			d.array(v, 1, 1024, func(_ int, v value) {
				var m MeasurementResult
				d.array(v, 2, 2, func(i int, v value) {
					switch {
					case i == 1:
						m.Result = Comparison(d.named(v, comparisonNames, 1))
					case v.kind() == '"':
						m.ID = d.text(v)
					default:
						m.Bytes = d.octets(v, 0, 4096)
					}
				})
				g.Of = append(g.Of, m)
			})
		})
		c.Results = append(c.Results, g)
	})
}

func writeResults(e encoder, c *Claims) []byte {
	if len(c.Results) == 0 {
		return nil
	}
	return e.array(each(c.Results, func(g Results) []byte {
		return e.array(e.text(g.System), e.array(each(g.Of, func(m MeasurementResult) []byte {
			id := e.text(m.ID)
			if m.Bytes != nil {
				id = e.octets(m.Bytes)
			}
			return e.array(id, e.named(uint64(m.Result), comparisonNames))
		})...))
	})...)
}

func readSubmods(d *decoder, v value, c *Claims, depth int) {
	if depth >= maxDepth {
		d.fail("submodules nested deeper than %d", maxDepth)
		return
	}
	c.Submods = map[string]Submod{}
	d.members(v, maxSubs, func(l Label, v value) {
		if l.Name == "" {
			d.fail("the label %s is no text", l)
			return
		}
		c.Submods[l.Name] = readSubmod(d, v, depth)
		if d.err != nil {
			d.err = fmt.Errorf("%.80q: %w", l.Name, d.err)
		}
	})
	if len(c.Submods) == 0 {
		d.fail("no submodule; at least one is required")
	}
}

func writeSubmods(e encoder, c *Claims, depth int) ([]byte, error) {
	if len(c.Submods) == 0 {
		return nil, nil
	}
	if depth >= maxDepth {
		return nil, fmt.Errorf("submodules nested deeper than %d", maxDepth)
	}
	var pairs []pair
	for _, name := range slices.Sorted(maps.Keys(c.Submods)) {
		b, err := writeSubmod(e, c.Submods[name], depth)
		if err != nil {
			return nil, fmt.Errorf("submodule %.80q: %w", name, err)
		}
		pairs = append(pairs, pair{e.text(name), b})
	}
	return e.members(pairs), nil
}
