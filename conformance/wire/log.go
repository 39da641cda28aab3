package wire

import (
	"sync"
	"time"
)

// Direction of a log entry, seen from the suite.
type Direction string

// The directions of a log entry.
const (
	Sent     Direction = "sent"
	Received Direction = "received"
)

// An Entry is one thing that passed on the wire.
type Entry struct {
	Seq       int           // from 1, in order
	At        time.Duration // since the log began
	Dir       Direction
	Kind      string // message, http-request, http-response, sse-event, stdout, stderr, exit
	Bytes     []byte // as on the wire, cut at MaxEntryBytes
	Size      int    // bytes on the wire
	Truncated bool
}

// Limits of a log.
const (
	MaxEntryBytes = 64 << 10
	maxLogBytes   = 4 << 20
)

// A Log is the transcript of one case. It is safe for concurrent use and keeps
// at most 4 MiB; what comes later is counted but not kept.
type Log struct {
	mu      sync.Mutex
	began   time.Time
	seq     int
	kept    int
	entries []Entry
}

// NewLog returns an empty log that begins now.
func NewLog() *Log { return &Log{began: time.Now()} }

// Add records data and returns its sequence number.
func (l *Log) Add(dir Direction, kind string, data []byte) int {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	e := Entry{Seq: l.seq, At: time.Since(l.began), Dir: dir, Kind: kind, Size: len(data)}
	n := min(len(data), MaxEntryBytes)
	if l.kept+n > maxLogBytes {
		n = 0
	}
	e.Truncated = n < len(data)
	e.Bytes = append([]byte(nil), data[:n]...)
	l.kept += n
	if n == 0 && len(data) > 0 && len(l.entries) > 20_000 {
		return l.seq // a flood is counted by seq alone
	}
	l.entries = append(l.entries, e)
	return l.seq
}

// Entries returns a copy of the log.
func (l *Log) Entries() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Entry(nil), l.entries...)
}

// HasReceived reports whether entry seq is something that the target sent.
func (l *Log) HasReceived(seq int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		if e.Seq == seq {
			return e.Dir == Received
		}
	}
	return false
}
