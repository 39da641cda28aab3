package transport_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// callThrough makes one sealed call to inner, with rewrite between the two ends,
// and returns what the client gets.
func callThrough(t *testing.T, inner http.HandlerFunc, rewrite func(w http.ResponseWriter, method string, answer []byte)) string {
	t.Helper()
	id, err := protocol.GenerateIdentity("https://api.example.com/mcp")
	if err != nil {
		t.Fatal(err)
	}
	h, err := transport.Handler(inner, transport.ServerConfig{Identity: id})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		m, err := jsonrpc.Parse(body, jsonrpc.Limits{})
		if err != nil {
			t.Error(err)
			return
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		rewrite(w, m.Method, rec.Body.Bytes())
	}))
	defer s.Close()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	rt, err := transport.RoundTripper(base, transport.ClientConfig{Identity: id.URI(), Anchor: protocol.Pin(id.Thumbprint())})
	if err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequest(http.MethodPost, s.URL+"/mcp", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`))
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: rt}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func pass(w http.ResponseWriter, _ string, answer []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(answer)
}

func answersTools(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}`)
}

// A frame that follows the only frame of an answer is told, not passed over.
func TestFrameAfterTheOnlyOne(t *testing.T) {
	asStream := func(more bool) func(http.ResponseWriter, string, []byte) {
		return func(w http.ResponseWriter, method string, answer []byte) {
			if method != protocol.MethodCall {
				pass(w, method, answer)
				return
			}
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: "+string(answer)+"\n\n")
			if !more {
				return
			}
			m, _ := jsonrpc.Parse(answer, jsonrpc.Limits{})
			text, _ := jsonrpc.Text(jsonrpc.Get(m.Result, "frame"))
			raw, _ := protocol.ParseBase64(text)
			f, err := protocol.InspectFrame(raw)
			if err != nil {
				t.Error(err)
				return
			}
			b := dcbor.AppendUint(dcbor.AppendArray(nil, 7), 3)
			b = dcbor.AppendBytes(b, f.Context[:])
			b = dcbor.AppendUint(dcbor.AppendUint(b, f.Seq), f.N+1)
			b = dcbor.AppendNull(dcbor.AppendBool(b, true))
			b = dcbor.AppendBytes(b, f.Ciphertext)
			io.WriteString(w, `data: {"jsonrpc":"2.0","method":"`+protocol.MethodFrame+`","params":{"frame":"`+protocol.Base64(b)+`"}}`+"\n\n")
		}
	}
	if got := callThrough(t, answersTools, asStream(false)); !strings.Contains(got, `"tools":[]`) {
		t.Fatalf("the twin: %s", got)
	}
	if got := callThrough(t, answersTools, asStream(true)); !strings.Contains(got, string(protocol.AfterFinal)) || strings.Contains(got, "tools") {
		t.Fatalf("a frame after the only one: %s", got)
	}
}

// A request whose answer ends without one gets an error, so that nobody waits.
func TestRequestThatGetsNoAnswer(t *testing.T) {
	got := callThrough(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }, pass)
	if !strings.Contains(got, string(protocol.AnswerInvalid)) {
		t.Fatalf("the client got %q", got)
	}
}
