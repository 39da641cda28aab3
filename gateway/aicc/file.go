package aicc

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/evidence/eat"
	"github.com/trustedmcp/tmcp/evidence/token"
	"github.com/trustedmcp/tmcp/gateway/appraisal"
)

const (
	maxKeyFile = 64 << 10 // bytes
	// rereadPause is between two attempts to read a file that can't be read: it may
	// be half written.
	rereadPause = 100 * time.Millisecond
)

// A watched file is looked at each time that it is used: a system call, against
// the milliseconds of an RSA operation. So nobody waits for an interval when a
// key is replaced. It is read when it changed, and at each interval all the
// same: a file's time has less resolution than its writers have speed.
type watched[T any] struct {
	path     string
	interval time.Duration // less than 0: only when it changed
	o        *Options
	parse    func([]byte) (T, error)

	mu     sync.Mutex
	text   []byte
	value  T
	since  time.Time // value was read first
	read   time.Time // last
	info   fs.FileInfo
	err    error // of the last attempt; what was read before stays
	notYet time.Time
}

func watch[T any](path string, interval time.Duration, o *Options, parse func([]byte) (T, error)) *watched[T] {
	return &watched[T]{path: path, interval: interval, o: o, parse: parse}
}

// get returns what the file holds or, while it can't be read, what it held.
func (w *watched[T]) get() (value T, since time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.o.Now()
	if w.err == nil || !now.Before(w.notYet) {
		w.look(now)
	}
	if w.text == nil {
		return value, time.Time{}, w.err
	}
	return w.value, w.since, nil
}

func (w *watched[T]) look(now time.Time) {
	info, err := os.Stat(w.path)
	if err == nil && w.err == nil && w.info != nil && os.SameFile(info, w.info) && info.ModTime().Equal(w.info.ModTime()) && info.Size() == w.info.Size() &&
		(w.interval < 0 || now.Sub(w.read) < w.interval) {
		return
	}
	var text []byte
	var value T
	if err == nil {
		text, err = readKeyFile(w.path)
	}
	if err == nil && !bytes.Equal(text, w.text) {
		if value, err = w.parse(text); err != nil {
			err = fmt.Errorf("%s: %w", w.path, err)
		} else {
			w.text, w.value, w.since = text, value, now
		}
	}
	if err != nil {
		if w.err == nil {
			w.o.Logger.Warn("a key file can't be read; what it held before is used", "err", err)
		}
		w.err, w.notYet = err, now.Add(rereadPause)
		return
	}
	w.err, w.info, w.read = nil, info, now
}

func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(b) > maxKeyFile {
		err = fmt.Errorf("%s: a key file of more than %d bytes", path, maxKeyFile)
	}
	return b, err
}

// LoadTokenKeys reads the keys of an attestation service's tokens: a JWK set, or
// RSA public keys in PEM.
func LoadTokenKeys(path string) (eat.Keys, error) {
	b, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	keys, err := ParseTokenKeys(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

// ParseTokenKeys is [LoadTokenKeys] for the text of a file.
func ParseTokenKeys(b []byte) (eat.Keys, error) {
	keys := eat.Keys{}
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN")) {
		public, err := appraisal.ParsePublicKeys(b)
		if err != nil {
			return nil, err
		}
		for _, k := range public {
			keys = append(keys, eat.Key{Public: k})
		}
	} else {
		var err error
		if keys, err = token.ParseJWKS(b); err != nil {
			return nil, err
		}
	}
	for i, k := range keys {
		if k.Alg != "" && k.Alg != eat.RS384 || !eat.RS384.Fits(k.Public) {
			return nil, fmt.Errorf("key %d is not for RS384, which the service's tokens are signed with: want an RSA key", i+1)
		}
	}
	return keys, nil
}
