// Package eventlog reads the event log of a confidential computing platform
// (CCEL: the crypto agile log of the "TCG PC Client Platform Firmware Profile",
// section 10, with the registers of UEFI's CC measurement protocol), as Linux
// gives it in /sys/firmware/acpi/tables/data/CCEL. Call [Parse], then
// [Log.CheckRTMRs] against the registers of a verified TDX quote. Until they
// agree, nothing in a log may be believed.
package eventlog

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"

	"github.com/trustedmcp/tmcp/evidence/internal/fields"
)

// Bounds of a log: bytes in all, events, and bytes of one event's data.
const (
	MaxSize   = 1 << 20
	maxEvents = 16384
	maxAlgs   = 8
)

// TPM algorithm ids of digests (TCG Algorithm Registry).
const (
	SHA1   = 0x0004
	SHA256 = 0x000b
	SHA384 = 0x000c
	SHA512 = 0x000d
	SM3    = 0x0012
)

var digestSizes = map[uint16]int{SHA1: 20, SHA256: 32, SHA384: 48, SHA512: 64, SM3: 32}

// NoAction is the type of events that are not measured.
const NoAction = 3

// A Log is a parsed event log.
type Log struct {
	Algorithms []uint16 // of the digests that each event has
	Events     []Event
}

// An Event is an entry of a log. Its slices share the log's memory.
type Event struct {
	// Register is the index of the measurement register: for TDX 0 is MRTD, and 1
	// to 4 are RTMR0 to RTMR3.
	Register uint32
	Type     uint32 // TCG event type
	Digests  map[uint16][]byte
	// Data describes what was measured. The digest need not be of the data: it is
	// proven only where a verifier computes it.
	Data []byte
}

// Parse reads a log:
//
//	header event: register (4) | type 3 (4) | zeros (20) | length (4) | "Spec ID Event03" NUL |
//	    platform class (4) minor (1) major (1) errata (1) uintn size (1) |
//	    number of algorithms (4) { id (2) digest size (2) } | vendor info length (1), vendor info
//	events: register (4) | type (4) | number of digests (4) { id (2) digest } | length (4), data
//
// with integers in little endian. Each event must have one digest for each
// algorithm of the header. After the last event, the log's area may be filled
// with 0xff or with zeros.
func Parse(b []byte) (*Log, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("the event log has %d bytes; at most %d are read", len(b), MaxSize)
	}
	r := fields.Reader{Rest: b}
	l := &Log{}
	if err := l.header(&r); err != nil {
		return nil, err
	}
	fill := filler(b)
	for len(r.Rest) > fill {
		if len(l.Events) == maxEvents {
			return nil, fmt.Errorf("the event log has more than %d events", maxEvents)
		}
		e := Event{Register: r.U32(), Type: r.U32()}
		n := r.U32()
		if !r.Short && int64(n) != int64(len(l.Algorithms)) {
			return nil, fmt.Errorf("event %d of the log has %d digests; its header says %d", len(l.Events), n, len(l.Algorithms))
		}
		e.Digests = make(map[uint16][]byte, len(l.Algorithms))
		for range l.Algorithms {
			alg := r.U16()
			size, ok := digestSizes[alg]
			if !r.Short && (!ok || e.Digests[alg] != nil || !l.has(alg)) {
				return nil, fmt.Errorf("event %d of the log has a digest of algorithm %#x twice, or one that its header does not name", len(l.Events), alg)
			}
			e.Digests[alg] = r.Take(size)
		}
		e.Data = r.Take(int(r.U32()))
		if r.Short {
			return nil, errShort
		}
		l.Events = append(l.Events, e)
	}
	return l, nil
}

var (
	errShort  = errors.New("the event log ends within an event")
	signature = []byte("Spec ID Event03\x00")
)

func (l *Log) header(r *fields.Reader) error {
	_, kind := r.U32(), r.U32()
	zeros := r.Take(20)
	h := fields.Reader{Rest: r.Take(int(r.U32()))}
	if r.Short || kind != NoAction || !bytes.Equal(zeros, make([]byte, 20)) || !bytes.Equal(h.Take(16), signature) {
		return errors.New(`the event log does not begin with a "Spec ID Event03"`)
	}
	h.Take(8)
	n := h.U32()
	if n == 0 || n > maxAlgs {
		return fmt.Errorf("the event log's header names %d digest algorithms; want 1 to %d", n, maxAlgs)
	}
	for range n {
		alg, size := h.U16(), h.U16()
		if !h.Short && (digestSizes[alg] == 0 || digestSizes[alg] != int(size) || l.has(alg)) {
			return fmt.Errorf("the event log's header names the digest algorithm %#x twice, or with %d bytes, or it is not known", alg, size)
		}
		l.Algorithms = append(l.Algorithms, alg)
	}
	if vendor := h.Take(1); vendor != nil {
		h.Take(int(vendor[0]))
	}
	if h.Short || len(h.Rest) > 0 {
		return errors.New("the event log's header has another length than it says")
	}
	return nil
}

func (l *Log) has(alg uint16) bool {
	for _, a := range l.Algorithms {
		if a == alg {
			return true
		}
	}
	return false
}

// filler returns how many equal bytes, 0xff or zero, stand at the end of b. No
// event consists of such: a register of 0xffffffff does not exist, and an event
// has at least one digest.
func filler(b []byte) int {
	n := 0
	for n < len(b) && b[len(b)-1-n] == b[len(b)-1] && (b[len(b)-1] == 0 || b[len(b)-1] == 0xff) {
		n++
	}
	return n
}

// Replay extends registers of 48 zero bytes with the SHA-384 digests of the
// events, as the platform did, and returns them by index as in [Event]. Registers
// without events are not there. It returns nil if the log has no SHA-384.
func (l *Log) Replay() map[int][]byte {
	if !l.has(SHA384) {
		return nil
	}
	out := map[int][]byte{}
	h := sha512.New384()
	for _, e := range l.Events {
		if e.Type == NoAction {
			continue
		}
		v := out[int(e.Register)]
		if v == nil {
			v = make([]byte, 48)
		}
		h.Reset()
		h.Write(v)
		h.Write(e.Digests[SHA384])
		out[int(e.Register)] = h.Sum(v[:0])
	}
	return out
}

// CheckRTMRs checks that the log's events explain the runtime measurement
// registers 0 to 3 of a TD (48 bytes each). open are those registers which were
// extended and of which the log has no event: the log of the firmware ends when
// the operating system takes over. An error means that the log is not of this
// TD, or that it was changed.
func (l *Log) CheckRTMRs(rtmr [4][]byte) (open []int, err error) {
	got := l.Replay()
	if got == nil {
		return nil, errors.New("the event log has no SHA-384 digests, which TDX extends with")
	}
	for r := range got {
		if r < 0 || r > 4 {
			return nil, fmt.Errorf("the event log has events for the register %d; TDX has 0 to 4", r)
		}
	}
	for i, want := range rtmr {
		switch v := got[i+1]; {
		case v == nil && !bytes.Equal(want, make([]byte, 48)):
			open = append(open, i)
		case v != nil && !bytes.Equal(v, want):
			return nil, fmt.Errorf("the event log's events for RTMR%d give %x; the quote has %x", i, v, want)
		}
	}
	return open, nil
}

// Digests lists the measured events of RTMR0 to RTMR3 in their order, as "rtmr1
// <SHA-384 in hexadecimal digits>". Types and data of events are not among them:
// registers do not prove those.
func (l *Log) Digests() []string {
	var out []string
	for _, e := range l.Events {
		if d := e.Digests[SHA384]; d != nil && e.Type != NoAction && e.Register >= 1 && e.Register <= 4 {
			out = append(out, fmt.Sprintf("rtmr%d %x", e.Register-1, d))
		}
	}
	return out
}
