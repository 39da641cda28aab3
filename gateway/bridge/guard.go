package bridge

import (
	"fmt"
	"net/http"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/transport/guard"
)

// A Guard refuses requests that a web page made a browser send.
type Guard = guard.Guard

// writeError answers with one JSON-RPC error. An empty id is written as null.
func writeError(w http.ResponseWriter, status int, id jsonrpc.ID, code int, msg string, data []byte) {
	writeJSON(w, status, jsonrpc.ErrorResponse(id, code, msg, data))
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
