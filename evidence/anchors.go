package evidence

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// SimulatorOrganization stands in the subject of every certificate of a
// simulated TEE, and begins the implementation id of simulated CCA platforms, so
// that none can ever become a vendor's anchor.
const SimulatorOrganization = "TEST ONLY - simulated TEE"

// Anchors are roots of trust of TEE vendors. The zero value trusts nobody.
// Package vendor has those that ship with this module.
type Anchors struct {
	Intel  []*x509.Certificate // SGX Root CA
	AMD    []AMDChain
	AWS    []*x509.Certificate // Nitro Enclaves root
	NVIDIA []*x509.Certificate // Device Identity CA
	CCA    []CCAKey            // initial attestation keys of platforms
}

// An AMDChain is the part of AMD's hierarchy that is pinned for one product
// line.
type AMDChain struct {
	Product string              // Milan, Genoa (with Bergamo and Siena), Turin
	ARK     *x509.Certificate   // root
	ASK     []*x509.Certificate // intermediates for VCEK and VLEK (ASK, ASVK)
}

// A CCAKey is a platform's attestation key, as its manufacturer endorsed it.
type CCAKey struct {
	ImplementationID []byte // 32 bytes
	InstanceID       []byte // 33 bytes; nil: any instance of the implementation
	Key              crypto.PublicKey
}

// Check refuses anchors that are a simulator's.
func (a *Anchors) Check() error {
	if a == nil {
		return errors.New("no anchors: say which vendors' roots to trust")
	}
	certs := slices.Concat(a.Intel, a.AWS, a.NVIDIA)
	for _, c := range a.AMD {
		certs = append(append(certs, c.ARK), c.ASK...)
	}
	for _, c := range certs {
		if c == nil {
			return errors.New("an anchor is nil")
		}
		if IsSimulated(c) {
			return fmt.Errorf("the certificate %q is a simulator's: it can't be a vendor's anchor", c.Subject)
		}
	}
	for _, k := range a.CCA {
		// Simulated platforms have no certificate that could say so.
		if bytes.HasPrefix(k.ImplementationID, []byte(SimulatorOrganization)) {
			return fmt.Errorf("the CCA implementation %x is a simulator's: its key can't be an anchor", k.ImplementationID)
		}
	}
	return nil
}

// IsSimulated reports whether c is of a simulated TEE.
func IsSimulated(c *x509.Certificate) bool {
	return slices.Contains(c.Subject.Organization, SimulatorOrganization) || slices.Contains(c.Issuer.Organization, SimulatorOrganization)
}

// A Simulator holds the roots of simulated TEEs. Only package sim makes one that
// is of any use, and only who asks for it trusts it.
type Simulator struct{ anchors Anchors }

// NewSimulator makes the roots of a simulator. Certificates must bear
// [SimulatorOrganization].
func NewSimulator(a Anchors) (*Simulator, error) {
	certs := slices.Concat(a.Intel, a.AWS, a.NVIDIA)
	for _, c := range a.AMD {
		certs = append(append(certs, c.ARK), c.ASK...)
	}
	for _, c := range certs {
		if c == nil || !IsSimulated(c) {
			return nil, errors.New("a simulator's roots must say that they are: want the organization " + SimulatorOrganization)
		}
	}
	return &Simulator{a}, nil
}

// Anchors are the simulator's roots; those of a nil simulator are empty.
func (s *Simulator) Anchors() *Anchors {
	if s == nil {
		return &Anchors{}
	}
	return &s.anchors
}
