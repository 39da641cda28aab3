package schema

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/santhosh-tekuri/jsonschema/v5"
)

// Direction says which side sent a message.
type Direction int

const (
	ClientToServer Direction = iota + 1
	ServerToClient
)

func (d Direction) String() string {
	switch d {
	case ClientToServer:
		return "client"
	case ServerToClient:
		return "server"
	}
	return fmt.Sprintf("Direction(%d)", int(d))
}

func (d Direction) other() Direction { return ClientToServer + ServerToClient - d }

// revisions, oldest first.
var revisions = []string{"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"}

// Revisions lists the MCP revisions that [ValidateMCP] knows, oldest first.
func Revisions() []string { return slices.Clone(revisions) }

// A revision is one compiled file mcp/<revision>.json.
type revision struct {
	name string
	defs map[string]*node
	// requests and notifications by sender and method.
	requests      map[Direction]map[string]exchange
	notifications map[Direction]map[string]string
}

// An exchange names the definitions of a request and of its result.
type exchange struct{ request, result string }

var compiled = func() map[string]func() (*revision, error) {
	m := make(map[string]func() (*revision, error), len(revisions))
	for _, name := range revisions {
		m[name] = sync.OnceValues(func() (*revision, error) { return loadRevision(files, name) })
	}
	return m
}()

// loadRevision compiles mcp/<name>.json of fsys.
func loadRevision(fsys fs.FS, name string) (*revision, error) {
	data, err := fs.ReadFile(fsys, "mcp/"+name+".json")
	if err != nil {
		return nil, err
	}
	var doc struct {
		Defs map[string]any `json:"$defs"`
		MCP  struct {
			Requests      map[string]map[string][2]string `json:"requests"`
			Notifications map[string]map[string]string    `json:"notifications"`
		} `json:"x-mcp"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("schema mcp/%s.json: %w", name, err)
	}
	names := make([]string, 0, len(doc.Defs))
	for n := range doc.Defs {
		names = append(names, n)
	}
	r := &revision{name: name, requests: map[Direction]map[string]exchange{}, notifications: map[Direction]map[string]string{}}
	if r.defs, err = compileDefs(fsys, "mcp/"+name+".json", names); err != nil {
		return nil, err
	}
	for _, d := range []Direction{ClientToServer, ServerToClient} {
		r.requests[d] = map[string]exchange{}
		for method, x := range doc.MCP.Requests[d.String()] {
			r.requests[d][method] = exchange{x[0], x[1]}
		}
		r.notifications[d] = doc.MCP.Notifications[d.String()]
	}
	return r, nil
}

// compileDefs compiles the named definitions of one schema file.
func compileDefs(fsys fs.FS, file string, names []string) (map[string]*node, error) {
	c, err := newCompiler(fsys)
	if err != nil {
		return nil, err
	}
	defs, seen := make(map[string]*node, len(names)), map[*jsonschema.Schema]*node{}
	for _, n := range names {
		s, err := c.Compile(base + file + "#/$defs/" + n)
		if err != nil {
			return nil, err
		}
		if defs[n], err = convert(s, seen); err != nil {
			return nil, err
		}
	}
	return defs, nil
}

// ValidateMCP checks one core MCP message of the given revision against the
// definition that belongs to it: by its method, or, for a response, by
// requestMethod, the method of the request that it answers ("" if unknown:
// then any result passes that a response may have at all). dir says who sent
// it; a message that only the other side may send is a violation. Methods
// that the revision does not define are checked as requests or notifications
// in general, since extensions add some. In 2025-03-26, and only there, a
// JSON-RPC batch is valid too; its responses count as of unknown requests.
//
// An invalid message gives an [*Error]. An unknown revision or direction is
// an error of another type.
func ValidateMCP(revision string, dir Direction, message []byte, requestMethod string) error {
	load, ok := compiled[revision]
	if !ok {
		return fmt.Errorf("schema: unknown MCP revision %q; known are %v", revision, revisions)
	}
	if dir != ClientToServer && dir != ServerToClient {
		return fmt.Errorf("schema: %v is neither ClientToServer nor ServerToClient", dir)
	}
	r, err := load()
	if err != nil {
		return err
	}
	v, perr := decode("MCP "+revision+" message", message)
	if perr != nil {
		return perr
	}
	if e := r.validate(dir, v, requestMethod); e != nil {
		return e
	}
	return nil
}

func (r *revision) validate(dir Direction, v any, requestMethod string) *Error {
	switch v := v.(type) {
	case map[string]any:
		w := &walk{}
		return r.report(w, r.message(w, dir, v, requestMethod))
	case []any:
		return r.batch(dir, v)
	}
	return one("MCP "+r.name+" message", "", "type", "is "+describe(v)+", must be object")
}

func (r *revision) report(w *walk, def string) *Error {
	if len(w.out) == 0 {
		return nil
	}
	return &Error{Shape: "MCP " + r.name + " " + def, Violations: w.out, More: w.more}
}

// batch checks a JSON-RPC batch: requests and notifications, or responses.
func (r *revision) batch(dir Direction, list []any) *Error {
	shape := "MCP " + r.name + " message"
	if r.name != "2025-03-26" {
		return one(shape, "", "batch", "is an array; this revision has no JSON-RPC batches")
	}
	if len(list) == 0 {
		return one(shape, "", "minItems", "is an empty batch")
	}
	w, calls, objects := &walk{}, 0, 0
	for i, v := range list {
		w.path = strconv.AppendInt(append(w.path[:0], '/'), int64(i), 10)
		m, ok := v.(map[string]any)
		if !ok {
			w.add("type", "is %s, must be object", describe(v))
		} else {
			objects++
			r.message(w, dir, m, "")
		}
		if _, call := m["method"]; call {
			calls++
		}
		if w.done() {
			break
		}
	}
	w.path = w.path[:0]
	if !w.done() && calls != 0 && calls != objects {
		w.add("batch", "mixes responses with requests or notifications")
	}
	return r.report(w, "batch")
}

// message checks one object and returns the name of the definition used.
func (r *revision) message(w *walk, dir Direction, m map[string]any, requestMethod string) string {
	if _, ok := m["method"]; ok {
		return r.call(w, dir, m)
	}
	// 2026-07-28, "Patterns": servers do not initiate requests, and clients do not send responses.
	if len(r.requests[dir.other()]) == 0 {
		w.add("direction", "is a response, but in this revision a %s gets no requests", dir)
		return "message"
	}
	_, isResult := m["result"]
	_, isError := m["error"]
	switch {
	case isResult && isError:
		w.addAt("error", "false", "stands beside a result")
		return "response"
	case isError:
		w.check(r.defs["ErrorResponse"], m)
		return "ErrorResponse"
	}
	w.check(r.defs["ResultResponse"], m)
	x, ok := r.requests[dir.other()][requestMethod]
	if !ok {
		return "ResultResponse"
	}
	if isResult {
		w.in("result", r.defs[x.result], m["result"])
	}
	return "response to " + requestMethod
}

// call checks a message that has a method: a request or a notification.
func (r *revision) call(w *walk, dir Direction, m map[string]any) string {
	method, _ := m["method"].(string)
	_, hasID := m["id"]
	if x, ok := r.requests[dir][method]; ok {
		w.check(r.defs[x.request], m)
		return x.request
	}
	if def, ok := r.notifications[dir][method]; ok {
		w.check(r.defs[def], m)
		return def
	}
	generic := "Notification"
	if hasID {
		generic = "Request"
	}
	_, request := r.requests[dir.other()][method]
	_, notification := r.notifications[dir.other()][method]
	switch {
	case request || notification:
		w.addAt("method", "direction", "is %s, which a %s does not send in this revision", short(method), dir)
	case hasID && len(r.requests[dir]) == 0:
		w.addAt("method", "direction", "is %s, but in this revision a %s sends no requests", short(method), dir)
	}
	w.check(r.defs[generic], m)
	return generic
}
