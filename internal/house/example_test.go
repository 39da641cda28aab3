package house

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/schema"
	"github.com/trustedmcp/tmcp/spec"
)

var update = flag.Bool("update", false, "write the worked example of the specification anew")

// exampleSeed makes the example's randomness; any number would do.
const exampleSeed = 20261120

var exampleTime = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// TestExample runs the worked example of chapter 1 and compares every byte with
// the text. What package protocol sealed is opened again here by the formulas
// of the specification and Go's crypto packages alone, so that text and code
// can't be wrong together.
//
// TMCP-4.3-1: An implementation MUST compute the settings digest over the settings object as it was received
// TMCP-6.2-1: A sender and a receiver MUST each build `info` from their own values
// TMCP-6.2-2: A server MUST build `info` with the digest of the settings that it advertises.
// TMCP-6.5-1: A receiver MUST build the associated data from the frame's place and from what it saw itself of the carrier, the tool and the labels.
// TMCP-6.6-1: The body of a content of kind message MUST be the inner message's bytes as the inner peer wrote them.
// TMCP-6.1-1: An implementation MUST support suite 1.
func TestExample(t *testing.T) {
	parts := runExample(t)
	path := filepath.Join(root(t), "spec", "01-overview.md")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	text := exampleBlock.ReplaceAllStringFunc(string(old), func(s string) string {
		name := exampleBlock.FindStringSubmatch(s)[1]
		used[name] = true
		body, ok := parts[name]
		if !ok {
			t.Errorf("chapter 1 asks for the example %q, which does not exist; there are %v", name, slices.Sorted(maps.Keys(parts)))
		}
		return "<!-- example:" + name + " -->\n" + body + "<!-- /example -->"
	})
	for name := range parts {
		if !used[name] {
			t.Errorf("the example %q does not stand in chapter 1", name)
		}
	}
	if text == string(old) {
		return
	}
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("spec/01-overview.md, line %d: the worked example is not what the code makes now; if that is meant, run go test ./internal/house -run TestExample -update", firstDifference(old, []byte(text)))
}

var exampleBlock = regexp.MustCompile(`(?s)<!-- example:([a-z-]+) -->\n.*?<!-- /example -->`)

func runExample(t *testing.T) map[string]string {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	cryptotest.SetGlobalRandom(t, exampleSeed)
	const uri = "https://weather.example/mcp"
	parts := map[string]string{}

	id, err := protocol.NewIdentity(uri, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x5e}, 32)))
	must(err)
	settings, err := protocol.NewSettings(protocol.Offer{})
	must(err)
	server, err := protocol.NewServer(protocol.ServerConfig{Identity: id, Settings: settings})
	must(err)
	object, expires, err := server.KeyObject(exampleTime)
	must(err)
	mine, err := protocol.NewSettings(protocol.Offer{Carriers: []protocol.Carrier{protocol.Envelope}, Suites: []protocol.Suite{protocol.SuiteHybrid}})
	must(err)

	thumb := id.Thumbprint()
	parts["thumbprint"] = block("text", thumb.String())
	meta := func(extra string) string {
		return `{"io.modelcontextprotocol/protocolVersion":"2026-07-28",
           "io.modelcontextprotocol/clientCapabilities":` + string(mine.Capabilities(false)) + extra + `}`
	}
	parts["discover-request"] = block("json", `{"jsonrpc":"2.0","id":1,"method":"server/discover",
 "params":{"_meta":`+meta("")+`}}`)
	parts["discover-result"] = block("json", `{"jsonrpc":"2.0","id":1,
 "result":{"resultType":"complete","supportedVersions":["2026-07-28"],
           "capabilities":`+string(settings.Capabilities(false))+`,
           "ttlMs":`+fmt.Sprint(expires.Sub(exampleTime).Milliseconds())+`,"cacheScope":"public",
           "_meta":{"org.trustedmcp/key":"`+protocol.Base64(object)+`"}}}`)
	// Section 4.3, computed from its formula.
	sd := dcbor.AppendText(dcbor.AppendArray(nil, 2), label+"settings")
	sd, err = dcbor.FromJSON(sd, settings.JSON())
	must(err)
	digest := sha256.Sum256(sd)
	same(t, "settings digest", digest[:], sum(settings.Digest()))
	parts["settings-digest"] = block("text", "SHA-256(", dump(sd), ")", "= "+hex.EncodeToString(digest[:]))
	parts["key-object"] = block("text", diag(t, object))
	kd := dcbor.AppendBytes(dcbor.AppendText(dcbor.AppendArray(nil, 2), label+"key digest"), object)
	keyDigest := sha256.Sum256(kd)
	same(t, "key digest", keyDigest[:], sum(protocol.KeyDigest(object)))
	parts["key-digest"] = block("text", hex.EncodeToString(keyDigest[:]))

	peer, err := protocol.VerifyKeyObject(object, protocol.Expect{Identity: uri, Anchor: protocol.Pin(thumb), Settings: settings, Now: exampleTime})
	must(err)
	client, err := protocol.NewClient(peer, mine)
	must(err)

	inner := `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"forecast","arguments":{"city":"Turku"},` +
		`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	content := protocol.Content{Kind: protocol.KindMessage, Body: []byte(inner), Meta: protocol.Meta{Fields: []protocol.Field{
		{Name: "mcp-protocol-version", Value: []byte("2026-07-28")}, {Name: "mcp-method", Value: []byte("tools/call")}, {Name: "mcp-name", Value: []byte("forecast")}}}}
	parts["inner-request"] = block("http", "mcp-protocol-version: 2026-07-28\nmcp-method: tools/call\nmcp-name: forecast\n\n"+inner)
	outer := protocol.Outer{Carrier: protocol.Envelope}
	call, frame, err := client.Seal(content, outer, exampleTime)
	must(err)
	parts["open-frame"] = block("text", diag(t, frame))
	parts["call-request"] = block("json", `{"jsonrpc":"2.0","id":2,"method":"trust/call",
 "params":{"frame":"`+protocol.Base64(frame)+`",
           "_meta":`+meta("")+`}}`)

	// Sections 6.2 to 6.6, from the text. The first randomness that the server
	// used made its HPKE key, so the same randomness makes it here again.
	cryptotest.SetGlobalRandom(t, exampleSeed)
	priv, err := hpke.MLKEM768X25519().GenerateKey()
	must(err)
	if !bytes.Contains(object, priv.PublicKey().Bytes()) {
		t.Fatal("the private key could not be made again from the example's randomness")
	}
	f, err := protocol.InspectFrame(frame)
	must(err)
	info := dcbor.AppendArray(nil, 8)
	info = dcbor.AppendText(info, label+"seal")
	info = dcbor.AppendUint(info, 2) // client
	info = dcbor.AppendUint(info, 1) // suite
	info = dcbor.AppendBytes(info, keyDigest[:])
	info = dcbor.AppendBytes(info, digest[:])
	cs := sha256.Sum256(append(dcbor.AppendText(dcbor.AppendArray(nil, 2), label+"settings"), f.ClientSettings...))
	info = dcbor.AppendBytes(info, cs[:])
	info = dcbor.AppendNull(info)
	info = dcbor.AppendText(info, "2026-07-28")
	rec, err := hpke.NewRecipient(f.Enc, priv, hpke.HKDFSHA256(), hpke.AES256GCM(), info)
	must(err)
	exported, err := rec.Export(label+"keys", 92)
	must(err)
	ctxID, reqKey, reqNonce, secret := exported[:16], exported[16:48], exported[48:60], exported[60:]
	aad := dcbor.AppendArray(nil, 7)
	aad = dcbor.AppendText(aad, label+"request")
	aad = dcbor.AppendUint(aad, 1) // envelope
	aad = dcbor.AppendUint(aad, 0)
	aad = dcbor.AppendUint(aad, 0)
	aad = dcbor.AppendBool(aad, true)
	aad = dcbor.AppendNull(dcbor.AppendNull(aad))
	plain := open(t, reqKey, nonce(reqNonce, 0, 0), f.Ciphertext, aad)
	if !bytes.HasSuffix(plain, []byte(inner)) {
		t.Fatal("the open frame holds another message")
	}
	parts["sealing"] = block("text",
		"info", dump(info),
		"exported = ctx-id ‖ request key ‖ request base nonce ‖ answer secret", dump(exported),
		"associated data", dump(aad),
		"plaintext", dump(plain))

	// Back to the server's randomness, which must not matter from here on.
	request, err := server.Open(frame, outer, exampleTime.Add(time.Second))
	must(err)
	answer := `{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","content":[{"type":"text","text":"-3 °C, snow"}]}}`
	parts["inner-answer"] = block("json", answer)
	answerFrame, err := request.Seal(nil, protocol.Content{Kind: protocol.KindMessage, Body: []byte(answer)}, true)
	must(err)
	parts["answer-frame"] = block("text", diag(t, answerFrame))
	parts["call-result"] = block("json", `{"jsonrpc":"2.0","id":2,
 "result":{"resultType":"complete",
           "frame":"`+protocol.Base64(answerFrame)+`"}}`)
	af, err := protocol.InspectFrame(answerFrame)
	must(err)
	keys, err := hkdf.Key(sha256.New, secret, af.Salt, label+"answer keys", 44)
	must(err)
	aad = dcbor.AppendArray(nil, 5)
	aad = dcbor.AppendText(aad, label+"answer")
	aad = dcbor.AppendUint(aad, 1)
	aad = dcbor.AppendUint(aad, 0)
	aad = dcbor.AppendUint(aad, 0)
	aad = dcbor.AppendBool(aad, true)
	plain = open(t, keys[:32], nonce(keys[32:], 0, 0), af.Ciphertext, aad)
	if !bytes.HasSuffix(plain, []byte(answer)) {
		t.Fatal("the answer frame holds another message")
	}
	parts["answer-sealing"] = block("text", "answer key ‖ answer base nonce", dump(keys), "associated data", dump(aad), "plaintext", dump(plain))
	same(t, "ctx-id", ctxID, af.Context[:])
	got, final, err := call.Open(answerFrame)
	must(err)
	if !final || string(got.Body) != answer {
		t.Fatal("the client got another answer")
	}
	must(call.Close())

	ping := protocol.Content{Kind: protocol.KindMessage, Body: []byte(strings.Replace(inner, `"id":7`, `"id":8`, 1)), Meta: content.Meta}
	_, warm, err := client.Seal(ping, outer, exampleTime.Add(2*time.Second))
	must(err)
	parts["next-frame"] = block("text", diag(t, warm))
	wf, err := protocol.InspectFrame(warm)
	must(err)
	aad = dcbor.AppendArray(nil, 7)
	aad = dcbor.AppendText(aad, label+"request")
	aad = dcbor.AppendUint(aad, 1)
	aad = dcbor.AppendUint(aad, wf.Seq)
	aad = dcbor.AppendUint(aad, 0)
	aad = dcbor.AppendBool(aad, true)
	aad = dcbor.AppendNull(dcbor.AppendNull(aad))
	if plain = open(t, reqKey, nonce(reqNonce, wf.Seq, 0), wf.Ciphertext, aad); !bytes.HasSuffix(plain, ping.Body) {
		t.Fatal("the next frame holds another message")
	}

	for _, tt := range []struct {
		part   string
		dir    schema.Direction
		method string // of the request, for a result
	}{
		{"discover-request", schema.ClientToServer, ""}, {"discover-result", schema.ServerToClient, "server/discover"},
		{"call-request", schema.ClientToServer, ""}, {"call-result", schema.ServerToClient, "trust/call"},
	} {
		msg := []byte(strings.TrimSuffix(strings.TrimPrefix(parts[tt.part], "```json\n"), "```\n"))
		must(schema.ValidateOuter(tt.dir, msg))
		must(schema.ValidateMCP("2026-07-28", tt.dir, msg, tt.method))
	}
	for rule, b := range map[string][]byte{"key-object": object, "open-frame": frame, "answer-frame": answerFrame, "next-frame": warm} {
		must(schema.ValidateCBOR(rule, b))
	}

	_, err = server.Open(frame, outer, exampleTime.Add(3*time.Second))
	e, ok := err.(*protocol.Error)
	if !ok || e.Reason != protocol.Replayed {
		t.Fatalf("the open frame was taken twice: %v", err)
	}
	parts["replayed-error"] = block("json", string(e.Response("9")))
	return parts
}

const label = "org.trustedmcp/trust v1 "

func block(lang string, lines ...string) string {
	return "```" + lang + "\n" + strings.Join(lines, "\n") + "\n```\n"
}

func sum(d protocol.Digest) []byte { return d[:] }

func same(t *testing.T, what string, fromText, fromCode []byte) {
	t.Helper()
	if !bytes.Equal(fromText, fromCode) {
		t.Fatalf("%s: the text's formula gives %x, the code %x", what, fromText, fromCode)
	}
}

func nonce(base []byte, seq, n uint64) []byte {
	b := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, seq), uint32(n))
	for i := range b {
		b[i] ^= base[i]
	}
	return b
}

func open(t *testing.T, key, nonce, ciphertext, aad []byte) []byte {
	t.Helper()
	c, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	g, err := cipher.NewGCM(c)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := g.Open(nil, nonce, ciphertext, aad)
	if err != nil {
		t.Fatalf("what the code sealed does not open by the text: %v", err)
	}
	return plain
}

// dump writes bytes as hexadecimal, 32 to a line.
func dump(b []byte) string {
	var lines []string
	for c := range slices.Chunk(b, 32) {
		lines = append(lines, "  "+hex.EncodeToString(c))
	}
	return strings.Join(lines, "\n")
}

// diag writes CBOR in diagnostic notation, one array element or pair to a line.
func diag(t *testing.T, b []byte) string {
	t.Helper()
	r := dcbor.NewReader(b)
	s := diagItem(r, "")
	if err := r.Done(); err != nil {
		t.Fatalf("%v in %s", err, base64.StdEncoding.EncodeToString(b))
	}
	return s
}

func diagItem(r *dcbor.Reader, indent string) string {
	in := indent + "  "
	switch r.PeekMajor() {
	case 0, 1:
		return fmt.Sprint(r.Int())
	case 2:
		b := r.Bytes()
		if len(b) > 1 && b[0]>>5 == 5 { // a map: headers, claims, settings
			inner := dcbor.NewReader(b)
			if s := diagItem(inner, in); inner.Done() == nil {
				return "<< " + s + " >>"
			}
		}
		if len(b) > 0 && len(b) < 32 && !bytes.ContainsFunc(b, func(r rune) bool { return r < 'a' || r > 'z' }) {
			return "'" + string(b) + "'" // a kid
		}
		h := hex.EncodeToString(b)
		if len(h) <= 64 {
			return "h'" + h + "'"
		}
		var lines []string
		for c := range slices.Chunk([]byte(h), 96) {
			lines = append(lines, in+string(c))
		}
		return "h'\n" + strings.Join(lines, "\n") + "'"
	case 3:
		return fmt.Sprintf("%q", r.Text())
	case 4:
		var items []string
		for range r.Array() {
			items = append(items, in+diagItem(r, in))
		}
		return join("[", items, "]", indent)
	case 5:
		var items []string
		for range r.Map() {
			items = append(items, in+diagItem(r, in)+": "+diagItem(r, in))
		}
		return join("{", items, "}", indent)
	case 6:
		r.Tag(98)
		return "98(" + diagItem(r, indent) + ")"
	}
	if r.Null() {
		return "null"
	}
	return fmt.Sprint(r.Bool())
}

func join(open string, items []string, closing, indent string) string {
	if len(items) == 0 {
		return open + closing
	}
	return open + "\n" + strings.Join(items, ",\n") + "\n" + indent + closing
}

// TestRegistries: chapter 17 and the code name the same things.
func TestRegistries(t *testing.T) {
	b, err := spec.Files().Open("17-registries.md")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(b); err != nil {
		t.Fatal(err)
	}
	text := buf.String()
	var want []string
	for _, r := range protocol.Reasons() {
		want = append(want, fmt.Sprintf("| %d | `%s` |", r.Code(), r))
	}
	var got []string
	for _, m := range regexp.MustCompile("(?m)^(\\| \\d+ \\| `[a-z-]+` \\|) [^|]+\\|$").FindAllStringSubmatch(text, -1) {
		got = append(got, m[1])
	}
	if !slices.Equal(got, want) {
		t.Errorf("section 17.4 and package protocol have other errors:\ntext %v\ncode %v", got, want)
	}
	names := []string{
		protocol.MethodCall, protocol.MethodAttest, protocol.MethodFrame, protocol.MetaKey, protocol.MetaSettings, protocol.MetaFrames,
		protocol.MetaAttest, protocol.MetaTool, protocol.MetaStatus, protocol.MediaTypeFrames, protocol.KeyProfile,
		protocol.SuiteHybrid.String(), protocol.SuiteX25519.String(), protocol.Envelope.String(), protocol.Inline.String(), protocol.HTTP.String(),
	}
	for _, n := range names {
		if !strings.Contains(text, "`"+n+"`") {
			t.Errorf("chapter 17 does not name %s, which the code uses", n)
		}
	}
	src, err := os.ReadFile(filepath.Join(root(t), "protocol", "labels.go"))
	if err != nil {
		t.Fatal(err)
	}
	var inCode []string
	for _, m := range regexp.MustCompile(`(?m)^\s*label\w+\s*=\s*label \+ "([^"]+)"`).FindAllSubmatch(src, -1) {
		inCode = append(inCode, string(m[1]))
	}
	inCode = append(inCode, labelsBeyondProtocol(t)...)
	section := text[strings.Index(text, "## 17.1"):strings.Index(text, "## 17.2")]
	var inText []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z ]+)` \\|").FindAllStringSubmatch(section, -1) {
		inText = append(inText, m[1])
	}
	slices.Sort(inCode)
	slices.Sort(inText)
	if len(inCode) == 0 || !slices.Equal(inCode, inText) {
		t.Errorf("section 17.1 and the code have other labels:\ntext %q\ncode %q", inText, inCode)
	}
}

// labelsBeyondProtocol are the labels that packages outside protocol write out.
func labelsBeyondProtocol(t *testing.T) []string {
	t.Helper()
	label := regexp.MustCompile(`"org\.trustedmcp/trust v1 ([a-z ]+)"`)
	seen := map[string]bool{}
	for _, folder := range []string{"evidence", "transport", "gateway"} {
		err := filepath.WalkDir(filepath.Join(root(t), folder), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			src, err := os.ReadFile(path)
			for _, m := range label.FindAllSubmatch(src, -1) {
				seen[string(m[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return slices.Collect(maps.Keys(seen))
}

// TestPolicyReasons: section 20.8 and package policywasm name the same failures.
func TestPolicyReasons(t *testing.T) {
	text, err := fs.ReadFile(spec.Files(), "20-policy.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(policy\\.[a-z]+)` \\|").FindAllSubmatch(text, -1) {
		want = append(want, string(m[1]))
	}
	var got []string
	for _, file := range []string{"policy-wasm/failure.go", "policy-wasm/scan/limits.go"} {
		src, err := os.ReadFile(filepath.Join(root(t), filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`= "(policy\.[a-z]+)"`).FindAllSubmatch(src, -1) {
			got = append(got, string(m[1]))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if len(got) < 20 || !slices.Equal(got, want) {
		t.Errorf("section 20.8 and the code have other reasons:\ntext %q\ncode %q", want, got)
	}
}
