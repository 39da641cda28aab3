package attestedtls

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/veraison/go-cose"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
)

// A statement says which key is attested, and for whom:
//
//	[role uint, identity tstr, COSE_Key, config bstr32 / null, [kind, value], CMW bstr]
//
// All but the CMW is what the evidence in it binds as report data (spec section
// 18.2).
type statement struct {
	protocol.Binding
	key crypto.PublicKey
	cmw []byte
}

func (s *statement) encode() []byte {
	b := dcbor.AppendArray(nil, 6)
	b = dcbor.AppendUint(b, uint64(s.Role))
	b = dcbor.AppendText(b, s.Identity)
	b = append(b, s.Key...)
	if s.Config == nil {
		b = dcbor.AppendNull(b)
	} else {
		b = dcbor.AppendBytes(b, s.Config)
	}
	b = dcbor.AppendUint(dcbor.AppendArray(b, 2), uint64(s.Freshness.Kind))
	if s.Freshness.Kind == protocol.FreshAt {
		b = dcbor.AppendUint(b, uint64(s.Freshness.At.Unix()))
	} else {
		b = dcbor.AppendBytes(b, s.Freshness.Value)
	}
	return dcbor.AppendBytes(b, s.cmw)
}

func parseStatement(b []byte) (*statement, error) {
	r := dcbor.NewReader(b)
	s := &statement{}
	r.ArrayN(6)
	role, identity, rawKey := r.Uint(), r.Text(), r.Skip()
	var config []byte
	if !r.Null() {
		config = r.BytesN(sha256.Size)
	}
	r.ArrayN(2)
	f := protocol.Freshness{Kind: protocol.FreshnessKind(min(r.Uint(), 255))}
	if f.Kind == protocol.FreshAt {
		f.At = time.Unix(int64(min(r.Uint(), 1<<40)), 0)
	} else {
		f.Value = r.Bytes()
	}
	s.cmw = r.Bytes()
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	if role != uint64(protocol.RoleServer) && role != uint64(protocol.RoleClient) {
		return nil, fmt.Errorf("statement: role %d", role)
	}
	if err := checkIdentity(identity); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	var err error
	if s.key, err = protocol.ParseKey(rawKey); err != nil {
		return nil, fmt.Errorf("statement: attested key: %w", err)
	}
	binding, err := protocol.NewBinding(protocol.Role(role), identity, s.key, config, f)
	if err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	s.Binding = *binding
	return s, nil
}

// A channel is what ties a statement to one connection.
type channel struct {
	exporter []byte // 32 bytes, for the prover's role, with the verifier's nonce as context
	nonce    []byte // 32 bytes, the verifier's
	server   []byte // leaf certificate of the server, DER
	client   []byte // of the client; nil: it showed none
}

// signed is what the attested key signs: Sig_structure of COSE_Sign1 (RFC 9052
// section 4.4) over the payload, which is not sent,
//
//	[role uint, exporter bstr32, nonce bstr32, SHA-256 of the server's certificate,
//	 SHA-256 of the client's or null, SHA-256 of the statement]
func (c *channel) signed(role protocol.Role, protected, stmt []byte) []byte {
	p := dcbor.AppendArray(nil, 6)
	p = dcbor.AppendUint(p, uint64(role))
	p = dcbor.AppendBytes(p, c.exporter)
	p = dcbor.AppendBytes(p, c.nonce)
	p = appendHash(p, c.server)
	if c.client == nil {
		p = dcbor.AppendNull(p)
	} else {
		p = appendHash(p, c.client)
	}
	p = appendHash(p, stmt)

	b := dcbor.AppendArray(nil, 4)
	b = dcbor.AppendText(b, "Signature1")
	b = dcbor.AppendBytes(b, protected)
	b = dcbor.AppendBytes(b, []byte(labelSignature))
	return dcbor.AppendBytes(b, p)
}

func appendHash(b, data []byte) []byte {
	d := sha256.Sum256(data)
	return dcbor.AppendBytes(b, d[:])
}

func algorithmOf(key crypto.PublicKey) (cose.Algorithm, error) {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return cose.AlgorithmEdDSA, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return cose.AlgorithmES256, nil
		case elliptic.P384():
			return cose.AlgorithmES384, nil
		}
	}
	return 0, fmt.Errorf("an attested key of type %T; use Ed25519, P-256 or P-384", key)
}

func protectedHeader(alg cose.Algorithm) []byte {
	b := dcbor.AppendMap(nil, 2)
	b = dcbor.AppendInt(dcbor.AppendUint(b, 1), int64(alg))
	return dcbor.AppendText(dcbor.AppendUint(b, 16), typSignature)
}

// sign writes 18([protected, {}, null, signature]).
func (c *channel) sign(role protocol.Role, stmt []byte, key crypto.Signer) ([]byte, error) {
	alg, err := algorithmOf(key.Public())
	if err != nil {
		return nil, err
	}
	signer, err := cose.NewSigner(alg, key)
	if err != nil {
		return nil, err
	}
	prot := protectedHeader(alg)
	sig, err := signer.Sign(rand.Reader, c.signed(role, prot, stmt))
	if err != nil {
		return nil, err
	}
	b := dcbor.AppendArray(dcbor.AppendTag(nil, 18), 4)
	b = dcbor.AppendBytes(b, prot)
	b = dcbor.AppendNull(dcbor.AppendMap(b, 0))
	return dcbor.AppendBytes(b, sig), nil
}

// verify checks a COSE_Sign1 by key.
func (c *channel) verify(role protocol.Role, stmt, sign1 []byte, key crypto.PublicKey) error {
	alg, err := algorithmOf(key)
	if err != nil {
		return err
	}
	r := dcbor.NewReader(sign1)
	r.Tag(18)
	r.ArrayN(4)
	prot := r.Bytes()
	empty, detached := r.Map() == 0, r.Null()
	sig := r.Bytes()
	if err := r.Done(); err != nil {
		return fmt.Errorf("COSE_Sign1: %w", err)
	}
	// TMCP-21.4-3: A verifier MUST refuse a signature with other headers than these, or with a payload.
	if !empty || !detached || !bytes.Equal(prot, protectedHeader(alg)) {
		return fmt.Errorf("COSE_Sign1: want exactly {1: %d, 16: %q} protected, nothing unprotected, and no payload", alg, typSignature)
	}
	v, err := cose.NewVerifier(alg, key)
	if err != nil {
		return err
	}
	if err := v.Verify(c.signed(role, prot, stmt), sig); err != nil {
		return fmt.Errorf("the attested key did not sign for this connection: %w", err)
	}
	return nil
}

// verifyAttestation judges what a peer of that role said on this connection.
func (p *Peer) verifyAttestation(ctx context.Context, m *message, role protocol.Role, c *channel) (*Result, error) {
	now := p.now()
	s, err := parseStatement(m.statement)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	// TMCP-21.4-6: A verifier MUST refuse a statement whose role is not that of the peer.
	if s.Role != role {
		return nil, refuse("a statement of a %v, wanted is a %v", s.Role, role)
	}
	// TMCP-21.4-13: A verifier MUST refuse a statement for an identity that its policy does not name.
	if err := p.welcome(s.Identity); err != nil {
		return nil, err
	}
	// TMCP-21.4-7: A verifier MUST refuse a statement without a valid signature by the attested key
	// over this connection's exporter value, nonce and certificates.
	if err := c.verify(role, m.statement, m.signature, s.key); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	r := &Result{Mode: ModeExporter, Identity: s.Identity, Role: role, Expires: now.Add(orDefault(p.MaxAge, defaultMaxAge))}
	// TMCP-21.4-14: A verifier MUST refuse evidence that is neither as young as its policy allows nor
	// made for its nonce on this connection.
	switch f := s.Freshness; {
	case f.Kind == protocol.FreshAt:
		err = p.young(f.At, now, r)
	case f.Kind == protocol.FreshNonce && bytes.Equal(f.Value, c.nonce):
		r.Made = now
	default:
		err = refuse("evidence that tells neither its time nor this connection's nonce")
	}
	if err != nil {
		return nil, err
	}
	// TMCP-21.4-8: A verifier MUST have the evidence appraised with the report data of the statement's
	// binding.
	if err := p.appraise(ctx, protocol.Evidence{CMW: s.cmw, ReportData: s.ReportData(), Binding: s.Binding, Now: now}, r); err != nil {
		return nil, err
	}
	return r, nil
}
