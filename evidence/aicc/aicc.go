// Package aicc verifies what the attestation service of AICC Trusted MCP answers
// (profile aicc-0.1, specification chapter 23): for each node of a service the
// evidence, a token about it, and the RSA key that clients seal to. Call
// [ParseAnswer] on the body of an answer, and [Verify] on each node.
//
// The published client takes such a key when the token says the right words,
// whoever signed it. Here a key counts only if a pinned key signed the token,
// the token is in force and about the nonce of this very question, and the report
// data that the token tells is that of the nonce and the key, directly or through
// a Merkle proof. Even then it is the service's word about a quote: who has a
// quote to look at finds it in [Result.Quote].
package aicc

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/evidence/internal/jose"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// Limits of an answer.
const (
	MaxAnswer = 1 << 20 // bytes
	maxDepth  = 32
	maxNodes  = 64
	maxName   = 256 // bytes of a node's name
)

// Issuer is the iss of the service's tokens.
const Issuer = "Bytedance-Remote-Attestation-Service"

// Binding is the report data for a nonce and a public key in PEM, byte for byte
// as the service tells it:
//
//	SHA-256(nonce) (32) | SHA-256(pem) (32)
//
// Without a key the second half is zeros.
func Binding(nonce, pem string) (rd [64]byte) {
	n := sha256.Sum256([]byte(nonce))
	copy(rd[:], n[:])
	if pem != "" {
		k := sha256.Sum256([]byte(pem))
		copy(rd[32:], k[:])
	}
	return rd
}

// Leaf is the leaf of a Merkle tree for a binding:
//
//	SHA-512(0x00 | binding in lower-case hexadecimal (128))
func Leaf(binding [64]byte) [64]byte {
	return sha512.Sum512(hex.AppendEncode([]byte{0}, binding[:]))
}

// parent is SHA-512(0x01 | left (64) | right (64)).
func parent(left, right [64]byte) [64]byte {
	var b [129]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[65:], right[:])
	return sha512.Sum512(b[:])
}

// A Node is what the service says of one node. Nothing in it is verified.
type Node struct {
	Name     string
	Evidence string // JSON; see [ParseEvidence]
	Token    string // compact JWT
	PEM      string // of the RSA key to seal to; "" when none was asked for
}

// ParseAnswer reads the service's answer, {"Result": {name: node}}.
func ParseAnswer(body []byte) ([]Node, error) {
	if err := jose.CheckLimits(body, MaxAnswer, maxDepth); err != nil {
		return nil, err
	}
	if m := jsonrpc.Get(body, "ResponseMetadata", "Error"); m != nil && m.Kind() == '{' {
		code, _ := jsonrpc.Text(jsonrpc.Get(m, "Code"))
		msg, _ := jsonrpc.Text(jsonrpc.Get(m, "Message"))
		return nil, fmt.Errorf("the service refuses: %.80q %.200q", code, msg)
	}
	return parseNodes(jsonrpc.Get(body, "Result"), "Result")
}

// ParseLocal reads the answer of a server that is asked itself ("ra_type":
// "local"), {"ResponseMetadata": {"Code": 0}, "ResponseResult": {name: node}}.
func ParseLocal(body []byte) ([]Node, error) {
	if err := jose.CheckLimits(body, MaxAnswer, maxDepth); err != nil {
		return nil, err
	}
	if code := jsonrpc.Get(body, "ResponseMetadata", "Code"); string(code) != "0" {
		msg, _ := jsonrpc.Text(jsonrpc.Get(body, "ResponseMetadata", "Message"))
		return nil, fmt.Errorf("the server refuses: code %.20q, %.200q", string(code), msg)
	}
	return parseNodes(jsonrpc.Get(body, "ResponseResult"), "ResponseResult")
}

func parseNodes(v jsontext.Value, member string) ([]Node, error) {
	if v == nil || v.Kind() != '{' {
		return nil, fmt.Errorf("the answer has no object %q", member)
	}
	var nodes []Node
	err := jsonrpc.Members(v, func(name string, val jsontext.Value) error {
		if len(nodes) == maxNodes {
			return fmt.Errorf("more than %d nodes", maxNodes)
		}
		if len(name) > maxName {
			return fmt.Errorf("a node's name has %d bytes; at most %d are read", len(name), maxName)
		}
		n := Node{Name: name}
		if val.Kind() != '{' {
			return fmt.Errorf("node %q is no object", name)
		}
		for _, m := range []struct {
			to   *string
			path []string
		}{{&n.Evidence, []string{"evidence"}}, {&n.Token, []string{"token"}}, {&n.PEM, []string{"key_info", "pub_key_info"}}} {
			x := jsonrpc.Get(val, m.path...)
			if x == nil || x.Kind() == 'n' {
				continue
			}
			s, ok := jsonrpc.Text(x)
			if !ok {
				return fmt.Errorf("node %q: %s is no text", name, m.path[len(m.path)-1])
			}
			*m.to = s
		}
		nodes = append(nodes, n)
		return nil
	})
	if err == nil && len(nodes) == 0 {
		err = errors.New("the answer names no node")
	}
	if err != nil {
		return nil, err
	}
	return nodes, nil
}

// Evidence is what is known of a node's evidence: a JSON object in a string.
type Evidence struct {
	Proof *Proof // nil: the report data are the binding itself
	// Quote is a DCAP quote, from tdx.quote in base64; nil when there is none. Where
	// the service puts its quotes is not published, so it is read where our own
	// stand-in and servers put it.
	Quote []byte
}

// ParseEvidence reads a node's evidence.
func ParseEvidence(text string) (*Evidence, error) {
	b := []byte(text)
	if err := jose.Check(b); err != nil {
		return nil, err
	}
	e := &Evidence{}
	if p := jsonrpc.Get(b, "proof"); p != nil && p.Kind() != 'n' {
		var err error
		if e.Proof, err = ParseProof(p); err != nil {
			return nil, fmt.Errorf("proof: %w", err)
		}
	}
	if q := jsonrpc.Get(b, "tdx", "quote"); q != nil {
		s, ok := jsonrpc.Text(q)
		if !ok {
			return nil, errors.New("tdx.quote is no text")
		}
		var err error
		if e.Quote, err = base64.StdEncoding.Strict().DecodeString(s); err != nil {
			return nil, fmt.Errorf("tdx.quote: %w", err)
		}
	}
	return e, nil
}
