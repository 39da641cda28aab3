package eat

import (
	"errors"
	"fmt"

	"github.com/trustedmcp/tmcp/evidence/internal/cosesign"
	"github.com/trustedmcp/tmcp/evidence/internal/jose"
	"github.com/trustedmcp/tmcp/internal/dcbor"
)

func errTooLong(n int) error {
	return fmt.Errorf("eat: %d bytes; %d are allowed", n, MaxBytes)
}

// ParseCBOR reads a claims-set in deterministic CBOR, with or without the tag
// 601 of a UCCS (RFC 9781). Nothing in it is verified.
func ParseCBOR(b []byte) (*Claims, error) {
	if len(b) > MaxBytes {
		return nil, errTooLong(len(b))
	}
	b = cosesign.Untag(b, TagUCCS)
	r := dcbor.NewReader(b)
	r.Skip() // deterministic all the way down
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("eat: %w", err)
	}
	c, err := read(value{b, false}, 0)
	if err != nil {
		return nil, fmt.Errorf("eat: %w", err)
	}
	return c, nil
}

// ParseUnsorted is [ParseCBOR] for claims-sets whose maps need not be sorted and
// whose integers need not be shortest. [Claims.Other] holds deterministic CBOR
// all the same.
func ParseUnsorted(b []byte) (*Claims, error) {
	if len(b) > MaxBytes {
		return nil, errTooLong(len(b))
	}
	sorted, err := cosesign.Sorted(b)
	if err != nil {
		return nil, fmt.Errorf("eat: %w", err)
	}
	return ParseCBOR(sorted)
}

// ParseJSON reads a claims-set in JSON. Nothing in it is verified.
func ParseJSON(b []byte) (*Claims, error) {
	if len(b) > MaxBytes {
		return nil, errTooLong(len(b))
	}
	if err := jose.Check(b); err != nil {
		return nil, fmt.Errorf("eat: %w", err)
	}
	c, err := read(value{b, true}, 0)
	if err != nil {
		return nil, fmt.Errorf("eat: %w", err)
	}
	return c, nil
}

func read(v value, depth int) (*Claims, error) {
	d, c := &decoder{}, &Claims{}
	d.members(v, 1024, func(l Label, v value) {
		k := lookup(l, v.json)
		if k == nil {
			if c.Other == nil {
				c.Other = map[Label][]byte{}
			}
			c.Other[l] = v.b
			return
		}
		k.read(d, v, c, depth)
		if d.err != nil {
			d.err = fmt.Errorf("claim %s: %w", k.name, d.err)
		}
	})
	if d.err != nil {
		return nil, d.err
	}
	return c, nil
}

// EncodeCBOR returns the claims-set as deterministic CBOR, without a tag.
func (c *Claims) EncodeCBOR() ([]byte, error) { return c.encode(false) }

// EncodeJSON returns the claims-set as JSON, its names sorted.
func (c *Claims) EncodeJSON() ([]byte, error) { return c.encode(true) }

// encode writes, and reads the result again: what a reader would refuse is not
// written.
func (c *Claims) encode(json bool) ([]byte, error) {
	if c == nil {
		return nil, errors.New("eat: no claims")
	}
	b, err := write(encoder{json}, c, 0)
	if err != nil {
		return nil, fmt.Errorf("eat: %w", err)
	}
	if json {
		_, err = ParseJSON(b)
	} else {
		_, err = ParseCBOR(b)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

func write(e encoder, c *Claims, depth int) ([]byte, error) {
	var pairs []pair
	for i := range table {
		k := &table[i]
		b, err := k.write(e, c, depth)
		if err != nil {
			return nil, fmt.Errorf("claim %s: %w", k.name, err)
		}
		if b == nil {
			continue
		}
		l := Label{Number: k.key}
		if e.json {
			l.Name = k.name
		}
		pairs = append(pairs, pair{e.label(l), b})
	}
	for l, raw := range c.Other {
		switch {
		case lookup(l, e.json) != nil || e.json && l.Name == "":
			return nil, fmt.Errorf("other claim %s: it has a field of its own, or no name", l)
		case len(raw) == 0:
			return nil, fmt.Errorf("other claim %s: no value", l)
		}
		pairs = append(pairs, pair{e.label(l), raw})
	}
	return e.members(pairs), nil
}
