package identity

import (
	"fmt"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// sealer is a context that the suite made by hand, to seal what a library
// would refuse to.
type sealer struct {
	p       *peer
	ctx     *hand.Context
	info    hand.Info
	mine    []byte // client settings in the open frame
	carrier uint64
	tool    []byte // in the associated data, carrier inline
}

// sealer starts a context in suite 1. bend changes what it commits to.
func (p *peer) sealer(carrier uint64, bend func(*sealer)) *sealer {
	p.anonymous()
	s := &sealer{p: p, mine: p.mine.CBOR(), carrier: carrier, info: hand.Info{
		Suite: 1, Key: hand.KeyDigest(p.object), Server: hand.SettingsDigest(p.settings.CBOR()), Revision: conformance.ModernVersion}}
	if bend != nil {
		bend(s)
	}
	if s.info.Client == ([32]byte{}) {
		s.info.Client = hand.SettingsDigest(s.mine)
	}
	keys, err := hand.PublicKeys(p.object)
	if err != nil {
		p.t.Failf("the key object: %v", err)
	}
	if s.ctx, err = hand.Encapsulate(keys[s.info.Suite], s.info.Suite, s.info.Encode()); err != nil {
		p.t.Failf("sealing by hand: %v", err)
	}
	return s
}

// frame seals content as chunk n of message seq.
func (s *sealer) frame(seq, n uint64, final bool, content []byte) []byte {
	return s.place(hand.Place{Carrier: s.carrier, Seq: seq, N: n, Final: final, Tool: s.tool}, content)
}

func (s *sealer) place(at hand.Place, content []byte) []byte {
	ct, err := s.ctx.Seal(at, content)
	if err != nil {
		s.p.t.Failf("sealing by hand: %v", err)
	}
	f := hand.Frame{Type: 2, ID: s.ctx.ID[:], Seq: at.Seq, N: at.N, Final: at.Final, Ciphertext: ct}
	if at.Seq == 0 && at.N == 0 {
		f = hand.Frame{Type: 1, Suite: s.info.Suite, Key: s.info.Key[:], Enc: s.ctx.Enc, ClientSettings: s.mine,
			Revision: s.info.Revision, ClientKey: s.info.ClientKey, Final: at.Final, Ciphertext: ct}
	}
	return f.Encode()
}

// message is the content of the ordinary sealed request, by hand.
func message(id string) *hand.Content {
	return &hand.Content{Kind: hand.Message, Meta: map[uint64][]byte{2: modernFields("server/discover")}, Body: discover(id)}
}

func discover(id string) []byte {
	return conformance.JSON(Obj{"jsonrpc": "2.0", "id": id, "method": "server/discover", "params": Obj{"_meta": modernMeta()}})
}

func modernMeta() Obj {
	return Obj{conformance.MetaVersion: conformance.ModernVersion, conformance.MetaCapabilities: Obj{}, conformance.MetaClientInfo: conformance.ClientInfo}
}

func modernFields(method string, more ...[2]string) []byte {
	return hand.Fields(append([][2]string{
		{"accept", "application/json, text/event-stream"}, {"content-type", "application/json"},
		{"mcp-method", method}, {"mcp-protocol-version", conformance.ModernVersion}}, more...)...)
}

// answered opens the answer to message seq, and finds the inner response.
func (s *sealer) answered(r *wire.Reply, seq uint64, id string) []*hand.Content {
	if r.Answer == nil || r.Answer.Result == nil {
		why := s.p.s.Hint(r)
		if r.Answer != nil {
			why = ": " + conformance.Short(r.Answer.Error)
		}
		s.p.t.Failf("the sealed message was not answered with a result%s", why)
	}
	out, err := s.ctx.OpenAnswer(s.p.frames(r), s.carrier, seq)
	if err != nil {
		s.p.t.Violate("%v", err)
	}
	if id != "" {
		s.p.inner(out, id)
	}
	return out
}

// inner finds the inner response with an id among opened contents, or the refusal
// of a legacy server without it; see [peer.response].
func (p *peer) inner(out []*hand.Content, id string) *wire.Message {
	for _, c := range out {
		m, err := wire.ParseMessage(c.Body)
		switch refused := refusal(c.Status()); {
		case c.Kind == hand.Message && err == nil && m.IsResponse() && (m.Answers(jsonrpc.ID(jsonrpc.Quote(id))) || refused && m.Error != nil):
			return m
		case c.Kind == uint64(protocol.KindRaw) && refused:
			return &wire.Message{Raw: c.Body}
		}
	}
	p.t.Failf("no inner response with the id %q is among the %d contents of the answer", id, len(out))
	return nil
}

// refusal reports whether an inner status is one of refusing the request.
func refusal(status uint64) bool { return status >= 400 && status < 500 }

// byHand is a negative case that seals one content by hand.
func byHand(name, req, title string, reasons []protocol.Reason, bend func(*sealer), plain func(*hand.Content) []byte) conformance.Case {
	return define(name, req, conformance.Case{
		Title: title, Twin: "by-hand",
		About: fmt.Sprintf("Seals the twin's message by hand with this one thing changed, and expects the error %q and no frame in the answer.", reasons),
		Fix:   "The seal is genuine here: check what was sealed, too, before anything is done with it.",
		Run: func(t *T) {
			p := open(t)
			s := p.sealer(hand.Envelope, bend)
			c := message("mutant")
			b := c.Encode()
			if plain != nil {
				b = plain(c)
			}
			p.refused(p.send(s.frame(0, 0, true, b)), reasons...)
		},
	})
}
