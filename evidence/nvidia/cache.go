package nvidia

import (
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"sync"
	"time"
)

// maxCache is how many chains a verifier keeps: a host has up to 8 GPUs and 4
// switches.
const maxCache = 512

// chains keeps verified chains by the SHA-256 of what was given: the four
// signatures of a chain cost four times as much as that of the report, and a
// device sends the same chain each time. Time and trust are looked at each time.
type chains struct {
	mu sync.Mutex
	m  map[[sha256.Size]byte][]*x509.Certificate
}

func (c *chains) get(given []*x509.Certificate, roots []*x509.Certificate, now time.Time) []*x509.Certificate {
	c.mu.Lock()
	chain := c.m[key(given)]
	c.mu.Unlock()
	if len(chain) == 0 || !slices.ContainsFunc(roots, chain[len(chain)-1].Equal) {
		return nil
	}
	for _, cert := range chain {
		if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			return nil
		}
	}
	return chain
}

func (c *chains) put(given, chain []*x509.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[[sha256.Size]byte][]*x509.Certificate{}
	}
	for k := range c.m {
		if len(c.m) < maxCache {
			break
		}
		delete(c.m, k)
	}
	c.m[key(given)] = chain
}

// key is the digest of the certificates; DER says its own length.
func key(certs []*x509.Certificate) (k [sha256.Size]byte) {
	h := sha256.New()
	for _, c := range certs {
		h.Write(c.Raw)
	}
	h.Sum(k[:0])
	return k
}
