package protocol

import (
	"bytes"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// A Tool names a tool as its own server knows it, whatever a gateway renamed
// it to (inline carrier), and pins its definition.
type Tool struct {
	Name   string
	Digest Digest // of the definition; see ToolDigest
}

// JSON is the tool as it stands in _meta["org.trustedmcp/tool"].
func (t *Tool) JSON() []byte {
	b := append([]byte(`{"name":`), jsonrpc.Quote(t.Name)...)
	return append(b, `,"digest":"`+Base64(t.Digest[:])+`"}`...)
}

// ParseTool reads what [Tool.JSON] writes.
func ParseTool(v jsontext.Value) (*Tool, error) {
	name, ok := jsonrpc.Text(jsonrpc.Get(v, "name"))
	text, ok2 := jsonrpc.Text(jsonrpc.Get(v, "digest"))
	d, err := ParseBase64(text)
	if !ok || !ok2 || err != nil || len(d) != len(Digest{}) {
		return nil, fail(MalformedContent, "tool: want {name, digest (32 bytes, base64url)}")
	}
	return &Tool{Name: name, Digest: Digest(d)}, nil
}

// ToolDigest pins one tool definition of one server: SHA-256 over the
// deterministic CBOR array [label "tool", identity, definition without _meta].
// The identity is in it so that equal definitions of two servers differ.
func ToolDigest(identity string, definition jsontext.Value) (Digest, error) {
	if err := jsonrpc.Check(definition, jsonrpc.Limits{}); err != nil {
		return Digest{}, fail(MalformedContent, "tool definition: %v", err)
	}
	var stripped []byte
	n := 0
	err := jsonrpc.Members(definition, func(name string, val jsontext.Value) error {
		if name == "_meta" {
			return nil
		}
		if n++; n > 1 {
			stripped = append(stripped, ',')
		}
		stripped = append(append(append(stripped, jsonrpc.Quote(name)...), ':'), val...)
		return nil
	})
	if err != nil {
		return Digest{}, fail(MalformedContent, "tool definition: %v", err)
	}
	b := dcbor.AppendArray(nil, 3)
	b = dcbor.AppendText(b, labelTool)
	b = dcbor.AppendText(b, identity)
	b, err = dcbor.FromJSON(b, slices.Concat([]byte{'{'}, stripped, []byte{'}'}))
	if err != nil {
		return Digest{}, fail(MalformedContent, "tool definition: %v", err)
	}
	return digest(b), nil
}

// ToolSetDigest pins a whole set of tools: SHA-256 over the deterministic CBOR
// array [label "tools", identity, [[name, digest], …]], sorted by name.
// Renaming a tool changes it, as does adding or removing one.
//
// TMCP-5.7-1: A client that verified a key object with a tool-set digest MUST refuse a tool
// listing whose digest differs
func ToolSetDigest(identity string, tools []Tool) Digest {
	sorted := slices.SortedFunc(slices.Values(tools), func(a, b Tool) int {
		if c := bytes.Compare([]byte(a.Name), []byte(b.Name)); c != 0 {
			return c
		}
		return bytes.Compare(a.Digest[:], b.Digest[:])
	})
	b := dcbor.AppendArray(nil, 3)
	b = dcbor.AppendText(b, labelTools)
	b = dcbor.AppendText(b, identity)
	b = dcbor.AppendArray(b, len(sorted))
	for _, t := range sorted {
		b = dcbor.AppendArray(b, 2)
		b = dcbor.AppendText(b, t.Name)
		b = dcbor.AppendBytes(b, t.Digest[:])
	}
	return digest(b)
}
