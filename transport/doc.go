// Package transport puts package protocol on the wire of any Go MCP server or
// client, over Streamable HTTP and stdio, in both eras of MCP.
//
// Around a server, of whatever SDK, it is one line:
//
//	handler, err := transport.Handler(mcpHandler, transport.ServerConfig{Identity: id})
//
// and around a client, too:
//
//	rt, err := transport.RoundTripper(http.DefaultTransport, transport.ClientConfig{Anchor: protocol.Pin(thumbprint)})
//	client := &http.Client{Transport: rt}
//
// The MCP conversation of the two SDKs then runs sealed inside the trust
// layers': every message, every HTTP field and every event of a stream. What a
// proxy sees is one constant method (carrier envelope), or a tools/call whose
// content is sealed (inline), or a stream of frames (http). Both sides fail
// closed unless [protocol.ModePreferred] is asked for.
//
// For stdio see [StdioClient] and [StdioServer]; for the official Go SDK see
// the package gosdk below this one.
package transport
