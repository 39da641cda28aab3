package transport

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
)

// Revisions of MCP that an outer leg may be of. The conversation inside the
// seal has its own.
const (
	revisionModern = "2026-07-28"
	revisionLegacy = "2025-11-25"
)

var outerRevisions = []string{revisionModern, revisionLegacy, "2025-06-18", "2025-03-26", "2024-11-05"}

// Keys of _meta that MCP defines.
const (
	metaVersion      = "io.modelcontextprotocol/protocolVersion"
	metaCapabilities = "io.modelcontextprotocol/clientCapabilities"
	metaClientInfo   = "io.modelcontextprotocol/clientInfo"
	metaServerInfo   = "io.modelcontextprotocol/serverInfo"
)

const (
	typeJSON = "application/json"
	typeSSE  = "text/event-stream"

	headerVersion = "Mcp-Protocol-Version"
	headerMethod  = "Mcp-Method"
	headerName    = "Mcp-Name"
	headerSession = "Mcp-Session-Id"
	headerParam   = "Mcp-Param-" // prefix
)

// outerName is how the trust layer names itself outside the seal. It is
// constant, so that it tells nothing of what is inside.
const outerName = `{"name":"org.trustedmcp/trust","version":"1"}`

// Limits bound what is read from a peer. A zero field means its default.
type Limits struct {
	// MaxMessage is the size of one inner message in bytes, default 4 MiB. What
	// carries it may be larger by the encoding.
	MaxMessage int
	// MaxDepth is the nesting of JSON outside the seal, default 64.
	MaxDepth int
}

func (l Limits) message() int { return jsonrpc.Limits{MaxBytes: l.MaxMessage}.Bytes() }

// outer is the size of an outer message that holds one inner message of the
// greatest size, its HTTP fields and the sealing.
func (l Limits) outer() int { return l.message()/3*4 + 128<<10 }

func (l Limits) json() jsonrpc.Limits {
	return jsonrpc.Limits{MaxBytes: l.outer(), MaxDepth: l.MaxDepth}
}

func clockOr(c func() time.Time) func() time.Time {
	if c == nil {
		return time.Now
	}
	return c
}

// hopByHop are the fields of one connection (RFC 9110 section 7.6.1), and those
// that are computed anew on the other side of the seal.
var hopByHop = map[string]bool{
	"connection": true, "keep-alive": true, "proxy-connection": true, "proxy-authenticate": true,
	"proxy-authorization": true, "te": true, "trailer": true, "transfer-encoding": true, "upgrade": true,
	"content-length": true, "accept-encoding": true, "expect": true,
}

// packFields turns HTTP fields into sealed ones, in a stable order.
func packFields(h http.Header) []protocol.Field {
	names := make([]string, 0, len(h))
	total := 0
	for name, values := range h {
		names = append(names, name)
		total += len(values)
	}
	slices.Sort(names)
	out := make([]protocol.Field, 0, total)
	listed := h["Connection"]
	for _, name := range names {
		lower := strings.ToLower(name)
		if hopByHop[lower] || listsToken(listed, lower) {
			continue
		}
		for _, v := range h[name] {
			out = append(out, protocol.Field{Name: lower, Value: []byte(v)})
		}
	}
	return out
}

func listsToken(values []string, token string) bool {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// unpackFields is the reverse of packFields. Fields of the connection that a
// peer sealed all the same are dropped: they could desynchronise the parsers.
func unpackFields(fields []protocol.Field) http.Header {
	h := make(http.Header, len(fields)+2)
	for _, f := range fields {
		if !hopByHop[f.Name] && f.Name != "host" {
			name := textproto.CanonicalMIMEHeaderKey(f.Name)
			h[name] = append(h[name], string(f.Value))
		}
	}
	return h
}

// shape says what is wrong with JSON that was sealed, and nothing of what it
// holds: the parser's own words name members.
func shape(err error) string {
	var e *jsonrpc.ParseError
	if errors.As(err, &e) {
		return e.Reason
	}
	return "not-json"
}

func isType(header http.Header, want string) bool {
	t, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(t), want)
}

var (
	b64      = base64.RawURLEncoding
	strict64 = b64.Strict()
)

// cutFrame takes the value of the first member "frame" out of an outer message,
// so that the strict parser need not walk over what is base64url anyway: rest
// is the message with that value empty. When the text is not of the usual form,
// frame is nil and rest is body.
func cutFrame(body []byte) (frame, rest []byte) {
	const key = `"frame":"`
	i := bytes.Index(body, []byte(key))
	if i < 0 || i > 0 && body[i-1] == '\\' {
		return nil, body
	}
	start := i + len(key)
	n := bytes.IndexByte(body[start:], '"')
	if n <= 0 {
		return nil, body
	}
	rest = make([]byte, 0, len(body)-n)
	return body[start : start+n], append(append(rest, body[:start]...), body[start+n:]...)
}

// outer is an outer JSON-RPC message, parsed strictly.
type outer struct {
	*jsonrpc.Message
	frame  []byte         // what the member "frame" of params or result holds; nil when absent
	badB64 error          // it is there, and is not base64url
	held   *[]byte        // what frame lies in, see release
	meta   jsontext.Value // _meta of params or result
	name   string         // params.name
	nonce  string         // params.nonce
	fresh  bool           // params.evidence is "fresh"
	frames jsontext.Value // _meta[MetaFrames]
	attest jsontext.Value // _meta[MetaAttest]
	args   bool           // params.arguments is present

	version      string         // the revision of a modern request, by its own _meta
	capabilities jsontext.Value // of the client of a modern request
	announced    jsontext.Value // client settings that stand outside, or nil
}

// parseOuter reads an outer message and the members that the trust layer
// decides by.
func parseOuter(body []byte, lim jsonrpc.Limits) (*outer, error) {
	if len(body) > lim.Bytes() {
		return nil, &jsonrpc.ParseError{Code: jsonrpc.CodeParse, Reason: "too-large", Detail: "the message is over the size limit"}
	}
	cut, rest := cutFrame(body)
	if cut != nil {
		if o := usual(rest, lim); o != nil {
			o.decode(cut)
			return o, nil
		}
	}
	o, used, err := parseRest(rest, cut, lim)
	if err == nil && cut != nil && !used { // it was not the one; then nothing is cut
		o, _, err = parseRest(body, nil, lim)
	}
	if err == nil && used {
		remember(o, lim)
	}
	return o, err
}

func parseRest(rest, cut []byte, lim jsonrpc.Limits) (o *outer, used bool, err error) {
	m, err := jsonrpc.Parse(rest, lim)
	if err != nil {
		return nil, false, err
	}
	o = &outer{Message: m}
	holder := m.Params
	if m.IsResponse() {
		holder = m.Result
	}
	if holder.Kind() != '{' {
		return o, false, nil
	}
	err = jsonrpc.Members(holder, func(name string, v jsontext.Value) error {
		switch name {
		case "frame":
			s, ok := jsonrpc.Text(v)
			switch used = cut != nil && ok && s == ""; {
			case used:
				o.decode(cut)
			case ok:
				o.frame, o.badB64 = protocol.ParseBase64(s)
			default:
				o.badB64 = protocol.Errorf(protocol.MalformedFrame, "the frame is not a string")
			}
		case "_meta":
			o.meta = v
		case "name":
			o.name, _ = jsonrpc.Text(v)
		case "nonce":
			o.nonce, _ = jsonrpc.Text(v)
		case "evidence":
			s, _ := jsonrpc.Text(v)
			o.fresh = s == "fresh"
		case "arguments":
			o.args = true
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return o, used, o.takeMeta()
}

// takeMeta reads the members of _meta that the trust layer decides by.
func (o *outer) takeMeta() error {
	if o.meta.Kind() != '{' {
		return nil
	}
	return jsonrpc.Members(o.meta, func(name string, v jsontext.Value) error {
		switch name {
		case protocol.MetaFrames:
			o.frames = v
		case protocol.MetaAttest:
			o.attest = v
		case metaVersion:
			o.version, _ = jsonrpc.Text(v)
		case metaCapabilities:
			o.capabilities = v
			o.announced = jsonrpc.Get(v, "extensions", protocol.ExtensionID)
		}
		return nil
	})
}

// decode is [protocol.ParseBase64] for bytes, into a kept buffer.
func (o *outer) decode(text []byte) {
	o.held = getBuffer()
	if o.frame, o.badB64 = decodeFrame((*o.held)[:0], text); o.badB64 == nil {
		*o.held = o.frame
	}
}

// release gives up the frame, which has been opened: what was sealed in it lies
// elsewhere.
func (o *outer) release() {
	if o.held != nil {
		putBuffer(o.held)
	}
	o.frame, o.held = nil, nil
}

// decodeFrame appends what text stands for to dst.
func decodeFrame(dst, text []byte) ([]byte, error) {
	if bytes.IndexByte(text, '\n') >= 0 || bytes.IndexByte(text, '\r') >= 0 { // encoding/base64 skips them
		return nil, protocol.Errorf(protocol.MalformedFrame, "a line break in base64url")
	}
	b, err := strict64.AppendDecode(dst, text)
	if err != nil {
		return nil, protocol.Errorf(protocol.MalformedFrame, "base64url without padding expected: %v", err)
	}
	return b, nil
}

// takeFrame is the frame of a message that must have one.
func (o *outer) takeFrame() ([]byte, error) {
	if o.badB64 == nil && len(o.frame) == 0 {
		return nil, protocol.Errorf(protocol.MalformedFrame, "the message has no frame")
	}
	return o.frame, o.badB64
}

// requestID is the id of a JSON-RPC request, and empty for every other message.
// It reads no further than it must, and decides nothing: whoever the message is
// for parses it.
func requestID(data []byte) jsonrpc.ID {
	dec := jsontext.NewDecoder(bytes.NewBuffer(data))
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '{' {
		return ""
	}
	var id jsonrpc.ID
	for method := false; dec.PeekKind() == '"'; {
		tok, err := dec.ReadToken()
		if err != nil {
			return ""
		}
		name := tok.String()
		v, err := dec.ReadValue()
		if err != nil {
			return ""
		}
		switch name {
		case "id":
			if k := v.Kind(); k != '"' && k != '0' {
				return ""
			}
			id = jsonrpc.ID(v)
		case "method":
			method = true
		case "result", "error":
			return ""
		}
		if method && id != "" {
			return id
		}
	}
	return ""
}
