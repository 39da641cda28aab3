package core

import (
	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

const acknowledged = "notifications/subscriptions/acknowledged"

func runListen(t *T) {
	s := t.Session()
	c := Call{
		Method: "subscriptions/listen", ID: `"listen-1"`,
		Params: Obj{"notifications": Obj{"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true}},
		Until: func(m *wire.Message) bool {
			return m.Method != "" && conformance.Member(m.Params, "_meta", conformance.MetaSubscription) != nil
		},
	}
	r, err := s.Try(c)
	if m := failure(r); m != nil {
		if code, _ := m.Code(); code == jsonrpc.CodeMethodNotFound {
			t.NotApplicable("the server does not know subscriptions/listen")
		}
		t.Violate("subscriptions/listen was answered with the error %s", conformance.Short(m.Error))
	}
	if err != nil {
		t.Violate("no notification for the subscription came: %v", err)
	}
	var first *wire.Message
	for _, m := range r.Messages {
		if m.Method != "" && (t.HTTP() || conformance.Member(m.Params, "_meta", conformance.MetaSubscription) != nil) {
			first = m
			break
		}
	}
	if first == nil {
		if r.Answer != nil {
			t.Violate("the subscription ended before it was acknowledged: %s", conformance.Short(r.Answer.Raw))
		}
		t.Violate("no notification for the subscription came%s", s.Hint(r))
	}
	if first.Method != acknowledged {
		t.Violate("the first message is %s", first.Method)
	}
	if id, _ := conformance.MemberText(first.Params, "_meta", conformance.MetaSubscription); id != "listen-1" {
		t.Violate("the subscription id is %s, the request had the id \"listen-1\"", orAbsent(conformance.Member(first.Params, "_meta", conformance.MetaSubscription)))
	}
	if conformance.Member(first.Params, "notifications").Kind() != '{' {
		t.Violate("the acknowledgment has no notifications filter: %s", conformance.Short(first.Raw))
	}
}
