package transport_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// serverLog is what net/http says of its own accord.
type serverLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *serverLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *serverLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A connection is used again after a request of the HTTP carrier that was read to
// its end, and closed after any other, without net/http panicking over it.
func TestConnectionAfterUnreadFrames(t *testing.T) {
	var said serverLog
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/unread" {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
		}
		w.WriteHeader(http.StatusNoContent)
	})
	server := httptest.NewUnstartedServer(nil)
	server.Config.ErrorLog = log.New(&said, "", 0)
	id, err := protocol.GenerateIdentity("http://" + server.Listener.Addr().String() + "/mcp")
	if err != nil {
		t.Fatal(err)
	}
	trust, err := protocol.NewServer(protocol.ServerConfig{Identity: id})
	if err != nil {
		t.Fatal(err)
	}
	if server.Config.Handler, err = transport.Handler(inner, transport.ServerConfig{Trust: trust}); err != nil {
		t.Fatal(err)
	}
	server.Start()
	defer server.Close()
	object, err := trust.Attest([]byte("a nonce of ours!"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := protocol.VerifyKeyObject(object, protocol.Expect{Identity: id.URI(), Anchor: protocol.Pin(id.Thumbprint()), Settings: trust.Settings(), Now: time.Now(), Nonce: []byte("a nonce of ours!")})
	if err != nil {
		t.Fatal(err)
	}
	client, err := protocol.NewClient(peer, trust.Settings())
	if err != nil {
		t.Fatal(err)
	}
	part := bytes.Repeat([]byte("a"), 16<<10)
	// frames is a request in three frames; its first comes alone, too.
	frames := func(path string) (first, all []byte) {
		call, first, err := client.SealFirst(protocol.Content{Kind: protocol.KindHTTP, Meta: protocol.Meta{Method: "POST", Target: path}, Body: part}, protocol.Outer{Carrier: protocol.HTTP}, false, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		all = bytes.Clone(first)
		for i := range 2 {
			f, err := call.SealNext(nil, protocol.Content{Kind: protocol.KindData, Body: part}, i == 1)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, f...)
		}
		return first, all
	}
	for _, tt := range []struct {
		name, path string
		bend       func(first, all []byte) []byte
		cut        bool // the body ends before what was declared
		want       string
		kept       bool
	}{
		{name: "whole", path: "/mcp", bend: func(_, all []byte) []byte { return all }, want: protocol.MediaTypeFrames, kept: true},
		{name: "not read by the server behind", path: "/unread", bend: func(_, all []byte) []byte { return all }, want: protocol.MediaTypeFrames},
		{name: "altered", path: "/mcp", bend: func(first, all []byte) []byte { all[len(first)+1000] ^= 1; return all }, want: "open-failed"},
		{name: "broken", path: "/mcp", bend: func(first, all []byte) []byte { return append(first, bytes.Repeat([]byte("no frame"), 8<<10)...) }, want: "malformed-frame"},
		{name: "more than all", path: "/mcp", bend: func(_, all []byte) []byte { return append(all, all[:1000]...) }, want: "out-of-order"},
		{name: "no frame", path: "/mcp", bend: func(_, all []byte) []byte { return append([]byte("no frame"), all...) }, want: "malformed-frame"},
		{name: "no final frame", path: "/mcp", bend: func(first, _ []byte) []byte { return first }, want: "out-of-order", kept: true},
		{name: "cut", path: "/mcp", bend: func(first, _ []byte) []byte { return first[:len(first)-8] }, cut: true, want: "malformed-frame"},
	} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/chunked=%v", tt.name, chunked), func(t *testing.T) {
				body := tt.bend(frames(tt.path))
				declared := len(body)
				if tt.cut {
					declared += 8
				}
				conn, err := net.Dial("tcp", server.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(20 * time.Second))
				u := &url.URL{Scheme: "http", Host: server.Listener.Addr().String(), Path: "/mcp"}
				head := "POST " + u.Path + " HTTP/1.1\r\nHost: " + u.Host + "\r\nContent-Type: " + protocol.MediaTypeFrames + "\r\n"
				if chunked {
					fmt.Fprintf(conn, "%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", head, len(body), body)
					if !tt.cut {
						io.WriteString(conn, "0\r\n\r\n")
					}
				} else {
					fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s", head, declared, body)
				}
				if tt.cut {
					conn.(*net.TCPConn).CloseWrite()
				}
				in := bufio.NewReader(conn)
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(resp.Body)
				if err != nil || !strings.Contains(resp.Header.Get("Content-Type")+string(b), tt.want) {
					t.Errorf("answered with %s %.300q, %v; want %s", resp.Header.Get("Content-Type"), b, err, tt.want)
				}
				if tt.kept {
					io.WriteString(conn, "GET /mcp HTTP/1.1\r\nHost: "+u.Host+"\r\nConnection: close\r\n\r\n")
					if again, err := http.ReadResponse(in, nil); err != nil || again.StatusCode != http.StatusMethodNotAllowed {
						t.Errorf("the next request on the connection was answered with %v, %v", again, err)
					}
					return
				}
				if !resp.Close {
					t.Error("the answer does not say that the connection closes")
				}
				if n, err := in.Read(make([]byte, 1)); n > 0 || err == nil {
					t.Error("something follows the answer")
				}
			})
		}
	}
	server.Close()
	if s := said.String(); s != "" {
		t.Errorf("net/http logged: %.500s", s)
	}
}
