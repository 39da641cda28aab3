package signed_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/signed"
)

var limits = signed.DefaultLimits()

func set() (signed.BundleManifest, map[string][]byte) {
	return signed.BundleManifest{
			Name: "house", Version: "3.1", Rule: "all-allow",
			Policies: []signed.BundlePolicy{{Module: "policies/strict.wasm"}, {Module: "policies/lax.wasm", Settings: jsontext.Value(`{"days":30,"a":[]}`)}, {Module: "policies/lax.wasm"}},
		}, map[string][]byte{
			"policies/strict.wasm": module("strict", "1.2.0"),
			"policies/lax.wasm":    module("lax", "0.1"),
			"references/app.corim": []byte("reference values"),
			"tests/strict.json":    []byte(`{"tests":[]}`),
			"tests/other.json":     []byte(`{}`),
		}
}

func bundle(t testing.TB) *signed.Bundle {
	t.Helper()
	m, files := set()
	b, err := signed.NewBundle(m, files, limits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func signBundle(b *signed.Bundle) []byte {
	return must(signed.Sign(b.Statement(), &signed.Signer{Name: "Example Corp", Key: alice}))
}

func TestBundle(t *testing.T) {
	b := bundle(t)
	sig := signBundle(b)
	whole := must(b.WithSignatures(sig, sig, sign(bob, module("x", "1"))))
	again, err := signed.OpenBundle(whole.Bytes(), limits)
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Signatures()) != 2 || !bytes.Equal(again.Bytes(), whole.Bytes()) || again.Digest() != b.Digest() {
		t.Error("not the same")
	}
	v, err := again.Verify(trust(alice))
	if err != nil || v.Statement().Name != "house" || v.Statement().Version != "3.1" || v.Statement().Kind != signed.Manifest {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := again.Verify(trust(bob)); !errors.Is(err, signed.ErrUnauthorized) && !errors.Is(err, signed.ErrOther) {
		t.Error(err)
	}
	if _, err := b.Verify(trust(alice)); !errors.Is(err, signed.ErrUnsigned) {
		t.Error(err)
	}
	if _, err := b.Verify(trust(alice), sig); err != nil {
		t.Errorf("signed beside it: %v", err)
	}
	m := again.Manifest()
	if r, err := signed.ParseRule(m.Rule); err != nil || r != policywasm.AllAllow || string(m.Policies[1].Settings) != `{"a":[],"days":30}` || string(m.Policies[0].Settings) != "null" {
		t.Errorf("%+v", m)
	}
	if got := fmt.Sprint(again.Folder(signed.FolderTests), again.Folder(signed.FolderReferences), len(again.Folder(signed.FolderPolicies))); got != "[tests/other.json tests/strict.json] [references/app.corim] 2" {
		t.Error(got)
	}
	if again.File("policies/none.wasm") != nil || string(again.File("references/app.corim")) != "reference values" {
		t.Error("files")
	}
	if !signed.IsBundle(whole.Bytes()) || signed.IsBundle(module("x", "1")) {
		t.Error("what a bundle is")
	}
	// A signature of a bundle is none of a module, and the other way.
	if _, err := signed.VerifyModule(module("strict", "1.2.0"), [][]byte{sig}, trust(alice)); !errors.Is(err, signed.ErrOther) {
		t.Error(err)
	}
	if _, err := b.Verify(trust(alice), sign(alice, module("strict", "1.2.0"))); !errors.Is(err, signed.ErrOther) {
		t.Error(err)
	}
	// One of another name than the manifest's.
	s := b.Statement()
	s.Name = "other"
	if _, err := b.Verify(trust(alice), must(signed.Sign(s, &signed.Signer{Name: "x", Key: alice}))); !errors.Is(err, signed.ErrOther) {
		t.Error(err)
	}
}

// What archive/tar reads is what we wrote, and no more.
func TestTar(t *testing.T) {
	b := must(bundle(t).WithSignatures(signBundle(bundle(t))))
	r := tar.NewReader(bytes.NewReader(b.Bytes()))
	n := 0
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
		content := must(io.ReadAll(r))
		if h.Typeflag != tar.TypeReg || h.Mode != 0o644 || h.ModTime.Unix() != 0 || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%+v", h)
		}
		if want := b.File(h.Name); want != nil && !bytes.Equal(want, content) {
			t.Errorf("%s differs", h.Name)
		}
	}
	if n != 7 {
		t.Errorf("%d members", n)
	}
}

// archive makes a tar file as others do.
func archive(headers ...tar.Header) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		content := h.PAXRecords["content"]
		h.PAXRecords = nil
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content))
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			panic(err)
		}
		if h.Typeflag == tar.TypeReg {
			_ = must(w.Write([]byte(content)))
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

func file(name, content string) tar.Header {
	return tar.Header{Name: name, PAXRecords: map[string]string{"content": content}}
}

func hexSum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func TestHostileBundles(t *testing.T) {
	manifest := func(edit ...string) string {
		return strings.NewReplacer(edit...).Replace(`{"files":{"policies/a.wasm":{"sha256":"` + hexSum("a") + `","size":1}},"format":"trustedmcp-policy-bundle-1","name":"n","policies":[{"module":"policies/a.wasm","settings":null}],"rule":"first-match","version":"1"}`)
	}
	good := archive(file("manifest.json", manifest()), file("policies/a.wasm", "a"))
	if _, err := signed.OpenBundle(good, limits); err != nil {
		t.Fatalf("what archive/tar writes without a format: %v", err)
	}
	first := file("manifest.json", manifest())
	with := func(h tar.Header) []byte { return archive(first, file("policies/a.wasm", "a"), h) }
	only := func(edit ...string) []byte {
		return archive(file("manifest.json", manifest(edit...)), file("policies/a.wasm", "a"))
	}
	for name, b := range map[string][]byte{
		"nothing":                  nil,
		"zeros only":               make([]byte, 1024),
		"cut":                      good[:len(good)-512],
		"bytes after it":           append(bytes.Clone(good), make([]byte, 512)...),
		"a byte in the end":        append(bytes.Clone(good[:len(good)-1]), 1),
		"a byte in the padding":    func() []byte { b := bytes.Clone(good); b[3*512+1024-512-1] = 1; return b }(),
		"manifest twice":           archive(first, first),
		"no manifest":              archive(file("policies/a.wasm", "a")),
		"manifest only":            archive(first),
		"unsorted":                 archive(file("policies/a.wasm", "a"), first),
		"a file twice":             archive(first, file("policies/a.wasm", "a"), file("policies/a.wasm", "a")),
		"a file that is not named": with(file("tests/b.json", "{}")),
		"another file's content":   archive(first, file("policies/a.wasm", "b")),
		"a longer file":            archive(first, file("policies/a.wasm", "ab")),
		"a symbolic link":          with(tar.Header{Name: "tests/b.json", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}),
		"a hard link":              with(tar.Header{Name: "tests/b.json", Typeflag: tar.TypeLink, Linkname: "manifest.json"}),
		"a folder":                 with(tar.Header{Name: "tests/", Typeflag: tar.TypeDir}),
		"a device":                 with(tar.Header{Name: "tests/b.json", Typeflag: tar.TypeChar}),
		"a pax header":             with(tar.Header{Name: "tests/b.json", Format: tar.FormatPAX, Uname: "ü"}),
		"an owner":                 with(tar.Header{Name: "tests/b.json", Uid: 1}),
		"a mode":                   archive(tar.Header{Name: "manifest.json", Mode: 0o755, PAXRecords: first.PAXRecords}, file("policies/a.wasm", "a")),
		"a signature misnamed":     with(file("signatures/00.cose", "x")),

		"a header without end": func() []byte { b := bytes.Clone(good); copy(b[124:], "77777777777"); return b }(),
		"a negative size":      func() []byte { b := bytes.Clone(good); b[124] = 0xff; return b }(),

		"unknown format":          only("bundle-1", "bundle-2"),
		"unknown rule":            only("first-match", "any"),
		"unknown member":          only(`"name"`, `"extra":1,"name"`),
		"a member twice":          only(`"name":"n"`, `"name":"n","name":"n"`),
		"a missing member":        only(`"name":"n",`, ``),
		"another case":            only(`"name"`, `"Name"`),
		"not canonical":           only(`"name":"n"`, `"name": "n"`),
		"an escape":               only(`"name":"n"`, `"name":"\u006e"`),
		"no name":                 only(`"name":"n"`, `"name":""`),
		"no policies":             only(`[{"module":"policies/a.wasm","settings":null}]`, `[]`),
		"policies that are null":  only(`[{"module":"policies/a.wasm","settings":null}]`, `null`),
		"65 policies":             only(`[{"module":"policies/a.wasm","settings":null}]`, `[`+strings.Repeat(`{"module":"policies/a.wasm","settings":null},`, 64)+`{"module":"policies/a.wasm","settings":null}]`),
		"a policy without module": only(`"module":"policies/a.wasm"`, `"module":"policies/b.wasm"`),
		"a test as a policy":      archive(file("manifest.json", manifest("policies/a.wasm", "tests/a.json")), file("tests/a.json", "a")),
		"settings missing":        only(`,"settings":null`, ``),
		"settings with a float":   only(`"settings":null`, `"settings":{"a":0.5}`),
		"settings too deep":       only(`"settings":null`, `"settings":`+strings.Repeat("[", 33)+strings.Repeat("]", 33)),
		"a digest in upper case":  only(hexSum("a"), strings.ToUpper(hexSum("a"))),
		"a long digest":           only(hexSum("a"), hexSum("a")+"00"),
		"no digest":               only(hexSum("a"), ""),
		"a short digest":          only(hexSum("a"), hexSum("a")[:62]),
		"another digest":          only(hexSum("a"), hexSum("b")),
		"a huge size":             only(`"size":1`, `"size":9007199254740991`),
		"an empty file":           only(`"size":1`, `"size":0`),
		"a size below zero":       only(`"size":1`, `"size":-1`),
		"a size with a fraction":  only(`"size":1`, `"size":1.0`),
		"a signature in it":       only(`{"policies/a.wasm"`, `{"signatures/a.cose":{"sha256":"`+hexSum("a")+`","size":1},"policies/a.wasm"`),
		"a module unused":         only(`"size":1}`, `"size":1},"policies/b.wasm":{"sha256":"`+hexSum("a")+`","size":1}`),
	} {
		if got, err := signed.OpenBundle(b, limits); !errors.Is(err, signed.ErrMalformed) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	// Names that the manifest has too: nothing is wrong with these but the name.
	for name, path := range map[string]string{
		"upwards": "tests/../../b.json", "upwards first": "../tests/b.json", "absolute": "/etc/b.json", "a drive": "tests/c:b.json", "a backslash": `tests/..\\b.json`,
		"upper case": "tests/B.json", "a folder in a folder": "tests/a/b.json", "no folder": "b.json", "an unknown folder": "zzz/b.json", "another ending": "tests/b.sh",
		"another folder's ending": "tests/b.corim", "a hidden file": "tests/.json", "hidden": "tests/.b.json", "a space": "tests/a b.json", "a zero": `tests/a\u0000.json`,
		"a letter of others": "tests/\u00e4.json", "long": "tests/" + strings.Repeat("b", 60) + ".json",
	} {
		b := []byte(manifest(`"files":{`, `"files":{"`+path+`":{"sha256":"`+hexSum("a")+`","size":1},`))
		v := jsontext.Value(b)
		if err := v.Canonicalize(); err != nil {
			t.Fatal(err)
		}
		if _, err := signed.ParseManifest(v, limits); err == nil || !strings.Contains(err.Error(), "no name in a bundle") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, l := range map[string]signed.Limits{
		"file":     {Bundle: len(good) - 1, Manifest: 1000, File: 10, Files: 10},
		"manifest": {Bundle: len(good), Manifest: 100, File: 10, Files: 10},
		"member":   {Bundle: len(good), Manifest: 1000, File: 0, Files: 10},
		"files":    {Bundle: len(good), Manifest: 1000, File: 10, Files: 0},
	} {
		if _, err := signed.OpenBundle(good, l); !errors.Is(err, signed.ErrMalformed) {
			t.Errorf("limit of %s: %v", name, err)
		}
	}
	// A small manifest that promises much is refused before anything is fetched.
	l := limits
	l.Bundle = 100
	_, err := signed.ParseManifest([]byte(manifest(`"size":1`, `"size":101`)), l)
	if err == nil || !strings.Contains(err.Error(), "together") {
		t.Error(err)
	}
}

func TestNewBundleRefuses(t *testing.T) {
	for name, bend := range map[string]func(*signed.BundleManifest, map[string][]byte){
		"name":    func(_ *signed.BundleManifest, f map[string][]byte) { f["README.md"] = nil },
		"rule":    func(m *signed.BundleManifest, _ map[string][]byte) { m.Rule = "" },
		"version": func(m *signed.BundleManifest, _ map[string][]byte) { m.Version = "" },
		"module":  func(_ *signed.BundleManifest, f map[string][]byte) { f["policies/more.wasm"] = []byte("x") },
		"setting": func(m *signed.BundleManifest, _ map[string][]byte) { m.Policies[0].Settings = jsontext.Value("{") },
	} {
		m, files := set()
		bend(&m, files)
		if _, err := signed.NewBundle(m, files, limits); !errors.Is(err, signed.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := bundle(t)
	var many [][]byte
	for i := range signed.MaxSignatures + 1 {
		many = append(many, []byte{byte(i)})
	}
	if _, err := b.WithSignatures(many...); !errors.Is(err, signed.ErrMalformed) {
		t.Error(err)
	}
	if _, err := b.WithSignatures(make([]byte, signed.MaxSignature+1)); !errors.Is(err, signed.ErrMalformed) {
		t.Error(err)
	}
}

// A bundle is its content: made of the same, it is the same bytes, and reading
// gives back what was put in.
func TestBundleProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, _ := set()
		m.Policies = m.Policies[:1]
		files := map[string][]byte{"policies/strict.wasm": rapid.SliceOfN(rapid.Byte(), 1, 1500).Draw(t, "module")}
		for range rapid.IntRange(0, 5).Draw(t, "files") {
			name := rapid.SampledFrom([]string{"tests/", "references/"}).Draw(t, "folder") + rapid.StringMatching(`[a-z0-9][a-z0-9._-]{0,20}`).Draw(t, "name")
			if strings.HasPrefix(name, "t") {
				name += ".json"
			} else {
				name += ".corim"
			}
			files[name] = rapid.SliceOfN(rapid.Byte(), 1, 1500).Draw(t, "content")
		}
		b, err := signed.NewBundle(m, files, limits)
		if err != nil {
			t.Fatal(err)
		}
		again, err := signed.OpenBundle(b.Bytes(), limits)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Bytes(), b.Bytes()) {
			t.Fatal("another file")
		}
		for name, want := range files {
			if !bytes.Equal(again.File(name), want) {
				t.Fatal(name)
			}
		}
	})
}

func FuzzBundle(f *testing.F) {
	f.Add(bundle(f).Bytes())
	f.Add(must(bundle(f).WithSignatures(signBundle(bundle(f)))).Bytes())
	f.Add(archive(file("manifest.json", "{}")))
	f.Fuzz(func(t *testing.T, in []byte) {
		b, err := signed.OpenBundle(in, limits)
		if err != nil {
			if !errors.Is(err, signed.ErrMalformed) {
				t.Error(err)
			}
			return
		}
		if !bytes.Equal(b.Bytes(), in) {
			t.Error("a second encoding of a bundle")
		}
		for _, p := range b.Manifest().Policies {
			if b.File(p.Module) == nil {
				t.Error("a policy without its module")
			}
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add(bundle(f).ManifestBytes())
	f.Add(bytes.Replace(bundle(f).ManifestBytes(), []byte(hexSum("reference values")), []byte(hexSum("reference values")+"00"), 1))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := signed.ParseManifest(in, limits)
		if err != nil {
			return
		}
		for name := range m.Files {
			if strings.Contains(name, "..") && strings.Contains(name, "/..") || strings.HasPrefix(name, "/") || strings.Count(name, "/") != 1 {
				t.Errorf("a path that escapes: %q", name)
			}
		}
	})
}

func BenchmarkOpenBundle(b *testing.B) {
	whole := must(bundle(b).WithSignatures(signBundle(bundle(b)))).Bytes()
	for b.Loop() {
		if _, err := signed.OpenBundle(whole, limits); err != nil {
			b.Fatal(err)
		}
	}
}
