package standin_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	evaicc "github.com/trustedmcp/tmcp/evidence/aicc"
	"github.com/trustedmcp/tmcp/evidence/dcap"
	"github.com/trustedmcp/tmcp/gateway/aicc/standin"
)

var keys = sync.OnceValue(func() [2]*rsa.PrivateKey {
	var k [2]*rsa.PrivateKey
	for i := range k {
		k[i], _ = rsa.GenerateKey(rand.Reader, 2048)
	}
	return k
})

func config() standin.Config {
	return standin.Config{Key: keys()[0], Policies: map[string]standin.Policy{"any": {}, "one": {Images: [][32]byte{{1}}}}, Services: map[string]standin.Service{
		"weather": {Public: func(context.Context) (*rsa.PublicKey, error) { return &keys()[1].PublicKey, nil }},
		"broken":  {Public: func(context.Context) (*rsa.PublicKey, error) { return nil, errors.New("away") }},
		"app":     {Image: [32]byte{1}},
	}}
}

func ask(t *testing.T, s *standin.Server, method, target, body string) *httptest.ResponseRecorder {
	t.Helper()
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, httptest.NewRequest(method, target, strings.NewReader(body)))
	return rec
}

const action = "/?Action=GetAttestationBackend&Version=2024-12-24"

func TestAnswers(t *testing.T) {
	s, err := standin.New(config())
	if err != nil {
		t.Fatal(err)
	}
	rec := ask(t, s, "POST", action, `{"Nonce":"0123456789abcdef","PolicyID":"","ServiceName":"weather","KeyNegotiation":true,"Token":true}`)
	nodes, err := evaicc.ParseAnswer(rec.Body.Bytes())
	if err != nil || len(nodes) != 1 || nodes[0].PEM == "" || rec.Code != 200 {
		t.Fatalf("%v, %v, %s", nodes, err, rec.Body)
	}
	e, err := evaicc.ParseEvidence(nodes[0].Evidence)
	if err != nil {
		t.Fatal(err)
	}
	// The quote is one, and binds what the token says.
	q, err := dcap.ParseQuote(e.Quote)
	want := evaicc.Binding("0123456789abcdef", nodes[0].PEM)
	if err != nil || !q.TDX || string(q.Body[520:584]) != string(want[:]) {
		t.Errorf("the quote: %v", err)
	}
	// Without key negotiation there is no key. Pods are called by their deployment.
	rec = ask(t, s, "POST", action, `{"Nonce":"0123456789abcdef","PolicyID":"one","AttestedPods":[{"cluster_id":"c","namespace":"n","deployment":"app"}],"KeyNegotiation":false,"Token":true}`)
	if nodes, err = evaicc.ParseAnswer(rec.Body.Bytes()); err != nil || len(nodes) != 1 || nodes[0].PEM != "" {
		t.Errorf("%v, %v", nodes, err)
	}
}

func TestRefuses(t *testing.T) {
	s, err := standin.New(config())
	if err != nil {
		t.Fatal(err)
	}
	good := `{"Nonce":"0123456789abcdef","ServiceName":"weather","KeyNegotiation":true}`
	for name, tt := range map[string]struct {
		method, target, body string
		code                 int
	}{
		"method":     {"GET", action, good, 404},
		"path":       {"POST", "/x" + action, good, 404},
		"action":     {"POST", "/?Action=Other", good, 404},
		"no JSON":    {"POST", action, "x", 400},
		"empty":      {"POST", action, "", 400},
		"array":      {"POST", action, "[]", 400},
		"no nonce":   {"POST", action, `{"ServiceName":"weather"}`, 400},
		"long nonce": {"POST", action, `{"Nonce":"` + strings.Repeat("x", 129) + `","ServiceName":"weather"}`, 400},
		"service":    {"POST", action, `{"Nonce":"0123456789abcdef","ServiceName":"other"}`, 400},
		"no service": {"POST", action, `{"Nonce":"0123456789abcdef"}`, 400},
		"no key":     {"POST", action, `{"Nonce":"0123456789abcdef","ServiceName":"app","KeyNegotiation":true}`, 400},
		"key away":   {"POST", action, `{"Nonce":"0123456789abcdef","ServiceName":"broken","KeyNegotiation":true}`, 400},
		"large":      {"POST", action, strings.Repeat(" ", 1<<17) + good, 400},
	} {
		rec := ask(t, s, tt.method, tt.target, tt.body)
		if rec.Code != tt.code {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
		if _, err := evaicc.ParseAnswer(rec.Body.Bytes()); err == nil || !strings.Contains(err.Error(), "refuses") {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := httptest.NewRequest("POST", action, strings.NewReader(good))
	r.Header.Set("Origin", "https://page.example")
	rec := httptest.NewRecorder()
	if s.ServeHTTP(rec, r); rec.Code != http.StatusForbidden {
		t.Errorf("a web page: %d", rec.Code)
	}

	if _, err := standin.New(standin.Config{Key: keys()[0]}); err == nil {
		t.Error("no service, and no error")
	}
	cfg := config()
	cfg.Fault = "no such fault"
	if _, err := standin.New(cfg); err == nil || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("an unknown fault: %v", err)
	}
	cfg = config()
	cfg.Key, _ = rsa.GenerateKey(rand.Reader, 1024)
	if _, err := standin.New(cfg); err == nil {
		t.Error("a short key, and no error")
	}
}

func TestFaultsAreListed(t *testing.T) {
	all := standin.Faults()
	slices.Sort(all)
	if len(slices.Compact(all)) != 30 {
		t.Errorf("%d faults", len(all))
	}
}
