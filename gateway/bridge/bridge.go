// Package bridge connects the ways in which MCP is spoken, in plain: a stdio
// server command to HTTP ([NewStdioServer]), a stdio client to an HTTP endpoint
// ([Pump]), and HTTP to HTTP ([NewReverse]). Trust is not its business: wrap
// its handlers and hand it a round tripper of package transport for that.
//
// All three pass messages on byte for byte, except for what MCP gives each leg
// of its own (JSON-RPC ids, progress tokens, subscription ids where clients
// share a child), serve both eras of the protocol, never translate between
// them, and bound the memory and the time that a peer can take.
package bridge
