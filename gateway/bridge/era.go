package bridge

import (
	"context"
	"fmt"
	"time"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// What a stateless child turned out to speak.
const (
	eraUnknown int32 = iota
	eraModern
	eraLegacy
)

// silentWait is how long a child of unknown era may take for a modern request
// before it is asked whether it speaks that era. Some legacy SDKs hold requests
// back until initialize, which never comes here, and answer none of them.
const silentWait = time.Second

// learn notes what an answer to server/discover tells of the era.
func (be *backend) learn(a *jsonrpc.Message) {
	switch {
	case a.Result != nil:
		be.era.Store(eraModern)
	case string(jsonrpc.Get(a.Error, "code")) == fmt.Sprint(jsonrpc.CodeMethodNotFound):
		be.era.Store(eraLegacy)
	}
}

// suspect ends c, a modern request m under way, with an error if the child is
// silent and turns out to be of the legacy era. The returned function ends the
// suspicion.
func (be *backend) suspect(ctx context.Context, m *jsonrpc.Message, c *call) func() bool {
	if be.era.Load() != eraUnknown || m.Method == "server/discover" {
		return func() bool { return true }
	}
	t := time.AfterFunc(silentWait, func() {
		raw := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":0,"method":"server/discover","params":{"_meta":{%q:%s,"io.modelcontextprotocol/clientCapabilities":{}}}}`,
			metaVersion, jsonrpc.Get(m.Params, "_meta", metaVersion))
		req, err := jsonrpc.Parse(raw, be.srv.o.Limits)
		if err != nil {
			return
		}
		probe := &call{stream: newStream(0, 1, be.srv.o.Limits.Bytes())}
		probe.onAnswer = func(*jsonrpc.Message) { // learn has run
			if be.era.Load() == eraLegacy {
				be.cancel(c, "the server is legacy", be.legacyFailure(c))
			}
		}
		_ = be.start(ctx, req, probe)
	})
	return t.Stop
}

func (be *backend) legacyFailure(c *call) []byte {
	return c.failure(jsonrpc.CodeInvalidRequest, legacyOnly, "legacy-server")
}

const legacyOnly = "the MCP server command speaks only revisions that open with initialize, and knows no request before that"
