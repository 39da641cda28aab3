package trusted_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/interoptest"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// Carrier inline, which seals tools/call and tools/list only, works with servers
// of three languages, whichever era the outer leg is of. Names of tools stand
// outside the seal by design, and so does what opens the conversation, the client's
// own name included; what a tool is called with, and what comes back, does not.
func TestInline(t *testing.T) {
	for _, name := range []string{"go-sdk-server", "ts-v2-server", "python2-server"} {
		target, err := interop.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			cache := interoptest.Install(t, target)
			s := serve(t, interoptest.Start(t, cache, target, "http"))
			for _, era := range []interop.Era{interop.Legacy, interop.Modern} {
				for _, way := range ways {
					for _, outer := range []transport.Era{transport.Modern, transport.Legacy} {
						t.Run(fmt.Sprintf("%s/%s/outer-%s", era, way.name, outer), func(t *testing.T) {
							ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
							defer cancel()
							w := tap(t, s)
							cfg := to(s, w.URL, protocol.Inline)
							cfg.OuterEra = outer
							c := dial(t, ctx, way.dial(t, cfg), era)
							defer c.Close()
							list, err := c.ListTools(ctx, nil)
							if err != nil {
								t.Fatal(err)
							}
							var names []string
							for _, tool := range list.Tools {
								names = append(names, tool.Name)
							}
							if !slices.Contains(names, "echo") {
								t.Errorf("tools: %q", names)
							}
							if got, _ := c.want(t, ctx, "echo", map[string]any{"text": canaryText}, false); got != canaryText {
								t.Errorf("echo: got %q", got)
							}
							if got, _ := c.want(t, ctx, "fail", map[string]any{}, true); got != "failed as asked" {
								t.Errorf("fail: got %q", got)
							}
							unseen(t, w, []string{"canary-argument-5f1c", "failed as asked", canaryField})
						})
					}
				}
			}
		})
	}
}
