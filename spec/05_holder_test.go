package spec_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/protocol"
)

// TMCP-5.6-1: A holder MUST NOT issue a key object that is valid for longer than one hour.
// TMCP-5.6-2: A holder SHOULD make key objects valid for ten minutes and renew them at half that time, with new HPKE keys.
func TestValidityOfKeyObjects(t *testing.T) {
	w := newWorld(t)
	_, err := protocol.NewServer(protocol.ServerConfig{Identity: w.id, Validity: time.Hour + time.Second})
	if err == nil {
		t.Error("a validity beyond an hour was taken")
	}
	w.server(func(c *protocol.ServerConfig) { c.Validity = time.Hour })

	s := w.server()
	first := w.object(s)
	u, err := protocol.InspectKeyObject(first)
	w.ok(err)
	if got := u.Expires.Sub(u.NotBefore); got != 10*time.Minute {
		t.Errorf("valid for %v by default", got)
	}
	w.now = start.Add(5*time.Minute - time.Second)
	if !bytes.Equal(w.object(s), first) {
		t.Error("renewed before half of the validity")
	}
	w.now = start.Add(5 * time.Minute)
	second := w.object(s)
	if bytes.Equal(second, first) {
		t.Error("not renewed at half of the validity")
	}
	// With new HPKE keys: what is sealed to one object doesn't open under the
	// name of the other.
	peer, err := w.verify(second, s)
	w.ok(err)
	_, frame := w.seal(w.clientOf(first, s))
	w.refuses(s, w.change(frame, func(f *protocol.Frame) { f.KeyDigest = peer.KeyDigest() }), protocol.OpenFailed)
	w.open(s, frame)
}

// TMCP-5.6-3: A server MUST go on answering with the old HPKE keys until 60 seconds after the `exp` of the last key object that names them.
// TMCP-8.2-1: A server MUST hang contexts and replay state on the HPKE key that they were opened with, and drop them all with it.
// TMCP-8.1-3: A client MUST leave a context when the key object it was made with has expired, and seal cold to a current one.
// TMCP-8.6-1: A server MUST put its current key object into an `unknown-key` error.
// TMCP-8.2-3: A server MUST answer a next frame of a context that it does not have with `unknown-context`.
func TestEndOfKey(t *testing.T) {
	w := newWorld(t)
	s := w.server()
	c := w.client(s)
	w.exchange(c, s)
	_, warm := w.seal(c)
	_, cold := w.seal(w.client(s))
	_, second := w.seal(w.client(s))
	_, warm2 := w.seal(c)

	end := start.Add(10 * time.Minute)
	w.now = end
	if _, _, err := c.Seal(msg(ping), envelope, w.now); !protocol.IsReason(err, protocol.KeyObjectExpired) {
		t.Errorf("the client sealed to an expired key: %v", err)
	}
	w.now = end.Add(59 * time.Second)
	w.open(s, cold)
	w.open(s, warm)
	w.now = end.Add(60 * time.Second)
	e := w.refuses(s, second, protocol.UnknownKey)
	if e == nil || !bytes.Equal(e.KeyObject, w.object(s)) {
		t.Error("unknown-key does not carry the current key object")
	}
	w.refuses(s, warm2, protocol.UnknownContext)
	s.Expire(w.now)
	// What carries the new object can be sealed to at once.
	_, frame := w.seal(w.clientOf(e.KeyObject, s))
	w.open(s, frame)
}

// TMCP-8.6-2: A client MUST verify a key object from an error by all rules of section 5.4 before it seals to it.
func TestKeyObjectOfAnErrorIsVerified(t *testing.T) {
	w := newWorld(t)
	attacker := newWorld(t)
	_, frame := w.seal(w.client(w.server()))
	e := attacker.refuses(attacker.server(), frame, protocol.UnknownKey)
	if _, err := w.verify(e.KeyObject, w.server()); err == nil {
		t.Error("an attacker's key object passed")
	}
	replica := w.server()
	e = w.refuses(replica, frame, protocol.UnknownKey)
	_, err := w.verify(e.KeyObject, replica)
	w.ok(err)
}
