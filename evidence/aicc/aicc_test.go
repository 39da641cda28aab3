package aicc

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/eat"
)

func TestBinding(t *testing.T) {
	n, k := sha256.Sum256([]byte("0123456789abcdef")), sha256.Sum256([]byte("PEM\n"))
	got := Binding("0123456789abcdef", "PEM\n")
	if want := hex.EncodeToString(n[:]) + hex.EncodeToString(k[:]); hex.EncodeToString(got[:]) != want {
		t.Errorf("Binding is %x, want %s", got, want)
	}
	got = Binding("0123456789abcdef", "")
	if want := hex.EncodeToString(n[:]) + strings.Repeat("0", 64); hex.EncodeToString(got[:]) != want {
		t.Errorf("Binding without a key is %x, want %s", got, want)
	}
	// A leaf hashes the hexadecimal text, not the bytes.
	if leaf, want := Leaf(got), sha512.Sum512([]byte("\x00"+hex.EncodeToString(got[:]))); leaf != want {
		t.Errorf("Leaf is %x, want %x", leaf, want)
	}
}

func leaves(n int) [][64]byte {
	out := make([][64]byte, n)
	for i := range out {
		out[i] = Leaf(Binding(fmt.Sprint("nonce", i), "key"))
	}
	return out
}

// TestMerkleShape compares a tree of three leaves with one that is written out.
func TestMerkleShape(t *testing.T) {
	l := leaves(3)
	node := func(a, b [64]byte) [64]byte {
		return sha512.Sum512([]byte("\x01" + string(a[:]) + string(b[:])))
	}
	left := node(l[0], l[1])
	root, p := Prove(l, 2)
	if want := node(left, l[2]); root != want {
		t.Errorf("the root is %x, want %x", root, want)
	}
	want := fmt.Sprintf(`{"metadata":{"algorithm":"sha512","security":true,"size":3},"rule":[1,0],"subset":[],"path":["%x","%x"]}`, l[2], left)
	if got := string(p.Encode()); got != want {
		t.Errorf("the proof is\n%s, want\n%s", got, want)
	}
	if _, p = Prove(l, 0); fmt.Sprint(p.Rule) != "[0 0 0]" || p.Path[1] != l[1] || p.Path[2] != l[2] {
		t.Errorf("the proof for the first leaf has rule %v", p.Rule)
	}
}

func TestMerkleProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 70).Draw(t, "leaves")
		i := rapid.IntRange(0, n-1).Draw(t, "index")
		l := leaves(n)
		root, p := Prove(l, i)
		q, err := ParseProof(p.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Verify(l[i], root); err != nil {
			t.Fatalf("leaf %d of %d: %v", i, n, err)
		}
		other := l[i]
		other[5] ^= 1
		if q.Verify(other, root) == nil {
			t.Fatal("another leaf is in the tree")
		}
		other = root
		other[63] ^= 1
		if q.Verify(l[i], other) == nil {
			t.Fatal("the leaf is in another tree")
		}
		at := rapid.IntRange(0, len(q.Path)-1).Draw(t, "at")
		q.Path[at][9] ^= 1
		if q.Verify(l[i], root) == nil {
			t.Fatal("another path leads to the root")
		}
		q.Path[at][9] ^= 1
		q.Rule[at] ^= 1
		if q.Verify(l[i], root) == nil {
			t.Fatal("another rule leads to the root")
		}
	})
}

// TestProofBounds: what is not the form of a proof is refused before anything is
// hashed.
func TestProofBounds(t *testing.T) {
	h := strings.Repeat("ab", 64)
	good := `{"metadata":{"algorithm":"sha512","security":true,"size":2},"rule":[0,0],"subset":[],"path":["` + h + `","` + h + `"]}`
	if _, err := ParseProof([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string][2]string{
		"algorithm":        {`"sha512"`, `"sha256"`},
		"algorithm form":   {`"sha512"`, `"SHA512"`},
		"security":         {`"security":true`, `"security":false`},
		"security text":    {`"security":true`, `"security":"true"`},
		"security missing": {`"security":true,`, ``},
		"size missing":     {`,"size":2`, ``},
		"size zero":        {`"size":2`, `"size":0`},
		"size negative":    {`"size":2`, `"size":-2`},
		"size fraction":    {`"size":2`, `"size":2.0`},
		"size one":         {`"size":2`, `"size":1`},
		"size three":       {`"size":2`, `"size":3`},
		"size huge":        {`"size":2`, `"size":9223372036854775808`},
		"unknown metadata": {`"size":2`, `"size":2,"x":1`},
		"rule two":         {`"rule":[0,0]`, `"rule":[2,0]`},
		"rule text":        {`"rule":[0,0]`, `"rule":["0",0]`},
		"rule short":       {`"rule":[0,0]`, `"rule":[0]`},
		"rule long":        {`"rule":[0,0]`, `"rule":[0,0,0]`},
		"rule of the root": {`"rule":[0,0]`, `"rule":[0,1]`},
		"rule missing":     {`"rule":[0,0],`, ``},
		"rule object":      {`"rule":[0,0]`, `"rule":{}`},
		"subset":           {`"subset":[]`, `"subset":[7]`},
		"path short hash":  {h + `"]`, h[2:] + `"]`},
		"path no hex":      {h + `"]`, "zz" + h[2:] + `"]`},
		"path number":      {`"path":["` + h, `"path":[1,"` + h},
		"path empty":       {`"path":["` + h + `","` + h + `"]`, `"path":[]`},
		"path missing":     {`,"path":["` + h + `","` + h + `"]`, ``},
		"metadata missing": {`"metadata":{"algorithm":"sha512","security":true,"size":2},`, ``},
		"metadata array":   {`{"algorithm":"sha512","security":true,"size":2}`, `[]`},
	} {
		bad := strings.Replace(good, tt[0], tt[1], 1)
		if bad == good {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := ParseProof([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, bad := range []string{`[]`, `{}`, `"x"`, `1`,
		`{"metadata":{"algorithm":"sha512","security":true,"size":2},"rule":[` + strings.Repeat("0,", 70) + `0],"path":[]}`,
		`{"metadata":{"algorithm":"sha512","security":true,"size":2},"rule":[],"path":[` + strings.Repeat(`"`+h+`",`, 70) + `"` + h + `"]}`} {
		if _, err := ParseProof([]byte(bad)); err == nil {
			t.Errorf("%.60s: accepted", bad)
		}
	}
}

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

const nonce = "0123456789abcdef"

var signers = sync.OnceValue(func() [2]*rsa.PrivateKey {
	var k [2]*rsa.PrivateKey
	for i := range k {
		k[i], _ = rsa.GenerateKey(rand.Reader, 2048)
	}
	return k
})

// A draft is an answer before it is written down.
type draft struct {
	header map[string]any
	claims map[string]any
	key    *rsa.PrivateKey
	pem    string
	proof  string
	quote  string
}

func newDraft() *draft {
	rd := Binding(nonce, "PEM")
	return &draft{
		header: map[string]any{"alg": "RS384", "typ": "JWT"},
		claims: map[string]any{"iss": Issuer, "iat": now.Unix() - 1, "exp": now.Unix() + 60, "tdx": map[string]any{"report_data": hex.EncodeToString(rd[:])}, "policies_matched": []any{"p1", map[string]any{"id": "p2"}}},
		key:    signers()[0], pem: "PEM",
	}
}

func (d *draft) node(t testing.TB) *Node {
	t.Helper()
	head, err := json.Marshal(d.header)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(d.claims)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding
	signed := b64.EncodeToString(head) + "." + b64.EncodeToString(payload)
	digest := sha512.Sum384([]byte(signed))
	sig, err := rsa.SignPKCS1v15(nil, d.key, crypto.SHA384, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	ev := `{"other":1`
	if d.proof != "" {
		ev += `,"proof":` + d.proof
	}
	if d.quote != "" {
		ev += `,"tdx":{"quote":` + d.quote + `}`
	}
	return &Node{Name: "n", Evidence: ev + "}", Token: signed + "." + b64.EncodeToString(sig), PEM: d.pem}
}

func expect() *Expect {
	return &Expect{Keys: eat.Keys{{Public: &signers()[0].PublicKey}}, Now: now, Nonce: nonce}
}

func jwkOf(k *rsa.PrivateKey) map[string]any {
	b64 := base64.RawURLEncoding
	return map[string]any{"kty": "RSA", "alg": "RS384", "n": b64.EncodeToString(k.N.Bytes()), "e": b64.EncodeToString(big.NewInt(int64(k.E)).Bytes())}
}

// TMCP-23.6-1: A verifier MUST verify the token with a key that its operator pinned.
// TMCP-23.6-2: A verifier MUST refuse a token that carries a key which is not the pinned one.
// TMCP-23.6-3: A verifier MUST refuse a token whose algorithm, issuer or time is not as above, or whose `policies_matched` does not name the policy that was asked for.
// TMCP-23.6-4: A verifier MUST refuse report data that are not those of its own nonce and the key, directly or through a proof of which it chose the algorithm.
func TestVerify(t *testing.T) {
	merkle := func(d *draft) {
		l := leaves(5)
		l[4] = Leaf(Binding(nonce, "PEM"))
		root, p := Prove(l, 4)
		d.claims["tdx"] = map[string]any{"report_data": hex.EncodeToString(root[:])}
		d.proof = string(p.Encode())
	}
	for name, tt := range map[string]struct {
		edit   func(*draft, *Expect)
		failed string // check; "": accepted
		detail string
	}{
		"good":                {func(*draft, *Expect) {}, "", ""},
		"merkle":              {func(d *draft, _ *Expect) { merkle(d) }, "", ""},
		"policy":              {func(_ *draft, e *Expect) { e.Policy = "p2" }, "", ""},
		"kid, key without":    {func(d *draft, _ *Expect) { d.header["kid"] = "k" }, "", ""},
		"kid of the key":      {func(d *draft, e *Expect) { d.header["kid"], e.Keys[0].ID = "k", "k" }, "", ""},
		"one of two keys":     {func(d *draft, e *Expect) { e.Keys = append(eat.Keys{{Public: &signers()[1].PublicKey}}, e.Keys...) }, "", ""},
		"its own key, pinned": {func(d *draft, _ *Expect) { d.claims["jwk"] = jwkOf(d.key) }, "", ""},
		"null proof":          {func(d *draft, _ *Expect) { d.proof = "null" }, "", ""},
		"no key negotiation":  {func(d *draft, e *Expect) { e.NoKey = true; rebind(d, nonce, "") }, "", ""},
		"debug, allowed":      {func(d *draft, e *Expect) { d.claims["tdx"].(map[string]any)["debug"] = true; e.AllowDebug = true }, "", ""},
		"simulated, allowed": {func(d *draft, e *Expect) {
			d.claims["tdx"].(map[string]any)["simulated"] = true
			e.AllowSimulated = true
		}, "", ""},
		"clock a little behind": {func(d *draft, e *Expect) { d.claims["iat"] = now.Unix() + 30; e.Skew = time.Minute }, "", ""},

		"no keys":             {func(_ *draft, e *Expect) { e.Keys = nil }, "key", "none of the 0 pinned keys"},
		"no time":             {func(_ *draft, e *Expect) { e.Now = time.Time{} }, "expectation", ""},
		"short nonce":         {func(_ *draft, e *Expect) { e.Nonce = "1234567" }, "expectation", ""},
		"other key":           {func(_ *draft, e *Expect) { e.Keys[0].Public = &signers()[1].PublicKey }, "signature", ""},
		"other kid":           {func(d *draft, e *Expect) { d.header["kid"], e.Keys[0].ID = "x", "k" }, "key", ""},
		"key for another alg": {func(_ *draft, e *Expect) { e.Keys[0].Alg = eat.RS256 }, "key", ""},
		"alg none":            {func(d *draft, _ *Expect) { d.header["alg"] = "none" }, "token", "not allowed"},
		"alg HS384":           {func(d *draft, _ *Expect) { d.header["alg"] = "HS384" }, "token", "not allowed"},
		"alg RS256":           {func(d *draft, _ *Expect) { d.header["alg"] = "RS256" }, "key", "RS384"},
		"alg PS384":           {func(d *draft, _ *Expect) { d.header["alg"] = "PS384" }, "key", "RS384"},
		"header jwk":          {func(d *draft, _ *Expect) { d.header["jwk"] = jwkOf(d.key) }, "token", "does not choose"},
		"header jku":          {func(d *draft, _ *Expect) { d.header["jku"] = "https://example.com/keys" }, "key", "does not choose"},
		"header x5u":          {func(d *draft, _ *Expect) { d.header["x5u"] = "https://example.com/cert" }, "token", "does not choose"},
		"header x5c":          {func(d *draft, _ *Expect) { d.header["x5c"] = []string{} }, "token", "x5c"},
		"header crit":         {func(d *draft, _ *Expect) { d.header["crit"] = []string{"x"} }, "token", ""},
		"header typ":          {func(d *draft, _ *Expect) { d.header["typ"] = "at+jwt" }, "key", ""},
		"signed with the key that it carries": {func(d *draft, _ *Expect) {
			d.key = signers()[1]
			d.claims["jwk"] = jwkOf(d.key)
		}, "signature", "carries itself proves nothing"},
		"carries another key":  {func(d *draft, _ *Expect) { d.claims["jwk"] = jwkOf(signers()[1]) }, "own-key", "not the pinned one"},
		"carries no key":       {func(d *draft, _ *Expect) { d.claims["jwk"] = "x" }, "own-key", ""},
		"carries a private":    {func(d *draft, _ *Expect) { k := jwkOf(d.key); k["d"] = "AQAB"; d.claims["jwk"] = k }, "own-key", "private"},
		"leads to a key":       {func(d *draft, _ *Expect) { d.claims["jku"] = "https://example.com" }, "own-key", "jku"},
		"carries certificates": {func(d *draft, _ *Expect) { d.claims["x5c"] = []string{} }, "own-key", "x5c"},
		"other issuer":         {func(d *draft, _ *Expect) { d.claims["iss"] = "x" }, "issuer", ""},
		"no issuer":            {func(d *draft, _ *Expect) { delete(d.claims, "iss") }, "issuer", ""},
		"expired":              {func(d *draft, _ *Expect) { d.claims["exp"] = now.Unix() }, "expiry", ""},
		"no expiry":            {func(d *draft, _ *Expect) { delete(d.claims, "exp") }, "expiry", "absent"},
		"expiry is text":       {func(d *draft, _ *Expect) { d.claims["exp"] = "9999999999" }, "times", ""},
		"from the future":      {func(d *draft, _ *Expect) { d.claims["iat"] = now.Unix() + 30 }, "issued-at", ""},
		"not yet":              {func(d *draft, _ *Expect) { d.claims["nbf"] = now.Unix() + 30 }, "not-before", ""},
		"no policy":            {func(d *draft, _ *Expect) { d.claims["policies_matched"] = []any{} }, "policies-matched", ""},
		"policies absent":      {func(d *draft, _ *Expect) { delete(d.claims, "policies_matched") }, "policies-matched", ""},
		"policies are text":    {func(d *draft, _ *Expect) { d.claims["policies_matched"] = "p1" }, "policies-matched", ""},
		"another policy":       {func(_ *draft, e *Expect) { e.Policy = "p3" }, "policies", ""},
		"other nonce":          {func(d *draft, _ *Expect) { rebind(d, "fedcba9876543210", "PEM") }, "binding", "another nonce"},
		"other PEM":            {func(d *draft, _ *Expect) { d.pem = "PEM\n" }, "binding", "another key"},
		"no PEM":               {func(d *draft, _ *Expect) { d.pem = "" }, "binding", "there is no key"},
		"PEM not asked for":    {func(d *draft, e *Expect) { e.NoKey = true }, "binding", "none was asked for"},
		"no report data":       {func(d *draft, _ *Expect) { d.claims["tdx"] = map[string]any{} }, "report-data", ""},
		"short report data":    {func(d *draft, _ *Expect) { d.claims["tdx"] = map[string]any{"report_data": "00"} }, "report-data", ""},
		"merkle, wrong root":   {func(d *draft, _ *Expect) { merkle(d); rebind(d, nonce, "PEM") }, "binding", "does not lead"},
		"merkle, other nonce":  {func(d *draft, e *Expect) { merkle(d); e.Nonce = "fedcba9876543210" }, "binding", "another leaf"},
		"merkle, other PEM":    {func(d *draft, _ *Expect) { merkle(d); d.pem = "P" }, "binding", "another leaf"},
		"merkle, no proof":     {func(d *draft, _ *Expect) { merkle(d); d.proof = "" }, "binding", ""},
		"empty proof":          {func(d *draft, _ *Expect) { d.proof = "{}" }, "evidence", "missing"},
		"quote is no text":     {func(d *draft, _ *Expect) { d.quote = "1" }, "evidence", ""},
		"quote is no base64":   {func(d *draft, _ *Expect) { d.quote = `"*"` }, "evidence", ""},
		"debug":                {func(d *draft, _ *Expect) { d.claims["tdx"].(map[string]any)["debug"] = true }, "debug", ""},
		"simulated":            {func(d *draft, _ *Expect) { d.claims["tdx"].(map[string]any)["simulated"] = true }, "simulated", ""},
		"simulated, oddly":     {func(d *draft, _ *Expect) { d.claims["tdx"].(map[string]any)["simulated"] = "yes" }, "simulated", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d, e := newDraft(), expect()
			tt.edit(d, e)
			r := Verify(d.node(t), e)
			if tt.failed == "" {
				if !r.Accepted() || r.Err() != nil {
					t.Fatalf("refused: %v", r.Checks)
				}
				return
			}
			c, _ := r.Checks.Find(tt.failed)
			if r.Accepted() || r.Err() == nil || c.Outcome != evidence.Fail || !strings.Contains(c.Detail, tt.detail) {
				t.Errorf("accepted %v, checks %v; want %s to fail with %q", r.Accepted(), r.Checks, tt.failed, tt.detail)
			}
			if failed := r.Checks.Failed(); len(failed) != 1 { // each case has one cause
				t.Errorf("failed: %v", failed)
			}
		})
	}
}

func rebind(d *draft, nonce, pem string) {
	rd := Binding(nonce, pem)
	d.pem = pem
	d.claims["tdx"] = map[string]any{"report_data": hex.EncodeToString(rd[:])}
}

func TestResult(t *testing.T) {
	d := newDraft()
	d.quote = `"AQID"`
	r := Verify(d.node(t), expect())
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	if string(r.Quote) != "\x01\x02\x03" || fmt.Sprint(r.Policies) != "[p1 p2]" || !r.Expires.Equal(now.Add(time.Minute)) || r.ReportData != Binding(nonce, "PEM") || r.Simulated {
		t.Errorf("%+v", r)
	}
	if (&Result{}).Err() == nil || (&Result{}).Accepted() {
		t.Error("a result without checks is accepted")
	}
}

// TestFlippedTokens: no changed byte of a token passes.
func TestFlippedTokens(t *testing.T) {
	n := newDraft().node(t)
	good := n.Token
	for i := range good {
		b := []byte(good)
		if b[i] ^= 1; string(b) == good {
			continue
		}
		n.Token = string(b)
		if Verify(n, expect()).Accepted() {
			t.Fatalf("byte %d changed: accepted", i)
		}
	}
}

func TestParseAnswer(t *testing.T) {
	nodes, err := ParseAnswer([]byte(`{"ResponseMetadata":{"RequestId":"1"},"Result":{"a":{"evidence":"{}","token":"t","key_info":{"pub_key_info":"P"},"more":1},"b":{"evidence":null}}}`))
	if err != nil || len(nodes) != 2 || nodes[0] != (Node{"a", "{}", "t", "P"}) || nodes[1] != (Node{Name: "b"}) {
		t.Fatalf("%v, %v", nodes, err)
	}
	local, err := ParseLocal([]byte(`{"ResponseMetadata":{"Code":0,"Message":"success"},"ResponseResult":{"pod_1":{"evidence":"evidence","token":"token","key_info":{"pub_key_info":"P"}}}}`))
	if err != nil || len(local) != 1 || local[0].PEM != "P" {
		t.Fatalf("%v, %v", local, err)
	}
	many := `{"Result":{`
	for i := range maxNodes + 1 {
		many += fmt.Sprintf(`"n%d":{},`, i)
	}
	for name, bad := range map[string]string{
		"empty":                 ``,
		"array":                 `[]`,
		"no result":             `{}`,
		"null result":           `{"Result":null}`,
		"no node":               `{"Result":{}}`,
		"array of nodes":        `{"Result":[{}]}`,
		"node is text":          `{"Result":{"a":"x"}}`,
		"token is a number":     `{"Result":{"a":{"token":1}}}`,
		"evidence is an object": `{"Result":{"a":{"evidence":{}}}}`,
		"a node twice":          `{"Result":{"a":{},"a":{}}}`,
		"a member twice":        `{"Result":{"a":{"token":"x","token":"y"}}}`,
		"result twice":          `{"Result":{"a":{}},"Result":{"b":{}}}`,
		"trailing":              `{"Result":{"a":{}}} x`,
		"deep":                  `{"Result":{"a":` + strings.Repeat(`{"x":`, 40) + `1` + strings.Repeat(`}`, 40) + `}}`,
		"many nodes":            many + `"z":{}}}`,
		"long name":             `{"Result":{"` + strings.Repeat("n", 300) + `":{}}}`,
		"long":                  `{"Result":{"a":{"token":"` + strings.Repeat("x", MaxAnswer) + `"}}}`,
		"error":                 `{"ResponseMetadata":{"Error":{"Code":"AccessDenied","Message":"no"}},"Result":{"a":{}}}`,
	} {
		if _, err := ParseAnswer([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, bad := range map[string]string{
		"no code":   `{"ResponseMetadata":{},"ResponseResult":{"a":{}}}`,
		"a failure": `{"ResponseMetadata":{"Code":1,"Message":"m"},"ResponseResult":{"a":{}}}`,
		"no result": `{"ResponseMetadata":{"Code":0}}`,
	} {
		if _, err := ParseLocal([]byte(bad)); err == nil {
			t.Errorf("local, %s: accepted", name)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	n := newDraft().node(f)
	f.Add([]byte(`{"Result":{"a":{"evidence":"{}","token":"` + n.Token + `","key_info":{"pub_key_info":"PEM"}}}}`))
	f.Add([]byte(`{"ResponseMetadata":{"Code":0},"ResponseResult":{"a":{"evidence":"{\"proof\":{}}","token":"a.b.c"}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, parse := range []func([]byte) ([]Node, error){ParseAnswer, ParseLocal} {
			nodes, err := parse(b)
			if err == nil && (len(nodes) == 0 || len(nodes) > maxNodes) {
				t.Fatalf("%d nodes", len(nodes))
			}
			for i := range nodes {
				x := expect()
				x.Nonce = "fedcba9876543210" // nobody can have signed for it
				if Verify(&nodes[i], x).Accepted() {
					t.Fatal("accepted")
				}
			}
		}
	})
}

func FuzzParseEvidence(f *testing.F) {
	_, p := Prove(leaves(5), 3)
	f.Add(`{"proof":` + string(p.Encode()) + `}`)
	f.Add(`{"tdx":{"quote":"AQID"},"proof":null}`)
	f.Add(`{"proof":{"metadata":{"algorithm":"sha512","security":true,"size":1},"rule":[0],"subset":[],"path":[]}}`)
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseEvidence(s)
		if err != nil || e.Proof == nil {
			return
		}
		if len(e.Proof.Path) > maxPath || len(e.Proof.Rule) != len(e.Proof.Path) {
			t.Fatalf("a path of %d with %d rules", len(e.Proof.Path), len(e.Proof.Rule))
		}
		again, err := ParseProof(e.Proof.Encode())
		if err != nil || string(again.Encode()) != string(e.Proof.Encode()) {
			t.Fatalf("written again, the proof is another: %v", err)
		}
		if e.Proof.Verify(Leaf(Binding(nonce, "x")), Leaf(Binding(nonce, "y"))) == nil {
			t.Fatal("proven")
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	n, e := newDraft().node(b), expect()
	for b.Loop() {
		if !Verify(n, e).Accepted() {
			b.Fatal("refused")
		}
	}
}
