package protocol

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/spec/vectors"
)

type hex = vectors.Hex

// deciders run one vector each: they return what package protocol says of the
// input, and compare what comes out with the vector's output.
var deciders = map[string]func(*testing.T, vectors.Vector) error{
	"settings-digest": decideSettings,
	"tool-digest":     decideTool,
	"tool-set-digest": decideToolSet,
	"key-digest":      decideKeyDigest,
	"thumbprint":      decideThumbprint,
	"key-object":      decideKeyObject,
	"report-data":     decideReportData,
	"possession":      decidePossession,
}

// Every vector is decided as it says.
func TestVectors(t *testing.T) {
	seen := map[string]int{}
	id := regexp.MustCompile(`^[a-z0-9-]+/[a-z0-9.-]+$`)
	for _, v := range vectors.All() {
		if strings.HasPrefix(v.Group, "policy-") || strings.HasPrefix(v.Group, "aicc-") {
			continue // packages policywasm and aicc decide them
		}
		seen[v.Group]++
		t.Run(v.ID, func(t *testing.T) {
			decide := deciders[v.Group]
			if decide == nil || !id.MatchString(v.ID) || v.Note == "" || len(v.Requirements) == 0 {
				t.Fatalf("the vector is incomplete, or its group %q is not known", v.Group)
			}
			err := decide(t, v)
			var e *Error
			switch {
			case v.Valid && err != nil:
				t.Fatalf("%s\nrefused: %v", v.Note, err)
			case !v.Valid && err == nil:
				t.Fatalf("%s\naccepted, want %s", v.Note, v.Reason)
			case !v.Valid && (!errors.As(err, &e) || string(e.Reason) != v.Reason):
				t.Fatalf("%s\nerror %v, want reason %s", v.Note, err, v.Reason)
			case v.Valid && v.Output == nil:
				t.Fatal("a valid vector without an output tests little")
			case e != nil && e.Reason.Code() == 0:
				t.Fatalf("reason %s has no code", e.Reason)
			}
		})
	}
	total := 0
	for group := range deciders {
		if seen[group] == 0 {
			t.Errorf("no vectors of group %s", group)
		}
		total += seen[group]
	}
	if total < 200 {
		t.Errorf("%d vectors, want at least 200", total)
	}
}

func decode(t *testing.T, v vectors.Vector, in, out any) {
	t.Helper()
	if err := v.Decode(in, out); err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s\n got %x\nwant %x", what, got, want)
	}
}

func decideSettings(t *testing.T, v vectors.Vector) error {
	var in struct {
		Settings string `json:"settings"`
	}
	var out struct {
		CBOR   hex `json:"cbor"`
		Input  hex `json:"digest_input"`
		Digest hex `json:"digest"`
	}
	decode(t, v, &in, &out)
	s, err := ParseSettings([]byte(in.Settings))
	if err != nil {
		return err
	}
	same(t, "cbor", s.CBOR(), out.CBOR)
	d := s.Digest()
	same(t, "digest", d[:], out.Digest)
	again, err := settingsFromCBOR(s.CBOR())
	if err != nil || again.Digest() != s.Digest() {
		t.Errorf("read back from CBOR: %v", err)
	}
	return nil
}

func decideTool(t *testing.T, v vectors.Vector) error {
	var in struct {
		Identity   string `json:"identity"`
		Definition string `json:"definition"`
	}
	var out struct {
		Digest hex `json:"digest"`
	}
	decode(t, v, &in, &out)
	d, err := ToolDigest(in.Identity, []byte(in.Definition))
	if err != nil {
		return err
	}
	same(t, "digest", d[:], out.Digest)
	return nil
}

func decideToolSet(t *testing.T, v vectors.Vector) error {
	var in struct {
		Identity string `json:"identity"`
		Tools    []struct {
			Name   string `json:"name"`
			Digest hex    `json:"digest"`
		} `json:"tools"`
	}
	var out struct {
		Digest hex `json:"digest"`
	}
	decode(t, v, &in, &out)
	var tools []Tool
	for _, tool := range in.Tools {
		tools = append(tools, Tool{tool.Name, Digest(tool.Digest)})
	}
	d := ToolSetDigest(in.Identity, tools)
	same(t, "digest", d[:], out.Digest)
	return nil
}

func decideKeyDigest(t *testing.T, v vectors.Vector) error {
	var in struct {
		KeyObject hex `json:"key_object"`
	}
	var out struct {
		Input  hex `json:"digest_input"`
		Digest hex `json:"digest"`
	}
	decode(t, v, &in, &out)
	d := KeyDigest(in.KeyObject)
	same(t, "digest", d[:], out.Digest)
	return nil
}

func decideThumbprint(t *testing.T, v vectors.Vector) error {
	var in struct {
		Type      string `json:"type"`
		PublicKey hex    `json:"public_key"`
	}
	var out struct {
		COSEKey    hex `json:"cose_key"`
		Thumbprint hex `json:"thumbprint"`
	}
	decode(t, v, &in, &out)
	var pub any = ed25519.PublicKey(in.PublicKey)
	if in.Type != "Ed25519" {
		curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384()}[in.Type]
		k, err := ecdsa.ParseUncompressedPublicKey(curve, in.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		pub = k
	}
	got, err := PublicKeyThumbprint(pub)
	if err != nil {
		return err
	}
	same(t, "thumbprint", got[:], out.Thumbprint)
	enc, _ := appendCOSEKey(nil, pub)
	same(t, "COSE_Key", enc, out.COSEKey)
	_, err = parseCOSEKey(enc)
	return err
}

func decideKeyObject(t *testing.T, v vectors.Vector) error {
	var in struct {
		KeyObject hex    `json:"key_object"`
		Identity  string `json:"identity"`
		Role      Role   `json:"role"`
		Settings  string `json:"settings"`
		Now       int64  `json:"now"`
		Nonce     hex    `json:"nonce"`
		Pins      []hex  `json:"pins"`
		Roots     []hex  `json:"roots"`
	}
	var out struct {
		KeyDigest hex     `json:"key_digest"`
		Profile   Profile `json:"profile"`
		Expires   int64   `json:"expires"`
		ToolSet   hex     `json:"tool_set"`
	}
	decode(t, v, &in, &out)
	settings, err := ParseSettings([]byte(in.Settings))
	if err != nil {
		t.Fatal(err)
	}
	var pins []Thumbprint
	for _, p := range in.Pins {
		pins = append(pins, Thumbprint(p))
	}
	anchor := Pin(pins...)
	if in.Roots != nil {
		pool := x509.NewCertPool()
		for _, der := range in.Roots {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			pool.AddCert(c)
		}
		anchor = Roots(pool)
	}
	start := time.Now()
	p, err := VerifyKeyObject(in.KeyObject, Expect{Identity: in.Identity, Anchor: anchor, Settings: settings, Now: time.Unix(in.Now, 0), Role: in.Role, Nonce: in.Nonce})
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if err != nil {
		if p != nil {
			t.Error("something of a refused key object came out")
		}
		return err
	}
	d := p.KeyDigest()
	same(t, "key digest", d[:], out.KeyDigest)
	if p.c.profile != out.Profile || p.Expires().Unix() != out.Expires || p.Identity() != in.Identity {
		t.Errorf("profile %s, expires %d, identity %s", p.c.profile, p.Expires().Unix(), p.Identity())
	}
	set, ok := p.ToolSet()
	if ok != (out.ToolSet != nil) || ok && !bytes.Equal(set[:], out.ToolSet) {
		t.Errorf("tool set %x", set)
	}
	return nil
}

func decideReportData(t *testing.T, v vectors.Vector) error {
	var in struct {
		Role      Role   `json:"role"`
		Identity  string `json:"identity"`
		Key       hex    `json:"key"`
		Config    *hex   `json:"config"`
		Freshness struct {
			Kind  FreshnessKind `json:"kind"`
			At    int64         `json:"at"`
			Value hex           `json:"value"`
		} `json:"freshness"`
	}
	var out struct {
		Encoded hex `json:"encoded"`
		Data    hex `json:"report_data"`
	}
	decode(t, v, &in, &out)
	pub, err := parseCOSEKey(in.Key)
	if err != nil {
		return err
	}
	f := Freshness{Kind: in.Freshness.Kind, Value: in.Freshness.Value}
	if f.Kind == FreshAt {
		f.At = time.Unix(in.Freshness.At, 0)
	}
	var config []byte
	if in.Config != nil {
		config = *in.Config
	}
	b, err := NewBinding(in.Role, in.Identity, pub, config, f)
	if err != nil {
		return err
	}
	got := b.ReportData()
	same(t, "report data", got[:], out.Data)
	return nil
}

func decidePossession(t *testing.T, v vectors.Vector) error {
	var in struct {
		Key     hex `json:"key"`
		Context hex `json:"context"`
		Server  hex `json:"server_key_digest"`
		Client  hex `json:"client_key_digest"`
		Proof   hex `json:"possession"`
	}
	var out struct {
		Signed hex `json:"signed"`
	}
	decode(t, v, &in, &out)
	pub, err := parseCOSEKey(in.Key)
	if err != nil {
		return err
	}
	signed := possession(ContextID(in.Context), Digest(in.Server), Digest(in.Client))
	if v.Valid {
		same(t, "signed", signed, out.Signed)
	}
	return verifySignature(pub, signed, in.Proof)
}
