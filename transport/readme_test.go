package transport_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// readmeServer holds the lines that README.md shows for a server.
func readmeServer(yourHandler http.Handler) (http.Handler, *protocol.Identity, error) {
	id, err := protocol.GenerateIdentity("https://api.example.com/mcp") // or NewIdentity with a kept key
	if err != nil {
		return nil, nil, err
	}
	handler, err := transport.Handler(yourHandler, transport.ServerConfig{Identity: id})
	return handler, id, err
}

// readmeClient holds the lines that README.md shows for a client.
func readmeClient(thumbprint protocol.Thumbprint) (*http.Client, error) {
	rt, err := transport.RoundTripper(http.DefaultTransport, transport.ClientConfig{Anchor: protocol.Pin(thumbprint)})
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: rt} // hand it to the SDK
	return client, nil
}

// The README's lines are these, and do what it says.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)<!-- code:\\w+ -->\n```go\n(.*?)```").FindAllSubmatch(readme, -1)
	if len(blocks) != 2 {
		t.Fatalf("found %d code blocks in README.md, want 2", len(blocks))
	}
	for _, b := range blocks {
		for line := range strings.Lines(string(b[1])) {
			if !strings.Contains(string(self), strings.TrimSpace(line)) {
				t.Errorf("README.md shows a line that is not compiled here:\n%s", line)
			}
		}
	}

	h, id, err := readmeServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[]}}`)
	}))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	defer s.Close()
	client, err := readmeClient(id.Thumbprint())
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	// The client dials an address that is not the identity's: it must refuse.
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	resp, err := client.Post(s.URL, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	if !strings.Contains(string(answer), string(protocol.IdentityMismatch)) {
		t.Fatalf("a server under another URL: %s", answer)
	}
}
