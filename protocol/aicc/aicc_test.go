package aicc_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol/aicc"
)

var key = sync.OnceValue(func() *rsa.PrivateKey { return generate(2048) })

func generate(bits int) *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return k
}

func is(err error, r aicc.Reason) bool {
	var e *aicc.Error
	return errors.As(err, &e) && e.Reason == r
}

func seal(t testing.TB, text string) ([]byte, *aicc.ResponseKey) {
	t.Helper()
	b, k, err := aicc.Seal(&key().PublicKey, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return b, k
}

func TestRoundTrip(t *testing.T) {
	old := generate(3072)
	for _, text := range []string{"", "x", "ü🦆\x00", strings.Repeat("y", 1<<20)} {
		body, ck := seal(t, text)
		got, sk, err := aicc.Open(body, aicc.Limits{}, old, key())
		if err != nil || string(got) != text {
			t.Fatalf("%.20q: %.20q, %v", text, got, err)
		}
		answer, err := sk.Seal([]byte(text + "!"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err = ck.Open(answer, aicc.Limits{}); err != nil || string(got) != text+"!" {
			t.Fatalf("%.20q: %.20q, %v", text, got, err)
		}
		if bytes.Contains(answer, []byte(`"key"`)) {
			t.Error("an answer has a key")
		}
		if _, err := ck.Open(body, aicc.Limits{}); !is(err, aicc.Malformed) {
			t.Errorf("a request passes for an answer: %v", err)
		}
		if _, _, err := aicc.Open(answer, aicc.Limits{}, key()); !is(err, aicc.Malformed) {
			t.Errorf("an answer passes for a request: %v", err)
		}
	}
	body, _ := seal(t, "x")
	if _, _, err := aicc.Open(body, aicc.Limits{}, old); !is(err, aicc.OpenFailed) {
		t.Errorf("another key: %v", err)
	}
	if _, _, err := aicc.Open(body, aicc.Limits{}); !is(err, aicc.NoKey) {
		t.Errorf("no key: %v", err)
	}
}

func TestFingerprint(t *testing.T) {
	a, _ := seal(t, "x")
	b, _ := seal(t, "x")
	print := func(body []byte) [32]byte {
		e, err := aicc.Parse(body, aicc.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return e.Fingerprint()
	}
	if print(a) == print(b) || print(a) != print(append(bytes.ReplaceAll(a, []byte("/"), []byte(`\/`)), '\n')) {
		t.Error("fingerprints are of the encoding, or not of the request")
	}
}

func TestMalformed(t *testing.T) {
	body, ck := seal(t, "hello")
	good := string(body)
	b64 := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	env := func(nonce, mac, key, text string) string {
		return fmt.Sprintf(`{"nonce":%q,"mac":%q,"key":%q,"ciphertext":%q}`, nonce, mac, key, text)
	}
	for name, bad := range map[string]string{
		"nothing": "", "null": "null", "array": "[]", "text": `"x"`, "cut": good[:len(good)-1], "more": good + "{}",
		"empty":               "{}",
		"a member more":       strings.Replace(good, "{", `{"x":"",`, 1),
		"a member twice":      strings.Replace(good, "{", `{"nonce":"`+b64(12)+`",`, 1),
		"another case":        strings.Replace(good, `"nonce"`, `"Nonce"`, 1),
		"no nonce":            strings.Replace(good, `"nonce"`, `"mac"`, 1),
		"a short nonce":       env(b64(11), b64(16), b64(256), b64(5)),
		"a long mac":          env(b64(12), b64(17), b64(256), b64(5)),
		"a short key":         env(b64(12), b64(16), b64(255), b64(5)),
		"a long key":          env(b64(12), b64(16), b64(1025), b64(5)),
		"URL base64":          env(b64(12), b64(16), b64(256), "__8="),
		"no padding":          env(b64(12), b64(16), b64(256), "AA"),
		"loose bits":          env(b64(12), b64(16), b64(256), "AB=="),
		"lines":               `{"nonce":"` + b64(12) + `","mac":"` + b64(16) + `","key":"` + b64(256) + `","ciphertext":"AA\nAA"}`,
		"a number":            `{"nonce":1}`,
		"a null":              `{"nonce":null,"mac":"","key":"","ciphertext":""}`,
		"not UTF-8":           "{\"nonce\xff\":\"\"}",
		"deep":                strings.Repeat("[", 100000),
		"a value that's deep": `{"nonce":` + strings.Repeat("[", 100000),
	} {
		if _, err := aicc.Parse([]byte(bad), aicc.Limits{}); !is(err, aicc.Malformed) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := ck.Open([]byte(bad), aicc.Limits{}); err == nil {
			t.Errorf("%s passes for an answer", name)
		}
	}
	// Every byte counts.
	for i := range body {
		bad := bytes.Clone(body)
		if bad[i] ^= 1; bytes.Equal(bad, body) {
			continue
		}
		if text, _, err := aicc.Open(bad, aicc.Limits{}, key()); err == nil {
			t.Fatalf("byte %d was changed, and it opens to %q", i, text)
		}
		if i == 40 { // nonce and mac; the wrapped key costs an RSA decryption for each byte
			break
		}
	}
}

func TestLimits(t *testing.T) {
	lim := aicc.Limits{MaxMessage: 1000}
	body, ck := seal(t, strings.Repeat("x", 1000))
	if _, _, err := aicc.Open(body, lim, key()); err != nil {
		t.Error(err)
	}
	body, _ = seal(t, strings.Repeat("x", 1001))
	if _, _, err := aicc.Open(body, lim, key()); !is(err, aicc.TooLarge) {
		t.Errorf("one byte too many: %v", err)
	}
	if _, err := aicc.Parse(make([]byte, lim.Envelope()+1), lim); !is(err, aicc.TooLarge) {
		t.Errorf("a large body: %v", err)
	}
	answer, _ := ck.Seal(make([]byte, 1001))
	if _, err := ck.Open(answer, lim); !is(err, aicc.TooLarge) {
		t.Errorf("a large answer: %v", err)
	}
	big := generate(4096)
	if body, _, err := aicc.Seal(&big.PublicKey, make([]byte, 1000)); err != nil || len(body) > lim.Envelope() {
		t.Errorf("an envelope of %d bytes is over its own limit: %v", len(body), err)
	}
}

func TestKeys(t *testing.T) {
	k := key()
	pkcs8, _ := x509.MarshalPKCS8PrivateKey(k)
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ecDER, _ := x509.MarshalPKCS8PrivateKey(ec)
	ecPub, _ := x509.MarshalPKIXPublicKey(&ec.PublicKey)
	text := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	for _, good := range [][]byte{aicc.MarshalPrivateKey(k), text("PRIVATE KEY", pkcs8), append([]byte("hello\n"), aicc.MarshalPrivateKey(k)...)} {
		if got, err := aicc.ParsePrivateKey(good); err != nil || !got.Equal(k) {
			t.Errorf("%v", err)
		}
	}
	pub, err := aicc.MarshalPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, good := range [][]byte{pub, text("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&k.PublicKey))} {
		if got, err := aicc.ParsePublicKey(good); err != nil || !got.Equal(&k.PublicKey) {
			t.Errorf("%v", err)
		}
	}
	t.Setenv("GODEBUG", "rsa1024min=0")
	small := generate(1024)
	smallPub, _ := x509.MarshalPKIXPublicKey(&small.PublicKey)
	for name, bad := range map[string][]byte{
		"nothing": nil, "no PEM": []byte("x"), "garbage": text("RSA PRIVATE KEY", []byte("x")), "garbage 8": text("PRIVATE KEY", []byte("x")),
		"public": pub, "EC": text("PRIVATE KEY", ecDER), "small": aicc.MarshalPrivateKey(small), "certificate": text("CERTIFICATE", nil),
		"encrypted": text("ENCRYPTED PRIVATE KEY", nil), "large": bytes.Repeat([]byte("x"), 1<<20),
	} {
		if _, err := aicc.ParsePrivateKey(bad); err == nil {
			t.Errorf("%s is a private key", name)
		}
	}
	for name, bad := range map[string][]byte{
		"nothing": nil, "garbage": text("PUBLIC KEY", []byte("x")), "private": aicc.MarshalPrivateKey(k), "EC": text("PUBLIC KEY", ecPub), "small": text("PUBLIC KEY", smallPub),
	} {
		if _, err := aicc.ParsePublicKey(bad); err == nil {
			t.Errorf("%s is a public key", name)
		}
	}
	if _, _, err := aicc.Seal(&small.PublicKey, nil); !is(err, aicc.WeakKey) {
		t.Errorf("sealed to a small key: %v", err)
	}
	if _, _, err := aicc.Seal(nil, nil); !is(err, aicc.NoKey) {
		t.Errorf("sealed to no key: %v", err)
	}
}

func TestOffer(t *testing.T) {
	for in, want := range map[string]string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{ }}}`:                           `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{ "experimental":{"trustProtocol":{"name":"AICC","version":"0.1"}}}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"initialize"}`:                                                         `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{"experimental":{"trustProtocol":{"name":"AICC","version":"0.1"}}}}}`,
		`{"jsonrpc":"2.0","id":1,"result":{"capabilities":{"experimental":{"a":{},"trustProtocol":1}},"x":"ü"}}`: `{"jsonrpc":"2.0","id":1,"result":{"capabilities":{"experimental":{"a":{},"trustProtocol":{"name":"AICC","version":"0.1"}}},"x":"ü"}}`,
		`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}`:                                               `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}`,
	} {
		got, err := aicc.Offer([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%s\n got %s, %v\nwant %s", in, got, err, want)
		}
		if m, err := jsonrpc.Parse(got, jsonrpc.Limits{}); err == nil && m.Error == nil && !aicc.Offered(m.Params) && !aicc.OfferedResult(m.Result) {
			t.Errorf("%s offers nothing", got)
		}
	}
	if _, err := aicc.Offer([]byte("[]")); !is(err, aicc.BadMessage) {
		t.Error(err)
	}
	for v, want := range map[string]bool{
		`{"capabilities":{"experimental":{"trustProtocol":{"name":"AICC","version":"0.1"}}}}`:            true,
		`{"result":{"capabilities":{"experimental":{"trustProtocol":{"name":"AICC","version":"0.1"}}}}}`: true, // as the deployed package's streams have it
		`{"capabilities":{"experimental":{"trustProtocol":{"name":"AICC","version":"0.2"}}}}`:            false,
		`{"capabilities":{"experimental":{"trustProtocol":{"name":"aicc","version":"0.1"}}}}`:            false,
		`{"capabilities":{"experimental":{"TrustProtocol":{"name":"AICC","version":"0.1"}}}}`:            false,
		`{}`: false, `null`: false,
	} {
		if aicc.OfferedResult([]byte(v)) != want {
			t.Errorf("%s: want %v", v, want)
		}
	}
}

func TestLines(t *testing.T) {
	_, k := seal(t, "")
	for _, end := range []string{"\n", "\r\n", "\r"} {
		in := strings.ReplaceAll("\xef\xbb\xbf: secret comment\n\nevent: message\nid: 7\nretry: 10\nsecret: field\ndata: {\"a\":\ndata: 1}\n\ndata\n\ndata:{\"b\":2}\n\n", "\n", end)
		var sealed bytes.Buffer
		s := aicc.NewLineSealer(&sealed, k, aicc.Limits{})
		for i := range len(in) { // byte by byte
			if _, err := s.Write([]byte{in[i]}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		out := sealed.String()
		if strings.Contains(out, "secret") || strings.Contains(out, "{\"a\"") || strings.Count(out, "\n") != strings.Count(out, "\r\n") || strings.Count(out, "data: {\"nonce\"") != 3 {
			t.Errorf("%q", out)
		}
		for _, ends := range []string{out, strings.ReplaceAll(out, "\r\n", "\n")} {
			o := aicc.NewLineOpener(strings.NewReader(ends), k, aicc.Limits{})
			var ids []string
			o.Each = func(m []byte, id string) ([]byte, error) { ids = append(ids, id); return m, nil }
			got, err := io.ReadAll(o)
			if want := ": \n\nevent: message\nid: 7\nretry: 10\ndata: {\"a\": 1}\n\ndata: \n\ndata: {\"b\":2}\n\n"; err != nil || string(got) != want {
				t.Errorf("%q, %v", got, err)
			}
			if fmt.Sprint(ids) != "[7  ]" {
				t.Errorf("ids %q", ids)
			}
		}
	}
	// What breaks a stream.
	a, _ := k.Seal([]byte(`{"a":1}`))
	_, other := seal(t, "")
	for name, tt := range map[string]struct {
		stream string
		want   aicc.Reason
	}{
		"plaintext":     {"data: {\"a\":1}\r\n\r\n", aicc.Malformed},
		"empty":         {"data:\r\n\r\n", aicc.Malformed},
		"twice":         {"data: " + string(a) + "\r\n\r\ndata: " + string(a) + "\r\n\r\n", aicc.Replayed},
		"twice in one":  {"data: " + string(a) + "\r\ndata: " + string(a) + "\r\n\r\n", aicc.Replayed},
		"cut":           {"data: " + string(a)[:20], aicc.Truncated},
		"an open event": {"data: " + string(a) + "\r\n", aicc.Truncated},
		"a long line":   {"data: " + strings.Repeat("x", 64<<10), aicc.TooLarge},
	} {
		if _, err := io.ReadAll(aicc.NewLineOpener(strings.NewReader(tt.stream), k, aicc.Limits{MaxMessage: 1000})); !is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := io.ReadAll(aicc.NewLineOpener(strings.NewReader("data: "+string(a)+"\r\n\r\n"), other, aicc.Limits{})); !is(err, aicc.OpenFailed) {
		t.Errorf("another call's: %v", err)
	}
	s := aicc.NewLineSealer(io.Discard, k, aicc.Limits{MaxMessage: 100})
	if _, err := s.Write([]byte("data: " + strings.Repeat("x", 200))); !is(err, aicc.TooLarge) {
		t.Errorf("a long line: %v", err)
	}
	s = aicc.NewLineSealer(io.Discard, k, aicc.Limits{})
	s.Write([]byte("data: x\n"))
	if err := s.Close(); !is(err, aicc.Truncated) {
		t.Errorf("an open event: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	body, k := seal(f, "hello")
	answer, _ := k.Seal([]byte("hello"))
	f.Add(body)
	f.Add(answer)
	f.Add([]byte(`{"nonce":"","mac":"","key":"","ciphertext":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		lim := aicc.Limits{MaxMessage: 1 << 16}
		if e, err := aicc.Parse(b, lim); err == nil {
			e.Fingerprint()
		} else if !is(err, aicc.Malformed) && !is(err, aicc.TooLarge) {
			t.Errorf("%v", err)
		}
		if text, err := k.Open(b, lim); err == nil && string(text) != "hello" {
			t.Errorf("it opens to %q", text)
		}
	})
}

func FuzzLines(f *testing.F) {
	_, k := seal(f, "")
	a, _ := k.Seal([]byte(`{"a":1}`))
	f.Add([]byte("event: message\r\ndata: " + string(a) + "\r\n\r\n"))
	f.Add([]byte("data: x\n\ndata: y\r\rid: 1\n\n: c\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		lim := aicc.Limits{MaxMessage: 4 << 10}
		io.Copy(io.Discard, aicc.NewLineOpener(bytes.NewReader(b), k, lim))
		var sealed bytes.Buffer
		s := aicc.NewLineSealer(&sealed, k, lim)
		if _, err := s.Write(b); err != nil || s.Close() != nil {
			return
		}
		if _, err := io.ReadAll(aicc.NewLineOpener(&sealed, k, lim)); err != nil {
			t.Errorf("what was sealed does not open: %v", err)
		}
	})
}

func BenchmarkSealOpen(b *testing.B) {
	for _, bits := range []int{2048, 4096} {
		k := generate(bits)
		for _, size := range []int{1 << 10, 64 << 10} {
			text := make([]byte, size)
			b.Run(fmt.Sprintf("rsa%d/%dKiB", bits, size>>10), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					body, ck, err := aicc.Seal(&k.PublicKey, text)
					if err != nil {
						b.Fatal(err)
					}
					got, sk, err := aicc.Open(body, aicc.Limits{}, k)
					if err != nil {
						b.Fatal(err)
					}
					answer, err := sk.Seal(got)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := ck.Open(answer, aicc.Limits{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
