package schema

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

var (
	trustDefs = sync.OnceValues(func() (map[string]*node, error) {
		return compileDefs(files, "trust/trust.json", []string{"Settings", "ClientMessage", "ServerMessage", "ErrorData"})
	})
	ledgerDefs = sync.OnceValues(func() (map[string]*node, error) {
		return compileDefs(files, "trust/ledger.json", []string{"Ledger"})
	})
)

// ValidateSettings checks a settings object: the value of
// capabilities.extensions["org.trustedmcp/trust"] (section 4.2). An invalid
// one gives an [*Error].
func ValidateSettings(data []byte) error {
	return validate(trustDefs, "Settings", "settings object", data)
}

// ValidateOuter checks what a JSON-RPC message carries of the extension
// outside of frames (chapters 4, 7 and 10): trust/call, trust/attest and their
// results, notifications/trust/frame, the settings and key object in
// initialize and server/discover, the inline carrier's tools/call and
// tools/list, the extension's _meta keys and its errors. A message that
// carries nothing of the extension passes; check it, and the MCP around what
// this function looks at, with [ValidateMCP]. dir says who sent it. An invalid
// message gives an [*Error].
func ValidateOuter(dir Direction, data []byte) error {
	switch dir {
	case ClientToServer:
		return validate(trustDefs, "ClientMessage", "outer message of a client", data)
	case ServerToClient:
		return validate(trustDefs, "ServerMessage", "outer message of a server", data)
	}
	return fmt.Errorf("schema: %v is neither ClientToServer nor ServerToClient", dir)
}

// ValidateErrorData checks the error.data of a trust error, from a server or
// local to a client (chapter 10). An invalid one gives an [*Error].
func ValidateErrorData(data []byte) error {
	return validate(trustDefs, "ErrorData", "error data", data)
}

func validate(defs func() (map[string]*node, error), def, shape string, data []byte) error {
	m, err := defs()
	if err != nil {
		return err
	}
	v, perr := decode(shape, data)
	if perr != nil {
		return perr
	}
	w := &walk{}
	w.check(m[def], v)
	if len(w.out) > 0 {
		return &Error{Shape: shape, Violations: w.out, More: w.more}
	}
	return nil
}

// maxLedger bounds the YAML text of a ledger, in bytes.
const maxLedger = jsonrpc.DefaultMaxBytes

// ValidateLedger checks the text of spec/ledger.yaml, and that no requirement
// id stands twice. An invalid one gives an [*Error].
func ValidateLedger(text []byte) error {
	const shape = "requirement ledger"
	m, err := ledgerDefs()
	if err != nil {
		return err
	}
	if len(text) > maxLedger {
		return one(shape, "", "too-large", fmt.Sprintf("has %d bytes, the limit is %d", len(text), maxLedger))
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		e := one(shape, "", "not-yaml", "is no YAML: "+err.Error())
		e.Cause = err
		return e
	}
	v, err := fromYAML(&doc, 0)
	if err != nil {
		e := one(shape, "", "not-yaml", "is no plain YAML: "+err.Error())
		e.Cause = err
		return e
	}
	w := &walk{}
	w.check(m["Ledger"], v)
	uniqueIDs(w, v)
	if len(w.out) > 0 {
		return &Error{Shape: shape, Violations: w.out, More: w.more}
	}
	return nil
}

func uniqueIDs(w *walk, v any) {
	doc, _ := v.(map[string]any)
	reqs, _ := doc["requirements"].([]any)
	seen := make(map[string]bool, len(reqs))
	for i, r := range reqs {
		req, _ := r.(map[string]any)
		id, ok := req["id"].(string)
		if ok && seen[id] {
			w.addAt("requirements", "unique-id", "has %s a second time, at index %d", short(id), i)
		}
		seen[id] = true
	}
}

// fromYAML turns YAML into the values that decode yields. Aliases are refused:
// they let a small text stand for a huge value.
func fromYAML(n *yaml.Node, depth int) (any, error) {
	if depth > jsonrpc.DefaultMaxDepth {
		return nil, fmt.Errorf("line %d: more than %d levels", n.Line, jsonrpc.DefaultMaxDepth)
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return fromYAML(n.Content[0], depth)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, c := range n.Content {
			v, err := fromYAML(c, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if _, dup := m[key.Value]; dup {
				return nil, fmt.Errorf("line %d: key %s stands twice", key.Line, short(key.Value))
			}
			v, err := fromYAML(n.Content[i+1], depth+1)
			if err != nil {
				return nil, err
			}
			m[key.Value] = v
		}
		return m, nil
	case yaml.ScalarNode:
		switch n.Tag {
		case "!!bool":
			var b bool
			err := n.Decode(&b)
			return b, err
		case "!!null":
			return nil, nil
		case "!!int", "!!float":
			var f float64
			err := n.Decode(&f)
			return f, err
		}
		return n.Value, nil
	case yaml.AliasNode:
		return nil, fmt.Errorf("line %d: an alias", n.Line)
	}
	return nil, errors.New("an empty document")
}

// CDDL is the grammar of key objects, frames and contents (RFC 8610), the text
// of trust/trust.cddl.
func CDDL() string {
	b, err := fs.ReadFile(files, "trust/trust.cddl")
	if err != nil {
		return "" // embedded at build time: can't be missing
	}
	return string(b)
}
