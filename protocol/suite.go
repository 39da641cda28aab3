package protocol

import (
	"crypto/hpke"
	"fmt"
)

// A Suite is one of the two HPKE suites of the protocol (spec chapter
// "Sealing"). Only [SuiteHybrid] is mandatory; prefer it: it alone resists an
// adversary who records today and has a quantum computer later.
type Suite uint8

const (
	// SuiteHybrid is ML-KEM-768 with X25519 (0x647a), HKDF-SHA256, AES-256-GCM.
	// TMCP-6.1-1: An implementation MUST support suite 1.
	SuiteHybrid Suite = 1
	// SuiteX25519 is DHKEM(X25519) (0x0020), HKDF-SHA256, ChaCha20-Poly1305. It
	// is for peers without ML-KEM, and is not post-quantum.
	SuiteX25519 Suite = 2
)

// String is the suite's name in settings.
func (s Suite) String() string {
	switch s {
	case SuiteHybrid:
		return "mlkem768x25519-sha256-aes256gcm"
	case SuiteX25519:
		return "x25519-sha256-chacha20poly1305"
	}
	return fmt.Sprintf("suite %d", uint8(s))
}

func suiteByName(name string) Suite {
	for _, s := range []Suite{SuiteHybrid, SuiteX25519} {
		if s.String() == name {
			return s
		}
	}
	return 0
}

func (s Suite) valid() bool { return s == SuiteHybrid || s == SuiteX25519 }

func (s Suite) kem() hpke.KEM {
	if s == SuiteX25519 {
		k, _ := hpke.NewKEM(0x0020)
		return k
	}
	return hpke.MLKEM768X25519()
}

func (s Suite) kdf() hpke.KDF { return hpke.HKDFSHA256() }

func (s Suite) aead() hpke.AEAD {
	if s == SuiteX25519 {
		return hpke.ChaCha20Poly1305()
	}
	return hpke.AES256GCM()
}

// encLen is the size of an encapsulated key in bytes.
func (s Suite) encLen() int {
	if s == SuiteX25519 {
		return 32
	}
	return 1088 + 32
}

// A Carrier is a way in which sealed bytes travel (spec chapter "Carriers").
type Carrier uint8

const (
	// Envelope is the default: method trust/call, everything inside sealed.
	Envelope Carrier = 1
	// Inline keeps tools/call and its name outside, for gateways that end MCP.
	Inline Carrier = 2
	// HTTP seals whole HTTP messages, between two trust layers.
	HTTP Carrier = 3
)

// String is the carrier's name in settings.
func (c Carrier) String() string {
	switch c {
	case Envelope:
		return "envelope"
	case Inline:
		return "inline"
	case HTTP:
		return "http"
	}
	return fmt.Sprintf("carrier %d", uint8(c))
}

func carrierByName(name string) Carrier {
	for _, c := range []Carrier{Envelope, Inline, HTTP} {
		if c.String() == name {
			return c
		}
	}
	return 0
}

// A Role says which end a party is. Roles stand in every binding, so that
// nothing made by one end can be reflected to it as the other's.
type Role uint8

const (
	RoleServer Role = 1
	RoleClient Role = 2
)

// String is the role's name.
func (r Role) String() string {
	switch r {
	case RoleServer:
		return "server"
	case RoleClient:
		return "client"
	}
	return fmt.Sprintf("role %d", uint8(r))
}
