package aicc

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// maxPath bounds a proof: a tree of 2⁶³ leaves is 63 nodes high.
const maxPath = 64

// A Proof shows that a leaf is in a tree with the shape of RFC 6962: each inner
// node has on its left the largest full tree that leaves something for its right.
// On the wire:
//
//	{"metadata": {"algorithm": "sha512", "security": true, "size": 5},
//	 "rule": [0, 1, 0], "subset": [], "path": ["<leaf>", "<sibling>", "<sibling>"]}
//
// rule[i] is 0 when the node that path[0] to path[i] lead to is a left child, 1
// when it is a right one; the last, of the root, is 0.
type Proof struct {
	Size uint64 // leaves of the tree
	Rule []byte
	Path [][64]byte // leaf first
}

// ParseProof reads a proof. Its algorithm is SHA-512 with prefixes for leaves and
// nodes: the proof doesn't choose.
func ParseProof(v jsontext.Value) (*Proof, error) {
	p := &Proof{}
	seen := map[string]bool{}
	need := func(name string, kind jsontext.Kind, val jsontext.Value) error {
		seen[name] = true
		if val.Kind() != kind {
			return fmt.Errorf("%s is of the wrong type", name)
		}
		return nil
	}
	if v.Kind() != '{' {
		return nil, errors.New("not an object")
	}
	err := jsonrpc.Members(v, func(name string, val jsontext.Value) error {
		switch name {
		case "metadata":
			if err := need(name, '{', val); err != nil {
				return err
			}
			return p.metadata(val)
		case "rule":
			if err := need(name, '[', val); err != nil {
				return err
			}
			var err error
			p.Rule, err = bitList(name, val)
			return err
		case "subset": // of proofs of consistency
			if err := need(name, '[', val); err != nil {
				return err
			}
			_, err := bitList(name, val)
			return err
		case "path":
			if err := need(name, '[', val); err != nil {
				return err
			}
			return p.path(val)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"metadata", "rule", "path"} {
		if !seen[name] {
			return nil, fmt.Errorf("%s is missing", name)
		}
	}
	return p, p.check()
}

func (p *Proof) metadata(v jsontext.Value) error {
	members := 0
	err := jsonrpc.Members(v, func(name string, val jsontext.Value) error {
		members++
		switch name {
		case "algorithm":
			if s, _ := jsonrpc.Text(val); s != "sha512" {
				return fmt.Errorf("the algorithm is %.40q; only sha512 is taken", s)
			}
		case "security":
			if string(val) != "true" {
				return errors.New("security is not true: without prefixes a leaf and a node can't be told apart")
			}
		case "size":
			n, err := strconv.ParseUint(string(val), 10, 63)
			if err != nil || n == 0 {
				return fmt.Errorf("size is %.40q; want the number of leaves", string(val))
			}
			p.Size = n
		default:
			return fmt.Errorf("metadata has an unknown member %.40q", name)
		}
		return nil
	})
	if err == nil && members != 3 {
		err = errors.New("metadata lacks algorithm, security or size")
	}
	return err
}

func bitList(name string, v jsontext.Value) (out []byte, err error) {
	err = jsonrpc.Elements(v, func(e jsontext.Value) error {
		if len(out) == maxPath {
			return fmt.Errorf("%s has more than %d elements", name, maxPath)
		}
		switch string(e) {
		case "0":
			out = append(out, 0)
		case "1":
			out = append(out, 1)
		default:
			return fmt.Errorf("%s has the element %.20q; want 0 or 1", name, string(e))
		}
		return nil
	})
	return out, err
}

func (p *Proof) path(v jsontext.Value) error {
	return jsonrpc.Elements(v, func(e jsontext.Value) error {
		if len(p.Path) == maxPath {
			return fmt.Errorf("path has more than %d elements", maxPath)
		}
		s, _ := jsonrpc.Text(e)
		b, err := hex.DecodeString(s)
		if err != nil || len(b) != 64 {
			return fmt.Errorf("path has the element %.40q; want 128 hexadecimal digits", s)
		}
		p.Path = append(p.Path, [64]byte(b))
		return nil
	})
}

// split is how many of n > 1 leaves stand on the left.
func split(n uint64) uint64 { return 1 << (bits.Len64(n-1) - 1) }

// check reports whether rule and path are those of a leaf in a tree of that size.
func (p *Proof) check() error {
	if len(p.Path) == 0 || len(p.Path) != len(p.Rule) {
		return fmt.Errorf("%d rules for a path of %d", len(p.Rule), len(p.Path))
	}
	top := len(p.Rule) - 1
	if p.Rule[top] != 0 {
		return errors.New("the last rule, that of the root, is not 0")
	}
	n := p.Size
	for i := top - 1; i >= 0; i-- {
		if n < 2 {
			return fmt.Errorf("the path is longer than a tree of %d leaves is high", p.Size)
		}
		k := split(n)
		if p.Rule[i] == 0 {
			n = k
		} else {
			n -= k
		}
	}
	if n != 1 {
		return fmt.Errorf("the path ends above the leaves of a tree of %d", p.Size)
	}
	return nil
}

// Verify reports whether the leaf is in the tree with that root.
func (p *Proof) Verify(leaf, root [64]byte) error {
	if err := p.check(); err != nil {
		return err
	}
	if p.Path[0] != leaf {
		return errors.New("the proof is for another leaf than that of the nonce and the key")
	}
	got := leaf
	for i, sibling := range p.Path[1:] {
		if p.Rule[i] == 0 {
			got = parent(got, sibling)
		} else {
			got = parent(sibling, got)
		}
	}
	if got != root {
		return errors.New("the path does not lead to the report data")
	}
	return nil
}

// Prove makes the tree of the leaves, of which there is at least one, and the
// proof for the leaf at i.
func Prove(leaves [][64]byte, i int) (root [64]byte, p *Proof) {
	p = &Proof{Size: uint64(len(leaves))}
	root = p.prove(leaves, i, 0)
	return root, p
}

// prove returns the root of leaves; with i within, it adds the path from there.
func (p *Proof) prove(leaves [][64]byte, i int, bit byte) (root [64]byte) {
	within := i >= 0 && i < len(leaves)
	if len(leaves) <= 1 {
		if len(leaves) == 1 {
			root = leaves[0]
		}
		if within {
			p.Rule, p.Path = append(p.Rule, bit), append(p.Path, root)
		}
		return root
	}
	k := int(split(uint64(len(leaves))))
	left, right := p.prove(leaves[:k], i, 0), p.prove(leaves[k:], i-k, 1)
	if within {
		sibling := right
		if i >= k {
			sibling = left
		}
		p.Rule, p.Path = append(p.Rule, bit), append(p.Path, sibling)
	}
	return parent(left, right)
}

// Encode writes the proof in JSON.
func (p *Proof) Encode() []byte {
	b := fmt.Appendf(nil, `{"metadata":{"algorithm":"sha512","security":true,"size":%d},"rule":[`, p.Size)
	for i, r := range p.Rule {
		b = strconv.AppendUint(comma(b, i), uint64(r), 10)
	}
	b = append(b, `],"subset":[],"path":[`...)
	for i, h := range p.Path {
		b = append(hex.AppendEncode(append(comma(b, i), '"'), h[:]), '"')
	}
	return append(b, "]}"...)
}

func comma(b []byte, i int) []byte {
	if i > 0 {
		b = append(b, ',')
	}
	return b
}
