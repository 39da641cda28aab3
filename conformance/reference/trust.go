package reference

import (
	"context"
	"io"
	"net/http"

	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// Sealed puts the project's own trust layer in front of inner, for a new
// identity of the given URI.
func Sealed(uri string, inner http.Handler, mode protocol.Mode, publicTools bool) (http.Handler, error) {
	id, err := protocol.GenerateIdentity(uri)
	if err != nil {
		return nil, err
	}
	return transport.Handler(inner, transport.ServerConfig{Identity: id, Mode: mode, PublicTools: publicTools})
}

// SealedStdio does the same on lines: it serves s, sealed, until in ends.
func SealedStdio(ctx context.Context, uri string, s *Server, in io.Reader, out io.Writer) error {
	id, err := protocol.GenerateIdentity(uri)
	if err != nil {
		return err
	}
	return Lines(ctx, s, transport.ServerConfig{Identity: id}, in, out)
}

// Lines serves s on lines behind the trust layer of cfg, until in ends.
func Lines(ctx context.Context, s *Server, cfg transport.ServerConfig, in io.Reader, out io.Writer) error {
	innerIn, toInner := io.Pipe()
	fromInner, innerOut := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(innerIn, innerOut)
		innerOut.Close()
	}()
	err := transport.StdioServer(ctx, transport.Pipe{In: in, Out: out}, transport.Pipe{In: fromInner, Out: toInner}, cfg)
	innerIn.Close()
	<-done
	return err
}
