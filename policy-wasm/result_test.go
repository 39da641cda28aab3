package policywasm_test

import (
	"strings"
	"testing"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
)

func TestDecodeResult(t *testing.T) {
	with := func(members string) string { return `{"decision":"allow",` + members + `}` }
	times := func(n int, one string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(one+",", n), ",") + "]"
	}
	x := func(n int) string { return strings.Repeat("x", n) }
	for doc, ok := range map[string]bool{
		corpus.AllowAnswer:                             true,
		corpus.DenyAnswer:                              true,
		corpus.AbstainAnswer:                           true,
		with(`"reasons":[]`):                           true,
		with(`"reasons":` + times(32, `{"code":"a"}`)): true,
		with(`"reasons":[{"code":"` + x(64) + `","text":"` + x(256) + `"}]`): true,
		with(`"obligations":` + times(16, `{"id":"a","value":null}`)):        true,
		with(`"obligations":[{"id":"a","value":"` + x(1022) + `"}]`):         true,
		with(`"vector":{}`):                true,
		with(`"vector":{"hardware":-128}`): true,
		"":                                 false,
		"null":                             false,
		"[]":                               false,
		`"allow"`:                          false,
		"{}":                               false,
		`{"decision":"Allow"}`:             false,
		`{"decision":null}`:                false,
		`{"decision":["allow"]}`:           false,
		`{"decision":"allow","decision":"allow"}`:                    false,
		with(`"reasons":{}`):                                         false,
		with(`"reasons":null`):                                       false,
		with(`"reasons":["a"]`):                                      false,
		with(`"reasons":[{}]`):                                       false,
		with(`"reasons":[{"text":"a"}]`):                             false,
		with(`"reasons":[{"code":""}]`):                              false,
		with(`"reasons":[{"code":"A"}]`):                             false,
		with(`"reasons":[{"code":"ä"}]`):                             false,
		with(`"reasons":[{"code":1}]`):                               false,
		with(`"reasons":[{"code":"a","more":1}]`):                    false,
		with(`"reasons":[{"code":"a","text":1}]`):                    false,
		with(`"reasons":[{"code":"` + x(65) + `"}]`):                 false,
		with(`"reasons":` + times(33, `{"code":"a"}`)):               false,
		with(`"reasons":[{"code":"a","text":"` + x(257) + `"}]`):     false,
		with(`"reasons":[{"code":"a","claim":"` + x(257) + `"}]`):    false,
		with(`"obligations":[{"id":"a"}]`):                           false,
		with(`"obligations":[{"value":1}]`):                          false,
		with(`"obligations":[{"id":"a","value":1,"more":1}]`):        false,
		with(`"obligations":[{"id":"a b","value":1}]`):               false,
		with(`"obligations":` + times(17, `{"id":"a","value":1}`)):   false,
		with(`"obligations":[{"id":"a","value":"` + x(1023) + `"}]`): false,
		with(`"obligations":[{"id":"a","value":[[[[[[[]]]]]]]}]`):    false,
		with(`"vector":[]`):                                          false,
		with(`"vector":{"hardware":128}`):                            false,
		with(`"vector":{"hardware":"2"}`):                            false,
		with(`"vector":{"hardware":-0}`):                             false,
		with(`"vector":{"hardware":1e1}`):                            false,
		with(`"vector":{"Hardware":2}`):                              false,
		with(`"status":"affirming"`):                                 false,
	} {
		if _, err := policywasm.DecodeResult([]byte(doc), policywasm.JSON, policywasm.Appraise); (err == nil) != ok {
			t.Errorf("%.80s: %v", doc, err)
		}
	}
	for _, b := range []string{"", "\xa0", "\xbf\xff", "\xa1\x68decision\x65allow\x00", "\xa1\x78\x08decision\x65allow", "\xa1\x68decision\x45allow"} {
		if _, err := policywasm.DecodeResult([]byte(b), policywasm.CBOR, policywasm.Appraise); err == nil {
			t.Errorf("CBOR %x is taken", b)
		}
	}
	if r, err := policywasm.DecodeResult([]byte("\xa1\x68decision\x65allow"), policywasm.CBOR, policywasm.Appraise); err != nil || r.Decision != policywasm.Allow {
		t.Errorf("%+v %v", r, err)
	}
}
