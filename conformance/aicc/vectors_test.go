package aicc_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/go-json-experiment/json"

	suite "github.com/trustedmcp/tmcp/conformance/aicc"
	evidence "github.com/trustedmcp/tmcp/evidence/aicc"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
	"github.com/trustedmcp/tmcp/spec/vectors"
)

// TestAnswerVectors: the implementation and the suite read envelopes as the
// vectors have it.
func TestAnswerVectors(t *testing.T) {
	priv, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	all := vectors.Group("aicc-answer")
	if len(all) == 0 {
		t.Fatal("there are none")
	}
	for _, v := range all {
		t.Run(v.ID, func(t *testing.T) {
			var in struct {
				Key      vectors.Hex `json:"key"`
				Envelope string      `json:"envelope"`
			}
			var out struct {
				Text string `json:"text"`
			}
			if err := errors.Join(json.Unmarshal(v.Input, &in), unmarshal(v.Output, &out)); err != nil {
				t.Fatal(err)
			}
			// The key comes to the implementation as it does to servers.
			wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &priv.PublicKey, in.Key, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, key, err := wire.Open(suite.SealWith(in.Key, wrapped, nil).JSON(), wire.Limits{}, priv)
			if err != nil {
				t.Fatal(err)
			}
			text, err := key.Open([]byte(in.Envelope), wire.Limits{})
			var e *wire.Error
			switch {
			case v.Valid && (err != nil || string(text) != out.Text):
				t.Errorf("got %q, %v", text, err)
			case !v.Valid && (!errors.As(err, &e) || string(e.Reason) != v.Reason):
				t.Errorf("got %v, want %s", err, v.Reason)
			}
			read, err := suite.Read([]byte(in.Envelope))
			if err == nil && read.Key == nil {
				text, err = read.Open(in.Key)
			} else if err == nil {
				err = errors.New("an answer with a key")
			}
			if v.Valid != (err == nil) || v.Valid && string(text) != out.Text {
				t.Errorf("the suite: %q, %v", text, err)
			}
		})
	}
}

// TestBindingVectors: report data, leaf and root.
func TestBindingVectors(t *testing.T) {
	all := vectors.Group("aicc-binding")
	if len(all) == 0 {
		t.Fatal("there are none")
	}
	for _, v := range all {
		var in struct {
			Nonce string      `json:"nonce"`
			PEM   string      `json:"pem"`
			Left  vectors.Hex `json:"left"`
			Right vectors.Hex `json:"right"`
		}
		var out struct {
			ReportData vectors.Hex `json:"report_data"`
			Leaf       vectors.Hex `json:"leaf"`
			Root       vectors.Hex `json:"root"`
		}
		if err := errors.Join(json.Unmarshal(v.Input, &in), json.Unmarshal(v.Output, &out)); err != nil {
			t.Fatal(err)
		}
		binding := evidence.Binding(in.Nonce, in.PEM)
		leaf := evidence.Leaf(binding)
		root, proof := evidence.Prove([][64]byte{[64]byte(in.Left), leaf, [64]byte(in.Right)}, 1)
		if !bytes.Equal(binding[:], out.ReportData) || !bytes.Equal(leaf[:], out.Leaf) || !bytes.Equal(root[:], out.Root) {
			t.Errorf("%s: %x, %x, %x", v.ID, binding, leaf, root)
		}
		if err := proof.Verify(leaf, [64]byte(out.Root)); err != nil {
			t.Errorf("%s: %v", v.ID, err)
		}
	}
}

func unmarshal(v []byte, to any) error {
	if v == nil {
		return nil
	}
	return json.Unmarshal(v, to)
}
