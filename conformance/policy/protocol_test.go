package policy

import (
	"strings"
	"testing"
)

func TestParseAnswer(t *testing.T) {
	for line, ok := range map[string]bool{
		`{"id":"1","results":[{"decision":"deny","failure":"policy.trap"}]}`:      true,
		`{"id":"1","results":[],"more":1}`:                                        true, // for people who read along
		`{"id":"1","not_implemented":true}`:                                       true,
		`{"id":"1","digest":"00ff"}`:                                              true,
		`{"id":"1","claims":{"name":"x"}}`:                                        true,
		`{"id":"2"}`:                                                              false,
		`{"id":"1","id":"1"}`:                                                     false,
		`{"id":"1","results":[{"decision":"permit"}]}`:                            false,
		`{"id":"1","results":[{"failure":"policy.trap"}]}`:                        false,
		`{"id":"1","results":[{"decision":"deny","fuel":-1}]}`:                    false,
		`{"id":"1","results":[{"decision":"deny","vector":{"hardware":128}}]}`:    false,
		`{"id":"1","results":[{"decision":"deny","log":"*"}]}`:                    false,
		`{"id":"1","digest":"x"}`:                                                 false,
		`{"id":"1","claims":[]}`:                                                  false,
		`{"id":"1"}{}`:                                                            false,
		`{"id":"1","results":[{"decision":"deny","detail":"` + "\xff" + `"}]}`:    false,
		`{"id":"1","claims":` + strings.Repeat("[", 99) + strings.Repeat("]", 99): false,
	} {
		if _, err := parseAnswer([]byte(line), "1"); (err == nil) != ok {
			t.Errorf("%.80s: %v", line, err)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"id":"1","results":[{"decision":"allow","fuel":409,"vector":{"hardware":2},"obligations":[{"id":"a","value":1}],"decided":[0],"asked":1,"log":"AA=="}]}`))
	f.Add([]byte(`{"id":"1","digest":"00","not_implemented":true,"claims":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAnswer(b, "1")
		if err != nil {
			return
		}
		out, err := a.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseAnswer(out, "1"); err != nil {
			t.Errorf("%s, written as %s: %v", b, out, err)
		}
	})
}

// Every case has a request that stays within what shims must read, and the
// vectors have one name each.
func TestRequests(t *testing.T) {
	names := map[string]bool{}
	for _, v := range vectors() {
		if names[v.name] {
			t.Errorf("%s stands twice", v.name)
		}
		names[v.name] = true
		r := v.make()
		line, err := r.Encode()
		if err != nil || len(line) > 16<<20 {
			t.Errorf("%s: %d bytes, %v", v.name, len(line), err)
		}
		if _, err := ParseRequest(line); err != nil {
			t.Errorf("%s: %v", v.name, err)
		}
	}
	for name, twin := range twins {
		if !names["hostile-"+name] || !names[twin] {
			t.Errorf("twin %s of %s: one of both is not there", twin, name)
		}
	}
}
