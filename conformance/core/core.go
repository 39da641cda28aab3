// Package core holds the cases of profile core: the rules of MCP itself that
// the trust extension leans on, tried on any server, without fixtures. What a
// server declares decides what is tried. Call [Cases].
//
// Each requirement quotes one sentence of MCP or one line of its schema. A
// rule that no text states is not here, however sensible it may be.
package core

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// Short names for what every case mentions.
type (
	T    = conformance.T
	Call = conformance.Call
	Obj  = conformance.Obj
)

const (
	modern = conformance.Modern
	legacy = conformance.Legacy
	must   = conformance.MUST
	should = conformance.SHOULD

	site = "https://modelcontextprotocol.io/specification/"
)

var (
	httpOnly  = []wire.Transport{wire.TransportHTTP}
	stdioOnly = []wire.Transport{wire.TransportStdio}
)

// Cases returns the cases of the profile in report order.
func Cases() []conformance.Case {
	var all []conformance.Case
	for _, part := range [][]conformance.Case{
		opening(), messages(), lists(), calls(), headers(), modernHTTP(), legacyHTTP(), stdio(), whole(),
	} {
		all = append(all, part...)
	}
	return all
}

// req is a requirement of MCP. page is the path of the page under its revision.
func req(e conformance.Era, topic string, n int, level conformance.Level, page, text string) conformance.Requirement {
	rev := conformance.ModernVersion
	if e == legacy {
		rev = conformance.LegacyVersion
	}
	return conformance.Requirement{
		ID: fmt.Sprintf("MCP-%s-%s-%d", rev, topic, n), Level: level, Text: text, URL: site + rev + "/" + page,
	}
}

// build fills in what all cases of this profile share. name is the last part
// of the id.
func build(e conformance.Era, name string, r conformance.Requirement, c conformance.Case) conformance.Case {
	c.ID = id(e, name)
	c.Requirement, c.Level = r, r.Level
	c.Role, c.Profile = conformance.RoleServer, conformance.ProfileCore
	c.Eras = []conformance.Era{e}
	if c.Twin != "" {
		c.Twin = id(e, c.Twin)
	}
	return c
}

func id(e conformance.Era, name string) string { return "server/core/" + string(e) + "/" + name }

// simple is a request that every server of the era must answer with a result.
func simple(e conformance.Era) Call {
	if e == modern {
		return Call{Method: "server/discover"}
	}
	return Call{Method: "ping"}
}

// failure is the error that answers a request, with or without its id.
func failure(r *wire.Reply) *wire.Message {
	if r.Answer != nil {
		if r.Answer.Error != nil {
			return r.Answer
		}
		return nil
	}
	for _, m := range r.Messages {
		if m.Error != nil {
			return m
		}
	}
	return nil
}

// refused judges the answer to a mutant: it must be an error with one of codes
// (any, if none is given), over HTTP with the given status (any, if 0).
func refused(t *T, s *conformance.Session, r *wire.Reply, status int, codes ...int64) {
	if r.Answer != nil && r.Answer.Result != nil {
		t.Violate("it was accepted, with the result %s", conformance.Short(r.Answer.Result))
	}
	m := failure(r)
	if m == nil {
		t.Violate("it was answered without a JSON-RPC error%s", s.Hint(r))
	}
	code, ok := m.Code()
	found := len(codes) == 0
	for _, c := range codes {
		found = found || (ok && c == code)
	}
	if !found {
		t.Violate("the error is %s, expected code %s", conformance.Short(m.Error), list(codes))
	}
	if t.HTTP() && status != 0 && r.Status != status {
		t.Violate("the HTTP status is %d, expected %d (error %s)", r.Status, status, conformance.Short(m.Error))
	}
	t.Refused("error %d", code)
	t.Reached(r.SeenSeq)
	t.NoEffect("the answer carries no result")
}

func list(codes []int64) string {
	s := make([]string, len(codes))
	for i, c := range codes {
		s[i] = fmt.Sprint(c)
	}
	return strings.Join(s, " or ")
}

// need ends the case as not applicable unless the capability is declared.
func need(t *T, path ...string) {
	if !t.Survey().Of(t.Era()).Has(path...) {
		t.NotApplicable("the server does not declare the capability %s", strings.Join(path, "."))
	}
}

// kind is one of the four things that servers list.
type kind struct {
	capability, method, member string
	fields                     []string // string members of each item
}

var kinds = []kind{
	{"tools", "tools/list", "tools", []string{"name"}},
	{"prompts", "prompts/list", "prompts", []string{"name"}},
	{"resources", "resources/list", "resources", []string{"uri", "name"}},
	{"resources", "resources/templates/list", "resourceTemplates", []string{"uriTemplate", "name"}},
}

const maxPages = 50

// all fetches every page of a list. optional lists may be unknown to the
// server; then ok is false.
func all(t *T, s *conformance.Session, k kind) (items []jsontext.Value, pages []jsontext.Value) {
	params := Obj{}
	for len(pages) < maxPages {
		res := s.Result(Call{Method: k.method, Params: params})
		pages = append(pages, res)
		page, ok := conformance.Items(conformance.Member(res, k.member))
		if !ok {
			t.Failf("the result of %s has no array %q: %s", k.method, k.member, conformance.Short(res))
		}
		items = append(items, page...)
		next := conformance.Member(res, "nextCursor")
		if next == nil {
			return items, pages
		}
		cursor, ok := jsonrpc.Text(next)
		if !ok {
			t.Failf("nextCursor of %s is no string: %s", k.method, conformance.Short(next))
		}
		params = Obj{"cursor": cursor}
	}
	t.Failf("%s did not come to an end in %d pages", k.method, maxPages)
	return nil, nil
}

// names lists the name member of each item.
func names(items []jsontext.Value, field string) []string {
	out := make([]string, 0, len(items))
	for _, it := range items {
		n, _ := conformance.MemberText(it, field)
		out = append(out, n)
	}
	return out
}
