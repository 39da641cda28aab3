package schema

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// Builders of CBOR: an item is its encoding.
type item = []byte

func u(n uint64) item { return dcbor.AppendUint(nil, n) }
func i(n int64) item  { return dcbor.AppendInt(nil, n) }
func b(n int) item    { return dcbor.AppendBytes(nil, make([]byte, n)) }
func bs(s item) item  { return dcbor.AppendBytes(nil, s) }
func s(t string) item { return dcbor.AppendText(nil, t) }

var (
	yes = dcbor.AppendBool(nil, true)
	no  = dcbor.AppendBool(nil, false)
	nul = dcbor.AppendNull(nil)
)

func a(items ...item) item {
	return append(dcbor.AppendArray(nil, len(items)), slices.Concat(items...)...)
}

// m takes keys and values in turn, and sorts by key.
func m(kv ...item) item {
	var pairs []item
	for k := 0; k < len(kv); k += 2 {
		pairs = append(pairs, slices.Concat(kv[k], kv[k+1]))
	}
	slices.SortFunc(pairs, bytes.Compare)
	return append(dcbor.AppendMap(nil, len(pairs)), slices.Concat(pairs...)...)
}

// without and with give a map's members, changed by key.
func without(kv []item, key item) []item { return with(kv, key, nil) }

func with(kv []item, key, val item) []item {
	var out []item
	for k := 0; k < len(kv); k += 2 {
		if !bytes.Equal(kv[k], key) {
			out = append(out, kv[k], kv[k+1])
		}
	}
	if val != nil {
		out = append(out, key, val)
	}
	return out
}

func at(items []item, n int, v item) []item {
	out := slices.Clone(items)
	out[n] = v
	return out
}

// A cborCase is one input, and where it is wrong ("ok" if nowhere).
type cborCase struct {
	rule, name string
	data       item
	at         string
	// beyond says why CDDL accepts what we refuse: its grammar can't express it.
	beyond string
}

func cborCases() []cborCase {
	var out []cborCase
	add := func(rule, name string, data item, at string) { out = append(out, cborCase{rule, name, data, at, ""}) }
	beyond := func(rule, name string, data item, at, why string) {
		out = append(out, cborCase{rule, name, data, at, why})
	}

	// Key object.
	claims := []item{u(2), s("https://a.example"), u(4), u(600), u(5), u(0), u(6), u(0), u(265), s("tag:trustedmcp.org,2026:key-1"),
		i(-70000), u(1), i(-70001), a(a(u(1), b(1216)), a(u(2), b(32))), i(-70002), s("identity"), i(-70003), b(32), i(-70006), m(u(1), u(1), i(-1), u(6), i(-2), b(32))}
	header := m(u(16), s("application/vnd.trustedmcp.key+cose"))
	signature := func(kid string, more ...item) item {
		return a(bs(m(append([]item{u(1), i(-8), u(4), bs([]byte(kid))}, more...)...)), m(), b(64))
	}
	object := []item{bs(header), m(), bs(m(claims...)), a(signature("identity"))}
	key := func(o []item) item { return append(dcbor.AppendTag(nil, 98), a(o...)...) }
	add("key-object", "pinned key", key(object), "ok")
	add("key-object", "one certificate", key(at(object, 3, a(signature("identity", u(33), b(9))))), "ok")
	add("key-object", "chain and attested key", key(at(object, 3, a(signature("identity", u(33), a(b(9), b(9))), signature("attested")))), "ok")
	add("key-object", "no tag", a(object...), "")
	add("key-object", "wrong tag", append(dcbor.AppendTag(nil, 18), a(object...)...), "")
	add("key-object", "three parts", key(object[:3]), "")
	add("key-object", "typ missing", key(at(object, 0, bs(m()))), "/0/16")
	add("key-object", "typ of another kind", key(at(object, 0, bs(m(u(16), s("application/eat+cose"))))), "/0/16")
	add("key-object", "another protected header", key(at(object, 0, bs(m(u(16), s("application/vnd.trustedmcp.key+cose"), u(3), u(0))))), "/0/3")
	add("key-object", "unprotected header", key(at(object, 1, m(u(4), b(1)))), "/1/4")
	add("key-object", "payload is a map", key(at(object, 2, m(claims...))), "/2")
	add("key-object", "no signature", key(at(object, 3, a())), "/3")
	add("key-object", "three signatures", key(at(object, 3, a(signature("identity"), signature("attested"), signature("attested")))), "/3")
	add("key-object", "signatures exchanged", key(at(object, 3, a(signature("attested")))), "/3/0/0/4")
	add("key-object", "attested named identity", key(at(object, 3, a(signature("identity"), signature("identity")))), "/3/1/0/4")
	add("key-object", "chain beside attested key", key(at(object, 3, a(signature("identity"), signature("attested", u(33), b(1))))), "/3/1/0/33")
	add("key-object", "algorithm", key(at(object, 3, a(a(bs(m(u(1), i(-6), u(4), bs([]byte("identity")))), m(), b(64))))), "/3/0/0/1")
	add("key-object", "chain of one in an array", key(at(object, 3, a(signature("identity", u(33), a(b(9)))))), "/3/0/0/33")
	add("key-object", "unprotected header in a signature", key(at(object, 3, a(a(bs(m(u(1), i(-8), u(4), bs([]byte("identity")))), m(u(1), u(1)), b(64))))), "/3/0/1/1")
	beyond("key-object", "protected header not shortest", key(at(object, 0, bs(append([]byte{0xb8, 1}, header[1:]...)))), "/0", "deterministic encoding")

	// Claims.
	claim := func(key, val item) item { return m(with(claims, key, val)...) }
	add("key-claims", "least", m(without(claims, i(-70006))...), "ok")
	add("key-claims", "nonce, sets, unknown claim", m(append(slices.Clone(claims), u(10), b(8), u(299), a(), i(-70004), b(32), i(-70005), b(32), i(-70007), m(u(1), u(2)), u(1000), s("x"), i(-99), nul)...), "ok")
	for _, k := range []item{u(2), u(4), u(5), u(6), u(265), i(-70000), i(-70001), i(-70002), i(-70003)} {
		r := dcbor.NewReader(k)
		add("key-claims", "missing claim", m(without(claims, k)...), "/"+itoa(r.Int()))
	}
	add("key-claims", "sub is bytes", claim(u(2), b(3)), "/2")
	add("key-claims", "exp negative", claim(u(4), i(-1)), "/4")
	add("key-claims", "nbf is text", claim(u(5), s("0")), "/5")
	add("key-claims", "iat is null", claim(u(6), nul), "/6")
	add("key-claims", "nonce short", claim(u(10), b(7)), "/10")
	add("key-claims", "nonce long", claim(u(10), b(65)), "/10")
	add("key-claims", "profile URI", claim(u(265), s("tag:x")), "/265")
	add("key-claims", "role", claim(i(-70000), u(3)), "/-70000")
	add("key-claims", "no keys, as of a client", claim(i(-70001), a()), "ok")
	add("key-claims", "key of three parts", claim(i(-70001), a(a(u(1), b(1), b(1)))), "/-70001/0")
	add("key-claims", "key suite is text", claim(i(-70001), a(a(s("1"), b(1)))), "/-70001/0/0")
	add("key-claims", "profile is a number", claim(i(-70002), u(1)), "/-70002")
	add("key-claims", "settings digest short", claim(i(-70003), b(31)), "/-70003")
	add("key-claims", "tool-set digest long", claim(i(-70004), b(33)), "/-70004")
	add("key-claims", "policy digest is text", claim(i(-70005), s("x")), "/-70005")
	add("key-claims", "identity key without kty", claim(i(-70006), m(i(-1), u(6))), "/-70006/1")
	add("key-claims", "attested key is bytes", claim(i(-70007), b(32)), "/-70007")
	add("key-claims", "made at a time", m(append(slices.Clone(claims), i(-70008), a(u(1), u(5)), i(-70009), b(32))...), "ok")
	add("key-claims", "made for a nonce", m(append(slices.Clone(claims), i(-70008), a(u(2), b(8)))...), "ok")
	add("key-claims", "made in an epoch", m(append(slices.Clone(claims), i(-70008), a(u(3), b(1)))...), "ok")
	add("key-claims", "freshness of a kind unknown", m(append(slices.Clone(claims), i(-70008), a(u(4), b(8)))...), "/-70008/0")
	add("key-claims", "short nonce of evidence", m(append(slices.Clone(claims), i(-70008), a(u(2), b(7)))...), "/-70008/1")
	add("key-claims", "configuration digest short", m(append(slices.Clone(claims), i(-70009), b(31))...), "/-70009")
	add("key-claims", "text key", m(append(slices.Clone(claims), s("x"), u(1))...), "/x")

	// Settings.
	set := []item{s("version"), u(1), s("profiles"), a(s("identity")), s("carriers"), a(s("inline"), s("http")), s("suites"), a(s("x")), s("mode"), s("required"), s("clientKey"), s("none"), s("later"), u(7)}
	add("settings", "all members", m(set...), "ok")
	for _, k := range []string{"version", "profiles", "carriers", "suites", "mode"} {
		add("settings", "no "+k, m(without(set, s(k))...), "/"+k)
	}
	add("settings", "version", m(with(set, s("version"), u(2))...), "/version")
	add("settings", "empty profiles", m(with(set, s("profiles"), a())...), "/profiles")
	add("settings", "carriers is text", m(with(set, s("carriers"), s("inline"))...), "/carriers")
	add("settings", "suite is a number", m(with(set, s("suites"), a(u(1)))...), "/suites/0")
	add("settings", "mode", m(with(set, s("mode"), s("off"))...), "/mode")
	add("settings", "client key", m(with(set, s("clientKey"), s("x"))...), "/clientKey")
	add("settings", "integer key", m(append(slices.Clone(set), u(1), u(1))...), "/1")

	// Frames.
	open := []item{u(1), u(1), b(32), b(1120), bs(m(set...)), s("2026-07-28"), nul, yes, b(16)}
	next := []item{u(2), b(16), u(1<<48 - 1), u(1<<32 - 1), no, b(17)}
	first := []item{u(3), b(16), u(0), u(0), no, b(16), b(16)}
	later := []item{u(3), b(16), u(5), u(1), yes, nul, b(16)}
	for name, f := range map[string]item{"open": a(open...), "open, suite 2": a(at(at(open, 1, u(2)), 3, b(32))...), "open, client digest": a(at(open, 6, b(32))...),
		"open, client key": a(at(open, 6, bs(key(object)))...), "next": a(next...), "answer 0": a(first...), "answer 1": a(later...)} {
		add("frame", name, f, "ok")
		add(map[byte]string{'o': "open-frame", 'n': "next-frame", 'a': "answer-frame"}[name[0]], name, f, "ok")
		beyond("frame", name+" and a byte", append(slices.Clone(f), 0), "", "what follows the item")
	}
	add("frame", "type", a(at(next, 0, u(4))...), "")
	add("frame", "not an array", m(), "")
	add("frame", "empty", a(), "")
	add("open-frame", "eight items", a(open[:8]...), "")
	add("open-frame", "ten items", a(append(slices.Clone(open), nul)...), "")
	for n, bad := range map[int]struct {
		v  item
		at string
	}{1: {u(3), "/1"}, 2: {b(31), "/2"}, 3: {b(32), "/3"}, 4: {bs(m()), "/4/version"}, 5: {nul, "/5"}, 6: {b(31), "/6"}, 7: {u(1), "/7"}, 8: {b(15), "/8"}} {
		add("open-frame", "item", a(at(open, n, bad.v)...), bad.at)
	}
	add("open-frame", "suite 2 with the other's enc", a(at(open, 1, u(2))...), "/3")
	add("open-frame", "client key is true", a(at(open, 6, yes)...), "/6")
	for n, bad := range map[int]item{1: b(15), 2: u(1 << 48), 3: u(1 << 32), 4: nul, 5: b(15)} {
		add("next-frame", "item", a(at(next, n, bad)...), "/"+itoa(int64(n)))
	}
	add("next-frame", "five items", a(next[:5]...), "")
	add("next-frame", "another type", a(at(next, 0, u(3))...), "/0")
	for n, bad := range map[int]item{1: b(17), 2: i(-1), 4: u(0), 5: b(15), 6: s("0123456789abcdef")} {
		add("answer-frame", "item", a(at(first, n, bad)...), "/"+itoa(int64(n)))
	}
	add("answer-frame", "first without salt", a(at(first, 5, nul)...), "/5")
	add("answer-frame", "salt later", a(at(later, 5, b(16))...), "/5")
	add("answer-frame", "n too large", a(at(later, 3, u(1<<32))...), "/3")

	// Content.
	meta := []item{u(1), u(202), u(2), a(a(s("accept"), b(3))), u(3), s("/mcp"), u(4), s("POST"), u(5), s("id"), u(6), u(500), u(7), s("message"), u(8), a(b(16), u(4), u(1e9)), u(9), yes, u(99), nul}
	add("content", "all of meta", a(u(1), m(meta...), b(5), b(9)), "ok")
	add("content", "least", a(u(7), m(), b(0)), "ok")
	add("content", "kind 0", a(u(0), m(), b(0)), "/0")
	add("content", "kind 8", a(u(8), m(), b(0)), "/0")
	add("content", "meta is an array", a(u(1), a(), b(0)), "/1")
	add("content", "body is text", a(u(1), m(), s("{}")), "/2")
	add("content", "padding is null", a(u(1), m(), b(0), nul), "/3")
	add("content", "five items", a(u(1), m(), b(0), b(0), b(0)), "")
	add("content", "two items", a(u(1), m()), "")
	for k, bad := range map[uint64]struct {
		v  item
		at string
	}{1: {u(99), "/1/1"}, 2: {a(a(s("x"))), "/1/2/0"}, 3: {b(1), "/1/3"}, 4: {u(1), "/1/4"}, 5: {nul, "/1/5"}, 6: {s("1"), "/1/6"}, 7: {u(1), "/1/7"}, 8: {a(b(15), u(1), u(2)), "/1/8/0"}, 9: {no, "/1/9"}} {
		add("content", "meta "+itoa(int64(k)), a(u(1), m(with(meta, u(k), bad.v)...), b(0)), bad.at)
	}
	add("content", "meta with a text key", a(u(1), m(s("x"), u(1)), b(0)), "/1/x")
	add("content", "meta with a negative key", a(u(1), m(i(-1), u(1)), b(0)), "/1/-1")

	// Encodings that are not deterministic, and bytes that are no CBOR.
	beyond("content", "indefinite array", append(append([]byte{0x9f}, slices.Concat(u(1), m(), b(0))...), 0xff), "", "deterministic encoding")
	beyond("content", "long head", slices.Concat([]byte{0x83, 0x18, 1}, m(), b(0)), "", "deterministic encoding")
	beyond("content", "unsorted map", slices.Concat([]byte{0x83, 1, 0xa2, 6, 1, 1, 0x18, 200}, b(0)), "", "deterministic encoding")
	add("content", "cut", a(u(1), m(), b(9))[:8], "")
	add("frame", "no bytes", nil, "")
	add("frame", "huge array", []byte{0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, "")
	add("frame", "deep", bytes.Repeat([]byte{0x81}, 5000), "")
	return append(out, policyCBOR()...)
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func TestCBOR(t *testing.T) {
	for _, c := range cborCases() {
		err := ValidateCBOR(c.rule, c.data)
		if c.at == "ok" {
			if err != nil {
				t.Errorf("%s: %s: %v\n%x", c.rule, c.name, err, c.data)
			}
			continue
		}
		oneCause(t, c.rule+": "+c.name, err, c.at)
	}
	for _, err := range []error{ValidateCBOR("no-such-rule", u(1))} {
		var e *Error
		if err == nil || errors.As(err, &e) {
			t.Errorf("misuse must be an error of another type: %v", err)
		}
	}
	oneCause(t, "too large", ValidateCBOR("frame", make([]byte, maxCBOR+1)), "")
	if got := CBORRules(); len(got) != len(cborRules) || !slices.IsSorted(got) {
		t.Errorf("CBORRules %v", got)
	}
	for _, rule := range CBORRules() {
		if !strings.Contains(CDDL(), "\n"+rule+" = ") {
			t.Errorf("the grammar has no rule %s", rule)
		}
	}
}

// The grammar and cbor.go give the same verdict on every case, and on every
// case with one byte changed that is still deterministic CBOR. The judge is the
// Rust library cddl-cat, by the small program in testdata/cddl. It does not
// know tags, so the one tag of the grammar is taken off grammar and cases.
func TestGrammarAgreesWithCode(t *testing.T) {
	if os.Getenv("TMCP_INTEROP") != "1" {
		t.Skip("set TMCP_INTEROP=1 to check trust.cddl with a CDDL tool (needs cargo)")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(cache, "tmcp", "cddl-judge")
	run(t, ".", "cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", "testdata/cddl/Cargo.toml", "--target-dir", target)

	grammar := strings.NewReplacer("#6.98([", "[", "attested-signature],\n])", "attested-signature],\n]").Replace(CDDL())
	if strings.Contains(grammar, "#6") {
		t.Fatal("the grammar has a tag that this test does not know")
	}
	tag := dcbor.AppendTag(nil, 98)
	var cases []cborCase
	var in bytes.Buffer
	add := func(c cborCase) {
		data, tagged := bytes.CutPrefix(c.data, tag)
		if c.rule == "key-object" && !tagged || c.rule != "key-object" && bytes.Contains(c.data, append(tag, 0x84)) {
			return // about the tag, or with a tagged key object inside
		}
		cases = append(cases, c)
		in.WriteString(c.rule + " " + hex.EncodeToString(data) + "\n")
	}
	for _, c := range cborCases() {
		add(c)
		if len(c.data) > 400 { // long byte strings only repeat themselves
			continue
		}
		for n := range c.data {
			for _, flip := range []byte{1, 0x20, 0x40} {
				data := bytes.Clone(c.data)
				data[n] ^= flip
				if r := dcbor.NewReader(data); len(r.Skip()) > 0 && r.Done() == nil {
					add(cborCase{c.rule, c.name + ", changed", data, "?", ""})
				}
			}
		}
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{"cases.txt": in.Bytes(), "grammar.cddl": []byte(grammar)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	verdicts := strings.Fields(string(run(t, ".", filepath.Join(target, "release", "cddl-judge"), filepath.Join(dir, "grammar.cddl"), filepath.Join(dir, "cases.txt"))))
	if len(verdicts) != len(cases) {
		t.Fatalf("%d verdicts on %d cases", len(verdicts), len(cases))
	}
	wrong := 0
	for k, c := range cases {
		theirs, err := verdicts[k] == "valid", ValidateCBOR(c.rule, c.data)
		if theirs == (err == nil) || c.beyond != "" && err != nil {
			continue
		}
		if e := (*Error)(nil); errors.As(err, &e) && e.Violations[0].Rule == "not-dcbor" {
			continue // deterministic encoding inside a byte string: beyond CDDL
		}
		if wrong++; wrong <= 20 {
			t.Errorf("%s: %s: grammar %s, code %v\n%x", c.rule, c.name, verdicts[k], err, c.data)
		}
	}
	t.Logf("%d cases compared, %d differ", len(cases), wrong)
}

func FuzzValidateCBOR(f *testing.F) {
	for _, c := range cborCases() {
		f.Add(c.rule, []byte(c.data))
	}
	f.Fuzz(func(t *testing.T, rule string, data []byte) {
		if !slices.Contains(CBORRules(), rule) {
			rule = "frame"
		}
		err := ValidateCBOR(rule, data)
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Fatal(err)
		}
	})
}
