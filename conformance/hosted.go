package conformance

import "github.com/trustedmcp/tmcp/conformance/wire"

// Log is the transcript of the case. Cases that host what the target talks to
// write it themselves; the engine does so for links.
func (t *T) Log() *wire.Log { return t.log }
