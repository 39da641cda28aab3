package attestedtls

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
)

// Protocol is the ALPN name of the exporter-bound mode: attestation messages
// first, then HTTP/1.1.
const Protocol = "tmcp-attest/1"

// Exporter labels (RFC 8446 section 7.5), one for each role, so that what one
// end says can't be said back to it.
const (
	exporterServer = "EXPORTER-org.trustedmcp/trust server"
	exporterClient = "EXPORTER-org.trustedmcp/trust client"
)

const (
	labelSignature = "org.trustedmcp/trust v1 attested tls"
	typSignature   = "application/vnd.trustedmcp.tls+cose"

	nonceSize    = 32
	exporterSize = 32
	maxMessage   = 64 << 10 // bytes of a message, without its length
)

// Kinds of message.
const (
	kindHello   = 0 // client: [0, nonce]
	kindServer  = 1 // server: [1, nonce or null, statement, signature]
	kindClient  = 2 // client: [2, statement, signature]
	kindVerdict = 3 // server: [3, accepted]
)

func exporterLabel(prover protocol.Role) string {
	if prover == protocol.RoleClient {
		return exporterClient
	}
	return exporterServer
}

// message is any of the four.
type message struct {
	kind      uint64
	nonce     []byte // 32 bytes; in kindServer nil when the client need not attest itself
	statement []byte // CBOR, signed
	signature []byte // COSE_Sign1
	accepted  bool
}

// encode writes a message: its length in 4 bytes, big endian, then dCBOR.
func (m *message) encode() []byte {
	b := []byte{0, 0, 0, 0}
	switch m.kind {
	case kindHello:
		b = dcbor.AppendUint(dcbor.AppendArray(b, 2), m.kind)
		b = dcbor.AppendBytes(b, m.nonce)
	case kindServer:
		b = dcbor.AppendUint(dcbor.AppendArray(b, 4), m.kind)
		if m.nonce == nil {
			b = dcbor.AppendNull(b)
		} else {
			b = dcbor.AppendBytes(b, m.nonce)
		}
		b = dcbor.AppendBytes(b, m.statement)
		b = append(b, m.signature...)
	case kindClient:
		b = dcbor.AppendUint(dcbor.AppendArray(b, 3), m.kind)
		b = dcbor.AppendBytes(b, m.statement)
		b = append(b, m.signature...)
	case kindVerdict:
		b = dcbor.AppendUint(dcbor.AppendArray(b, 2), m.kind)
		b = dcbor.AppendBool(b, m.accepted)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// parseMessage reads a message without its length.
func parseMessage(b []byte) (*message, error) {
	r := dcbor.NewReader(b)
	n := r.Array()
	m := &message{kind: r.Uint()}
	want := map[uint64]int{kindHello: 2, kindServer: 4, kindClient: 3, kindVerdict: 2}
	if size, known := want[m.kind]; r.Err() == nil && (!known || size != n) {
		return nil, fmt.Errorf("attested TLS: an array of %d as message %d", n, m.kind)
	}
	switch m.kind {
	case kindHello:
		m.nonce = r.BytesN(nonceSize)
	case kindServer:
		if !r.Null() {
			m.nonce = r.BytesN(nonceSize)
		}
		m.statement, m.signature = r.Bytes(), r.Skip()
	case kindClient:
		m.statement, m.signature = r.Bytes(), r.Skip()
	case kindVerdict:
		m.accepted = r.Bool()
	}
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("attested TLS: message: %w", err)
	}
	return m, nil
}

// readMessage reads one message, and no byte more: what follows is the
// application's.
func readMessage(r io.Reader, kinds ...uint64) (*message, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("%w: it ended the connection: %w", ErrNotAttested, err)
	}
	n := binary.BigEndian.Uint32(head[:])
	// TMCP-21.4-4: An end MUST refuse an attestation message longer than 65536 bytes before it reads
	// it.
	if n > maxMessage {
		return nil, fmt.Errorf("%w: a message of %d bytes; at most %d are read", ErrRefused, n, maxMessage)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%w: it ended the connection: %w", ErrNotAttested, err)
	}
	m, err := parseMessage(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	for _, k := range kinds {
		if m.kind == k {
			return m, nil
		}
	}
	return nil, refuse("message %d out of its turn", m.kind)
}
