package main

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
)

// What a stranger's server says does not steer the terminal that shows it.
func TestErrorsHoldNoControlCharacters(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, "HTTP/1.1 404 \x1b]0;owned\x07\xff\u202e\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	}()
	var stderr bytes.Buffer
	code := run([]string{"seal", "--to", "http://" + l.Addr().String(), "--identity", "urn:x", "--pin", strings.Repeat("A", 43), "-"}, strings.NewReader(""), io.Discard, &stderr)
	l.Close()
	<-done
	if code != exitUnreachable || !strings.Contains(stderr.String(), "owned") || strings.ContainsAny(stderr.String(), "\x1b\x07\u202e") {
		t.Errorf("exit code %d, %q", code, stderr.String())
	}
}
