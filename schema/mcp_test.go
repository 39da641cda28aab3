package schema

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"go.yaml.in/yaml/v3"
)

// A mcpCase is one entry of testdata/mcp.yaml, which explains the members.
type mcpCase struct {
	Name, Since, Until, From, Answers string
	Cacheable                         bool
	Message                           map[string]any
	Bad                               []string
}

func (c mcpCase) direction() Direction {
	return map[string]Direction{"client": ClientToServer, "server": ServerToClient}[c.From]
}

func (c mcpCase) in(rev string) bool {
	return rev >= c.Since && (c.Until == "" || rev <= c.Until)
}

// build gives the message as it stands in rev.
func (c mcpCase) build(t testing.TB, rev string) map[string]any {
	t.Helper()
	m := clone(t, c.Message).(map[string]any)
	if rev != "2026-07-28" {
		return m
	}
	_, isCall := m["method"]
	_, hasID := m["id"]
	if isCall && hasID {
		p := member(m, "params")
		meta := member(p, "_meta")
		setDefault(meta, "io.modelcontextprotocol/protocolVersion", rev)
		setDefault(meta, "io.modelcontextprotocol/clientCapabilities", map[string]any{})
	}
	if r, ok := m["result"].(map[string]any); ok {
		setDefault(r, "resultType", "complete")
		if c.Cacheable {
			setDefault(r, "ttlMs", 1.0)
			setDefault(r, "cacheScope", "private")
		}
	}
	return m
}

func member(m map[string]any, name string) map[string]any {
	v, ok := m[name].(map[string]any)
	if !ok {
		v = map[string]any{}
		m[name] = v
	}
	return v
}

func setDefault(m map[string]any, name string, v any) {
	if _, ok := m[name]; !ok {
		m[name] = v
	}
}

func clone(t testing.TB, v any) any {
	t.Helper()
	var out any
	if err := json.Unmarshal(marshal(t, v), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func loadYAML(t testing.TB, file string, into any) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

func mcpCases(t testing.TB) []mcpCase {
	t.Helper()
	var cases []mcpCase
	loadYAML(t, "testdata/mcp.yaml", &cases)
	return cases
}

// An edit is one entry of bad, parsed.
type edit struct {
	from, to string // revisions
	remove   bool
	pointer  string
	value    any
	at       string
}

func parseEdit(t testing.TB, s string) edit {
	t.Helper()
	var e edit
	text := s
	if first, rest, ok := strings.Cut(text, " "); ok && strings.Contains(first, "..") {
		e.from, e.to, _ = strings.Cut(first, "..")
		text = rest
	}
	text, e.at, _ = strings.Cut(text, " @ ")
	if e.pointer, e.remove = strings.CutPrefix(text, "-"); !e.remove {
		var val string
		e.pointer, val, _ = strings.Cut(text, "=")
		if err := json.Unmarshal([]byte(val), &e.value); err != nil {
			t.Fatalf("edit %s: %v", s, err)
		}
	}
	if e.at == "" {
		e.at = e.pointer
	}
	return e
}

func (e edit) in(rev string) bool { return rev >= e.from && (e.to == "" || rev <= e.to) }

// apply edits the message in place.
func (e edit) apply(t testing.TB, doc map[string]any) {
	t.Helper()
	steps := strings.Split(e.pointer, "/")[1:]
	var at any = doc
	for i, s := range steps {
		s = strings.NewReplacer("~1", "/", "~0", "~").Replace(s)
		last := i == len(steps)-1
		switch v := at.(type) {
		case map[string]any:
			switch {
			case last && e.remove:
				if _, ok := v[s]; !ok {
					t.Fatalf("edit removes %s, which is not there", e.pointer)
				}
				delete(v, s)
			case last:
				v[s] = e.value
			default:
				at = v[s]
			}
		case []any:
			n, err := strconv.Atoi(s)
			if err != nil || n >= len(v) {
				t.Fatalf("edit %s: bad index %q", e.pointer, s)
			}
			if last {
				v[n] = e.value
			} else {
				at = v[n]
			}
		default:
			t.Fatalf("edit %s: nothing at %q", e.pointer, s)
		}
	}
}

func TestMCPMessages(t *testing.T) {
	for _, rev := range Revisions() {
		for _, c := range mcpCases(t) {
			if !c.in(rev) {
				continue
			}
			name := rev + "/" + c.Name
			good := marshal(t, c.build(t, rev))
			if err := ValidateMCP(rev, c.direction(), good, c.Answers); err != nil {
				t.Errorf("%s: %v\n%s", name, err, good)
				continue
			}
			for _, b := range c.Bad {
				e := parseEdit(t, b)
				if !e.in(rev) {
					continue
				}
				doc := c.build(t, rev)
				e.apply(t, doc)
				oneCause(t, name+": "+b, ValidateMCP(rev, c.direction(), marshal(t, doc), c.Answers), e.at)
			}
		}
	}
}

// oneCause checks that err is an *Error with exactly one violation, at pointer.
func oneCause(t testing.TB, name string, err error, pointer string) {
	t.Helper()
	var e *Error
	switch {
	case err == nil:
		t.Errorf("%s: accepted", name)
	case !errors.As(err, &e):
		t.Errorf("%s: %T: %v", name, err, err)
	case len(e.Violations) != 1 || e.Violations[0].Pointer != pointer:
		t.Errorf("%s: want one violation at %s, got %v", name, pointer, err)
	}
}

// Each definition of each revision must be needed by some valid message and
// must refuse some invalid one; else the cases above have a hole.
func TestMCPDefinitionsAreExercised(t *testing.T) {
	cases := mcpCases(t)
	for _, rev := range Revisions() {
		r, err := loadRevision(files, rev)
		if err != nil {
			t.Fatal(err)
		}
		var good, bad []func() *Error
		for _, c := range cases {
			if !c.in(rev) {
				continue
			}
			var m any = c.build(t, rev)
			good = append(good, func() *Error { return r.validate(c.direction(), m, c.Answers) })
			for _, b := range c.Bad {
				if e := parseEdit(t, b); e.in(rev) {
					doc := c.build(t, rev)
					e.apply(t, doc)
					bad = append(bad, func() *Error { return r.validate(c.direction(), doc, c.Answers) })
				}
			}
		}
		for name, n := range r.defs {
			if name == "Message" {
				continue // for other tools; ValidateMCP picks the definition itself
			}
			saved := *n
			*n = node{never: true}
			if !slices.ContainsFunc(good, func(f func() *Error) bool { return f() != nil }) {
				t.Errorf("%s %s: no valid message uses it", rev, name)
			}
			*n = *anything
			if !slices.ContainsFunc(bad, func(f func() *Error) bool { return f() == nil }) {
				t.Errorf("%s %s: no invalid message fails by it alone", rev, name)
			}
			*n = saved
		}
	}
}

// anything is the schema true.
var anything = func() *node {
	n := &node{minItems: -1, maxItems: -1, minLength: -1, maxLength: -1, minProps: -1}
	n.minimum, n.maximum = math.Inf(-1), math.Inf(1)
	return n
}()

func TestMCPDirections(t *testing.T) {
	for _, tc := range []struct {
		rev, name, message string
		dir                Direction
		at                 string
	}{
		{"2025-11-25", "server calls a tool", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}`, ServerToClient, "/method"},
		{"2025-11-25", "client samples", `{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{}}`, ClientToServer, "/method"},
		{"2025-06-18", "client says a server's notification", `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`, ClientToServer, "/method"},
		{"2025-06-18", "server says initialized", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, ServerToClient, "/method"},
		{"2026-07-28", "server sends a request", `{"jsonrpc":"2.0","id":1,"method":"x/y","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`, ServerToClient, "/method"},
		{"2026-07-28", "client sends a response", `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete"}}`, ClientToServer, ""},
		{"2026-07-28", "client sends progress", `{"jsonrpc":"2.0","method":"notifications/progress"}`, ClientToServer, "/method"},
		{"2025-11-25", "notification as request", `{"jsonrpc":"2.0","id":1,"method":"notifications/initialized"}`, ClientToServer, "/id"},
		{"2025-11-25", "request as notification", `{"jsonrpc":"2.0","method":"tools/list"}`, ClientToServer, "/id"},
	} {
		oneCause(t, tc.name, ValidateMCP(tc.rev, tc.dir, []byte(tc.message), ""), tc.at)
	}
}

func TestMCPBatches(t *testing.T) {
	ping := `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	ok := `{"jsonrpc":"2.0","id":1,"result":{}}`
	if err := ValidateMCP("2025-03-26", ClientToServer, []byte("["+ping+","+ping+"]"), ""); err != nil {
		t.Error(err)
	}
	if err := ValidateMCP("2025-03-26", ServerToClient, []byte("["+ok+"]"), "tools/call"); err != nil {
		t.Error(err)
	}
	oneCause(t, "mixed", ValidateMCP("2025-03-26", ClientToServer, []byte("["+ping+","+ok+"]"), ""), "")
	oneCause(t, "empty", ValidateMCP("2025-03-26", ClientToServer, []byte("[]"), ""), "")
	oneCause(t, "element", ValidateMCP("2025-03-26", ClientToServer, []byte("["+ping+",1]"), ""), "/1")
	oneCause(t, "bad element", ValidateMCP("2025-03-26", ClientToServer, []byte(`[{"jsonrpc":"2.0","id":null,"method":"ping"}]`), ""), "/0/id")
	for _, rev := range []string{"2024-11-05", "2025-06-18", "2025-11-25", "2026-07-28"} {
		oneCause(t, rev, ValidateMCP(rev, ClientToServer, []byte("["+ping+"]"), ""), "")
	}
}

func TestMCPUnacceptableJSON(t *testing.T) {
	for rule, in := range map[string]string{
		"duplicate-member": `{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}`,
		"trailing-data":    `{"jsonrpc":"2.0","id":1,"method":"ping"}{}`,
		"invalid-utf8":     "{\"jsonrpc\":\"\xff\"}",
		"not-json":         `{"jsonrpc"`,
		"too-deep":         strings.Repeat("[", 100) + strings.Repeat("]", 100),
		"type":             `"x"`,
	} {
		err := ValidateMCP("2025-11-25", ClientToServer, []byte(in), "")
		var e *Error
		if !errors.As(err, &e) || e.Violations[0].Rule != rule {
			t.Errorf("%s: %v", rule, err)
		}
	}
	for _, err := range []error{ValidateMCP("2020-01-01", ClientToServer, []byte("{}"), ""), ValidateMCP("2025-11-25", 0, []byte("{}"), "")} {
		var e *Error
		if err == nil || errors.As(err, &e) {
			t.Errorf("misuse must be an error of another type: %v", err)
		}
	}
}

// A hostile message must neither fill memory with violations nor stall on numbers.
func TestReportsAreBounded(t *testing.T) {
	msg := `{"jsonrpc":"2.0","id":1,"result":{"content":[0` + strings.Repeat(",0", 1<<20) + `]}}`
	var e *Error
	if err := ValidateMCP("2025-11-25", ServerToClient, []byte(msg), "tools/call"); !errors.As(err, &e) {
		t.Fatal(err)
	}
	if len(e.Violations) != MaxViolations || !e.More || len(e.Error()) > 1000 {
		t.Errorf("%d violations, more %v, %d bytes", len(e.Violations), e.More, len(e.Error()))
	}
	nums := `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1e999999999,"progress":-1e999999999}}`
	if err := ValidateMCP("2025-11-25", ServerToClient, []byte(nums), ""); err != nil {
		t.Error(err)
	}
}

func TestRevisionsShareNothingMutable(t *testing.T) {
	r := Revisions()
	r[0] = "x"
	if Revisions()[0] == "x" {
		t.Error("Revisions gives its own slice away")
	}
	if got := slices.Sorted(maps.Keys(compiled)); !slices.Equal(got, Revisions()) {
		t.Errorf("compiled %v", got)
	}
	if !slices.IsSorted(Revisions()) {
		t.Error("not oldest first")
	}
}

func FuzzValidateMCP(f *testing.F) {
	for _, c := range mcpCases(f) {
		for i, rev := range Revisions() {
			if c.in(rev) {
				f.Add(byte(i), c.From == "client", marshal(f, c.build(f, rev)), c.Answers)
			}
		}
	}
	f.Fuzz(func(t *testing.T, rev byte, client bool, msg []byte, method string) {
		dir := ServerToClient
		if client {
			dir = ClientToServer
		}
		r := revisions[int(rev)%len(revisions)]
		err := ValidateMCP(r, dir, msg, method)
		if err == nil {
			return
		}
		var e *Error
		if !errors.As(err, &e) {
			t.Fatalf("%T %v", err, err)
		}
		if len(e.Violations) == 0 || len(e.Violations) > MaxViolations {
			t.Fatalf("%d violations", len(e.Violations))
		}
		if again := ValidateMCP(r, dir, msg, method); fmt.Sprint(again) != fmt.Sprint(err) {
			t.Fatalf("unstable report:\n%v\n%v", err, again)
		}
	})
}

func BenchmarkValidateMCP(b *testing.B) {
	msg := []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"text":"` + strings.Repeat("x", 900) + `"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`)
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		if err := ValidateMCP("2026-07-28", ClientToServer, msg, ""); err != nil {
			b.Fatal(err)
		}
	}
}
