// Package gosdk adds Trusted MCP to programs on the official Go SDK,
// github.com/modelcontextprotocol/go-sdk, with one import.
//
// A server over HTTP, for clients of both eras:
//
//	handler, err := gosdk.Handler(server, nil, transport.ServerConfig{Identity: id})
//
// and over stdio, instead of mcp.StdioTransport:
//
//	err := server.Run(ctx, gosdk.StdioTransport(transport.ServerConfig{Identity: id}))
//
// A client over HTTP:
//
//	httpClient, err := gosdk.HTTPClient(transport.ClientConfig{Anchor: anchor})
//	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: httpClient}, nil)
//
// and of a server that it starts, instead of mcp.CommandTransport:
//
//	session, err := client.Connect(ctx, gosdk.CommandTransport(exec.Command("server"), cfg), nil)
package gosdk

import (
	"errors"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/trustedmcp/tmcp/transport"
)

// HTTPClient is an http.Client for mcp.StreamableClientTransport. It stands
// below that transport, not around it: the SDK gives a wrapped transport neither
// its version header nor its standing stream.
func HTTPClient(cfg transport.ClientConfig) (*http.Client, error) {
	rt, err := transport.RoundTripper(nil, cfg)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: rt}, nil
}

// Handler serves server sealed over Streamable HTTP, in both eras on one
// endpoint: a handler of the SDK serves one of them in full, so two are made,
// and the revision of the message inside the seal chooses. opts may be nil;
// Stateless is ignored.
func Handler(server *mcp.Server, opts *mcp.StreamableHTTPOptions, cfg transport.ServerConfig) (http.Handler, error) {
	if server == nil {
		return nil, errors.New("gosdk: Handler needs a server")
	}
	return transport.Handler(BothEras(server, opts), cfg)
}

// BothEras serves server over Streamable HTTP in both eras, without trust.
func BothEras(server *mcp.Server, opts *mcp.StreamableHTTPOptions) http.Handler {
	var legacy mcp.StreamableHTTPOptions
	if opts != nil {
		legacy = *opts
	}
	modern := legacy
	legacy.Stateless, modern.Stateless = false, true
	// Modern requests have no session that could outlive them: what their client
	// gave up is to be cancelled.
	modern.PropagateRequestCancellation = true
	modern.EventStore = nil
	get := func(*http.Request) *mcp.Server { return server }
	stateful := mcp.NewStreamableHTTPHandler(get, &legacy)
	stateless := mcp.NewStreamableHTTPHandler(get, &modern)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Mcp-Protocol-Version") >= "2026-07-28" {
			stateless.ServeHTTP(w, r)
			return
		}
		stateful.ServeHTTP(w, r)
	})
}
