// Package sim simulates TEEs: evidence in genuine wire formats, under roots of
// its own that no vendor has. It is for development, for tests and for the
// conformance suite. It protects nothing: whoever has a world's seed, and the
// seed of [Default] is public, can make any evidence.
//
// A [World] is all vendors at once: roots, platforms and what vendors publish.
// [World.TEE] gives one simulated TEE, which signs its own measurement only;
// the other methods of World make any evidence at all, as an attacker would
// with a vendor's key. [World.Simulator] has the roots that a verifier needs.
//
//	w := sim.Default()
//	tee, err := w.TEE(sim.Options{Kind: evidence.TDX, Image: digest})
//	trust := evidence.Trust{Anchors: vendor.Anchors(), Simulator: w.Simulator(), Now: now}
//
// Each certificate has evidence.SimulatorOrganization in its subject, with which
// evidence.Anchors refuses it. The same seed and options give the same bytes;
// nothing here reads a clock or randomness.
package sim

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
)

// A World simulates the vendors of TEEs. Two worlds with different seeds have
// no key in common. Safe for concurrent use.
type World struct {
	prk []byte // HKDF's pseudorandom key of the seed

	intel  func() (*intelPKI, error)
	amd    map[string]func() (*amdPKI, error) // by product
	aws    func() (*authority, error)
	nvidia func() (*nvidiaPKI, error)
}

// Seeds of the two worlds that are known by name. They are public.
const (
	DefaultSeed = "tmcp simulated TEEs: the default world"
	OtherSeed   = "tmcp simulated TEEs: another world"
)

// New makes the world of a seed of 16 to 1024 bytes.
func New(seed []byte) (*World, error) {
	if len(seed) < 16 || len(seed) > 1024 {
		return nil, fmt.Errorf("the seed has %d bytes; want 16 to 1024", len(seed))
	}
	prk, err := hkdf.Extract(sha256.New, seed, []byte("tmcp simulated world v1"))
	if err != nil {
		return nil, err
	}
	w := &World{prk: prk, amd: map[string]func() (*amdPKI, error){}}
	w.intel = sync.OnceValues(w.makeIntel)
	for _, p := range Products {
		w.amd[p] = sync.OnceValues(func() (*amdPKI, error) { return w.makeAMD(p) })
	}
	w.aws = sync.OnceValues(w.makeAWS)
	w.nvidia = sync.OnceValues(w.makeNVIDIA)
	return w, nil
}

var (
	defaultWorld = sync.OnceValues(func() (*World, error) { return New([]byte(DefaultSeed)) })
	otherWorld   = sync.OnceValues(func() (*World, error) { return New([]byte(OtherSeed)) })
)

// Default is the world of [DefaultSeed], which examples and tmcp use.
func Default() *World {
	w, _ := defaultWorld() // the seed's length is right
	return w
}

// Other is the world of [OtherSeed]: evidence from a root that nobody trusts.
func Other() *World {
	w, _ := otherWorld()
	return w
}

// Simulator returns the roots of those kinds of TEE, of all without arguments.
// It never returns nil. The RSA keys of AMD's roots take seconds to derive in
// worlds other than [Default] and [Other].
func (w *World) Simulator(kinds ...evidence.Kind) *evidence.Simulator {
	if len(kinds) == 0 {
		kinds = []evidence.Kind{evidence.TDX, evidence.SNP, evidence.Nitro, evidence.NVIDIA, evidence.CCA}
	}
	var a evidence.Anchors
	for _, k := range kinds {
		if err := w.anchor(&a, k); err != nil {
			return &evidence.Simulator{} // trusts nobody
		}
	}
	s, err := evidence.NewSimulator(a)
	if err != nil {
		return &evidence.Simulator{}
	}
	return s
}

func (w *World) anchor(a *evidence.Anchors, k evidence.Kind) error {
	switch k {
	case evidence.TDX, evidence.SGX:
		p, err := w.intel()
		if err != nil {
			return err
		}
		a.Intel = []*x509.Certificate{p.root.cert}
	case evidence.SNP:
		a.AMD = nil
		for _, name := range Products {
			p, err := w.amd[name]()
			if err != nil {
				return err
			}
			a.AMD = append(a.AMD, evidence.AMDChain{Product: name, ARK: p.ark.cert, ASK: []*x509.Certificate{p.ask.cert, p.asvk.cert}})
		}
	case evidence.Nitro:
		root, err := w.aws()
		if err != nil {
			return err
		}
		a.AWS = []*x509.Certificate{root.cert}
	case evidence.NVIDIA:
		p, err := w.nvidia()
		if err != nil {
			return err
		}
		a.NVIDIA = []*x509.Certificate{p.root.cert}
	case evidence.CCA:
		keys, err := w.ccaKeys()
		if err != nil {
			return err
		}
		a.CCA = keys
	default:
		return fmt.Errorf("no simulated TEE of kind %q", k)
	}
	return nil
}

// bytes derives n bytes for a label.
func (w *World) bytes(label string, n int) []byte {
	b, err := hkdf.Expand(sha256.New, w.prk, label, n)
	if err != nil { // n is beyond 255 × 32: a mistake of ours, and never a key
		return make([]byte, n)
	}
	return b
}

// key derives a signing key for a label.
func (w *World) key(c elliptic.Curve, label string) (*signer, error) {
	size := (c.Params().BitSize + 7) / 8
	// 16 bytes more than the order has make the bias of the remainder negligible.
	k := new(big.Int).SetBytes(w.bytes("key "+c.Params().Name+" "+label, size+16))
	k.Mod(k, new(big.Int).Sub(c.Params().N, big.NewInt(1)))
	k.Add(k, big.NewInt(1))
	key, err := ecdsa.ParseRawPrivateKey(c, k.FillBytes(make([]byte, size)))
	if err != nil {
		return nil, err
	}
	return &signer{key}, nil
}

// A signer signs deterministically, as RFC 6979 says, whatever it is given as
// randomness.
type signer struct{ k *ecdsa.PrivateKey }

func (s *signer) Public() crypto.PublicKey { return s.k.Public() }

func (s *signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.k.Sign(nil, digest, opts)
}

// raw signs message with h and returns r ‖ s.
func (s *signer) raw(h crypto.Hash, message []byte) ([]byte, error) {
	d := h.New()
	d.Write(message)
	der, err := s.k.Sign(nil, d.Sum(nil), h)
	if err != nil {
		return nil, err
	}
	return rawSignature(der, (s.k.Curve.Params().BitSize+7)/8)
}

// point returns the public key as x ‖ y.
func (s *signer) point() ([]byte, error) {
	b, err := s.k.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	return b[1:], nil // without 04, uncompressed
}

// Epoch is the time that dates default to where an option is zero. It is fixed.
var Epoch = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// first returns the first of v that is not the zero value.
func first[T comparable](v ...T) T {
	var zero T
	for _, x := range v {
		if x != zero {
			return x
		}
	}
	return zero
}

// or returns *p, or v when p is nil.
func or[T any](p *T, v T) T {
	if p != nil {
		return *p
	}
	return v
}
