package core

import (
	"fmt"
	"regexp"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

var datePattern = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}$`)

// offers are two extensions: ours, as a client that wants trust offers it, and
// one that nobody knows.
var offers = Obj{
	"org.trustedmcp/trust": Obj{
		"version": 1, "profiles": []any{"identity"}, "carriers": []any{"envelope"},
		"suites": []any{"mlkem768x25519-sha256-aes256gcm"}, "mode": "preferred",
	},
	"com.example.unheard-of/feature": Obj{"nested": Obj{"list": []any{1, "two", nil, true}}},
}

const openSet = "Capabilities a client may support. Known capabilities are defined here, in this schema, but this is not a closed set: any client can define its own, additional capabilities."

// offer returns the capabilities that hold the offers under one member.
func offerCase(e conformance.Era, member string, n int) conformance.Case {
	return build(e, "offers-"+member,
		req(e, "capabilities", n, must, "schema#clientcapabilities", openSet),
		conformance.Case{
			Title: "unknown entries in capabilities." + member + " are tolerated",
			About: "Opens with two extensions that the server need not know in the client capabilities' " + member + ", and expects the same answer shape as without.",
			Fix:   "Ignore capability members that you do not know.",
			Fresh: e == legacy,
			Run: func(t *T) {
				caps := Obj{member: offers}
				if e == legacy {
					s := t.RawSession(t.Link())
					s.Initialize(conformance.LegacyVersion, caps)
					if err := s.Alive(); err != nil {
						t.Violate("after such an initialize: %v", err)
					}
					return
				}
				s := t.Session()
				for _, c := range everyList(t) {
					c.Meta = Obj{conformance.MetaCapabilities: caps}
					s.Result(c)
				}
			},
		})
}

// everyList is the era's simplest request and every list that the server says
// it has.
func everyList(t *T) []Call {
	calls := []Call{simple(t.Era())}
	for _, k := range kinds {
		if t.Survey().Of(t.Era()).Has(k.capability) && k.member != "resourceTemplates" {
			calls = append(calls, Call{Method: k.method})
		}
	}
	return calls
}

func opening() []conformance.Case {
	cases := []conformance.Case{
		build(modern, "request", req(modern, "discover", 1, must, "server/discover", "Servers MUST implement it."), conformance.Case{
			Title: "server/discover is answered with a result",
			About: "Sends server/discover with all required metadata. It is the accepted twin of most refusals.",
			Fix:   "Implement server/discover.",
			Run:   func(t *T) { t.Session().Result(Call{Method: "server/discover"}) },
		}),
		build(modern, "discover-shape", req(modern, "discover", 2, must, "schema#discoverresult", "supportedVersions: string[]; capabilities: ServerCapabilities;"), conformance.Case{
			Title: "the result of server/discover lists versions and capabilities",
			About: "Looks at supportedVersions (a non-empty array of strings which holds the version of the request) and capabilities (an object).",
			Fix:   "Return supportedVersions and capabilities from server/discover.",
			Run: func(t *T) {
				res := t.Session().Result(Call{Method: "server/discover"})
				v, ok := conformance.Strings(conformance.Member(res, "supportedVersions"))
				if !ok || len(v) == 0 {
					t.Violate("supportedVersions is %s", orAbsent(conformance.Member(res, "supportedVersions")))
				}
				if conformance.Member(res, "capabilities").Kind() != '{' {
					t.Violate("capabilities is %s", orAbsent(conformance.Member(res, "capabilities")))
				}
			},
		}),
		build(modern, "capabilities-shape", req(modern, "capabilities", 1, must, "basic/versioning#extension-negotiation", "Extensions are advertised in the extensions field of capabilities, which is a map of extension identifiers to per-extension settings objects. Extension identifiers MUST follow the _meta key naming rules, with a mandatory prefix."), conformance.Case{
			Title: "advertised extensions are named and shaped as they must be",
			About: "Looks at every member of capabilities.extensions in the result of server/discover: its name has a prefix, its value is an object.",
			Fix:   "Name extensions vendor-prefix/name and give each a settings object.",
			Run: func(t *T) {
				need(t, "extensions")
				err := jsonrpc.Members(conformance.Member(t.Survey().Modern.Capabilities, "extensions"), func(name string, v jsonValue) error {
					if !extensionName.MatchString(name) {
						return fmt.Errorf("the extension identifier %q does not follow the naming rules", name)
					}
					if v.Kind() != '{' {
						return fmt.Errorf("the settings of extension %s are %s, not an object", name, conformance.Short(v))
					}
					return nil
				})
				if err != nil {
					t.Violate("%v", err)
				}
			},
		}),
		build(modern, "first-request", req(modern, "stateless", 1, must, "basic/index#statelessness", "Servers MUST NOT rely on prior requests over the same connection to establish context (e.g., capabilities, protocol version, client identity)."), conformance.Case{
			Title: "any request may be the first on a connection",
			About: "Opens a connection and sends a list request as the first message, without server/discover before it.",
			Fix:   "Take version and capabilities from the _meta of each request.",
			Fresh: true,
			Run: func(t *T) {
				s := t.Session()
				calls := everyList(t)
				s.Result(calls[len(calls)-1])
			},
		}),
		build(modern, "client-info-optional", req(modern, "meta", 1, must, "basic/index#meta", "io.modelcontextprotocol/clientInfo | Implementation | No | Client name and version"), conformance.Case{
			Title: "a request without clientInfo is served",
			About: "Leaves out the optional _meta member clientInfo.",
			Fix:   "Do not require clientInfo.",
			Run: func(t *T) {
				t.Session().Result(Call{Method: "server/discover", Meta: Obj{conformance.MetaClientInfo: nil}})
			},
		}),
		build(modern, "missing-version", req(modern, "meta", 2, must, "basic/index#meta", "A request missing any required field is malformed; the server MUST reject it with JSON-RPC error code -32602 (Invalid params). On HTTP, the response status MUST be 400 Bad Request."), conformance.Case{
			Title:      "a modern request without protocolVersion in _meta is refused",
			About:      "Leaves protocolVersion out of _meta, with the MCP-Protocol-Version header in place. Header and body then differ too, so -32020 is accepted as well as -32602.",
			Fix:        "Answer -32602 with HTTP 400 when a required _meta member is missing.",
			Twin:       "request",
			Transports: httpOnly,
			Run: func(t *T) {
				s := t.Session()
				r := s.Do(Call{Method: "server/discover", Meta: Obj{conformance.MetaVersion: nil}})
				refused(t, s, r, 400, jsonrpc.CodeInvalidParams, jsonrpc.CodeHeaderMismatch)
			},
		}),
		build(modern, "missing-capabilities", req(modern, "meta", 2, must, "basic/index#meta", "A request missing any required field is malformed; the server MUST reject it with JSON-RPC error code -32602 (Invalid params). On HTTP, the response status MUST be 400 Bad Request."), conformance.Case{
			Title: "a modern request without clientCapabilities in _meta is refused",
			About: "Leaves clientCapabilities out of _meta.",
			Fix:   "Answer -32602, over HTTP with status 400, when a required _meta member is missing.",
			Twin:  "request",
			Run: func(t *T) {
				s := t.Session()
				r := s.Do(Call{Method: "server/discover", Meta: Obj{conformance.MetaCapabilities: nil}})
				refused(t, s, r, 400, jsonrpc.CodeInvalidParams)
			},
		}),
		unsupported("unsupported-version", "2099-01-01", "later than any"),
		unsupported("unsupported-version-old", "1900-01-01", "which is the page's own example"),
		build(modern, "initialize-names-versions", req(modern, "versioning", 2, should, "basic/versioning#backward-compatibility-with-initialization-based-versions", "A server that supports only modern versions SHOULD name the protocol versions it supports in any error it returns to an initialize request, on any transport"), conformance.Case{
			Title: "a modern server tells a legacy client which versions it speaks",
			About: "Sends a legacy initialize to a server that does not speak the legacy era, and looks for a version in the error.",
			Fix:   "Name the supported versions in the error's message or data.",
			Fresh: true,
			Run: func(t *T) {
				if t.Survey().Legacy.Spoken {
					t.NotApplicable("the server speaks the legacy era too")
				}
				s := t.Session()
				r := s.Do(Call{Method: "initialize", Bare: true, Params: Obj{"protocolVersion": conformance.LegacyVersion, "capabilities": Obj{}, "clientInfo": conformance.ClientInfo},
					Header: map[string]string{"MCP-Protocol-Version": "-", "Mcp-Method": "-"}})
				m := failure(r)
				if m == nil {
					t.Violate("initialize was not answered with a JSON-RPC error%s", s.Hint(r))
				}
				if !regexp.MustCompile(regexp.QuoteMeta(conformance.ModernVersion)).Match(m.Error) {
					t.Violate("the error names no version: %s", conformance.Short(m.Error))
				}
			},
		}),

		build(legacy, "request", req(legacy, "ping", 1, must, "basic/utilities/ping#behavior-requirements", "The receiver MUST respond promptly with an empty response"), conformance.Case{
			Title: "ping is answered with a result",
			About: "Sends ping in an initialized session. It is the accepted twin of most refusals.",
			Fix:   "Answer ping with an empty result.",
			Run:   func(t *T) { t.Session().Result(Call{Method: "ping"}) },
		}),
		build(legacy, "ping-empty", req(legacy, "ping", 1, must, "basic/utilities/ping#behavior-requirements", "The receiver MUST respond promptly with an empty response"), conformance.Case{
			Title: "the result of ping is empty",
			About: "Looks at the result of ping: an object without members other than _meta.",
			Fix:   "Answer ping with the result {}.",
			Run: func(t *T) {
				res := t.Session().Result(Call{Method: "ping"})
				if res.Kind() != '{' {
					t.Violate("the result is %s", conformance.Short(res))
				}
				_ = jsonrpc.Members(res, func(name string, _ jsonValue) error {
					if name != "_meta" {
						t.Violate("the result has the member %q", name)
					}
					return nil
				})
			},
		}),
		build(legacy, "initialize-shape", req(legacy, "lifecycle", 1, must, "basic/lifecycle#initialization", "The server MUST respond with its own capabilities and information"), conformance.Case{
			Title: "the result of initialize has protocolVersion, capabilities and serverInfo",
			About: "Initializes, and looks at the result's members: protocolVersion, capabilities, serverInfo.name, serverInfo.version.",
			Fix:   "Return protocolVersion, capabilities and serverInfo from initialize.",
			Fresh: true,
			Run: func(t *T) {
				s := t.RawSession(t.Link())
				res := s.Initialize(conformance.LegacyVersion, Obj{})
				if v, _ := conformance.MemberText(res, "protocolVersion"); !datePattern.MatchString(v) {
					t.Violate("protocolVersion is %s", orAbsent(conformance.Member(res, "protocolVersion")))
				}
				if conformance.Member(res, "capabilities").Kind() != '{' {
					t.Violate("capabilities is %s", orAbsent(conformance.Member(res, "capabilities")))
				}
				for _, m := range []string{"name", "version"} {
					if _, ok := conformance.MemberText(res, "serverInfo", m); !ok {
						t.Violate("serverInfo.%s is %s", m, orAbsent(conformance.Member(res, "serverInfo", m)))
					}
				}
			},
		}),
		build(legacy, "versions", req(legacy, "lifecycle", 2, must, "basic/lifecycle#version-negotiation", "If the server supports the requested protocol version, it MUST respond with the same version. Otherwise, the server MUST respond with another protocol version it supports."), conformance.Case{
			Title: "every legacy revision is answered with itself or with another that is supported",
			About: "Initializes at each legacy revision on a connection of its own. An answer with another version is right only if asking for that version gives that version.",
			Fix:   "Echo the requested protocolVersion when you support it; otherwise answer with one that you do support.",
			Fresh: true,
			Run: func(t *T) {
				echoes := map[string]bool{}
				answers := map[string]string{}
				for _, v := range conformance.LegacyVersions {
					s := t.RawSession(t.Link())
					res := s.Initialize(v, Obj{})
					got, _ := conformance.MemberText(res, "protocolVersion")
					answers[v], echoes[v] = got, got == v
				}
				for _, v := range conformance.LegacyVersions {
					got := answers[v]
					if supported, asked := echoes[got]; got != v && asked && !supported {
						t.Violate("initialize at %s was answered with %s, but initialize at %s with %s", v, got, got, answers[got])
					}
					if !datePattern.MatchString(got) {
						t.Violate("initialize at %s was answered with the protocolVersion %q", v, got)
					}
				}
			},
		}),
		build(legacy, "unknown-version", req(legacy, "lifecycle", 2, must, "basic/lifecycle#version-negotiation", "If the server supports the requested protocol version, it MUST respond with the same version. Otherwise, the server MUST respond with another protocol version it supports."), conformance.Case{
			Title: "an unknown revision is answered with one that the server supports",
			About: "Initializes at 1900-01-01. The page's own example answers such a request with an error that lists data.supported; that is accepted too.",
			Fix:   "Answer initialize at an unknown version with your latest version.",
			Fresh: true,
			Run: func(t *T) {
				s := t.RawSession(t.Link())
				r := s.Do(Call{Method: "initialize", Params: Obj{"protocolVersion": "1900-01-01", "capabilities": Obj{}, "clientInfo": conformance.ClientInfo}})
				if m := failure(r); m != nil {
					if v, ok := conformance.Strings(conformance.Member(m.Error, "data", "supported")); ok && len(v) > 0 {
						return
					}
					t.Violate("the answer is an error without data.supported: %s", conformance.Short(m.Error))
				}
				if r.Answer == nil {
					t.Violate("there was no JSON-RPC answer%s", s.Hint(r))
				}
				got, _ := conformance.MemberText(r.Answer.Result, "protocolVersion")
				if got == "1900-01-01" || !datePattern.MatchString(got) {
					t.Violate("the answer has the protocolVersion %q", got)
				}
			},
		}),
	}
	for _, e := range []conformance.Era{modern, legacy} {
		cases = append(cases, offerCase(e, "extensions", 2), offerCase(e, "experimental", 2))
	}
	return cases
}

var extensionName = regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?)*/([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$`)

func orAbsent(v jsonValue) string {
	if v == nil {
		return "absent"
	}
	return conformance.Short(v)
}

// unsupported is the case that asks for a version that nobody speaks.
func unsupported(name, v, which string) conformance.Case {
	return build(modern, name, req(modern, "versioning", 1, must, "basic/versioning#protocol-version-negotiation", "If the server does not implement the requested version (whether the version is unknown to the server, or is a known version the server has chosen not to support), it MUST respond with an UnsupportedProtocolVersionError listing the versions it does support"), conformance.Case{
		Title: "the unknown version " + v + " is refused with -32022 and the supported versions",
		About: "Asks for version " + v + ", " + which + ", in _meta and header, and looks at the code, at data.supported and data.requested and, over HTTP, at the status 400.",
		Fix:   "Answer -32022 with data.supported and data.requested.",
		Twin:  "request",
		Run: func(t *T) {
			s := t.Session()
			r := s.Do(Call{Method: "server/discover", Meta: Obj{conformance.MetaVersion: v}, Header: map[string]string{"MCP-Protocol-Version": v}})
			refused(t, s, r, 400, jsonrpc.CodeUnsupportedVersion)
			data := conformance.Member(failure(r).Error, "data")
			sup, ok := conformance.Strings(conformance.Member(data, "supported"))
			if !ok || len(sup) == 0 {
				t.Violate("error.data.supported is %s", orAbsent(conformance.Member(data, "supported")))
			}
			if got, _ := conformance.MemberText(data, "requested"); got != v {
				t.Violate("error.data.requested is %s", orAbsent(conformance.Member(data, "requested")))
			}
			for _, have := range sup {
				if have == conformance.ModernVersion {
					return
				}
			}
			t.Violate("error.data.supported %q lacks %s, which the server speaks", sup, conformance.ModernVersion)
		},
	})
}
