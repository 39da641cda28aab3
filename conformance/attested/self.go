package attested

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// A self is a client key object of the suite in the making. Every part can be
// bent.
type self struct {
	p *peer

	role     uint64
	identity string
	profile  string
	settings [32]byte
	nbf, exp int64
	fresh    []byte // freshness, in CBOR
	config   []byte

	id, att   ed25519.PrivateKey
	attests   bool                // there is an attested key at all
	world     *sim.World          // who vouches for the TEE
	tee       sim.Options         // the TEE
	bound     func(*hand.Binding) // bends what the evidence binds
	evidence  []byte              // in place of that of the TEE
	claims    func(map[int64][]byte)
	idSig     func(*hand.Signature)
	attSig    func(*hand.Signature)
	swapped   bool   // the signatures change places
	whole     []byte // in place of all
	digest    *[32]byte
	possesses func(ctx [16]byte, server, client [32]byte) []byte // nil result: none
}

// self is the key object of the suite, as a server of profile mutual must take it.
func (p *peer) self(bend func(*self)) *self {
	t := p.t
	trust := t.Trust()
	if trust.Key == nil {
		t.Untestable("name the suite's own key, which the server lets in, by --client-key and --client-identity")
	}
	now := time.Now()
	m := &self{p: p, role: 2, identity: trust.Identity, profile: "attested", settings: hand.SettingsDigest(p.mine.CBOR()), nbf: now.Unix(), exp: now.Unix() + 600,
		fresh: hand.MadeAt(now.Unix()), id: trust.Key, att: newKey(), attests: true, world: sim.Default(), tee: sim.Options{Image: trust.Image, Now: time.Now}}
	if bend != nil {
		bend(m)
	}
	return m
}

func newKey() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func public(k ed25519.PrivateKey) []byte { return hand.COSEKey(k.Public().(ed25519.PublicKey)) }

// encode makes the object.
func (m *self) encode() []byte {
	if m.whole != nil {
		return m.whole
	}
	c := map[int64][]byte{
		hand.ClaimSub: dcbor.AppendText(nil, m.identity), hand.ClaimExp: dcbor.AppendInt(nil, m.exp), hand.ClaimNbf: dcbor.AppendInt(nil, m.nbf), hand.ClaimIat: dcbor.AppendInt(nil, m.nbf),
		hand.ClaimEATProfile: dcbor.AppendText(nil, hand.EATProfile), hand.ClaimRole: dcbor.AppendUint(nil, m.role), hand.ClaimKeys: m.p.object.Claims[hand.ClaimKeys],
		hand.ClaimProfile: dcbor.AppendText(nil, m.profile), hand.ClaimSettings: dcbor.AppendBytes(nil, m.settings[:]), hand.ClaimIdentityKey: public(m.id),
	}
	if m.attests {
		c[hand.ClaimAttestedKey], c[hand.ClaimFreshness], c[hand.ClaimEvidence] = public(m.att), m.fresh, m.quote()
		if m.config != nil {
			c[hand.ClaimConfig] = dcbor.AppendBytes(nil, m.config)
		}
	}
	if m.role == 2 {
		c[hand.ClaimKeys] = dcbor.AppendArray(nil, 0) // a client has no HPKE keys
	}
	if m.claims != nil {
		m.claims(c)
	}
	payload, body := hand.Claims(c), hand.KeyObjectBody()
	id := &hand.Signature{Alg: -8, Kid: "identity", Key: m.id}
	if m.idSig != nil {
		m.idSig(id)
	}
	sigs := [][]byte{id.Encode(body, payload)}
	if m.attests {
		att := &hand.Signature{Alg: -8, Kid: "attested", Key: m.att}
		if m.attSig != nil {
			m.attSig(att)
		}
		if b := att.Encode(body, payload); m.swapped {
			sigs = [][]byte{b, sigs[0]}
		} else {
			sigs = append(sigs, b)
		}
	}
	return hand.KeyObject(body, payload, sigs...)
}

// quote is the evidence.
func (m *self) quote() []byte {
	if m.evidence != nil {
		return m.evidence
	}
	b := hand.Binding{Role: m.role, Identity: m.identity, Key: public(m.att), Config: m.config, Freshness: m.fresh}
	if m.bound != nil {
		m.bound(&b)
	}
	tee, err := m.world.TEE(m.tee)
	if err == nil {
		var evidence []byte
		if evidence, err = tee.Attest(m.p.t.Context(), b.ReportData()); err == nil {
			return evidence
		}
	}
	m.p.t.Failf("the suite's simulated TEE: %v", err)
	return nil
}

// A sealer is a context that the suite made by hand.
type sealer struct {
	p      *peer
	ctx    *hand.Context
	info   hand.Info
	object []byte // as it stands in the open frame: by value, or a digest; nil: none
	proof  []byte
	mine   []byte
}

// seal starts a context, and shows the key object m in it: by value, or by its
// digest. Without m it shows none.
func (p *peer) seal(m *self, byDigest bool) *sealer {
	s := &sealer{p: p, mine: p.mine.CBOR()}
	s.info = hand.Info{Suite: 1, Key: hand.KeyDigest(p.raw), Server: hand.SettingsDigest(p.settings.CBOR()), Client: hand.SettingsDigest(s.mine), Revision: conformance.ModernVersion}
	var digest [32]byte
	if m != nil {
		s.object = m.encode()
		digest = hand.KeyDigest(s.object)
		if m.digest != nil {
			digest = *m.digest
		}
		s.info.ClientKey = digest[:]
		if byDigest {
			s.object = digest[:]
		}
	}
	keys, err := hand.PublicKeys(p.raw)
	if err == nil {
		s.ctx, err = hand.Encapsulate(keys[1], 1, s.info.Encode())
	}
	if err != nil {
		p.t.Failf("sealing by hand: %v", err)
	}
	switch {
	case m == nil:
	case m.possesses != nil:
		s.proof = m.possesses(s.ctx.ID, s.info.Key, digest)
	case m.attests:
		s.proof = ed25519.Sign(m.att, hand.Possession(s.ctx.ID, s.info.Key, digest))
	default:
		s.proof = ed25519.Sign(m.id, hand.Possession(s.ctx.ID, s.info.Key, digest))
	}
	return s
}

// frame seals the ordinary request as message seq.
func (s *sealer) frame(seq uint64, id string) []byte {
	method, params := "server/discover", Obj{}
	fields := [][2]string{{"accept", "application/json, text/event-stream"}, {"content-type", "application/json"}, {"mcp-method", method}, {"mcp-protocol-version", conformance.ModernVersion}}
	if tool := s.p.t.CanaryTool(); tool != "" {
		method, params = "tools/call", Obj{"name": tool, "arguments": Obj{}}
		fields = [][2]string{fields[0], fields[1], {"mcp-method", method}, {"mcp-name", conformance.HeaderValue(tool)}, fields[3]}
	}
	params["_meta"] = Obj{conformance.MetaVersion: conformance.ModernVersion, conformance.MetaCapabilities: Obj{}, conformance.MetaClientInfo: conformance.ClientInfo}
	c := hand.Content{Kind: hand.Message, Meta: map[uint64][]byte{2: hand.Fields(fields...)}, Body: conformance.JSON(Obj{"jsonrpc": "2.0", "id": id, "method": method, "params": params})}
	if seq == 0 && s.proof != nil {
		c.Meta[10] = dcbor.AppendBytes(nil, s.proof)
	}
	ct, err := s.ctx.Seal(hand.Place{Carrier: hand.Envelope, Seq: seq, Final: true}, c.Encode())
	if err != nil {
		s.p.t.Failf("sealing by hand: %v", err)
	}
	f := hand.Frame{Type: 2, ID: s.ctx.ID[:], Seq: seq, Final: true, Ciphertext: ct}
	if seq == 0 {
		f = hand.Frame{Type: 1, Suite: 1, Key: s.info.Key[:], Enc: s.ctx.Enc, ClientSettings: s.mine, Revision: s.info.Revision, ClientKey: s.object, Final: true, Ciphertext: ct}
	}
	return f.Encode()
}

func (p *peer) send(frame []byte) *wire.Reply {
	return p.s.Do(Call{Method: protocol.MethodCall, Params: Obj{"frame": protocol.Base64(frame)}, Meta: p.declare()})
}

// send sends the first message.
func (s *sealer) send(id string) *wire.Reply { return s.p.send(s.frame(0, id)) }

// next sends message seq.
func (s *sealer) next(seq uint64, id string) *wire.Reply { return s.p.send(s.frame(seq, id)) }

// answered opens the answer to the first message, and finds the inner response,
// or the refusal of an inner server that does not know such first messages.
func (s *sealer) answered(r *wire.Reply, id string) { s.answeredAt(r, 0, id) }

func (s *sealer) answeredAt(r *wire.Reply, seq uint64, id string) {
	t := s.p.t
	if r.Answer == nil || r.Answer.Result == nil {
		t.Failf("the sealed message was not answered with a result: %s%s", why(r), s.p.s.Hint(r))
	}
	out, err := s.ctx.OpenAnswer(s.p.frames(r), hand.Envelope, seq)
	if err != nil {
		t.Violate("%v", err)
	}
	for _, c := range out {
		refused := c.Status() >= 400 && c.Status() < 500
		m, err := wire.ParseMessage(c.Body)
		if c.Kind == hand.Raw && refused || c.Kind == hand.Message && err == nil && m.IsResponse() && (m.Answers(jsonrpc.ID(jsonrpc.Quote(id))) || refused && m.Error != nil) {
			return
		}
	}
	t.Failf("no inner response with the id %q is among the %d contents of the answer", id, len(out))
}

func image(name string) [32]byte { return sha256.Sum256([]byte(name)) }
