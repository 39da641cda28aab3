package refclient

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// outerLeg stands between the trust layer and the wire. Without flaws it passes
// everything on.
type outerLeg struct {
	run      *run
	cfg      transport.ClientConfig // before any flaw
	gullible *protocol.Server       // whose keys stand in for what should have been refused

	plain    jsontext.Value // the last result that came without a frame
	settings jsontext.Value // those that the opening offered
}

// newThrowaway is a server whose keys are thrown away, of whatever profile.
func newThrowaway(uri string, profile protocol.Profile) (*protocol.Server, error) {
	id, err := protocol.GenerateIdentity(uri)
	if err != nil {
		return nil, err
	}
	return throwaway(id, profile, nil)
}

func throwaway(id *protocol.Identity, profile protocol.Profile, settings *protocol.Settings) (*protocol.Server, error) {
	cfg := protocol.ServerConfig{Identity: id, Settings: settings}
	offer := protocol.Offer{}
	if profile == protocol.ProfileAttested || profile == protocol.ProfileMutual {
		cfg.Attestation = &protocol.Attestation{Attester: noTEE{}}
		offer.Profiles = []protocol.Profile{profile}
	}
	if profile == protocol.ProfileMutual {
		offer.ClientKey = protocol.ClientKeyDemanded
		cfg.Clients = &protocol.ClientPolicy{Anchor: protocol.Pin(), Profile: protocol.ProfileAttested, Appraiser: lax{}}
	}
	if settings == nil {
		var err error
		if cfg.Settings, err = protocol.NewSettings(offer); err != nil {
			return nil, err
		}
	}
	return protocol.NewServer(cfg)
}

// throwawayEvidence is what throwaway servers show, in CBOR.
var throwawayEvidence = dcbor.AppendText(nil, "no evidence at all")

type noTEE struct{}

func (noTEE) Attest(context.Context, [protocol.ReportDataSize]byte) ([]byte, error) {
	return throwawayEvidence, nil
}

func (o *outerLeg) RoundTrip(req *http.Request) (*http.Response, error) {
	f := o.run.flaw
	if !f.outer() {
		return o.run.base.RoundTrip(req)
	}
	var sent []byte
	if req.Body != nil {
		b, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		sent = b
	}
	if f.Leak != nil {
		req = req.Clone(req.Context())
		sent = f.Leak(o.run, req, sent)
	}
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(sent)), int64(len(sent))
	var resp *http.Response
	var err error
	if f.FollowsRedirects {
		c := &http.Client{Transport: o.run.base}
		req.RequestURI = ""
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(sent)), nil }
		resp, err = c.Do(req)
	} else {
		resp, err = o.run.base.RoundTrip(req)
	}
	if err != nil || !strings.Contains(resp.Header.Get("Content-Type"), "json") && !f.TakesPlaintext && f.Refuses == nil {
		return resp, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	o.remember(body)
	if f.Refuses != nil && f.Refuses(resp.Header.Get("Content-Type"), body) {
		body = []byte("{")
	}
	if o.gullible != nil {
		if body, err = o.launder(sent, body); err != nil {
			return nil, err
		}
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Del("Content-Length")
	return resp, nil
}

// remember keeps a result that came without a frame.
func (o *outerLeg) remember(body []byte) {
	for _, part := range bytes.Split(body, []byte("data: ")) {
		m, err := jsonrpc.Parse(bytes.TrimSpace(part), jsonrpc.Limits{MaxBytes: maxAnswer})
		if err == nil && m.Result != nil && conformance.Member(m.Result, "content") != nil {
			o.plain = bytes.Clone(m.Result)
		}
	}
}

// launder puts a throwaway server's key object in the place of one that the
// trust layer would refuse, when the flaw is to accept such.
func (o *outerLeg) launder(sent, body []byte) ([]byte, error) {
	m, err := jsonrpc.Parse(body, jsonrpc.Limits{MaxBytes: maxAnswer})
	if err != nil {
		var loose error
		if m, loose = o.tolerant(body); loose != nil {
			return body, nil
		}
	}
	now := time.Now()
	var nonce []byte
	fresh := false
	if q, err := jsonrpc.Parse(sent, jsonrpc.Limits{}); err == nil && q.Method == protocol.MethodAttest {
		s, _ := conformance.MemberText(q.Params, "nonce")
		kind, _ := conformance.MemberText(q.Params, "evidence")
		fresh = kind == "fresh"
		if nonce, err = protocol.ParseBase64(s); err != nil {
			return nil, err
		}
	}
	settings, key := offered(m)
	if key == nil && settings == nil {
		return body, nil
	}
	if settings != nil {
		o.settings = bytes.Clone(settings)
	}
	if refusal := o.verify(settings, key, nonce, now); refusal == nil || !o.run.flaw.Accepts(refusal) {
		return body, nil
	}
	server := o.gullible
	if m.Error != nil { // the settings are those of before
		s, err := protocol.ParseSettings(o.settings)
		if err != nil {
			return nil, err
		}
		if server, err = throwaway(server.Identity(), o.cfg.Profile, s); err != nil {
			return nil, err
		}
	}
	object, _, err := server.KeyObject(now)
	if fresh {
		object, err = server.AttestEvidence(nonce, now)
	} else if nonce != nil {
		object, err = server.Attest(nonce, now)
	}
	if err != nil {
		return nil, err
	}
	mine, text := jsontext.Value(server.Settings().JSON()), protocol.Base64(object)
	if m.Error != nil {
		e := &protocol.Error{Reason: protocol.UnknownKey, KeyObject: object}
		return e.Response(m.ID), nil
	}
	ext := conformance.Obj{protocol.ExtensionID: mine}
	return jsonrpc.Response(m.ID, conformance.JSON(conformance.Obj{
		"resultType": "complete", "supportedVersions": []string{conformance.ModernVersion}, "protocolVersion": conformance.LegacyVersion,
		"capabilities": conformance.Obj{"extensions": ext, "experimental": ext}, "settings": mine, "key": text,
		"_meta": conformance.Obj{protocol.MetaKey: text},
	})), nil
}

// tolerant reads a message whose members stand twice, as lax parsers do.
func (o *outerLeg) tolerant(body []byte) (*jsonrpc.Message, error) {
	at := bytes.Index(body, []byte(`,"mode":"preferred"}`))
	if at < 0 {
		return nil, errors.New("not that")
	}
	lax := bytes.ReplaceAll(body, []byte(`,"mode":"preferred"}`), []byte(`}`))
	lax = bytes.ReplaceAll(lax, []byte(`"mode":"required"`), []byte(`"mode":"preferred"`))
	return jsonrpc.Parse(lax, jsonrpc.Limits{})
}

// offered is what a message offers, wherever it stands.
func offered(m *jsonrpc.Message) (settings, key jsontext.Value) {
	if m.Error != nil {
		return nil, conformance.Member(m.Error, "data", "key")
	}
	for _, path := range [][]string{{"capabilities", "extensions", protocol.ExtensionID}, {"settings"}} {
		if v := conformance.Member(m.Result, path...); v != nil {
			settings = v
		}
	}
	for _, path := range [][]string{{"_meta", protocol.MetaKey}, {"key"}} {
		if v := conformance.Member(m.Result, path...); v != nil {
			key = v
		}
	}
	return settings, key
}

func (o *outerLeg) verify(settings, key jsontext.Value, nonce []byte, now time.Time) *protocol.Error {
	var e *protocol.Error
	var s *protocol.Settings
	var err error
	if settings == nil { // an unknown-key error: those of before
		settings = o.settings
	}
	if s, err = protocol.ParseSettings(settings); err != nil {
		errors.As(err, &e)
		return e
	}
	text, _ := jsonrpc.Text(key)
	object, err := protocol.ParseBase64(text)
	if err != nil {
		return &protocol.Error{Reason: protocol.KeyObjectInvalid, Detail: "base64url: " + err.Error()}
	}
	want := protocol.Expect{Identity: o.cfg.Identity, Anchor: o.cfg.Anchor, Settings: s, Now: now, Nonce: nonce,
		Profile: o.cfg.Profile, Appraiser: o.cfg.Appraiser, FreshEvidence: o.cfg.FreshEvidence && nonce != nil}
	peer, err := protocol.VerifyKeyObject(object, want)
	if err == nil {
		mine := mySettings
		if o.cfg.Profile != "" {
			mine, err = protocol.NewSettings(protocol.Offer{Profiles: transport.Profiles(o.cfg.Profile, true)})
		}
		if err == nil {
			_, err = protocol.NewClient(peer, mine)
		}
	}
	errors.As(err, &e)
	return e
}

var mySettings = func() *protocol.Settings {
	s, err := protocol.NewSettings(protocol.Offer{Carriers: []protocol.Carrier{protocol.Envelope}})
	if err != nil {
		panic(err)
	}
	return s
}()
