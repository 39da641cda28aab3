package trusted

import (
	"bytes"
	"encoding/base64"
	"io"
	"net"
	"net/url"
	"sync"
)

// maxTapped bounds what a wire keeps, in bytes.
const maxTapped = 64 << 20

// A Wire is a connection point that keeps all bytes that pass, both ways.
type Wire struct {
	URL string // dial this in place of the endpoint behind it

	listener net.Listener
	behind   string // host:port
	mu       sync.Mutex
	bytes    bytes.Buffer
	lost     bool // more passed than is kept
	open     map[net.Conn]bool
	closed   bool
	wg       sync.WaitGroup
}

// Tap puts a wire in front of the endpoint at target. It forwards TCP, and
// changes nothing. Close it when done.
func Tap(target string) (*Wire, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &Wire{listener: l, behind: u.Host, open: map[net.Conn]bool{}}
	u.Host = l.Addr().String()
	w.URL = u.String()
	w.wg.Go(w.accept)
	return w, nil
}

func (w *Wire) accept() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", w.behind)
		if err != nil {
			near.Close()
			continue
		}
		if !w.track(near, far) {
			return
		}
		w.wg.Go(func() { w.copy(far, near) })
		w.wg.Go(func() { w.copy(near, far) })
	}
}

// track notes connections that Close must end; false when it has run.
func (w *Wire) track(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		if w.closed {
			c.Close()
			continue
		}
		w.open[c] = true
	}
	return !w.closed
}

// copy ends both ways when one ends: HTTP/1 has no use for half of a connection.
func (w *Wire) copy(dst, src net.Conn) {
	defer func() {
		for _, c := range []net.Conn{dst, src} {
			c.Close()
			w.mu.Lock()
			delete(w.open, c)
			w.mu.Unlock()
		}
	}()
	_, _ = io.Copy(io.MultiWriter((*keeper)(w), dst), src)
}

type keeper Wire

func (k *keeper) Write(b []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.bytes.Len()+len(b) > maxTapped {
		k.lost = true
		return len(b), nil
	}
	return k.bytes.Write(b)
}

// Close ends the wire and what passes it.
func (w *Wire) Close() error {
	err := w.listener.Close()
	w.mu.Lock()
	w.closed = true
	for c := range w.open {
		c.Close()
	}
	w.mu.Unlock()
	w.wg.Wait()
	return err
}

// Passed is the number of bytes kept so far, and whether these are all.
func (w *Wire) Passed() (n int, all bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes.Len(), !w.lost
}

// Shows returns those of the secrets that passed: as they are (in upper or lower
// case), or in base64 at any offset.
func (w *Wire) Shows(secrets ...string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	folded := bytes.ToLower(w.bytes.Bytes())
	var out []string
	for _, s := range secrets {
		if bytes.Contains(folded, bytes.ToLower([]byte(s))) {
			out = append(out, s)
			continue
		}
		for _, form := range encodedForms(s) {
			if bytes.Contains(w.bytes.Bytes(), form) {
				out = append(out, s)
				break
			}
		}
	}
	return out
}

// encodedForms are the parts of base64 text that depend on nothing but s,
// wherever in the encoded data s begins.
func encodedForms(s string) [][]byte {
	var out [][]byte
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for offset := range 3 {
			text := enc.EncodeToString(append(make([]byte, offset), s...))
			// The first and the last characters also hold bits of the neighbours.
			first := (offset*8 + 5) / 6
			last := (offset + len(s)) * 8 / 6
			out = append(out, []byte(text[first:last]))
		}
	}
	return out
}
