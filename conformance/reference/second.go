package reference

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
)

// Second is a server-side trust layer written a second time, by hand and
// straight from the text, with each check where a [Fault] can leave it out. It
// shows that the suite does not judge by the project's own code, and what the
// suite does to a server that skips a check. It keeps all state forever.
type Second struct {
	inner http.Handler
	fault Fault
	uri   string
	tools bool // list tools outside
	id    ed25519.PrivateKey
	mine  *protocol.Settings
	keys  map[uint64]hpke.PrivateKey
	until time.Time
	salt  []byte // for a fault

	tee     *Attested // nil: profile identity
	att     *attestedKey
	clients map[[32]byte]*knownClient // by key digest, section 8.7
	quotes  struct{ second, made int64 }

	mu       sync.Mutex
	object   []byte              // without nonce
	objects  map[[32]byte]bool   // handed out
	opened   map[[16]byte]bool   // ctx-ids of open frames, section 8.4
	retried  map[string]bool     // names used up by a retry, section 8.5
	contexts map[[16]byte]*state // section 8.2
}

// state is one context.
type state struct {
	*hand.Context
	salt     []byte
	revision string
	client   [32]byte // settings digest
	key      *knownClient
	used     map[uint64]bool
	next     uint64 // above the greatest seq that opened
}

const window = 1024

// NewSecond makes a sealed server of mode required before inner. publicTools
// lists inner's tools outside the seal, stripped.
func NewSecond(uri string, inner http.Handler, fault Fault, publicTools bool) (*Second, error) {
	return NewAttested(uri, inner, fault, publicTools, nil)
}

// NewAttested is [NewSecond] for a server in a TEE, with a not nil.
func NewAttested(uri string, inner http.Handler, fault Fault, publicTools bool, a *Attested) (*Second, error) {
	mine, err := protocol.NewSettings(a.offer(fault))
	if err != nil {
		return nil, err
	}
	_, id, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	s := &Second{inner: inner, fault: fault, uri: uri, tools: publicTools, id: id, mine: mine, keys: map[uint64]hpke.PrivateKey{}, until: time.Now().Add(10 * time.Minute),
		tee: a, clients: map[[32]byte]*knownClient{}, salt: make([]byte, 16), objects: map[[32]byte]bool{}, opened: map[[16]byte]bool{}, retried: map[string]bool{}, contexts: map[[16]byte]*state{}}
	for suite := uint64(1); suite <= 2; suite++ {
		if s.keys[suite], err = hand.KEM(suite).GenerateKey(); err != nil {
			return nil, err
		}
	}
	if a != nil {
		if s.att, err = s.newAttested(nil); err != nil {
			return nil, err
		}
	}
	s.object = s.keyObject(nil)
	return s, nil
}

func (s *Second) has(f Fault) bool { return s.fault == f }

// keyObject signs a key object (chapter 5), for a nonce if there is one.
func (s *Second) keyObject(nonce []byte) []byte { return s.sign(nonce, s.att) }

// sign is keyObject with the attested key a, or without one.
func (s *Second) sign(nonce []byte, a *attestedKey) []byte {
	now := s.until.Add(-10 * time.Minute).Unix()
	keys := dcbor.AppendArray(nil, len(s.keys))
	for suite := uint64(1); suite <= 2; suite++ {
		keys = dcbor.AppendUint(dcbor.AppendArray(keys, 2), suite)
		keys = dcbor.AppendBytes(keys, s.keys[suite].PublicKey().Bytes())
	}
	settings := hand.SettingsDigest(s.mine.CBOR())
	c := map[int64][]byte{
		hand.ClaimSub: dcbor.AppendText(nil, s.uri), hand.ClaimExp: dcbor.AppendInt(nil, s.until.Unix()), hand.ClaimNbf: dcbor.AppendInt(nil, now), hand.ClaimIat: dcbor.AppendInt(nil, now),
		hand.ClaimEATProfile: dcbor.AppendText(nil, hand.EATProfile), hand.ClaimRole: dcbor.AppendUint(nil, 1), hand.ClaimKeys: keys, hand.ClaimProfile: dcbor.AppendText(nil, "identity"),
		hand.ClaimSettings: dcbor.AppendBytes(nil, settings[:]), hand.ClaimIdentityKey: hand.COSEKey(s.id.Public().(ed25519.PublicKey)),
	}
	if nonce != nil {
		c[hand.ClaimNonce] = dcbor.AppendBytes(nil, nonce)
	}
	second := s.attest(c, a)
	body, payload := hand.KeyObjectBody(), hand.Claims(c)
	sigs := [][]byte{(&hand.Signature{Alg: -8, Kid: "identity", Key: s.id}).Encode(body, payload)}
	if second != nil {
		sigs = append(sigs, second.Encode(body, payload))
	}
	b := hand.KeyObject(body, payload, sigs...)
	s.mu.Lock()
	s.objects[hand.KeyDigest(b)] = true
	s.mu.Unlock()
	return b
}

// refusal is a trust error on its way out.
type refusal struct {
	reason protocol.Reason
	more   obj // members of data
}

func (r refusal) Error() string { return string(r.reason) }

func no(r protocol.Reason) error { return refusal{reason: r} }

// request is a message that was opened.
type request struct {
	*state
	seq, n  uint64
	carrier uint64
	final   bool
	content *hand.Content
	out     uint64 // answer frames so far
}

// open opens the first frame of a message, in the order of section 10.2.
func (s *Second) open(frame []byte, carrier uint64, tool []byte) (*request, error) {
	f, err := s.frame(frame)
	if err != nil || f.Type != 1 && f.Type != 2 {
		return nil, no(protocol.MalformedFrame)
	}
	if f.Type == 1 {
		return s.first(f, carrier, tool)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx := s.contexts[[16]byte(f.ID)]
	switch {
	case ctx == nil && s.has("open-failed-for-unknown-context"):
		return nil, no(protocol.OpenFailed)
	case ctx == nil:
		return nil, no(protocol.UnknownContext)
	case ctx.key != nil && time.Now().Unix() >= ctx.key.until && !s.has("client-contexts-outlive"):
		return nil, no(protocol.UnknownContext)
	case f.N != 0 && !s.has("any-first-chunk"):
		return nil, no(protocol.OutOfOrder)
	case !s.fresh(ctx, f.Seq):
		return nil, no(protocol.Replayed)
	}
	if s.has("marks-before-open") {
		ctx.used[f.Seq] = true
	}
	r, err := s.decrypt(ctx, f, carrier, tool)
	if err != nil {
		return nil, err
	}
	if r.content.Meta[8] != nil && !s.has("retry-in-next-served") {
		return nil, no(protocol.MalformedContent)
	}
	ctx.used[f.Seq] = true
	ctx.next = max(ctx.next, f.Seq+1)
	return r, nil
}

func (s *Second) fresh(ctx *state, seq uint64) bool {
	if seq+window < ctx.next && !s.has("no-window-edge") {
		return false
	}
	return !ctx.used[seq] || s.has("no-window")
}

// frame parses one frame, strictly unless a fault says otherwise.
func (s *Second) frame(b []byte) (*hand.Frame, error) {
	if s.has("any-cbor") {
		b = canonical(b)
	}
	f, err := hand.ParseFrame(b)
	if err != nil {
		return nil, err
	}
	if f.Type == 1 && (len(f.Key) != 32 || len(f.Enc) != map[uint64]int{1: 1120, 2: 32}[f.Suite] && f.Suite <= 2) || f.Type != 1 && len(f.ID) != 16 || len(f.Ciphertext) < 16 {
		return nil, fmt.Errorf("lengths")
	}
	return f, nil
}

// canonical takes CBOR of any form, and what follows it, for its canonical form.
func canonical(b []byte) []byte {
	var v any
	if _, err := cbor.UnmarshalFirst(b, &v); err != nil {
		return b
	}
	mode, _ := cbor.CoreDetEncOptions().EncMode()
	if out, err := mode.Marshal(v); err == nil {
		return out
	}
	return b
}

// first opens an open frame.
func (s *Second) first(f *hand.Frame, carrier uint64, tool []byte) (*request, error) {
	if s.has("any-suite") && f.Suite > 2 {
		f.Suite = 1
	}
	if s.keys[f.Suite] == nil {
		return nil, no(protocol.UnsupportedSuite)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.objects[[32]byte(f.Key)] {
		if !s.has("any-key-digest") {
			return nil, refusal{protocol.UnknownKey, obj{"key": protocol.Base64(s.object)}}
		}
		own := hand.KeyDigest(s.object)
		f.Key = own[:]
	}
	if err := s.negotiation(f, carrier); err != nil {
		return nil, err
	}
	who, digest, err := s.clientOf(f)
	if err != nil {
		return nil, err
	}
	info := hand.Info{ClientKey: digest, Suite: f.Suite, Key: [32]byte(f.Key), Server: hand.SettingsDigest(s.mine.CBOR()), Client: hand.SettingsDigest(f.ClientSettings), Revision: f.Revision}
	infos := []hand.Info{info}
	if s.has("info-lenient") { // takes what the sender says for what it knows itself
		for _, f2 := range []func(*hand.Info){
			func(i *hand.Info) { i.Role = 1 }, func(i *hand.Info) { i.Label = "org.trustedmcp/trust v2 seal" },
			func(i *hand.Info) { i.Server[0] ^= 1 }, func(i *hand.Info) { i.Client = hand.Hash(f.ClientSettings) },
			func(i *hand.Info) { d, _ := protocol.NewSettings(protocol.Offer{}); i.Client = d.Digest() },
			func(i *hand.Info) { i.Revision = conformance.ModernVersion },
		} {
			i := info
			f2(&i)
			infos = append(infos, i)
		}
	}
	for _, i := range infos {
		var c *hand.Context
		if c, err = hand.Decapsulate(s.keys[f.Suite], f.Suite, f.Enc, i.Encode()); err != nil {
			return nil, no(protocol.OpenFailed)
		}
		ctx := &state{Context: c, key: who, salt: make([]byte, 16), revision: i.Revision, client: hand.SettingsDigest(f.ClientSettings), used: map[uint64]bool{0: true}, next: 1}
		rand.Read(ctx.salt)
		if s.has("salt-reused") {
			ctx.salt = s.salt
		}
		if s.opened[c.ID] && !s.has("no-replay-cache") {
			return nil, no(protocol.Replayed)
		}
		var r *request
		if r, err = s.decrypt(ctx, f, carrier, tool); err != nil {
			continue
		}
		if err := s.possesses(r, [32]byte(f.Key)); err != nil {
			return nil, err
		}
		if err := s.retry(r.content); err != nil {
			return nil, err
		}
		s.opened[c.ID] = true
		s.contexts[c.ID] = ctx
		return r, nil
	}
	return nil, err
}

// negotiation compares the client's settings with the rest (section 4.8).
func (s *Second) negotiation(f *hand.Frame, carrier uint64) error {
	if dcbor.NewReader(f.ClientSettings).Skip(); !strict(f.ClientSettings) && !s.has("settings-unchecked") {
		return no(protocol.MalformedFrame)
	}
	text, err := dcbor.ToJSON(nil, canonical(f.ClientSettings))
	if err != nil {
		return no(protocol.MalformedFrame)
	}
	list := func(name string) []string { l, _ := conformance.Strings(conformance.Member(text, name)); return l }
	if string(conformance.Member(text, "version")) != "1" && !s.has("any-settings-version") {
		return no(protocol.UnsupportedVersion)
	}
	for _, name := range []string{"profiles", "carriers", "suites"} {
		if list(name) == nil && !s.has("settings-unchecked") {
			return no(protocol.MalformedFrame)
		}
	}
	if m, _ := conformance.MemberText(text, "mode"); m == "" && !s.has("settings-unchecked") {
		return no(protocol.MalformedFrame)
	}
	for _, name := range list("suites") {
		suite := map[string]uint64{"mlkem768x25519-sha256-aes256gcm": 1, "x25519-sha256-chacha20poly1305": 2}[name]
		if suite == 0 {
			continue
		}
		if suite != f.Suite && !s.has("any-offered-suite") {
			return no(protocol.NegotiationMismatch)
		}
		break
	}
	if !slices.Contains(list("carriers"), []string{"", "envelope", "inline", "http"}[carrier]) && !s.has("any-client-carrier") {
		return no(protocol.NegotiationMismatch)
	}
	if !slices.ContainsFunc(list("profiles"), func(p string) bool { return slices.Contains(s.mine.Offer().Profiles, protocol.Profile(p)) }) && !s.has("any-profile") && !s.has("settings-unchecked") {
		return no(protocol.ProfileRefused)
	}
	return nil
}

func strict(b []byte) bool {
	r := dcbor.NewReader(b)
	r.Skip()
	return r.Done() == nil
}

// retry settles a retry-of (section 8.5).
func (s *Second) retry(c *hand.Content) error {
	v := c.Meta[8]
	if v == nil || s.has("retry-unchecked") {
		return nil
	}
	r := dcbor.NewReader(v)
	r.ArrayN(3)
	id := [16]byte(append(r.Bytes(), make([]byte, 16)...)[:16])
	seq, exp := r.Uint(), r.Uint()
	if time.Now().Unix() >= int64(exp)+60 && !s.has("retry-any-age") {
		return no(protocol.Replayed)
	}
	if ctx := s.contexts[id]; ctx != nil {
		if seq >= ctx.next+window {
			if !s.has("retry-moves-window") {
				return no(protocol.Replayed)
			}
			ctx.next = seq + 1
		}
		if ctx.used[seq] {
			return no(protocol.Replayed)
		}
		ctx.used[seq] = true
		return nil
	}
	name := fmt.Sprintf("%x %d", id, seq)
	if s.retried[name] {
		return no(protocol.Replayed)
	}
	s.retried[name] = true
	if seq == 0 && !s.has("retry-not-burned") {
		s.opened[id] = true
	}
	return nil
}

// decrypt opens the ciphertext of f, and reads its content.
func (s *Second) decrypt(ctx *state, f *hand.Frame, carrier uint64, tool []byte) (*request, error) {
	at := hand.Place{Carrier: carrier, Seq: f.Seq, N: f.N, Final: f.Final, Tool: tool}
	places := []hand.Place{at}
	also := func(fault Fault, bend func(*hand.Place)) {
		if s.has(fault) {
			p := at
			bend(&p)
			places = append(places, p)
		}
	}
	for c := uint64(1); c <= 3; c++ {
		also("any-carrier-opens", func(p *hand.Place) { p.Carrier = c })
		also("any-carrier-opens", func(p *hand.Place) { p.Carrier, p.Tool = c, nil })
	}
	also("labels-open", func(p *hand.Place) { p.Labels = []byte{0xa0} })
	also("tool-anywhere", func(p *hand.Place) { p.Tool = hand.Tool(ToolName, [32]byte{}) })
	also("no-tool-opens", func(p *hand.Place) { p.Tool = nil })
	also("tool-digest-unprotected", func(p *hand.Place) {
		if p.Tool != nil {
			p.Tool = bytes.Clone(p.Tool)
			p.Tool[len(p.Tool)-32] ^= 1
		}
	})
	also("final-unprotected", func(p *hand.Place) { p.Final = !p.Final })
	also("seq-unprotected", func(p *hand.Place) { p.Seq-- })
	also("n-unprotected", func(p *hand.Place) { p.N = 0 })
	if s.has("any-first-chunk") {
		also("any-first-chunk", func(p *hand.Place) { p.N = 0 })
	}
	for _, p := range places {
		plain, err := ctx.Open(p, f.Ciphertext)
		if err != nil {
			continue
		}
		c, err := s.content(plain)
		if err != nil {
			return nil, no(protocol.MalformedContent)
		}
		r := &request{state: ctx, seq: f.Seq, n: f.N, carrier: carrier, final: f.Final || s.has("final-unprotected"), content: c}
		return r, s.fits(r)
	}
	return nil, no(protocol.OpenFailed)
}

// seal makes the next answer frame.
func (s *Second) seal(r *request, c *hand.Content, final bool) []byte {
	at := hand.Place{Carrier: r.carrier, Seq: r.seq, N: r.out, Final: final}
	r.out++
	salt := r.salt
	switch s.fault {
	case "numbers-from-one":
		at.N++
	case "answers-crossed":
		if at.Seq > 0 {
			at.Seq--
		}
	case "never-final":
		at.Final = false
	case "always-final":
		at.Final = true
	case "salt-per-answer":
		salt = make([]byte, 16)
		rand.Read(salt)
	}
	b, err := r.SealAnswer(at, salt, c.Encode())
	if err != nil {
		return nil
	}
	if s.has("salt-everywhere") && at.N > 0 {
		if f, err := hand.ParseFrame(b); err == nil {
			f.Salt = salt
			b = f.Encode()
		}
	}
	return b
}
