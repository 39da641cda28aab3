// Package identity holds the cases of profile identity: sealed calls to an
// identity, as the specification in spec/ has them. Call [Cases].
//
// The suite pins the identity key that the server shows: it judges the
// protocol, not whom its user trusts. The message inside the seal is a request
// that any MCP server answers, with a result or an error; its sealed answer
// shows that the inner server was reached.
package identity

import (
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/spec"
)

// Short names for what every case mentions.
type (
	T    = conformance.T
	Call = conformance.Call
	Obj  = conformance.Obj
)

var (
	eras     = []conformance.Era{conformance.Modern, conformance.Legacy}
	httpOnly = []wire.Transport{wire.TransportHTTP}
)

// Cases returns the cases of the profile in report order.
func Cases() []conformance.Case {
	var all []conformance.Case
	for _, part := range [][]conformance.Case{
		negotiation(), keyObject(), sealed(), frames(), contents(), commitments(), negotiated(), replays(), plaintext(), inline(), framed(), stdio(),
	} {
		all = append(all, part...)
	}
	return all
}

// define fills in what all cases of this profile share. The requirement's text
// comes from the ledger; an unknown id leaves it empty, which Validate refuses.
func define(name, id string, c conformance.Case) conformance.Case {
	c.ID = "server/identity/" + name
	c.Role, c.Profile = conformance.RoleServer, conformance.ProfileIdentity
	if c.Eras == nil {
		c.Eras = eras
	}
	if c.Twin != "" {
		c.Twin = "server/identity/" + c.Twin
	}
	c.Level = conformance.MUST
	if r, err := spec.Requirement(id); err == nil && r != nil {
		if r.Level == "SHOULD" || r.Level == "SHOULD NOT" {
			c.Level = conformance.SHOULD
		}
		c.Requirement = conformance.Requirement{ID: id, Level: c.Level, Text: r.Text, URL: r.URL()}
	}
	c.Fresh = true
	if c.Fix == "" {
		c.Fix = "Read the section of the specification, and its worked example."
	}
	return c
}

// peer is the server as one case knows it.
type peer struct {
	t        *T
	s        *conformance.Session
	result   jsontext.Value // of server/discover or the outer initialize
	settings *protocol.Settings
	object   []byte
	shown    *protocol.UnverifiedKeyObject
	who      *protocol.Peer
	mine     *protocol.Settings
	client   *protocol.Client
}

// open learns the server's settings and key object as any client does. The
// case ends as not applicable where there are none.
func open(t *T) *peer {
	return openWith(t, nil)
}

func openWith(t *T, mine *protocol.Settings) *peer {
	p := &peer{t: t, mine: mine}
	if why := t.Remembered("not offered"); why != "" {
		t.NotApplicable("%s", why) // asked once; a process is not started for every case to hear it again
	}
	if p.mine == nil {
		p.mine = settings(t, protocol.Offer{})
	}
	path := []string{"capabilities", "extensions", protocol.ExtensionID}
	if t.Era() == conformance.Modern {
		p.s = t.Session()
		p.result = p.s.Result(Call{Method: "server/discover", Meta: p.declare()})
	} else {
		p.s = t.RawSession(t.Link())
		caps := Obj{}
		for _, m := range []string{"extensions", "experimental"} {
			caps[m] = Obj{protocol.ExtensionID: jsontext.Value(p.mine.JSON())}
		}
		p.result = p.s.Initialize(conformance.LegacyVersion, caps)
	}
	raw := conformance.Member(p.result, path...)
	if raw == nil {
		why := "the server does not offer " + protocol.ExtensionID
		t.Remember("not offered", why)
		t.NotApplicable("%s", why)
	}
	var err error
	if p.settings, err = protocol.ParseSettings(raw); err != nil {
		t.Failf("the settings object is %s: %v", conformance.Short(raw), err)
	}
	text, _ := conformance.MemberText(p.result, "_meta", protocol.MetaKey)
	if p.object, err = protocol.ParseBase64(text); err != nil || text == "" {
		t.Failf("_meta[%q] holds no key object (%v)", protocol.MetaKey, err)
	}
	p.who = p.verify(p.object, nil)
	if p.client, err = protocol.NewClient(p.who, p.mine); err != nil && p.weak() == "" {
		t.Failf("nothing in common with the server: %v", err)
	}
	return p
}

// verify accepts a key object by the key that it shows itself.
func (p *peer) verify(object, nonce []byte) *protocol.Peer {
	shown, err := protocol.InspectKeyObject(object)
	if err != nil {
		p.t.Failf("the key object: %v", err)
	}
	if shown.Thumbprint == nil {
		p.t.Untestable("the identity is a certificate on an RSA key, which the suite can't pin")
	}
	p.shown = shown
	who, err := protocol.VerifyKeyObject(object, protocol.Expect{
		Identity: shown.Identity, Anchor: protocol.Pin(*shown.Thumbprint), Settings: p.settings, Now: time.Now(), Nonce: nonce,
	})
	if err != nil {
		p.t.Failf("the key object: %v", err)
	}
	return who
}

func settings(t *T, o protocol.Offer) *protocol.Settings {
	s, err := protocol.NewSettings(o)
	if err != nil {
		t.Failf("making settings: %v", err)
	}
	return s
}

// declare is the _meta that offers this side's settings.
func (p *peer) declare() Obj {
	if p.t.Era() == conformance.Legacy {
		return nil
	}
	return Obj{conformance.MetaCapabilities: Obj{"extensions": Obj{protocol.ExtensionID: jsontext.Value(p.mine.JSON())}}}
}

// canary is the message inside the seal. Its id comes back in the answer.
func (p *peer) content(id string) protocol.Content {
	body := conformance.JSON(Obj{"jsonrpc": "2.0", "id": id, "method": "server/discover", "params": Obj{"_meta": Obj{
		conformance.MetaVersion: conformance.ModernVersion, conformance.MetaCapabilities: Obj{}, conformance.MetaClientInfo: conformance.ClientInfo}}})
	return protocol.Content{Kind: protocol.KindMessage, Body: body, Meta: protocol.Meta{Fields: fields("server/discover")}}
}

func fields(method string) []protocol.Field {
	return []protocol.Field{
		{Name: "accept", Value: []byte("application/json, text/event-stream")},
		{Name: "content-type", Value: []byte("application/json")},
		{Name: "mcp-method", Value: []byte(method)},
		{Name: "mcp-protocol-version", Value: []byte(conformance.ModernVersion)},
	}
}

var envelope = protocol.Outer{Carrier: protocol.Envelope}

// weak says why nothing can be sealed to the server with profile identity, or "".
func (p *peer) weak() string {
	switch o := p.settings.Offer(); {
	case o.ClientKey == protocol.ClientKeyDemanded:
		return "the server demands a client key object; profile mutual tries what is sealed to it"
	case !slices.Contains(o.Profiles, protocol.ProfileIdentity):
		return fmt.Sprintf("the server's profiles are %v; profile attested tries what is sealed to it", o.Profiles)
	}
	return ""
}

// anonymous ends the case at a server that does not serve profile identity.
func (p *peer) anonymous() {
	if why := p.weak(); why != "" {
		p.t.NotApplicable("%s", why)
	}
}

// seal seals a content, and fails the case when that does not work.
func (p *peer) seal(c protocol.Content) (*protocol.Call, []byte) {
	p.anonymous()
	call, frame, err := p.client.Seal(c, envelope, time.Now())
	if err != nil {
		p.t.Failf("sealing: %v", err)
	}
	return call, frame
}

// outer is the request that carries a frame.
func (p *peer) outer(frame []byte) Call {
	return Call{Method: protocol.MethodCall, Params: Obj{"frame": protocol.Base64(frame)}, Meta: p.declare()}
}

func (p *peer) send(frame []byte) *wire.Reply { return p.s.Do(p.outer(frame)) }

// frames lists the answer frames of a reply, in order.
func (p *peer) frames(r *wire.Reply) [][]byte {
	var out [][]byte
	for _, m := range r.Messages {
		v := conformance.Member(m.Params, "frame")
		if m.Method != protocol.MethodFrame {
			v = conformance.Member(m.Result, "frame")
		}
		if v == nil {
			continue
		}
		text, _ := jsonrpc.Text(v)
		b, err := protocol.ParseBase64(text)
		if err != nil {
			p.t.Failf("an answer frame is not canonical base64url: %v", err)
		}
		out = append(out, b)
	}
	return out
}

// opened opens the whole answer to a call, and returns its contents.
func (p *peer) opened(call *protocol.Call, r *wire.Reply) []protocol.Content {
	if r.Answer == nil || r.Answer.Result == nil {
		why := p.s.Hint(r)
		if r.Answer != nil {
			why = ": " + conformance.Short(r.Answer.Error)
		}
		p.t.Failf("the sealed message was not answered with a result%s", why)
	}
	var out []protocol.Content
	for i, f := range p.frames(r) {
		c, _, err := call.Open(f)
		if err != nil {
			p.t.Failf("answer frame %d: %v", i, err)
		}
		out = append(out, c)
	}
	if err := call.Close(); err != nil {
		p.t.Failf("the answer: %v", err)
	}
	return out
}

// response sees that the inner server answered the message with that id. That is
// a response with the id; or, with an HTTP status of 4xx, whatever else its SDK
// says to a first message that it does not know (legacy servers over HTTP: an
// error with a null id or a made-up one, or a body that is no JSON-RPC). That it
// is the answer to this message is shown by the seal, under which it came.
func (p *peer) response(contents []protocol.Content, id string) {
	for _, c := range contents {
		refused := refusal(uint64(c.Meta.Status))
		switch c.Kind {
		case protocol.KindRaw:
			if refused {
				return
			}
		case protocol.KindMessage:
			m, err := wire.ParseMessage(c.Body)
			if err == nil && m.IsResponse() && (m.Answers(jsonrpc.ID(jsonrpc.Quote(id))) || (refused && m.Error != nil)) {
				return
			}
		}
	}
	p.t.Failf("no inner response with the id %q is among the %d contents of the answer", id, len(contents))
}

// exchange makes one whole sealed exchange.
func (p *peer) exchange(id string) (*protocol.Call, *wire.Reply) {
	call, frame := p.seal(p.content(id))
	r := p.send(frame)
	p.response(p.opened(call, r), id)
	return call, r
}

// refused judges the answer to a mutant: a trust error with one of the
// reasons, and no frame.
func (p *peer) refused(r *wire.Reply, reasons ...protocol.Reason) {
	t := p.t
	if len(p.frames(r)) > 0 || (r.Answer != nil && r.Answer.Result != nil) {
		t.Violate("it was accepted: %s", conformance.Short(r.Answer.Raw))
	}
	if r.Answer == nil {
		t.Violate("it was not answered with a JSON-RPC error%s", p.s.Hint(r))
	}
	code, _ := r.Answer.Code()
	got, _ := conformance.MemberText(r.Answer.Error, "data", "reason")
	for _, want := range reasons {
		if got == string(want) && code == int64(want.Code()) {
			t.Refused("%s", got)
			t.Reached(r.SeenSeq)
			t.NoEffect("the answer carries no frame and no result")
			return
		}
	}
	t.Violate("the error is %s, expected reason %q", conformance.Short(r.Answer.Error), reasons)
}

// bend changes one field of a frame and encodes it again.
func (p *peer) bend(frame []byte, f func(*protocol.Frame)) []byte {
	in, err := protocol.InspectFrame(frame)
	if err != nil {
		p.t.Failf("inspecting a frame of our own: %v", err)
	}
	g := *in
	f(&g)
	return encode(&g)
}

// encode writes a frame as section 7.1 has it.
func encode(f *protocol.Frame) []byte {
	n := map[int]int{1: 9, 2: 6, 3: 7}[f.Type]
	b := dcbor.AppendUint(dcbor.AppendArray(nil, n), uint64(f.Type))
	if f.Type == 1 {
		b = dcbor.AppendUint(b, uint64(f.Suite))
		b = dcbor.AppendBytes(b, f.KeyDigest[:])
		b = dcbor.AppendBytes(b, f.Enc)
		b = dcbor.AppendBytes(b, f.ClientSettings)
		b = dcbor.AppendText(b, f.Revision)
		b = optional(b, f.ClientKey)
	} else {
		b = dcbor.AppendBytes(b, f.Context[:])
		b = dcbor.AppendUint(dcbor.AppendUint(b, f.Seq), f.N)
	}
	b = dcbor.AppendBool(b, f.Final)
	if f.Type == 3 {
		b = optional(b, f.Salt)
	}
	return dcbor.AppendBytes(b, f.Ciphertext)
}

func optional(b, v []byte) []byte {
	if v == nil {
		return dcbor.AppendNull(b)
	}
	return dcbor.AppendBytes(b, v)
}

// flip changes one bit in the middle of b.
func flip(b []byte) []byte {
	c := append([]byte(nil), b...)
	c[len(c)/2] ^= 1
	return c
}

// negative is a case that bends one open frame of an ordinary sealed call.
func negative(name, req, title string, reasons []protocol.Reason, bend func(p *peer, frame []byte) []byte) conformance.Case {
	return define(name, req, conformance.Case{
		Title: title, Twin: "call",
		About: fmt.Sprintf("Seals the message of the twin, changes this one thing in the frame, and expects the error %q and no frame in the answer.", reasons),
		Run: func(t *T) {
			p := open(t)
			_, frame := p.seal(p.content("mutant"))
			p.refused(p.send(bend(p, frame)), reasons...)
		},
	})
}

func reasons(r ...protocol.Reason) []protocol.Reason { return r }

func now() time.Time { return time.Now() }
