package transport

import (
	"bytes"
	"testing"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// What the short way takes is what the strict parser makes of the same bytes,
// and what differs in one byte takes the long way.
func TestUsualFormIsParsedAlike(t *testing.T) {
	const meta = `{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"extensions":{"org.trustedmcp/trust":{"version":1}}}}`
	call := `{"jsonrpc":"2.0","id":12,"method":"trust/call","params":{"frame":"QUJD","_meta":` + meta + `}}`
	lim := jsonrpc.Limits{}
	if _, err := parseOuter([]byte(call), lim); err != nil { // remembers meta
		t.Fatal(err)
	}
	cut := func(s string) []byte { _, rest := cutFrame([]byte(s)); return rest }
	if usual(cut(call), lim) == nil {
		t.Fatal("the usual call is not known as such")
	}
	if usual(cut(call), jsonrpc.Limits{MaxDepth: 3}) != nil {
		t.Error("a _meta that was parsed under other limits was taken")
	}
	answer := `{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","frame":"QUJD"}}`
	for _, s := range []string{call, answer} {
		got, err := parseOuter([]byte(s), lim)
		if err != nil {
			t.Fatal(err)
		}
		want, _, err := parseRest([]byte(s), nil, lim)
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != want.ID || got.Method != want.Method || !bytes.Equal(got.frame, want.frame) || got.version != want.version ||
			!bytes.Equal(got.capabilities, want.capabilities) || !bytes.Equal(got.announced, want.announced) || !bytes.Equal(got.meta, want.meta) {
			t.Errorf("%s: %+v, strictly %+v", s, got, want)
		}
		rest := cut(s)
		for i := range rest {
			for _, c := range []byte{'x', '"', '{', '}', ',', 0, '0'} {
				b := bytes.Clone(rest)
				if b[i] == c {
					continue
				}
				b[i] = c
				o := usual(b, lim)
				if o == nil {
					continue
				}
				if _, _, err := parseRest(b, nil, lim); err != nil {
					t.Errorf("the short way takes %s, the strict parser says %v", b, err)
				}
			}
		}
	}
	for _, id := range []string{"", "00", "-1", `"a"`, "1.5", "null", "1234567890123456789012"} {
		if usual([]byte(`{"jsonrpc":"2.0","id":`+id+`,"result":{"resultType":"complete","frame":""}}`), lim) != nil {
			t.Errorf("id %q was taken", id)
		}
	}
}

func FuzzParseOuter(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"trust/call","params":{"frame":"QUJD","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","frame":"QUJD"}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":"\"frame\":\"","frame":"QUJD"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		lim := jsonrpc.Limits{}
		o, err := parseOuter(b, lim)
		if err != nil {
			return
		}
		want, _, err := parseRest(b, nil, lim)
		if err != nil {
			if o.badB64 != nil {
				return // refused as base64url instead
			}
			t.Fatalf("%q: taken, but the strict parser says %v", b, err)
		}
		if o.Method != want.Method || o.ID != want.ID || o.badB64 == nil && want.badB64 == nil && !bytes.Equal(o.frame, want.frame) {
			t.Fatalf("%q: %+v, strictly %+v", b, o, want)
		}
	})
}
