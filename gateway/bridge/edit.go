package bridge

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// An edit replaces the value at a path of a JSON object.
type edit struct {
	value []byte // JSON text
	path  []string
}

func set(value []byte, path ...string) edit { return edit{value, path} }

// rewrite returns raw, one valid JSON object, with the edits made and every
// other byte as it was: what a bridge passes on must not change in passing,
// and re-encoding would. Paths that don't exist are left alone. Line breaks
// between tokens become spaces, since stdio frames messages by lines, and space
// around the object goes: some SDKs refuse a line that does not end with it.
func rewrite(raw []byte, edits ...edit) []byte {
	raw = bytes.Trim(raw, " \t\r\n")
	w := rewriter{raw: raw, dec: jsontext.NewDecoder(bytes.NewBuffer(raw), jsontext.AllowDuplicateNames(true))}
	if len(edits) > 0 && w.object(edits, 0) != nil {
		w.spans = nil // unreachable: callers have parsed raw
	}
	size := len(raw)
	for _, s := range w.spans {
		size += len(s.value)
	}
	out := make([]byte, 0, size+1) // one more for the line end
	at := 0
	for _, s := range w.spans {
		out = append(append(out, raw[at:s.start]...), s.value...)
		at = s.end
	}
	out = append(out, raw[at:]...)
	for i := bytes.IndexAny(out, "\r\n"); i >= 0; {
		out[i] = ' '
		j := bytes.IndexAny(out[i:], "\r\n")
		if j < 0 {
			break
		}
		i += j
	}
	return out
}

type span struct {
	start, end int
	value      []byte
}

type rewriter struct {
	raw   []byte
	dec   *jsontext.Decoder
	spans []span
}

func (w *rewriter) object(edits []edit, depth int) error {
	if _, err := w.dec.ReadToken(); err != nil {
		return err
	}
	for w.dec.PeekKind() != '}' {
		tok, err := w.dec.ReadToken()
		if err != nil {
			return err
		}
		name := tok.String()
		var here *edit
		var below []edit
		for i, e := range edits {
			if e.path[depth] != name {
				continue
			}
			if len(e.path) == depth+1 {
				here = &edits[i]
			} else {
				below = append(below, e)
			}
		}
		switch {
		case here != nil:
			val, err := w.dec.ReadValue()
			if err != nil {
				return err
			}
			end := int(w.dec.InputOffset())
			w.spans = append(w.spans, span{end - len(val), end, here.value})
		case len(below) > 0 && w.dec.PeekKind() == '{':
			if err := w.object(below, depth+1); err != nil {
				return err
			}
		default:
			if err := w.dec.SkipValue(); err != nil {
				return err
			}
		}
	}
	_, err := w.dec.ReadToken()
	return err
}
