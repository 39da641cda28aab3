package schema

import (
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v5"
)

// The walk is ours; the library that compiled the schemas has its own. They
// must give the same verdict on every message, valid and invalid, of every case.
func TestWalkAgreesWithLibrary(t *testing.T) {
	c, err := newCompiler(files)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	agree := func(file, def string, node map[string]*jsonNode, v any) {
		t.Helper()
		n++
		w := &walk{}
		w.check(node[def].ours, v)
		if theirs := node[def].theirs.Validate(v); (theirs == nil) != (len(w.out) == 0) {
			t.Errorf("%s %s: library %v, walk %v\n%s", file, def, theirs, w.out, marshal(t, v))
		}
	}
	trust := map[string]*jsonNode{}
	ours, err := trustDefs()
	if err != nil {
		t.Fatal(err)
	}
	for name, nd := range ours {
		trust[name] = &jsonNode{nd, c.MustCompile(base + "trust/trust.json#/$defs/" + name)}
	}
	for _, cs := range trustCases(t) {
		doc := clone(t, cs.Message).(map[string]any)
		mutate(doc, "", func(string, string) { agree("trust", trustShapes[cs.Shape].def, trust, doc) })
	}
	judged := map[string]*jsonNode{}
	if ours, err = policyDefs(); err != nil {
		t.Fatal(err)
	}
	for name, nd := range ours {
		judged[name] = &jsonNode{nd, c.MustCompile(base + "trust/policy.json#/$defs/" + name)}
	}
	for _, cs := range policyCases(t) {
		doc := clone(t, cs.Message).(map[string]any)
		mutate(doc, "", func(string, string) { agree("policy", policyShapes[cs.Shape].def, judged, doc) })
	}
	for _, rev := range Revisions() {
		r, err := loadRevision(files, rev)
		if err != nil {
			t.Fatal(err)
		}
		defs := map[string]*jsonNode{}
		for name, nd := range r.defs {
			defs[name] = &jsonNode{nd, c.MustCompile(base + "mcp/" + rev + ".json#/$defs/" + name)}
		}
		for _, cs := range mcpCases(t) {
			if !cs.in(rev) {
				continue
			}
			doc := cs.build(t, rev)
			method, _ := doc["method"].(string)
			def, from := "Message", cs.direction()
			var part func() any = func() any { return doc }
			if x, ok := r.requests[from][method]; ok {
				def = x.request
			} else if name, ok := r.notifications[from][method]; ok {
				def = name
			} else if x, ok := r.requests[from.other()][cs.Answers]; ok && doc["result"] != nil {
				def, part = x.result, func() any { return doc["result"] }
			}
			mutate(doc, "", func(string, string) { agree(rev, def, defs, part()) })
		}
	}
	t.Logf("%d values compared", n)
}

// A jsonNode is one definition, compiled for both.
type jsonNode struct {
	ours   *node
	theirs *jsonschema.Schema
}
