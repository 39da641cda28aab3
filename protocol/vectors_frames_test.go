package protocol

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/spec/vectors"
)

func init() {
	deciders["frame"] = decideFrame
	deciders["frame-sequence"] = decideSequence
	deciders["content"] = decideContent
	deciders["padding"] = decidePadding
	deciders["info"] = decideInfo
	deciders["key-schedule"] = decideSchedule
	deciders["request"] = decideRequest
	deciders["answer"] = decideAnswer
	deciders["base64"] = decideBase64
	deciders["error"] = decideError
	deciders["negotiation"] = decideNegotiation
}

func decideFrame(t *testing.T, v vectors.Vector) error {
	var in struct {
		Frame hex `json:"frame"`
	}
	var out struct {
		Type      int    `json:"type"`
		Suite     Suite  `json:"suite"`
		KeyDigest hex    `json:"key_digest"`
		Enc       hex    `json:"enc"`
		Revision  string `json:"revision"`
		Context   hex    `json:"context"`
		Seq       uint64 `json:"seq"`
		N         uint64 `json:"n"`
		Final     bool   `json:"final"`
		Salt      hex    `json:"salt"`
	}
	decode(t, v, &in, &out)
	f, err := InspectFrame(in.Frame)
	if err != nil {
		return err
	}
	if f.Type != out.Type || f.Suite != out.Suite || f.Revision != out.Revision || f.Seq != out.Seq || f.N != out.N || f.Final != out.Final {
		t.Errorf("got %+v\nwant %+v", f, out)
	}
	if f.Type == frameOpen {
		same(t, "key digest", f.KeyDigest[:], out.KeyDigest)
		same(t, "enc", f.Enc, out.Enc)
	} else {
		same(t, "context", f.Context[:], out.Context)
		same(t, "salt", f.Salt, out.Salt)
	}
	return nil
}

func decideSequence(t *testing.T, v vectors.Vector) error {
	var in struct {
		Sequence hex `json:"sequence"`
	}
	var out struct {
		Frames []hex `json:"frames"`
		Rest   hex   `json:"rest"`
	}
	decode(t, v, &in, &out)
	rest := []byte(in.Sequence)
	for i := 0; ; i++ {
		first, more, need, err := ParseFrames(rest)
		if err != nil {
			return err
		}
		if need {
			if i != len(out.Frames) {
				t.Errorf("%d frames, want %d", i, len(out.Frames))
			}
			same(t, "rest", rest, out.Rest)
			return nil
		}
		if i >= len(out.Frames) {
			t.Fatalf("a frame more than the %d expected", len(out.Frames))
		}
		same(t, "frame", first, out.Frames[i])
		rest = more
	}
}

func decideContent(t *testing.T, v vectors.Vector) error {
	var in struct {
		Content hex `json:"content"`
	}
	var out struct {
		Kind Kind `json:"kind"`
		Body hex  `json:"body"`
		Meta hex  `json:"meta"`
	}
	decode(t, v, &in, &out)
	c, err := parseContent(in.Content)
	if err != nil {
		return err
	}
	if c.Kind != out.Kind {
		t.Errorf("kind %d", c.Kind)
	}
	same(t, "body", c.Body, out.Body)
	same(t, "meta, written again", c.Meta.append(nil), out.Meta)
	return c.check()
}

func decidePadding(t *testing.T, v vectors.Vector) error {
	var in struct {
		BodyLength int `json:"body_length"`
	}
	var out struct {
		Length int `json:"content_length"`
		SHA256 hex `json:"content_sha256"`
	}
	decode(t, v, &in, &out)
	c := Content{Kind: KindMessage, Body: []byte(strings.Repeat("x", in.BodyLength))}
	b := c.append(nil, true)
	sum := sha256.Sum256(b)
	if len(b) != out.Length || !bytes.Equal(sum[:], out.SHA256) {
		t.Errorf("a content of %d bytes, digest %x", len(b), sum)
	}
	_, err := parseContent(b)
	return err
}

func decideInfo(t *testing.T, v vectors.Vector) error {
	var in struct {
		Role      Role   `json:"role"`
		Suite     Suite  `json:"suite"`
		Key       hex    `json:"key_digest"`
		Server    hex    `json:"server_settings_digest"`
		Client    hex    `json:"client_settings_digest"`
		ClientKey hex    `json:"client_key_digest"`
		Revision  string `json:"revision"`
	}
	var out struct {
		Info hex `json:"info"`
	}
	decode(t, v, &in, &out)
	same(t, "info", sealInfo(in.Role, in.Suite, Digest(in.Key), Digest(in.Server), Digest(in.Client), in.ClientKey, in.Revision), out.Info)
	return nil
}

func decideSchedule(t *testing.T, v vectors.Vector) error {
	var in struct {
		Suite   Suite `json:"suite"`
		Private hex   `json:"private_key"`
		Enc     hex   `json:"enc"`
		Info    hex   `json:"info"`
		Salt    hex   `json:"salt"`
	}
	var out struct {
		Exporter     hex `json:"exporter_context"`
		Exported     hex `json:"exported"`
		Context      hex `json:"context"`
		RequestKey   hex `json:"request_key"`
		RequestNonce hex `json:"request_base_nonce"`
		AnswerSecret hex `json:"answer_secret"`
		AnswerKey    hex `json:"answer_key"`
		AnswerNonce  hex `json:"answer_base_nonce"`
		Nonces       []struct {
			Seq   uint64 `json:"seq"`
			N     uint64 `json:"n"`
			Nonce hex    `json:"nonce"`
		} `json:"request_nonces"`
	}
	decode(t, v, &in, &out)
	private, err := in.Suite.kem().NewPrivateKey(in.Private)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := hpke.NewRecipient(in.Enc, private, in.Suite.kdf(), in.Suite.aead(), in.Info)
	if err != nil {
		return openFailed()
	}
	k, err := newContextKeys(in.Suite, rec.Export)
	if err != nil {
		return err
	}
	same(t, "context", k.id[:], out.Context)
	same(t, "request key", k.requestKey[:], out.RequestKey)
	same(t, "request base nonce", k.requestNonce[:], out.RequestNonce)
	same(t, "answer secret", k.answerSecret[:], out.AnswerSecret)
	key, nonce, err := k.answerKeys(in.Salt)
	same(t, "answer key", key[:], out.AnswerKey)
	same(t, "answer base nonce", nonce[:], out.AnswerNonce)
	for _, n := range out.Nonces {
		var sc scratch
		sc.place(&k.requestNonce, n.Seq, n.N)
		same(t, "nonce", sc.nonce[:], n.Nonce)
	}
	return err
}

// vectorServer is a Server with the keys of the setup.
func vectorServer(t *testing.T) *Server {
	setup := vectors.Server()
	id, err := NewIdentity(setup.Identity, ed25519.NewKeyFromSeed(setup.IdentitySeed))
	if err != nil {
		t.Fatal(err)
	}
	settings, err := ParseSettings([]byte(setup.Settings))
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(ServerConfig{Identity: id, Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	k, err := s.newKey(time.Unix(setup.NotBefore, 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range setup.Keys {
		if k.private[Suite(key.Suite)], err = Suite(key.Suite).kem().NewPrivateKey(key.PrivateKey); err != nil {
			t.Fatal(err)
		}
	}
	k.object, k.digest = setup.KeyObject, KeyDigest(setup.KeyObject)
	s.live.Store([]*serverKey{k})
	s.current.Store(k)
	return s
}

func decideRequest(t *testing.T, v vectors.Vector) error {
	var in struct {
		Steps []struct {
			Frame   hex     `json:"frame"`
			Carrier Carrier `json:"carrier"`
			Now     int64   `json:"now"`
			Of      *int    `json:"of"`
			Tool    *struct {
				Name   string `json:"name"`
				Digest hex    `json:"digest"`
			} `json:"tool"`
			Labels map[string]string `json:"labels"`
		} `json:"steps"`
	}
	var out struct {
		Suite        Suite  `json:"suite"`
		Context      hex    `json:"context"`
		Seq          uint64 `json:"seq"`
		N            uint64 `json:"n"`
		Final        bool   `json:"final"`
		Revision     string `json:"revision"`
		Info         hex    `json:"info"`
		Enc          hex    `json:"enc"`
		Exported     hex    `json:"exported"`
		RequestKey   hex    `json:"request_key"`
		RequestNonce hex    `json:"request_base_nonce"`
		Nonce        hex    `json:"nonce"`
		AAD          hex    `json:"aad"`
		Plaintext    hex    `json:"plaintext"`
		Ciphertext   hex    `json:"ciphertext"`
	}
	decode(t, v, &in, &out)
	s := vectorServer(t)
	var requests []*Request
	var r *Request
	for i, step := range in.Steps {
		outer := Outer{Carrier: step.Carrier, Labels: step.Labels}
		if step.Tool != nil {
			outer.Tool = &Tool{step.Tool.Name, Digest(step.Tool.Digest)}
		}
		var err error
		if step.Of != nil {
			r = requests[*step.Of]
			err = r.OpenNext(step.Frame)
		} else {
			r, err = s.Open(step.Frame, outer, time.Unix(step.Now, 0))
		}
		if err != nil && i < len(in.Steps)-1 {
			t.Fatalf("step %d of %d: %v", i, len(in.Steps), err)
		}
		if err != nil {
			var e *Error
			if errors.As(err, &e) && e.Reason == UnknownKey && e.KeyObject == nil {
				t.Error("unknown-key without a key object")
			}
			return err
		}
		requests = append(requests, r)
	}
	same(t, "context", r.Context[:], out.Context)
	if r.Seq != out.Seq || r.Final != out.Final || r.Revision != out.Revision {
		t.Errorf("request %+v", r)
	}
	want, err := parseContent(out.Plaintext)
	if err != nil || want.Kind != r.Content.Kind || !bytes.Equal(want.Body, r.Content.Body) || !bytes.Equal(want.Meta.append(nil), r.Content.Meta.append(nil)) {
		t.Errorf("content %+v, want %+v", r.Content, want)
	}
	same(t, "request key", r.ctx.keys.requestKey[:], out.RequestKey)
	same(t, "request base nonce", r.ctx.keys.requestNonce[:], out.RequestNonce)
	same(t, "AAD", appendRequestAAD(nil, &r.Outer, out.Seq, out.N, out.Final), out.AAD)
	var sc scratch
	sc.place(&r.ctx.keys.requestNonce, out.Seq, out.N)
	same(t, "nonce", sc.nonce[:], out.Nonce)
	f, err := InspectFrame(in.Steps[len(in.Steps)-1].Frame)
	if err != nil {
		return err
	}
	same(t, "ciphertext", f.Ciphertext, out.Ciphertext)
	return nil
}

func decideAnswer(t *testing.T, v vectors.Vector) error {
	var in struct {
		Suite    Suite   `json:"suite"`
		Exported hex     `json:"exported"`
		Carrier  Carrier `json:"carrier"`
		Seq      uint64  `json:"seq"`
		Frames   []hex   `json:"frames"`
		Closed   bool    `json:"closed"`
	}
	var out struct {
		Delivered    []*hex `json:"delivered"`
		Salt         hex    `json:"salt"`
		AnswerSecret hex    `json:"answer_secret"`
		AnswerKey    hex    `json:"answer_key"`
		AnswerNonce  hex    `json:"answer_base_nonce"`
		Frames       []struct {
			Nonce      hex `json:"nonce"`
			AAD        hex `json:"aad"`
			Ciphertext hex `json:"ciphertext"`
		} `json:"frames"`
	}
	decode(t, v, &in, &out)
	keys, err := newContextKeys(in.Suite, func(string, int) ([]byte, error) { return bytes.Clone(in.Exported), nil })
	if err != nil {
		t.Fatal(err)
	}
	call := &Call{client: &Client{suite: in.Suite, contexts: map[string]*clientContext{}}, ctx: &clientContext{keys: keys}, outer: Outer{Carrier: in.Carrier}, seq: in.Seq, nextOut: 1, sent: true}
	for i, frame := range in.Frames {
		c, _, err := call.Open(frame)
		if err == ErrRedelivered && i < len(out.Delivered) && out.Delivered[i] == nil {
			continue
		}
		if err != nil && (i < len(in.Frames)-1 || in.Closed) {
			t.Fatalf("frame %d of %d: %v", i, len(in.Frames), err)
		}
		if err != nil {
			if _, _, again := call.Open(in.Frames[0]); again == nil {
				t.Error("the call opened a frame after an error")
			}
			return err
		}
		if v.Valid {
			want, err := parseContent(*out.Delivered[i])
			if err != nil || want.Kind != c.Kind || !bytes.Equal(want.Body, c.Body) {
				t.Errorf("frame %d: %+v, want %+v", i, c, want)
			}
		}
	}
	if in.Closed {
		if err := call.Close(); err != nil {
			return err
		}
	}
	if v.Valid {
		same(t, "answer secret", keys.answerSecret[:], out.AnswerSecret)
		same(t, "answer base nonce", call.ctx.answerNonce[:], out.AnswerNonce)
	}
	return nil
}

func decideBase64(t *testing.T, v vectors.Vector) error {
	var in struct {
		Text string `json:"text"`
	}
	var out struct {
		Bytes hex `json:"bytes"`
	}
	decode(t, v, &in, &out)
	b, err := ParseBase64(in.Text)
	if err != nil {
		return err
	}
	same(t, "bytes", b, out.Bytes)
	if Base64(b) != in.Text {
		t.Errorf("written again: %q", Base64(b))
	}
	return nil
}

func decideError(t *testing.T, v vectors.Vector) error {
	var in struct {
		Error string `json:"error"`
	}
	var out struct {
		Reason Reason `json:"reason"`
		Code   int    `json:"code"`
	}
	decode(t, v, &in, &out)
	e := ParseError([]byte(in.Error))
	if e == nil {
		return fail(UnsealedError, "not an error of this extension")
	}
	if e.Reason != out.Reason || e.Reason.Code() != out.Code {
		t.Errorf("reason %s, code %d", e.Reason, e.Reason.Code())
	}
	return nil
}

func decideNegotiation(t *testing.T, v vectors.Vector) error {
	var in struct {
		Client  string  `json:"client"`
		Server  string  `json:"server"`
		Carrier Carrier `json:"carrier"`
	}
	var out struct {
		Suite Suite `json:"suite"`
	}
	decode(t, v, &in, &out)
	mine, err := ParseSettings([]byte(in.Client))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := ParseSettings([]byte(in.Server))
	if err != nil {
		t.Fatal(err)
	}
	s := vectorServer(t)
	k, _ := s.current.Load().(*serverKey)
	peer := &Peer{c: k.claims, digest: k.digest, sets: theirs, expires: k.claims.expires}
	c, err := NewClient(peer, mine)
	if err != nil {
		return err
	}
	if c.Suite() != out.Suite && v.Valid {
		t.Errorf("suite %v", c.Suite())
	}
	outer := Outer{Carrier: in.Carrier}
	content := Content{Kind: KindMessage, Body: []byte("{}")}
	if in.Carrier == HTTP {
		content.Kind = KindHTTP
	}
	_, _, err = c.Seal(content, outer, k.claims.notBefore)
	return err
}

// What a server tells in the clear does not depend on what was sealed, nor on
// why it did not open.
func TestErrorsTellNothingOfWhatWasSealed(t *testing.T) {
	told := map[Reason]map[string]bool{OpenFailed: {}, MalformedContent: {}}
	n := 0
	for _, v := range vectors.Group("request") {
		var e *Error
		if err := decideRequest(t, v); errors.As(err, &e) && told[e.Reason] != nil {
			told[e.Reason][string(e.Response("1"))] = true
			n++
			if e.Reason == MalformedContent && errors.Unwrap(e) == nil {
				t.Errorf("%s: no cause for the log", v.ID)
			}
		}
	}
	if n < 50 || len(told[OpenFailed]) != 1 || len(told[MalformedContent]) != 1 {
		t.Errorf("of %d errors: %v", n, told)
	}
}
