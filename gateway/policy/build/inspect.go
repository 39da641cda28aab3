package build

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/rego"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
	"github.com/trustedmcp/tmcp/policy-wasm/wapc"
)

// A Kind is the ABI that a module was made for.
type Kind string

// Kinds.
const (
	KindPolicy Kind = "tmcp"
	KindRego   Kind = "rego" // OPA's
	KindWaPC   Kind = "wapc" // Kubewarden's
)

// A Report is what a module says of itself, and what stands in it. All texts
// are the module's own: escape them before people see them.
type Report struct {
	Digest   string    `json:"digest"` // SHA-256, hex
	Size     int       `json:"size"`   // bytes
	Kind     Kind      `json:"kind"`
	Metadata *Metadata `json:"metadata"` // nil: none that can be read
	Imports  []string  `json:"imports"`  // module.name
	Exports  []string  `json:"exports"`
	Custom   []string  `json:"custom_sections"`
	Limits   []Limit   `json:"limits"`

	// What a host found that loaded it.
	Accepted  bool                `json:"accepted"`
	Refused   *policywasm.Failure `json:"refused,omitempty"`
	Fix       string              `json:"fix,omitempty"` // how a refusal can be helped
	Floats    bool                `json:"floats"`        // computes with floating-point numbers
	StartFuel uint64              `json:"start_fuel"`    // that an instance takes before it is asked
}

// Metadata is [policywasm.Metadata] as JSON.
type Metadata struct {
	ABI         uint64              `json:"abi"`
	Name        string              `json:"name"`
	Version     string              `json:"version"`
	Author      string              `json:"author"`
	Licence     string              `json:"licence"`
	Entries     []policywasm.Entry  `json:"entries"`
	Encoding    policywasm.Encoding `json:"encoding"`
	Inputs      []string            `json:"inputs"`
	Fuel        uint64              `json:"fuel"`
	Pages       uint64              `json:"pages"`
	Development bool                `json:"development"`
}

// A Limit is how much of what is allowed a module uses.
type Limit struct {
	What string `json:"what"`
	Used uint64 `json:"used"`
	Most uint64 `json:"most"`
}

// Inspect takes a module apart, and tries to load it under caps. It never fails:
// what is wrong stands in the report.
func Inspect(ctx context.Context, module []byte, caps policywasm.Caps) *Report {
	digest := sha256.Sum256(module)
	r := &Report{Digest: hex.EncodeToString(digest[:]), Size: len(module), Kind: KindOf(module), Imports: []string{}, Exports: []string{}, Custom: []string{}, Limits: []Limit{}}
	r.parts(module, caps.Scan)
	p, err := Load(ctx, module, caps)
	if err != nil {
		r.Refused, r.Fix = failure(err), fix(err)
		return r
	}
	defer p.Close(ctx)
	r.Accepted, r.Floats, r.StartFuel = true, p.Floats(), p.StartFuel()
	r.Limits = append(r.Limits, Limit{"cost of compiling", uint64(p.Cost()), uint64(caps.Scan.TotalCost)}, Limit{"fuel before it is asked", p.StartFuel(), caps.Fuel})
	return r
}

func failure(err error) *policywasm.Failure {
	var f *policywasm.Failure
	if errors.As(err, &f) {
		return f
	}
	return policywasm.NewFailure(policywasm.ReasonInvalid, err.Error())
}

// parts reads what stands in the sections, as far as they are well-formed.
func (r *Report) parts(module []byte, most scan.Limits) {
	all, err := sections(module)
	limit := func(what string, used, most uint64) { r.Limits = append(r.Limits, Limit{what, used, most}) }
	limit("bytes of the module", uint64(len(module)), uint64(most.Module))
	if err != nil {
		return
	}
	for i := range all {
		s := &all[i]
		c := &cursor{b: s.payload}
		switch s.id {
		case 0:
			name, content, _ := s.custom()
			if name == scan.Metadata && r.Metadata == nil {
				if m, err := policywasm.ParseMetadata(content); err == nil {
					v := Metadata(*m)
					r.Metadata = &v
				}
			}
			if len(r.Custom) < 100 {
				r.Custom = append(r.Custom, name)
			}
		case 1:
			limit("function types", c.number(), uint64(most.Types))
		case 2:
			n := c.number()
			limit("imports", n, uint64(most.Imports))
			for i := uint64(0); i < n && !c.bad && len(r.Imports) < most.Imports; i++ {
				name := c.name() + "." + c.name()
				if c.importType(); !c.bad {
					r.Imports = append(r.Imports, name)
				}
			}
		case 3:
			limit("functions", c.number(), uint64(most.Functions))
		case 5:
			if c.number(); len(c.b) > 0 {
				bounded := c.byte()&1 == 1
				start, end := c.number(), uint64(most.Pages)
				limit("pages of memory at the start", start, uint64(most.Pages))
				if bounded {
					end = min(end, c.number())
				}
				limit("pages of memory in the end, at most", end, uint64(most.Pages))
			}
		case 6:
			limit("globals", c.number(), uint64(most.Globals))
		case 7:
			n := c.number()
			limit("exports", n, uint64(most.Exports))
			for i := uint64(0); i < n && !c.bad && len(r.Exports) < most.Exports; i++ {
				name := c.name()
				c.byte()
				if c.number(); !c.bad {
					r.Exports = append(r.Exports, name)
				}
			}
		case 10:
			largest := uint64(0)
			for i, n := uint64(0), c.number(); i < n && !c.bad; i++ {
				size := c.number()
				c.skip(size)
				largest = max(largest, size)
			}
			limit("bytes of the largest function", largest, uint64(most.Body))
		case 11:
			limit("data segments", c.number(), uint64(most.Data))
		}
	}
}

// KindOf tells what ABI a module was made for.
func KindOf(module []byte) Kind {
	switch {
	case rego.Is(module):
		return KindRego
	case wapc.Is(module):
		return KindWaPC
	}
	return KindPolicy
}

// A cursor reads a section. What it reads after the end is zero.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) number() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.bad = true
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *cursor) skip(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.bad, c.b = true, nil
		return nil
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) name() string { return string(c.skip(c.number())) }

// importType skips what an import is.
func (c *cursor) importType() {
	limits := func() {
		bounded := c.byte()&1 == 1
		if c.number(); bounded {
			c.number()
		}
	}
	switch c.byte() {
	case 0:
		c.number()
	case 1:
		c.byte()
		limits()
	case 2:
		limits()
	case 3:
		c.byte()
		c.byte()
	default:
		c.bad = true
	}
}

// fixes say how an author helps what a host refuses.
var fixes = map[string]string{
	policywasm.ReasonInvalid:   "the compiler's output is no valid core module: look whether a component, or a module of another version, was built",
	policywasm.ReasonProfile:   "the profile is WebAssembly 1.0 with sign extension, saturating truncation and memory.copy and fill: turn other features off, for LLVM with -mcpu=mvp and the features that are allowed",
	policywasm.ReasonLimit:     "the module is larger or costlier than hosts take: build for size (-Oz, opt-level=z), leave out libraries, split large functions",
	policywasm.ReasonMemory:    "the memory begins larger than hosts give: make the stack smaller (-z stack-size=65536), and do not reserve memory",
	policywasm.ReasonImport:    "policies import nothing but the log of tmcp_1, and what Go needs of WASI: leave out what reads clocks, files, randomness or the environment",
	policywasm.ReasonExport:    "export what the SDK's entry points export: is the SDK linked in, and are its exports kept?",
	policywasm.ReasonSignature: "an export has another type than spec section 20.3 says: use the SDK's entry points as they are",
	policywasm.ReasonMetadata:  "look at " + ManifestFile + ", and build again with: tmcp policy build",
	policywasm.ReasonTrap:      "the module traps before it is asked: look at what runs at its start",
	policywasm.ReasonFuel:      "the module uses up its fuel before it is asked: do less at its start",
}

func fix(err error) string { return fixes[failure(err).Reason] }

// A RefusedError is a module that a host would not take.
type RefusedError struct{ Failure *policywasm.Failure }

func (e *RefusedError) Error() string {
	s := "hosts would refuse the module: " + e.Failure.Error()
	if f := fix(e.Failure); f != "" {
		s += fmt.Sprintf("\nTo fix it: %s", f)
	}
	return s
}
func (e *RefusedError) Unwrap() error { return e.Failure }
