package eventlog

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"
)

func moduleFile(t testing.TB, module, file string) []byte {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestOracle: Google's library accepts the registers that we compute, for the
// logs of real TDs, and finds the same events.
func TestOracle(t *testing.T) {
	for _, name := range []string{"cos-113-intel-tdx.bin", "cos-113-intel-tdx-dupe-separator-unpadded.bin", "cos-113-intel-tdx-dupe-separator.bin", "event_log.bin", "gdc-tdx.bin", "ubuntu-2404-intel-tdx.bin", "cs251200CCEL", "CCEL_unpadded.data.bin"} {
		t.Run(name, func(t *testing.T) {
			b := moduleFile(t, "github.com/google/go-eventlog", "testdata/eventlogs/ccel/"+name)
			l, err := Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			var mrs []register.MR
			var rtmr [4][]byte
			got := l.Replay()
			for i := range rtmr {
				if rtmr[i] = make([]byte, 48); got[i+1] != nil {
					rtmr[i] = got[i+1]
					mrs = append(mrs, register.RTMR{Index: i, Digest: got[i+1]})
				}
			}
			events, err := tcg.ParseAndReplay(b, mrs, tcg.ParseOpts{AllowPadding: true})
			if err != nil {
				t.Fatal(err)
			}
			measured := 0
			for _, e := range l.Events {
				if e.Type != NoAction {
					measured++
				}
			}
			if len(l.Digests()) != measured || len(events) < measured {
				t.Errorf("%d events; Google's library has %d", measured, len(events))
			}
			if open, err := l.CheckRTMRs(rtmr); err != nil || open != nil {
				t.Error(open, err)
			}
		})
	}
}

// TestQuote: the log of a real TD explains its quote, but for the register which
// software extends after boot.
func TestQuote(t *testing.T) {
	const module, dir = "github.com/google/go-tdx-guest", "testing/testdata/ccel/"
	l, err := Parse(moduleFile(t, module, dir+"ccel_data.dat"))
	if err != nil {
		t.Fatal(err)
	}
	body := moduleFile(t, module, dir+"cos-113-tdx-quote.dat")[48:]
	var rtmr [4][]byte
	for i := range rtmr {
		rtmr[i] = body[328+48*i : 376+48*i]
	}
	open, err := l.CheckRTMRs(rtmr)
	if err != nil || !slices.Equal(open, nil) {
		t.Error(open, err)
	}
	for i := range 3 {
		other := rtmr
		other[i] = bytes.Repeat([]byte{1}, 48)
		if _, err := l.CheckRTMRs(other); err == nil || !strings.Contains(err.Error(), "RTMR") {
			t.Errorf("RTMR%d: %v", i, err)
		}
	}
	rtmr[3] = bytes.Repeat([]byte{1}, 48)
	if open, err = l.CheckRTMRs(rtmr); err != nil || !slices.Equal(open, []int{3}) {
		t.Error(open, err)
	}
}

// header makes the header event of a log with SHA-384.
func header(algs ...uint16) []byte {
	le := binary.LittleEndian
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2)
	spec = le.AppendUint32(spec, uint32(len(algs)))
	for _, a := range algs {
		spec = le.AppendUint16(le.AppendUint16(spec, a), uint16(digestSizes[a]))
	}
	spec = append(spec, 0)
	b := le.AppendUint32(le.AppendUint32(nil, 1), NoAction)
	b = append(b, make([]byte, 20)...)
	return append(le.AppendUint32(b, uint32(len(spec))), spec...)
}

func event(mr, kind uint32, alg uint16, data string) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(le.AppendUint32(nil, mr), kind)
	b = le.AppendUint16(le.AppendUint32(b, 1), alg)
	b = append(b, bytes.Repeat([]byte{7}, digestSizes[alg])...)
	return append(le.AppendUint32(b, uint32(len(data))), data...)
}

// TestParseRefuses: each case breaks one rule.
func TestParseRefuses(t *testing.T) {
	h, e := header(SHA384), event(1, 1, SHA384, "x")
	put := func(b []byte, i int, v byte) []byte { b = bytes.Clone(b); b[i] = v; return b }
	if l, err := Parse(slices.Concat(h, e, event(1, NoAction, SHA384, ""), bytes.Repeat([]byte{0xff}, 100))); err != nil || len(l.Events) != 2 || len(l.Digests()) != 1 {
		t.Fatal(l, err)
	}
	for name, b := range map[string][]byte{
		"empty":                nil,
		"no header":            e,
		"header's type":        put(h, 4, 4),
		"header's digest":      put(h, 8, 1),
		"header's signature":   put(h, 32, 's'),
		"header too long":      slices.Concat(put(h, 28, h[28]+1), []byte{0}),
		"no algorithm":         header(),
		"algorithm twice":      header(SHA384, SHA384),
		"unknown algorithm":    header(0x99),
		"digest size":          put(h, 62, 47),
		"cut in an event":      slices.Concat(h, e[:len(e)-1]),
		"data length":          slices.Concat(h, put(e, 62, 0xff)),
		"number of digests":    slices.Concat(h, put(e, 8, 2)),
		"digest not in header": slices.Concat(h, event(1, 1, SHA256, "x")),
		"mixed filling":        slices.Concat(h, e, []byte{0xff, 0, 0xff}),
		"too many events":      slices.Concat(h, bytes.Repeat(event(1, 1, SHA384, ""), maxEvents+1)),
		"too large":            make([]byte, MaxSize+1),
	} {
		if _, err := Parse(b); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
}

func TestRegisters(t *testing.T) {
	zero := make([]byte, 48)
	for name, b := range map[string][]byte{
		"register 5":   slices.Concat(header(SHA384), event(5, 1, SHA384, "")),
		"no SHA-384":   slices.Concat(header(SHA256), event(1, 1, SHA256, "")),
		"not extended": slices.Concat(header(SHA384), event(1, 1, SHA384, "")),
	} {
		l, err := Parse(b)
		if err != nil {
			t.Fatal(name, err)
		}
		if _, err := l.CheckRTMRs([4][]byte{zero, zero, zero, zero}); err == nil {
			t.Errorf("%s: fits", name)
		}
	}
}

// TestFlips: whatever byte of a measured event's digest is another, the log no
// longer explains the registers.
func TestFlips(t *testing.T) {
	b := moduleFile(t, "github.com/google/go-eventlog", "testdata/eventlogs/ccel/CCEL_unpadded.data.bin")
	l, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	r := l.Replay()
	rtmr := [4][]byte{r[1], r[2], r[3], make([]byte, 48)}
	want := strings.Join(l.Digests(), "\n")
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1 << (i % 8)
		l, err := Parse(c)
		if err != nil {
			continue
		}
		if _, err = l.CheckRTMRs(rtmr); err != nil {
			continue
		}
		if got := strings.Join(l.Digests(), "\n"); got != want {
			t.Errorf("byte %d changes a digest unseen", i)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(slices.Concat(header(SHA384), event(1, 1, SHA384, "x"), []byte{0xff, 0xff}))
	f.Add(slices.Concat(header(SHA1, SHA384), event(2, 0x80000003, SHA384, "")))
	f.Add(moduleFile(f, "github.com/google/go-eventlog", "testdata/eventlogs/ccel/CCEL_unpadded.data.bin"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Parse(b)
		if err != nil {
			return
		}
		l.Replay()
		l.Digests()
		zero := make([]byte, 48)
		l.CheckRTMRs([4][]byte{zero, zero, zero, zero})
	})
}
