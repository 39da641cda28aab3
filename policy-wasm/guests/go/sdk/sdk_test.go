package policy

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/document"
	"github.com/trustedmcp/tmcp/policy-wasm/guests/guesttest"
)

// ask runs f over a document in JSON, and returns its answer in JSON.
func ask(t *testing.T, doc string, f func(Value, *Result)) string {
	t.Helper()
	in, err := policywasm.NewInput([]byte(doc), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	b, err := in.Bytes(policywasm.CBOR)
	if err != nil {
		t.Fatal(err)
	}
	out := answer(f, string(b), true)
	text, err := dcbor.ToJSON(nil, out)
	if err != nil {
		t.Fatalf("answer %x: %v", out, err)
	}
	if _, err := policywasm.DecodeResult(out, policywasm.CBOR, policywasm.Appraise); err != nil {
		t.Errorf("answer %s: %v", text, err)
	}
	return string(text)
}

func fault(code, claim string) string {
	if claim != "" {
		claim = `,"claim":"` + claim + `"`
	}
	return `{"reasons":[{"code":"` + code + `","text":"` + explain(code) + `"` + claim + `}],"decision":"deny"}`
}

const sample = `{"a":{"n":null,"i":-7,"big":9007199254740991,"t":true,"s":"é","l":[1,[],{"x":2}]},"x/y":{"~":[0]},"":0,"o":{}}`

// TestReads: what stands there is read, and no fault is noted.
func TestReads(t *testing.T) {
	for name, ok := range map[string]func(a, doc Value) bool{
		"int":        func(a, _ Value) bool { return a.Get("i").Int() == -7 && a.Get("big").Int() == 9007199254740991 },
		"bool":       func(a, _ Value) bool { return a.Get("t").Bool() },
		"text":       func(a, _ Value) bool { return a.Get("s").Text() == "é" },
		"null":       func(a, _ Value) bool { return a.Get("n").IsNull() && !a.Get("i").IsNull() },
		"array":      func(a, _ Value) bool { return a.Get("l").Len() == 3 && a.Get("l").At(2).Get("x").Int() == 2 },
		"object":     func(a, doc Value) bool { return a.Len() == 6 && doc.Len() == 4 },
		"empty name": func(_, doc Value) bool { return doc.Get("").Int() == 0 },
		"find":       func(a, _ Value) bool { return a.Find("i").Int() == -7 && a.Find("none").IsNull() },
		"find of null": func(a, _ Value) bool {
			return a.Get("n").Find("x").Find("y").IsNull() && a.Find("none").Find("y").IsNull()
		},
		"or": func(a, _ Value) bool {
			return a.Find("no").IntOr(3) == 3 && a.Get("n").TextOr("x") == "x" && a.Get("n").BoolOr(true)
		},
		"or, but there": func(a, _ Value) bool {
			return a.Get("i").IntOr(3) == -7 && a.Get("s").TextOr("x") == "é" && a.Get("t").BoolOr(false)
		},
		"pointer":          func(a, _ Value) bool { return a.Get("l").At(2).Get("x").Pointer() == "/a/l/2/x" },
		"pointer, escaped": func(_, doc Value) bool { return doc.Get("x/y").Get("~").At(0).Pointer() == "/x~1y/~0/0" },
		"pointer of none": func(a, doc Value) bool {
			return a.Find("no").Pointer() == "/a/no" && doc.Pointer() == "" && Value{}.Pointer() == ""
		},
		"items of {}": func(_, doc Value) bool {
			for range doc.Get("o").Items() {
				return false
			}
			return true
		},
		"members": func(a, _ Value) bool {
			var names []string
			for name, v := range a.Members() {
				names = append(names, name+"="+v.Pointer())
			}
			return strings.Join(names, " ") == "i=/a/i l=/a/l n=/a/n s=/a/s t=/a/t big=/a/big"
		},
		"items": func(a, _ Value) bool {
			var at []string
			for i, v := range a.Get("l").Items() {
				at = append(at, strconv.Itoa(i)+v.Pointer())
				if i == 1 {
					break
				}
			}
			return strings.Join(at, " ") == "0/a/l/0 1/a/l/1"
		},
	} {
		good := false
		got := ask(t, sample, func(doc Value, r *Result) {
			good = ok(doc.Get("a"), doc)
			r.AffirmAll(Affirming)
			r.Allow()
		})
		if !good || !strings.Contains(got, `"decision":"allow"`) {
			t.Errorf("%s: %v, %s", name, good, got)
		}
	}
}

// TestFaults: what can't be read denies, and says where, whatever else the
// policy does.
func TestFaults(t *testing.T) {
	long := strings.Repeat("n", 250)
	for name, c := range map[string]struct {
		read        func(a, doc Value)
		code, claim string
	}{
		"missing":                 {func(a, _ Value) { a.Get("no") }, claimMissing, "/a/no"},
		"missing, and below":      {func(a, _ Value) { a.Get("no").Get("x").At(1).Text() }, claimMissing, "/a/no"},
		"missing, found, read":    {func(a, _ Value) { a.Find("no").Find("below").Int() }, claimMissing, "/a/no"},
		"missing, found, entered": {func(a, _ Value) { a.Find("no").Get("below") }, claimMissing, "/a/no"},
		"missing, found, counted": {func(a, _ Value) { a.Find("no").Len() }, claimMissing, "/a/no"},
		"element":                 {func(a, _ Value) { a.Get("l").At(3) }, claimMissing, "/a/l/3"},
		"element before":          {func(a, _ Value) { a.Get("l").At(-1) }, claimMissing, "/a/l/-1"},
		"null as bool":            {func(a, _ Value) { a.Get("n").Bool() }, claimType, "/a/n"},
		"null as object":          {func(a, _ Value) { a.Get("n").Get("x") }, claimType, "/a/n"},
		"null found, as text":     {func(a, _ Value) { a.Find("n").Find("x").Text() }, claimType, "/a/n"},
		"null as array":           {func(a, _ Value) { a.Get("n").Len() }, claimType, "/a/n"},
		"text as int":             {func(a, _ Value) { a.Get("s").Int() }, claimType, "/a/s"},
		"text as int, or":         {func(a, _ Value) { a.Get("s").IntOr(1) }, claimType, "/a/s"},
		"int as text":             {func(a, _ Value) { a.Get("i").Text() }, claimType, "/a/i"},
		"int as bool":             {func(a, _ Value) { a.Get("i").BoolOr(true) }, claimType, "/a/i"},
		"bool as int":             {func(a, _ Value) { a.Get("t").Int() }, claimType, "/a/t"},
		"find in array":           {func(a, _ Value) { a.Get("l").Find("x") }, claimType, "/a/l"},
		"object as array":         {func(_, doc Value) { doc.At(0) }, claimType, ""},
		"items of object": {func(a, _ Value) {
			for range a.Items() {
				panic("an item")
			}
		}, claimType, "/a"},
		"items of text": {func(a, _ Value) {
			for range a.Get("s").Items() {
				panic("an item")
			}
		}, claimType, "/a/s"},
		"members of array": {func(a, _ Value) {
			for range a.Get("l").Members() {
				panic("a member")
			}
		}, claimType, "/a/l"},
		"the first of two": {func(a, doc Value) { a.Get("one"); doc.Get("two"); a.Get("i").Text() }, claimMissing, "/a/one"},
		"a long way":       {func(a, _ Value) { a.Find(long).Int(); a.Get("no") }, claimMissing, "/a/" + long},
		"just no longer":   {func(a, _ Value) { a.Find(long + "123").Int() }, claimMissing, "/a/" + long + "123"},
		"too long a way":   {func(_, doc Value) { doc.Get("a").Find(long + "1234").Int() }, claimMissing, "/a"},
	} {
		got := ask(t, sample, func(doc Value, r *Result) {
			r.Note("note", "", "")
			r.Oblige("x", 1)
			c.read(doc.Get("a"), doc)
			r.Deny("deny", "", "")
			r.AffirmAll(Affirming)
			r.Allow()
		})
		if want := fault(c.code, c.claim); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
		}
	}
}

// TestAnswers: decisions, and what stands beside them.
func TestAnswers(t *testing.T) {
	long := strings.Repeat("x", 255)
	for name, c := range map[string]struct {
		f    func(*Result)
		want string
	}{
		"nothing":       {func(*Result) {}, fault(noDecision, "")},
		"allow":         {(*Result).Allow, `{"decision":"allow"}`},
		"abstain":       {(*Result).Abstain, `{"decision":"abstain"}`},
		"both":          {func(r *Result) { r.Abstain(); r.Allow() }, `{"decision":"allow"}`},
		"deny":          {func(r *Result) { r.Allow(); r.Deny("no", "", "") }, `{"reasons":[{"code":"no"}],"decision":"deny"}`},
		"claim only":    {func(r *Result) { r.Deny("no", "", "/a") }, `{"reasons":[{"code":"no","claim":"/a"}],"decision":"deny"}`},
		"in order":      {func(r *Result) { r.Note("a", "b", ""); r.Deny("c", "", ""); r.Note("d", "", "") }, `{"reasons":[{"code":"a","text":"b"},{"code":"c"},{"code":"d"}],"decision":"deny"}`},
		"note, no more": {func(r *Result) { r.Note("a", "", "") }, `{"reasons":[{"code":"a"},{"code":"no-decision","text":"the policy did not decide"}],"decision":"deny"}`},
		"vector": {func(r *Result) {
			r.Affirm(InstanceIdentity, -128)
			r.Affirm(Hardware, 1)
			r.Affirm(Hardware, 96)
			r.Abstain()
		}, `{"vector":{"hardware":96,"instance-identity":-128},"decision":"abstain"}`},
		"obligations": {func(r *Result) {
			r.Oblige("b", 1)
			r.ObligeText("a", "é")
			r.ObligeBool("b", true)
			r.Oblige("c", -300)
			r.Allow()
		}, `{"decision":"allow","obligations":[{"id":"b","value":true},{"id":"a","value":"é"},{"id":"c","value":-300}]}`},
		"obliged, denied":  {func(r *Result) { r.Oblige("b", 1); r.Deny("no", "", "") }, `{"reasons":[{"code":"no"}],"decision":"deny"}`},
		"text of 256":      {func(r *Result) { r.Deny("no", long+"y", "") }, `{"reasons":[{"code":"no","text":"` + long + `y"}],"decision":"deny"}`},
		"text of 257":      {func(r *Result) { r.Deny("no", long+"yz", "") }, `{"reasons":[{"code":"no","text":"` + long + `y"}],"decision":"deny"}`},
		"whole characters": {func(r *Result) { r.Deny("no", long+"é", "") }, `{"reasons":[{"code":"no","text":"` + long + `"}],"decision":"deny"}`},
	} {
		if got := ask(t, sample, func(_ Value, r *Result) { c.f(r) }); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, c.want)
		}
	}
}

// TestBounds: of reasons the first 32 stand; a 17th obligation denies.
func TestBounds(t *testing.T) {
	got := ask(t, sample, func(_ Value, r *Result) {
		for i := range 40 {
			r.Deny(fmt.Sprintf("c-%d", i), "", "")
		}
	})
	if !strings.HasSuffix(got, `{"code":"c-31"}],"decision":"deny"}`) || !strings.Contains(got, `[{"code":"c-0"}`) {
		t.Error(got)
	}
	for n, want := range map[int]string{16: `{"id":"o-15","value":15}]}`, 17: fault(resultLimit, "")} {
		got := ask(t, sample, func(_ Value, r *Result) {
			for i := range n {
				r.Oblige(fmt.Sprintf("o-%d", i), int64(i))
			}
			r.Allow()
		})
		if !strings.HasSuffix(got, want) {
			t.Errorf("%d obligations: %s", n, got)
		}
	}
	if cut(strings.Repeat("\x80", 300)) != "" {
		t.Error("bytes that are no text were not cut off")
	}
}

// TestNoPolicy: a question that nobody set a function for is denied; and so is
// what is no document.
func TestNoPolicy(t *testing.T) {
	if got := ask(t, sample, nil); got != fault(noDecision, "") {
		t.Error(got)
	}
	for why, b := range guesttest.Malformed() {
		if valid(string(b)) {
			t.Errorf("%s: %x is taken for a document", why, b)
		}
		asked := false
		out, err := dcbor.ToJSON(nil, answer(func(_ Value, r *Result) { asked = true; r.Allow() }, string(b), false))
		if err != nil || string(out) != fault(inputMalformed, "") || asked {
			t.Errorf("%s: %s, %v", why, out, err)
		}
	}
}

// TestAuthorizeHasNoVector: hosts refuse one there.
func TestAuthorizeHasNoVector(t *testing.T) {
	f := func(_ Value, r *Result) { r.AffirmAll(Affirming); r.Allow() }
	if out, err := dcbor.ToJSON(nil, answer(f, "\xa0", false)); err != nil || string(out) != `{"decision":"allow"}` {
		t.Errorf("%s, %v", out, err)
	}
}

func TestTry(t *testing.T) {
	doc := Object{"n": nil, "b": true, "i": -5, "s": "x", "l": List{1, Object{"y": 2, "xx": 3}}}
	read := func(d Value, r *Result) {
		if d.Get("n").IsNull() && d.Get("b").Bool() && d.Get("i").Int() == -5 && d.Get("s").Text() == "x" && d.Get("l").At(1).Get("xx").Int() == 3 {
			r.Note("read", "", "")
		}
		r.Allow()
	}
	if got := Try(read, doc); got != "allow read" {
		t.Error(got)
	}
	if got := Try(read, Object{"n": 1.5}); got != "deny input-malformed" {
		t.Error(got)
	}
	if got := Try((func(Value, *Result))(nil), doc); got != "deny no-decision" {
		t.Error(got)
	}
}

// wanted reports whether our general reader, and the host's rules for documents,
// take b for a document in its one encoding.
func wanted(b []byte) bool {
	text, err := dcbor.ToJSON(nil, b)
	if err != nil {
		return false
	}
	in, err := policywasm.NewInput(text, 1<<30)
	if err != nil {
		return false
	}
	again, err := in.Bytes(policywasm.CBOR)
	return err == nil && bytes.Equal(again, b)
}

// FuzzValid: the SDK takes what the host gives and nothing else, and what it
// takes it reads to the end.
func FuzzValid(f *testing.F) {
	for _, b := range guesttest.Malformed() {
		f.Add(b)
	}
	for _, name := range document.Samples() {
		text, _ := document.Sample(name)
		if b, err := dcbor.FromJSON(nil, text); err == nil {
			f.Add(b)
		}
	}
	for _, s := range []string{"\x00", "\xa2\x60\x00\x61a\x80", "\x98\x18" + strings.Repeat("\xf4", 24), strings.Repeat("\x81", 32) + "\x00", strings.Repeat("\x81", 31) + "\xa1\x60\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := valid(string(b))
		if want := wanted(b); got != want {
			t.Fatalf("%x: valid %v, our reader says %v", b, got, want)
		}
		if !got {
			return
		}
		r := &Result{doc: string(b)}
		if again := again(nil, Value{r: r}); !bytes.Equal(again, b) || r.fault != "" {
			t.Fatalf("%x was read as %x, fault %q at %q", b, again, r.fault, r.claim)
		}
	})
}

// again reads v and writes it.
func again(b []byte, v Value) []byte {
	switch v.r.doc[v.at] >> 5 {
	case kindText:
		return dcbor.AppendText(b, v.Text())
	case kindArray:
		b = dcbor.AppendArray(b, v.Len())
		for _, item := range v.Items() {
			b = again(b, item)
		}
		return b
	case kindMap:
		b = dcbor.AppendMap(b, v.Len())
		for name, item := range v.Members() {
			b = again(dcbor.AppendText(b, name), item)
		}
		return b
	case kindOther:
		if v.IsNull() {
			return dcbor.AppendNull(b)
		}
		return dcbor.AppendBool(b, v.Bool())
	}
	return dcbor.AppendInt(b, v.Int())
}

// TestPlaces: each place of a random document is found by Get and At, and its
// pointer leads there.
func TestPlaces(t *testing.T) {
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		leaves := rapid.OneOf(rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.String().AsAny(), rapid.IntRange(-maxInt, maxInt).AsAny())
		if depth == 0 {
			return leaves
		}
		return rapid.Custom(func(t *rapid.T) any {
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 0:
				return List(rapid.SliceOfN(value(depth-1), 0, 30).Draw(t, "list"))
			case 1:
				return Object(rapid.MapOfN(rapid.String(), value(depth-1), 0, 30).Draw(t, "object"))
			}
			return leaves.Draw(t, "leaf")
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		doc := value(3).Draw(t, "document")
		b := encode(doc)
		if !valid(string(b)) || !wanted(b) {
			t.Fatalf("%x of %v is not valid", b, doc)
		}
		r := &Result{doc: string(b)}
		compare(t, Value{r: r}, doc, "")
		if r.fault != "" {
			t.Fatalf("%v: %s at %s", doc, r.fault, r.claim)
		}
	})
}

func compare(t *rapid.T, v Value, want any, pointer string) {
	if got := v.Pointer(); len(pointer) <= maxText && got != pointer {
		t.Fatalf("pointer %q of %q", got, pointer)
	}
	switch want := want.(type) {
	case nil:
		if !v.IsNull() {
			t.Fatalf("%s is not null", pointer)
		}
	case bool:
		if v.Bool() != want {
			t.Fatalf("%s is not %v", pointer, want)
		}
	case int:
		if v.Int() != int64(want) {
			t.Fatalf("%s is not %v", pointer, want)
		}
	case string:
		if v.Text() != want {
			t.Fatalf("%s is not %q", pointer, want)
		}
	case List:
		if v.Len() != len(want) {
			t.Fatalf("%s has %d elements, not %d", pointer, v.Len(), len(want))
		}
		for i, item := range want {
			compare(t, v.At(i), item, pointer+"/"+strconv.Itoa(i))
		}
	case Object:
		if v.Len() != len(want) {
			t.Fatalf("%s has %d members, not %d", pointer, v.Len(), len(want))
		}
		for name, item := range want {
			compare(t, v.Get(name), item, pointer+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(name))
		}
	}
}
