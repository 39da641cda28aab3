package gateway

import (
	"log/slog"

	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// observer logs what the trust layer reports. Nothing that was sealed is in it.
func observer(log *slog.Logger) func(transport.Event) {
	return func(e transport.Event) {
		attrs := []any{"method", e.Method}
		if e.Carrier != 0 {
			attrs = append(attrs, "carrier", e.Carrier.String(), "seq", e.Seq)
		}
		if e.Peer != nil {
			attrs = append(attrs, "peer", e.Peer.Identity())
		}
		if e.Err != nil {
			attrs = append(attrs, "reason", string(e.Err.Reason), "detail", e.Err.Detail)
			if why := e.Err.Unwrap(); why != nil && e.Err.Reason == protocol.ClientKeyRefused {
				attrs = append(attrs, "why", why.Error()) // of the evidence, which the client is not told
			}
			log.Info(string(e.Kind), attrs...)
			return
		}
		log.Debug(string(e.Kind), attrs...)
	}
}
