package dist

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/trustedmcp/tmcp/policy-wasm/signed"
)

// zeros answers every request with a mebibyte.
type zeros struct{}

func (zeros) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(strings.Repeat("0", 1<<20)))}, nil
}

// All answers together are bounded, and all requests; beneath the bounds of each.
func TestBudgets(t *testing.T) {
	ref, _, err := parseRef("oci://localhost/a:1")
	if err != nil {
		t.Fatal(err)
	}
	newTestClient := func() *client {
		c, err := newClient(ref, Registry{Transport: zeros{}, Credentials: auth.StaticCredential("localhost", auth.Credential{Username: "me", Password: "pw"})}, signed.Limits{Files: 1})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	fetch := func(c *client, read bool) error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.RoundTrip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if read {
			_, err = io.Copy(io.Discard, resp.Body)
		}
		return err
	}
	c := newTestClient()
	for i := range 9 {
		if err := fetch(c, true); (err != nil) != (i == 8) {
			t.Errorf("MiB %d: %v", i+1, err)
		}
	}
	c = newTestClient()
	for i := range 260 {
		if err := fetch(c, false); (err != nil) != (i == 259) {
			t.Fatalf("request %d: %v", i+1, err)
		}
	}
	// Credentials are of this registry, whoever asks.
	credential := c.credential(auth.StaticCredential("example.com", auth.Credential{Username: "me", Password: "pw"}))
	if got, err := credential(context.Background(), "example.com"); err != nil || got != auth.EmptyCredential {
		t.Errorf("%+v, %v", got.Username, err)
	}
	if got, err := c.repo.Client.(*auth.Client).Credential(t.Context(), "localhost"); err != nil || got.Username != "me" {
		t.Errorf("%+v, %v", got.Username, err)
	}
}
