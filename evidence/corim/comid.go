package corim

import (
	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// A CoMID is a Concise Module Identifier: concise-mid-tag, section "CoMID".
type CoMID struct {
	Language string
	ID       TagID
	Entities []Entity
	Linked   []LinkedTag
	Triples  Triples
	Extra    []Field
}

// A LinkedTag is another tag that this one supplements (0) or replaces (1).
type LinkedTag struct {
	ID       ID
	Relation int64
}

// Triples are a CoMID's statements: triples-map, section "Triples".
type Triples struct {
	Reference   []Record // states that are possible
	Endorsed    []Record // claims about what is in such an environment
	Identity    []KeyTriple
	AttestKey   []KeyTriple
	Dependency  []DomainTriple
	Membership  []DomainTriple
	CoSWID      []CoSWIDTriple
	Series      []SeriesTriple // conditional endorsement series: the first that matches counts
	Conditional []ConditionalTriple
	Extra       []Field // unknown triples, carried
}

// A Record says of an environment that it has, or should have, these
// measurements: reference-triple-record, endorsed-triple-record and
// stateful-environment-record.
type Record struct {
	Environment Environment
	Claims      []Measurement
}

// A KeyTriple says that keys belong to an environment: identity-triple-record
// and attest-key-triple-record.
type KeyTriple struct {
	Environment  Environment
	Keys         []Key
	MKey         Item  // condition: the element that has the keys; nil for any
	AuthorizedBy []Key // condition: who asserted the keys
}

// A DomainTriple relates a domain to its members or to its trustees.
type DomainTriple struct {
	Domain  Environment
	Members []Environment
}

// A CoSWIDTriple relates an environment to CoSWID tags.
type CoSWIDTriple struct {
	Environment Environment
	Tags        []ID
}

// A ConditionalTriple endorses something when all its conditions hold.
type ConditionalTriple struct{ Conditions, Endorsements []Record }

// A SeriesTriple endorses the addition of the first of its records whose
// condition holds beside the common one.
type SeriesTriple struct {
	Environment  Environment
	Claims       []Measurement // may be empty
	AuthorizedBy []Key
	Series       []SeriesRecord
}

// A SeriesRecord is one of a series.
type SeriesRecord struct{ Condition, Addition []Measurement }

func (c *CoMID) encode() Item {
	var m mapWriter
	m.text(0, c.Language)
	m.add(1, c.ID.encode())
	if len(c.Entities) > 0 {
		m.add(2, encodeEntities(c.Entities))
	}
	if len(c.Linked) > 0 {
		m.add(3, arrayOf(c.Linked, func(l LinkedTag) Item {
			var m mapWriter
			m.add(0, l.ID.encode())
			m.add(1, dcbor.AppendInt(nil, l.Relation))
			return m.encode()
		}))
	}
	m.add(4, c.Triples.encode())
	m.extra(c.Extra)
	return m.encode()
}

func (t *Triples) encode() Item {
	var m mapWriter
	put(&m, 0, t.Reference, Record.encode)
	put(&m, 1, t.Endorsed, Record.encode)
	put(&m, 2, t.Identity, KeyTriple.encode)
	put(&m, 3, t.AttestKey, KeyTriple.encode)
	put(&m, 4, t.Dependency, DomainTriple.encode)
	put(&m, 5, t.Membership, DomainTriple.encode)
	put(&m, 6, t.CoSWID, func(t CoSWIDTriple) Item {
		return array([]Item{t.Environment.Encode(), arrayOf(t.Tags, ID.encode)})
	})
	put(&m, 8, t.Series, SeriesTriple.encode)
	put(&m, 10, t.Conditional, func(t ConditionalTriple) Item {
		return array([]Item{arrayOf(t.Conditions, Record.encode), arrayOf(t.Endorsements, Record.encode)})
	})
	m.extra(t.Extra)
	return m.encode()
}

func put[T any](m *mapWriter, code int64, list []T, f func(T) Item) {
	if len(list) > 0 {
		m.add(code, arrayOf(list, f))
	}
}

func (r Record) encode() Item {
	return array([]Item{r.Environment.Encode(), arrayOf(r.Claims, Measurement.encode)})
}

func (t KeyTriple) encode() Item {
	items := []Item{t.Environment.Encode(), arrayOf(t.Keys, Key.item)}
	var m mapWriter
	if t.MKey != nil {
		m.add(0, t.MKey)
	}
	put(&m, 1, t.AuthorizedBy, Key.item)
	if len(m) > 0 {
		items = append(items, m.encode())
	}
	return array(items)
}

func (t DomainTriple) encode() Item {
	return array([]Item{t.Domain.Encode(), arrayOf(t.Members, Environment.Encode)})
}

func (t SeriesTriple) encode() Item {
	common := []Item{t.Environment.Encode(), arrayOf(t.Claims, Measurement.encode)}
	if len(t.AuthorizedBy) > 0 {
		common = append(common, arrayOf(t.AuthorizedBy, Key.item))
	}
	return array([]Item{array(common), arrayOf(t.Series, func(s SeriesRecord) Item {
		return array([]Item{arrayOf(s.Condition, Measurement.encode), arrayOf(s.Addition, Measurement.encode)})
	})})
}

func decodeCoMID(v Item, c *CoMID) error {
	return eachField(v, func(code int64, v Item) error {
		switch code {
		case 0:
			return in("language", text(v, &c.Language))
		case 1:
			return in("tag-identity", decodeTagID(v, &c.ID))
		case 2:
			return in("entities", decodeEntities(v, &c.Entities))
		case 3:
			return in("linked-tags", list(v, maxTags, &c.Linked, decodeLinked))
		case 4:
			return in("triples", decodeTriples(v, &c.Triples))
		}
		c.Extra = append(c.Extra, Field{code, v})
		return nil
	}, 1, 4)
}

func decodeLinked(v Item, l *LinkedTag) error {
	return eachField(v, func(code int64, v Item) error {
		switch code {
		case 0:
			return decodeID(v, &l.ID)
		case 1:
			return integer(v, &l.Relation)
		}
		return unknownCode(code)
	}, 0, 1)
}

// list reads an array of at least one item.
func list[T any](v Item, limit int, out *[]T, f func(Item, *T) error) error {
	if n := dcbor.NewReader(v).Array(); n > 0 && n <= limit {
		*out = make([]T, 0, n)
	}
	return eachItem(v, limit, func(v Item) error {
		var t T
		if err := f(v, &t); err != nil {
			return err
		}
		*out = append(*out, t)
		return nil
	})
}

func decodeTriples(v Item, t *Triples) error {
	return eachField(v, func(code int64, v Item) error {
		switch code {
		case 0:
			return in("reference", list(v, maxItems, &t.Reference, decodeRecord))
		case 1:
			return in("endorsed", list(v, maxItems, &t.Endorsed, decodeRecord))
		case 2:
			return in("identity", list(v, maxItems, &t.Identity, decodeKeyTriple))
		case 3:
			return in("attest-key", list(v, maxItems, &t.AttestKey, decodeKeyTriple))
		case 4:
			return in("dependency", list(v, maxItems, &t.Dependency, decodeDomain))
		case 5:
			return in("membership", list(v, maxItems, &t.Membership, decodeDomain))
		case 6:
			return in("coswid", list(v, maxItems, &t.CoSWID, decodeCoSWIDTriple))
		case 8:
			return in("conditional-endorsement-series", list(v, maxItems, &t.Series, decodeSeries))
		case 10:
			return in("conditional-endorsement", list(v, maxItems, &t.Conditional, decodeConditional))
		}
		t.Extra = append(t.Extra, Field{code, v})
		return nil
	})
}

func decodeRecord(v Item, out *Record) error {
	t, err := tuple(v, 2, 2)
	if err != nil {
		return err
	}
	if err := decodeEnvironment(t[0], &out.Environment); err != nil {
		return in("environment", err)
	}
	return in("measurement", list(t[1], maxClaims, &out.Claims, decodeMeasurement))
}

func decodeKeyTriple(v Item, out *KeyTriple) error {
	t, err := tuple(v, 2, 3)
	if err != nil {
		return err
	}
	if err := decodeEnvironment(t[0], &out.Environment); err != nil {
		return in("environment", err)
	}
	if err := in("key", list(t[1], maxRecords, &out.Keys, decodeKey)); err != nil || len(t) == 2 {
		return err
	}
	return in("conditions", eachField(t[2], func(code int64, v Item) error {
		switch code {
		case 0:
			out.MKey = v
			return nil
		case 1:
			return list(v, maxRecords, &out.AuthorizedBy, decodeKey)
		}
		return unknownCode(code)
	}))
}

func decodeDomain(v Item, out *DomainTriple) error {
	t, err := tuple(v, 2, 2)
	if err != nil {
		return err
	}
	if err := decodeEnvironment(t[0], &out.Domain); err != nil {
		return in("domain", err)
	}
	return in("members", list(t[1], maxRecords, &out.Members, decodeEnvironment))
}

func decodeCoSWIDTriple(v Item, out *CoSWIDTriple) error {
	t, err := tuple(v, 2, 2)
	if err != nil {
		return err
	}
	if err := decodeEnvironment(t[0], &out.Environment); err != nil {
		return in("environment", err)
	}
	return in("tag ids", list(t[1], maxRecords, &out.Tags, decodeID))
}

func decodeConditional(v Item, out *ConditionalTriple) error {
	t, err := tuple(v, 2, 2)
	if err != nil {
		return err
	}
	if err := list(t[0], maxRecords, &out.Conditions, decodeRecord); err != nil {
		return in("condition", err)
	}
	return in("endorsement", list(t[1], maxRecords, &out.Endorsements, decodeRecord))
}

func decodeSeries(v Item, out *SeriesTriple) error {
	t, err := tuple(v, 2, 2)
	if err != nil {
		return err
	}
	common, err := tuple(t[0], 2, 3)
	if err != nil {
		return in("common condition", err)
	}
	if err := decodeEnvironment(common[0], &out.Environment); err != nil {
		return in("environment", err)
	}
	err = eachItem0(common[1], maxClaims, func(v Item) error {
		var m Measurement
		err := decodeMeasurement(v, &m)
		out.Claims = append(out.Claims, m)
		return err
	}, 0)
	if err != nil {
		return in("common condition", err)
	}
	if len(common) == 3 {
		if err := list(common[2], maxRecords, &out.AuthorizedBy, decodeKey); err != nil {
			return in("authorized-by", err)
		}
	}
	return in("series", list(t[1], maxRecords, &out.Series, func(v Item, s *SeriesRecord) error {
		t, err := tuple(v, 2, 2)
		if err != nil {
			return err
		}
		if err := list(t[0], maxClaims, &s.Condition, decodeMeasurement); err != nil {
			return in("condition", err)
		}
		return in("addition", list(t[1], maxClaims, &s.Addition, decodeMeasurement))
	}))
}
