package core

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

var schemaOf = map[string][2]string{
	"tools":             {"schema#listtoolsresult", "tools: Tool[];"},
	"prompts":           {"schema#listpromptsresult", "prompts: Prompt[];"},
	"resources":         {"schema#listresourcesresult", "resources: Resource[];"},
	"resourceTemplates": {"schema#listresourcetemplatesresult", "resourceTemplates: ResourceTemplate[];"},
}

var toolName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)

func lists() []conformance.Case {
	var cases []conformance.Case
	for _, e := range []conformance.Era{modern, legacy} {
		for i, k := range kinds {
			slug := k.member
			if slug == "resourceTemplates" {
				slug = "resource-templates"
			}
			cases = append(cases, build(e, slug+"-list", req(e, "lists", i+1, must, schemaOf[k.member][0], schemaOf[k.member][1]), conformance.Case{
				Title: k.method + " is answered with well-formed items, page by page",
				About: fmt.Sprintf("Follows %s to its last page, and looks at each item's required members.", k.method),
				Fix:   "Return the array and its items as the schema has them; nextCursor is a string or absent.",
				Run:   func(t *T) { checkList(t, k) },
			}))
			if e == modern {
				cases = append(cases, build(e, slug+"-cacheable", req(e, "caching", 1, must, "server/utilities/caching#cacheable-results", "Servers MUST include caching hints on results with resultType: \"complete\" returned by the following operations: server/discover, tools/list, prompts/list, resources/list, resources/templates/list, resources/read"), conformance.Case{
					Title: k.method + " carries ttlMs and cacheScope, the same scope on every page",
					About: "Looks at ttlMs (an integer, at least 0) and cacheScope (public or private) on every page.",
					Fix:   "Add ttlMs and cacheScope to the result.",
					Run: func(t *T) {
						need(t, k.capability)
						if k.member == "resourceTemplates" {
							unknownTemplates(t)
						}
						_, pages := all(t, t.Session(), k)
						scope := ""
						for i, p := range pages {
							got := cacheable(t, k.method, p)
							if i > 0 && got != scope {
								t.Violate("page %d has the cacheScope %q, page 1 %q", i+1, got, scope)
							}
							scope = got
						}
					},
				}))
			}
		}
		for i, k := range kinds[:3] {
			cases = append(cases, build(e, k.member+"-undeclared", req(e, "capabilities", 3+i, must, "server/"+k.member+"#capabilities", fmt.Sprintf("Servers that support %s MUST declare the %s capability", k.capability, k.capability)), conformance.Case{
				Title: "a server that lists " + k.member + " declares the capability",
				About: fmt.Sprintf("Where %s is not declared, %s must not return anything.", k.capability, k.method),
				Fix:   fmt.Sprintf("Declare the capability %s, or do not serve %s.", k.capability, k.method),
				Run: func(t *T) {
					if t.Survey().Of(e).Has(k.capability) {
						return
					}
					r := t.Session().Do(Call{Method: k.method})
					if r.Answer == nil || r.Answer.Result == nil {
						return
					}
					if items, _ := conformance.Items(conformance.Member(r.Answer.Result, k.member)); len(items) > 0 {
						t.Violate("%s is not declared, but %s returns %d", k.capability, k.method, len(items))
					}
				},
			}))
			cases = append(cases, build(e, k.member+"-bad-cursor", req(e, "pagination", 1, should, "server/utilities/pagination#error-handling", "Invalid cursors SHOULD result in an error with code -32602 (Invalid params)."), conformance.Case{
				Title: k.method + " refuses a cursor that it did not give out",
				About: "Asks for a page with a made-up cursor.",
				Fix:   "Answer unknown cursors with -32602.",
				Twin:  k.member + "-list",
				Run: func(t *T) {
					need(t, k.capability)
					s := t.Session()
					r := s.Do(Call{Method: k.method, Params: Obj{"cursor": "no-such-cursor \u2603"}})
					refused(t, s, r, 0, jsonrpc.CodeInvalidParams)
				},
			}))
		}
		page := "server/tools#tool-names"
		cases = append(cases,
			build(e, "tool-names-unique", req(e, "tools", 1, should, page, "Tool names SHOULD be unique within a server."), conformance.Case{
				Title: "no two tools have the same name",
				About: "Lists all tools and compares their names.",
				Fix:   "Rename one of them.",
				Run: func(t *T) {
					need(t, "tools")
					items, _ := all(t, t.Session(), kinds[0])
					seen := map[string]bool{}
					for _, n := range names(items, "name") {
						if seen[n] {
							t.Violate("two tools are called %q", n)
						}
						seen[n] = true
					}
				},
			}),
			build(e, "tool-names-charset", req(e, "tools", 2, should, page, "The following SHOULD be the only allowed characters: uppercase and lowercase ASCII letters (A-Z, a-z), digits (0-9), underscore (_), hyphen (-), and dot (.)"), conformance.Case{
				Title: "tool names keep to the allowed characters and length",
				About: "Lists all tools and looks at their names: 1 to 128 of A-Z a-z 0-9 _ - .",
				Fix:   "Rename the tool.",
				Run: func(t *T) {
					need(t, "tools")
					items, _ := all(t, t.Session(), kinds[0])
					for _, n := range names(items, "name") {
						if !toolName.MatchString(n) {
							t.Violate("the tool name %q", n)
						}
					}
				},
			}),
		)
	}
	cases = append(cases,
		build(modern, "discover-cacheable", req(modern, "caching", 1, must, "server/utilities/caching#cacheable-results", "Servers MUST include caching hints on results with resultType: \"complete\" returned by the following operations: server/discover, tools/list, prompts/list, resources/list, resources/templates/list, resources/read"), conformance.Case{
			Title: "server/discover carries ttlMs and cacheScope",
			About: "Looks at ttlMs (an integer, at least 0) and cacheScope (public or private).",
			Fix:   "Add ttlMs and cacheScope to the result.",
			Run:   func(t *T) { cacheable(t, "server/discover", t.Session().Result(Call{Method: "server/discover"})) },
		}),
		build(modern, "resource-cacheable", req(modern, "caching", 1, must, "server/utilities/caching#cacheable-results", "Servers MUST include caching hints on results with resultType: \"complete\" returned by the following operations: server/discover, tools/list, prompts/list, resources/list, resources/templates/list, resources/read"), conformance.Case{
			Title: "resources/read carries ttlMs and cacheScope",
			About: "Reads the first resource that can be read.",
			Fix:   "Add ttlMs and cacheScope to the result.",
			Run: func(t *T) {
				need(t, "resources")
				_, r := firstResource(t, t.Session())
				if rt, _ := conformance.MemberText(r.Answer.Result, "resultType"); rt == "input_required" {
					t.NotApplicable("the first resource asks for input")
				}
				cacheable(t, "resources/read", r.Answer.Result)
			},
		}),
		build(modern, "tools-order", req(modern, "tools", 3, should, "server/tools#capabilities", "Servers SHOULD return tools in a deterministic order (i.e., the same ordering across requests when the underlying set of tools has not changed)."), conformance.Case{
			Title: "tools are listed in the same order each time",
			About: "Lists the tools three times. When the set itself changed in between, the case can't be judged.",
			Fix:   "Sort the tools, or list them in the order of registration.",
			Run: func(t *T) {
				need(t, "tools")
				s := t.Session()
				items, _ := all(t, s, kinds[0])
				first := names(items, "name")
				for range 2 {
					items, _ = all(t, s, kinds[0])
					again := names(items, "name")
					if !slices.Equal(slices.Sorted(slices.Values(first)), slices.Sorted(slices.Values(again))) {
						t.Untestable("the set of tools changed between two listings")
					}
					if !slices.Equal(first, again) {
						t.Violate("first %q, then %q", first, again)
					}
				}
			},
		}),
		build(modern, "tools-per-connection", req(modern, "tools", 4, must, "server/tools#capabilities", "This set MAY be empty and MAY change over time [...], but MUST NOT vary per-connection or as a side effect of other requests on the connection."), conformance.Case{
			Title: "two connections see the same tools",
			About: "Lists the tools on two connections, on one of them after other requests, and compares the sets.",
			Fix:   "Make the list depend on nothing but the request and its authorization.",
			Fresh: true,
			Run: func(t *T) {
				need(t, "tools")
				a, b := t.NewSession(), t.NewSession()
				for _, c := range everyList(t) {
					c.Meta = Obj{conformance.MetaCapabilities: Obj{"extensions": offers, "sampling": Obj{}, "elicitation": Obj{}, "roots": Obj{}}}
					_, _ = a.Try(c)
				}
				onA, _ := all(t, a, kinds[0])
				onB, _ := all(t, b, kinds[0])
				x, y := slices.Sorted(slices.Values(names(onA, "name"))), slices.Sorted(slices.Values(names(onB, "name")))
				if !slices.Equal(x, y) {
					again, _ := all(t, a, kinds[0])
					if !slices.Equal(x, slices.Sorted(slices.Values(names(again, "name")))) {
						t.Untestable("the set of tools changes by itself")
					}
					t.Violate("one connection sees %q, the other %q", x, y)
				}
			},
		}),
	)
	return cases
}

// unknownTemplates ends the case when the server does not serve templates,
// which no capability of their own declares.
func unknownTemplates(t *T) {
	r := t.Session().Do(Call{Method: "resources/templates/list"})
	if code, ok := failure(r).Code(); ok && code == jsonrpc.CodeMethodNotFound {
		t.NotApplicable("the server does not know resources/templates/list")
	}
}

func checkList(t *T, k kind) {
	need(t, k.capability)
	if k.member == "resourceTemplates" {
		unknownTemplates(t)
	}
	items, _ := all(t, t.Session(), k)
	for i, it := range items {
		if it.Kind() != '{' {
			t.Violate("item %d of %s is %s", i+1, k.method, conformance.Short(it))
		}
		for _, f := range k.fields {
			if _, ok := conformance.MemberText(it, f); !ok {
				t.Violate("item %d of %s has no string %q: %s", i+1, k.method, f, conformance.Short(it))
			}
		}
		if k.member == "tools" {
			schema := conformance.Member(it, "inputSchema")
			if schema.Kind() != '{' {
				t.Violate("the inputSchema of tool %d is %s", i+1, orAbsent(schema))
			}
			if typ, _ := conformance.MemberText(schema, "type"); typ != "object" {
				t.Violate("the inputSchema of tool %d has the type %s, not \"object\"", i+1, orAbsent(conformance.Member(schema, "type")))
			}
			if out := conformance.Member(it, "outputSchema"); out != nil && out.Kind() != '{' {
				t.Violate("the outputSchema of tool %d is %s", i+1, conformance.Short(out))
			}
		}
	}
}

// cacheable checks the caching hints of a result and returns its scope.
func cacheable(t *T, method string, res jsonValue) string {
	ttl, ok := wire.Int(conformance.Member(res, "ttlMs"))
	if !ok || ttl < 0 {
		t.Violate("ttlMs of %s is %s", method, orAbsent(conformance.Member(res, "ttlMs")))
	}
	scope, _ := conformance.MemberText(res, "cacheScope")
	if scope != "public" && scope != "private" {
		t.Violate("cacheScope of %s is %s", method, orAbsent(conformance.Member(res, "cacheScope")))
	}
	return scope
}

// firstResource reads listed resources until one can be read.
func firstResource(t *T, s *conformance.Session) (uri string, r *wire.Reply) {
	items, _ := all(t, s, kinds[2])
	for _, u := range names(items[:min(len(items), 5)], "uri") {
		r := s.Do(Call{Method: "resources/read", Params: Obj{"uri": u}})
		if r.Answer != nil && r.Answer.Result != nil {
			return u, r
		}
	}
	t.Untestable("the server lists no resource that can be read")
	return "", nil
}
