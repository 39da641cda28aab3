// Package attested holds the cases for servers of profiles attested, mutual and
// attested-tls: what a server shows of its TEE, and what it demands of its
// clients. Call [Cases].
//
// The suite pins the identity key that the server shows, and judges its evidence
// by the appraiser of [conformance.Trust]. To servers of profile mutual it shows
// key objects of its own, with evidence of a simulated TEE, put together by hand:
// good ones, and ones in which one thing is wrong. Where the user names a canary
// tool, the sealed message calls it, so that a server of ours can count that no
// refused message ran it.
package attested

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/conformance/wire"
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
	eras       = []conformance.Era{conformance.Modern, conformance.Legacy}
	modernOnly = eras[:1]
	httpOnly   = []wire.Transport{wire.TransportHTTP}
)

// Cases returns the cases of these profiles in report order.
func Cases() []conformance.Case { return append(append(shown(), demanded()...), inTLS()...) }

// define fills in what all cases of a profile share. The requirement's text comes
// from the ledger; an unknown id leaves it empty, which Validate refuses.
func define(profile conformance.Profile, name, id string, c conformance.Case) conformance.Case {
	prefix := "server/" + string(profile) + "/"
	c.ID, c.Role, c.Profile = prefix+name, conformance.RoleServer, profile
	if c.Eras == nil {
		c.Eras = eras
	}
	if c.Twin != "" {
		c.Twin = prefix + c.Twin
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
		c.Fix = "Read the section of the specification; tmcp evidence inspect shows what evidence says."
	}
	return c
}

// peer is the server as one case knows it.
type peer struct {
	t        *T
	s        *conformance.Session
	result   jsontext.Value // of server/discover or the outer initialize
	settings *protocol.Settings
	raw      []byte // key object
	object   *hand.Object
	mine     *protocol.Settings
}

// open learns the server's settings and key object. The case ends as not
// applicable where the server does not claim to be attested.
func open(t *T) *peer {
	if why := t.Remembered("not attested"); why != "" {
		t.NotApplicable("%s", why) // asked once; a process is not started for every case to hear it again
	}
	p := &peer{t: t}
	var err error
	if p.mine, err = protocol.NewSettings(protocol.Offer{Profiles: []protocol.Profile{protocol.ProfileMutual, protocol.ProfileAttested}}); err != nil {
		t.Failf("making settings: %v", err)
	}
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
	raw := conformance.Member(p.result, "capabilities", "extensions", protocol.ExtensionID)
	if raw == nil {
		p.not("the server does not offer %s", protocol.ExtensionID)
	}
	if p.settings, err = protocol.ParseSettings(raw); err != nil {
		t.Failf("the settings object is %s: %v", conformance.Short(raw), err)
	}
	text, _ := conformance.MemberText(p.result, "_meta", protocol.MetaKey)
	if p.raw, err = protocol.ParseBase64(text); err != nil || text == "" {
		t.Failf("_meta[%q] holds no key object (%v)", protocol.MetaKey, err)
	}
	p.object = p.parse(p.raw)
	if claim := p.object.Text(hand.ClaimProfile); claim != "attested" && claim != "mutual" {
		p.not("the server's key object claims profile %s, and no TEE", claim)
	}
	return p
}

func (p *peer) not(format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	p.t.Remember("not attested", why)
	p.t.NotApplicable("%s", why)
}

func (p *peer) parse(object []byte) *hand.Object {
	o, err := hand.ParseObject(object)
	if err != nil {
		p.t.Failf("the key object: %v", err)
	}
	return o
}

// appraiser is what the user accepts as evidence.
func (p *peer) appraiser() protocol.Appraiser {
	a := p.t.Trust().Appraiser
	if a == nil {
		p.t.Untestable("say what to accept as the server's evidence: --simulator, or --collateral, --corim and --policy")
	}
	return a
}

// verify accepts a key object by the identity key that it shows itself, and by
// evidence that the user's appraiser accepts.
func (p *peer) verify(object, nonce []byte, fresh bool) *protocol.Peer {
	t := p.t
	a := p.appraiser()
	shown, err := protocol.InspectKeyObject(object)
	if err != nil {
		t.Failf("the key object: %v", err)
	}
	if shown.Thumbprint == nil {
		t.Untestable("the identity is a certificate on an RSA key, which the suite can't pin")
	}
	want := protocol.Expect{Context: t.Context(), Identity: shown.Identity, Anchor: protocol.Pin(*shown.Thumbprint), Settings: p.settings, Now: time.Now(),
		Nonce: nonce, Profile: protocol.ProfileAttested, Appraiser: a, FreshEvidence: fresh}
	if kind, _, id := p.parse(object).Freshness(); kind == 3 {
		want.Epochs = [][]byte{id} // which epochs are over, the suite can't know
	}
	who, err := protocol.VerifyKeyObject(object, want)
	if err != nil {
		t.Violate("the key object is refused: %v", err)
	}
	return who
}

// declare is the _meta that offers this side's settings.
func (p *peer) declare() Obj {
	if p.t.Era() == conformance.Legacy {
		return nil
	}
	return Obj{conformance.MetaCapabilities: Obj{"extensions": Obj{protocol.ExtensionID: jsontext.Value(p.mine.JSON())}}}
}

const maxWaits = 12

// attest asks for a key object with a nonce, and for evidence for it if fresh. A
// server that is busy is asked again.
func (p *peer) attest(nonce []byte, fresh bool) []byte {
	params := Obj{"nonce": protocol.Base64(nonce)}
	if fresh {
		params["evidence"] = "fresh"
	}
	return p.asked(Call{Method: protocol.MethodAttest, Params: params, Meta: p.declare()}, "key")
}

// attestInline is attest by a tools/call of the canary tool.
func (p *peer) attestInline(nonce []byte, fresh bool) []byte {
	if !contains(p.settings.Offer().Carriers, protocol.Inline) {
		p.t.NotApplicable("the server does not offer the inline carrier")
	}
	tool := p.t.CanaryTool()
	if tool == "" {
		p.t.Untestable("name a harmless tool by --canary-tool: calls of a tool can't be tried without one")
	}
	ask := Obj{"nonce": protocol.Base64(nonce)}
	if fresh {
		ask["evidence"] = "fresh"
	}
	meta := Obj{protocol.MetaAttest: ask}
	for k, v := range p.declare() {
		meta[k] = v
	}
	return p.asked(Call{Method: "tools/call", Params: Obj{"name": tool}, Meta: meta}, "_meta", protocol.MetaKey)
}

func (p *peer) asked(c Call, path ...string) []byte {
	for i := 0; ; i++ {
		r := p.s.Do(c)
		if r.Answer != nil && r.Answer.Error != nil && reasonOf(r) == protocol.Busy && i < maxWaits {
			wait(p.t, time.Now().Add(400*time.Millisecond))
			continue
		}
		if r.Answer == nil || r.Answer.Result == nil {
			p.t.Failf("%s was not answered with a result: %s%s", c.Method, why(r), p.s.Hint(r))
		}
		text, _ := conformance.MemberText(r.Answer.Result, path...)
		object, err := protocol.ParseBase64(text)
		if err != nil || text == "" {
			p.t.Failf("the answer to %s holds no key object: %s", c.Method, conformance.Short(r.Answer.Result))
		}
		return object
	}
}

func why(r *wire.Reply) string {
	if r.Answer == nil {
		return "no answer"
	}
	return conformance.Short(r.Answer.Error)
}

func reasonOf(r *wire.Reply) protocol.Reason {
	text, _ := conformance.MemberText(r.Answer.Error, "data", "reason")
	return protocol.Reason(text)
}

// wait waits until a time, or until the run is interrupted.
func wait(t *T, until time.Time) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
		t.Untestable("interrupted")
	}
}

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

// refused judges the answer to a mutant: a trust error with one of the reasons,
// and no frame.
func (p *peer) refused(r *wire.Reply, reasons ...protocol.Reason) {
	t := p.t
	if len(p.frames(r)) > 0 || (r.Answer != nil && r.Answer.Result != nil) {
		t.Violate("it was accepted: %s", conformance.Short(r.Answer.Raw))
	}
	if r.Answer == nil {
		t.Violate("it was not answered with a JSON-RPC error%s", p.s.Hint(r))
	}
	code, _ := r.Answer.Code()
	for _, want := range reasons {
		if reasonOf(r) == want && code == int64(want.Code()) {
			t.Refused("%s", want)
			t.Reached(r.SeenSeq)
			t.NoEffect("the answer carries no frame and no result")
			return
		}
	}
	t.Violate("the error is %s, expected reason %q", conformance.Short(r.Answer.Error), reasons)
}

func contains[E comparable](s []E, v E) bool {
	for _, x := range s {
		if x == v {
			return true
		}
	}
	return false
}
