package sse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func readAll(r *Reader) ([]Event, error) {
	var out []Event
	for {
		ev, err := r.Next()
		if err != nil {
			return out, err
		}
		if ev.Data != nil {
			ev.Data = append([]byte{}, ev.Data...)
		}
		out = append(out, ev)
	}
}

func TestNext(t *testing.T) {
	msg := func(data string) Event { return Event{Retry: -1, Data: []byte(data)} }
	for _, tt := range []struct {
		name, in string
		want     []Event
		err      error
	}{
		{"empty stream", "", nil, io.EOF},
		{"blank lines only", "\n\r\n\r\r\n", nil, io.EOF},
		{"one line", "data: x\n\n", []Event{msg("x")}, io.EOF},
		{"no space after colon", "data:x\n\n", []Event{msg("x")}, io.EOF},
		{"only one space is removed", "data:  x\n\n", []Event{msg(" x")}, io.EOF},
		{"CRLF", "data: x\r\n\r\n", []Event{msg("x")}, io.EOF},
		{"CR", "data: x\r\rdata: y\r\r", []Event{msg("x"), msg("y")}, io.EOF},
		{"mixed ends", "data: x\r\n\ndata: y\n\r\n", []Event{msg("x"), msg("y")}, io.EOF},
		{"multi-line data", "data: a\ndata\ndata: b\n\n", []Event{msg("a\n\nb")}, io.EOF},
		{"all fields", "event: e\nid: 1\nretry: 20\ndata: x\n\n", []Event{{Name: "e", ID: "1", HasID: true, Retry: 20, Data: []byte("x")}}, io.EOF},
		{"priming event keeps its empty data", "id: p\ndata:\n\n", []Event{{ID: "p", HasID: true, Retry: -1, Data: []byte{}}}, io.EOF},
		{"retry alone is handed over", "retry: 500\n\n", []Event{{Retry: 500}}, io.EOF},
		{"retry that is no number is ignored", "retry: 5s\ndata: x\n\n", []Event{msg("x")}, io.EOF},
		{"huge retry is capped", "retry: 99999999999999999999999\n\n", []Event{{Retry: MaxRetry}}, io.EOF},
		{"empty id resets", "id\ndata: x\n\n", []Event{{HasID: true, Retry: -1, Data: []byte("x")}}, io.EOF},
		{"id with NUL is ignored", "id: a\x00b\ndata: x\n\n", []Event{msg("x")}, io.EOF},
		{"event name with NUL is kept", "event: a\x00b\ndata: x\n\n", []Event{{Name: "a\x00b", Retry: -1, Data: []byte("x")}}, io.EOF},
		{"unknown field is ignored", "foo: bar\ndata: x\n\n", []Event{msg("x")}, io.EOF},
		{"field names are case-sensitive", "Data: y\ndata: x\n\n", []Event{msg("x")}, io.EOF},
		{"comment", ": hi\n:\ndata: x\n\n", []Event{{HasComment: true, Comment: "hi", Retry: -1}, {HasComment: true, Retry: -1}, msg("x")}, io.EOF},
		{"comment inside an event comes first", "data: x\n: c\ndata: y\n\n", []Event{{HasComment: true, Comment: "c", Retry: -1}, msg("x\ny")}, io.EOF},
		{"byte order mark", "\xef\xbb\xbfdata: x\n\n", []Event{msg("x")}, io.EOF},
		{"only one mark is stripped", "\xef\xbb\xbf\xef\xbb\xbfdata: x\n\n", []Event{{Retry: -1}}, io.EOF},
		{"state doesn't leak into the next event", "event: e\nid: 1\ndata: x\n\ndata: y\n\n", []Event{{Name: "e", ID: "1", HasID: true, Retry: -1, Data: []byte("x")}, msg("y")}, io.EOF},
		{"no blank line at the end", "data: x\n", nil, ErrTruncated},
		{"cut inside a line", "data: x\n\ndata: y", []Event{msg("x")}, ErrTruncated},
		{"cut after a field without data", "id: 3\n", nil, ErrTruncated},
		{"cut byte order mark", "\xef\xbb", nil, ErrTruncated},
		{"line over the limit", "data: " + strings.Repeat("x", 200), nil, ErrTooLarge},
		{"whole line over the limit", "data: " + strings.Repeat("x", 200) + "\n\n", nil, ErrTooLarge},
		{"whole comment over the limit", ":" + strings.Repeat("x", 200) + "\n", nil, ErrTooLarge},
		{"event over the limit", strings.Repeat("data: xxxxxxxxxx\n", 20), nil, ErrTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, src := range map[string]io.Reader{
				"whole":      strings.NewReader(tt.in),
				"byte-wise":  iotest.OneByteReader(strings.NewReader(tt.in)),
				"data+error": iotest.DataErrReader(strings.NewReader(tt.in)),
			} {
				r := NewReader(src, 128)
				got, err := readAll(r)
				if !errors.Is(err, tt.err) {
					t.Errorf("%s: error %v, want %v", name, err, tt.err)
				}
				if !reflect.DeepEqual(got, tt.want) {
					t.Errorf("%s: got  %+v\nwant %+v", name, got, tt.want)
				}
				if _, again := r.Next(); again != err {
					t.Errorf("%s: the error is not final: %v", name, again)
				}
			}
		})
	}
}

// A reader that waited for the byte after CR would hold an event back until
// the next one arrives.
func TestCRDispatchesAtOnce(t *testing.T) {
	pr, pw := io.Pipe()
	defer pr.Close()
	go func() { _, _ = pw.Write([]byte("data: x\r\r")) }()
	ev, err := NewReader(pr, 0).Next()
	if err != nil || string(ev.Data) != "x" {
		t.Fatalf("%+v %v", ev, err)
	}
}

func TestReadErrorIsKept(t *testing.T) {
	boom := errors.New("boom")
	_, err := readAll(NewReader(io.MultiReader(strings.NewReader("data: x\n\ndata: y\n"), iotest.ErrReader(boom)), 0))
	if !errors.Is(err, boom) {
		t.Fatalf("got %v", err)
	}
	_, err = NewReader(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("data"))), 0).Next()
	if !errors.Is(err, iotest.ErrTimeout) {
		t.Fatalf("got %v", err)
	}
	if _, err := NewReader(empty{}, 0).Next(); err != io.ErrNoProgress {
		t.Fatalf("got %v", err)
	}
}

type empty struct{}

func (empty) Read([]byte) (int, error) { return 0, nil }

func TestAppend(t *testing.T) {
	for _, tt := range []struct {
		ev   Event
		want string
	}{
		{Event{Retry: -1, Data: []byte(`{"a":1}`)}, "data: {\"a\":1}\n\n"},
		{Event{Name: "message", ID: "0_1", HasID: true, Retry: 5, Data: []byte("a\r\nb\rc\n")}, "event: message\nid: 0_1\nretry: 5\ndata: a\ndata: b\ndata: c\ndata: \n\n"},
		{Event{HasID: true, ID: "a\nb\rc\x00", Retry: -1, Data: []byte{}}, "id: abc\ndata: \n\n"},
		{Event{Name: "a\nb\rc\x00", Retry: -1, Data: []byte{}}, "event: abc\x00\ndata: \n\n"},
		{Event{Retry: 500}, "retry: 500\n\n"},
		{Event{HasComment: true, Comment: "a\nb", Retry: -1}, ": a\n: b\n\n"},
	} {
		if got := string(Append(nil, tt.ev)); got != tt.want {
			t.Errorf("%+v\ngot  %q\nwant %q", tt.ev, got, tt.want)
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, s := range []string{"data: x\n\n", ": c\r\nid: 1\r\ndata: {}\r\n\r\n", "event: a\rretry: 5\rdata\r\r", "\xef\xbb\xbfid\n\n", "data: x", "event:\x00\r\r"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		const limit = 1 << 10
		whole, err1 := readAll(NewReader(bytes.NewReader(in), limit))
		bytewise, err2 := readAll(NewReader(iotest.OneByteReader(bytes.NewReader(in)), limit))
		if !reflect.DeepEqual(whole, bytewise) || fmt.Sprint(err1) != fmt.Sprint(err2) {
			t.Fatalf("how the input is cut matters:\n%+v %v\n%+v %v", whole, err1, bytewise, err2)
		}
		// What was read survives writing and reading again.
		var out []byte
		for _, ev := range whole {
			out = Append(out, ev)
		}
		var want []Event
		for _, ev := range whole { // an event of unknown fields only writes nothing
			if ev.HasComment || ev.HasID || ev.Name != "" || ev.Retry >= 0 || ev.Data != nil {
				want = append(want, ev)
			}
		}
		again, err := readAll(NewReader(bytes.NewReader(out), 4*limit))
		if err != io.EOF || !reflect.DeepEqual(again, want) {
			t.Fatalf("round trip:\n%+v\n%+v %v", want, again, err)
		}
	})
}

func BenchmarkNext(b *testing.B) {
	for _, size := range []int{100, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			one := Append(nil, Event{ID: "0_1", HasID: true, Name: "message", Retry: -1, Data: bytes.Repeat([]byte("x"), size)})
			r := NewReader(&loop{b: one}, 0)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	ev := Event{Retry: -1, Data: bytes.Repeat([]byte("x"), 4<<10)}
	var dst []byte
	b.SetBytes(int64(len(ev.Data)))
	b.ReportAllocs()
	for b.Loop() {
		dst = Append(dst[:0], ev)
	}
}

type loop struct {
	b   []byte
	pos int
}

func (l *loop) Read(p []byte) (int, error) {
	n := copy(p, l.b[l.pos:])
	l.pos = (l.pos + n) % len(l.b)
	return n, nil
}
