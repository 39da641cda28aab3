package schema

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/santhosh-tekuri/jsonschema/v5"
)

// The package that carries MCP's own schema.json of four revisions.
const (
	oraclePackage = "@modelcontextprotocol/conformance"
	oracleVersion = "0.2.0-alpha.12"
)

// oracleSchemas gives MCP's own schemas by revision: those of the official
// conformance suite, installed from its registry into the user's cache, and,
// if TMCP_MCP_SCHEMAS names a directory, <dir>/<revision>/schema.json.
func oracleSchemas(t *testing.T) map[string][]byte {
	t.Helper()
	if os.Getenv("TMCP_INTEROP") != "1" {
		t.Skip("set TMCP_INTEROP=1 to compare with MCP's own schemas (needs npm and node)")
	}
	out := map[string][]byte{}
	var all map[string]map[string]any
	if err := json.Unmarshal(conformanceSchemas(t), &all); err != nil {
		t.Fatal(err)
	}
	for rev, s := range all {
		fixNumberSchema(s)
		out[rev] = marshal(t, s)
	}
	if dir := os.Getenv("TMCP_MCP_SCHEMAS"); dir != "" {
		for _, rev := range Revisions() {
			data, err := os.ReadFile(filepath.Join(dir, rev, "schema.json"))
			if err != nil {
				t.Fatalf("TMCP_MCP_SCHEMAS: %v", err)
			}
			out[rev] = data
		}
	}
	return out
}

// fixNumberSchema does what the official suite does at run time, and MCP has
// done since: the bounds of a number in an elicitation are numbers, which the
// schemas of 2025-06-18 and 2025-11-25 had as integers.
func fixNumberSchema(s map[string]any) {
	for _, key := range []string{"$defs", "definitions"} {
		defs, _ := s[key].(map[string]any)
		n, _ := defs["NumberSchema"].(map[string]any)
		props, _ := n["properties"].(map[string]any)
		for _, k := range []string{"minimum", "maximum", "default"} {
			if p, ok := props[k].(map[string]any); ok {
				p["type"] = "number"
			}
		}
	}
}

func conformanceSchemas(t *testing.T) []byte {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "tmcp", "conformance-"+oracleVersion)
	js := filepath.Join(dir, "index.js")
	if _, err := os.Stat(js); err != nil {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		run(t, dir, "npm", "pack", "--silent", oraclePackage+"@"+oracleVersion)
		found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
		if err != nil || len(found) != 1 {
			t.Fatalf("npm pack left %v in %s (%v)", found, dir, err)
		}
		data := fromTarball(t, found[0], "package/dist/index.js")
		if err := os.WriteFile(js+".part", data, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(js+".part", js); err != nil {
			t.Fatal(err)
		}
	}
	return run(t, ".", "node", "testdata/mcp-schemas.mjs", js)
}

func run(t *testing.T, dir, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, stderr.Bytes())
	}
	return out
}

func fromTarball(t *testing.T, file, member string) []byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(z)
	for {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("%s in %s: %v", member, file, err)
		}
		if h.Name == member {
			data, err := io.ReadAll(io.LimitReader(r, 16<<20))
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
	}
}

// An oracle judges messages by MCP's own schema, as the official suite does.
type oracle struct {
	defs    map[string]*jsonschema.Schema
	methods map[string]string // method → definition
}

func newOracle(t *testing.T, rev string, schema []byte) *oracle {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal(schema, &doc); err != nil {
		t.Fatal(err)
	}
	key := "$defs"
	if _, ok := doc[key]; !ok {
		key = "definitions"
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat = true
	maps.Copy(c.Formats, formats)
	url := "https://modelcontextprotocol.io/" + rev + ".json"
	if err := c.AddResource(url, bytes.NewReader(schema)); err != nil {
		t.Fatal(err)
	}
	o := &oracle{defs: map[string]*jsonschema.Schema{}, methods: map[string]string{}}
	for name, d := range doc[key].(map[string]any) {
		s, err := c.Compile(url + "#/" + key + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		o.defs[name] = s
		props, _ := d.(map[string]any)["properties"].(map[string]any)
		m, _ := props["method"].(map[string]any)
		if method, ok := m["const"].(string); ok && !strings.HasPrefix(name, "Client") {
			o.methods[method] = name
		}
	}
	return o
}

// valid gives the oracle's verdict; a definition that it lacks says nothing.
func (o *oracle) valid(v any, defs ...string) bool {
	for _, d := range defs {
		if s := o.defs[d]; s != nil && s.Validate(v) != nil {
			return false
		}
	}
	return true
}

func (o *oracle) first(names ...string) string {
	for _, n := range names {
		if o.defs[n] != nil {
			return n
		}
	}
	return ""
}

func (o *oracle) message(v any, requestMethod string) bool {
	m, ok := v.(map[string]any)
	if !ok {
		return false
	}
	if method, ok := m["method"]; ok {
		envelope := "JSONRPCNotification"
		if _, hasID := m["id"]; hasID {
			envelope = "JSONRPCRequest"
		}
		name, _ := method.(string)
		def := o.methods[name]
		if strings.HasSuffix(def, "Request") {
			envelope = "JSONRPCRequest"
		}
		return o.valid(v, envelope, def)
	}
	if e, ok := m["error"]; ok {
		obj, _ := e.(map[string]any)
		code, _ := obj["code"].(float64)
		special := map[float64]string{-32020.0: "HeaderMismatchError", -32021.0: "MissingRequiredClientCapabilityError", -32022.0: "UnsupportedProtocolVersionError", -32042.0: "URLElicitationRequiredError"}
		return o.valid(v, o.first("JSONRPCErrorResponse", "JSONRPCError"), special[code])
	}
	if !o.valid(v, o.first("JSONRPCResultResponse", "JSONRPCResponse")) {
		return false
	}
	def := ""
	if req := o.methods[requestMethod]; req != "" {
		def = strings.TrimSuffix(req, "Request") + "Result"
	}
	r, _ := m["result"].(map[string]any)
	kind, isText := r["resultType"].(string)
	switch {
	case o.defs["InputRequiredResult"] == nil: // before resultType
		_, isTask := r["task"]
		_, content := r["content"]
		_, action := r["action"]
		augmented := slices.Contains([]string{"tools/call", "sampling/createMessage", "elicitation/create"}, requestMethod)
		if augmented && isTask && !content && !action && o.defs["CreateTaskResult"] != nil {
			def = "CreateTaskResult" // what the request's task member asked for
		}
	case kind == "input_required":
		def = "InputRequiredResult"
	case isText && kind != "complete":
		def = "" // an extension's: schema.json can't know
	}
	return o.valid(m["result"], def)
}

// A difference is a class of messages on which our verdict is not that of
// MCP's schema.json, and why ours is right by the specification's text.
type difference struct {
	revisions string // "" is all, else those named
	ours      bool   // our verdict
	shape     string // when we refuse: the definition that we used, if it matters
	pointer   string // when we refuse: part of the violation's pointer; else of the mutated one
	rule      string // when we refuse: the violation's rule, if it matters
	why       string
}

const (
	whyMeta  = "prose: the required _meta fields stand on every request, of extensions too"
	whyValue = "schema.ts: a JSONValue may be null or a fraction; schema.json lost both"
	whyOpen  = "schema.json is an open anyOf: an enum that is no list of strings passes as an unknown member of StringSchema"
)

var differences = []difference{
	{"", false, "", "/id", "false", "prose: a notification MUST NOT include an id"},
	{"", false, "", "/error", "false", "JSON-RPC 2.0: result and error MUST NOT both be present"},
	{"2024-11-05,2025-03-26,2025-06-18,2025-11-25", false, "", "/result/completion/values", "maxItems", "prose of every revision: at most 100 values; schema.json says so since 2026-07-28"},
	{"2026-07-28", false, "", "/error/code", "", "prose: codes -32020..-32099 only as defined, and never -32002 or -32042"},
	{"2026-07-28", false, "", "/result", "anyOf", "prose: an InputRequiredResult has inputRequests or requestState"},
	{"2026-07-28", false, "", "/result/resultType", "not", "prose: InputRequiredResult only for prompts/get, resources/read and tools/call"},
	{"2026-07-28", false, " Request", "/params", "", whyMeta},
	{"2025-11-25,2026-07-28", false, " Request", "/params/_meta", "", "schema.ts: _meta of RequestParams is an object; JSONRPCRequest leaves it open"},
	{"2025-11-25,2026-07-28", false, " Notification", "/params/_meta", "", "schema.ts: _meta of NotificationParams is an object; JSONRPCNotification leaves it open"},
	{"2025-11-25", false, "", "/params/_meta", "", "schema.ts: _meta of RequestParams is an object; schema.json leaves it open for tasks/*"},
	{"2026-07-28", true, "", "apabilities", "", whyValue},
	{"2026-07-28", true, "", "/metadata", "", whyValue},
	{"", true, "", "/content/", "", "schema.ts: ElicitResult content holds numbers; schema.json says integer"},
	{"", false, "", "/requestedSchema/properties/d/enum", "", whyOpen},
	{"", false, "", "/requestedSchema/properties/c/oneOf", "", whyOpen},
	{"", false, "", "/requestedSchema/properties/f/enum", "", whyOpen},
}

// explain gives the index of the difference that a message falls under, or -1.
func explain(rev string, err error, mutated string) int {
	return slices.IndexFunc(differences, func(d difference) bool {
		if d.revisions != "" && !strings.Contains(d.revisions, rev) || d.ours != (err == nil) {
			return false
		}
		if err == nil {
			return strings.Contains(mutated, d.pointer)
		}
		e := err.(*Error)
		return strings.HasSuffix(e.Shape, d.shape) && slices.ContainsFunc(e.Violations, func(v Violation) bool {
			return strings.Contains(v.Pointer, d.pointer) && (d.rule == "" || v.Rule == d.rule)
		})
	})
}

// mutate calls f for each single change to the document: each member removed,
// each value replaced. The document is restored after each call.
func mutate(v any, path string, f func(path, change string)) {
	replacements := []any{nil, true, 1.0, 1.5, -1.0, "x", "", []any{}, []any{1.0}, []any{map[string]any{}}, map[string]any{}, map[string]any{"a": 1.0}}
	each := func(p string, set func(any), old any) {
		for _, r := range replacements {
			set(r)
			f(p, "="+string(must(json.Marshal(r))))
		}
		set(old)
		mutate(old, p, f)
	}
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			old, p := v[k], path+"/"+escape(k)
			delete(v, k)
			f(p, "removed")
			each(p, func(r any) { v[k] = r }, old)
		}
		v["unknown"] = 1.0
		f(path+"/unknown", "added")
		delete(v, "unknown")
	case []any:
		for i := range v {
			each(fmt.Sprintf("%s/%d", path, i), func(r any) { v[i] = r }, v[i])
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Every message of testdata/mcp.yaml and every single mutation of it gets the
// same verdict from us and from MCP's own schema.json, or the difference is
// one that we can explain.
func TestAgreesWithMCPsOwnSchemas(t *testing.T) {
	used := make([]int, len(differences))
	for rev, schema := range oracleSchemas(t) {
		t.Run(rev, func(t *testing.T) {
			o := newOracle(t, rev, schema)
			n := 0
			for _, c := range mcpCases(t) {
				if !c.in(rev) {
					continue
				}
				doc := c.build(t, rev)
				compare := func(path, change string) {
					n++
					msg := marshal(t, doc)
					err := ValidateMCP(rev, c.direction(), msg, c.Answers)
					theirs := o.message(doc, c.Answers)
					if theirs == (err == nil) {
						return
					}
					if i := explain(rev, err, path); i >= 0 {
						used[i]++
					} else {
						t.Errorf("%s: %s %s: theirs valid=%v, ours: %v\n%s", c.Name, path, change, theirs, err, msg)
					}
				}
				compare("", "unchanged")
				mutate(doc, "", compare)
				for _, b := range c.Bad {
					if e := parseEdit(t, b); e.in(rev) {
						doc = c.build(t, rev)
						e.apply(t, doc)
						compare(e.pointer, b)
					}
				}
			}
			t.Logf("%d messages compared", n)
		})
	}
	for i, d := range differences {
		t.Logf("%5d × %s", used[i], d.why)
		if used[i] == 0 {
			t.Errorf("no message shows this difference any more: %+v", d)
		}
	}
}
