package protocol

import (
	"crypto/rand"
	"time"
)

// SealWarmRetry seals what Client.Seal would not: a next frame with retry-of.
func SealWarmRetry(c *Client, content Content, of RetryOf, outer Outer) []byte {
	var ctx *clientContext
	for _, ctx = range c.contexts {
	}
	content.Meta.RetryOf = &of
	call := &Call{client: c, ctx: ctx, outer: outer, seq: ctx.seq.Add(1)}
	frame, err := call.sealPart(nil, &content, 0, true)
	if err != nil {
		panic(err)
	}
	return frame
}

// A ContextFiller makes contexts as Server.Open does, without the cost of HPKE.
type ContextFiller struct {
	s     *Server
	k     *serverKey
	suite Suite
}

// NewContextFiller fills the server's current key.
func NewContextFiller(s *Server, now time.Time) *ContextFiller {
	k, err := s.currentKey(now)
	if err != nil {
		panic(err)
	}
	return &ContextFiller{s, k, SuiteHybrid}
}

// Fill adds n contexts, expanding the keys of each as its first message does.
func (f *ContextFiller) Fill(n int) {
	settings := f.s.cfg.Settings
	for range n {
		keys, err := newContextKeys(f.suite, func(_ string, n int) ([]byte, error) {
			b := make([]byte, n)
			rand.Read(b)
			return b, nil
		})
		if err != nil {
			panic(err)
		}
		c, err := newServerContext(keys, settings, "", nil)
		if err != nil {
			panic(err)
		}
		if _, err := f.s.ciphers(c); err != nil {
			panic(err)
		}
		f.k.add(keys.id, c, settings.weight())
	}
}

// Show has h show the key object of another holder.
func Show(h, of *ClientHolder, now time.Time) {
	mine, _ := h.current(now)
	theirs, _ := of.current(now)
	o := *theirs
	o.proof = mine.proof
	h.cur = &o
}

// WithoutProof has h prove possession with a key that is nobody's.
func WithoutProof(h *ClientHolder, now time.Time) {
	o, _ := h.current(now)
	c := *o
	id, _ := GenerateIdentity("urn:nobody:x")
	c.proof = &keySigner{id.alg, id.signer}
	h.cur = &c
}

// ForgetClients drops the key objects that s has verified, as a restart does.
func ForgetClients(s *Server) { s.known = clientPeers{} }

// ShowByDigest has c show the key object of its holder by digest, as after an
// answer.
func ShowByDigest(c *Client, now time.Time) {
	o, _ := c.holder.current(now)
	c.shown = o.digest
}
