// Package policies has the policies that ship with tmcp: modules, with the
// sources in AssemblyScript that they are compiled from.
//
// [Names] lists them, [Describe] says what each is for, and [Module] gives what
// [policywasm.Load] takes. They are read as any other policy is, and can do no
// more.
package policies

import (
	"embed"
	"slices"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
)

//go:generate go run ./gen

//go:embed *.wasm
var modules embed.FS

//go:embed src/*.ts
var sources embed.FS

// A Policy says what a policy is for.
type Policy struct {
	Name        string
	Description string // one sentence
	Settings    []Setting
	Entries     []policywasm.Entry
	Inputs      []string // members of the document that it reads, as JSON pointers
	Development bool     // it is for simulated TEEs, and only for them
}

// A Setting is one member of the settings.
type Setting struct {
	Name        string
	Type        string // as in "list of texts"
	Default     string // in JSON; "": none
	Description string
}

var (
	appraise  = []policywasm.Entry{policywasm.Appraise}
	authorize = []policywasm.Entry{policywasm.Authorize}
	evidence  = []string{"/settings", "/peer/alone", "/devices"}
)

// all are the policies that there are, sorted by name.
var all = []Policy{
	{
		Name:        "allow-list",
		Description: "Genuine TEEs with firmware that is up to date, whose code is listed by its measurements or by the manifests that it matches.",
		Entries:     appraise, Inputs: evidence,
		Settings: []Setting{
			{"claims", "object of lists of texts", "", "for a claim such as tdx.mrtd the values that are accepted: hex, text, decimal, true or false; claims of other kinds of TEE are not looked at"},
			{"tags", "list of texts", "", "manifests of reference values, one of which a CPU's TEE must match"},
			{"platforms", "list of texts", "", "machines, by their id in hex"},
		},
	},
	{
		Name:        "gpu-required",
		Description: "All that strict demands, and at least one GPU whose evidence is bound to the CPU's.",
		Entries:     appraise, Inputs: evidence,
		Settings: []Setting{{"gpus", "integer, 1 to 16", "1", "how many GPUs at least"}},
	},
	{
		Name:        "organisation",
		Description: "Peers of my organisation, by identity or identity key; of evidence it says nothing, so use it beside another policy.",
		Entries:     []policywasm.Entry{policywasm.Appraise, policywasm.Authorize},
		Inputs:      []string{"/settings", "/peer/identity", "/peer/thumbprint", "/peer/profile"},
		Settings: []Setting{
			{"identities", "list of texts", "", "URIs: this identity, and those below it"},
			{"hosts", "list of texts", "", "https identities of this host"},
			{"domains", "list of texts", "", "https identities of this host and of those below it"},
			{"trust_domains", "list of texts", "", "spiffe identities of this trust domain"},
			{"thumbprints", "list of texts", "", "identity keys, by their thumbprint in base64url"},
		},
	},
	{
		Name:        "simulated",
		Description: "For development: simulated TEEs only, with any code in them.",
		Entries:     appraise, Inputs: evidence,
		Development: true,
	},
	{
		Name:        "strict",
		Description: "Genuine TEEs that nobody can look into, with firmware that is up to date and code that matches reference values.",
		Entries:     appraise, Inputs: evidence,
	},
	{
		Name:        "tcb-grace",
		Description: "All that strict demands, but firmware may be out of date for some days.",
		Entries:     appraise, Inputs: append([]string{"/time"}, evidence...),
		Settings: []Setting{{"days", "integer, 0 to 3650", "30", "how many days after the first newer version was dated"}},
	},
	{
		Name:        "tools",
		Description: "Which tools a peer may call, by what it proved of itself.",
		Entries:     authorize,
		Inputs:      []string{"/settings", "/peer/profile", "/devices", "/call/kind", "/call/method", "/call/name"},
		Settings: []Setting{
			{"tools", "object", "{}", `for each tool anyone, identity or attested, or an object with "peer" (one of them), "kinds" and "claims" of one TEE of the peer, "gpu" and "audit"`},
			{"others", "as a tool's, or deny", `"deny"`, "what tools demand that are not listed"},
		},
	},
}

// Names are the names of the policies, sorted.
func Names() []string {
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
	}
	return names
}

// Describe says what a policy is for. ok is false for a name that is not known.
func Describe(name string) (p Policy, ok bool) {
	i := slices.IndexFunc(all, func(p Policy) bool { return p.Name == name })
	if i < 0 {
		return Policy{}, false
	}
	return all[i], true
}

// Module is the policy as a module, with its metadata.
func Module(name string) ([]byte, bool) {
	b, err := modules.ReadFile(name + ".wasm")
	return b, err == nil
}

// Source is the main file that the module was compiled from. What it has in
// common with others stands beside it, in device.ts and settings.ts, and the SDK.
func Source(name string) (string, bool) {
	if _, ok := Describe(name); !ok {
		return "", false
	}
	b, err := sources.ReadFile("src/" + name + ".ts")
	return string(b), err == nil
}

// Version is that of all policies together.
const Version = "1.0.0"

// Metadata is what the module says of itself.
func (p *Policy) Metadata() *policywasm.Metadata {
	return &policywasm.Metadata{
		ABI: policywasm.ABI, Name: p.Name, Version: Version, Author: "Trusted MCP", Licence: "Apache-2.0",
		Entries: p.Entries, Encoding: policywasm.CBOR, Inputs: p.Inputs, Development: p.Development,
	}
}
