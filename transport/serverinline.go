package transport

import (
	"net/http"

	"github.com/trustedmcp/tmcp/protocol"
)

type toolTable struct{ h *handler }

func (h *handler) serveInline(w http.ResponseWriter, r *http.Request, m *outer) {
	h.refuse(w, m.ID, m.Method, protocol.Errorf(protocol.CarrierRefused, "todo"))
}
