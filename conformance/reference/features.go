package reference

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"strconv"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// Names that the reference server offers.
const (
	ToolName   = "canary"
	ResourceID = "reference://document/1"
	PromptName = "greeting"
)

// items is what each list method returns, in pages of two.
func (s *Server) items(c *conn, method string) (member string, items []any) {
	switch method {
	case "tools/list":
		tool := func(name string) obj {
			return obj{"name": name, "description": "Does nothing.", "inputSchema": obj{"type": "object", "additionalProperties": false}}
		}
		items = []any{tool(ToolName), tool("second"), tool("third")}
		second := items[1].(obj)
		second["inputSchema"] = obj{"type": "object", "properties": obj{"region": obj{"type": "string", "x-mcp-header": "Region"}}}
		second["outputSchema"] = obj{"type": "object"}
		switch s.fault {
		case "tool-without-schema":
			delete(items[2].(obj), "inputSchema")
		case "tool-schema-null":
			items[2].(obj)["inputSchema"] = nil
		case "tools-same-name":
			items[2].(obj)["name"] = ToolName
		case "tool-name-space":
			items[2].(obj)["name"] = "my tool"
		case "tools-per-connection":
			if c.requests > 3 {
				items = append(items, tool("unlocked"))
			}
		case "tools-shuffled":
			s.mu.Lock()
			s.lists++
			if s.lists%4 < 2 {
				items[0], items[1] = items[1], items[0]
			}
			s.mu.Unlock()
		}
		return "tools", items
	case "prompts/list":
		items = []any{obj{"name": PromptName}, obj{"name": "farewell"}, obj{"name": "third", "arguments": []any{obj{"name": "who", "required": true}}}}
		if s.has("prompt-without-name") {
			delete(items[1].(obj), "name")
		}
		return "prompts", items
	case "resources/list":
		items = []any{obj{"uri": ResourceID, "name": "document"}, obj{"uri": "reference://document/2", "name": "two"}, obj{"uri": "reference://document/3", "name": "three"}}
		if s.has("resource-without-uri") {
			delete(items[1].(obj), "uri")
		}
		return "resources", items
	case "resources/templates/list":
		items = []any{obj{"uriTemplate": "reference://document/{id}", "name": "documents"}}
		if s.has("template-without-template") {
			delete(items[0].(obj), "uriTemplate")
		}
		return "resourceTemplates", items
	}
	return "", nil
}

// feature serves what both eras have in common.
func (s *Server) feature(c *conn, m *jsonrpc.Message, modern bool) *answer {
	finish := func(res obj, cacheable bool) *answer {
		if !modern {
			return s.result(m, res)
		}
		if cacheable {
			res["ttlMs"], res["cacheScope"] = 1000, "public"
			switch s.fault {
			case "lists-without-ttl":
				delete(res, "ttlMs")
			case "negative-ttl":
				res["ttlMs"] = -1
			case "scope-everywhere":
				res["cacheScope"] = "everywhere"
			case "scope-by-page":
				if m.Params != nil && conformance.Member(m.Params, "cursor") != nil {
					res["cacheScope"] = "private"
				}
			}
		}
		return s.complete(m, res)
	}
	invalid := func(what string) *answer { return fail(m.ID, 0, jsonrpc.CodeInvalidParams, what, nil) }

	if s.has("small-meta") && len(conformance.Member(m.Params, "_meta")) > 4096 {
		return invalid("_meta is too large")
	}
	if member, items := s.items(c, m.Method); member != "" {
		if s.has("list-not-array") {
			return finish(obj{member: obj{}}, true)
		}
		from := 0
		if cur := conformance.Member(m.Params, "cursor"); cur != nil {
			text, _ := jsonrpc.Text(cur)
			n, err := strconv.Atoi(text)
			if (err != nil || n <= 0 || n >= len(items)) && !s.has("any-cursor") {
				return invalid("unknown cursor")
			}
			from = n
		}
		to := min(from+2, len(items))
		res := obj{member: items[from:to]}
		if to < len(items) {
			res["nextCursor"] = strconv.Itoa(to)
			if s.has("cursor-number") {
				res["nextCursor"] = to
			}
		}
		if s.has("endless-pages") {
			res["nextCursor"] = "1"
		}
		return finish(res, true)
	}
	name, _ := conformance.MemberText(m.Params, "name")
	switch m.Method {
	case "tools/call":
		if name != ToolName && !s.has("any-tool") {
			if s.has("unknown-tool-is-error") {
				return finish(obj{"content": []any{obj{"type": "text", "text": "Unknown tool"}}, "isError": true}, false)
			}
			return invalid("Unknown tool: " + name)
		}
		s.canary(name)
		a := finish(obj{"content": []any{obj{"type": "text", "text": "done"}}}, false)
		for i := 1; s.progress && i <= 2; i++ {
			a.before = append(a.before, fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":%d,"total":2}}`, i))
		}
		return a
	case "prompts/get":
		if name != PromptName && name != "farewell" && !s.has("any-prompt") {
			return invalid("unknown prompt")
		}
		return finish(obj{"messages": []any{obj{"role": "user", "content": obj{"type": "text", "text": "Hello."}}}}, false)
	case "resources/read":
		uri, _ := conformance.MemberText(m.Params, "uri")
		if _, items := s.items(c, "resources/list"); uri != ResourceID && uri != "reference://document/2" && len(items) > 0 {
			code := jsonrpc.CodeInvalidParams
			if modern == s.has("resource-not-found-swapped") {
				code = -32002
			}
			if s.has("any-resource") {
				return finish(obj{"contents": []any{}}, true)
			}
			if s.has("made-up-code") {
				code = -32050
			}
			return fail(m.ID, 0, code, "resource not found", nil)
		}
		return finish(obj{"contents": []any{obj{"uri": uri, "text": "text"}}}, true)
	}
	if s.has("unknown-method-result") {
		return finish(obj{}, false)
	}
	code := jsonrpc.CodeMethodNotFound
	if s.has("unknown-method-code") {
		code = jsonrpc.CodeInternal
	}
	a := fail(m.ID, 404, code, "Method not found", nil)
	switch s.fault {
	case "unknown-method-200":
		a.status = 200
	case "error-without-message":
		a.message = []byte(`{"jsonrpc":"2.0","id":` + string(m.ID) + `,"error":{"code":-32601}}`)
	case "error-without-id":
		a.message = []byte(`{"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found"}}`)
	}
	if !modern {
		a.status = 0
	}
	return a
}

// lines yields the lines of r.
func lines(r io.Reader) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		sc := bufio.NewScanner(r)
		sc.Buffer(nil, 16<<20)
		for sc.Scan() {
			if !yield(append([]byte(nil), sc.Bytes()...)) {
				return
			}
		}
	}
}
