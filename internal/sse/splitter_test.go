package sse

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
)

// FuzzSplitter holds a Splitter, fed in pieces of any size, against a Reader.
func FuzzSplitter(f *testing.F) {
	for _, s := range []string{
		"", "data: a\n\n", "data: a\r\n\r\ndata: b\r\n\r\n", "data: a\r\rdata:b\r\r", "\xef\xbb\xbfdata: a\n\n",
		": ping\r\n\r\nid: 7\nretry: 5\nevent: message\ndata\ndata: x\n\n", "data: cut", "id: 1\n", "unknown: x\n\n", "\n\n\r\n", "data: 0123456789012345678901234567890123456789\n\n",
		"data: a\ndata: b\n\n: c", "\xef\xbb", "\xef\xbb\xbf",
	} {
		f.Add([]byte(s), uint8(1))
		f.Add([]byte(s), uint8(7))
	}
	f.Fuzz(func(t *testing.T, stream []byte, step uint8) {
		const limit = 32
		var want []Event
		r := NewReader(bytes.NewReader(stream), limit)
		var werr error
		for {
			ev, err := r.Next()
			if err != nil {
				if werr = err; err == io.EOF {
					werr = nil
				}
				break
			}
			ev.Data = bytes.Clone(ev.Data)
			want = append(want, ev)
		}
		var got []Event
		s := NewSplitter(limit, func(ev Event) error {
			ev.Data = bytes.Clone(ev.Data)
			got = append(got, ev)
			return nil
		})
		var gerr error
		for c := range slices.Chunk(stream, int(step)+1) {
			if _, gerr = s.Write(c); gerr != nil {
				break
			}
		}
		if err := s.Close(); gerr == nil {
			gerr = err
		}
		if bytes.HasPrefix(stream, []byte("\xef")) && (len(stream) < 4 || errors.Is(gerr, ErrTooLarge)) {
			return // a mark that is all there is, or that a splitter counts to the first line's length
		}
		if len(got) != len(want) || (gerr == nil) != (werr == nil) || werr != nil && errors.Is(gerr, ErrTruncated) != errors.Is(werr, ErrTruncated) {
			t.Fatalf("a splitter says %+v, %v; a reader %+v, %v", got, gerr, want, werr)
		}
		for i := range got {
			if g, w := got[i], want[i]; !bytes.Equal(g.Data, w.Data) || (g.Data == nil) != (w.Data == nil) || g.ID != w.ID || g.HasID != w.HasID || g.Name != w.Name || g.Retry != w.Retry || g.Comment != w.Comment {
				t.Fatalf("event %d: a splitter says %+v, a reader %+v", i, g, w)
			}
		}
	})
}

func TestSplitterEachFails(t *testing.T) {
	stop := errors.New("stop")
	s := NewSplitter(0, func(Event) error { return stop })
	if _, err := s.Write([]byte("data: a\n\ndata: b\n\n")); err != stop {
		t.Fatalf("got %v", err)
	}
	if _, err := s.Write([]byte("x")); err != stop {
		t.Fatalf("a splitter that failed went on: %v", err)
	}
}
