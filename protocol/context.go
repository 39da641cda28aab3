package protocol

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

const (
	keyLen      = 32
	nonceLen    = 12
	exportLen   = len(ContextID{}) + keyLen + nonceLen + keyLen
	answerLen   = keyLen + nonceLen
	windowWords = 16
	windowSize  = windowWords * 64 // messages of a context that may arrive out of order
)

// sealInfo is HPKE's info: everything that both sides must agree on. A
// negotiation that was stripped or rewritten on the way gives another info and
// so other keys.
func sealInfo(sender Role, suite Suite, key, server, client Digest, clientKey []byte, revision string) []byte {
	b := make([]byte, 0, 192)
	b = dcbor.AppendArray(b, 8)
	b = dcbor.AppendText(b, labelSeal)
	b = dcbor.AppendUint(b, uint64(sender))
	b = dcbor.AppendUint(b, uint64(suite))
	b = dcbor.AppendBytes(b, key[:])
	b = dcbor.AppendBytes(b, server[:])
	b = dcbor.AppendBytes(b, client[:])
	if clientKey == nil {
		b = dcbor.AppendNull(b)
	} else {
		b = dcbor.AppendBytes(b, clientKey)
	}
	return dcbor.AppendText(b, revision)
}

// contextKeys are the secrets of a context, as exported from HPKE:
//
//	ctx-id 16 ‖ request key 32 ‖ request base nonce 12 ‖ answer secret 32
//
// The AEAD of the HPKE context itself is not used: it wants messages in order,
// and requests arrive in any.
type contextKeys struct {
	id           ContextID
	suite        Suite
	requestKey   [keyLen]byte
	requestNonce [nonceLen]byte
	answerSecret [keyLen]byte
}

func newContextKeys(suite Suite, export func(string, int) ([]byte, error)) (contextKeys, error) {
	k := contextKeys{suite: suite}
	b, err := export(labelKeys, exportLen)
	if err != nil {
		return k, err
	}
	n := copy(k.id[:], b)
	n += copy(k.requestKey[:], b[n:])
	n += copy(k.requestNonce[:], b[n:])
	copy(k.answerSecret[:], b[n:])
	clear(b)
	return k, nil
}

// answerKeys derives the key and base nonce of answers. The server picks the
// salt afresh for each instance of a context that it makes, so that one that
// forgot what it had answered can't use a nonce twice.
func (k *contextKeys) answerKeys(salt []byte) (key [keyLen]byte, nonce [nonceLen]byte, err error) {
	b, err := hkdf.Key(sha256.New, k.answerSecret[:], salt, labelAnswerKeys, answerLen)
	if err != nil {
		return key, nonce, err
	}
	copy(key[:], b)
	copy(nonce[:], b[keyLen:])
	clear(b)
	return key, nonce, nil
}

func newAEAD(s Suite, key []byte) (cipher.AEAD, error) {
	if s == SuiteX25519 {
		return chacha20poly1305.New(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// scratch holds what a seal or open needs for a moment.
type scratch struct {
	aad   []byte
	nonce [nonceLen]byte
	frame Frame
}

var scratches = sync.Pool{New: func() any { return &scratch{aad: make([]byte, 0, 256)} }}

// place sets the nonce for message seq, part n: base XOR (uint64(seq) ‖ uint32(n)).
//
// TMCP-6.4-1: A sender MUST NOT seal two different plaintexts with the same key, seq and n.
func (s *scratch) place(base *[nonceLen]byte, seq, n uint64) {
	binary.BigEndian.PutUint64(s.nonce[:8], seq)
	binary.BigEndian.PutUint32(s.nonce[8:], uint32(n))
	for i := range s.nonce {
		s.nonce[i] ^= base[i]
	}
}

// window is a sliding replay window over the sequence numbers of a context.
type window struct {
	next uint64 // one more than the highest seen; 0 when none was
	open uint64 // the same of those that the context's own keys opened, not of retries named by whomever
	bits [windowWords]uint64
}

// markOpened is mark for a message that opened with the context's keys.
func (w *window) markOpened(seq uint64) bool {
	ok := w.mark(seq)
	if ok {
		w.open = max(w.open, seq+1)
	}
	return ok
}

// fresh reports whether seq was not seen and is not too old to tell.
func (w *window) fresh(seq uint64) bool {
	if seq > maxSeq {
		return false // and next can't wrap around
	}
	if seq >= w.next {
		return true
	}
	// TMCP-8.3-2: A server MUST accept requests of a context in any order within a window of 1024
	// sequence numbers, and answer one from before the window with `replayed`.
	if w.next-seq > windowSize {
		return false
	}
	return w.bits[seq/64%windowWords]&(1<<(seq%64)) == 0
}

// mark records seq, and reports whether it was fresh.
func (w *window) mark(seq uint64) bool {
	if !w.fresh(seq) {
		return false
	}
	if seq >= w.next {
		if seq-w.next >= windowSize {
			w.bits = [windowWords]uint64{}
		} else {
			for s := w.next; s < seq; s++ {
				w.bits[s/64%windowWords] &^= 1 << (s % 64)
			}
		}
		w.next = seq + 1
	}
	w.bits[seq/64%windowWords] |= 1 << (seq % 64)
	return true
}

// An aeadPair is the expanded form of a context's two keys. It is three times
// the size of all else in a context, so only recently used contexts have one.
type aeadPair struct{ request, answer cipher.AEAD }

// hotSet bounds how many contexts hold expanded keys: a ring of slots, each
// evicting the context that was in it.
type hotSet struct {
	next  atomic.Uint64
	slots []atomic.Pointer[atomic.Pointer[aeadPair]]
}

func newHotSet(n int) *hotSet {
	return &hotSet{slots: make([]atomic.Pointer[atomic.Pointer[aeadPair]], n)}
}

// put makes p the expanded keys of the context whose field is at.
func (h *hotSet) put(at *atomic.Pointer[aeadPair], p *aeadPair) {
	at.Store(p)
	slot := &h.slots[h.next.Add(1)%uint64(len(h.slots))]
	if old := slot.Swap(at); old != nil && old != at {
		old.Store(nil)
	}
}

// clear drops all expanded keys; contexts in use expand theirs again.
func (h *hotSet) clear() {
	for i := range h.slots {
		if old := h.slots[i].Swap(nil); old != nil {
			old.Store(nil)
		}
	}
}
