package sim

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
)

// An rsaSigner signs deterministically: the salt of PSS is derived from what is
// signed.
type rsaSigner struct{ k *rsa.PrivateKey }

func (s *rsaSigner) Public() crypto.PublicKey { return s.k.Public() }

func (s *rsaSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.k.Sign(&salt{next: digest}, digest, opts)
}

// salt is a stream of bytes: SHA-256 of the digest, of that, and so on.
type salt struct{ next, rest []byte }

func (r *salt) Read(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		if len(r.rest) == 0 {
			sum := sha256.Sum256(r.next)
			r.next, r.rest = sum[:], sum[:]
		}
		c := copy(b[n:], r.rest)
		r.rest, n = r.rest[c:], n+c
	}
	return n, nil
}

// rsaKey derives a key of 4096 bits, the size that AMD has.
func (w *World) rsaKey(label string) (*rsaSigner, error) {
	p, err := w.prime("rsa p " + label)
	if err != nil {
		return nil, err
	}
	q, err := w.prime("rsa q " + label)
	if err != nil {
		return nil, err
	}
	one, e := big.NewInt(1), big.NewInt(65537)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	k := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 65537},
		D:         new(big.Int).ModInverse(e, phi),
		Primes:    []*big.Int{p, q},
	}
	if k.D == nil {
		return nil, fmt.Errorf("the primes of %q don't fit the exponent", label)
	}
	k.Precompute()
	return &rsaSigner{k}, k.Validate()
}

const primeSize = 2048 / 8

// prime derives a prime of 2048 bits: the first one at or above a number that is
// derived from the label.
func (w *World) prime(label string) (*big.Int, error) {
	start := w.bytes(label, primeSize)
	start[0] |= 0xc0 // so that the product has 4096 bits
	start[primeSize-1] |= 1
	n := new(big.Int).SetBytes(start)
	if d, ok := primes[hint(start)]; ok {
		return n.Add(n, big.NewInt(int64(d))), nil
	}
	d, err := nextPrime(n)
	return n.Add(n, big.NewInt(d)), err
}

// hint is how primes has a number that the search starts at.
func hint(start []byte) uint32 {
	sum := sha256.Sum256(start)
	return binary.BigEndian.Uint32(sum[:])
}

// nextPrime returns how far the next prime is above n, which is odd. Multiples
// of small primes are left out first, since the test takes milliseconds.
func nextPrime(n *big.Int) (int64, error) {
	const span = 1 << 15
	composite := make([]bool, span)
	r := new(big.Int)
	for p := int64(3); p < 1<<16; p += 2 {
		if !big.NewInt(p).ProbablyPrime(0) {
			continue
		}
		rem := r.Mod(n, big.NewInt(p)).Int64()
		for i := (p - rem) % p; i < span; i += p {
			composite[i] = true
		}
	}
	for d := int64(0); d < span; d += 2 {
		if composite[d] {
			continue
		}
		c := new(big.Int).Add(n, big.NewInt(d))
		// e = 65537 must have an inverse.
		if c.ProbablyPrime(0) && r.Mod(c, big.NewInt(65537)).Int64() != 1 {
			return d, nil
		}
	}
	return 0, fmt.Errorf("no prime within %d of the number", span)
}
