package cosesign

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// Sorted returns b with the keys of all maps in deterministic order and all
// heads shortest, for messages of peers that may write them otherwise. Double
// keys and indefinite lengths are errors; what else is wrong is left to who
// reads the result.
func Sorted(b []byte) ([]byte, error) {
	s := &sorter{b: b}
	out, err := s.item(make([]byte, 0, len(b)), 0)
	if err == nil && len(s.b) > 0 {
		err = fmt.Errorf("%d bytes after the value", len(s.b))
	}
	if err != nil {
		return nil, fmt.Errorf("CBOR: %w", err)
	}
	return out, nil
}

const maxSortDepth = 32

type sorter struct{ b []byte }

var errShort = errors.New("the input ends early")

func (s *sorter) head() (major byte, n uint64, raw []byte, err error) {
	if len(s.b) == 0 {
		return 0, 0, nil, errShort
	}
	major, info, size := s.b[0]>>5, s.b[0]&31, 0
	switch {
	case info < 24:
		n = uint64(info)
	case info <= 27:
		size = 1 << (info - 24)
	default:
		return 0, 0, nil, errors.New("indefinite length, or a reserved head")
	}
	if len(s.b) < 1+size {
		return 0, 0, nil, errShort
	}
	for _, x := range s.b[1 : 1+size] {
		n = n<<8 | uint64(x)
	}
	raw, s.b = s.b[:1+size], s.b[1+size:]
	return major, n, raw, nil
}

func (s *sorter) item(out []byte, depth int) ([]byte, error) {
	if depth > maxSortDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxSortDepth)
	}
	major, n, raw, err := s.head()
	if err != nil {
		return nil, err
	}
	if major >= 2 && major <= 5 && n > uint64(len(s.b)) {
		return nil, errShort
	}
	switch major {
	case 0:
		return dcbor.AppendUint(out, n), nil
	case 1:
		at := len(out)
		out = dcbor.AppendUint(out, n)
		out[at] |= 1 << 5
		return out, nil
	case 2, 3:
		at := len(out)
		out = dcbor.AppendBytes(out, s.b[:n])
		out[at] |= (major & 1) << 5
		s.b = s.b[n:]
		return out, nil
	case 4:
		out = dcbor.AppendArray(out, int(n))
		for range n {
			if out, err = s.item(out, depth+1); err != nil {
				return nil, err
			}
		}
		return out, nil
	case 5:
		return s.pairs(out, int(n), depth)
	case 6:
		return s.item(dcbor.AppendTag(out, n), depth+1)
	}
	return append(out, raw...), nil
}

func (s *sorter) pairs(out []byte, n, depth int) ([]byte, error) {
	type pair struct{ key, value []byte }
	var pairs []pair
	for range n {
		k, err := s.item(nil, depth+1)
		if err != nil {
			return nil, err
		}
		v, err := s.item(nil, depth+1)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, pair{k, v})
	}
	slices.SortFunc(pairs, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	out = dcbor.AppendMap(out, n)
	for i, p := range pairs {
		if i > 0 && bytes.Equal(p.key, pairs[i-1].key) {
			return nil, errors.New("a map with a double key")
		}
		out = append(append(out, p.key...), p.value...)
	}
	return out, nil
}
