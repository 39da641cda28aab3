package policy

import (
	"strings"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
)

// requirementOf says which requirement a hostile module with that reason tries.
func requirementOf(k *corpus.Case) string {
	switch k.Want {
	case policywasm.ReasonInvalid:
		return "TMCP-20.2-1"
	case policywasm.ReasonProfile:
		return "TMCP-20.2-2"
	case policywasm.ReasonLimit:
		return "TMCP-20.2-3"
	case policywasm.ReasonMemory:
		if k.Load {
			return "TMCP-20.2-4"
		}
	case policywasm.ReasonImport:
		if strings.Contains(k.Name, "wasi") || k.Name == "import-unknown" {
			return "TMCP-20.3-5"
		}
		return "TMCP-20.3-1"
	case policywasm.ReasonExport:
		return "TMCP-20.3-2"
	case policywasm.ReasonSignature:
		return "TMCP-20.3-3"
	case policywasm.ReasonABI:
		if k.Name == "abi-function" {
			return "TMCP-20.3-4"
		}
		return "TMCP-20.4-2"
	case policywasm.ReasonMetadata:
		return "TMCP-20.4-1"
	case policywasm.ReasonEntry:
		return "TMCP-20.4-4"
	case policywasm.ReasonFuel:
		return "TMCP-20.7-2"
	case policywasm.ReasonDepth:
		return "TMCP-20.2-7"
	case policywasm.ReasonAllocate:
		return "TMCP-20.3-11"
	case policywasm.ReasonOutput:
		return "TMCP-20.6-1"
	case policywasm.ReasonOversize:
		return "TMCP-20.6-2"
	case policywasm.ReasonContradiction:
		return "TMCP-20.6-3"
	case policywasm.ReasonObligation:
		return "TMCP-20.6-4"
	}
	return "TMCP-20.8-1"
}

// twins are the good policies that differ less from a hostile module than the
// least one does.
var twins = map[string]string{
	"module-large": "edge-module", "locals-4g": "edge-locals", "locals-sum": "edge-locals", "locals-1m": "edge-locals", "params-many": "edge-params",
	"functions-many": "edge-functions", "globals-many": "edge-globals", "body-long": "edge-body", "nesting-deep": "edge-nesting", "nesting": "edge-nesting",
	"br-table": "edge-targets", "br-tables": "edge-targets", "loops": "edge-cost", "loops-nested": "edge-loops", "loops-deep": "edge-loops",
	"ifs": "edge-cost", "ifs-fewer": "edge-cost", "ifs-many": "edge-cost", "exports-many": "edge-exports", "table-10m": "edge-table", "elements-many": "edge-elements",
	"name-long": "edge-name", "metadata-large": "edge-metadata", "memory-4g": "edge-memory", "memory-65m": "edge-memory",
	"recursion": "edge-depth", "recursion-frames": "edge-frames", "recursion-operands": "edge-frames", "recursion-indirect": "edge-depth",
	"output-oversize": "edge-result", "output-4g": "edge-result", "allocate-zero": good,
}

// hostileVectors are the modules of package corpus.
func hostileVectors() []vector {
	var out []vector
	for _, k := range corpus.Cases() {
		twin := twins[k.Name]
		if twin == "" {
			twin = good
		}
		out = append(out, vector{name: "hostile-" + k.Name, req: requirementOf(&k), title: k.Why, twin: twin, reason: k.Want,
			make: func() Request { return ask(k.Module(), "appraise", `{"debug":false}`) }})
	}
	return out
}
