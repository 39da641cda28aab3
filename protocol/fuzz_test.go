package protocol

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/spec/vectors"
)

// seedBytes adds the member of the inputs of a group's vectors as corpus.
func seedBytes(f *testing.F, group, member string) {
	n := 0
	for _, v := range vectors.Group(group) {
		var in map[string]any
		if err := v.Decode(&in, nil); err != nil {
			f.Fatal(err)
		}
		if s, ok := in[member].(string); ok {
			var h vectors.Hex
			if h.UnmarshalText([]byte(s)) == nil {
				f.Add([]byte(h))
				n++
			}
		}
	}
	if n == 0 {
		f.Fatalf("no corpus in group %s", group)
	}
}

func seedText(f *testing.F, group, member string) {
	n := 0
	for _, v := range vectors.Group(group) {
		var in map[string]any
		if err := v.Decode(&in, nil); err != nil {
			f.Fatal(err)
		}
		if s, ok := in[member].(string); ok {
			f.Add(s)
			n++
		}
	}
	if n == 0 {
		f.Fatalf("no corpus in group %s", group)
	}
}

// A frame that is accepted has one encoding.
func FuzzInspectFrame(f *testing.F) {
	seedBytes(f, "frame", "frame")
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := InspectFrame(b)
		if err != nil {
			if !IsReason(err, MalformedFrame) {
				t.Fatal(err)
			}
			return
		}
		if again := fr.encode(); !bytes.Equal(again, b) {
			t.Fatalf("%x\nwritten again\n%x", b, again)
		}
		if first, rest, need, err := ParseFrames(b); err != nil || need || len(rest) != 0 || !bytes.Equal(first, b) {
			t.Fatalf("a frame that is no sequence of one: %v", err)
		}
	})
}

// encode writes a frame as it was read.
func (f *Frame) encode() []byte {
	var b []byte
	switch f.Type {
	case frameOpen:
		b = dcbor.AppendArray(nil, 9)
		b = dcbor.AppendUint(b, frameOpen)
		b = dcbor.AppendUint(b, uint64(f.Suite))
		b = dcbor.AppendBytes(b, f.KeyDigest[:])
		b = dcbor.AppendBytes(b, f.Enc)
		b = dcbor.AppendBytes(b, f.ClientSettings)
		b = dcbor.AppendText(b, f.Revision)
		if f.ClientKey == nil {
			b = dcbor.AppendNull(b)
		} else {
			b = dcbor.AppendBytes(b, f.ClientKey)
		}
		b = dcbor.AppendBool(b, f.Final)
	default:
		b = dcbor.AppendArray(nil, map[int]int{frameNext: 6, frameAnswer: 7}[f.Type])
		b = dcbor.AppendUint(b, uint64(f.Type))
		b = dcbor.AppendBytes(b, f.Context[:])
		b = dcbor.AppendUint(dcbor.AppendUint(b, f.Seq), f.N)
		b = dcbor.AppendBool(b, f.Final)
		if f.Type == frameAnswer && f.Salt == nil {
			b = dcbor.AppendNull(b)
		} else if f.Type == frameAnswer {
			b = dcbor.AppendBytes(b, f.Salt)
		}
	}
	return dcbor.AppendBytes(b, f.Ciphertext)
}

// Where the bytes are cut as they arrive does not change what is read.
func FuzzParseFrames(f *testing.F) {
	for _, v := range vectors.Group("frame-sequence") {
		var in struct {
			Sequence vectors.Hex `json:"sequence"`
		}
		if err := v.Decode(&in, nil); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(in.Sequence), 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		first, rest, need, err := ParseFrames(b)
		if err == nil && !need && len(first)+len(rest) != len(b) {
			t.Fatal("bytes were lost")
		}
		cut = min(max(cut, 0), len(b))
		early, _, earlyNeed, earlyErr := ParseFrames(b[:cut])
		switch {
		case earlyErr != nil && err == nil:
			t.Fatalf("refused when cut at %d, accepted whole: %v", cut, earlyErr)
		case earlyErr == nil && !earlyNeed && (err != nil || !bytes.Equal(early, first)):
			t.Fatalf("complete when cut at %d, otherwise whole", cut)
		}
	})
}

// Nothing but the objects that were signed is ever accepted.
func FuzzVerifyKeyObject(f *testing.F) {
	seedBytes(f, "key-object", "key_object")
	setup := vectors.Server()
	settings, err := ParseSettings([]byte(setup.Settings))
	if err != nil {
		f.Fatal(err)
	}
	pub, err := parseCOSEKey(mustCOSEKey(setup.IdentityPublicKey))
	if err != nil {
		f.Fatal(err)
	}
	pin, err := PublicKeyThumbprint(pub)
	if err != nil {
		f.Fatal(err)
	}
	signed := map[Digest]bool{}
	for _, v := range vectors.Group("key-object") {
		var in map[string]any
		if err := v.Decode(&in, nil); err != nil {
			f.Fatal(err)
		}
		var h vectors.Hex
		if err := h.UnmarshalText([]byte(in["key_object"].(string))); err != nil {
			f.Fatal(err)
		}
		signed[KeyDigest(h)] = true
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		start := time.Now()
		p, err := VerifyKeyObject(b, Expect{Identity: setup.Identity, Anchor: Pin(pin), Settings: settings, Now: time.Unix(setup.NotBefore, 0)})
		if took := time.Since(start); took > 5*time.Second {
			t.Fatalf("took %v", took)
		}
		if err == nil && !signed[p.KeyDigest()] {
			t.Fatal("an object that nobody signed was accepted")
		}
	})
}

func mustCOSEKey(ed25519Key []byte) []byte {
	b := dcbor.AppendMap(nil, 3)
	b = dcbor.AppendUint(dcbor.AppendUint(b, 1), 1)
	b = dcbor.AppendUint(dcbor.AppendInt(b, -1), 6)
	return dcbor.AppendBytes(dcbor.AppendInt(b, -2), ed25519Key)
}

// A claims-set that is read has the types it says; without signatures in the
// way, so that the reader is reached.
func FuzzClaims(f *testing.F) {
	for _, v := range vectors.Group("key-object") {
		var in map[string]any
		if err := v.Decode(&in, nil); err != nil {
			f.Fatal(err)
		}
		var h vectors.Hex
		if err := h.UnmarshalText([]byte(in["key_object"].(string))); err != nil {
			f.Fatal(err)
		}
		if o, err := splitKeyObject(h, forCalls); err == nil {
			f.Add(o.payload)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeClaims(b, forCalls)
		if err != nil {
			return
		}
		if c.expires.Unix() < 0 || c.notBefore.Unix() < 0 || len(c.keys) == 0 || c.keys[0].suite != SuiteHybrid {
			t.Fatalf("%+v", c)
		}
		if c.identityKey != nil {
			parseCOSEKey(c.identityKey)
		}
		if _, err := decodeClaims(c.encode(), forCalls); err != nil {
			t.Fatalf("written again: %v", err)
		}
	})
}

// Settings that are accepted keep their digest through CBOR and back.
func FuzzParseSettings(f *testing.F) {
	seedText(f, "settings-digest", "settings")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseSettings([]byte(s))
		if err != nil {
			if !IsReason(err, NegotiationMismatch) && !IsReason(err, UnsupportedVersion) {
				t.Fatal(err)
			}
			return
		}
		b, err := settingsFromCBOR(a.CBOR())
		if err != nil || b.Digest() != a.Digest() {
			t.Fatalf("%s\nread back from CBOR: %v", s, err)
		}
	})
}

func FuzzSettingsCBOR(f *testing.F) {
	for _, v := range vectors.Group("settings-digest") {
		var in struct {
			Settings string `json:"settings"`
		}
		if err := v.Decode(&in, nil); err != nil {
			f.Fatal(err)
		}
		if b, err := dcbor.FromJSON(nil, []byte(in.Settings)); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := settingsFromCBOR(b)
		if err == nil && !bytes.Equal(s.CBOR(), b) {
			t.Fatalf("%x\nwritten again\n%x", b, s.CBOR())
		}
	})
}

// A content that is accepted could have been sealed, and means the same when it
// is sealed again.
func FuzzContent(f *testing.F) {
	seedBytes(f, "content", "content")
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseContent(b)
		if err != nil {
			if !IsReason(err, MalformedContent) {
				t.Fatal(err)
			}
			return
		}
		if err := c.check(); err != nil {
			t.Fatalf("accepted, and can't be sealed: %v", err)
		}
		c.Revision()
		for _, pad := range []bool{false, true} {
			again, err := parseContent(c.append(nil, pad))
			if err != nil || again.Kind != c.Kind || !bytes.Equal(again.Body, c.Body) || !bytes.Equal(again.Meta.append(nil), c.Meta.append(nil)) {
				t.Fatalf("%v\n got %+v\nwant %+v", err, again, c)
			}
		}
	})
}

func FuzzParseError(f *testing.F) {
	seedText(f, "error", "error")
	f.Fuzz(func(t *testing.T, s string) {
		e := ParseError([]byte(s))
		if e == nil {
			return
		}
		if !e.Reason.FromPeer() {
			t.Fatalf("reason %s came from a peer", e.Reason)
		}
		back := ParseError([]byte(`{"data":` + string(e.Data()) + `}`))
		if back == nil || back.Reason != e.Reason || back.Detail != strings.ToValidUTF8(e.Detail, "\uFFFD") || !bytes.Equal(back.KeyObject, e.KeyObject) {
			t.Fatalf("written again: %+v, was %+v", back, e)
		}
	})
}

func FuzzParseTool(f *testing.F) {
	f.Add(string((&Tool{Name: "x", Digest: Digest{1}}).JSON()))
	f.Add(`{"name":1}`)
	f.Add(`{"digest":"","name":"\ud800"}`)
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseTool([]byte(s))
		if err != nil {
			return
		}
		if b, err := ParseTool(a.JSON()); err != nil || *b != *a {
			t.Fatalf("written again: %+v %v, was %+v", b, err, a)
		}
	})
}

func FuzzToolDigest(f *testing.F) {
	seedText(f, "tool-digest", "definition")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ToolDigest("https://a.example", []byte(s))
		if err != nil {
			return
		}
		if b, err := ToolDigest("https://a.example", []byte(" \n"+s+" ")); err != nil || b != a {
			t.Fatalf("white space changed the digest: %v", err)
		}
		if b, err := ToolDigest("https://b.example", []byte(s)); err != nil || b == a {
			t.Fatal("two servers' tools have one digest")
		}
	})
}

func FuzzParseBase64(f *testing.F) {
	seedText(f, "base64", "text")
	f.Fuzz(func(t *testing.T, s string) {
		if b, err := ParseBase64(s); err == nil && Base64(b) != s {
			t.Fatalf("%q is a second spelling of %q", s, Base64(b))
		}
	})
}

func FuzzParseThumbprint(f *testing.F) {
	f.Add(Thumbprint{1}.String())
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParseThumbprint(s); err == nil && p.String() != s {
			t.Fatalf("%q is a second spelling of %q", s, p)
		}
	})
}

// Bytes that come out of a seal can be anything, if the peer is hostile.
func FuzzOpenedPlaintext(f *testing.F) {
	seedBytes(f, "content", "content")
	keys, err := newContextKeys(SuiteX25519, func(_ string, n int) ([]byte, error) { return make([]byte, n), nil })
	if err != nil {
		f.Fatal(err)
	}
	settings, err := NewSettings(Offer{})
	if err != nil {
		f.Fatal(err)
	}
	s := &Server{cfg: ServerConfig{Settings: settings}, hot: newHotSet(4)}
	f.Fuzz(func(t *testing.T, plain []byte) {
		for _, carrier := range []Carrier{Envelope, Inline, HTTP} {
			ctx, err := newServerContext(keys, settings, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			r := &Request{Outer: Outer{Carrier: carrier}, server: s, ctx: ctx}
			aead, err := newAEAD(SuiteX25519, keys.requestKey[:])
			if err != nil {
				t.Fatal(err)
			}
			var sc scratch
			sc.place(&keys.requestNonce, 1, 0)
			fr := &Frame{Type: frameNext, Seq: 1, Final: true}
			fr.Ciphertext = aead.Seal(nil, sc.nonce[:], plain, appendRequestAAD(nil, &r.Outer, 1, 0, true))
			switch err := r.open(fr, &scratch{}); {
			case err == nil, IsReason(err, MalformedContent), IsReason(err, NegotiationMismatch), IsReason(err, OuterMismatch):
			default:
				t.Fatal(err)
			}
		}
	})
}
