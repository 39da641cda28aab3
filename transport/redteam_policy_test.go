package transport_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// postAs sends a body with that content type.
func postAs(t *testing.T, c *http.Client, method, url, contentType, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header["Content-Type"] = []string{contentType}
	req.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// each runs f with a client whose calls are judged at the server or by itself, over
// carriers that take any content type, and with one that speaks plaintext.
func each(t *testing.T, f func(t *testing.T, c *http.Client, url string, inner *recording)) {
	for _, side := range []string{"server", "client", "plaintext"} {
		for _, carrier := range []protocol.Carrier{protocol.Envelope, protocol.HTTP} {
			t.Run(side+"/"+carrier.String(), func(t *testing.T) {
				j, inner := &judge{}, &recording{}
				var scfg transport.ServerConfig
				ccfg := transport.ClientConfig{Carrier: carrier}
				if side == "client" {
					ccfg.Authorize = j.ask
				} else {
					scfg.Authorize = j.ask
				}
				if side == "plaintext" {
					scfg.Mode = protocol.ModePreferred
				}
				s := serve(t, inner, scfg, nil)
				c := s.client(t, ccfg)
				if side == "plaintext" {
					c = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
				}
				f(t, c, s.url, inner)
			})
		}
	}
}

// Servers heed the charset of a body: what is harmless in UTF-8 names another tool
// in UTF-7.
func TestAuthorizeCharset(t *testing.T) {
	body := modernCall("tools/call", `"name":"allowed","arguments":{"x":"+ACIAfQAsACI-name+ACI-:+ACI-forbidden"}`)
	each(t, func(t *testing.T, c *http.Client, url string, inner *recording) {
		for _, contentType := range []string{
			"application/json; charset=utf-7", `application/json;CHARSET="UTF-7"`, "application/json; charset*=utf-8''utf-7",
			"application/json; charset=utf-8; charset=utf-7", "application/json, text/plain; charset=utf-7", `application/json; x="; charset=utf-7"`, "application/json; charset",
		} {
			postAs(t, c, http.MethodPost, url, contentType, body)
			if got := inner.take(); len(got) != 0 {
				t.Errorf("%s: %v reached the server", contentType, got)
			}
		}
		for _, contentType := range []string{"application/json", "application/json; charset=utf-8", `Application/JSON; Charset="UTF-8"`} {
			postAs(t, c, http.MethodPost, url, contentType, body)
			if got := inner.take(); len(got) != 1 {
				t.Errorf("%s: %v reached the server", contentType, got)
			}
		}
	})
}

// Servers in Go and C# read "Name" as "name", and take the last of both.
func TestAuthorizeCase(t *testing.T) {
	each(t, func(t *testing.T, c *http.Client, url string, inner *recording) {
		for _, body := range []string{
			modernCall("tools/call", `"name":"allowed","Name":"forbidden"`),
			modernCall("tools/call", `"NAME":"forbidden"`),
			modernCall("tools/call", `"name":"allowed","argument\u017f":{}`),
			modernCall("resources/read", `"URI":"file:///etc/passwd"`),
			strings.Replace(modernCall("tools/list", `"name":"forbidden"`), `"method":`, `"Method":"tools/call","method":`, 1),
			strings.Replace(modernCall("tools/call", `"name":"allowed"`), `"method":`, `"PARAMS":{"name":"forbidden"},"method":`, 1),
			strings.Replace(`{"jsonrpc":"2.0","method":"notifications/x","params":{`+strings.Replace(metaModern, "%EXT%", "", 1)+`}}`, `"method":`, `"ID":1,"method":`, 1),
		} {
			postAs(t, c, http.MethodPost, url, "application/json", body)
			for _, got := range inner.take() {
				if !strings.HasPrefix(got, "server/discover") {
					t.Errorf("%s reached the server as %s", body, got)
				}
			}
		}
		postAs(t, c, http.MethodPost, url, "application/json", modernCall("tools/call", `"name":"allowed","arguments":{"Name":1,"METHOD":2},"names":3`))
		if got := inner.take(); len(got) != 1 {
			t.Errorf("members with names of their own: %v reached the server", got)
		}
	})
}

// What nobody looks at does not go on: a DELETE has no body.
func TestAuthorizeNoBody(t *testing.T) {
	got := make(chan int64, 8)
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			b := make([]byte, 8)
			n, _ := r.Body.Read(b)
			got <- max(int64(n), r.ContentLength)
		}
		w.WriteHeader(http.StatusAccepted)
	})
	j := &judge{}
	s := serve(t, inner, transport.ServerConfig{Mode: protocol.ModePreferred, Authorize: j.ask}, nil)
	body := modernCall("tools/call", `"name":"forbidden"`)
	for name, c := range map[string]*http.Client{"plaintext": {Transport: &http.Transport{DisableKeepAlives: true}}, "http": s.client(t, transport.ClientConfig{Carrier: protocol.HTTP})} {
		postAs(t, c, http.MethodDelete, s.url, "application/json", body)
		if n := <-got; n != 0 {
			t.Errorf("%s: a DELETE with a body of %d bytes reached the server", name, n)
		}
	}
}
