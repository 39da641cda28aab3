// Command host answers a question with a model and the tools of an MCP server.
// It gives its arguments to code that it accepts, and to nobody else.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/gateway/appraisal"
	"github.com/trustedmcp/tmcp/gateway/keyfile"
	"github.com/trustedmcp/tmcp/gateway/tee"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
	"github.com/trustedmcp/tmcp/transport/gosdk"
)

func main() {
	keyFile := flag.String("key", "host.key", "file with this host's identity key, from tmcp keygen")
	pin := flag.String("pin", "", "thumbprint of the server's key")
	server := flag.String("server", "http://127.0.0.1:9002/mcp", "URL of the MCP server")
	model := flag.String("model", "http://127.0.0.1:9001/v1", "URL of the model's API")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("host: ask one question, in quotes")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	h, err := connect(ctx, *server, *keyFile, *pin)
	if err != nil {
		log.Fatal("host: ", err)
	}
	defer h.session.Close()
	h.model = *model
	answer, err := h.ask(ctx, flag.Arg(0))
	if err != nil {
		log.Fatal("host: ", err)
	}
	fmt.Println(answer)
}

type host struct {
	session *mcp.ClientSession
	model   string
}

// connect opens a session that is sealed to attested code.
func connect(ctx context.Context, url, keyFile, pin string) (*host, error) {
	key, err := keyfile.Load(keyFile)
	if err != nil {
		return nil, err
	}
	server, err := protocol.ParseThumbprint(pin)
	if err != nil {
		return nil, fmt.Errorf("-pin: %w", err)
	}
	self, err := protocol.NewIdentity("urn:example:host", key)
	if err != nil {
		return nil, err
	}
	// What this host proves of itself.
	attester, _, err := tee.Open(ctx, tee.Sim, tee.Options{Simulated: sim.Options{Image: sha256.Sum256([]byte("host"))}})
	if err != nil {
		return nil, err
	}
	settings, err := protocol.NewSettings(protocol.Offer{Profiles: []protocol.Profile{protocol.ProfileMutual}})
	if err != nil {
		return nil, err
	}
	holder, err := protocol.NewClientHolder(protocol.ClientKeyConfig{Identity: self, Settings: settings, Attestation: &protocol.Attestation{Attester: attester}})
	if err != nil {
		return nil, err
	}
	// What it demands of the server, before a byte of a call leaves.
	appraiser, err := appraisal.Load(ctx, appraisal.Options{Simulator: true, Now: time.Now()})
	if err != nil {
		return nil, err
	}
	client, err := gosdk.HTTPClient(transport.ClientConfig{
		Anchor: protocol.Pin(server), Profile: protocol.ProfileMutual, Appraiser: appraiser, Settings: settings, ClientKey: holder,
	})
	if err != nil {
		return nil, err
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "host", Version: "1.0.0"}, nil).
		Connect(ctx, &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: client, MaxRetries: -1}, nil)
	if err != nil {
		return nil, err
	}
	return &host{session: session}, nil
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
	Calls   []call `json:"tool_calls,omitempty"`
	CallID  string `json:"tool_call_id,omitempty"`
}

type call struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

const maxRounds = 8

// ask has the model answer, with as many calls of tools as it wants.
func (h *host) ask(ctx context.Context, question string) (string, error) {
	listed, err := h.session.ListTools(ctx, nil)
	if err != nil {
		return "", err
	}
	var tools []any
	for _, t := range listed.Tools {
		tools = append(tools, map[string]any{"type": "function", "function": map[string]any{"name": t.Name, "description": t.Description, "parameters": t.InputSchema}})
	}
	chat := []message{{Role: "system", Content: "Answer with the tools."}, {Role: "user", Content: question}}
	for range maxRounds {
		answer, err := h.complete(ctx, chat, tools)
		if err != nil {
			return "", err
		}
		if len(answer.Calls) == 0 {
			return answer.Content, nil
		}
		chat = append(chat, *answer)
		for _, c := range answer.Calls {
			chat = append(chat, message{Role: "tool", CallID: c.ID, Content: h.call(ctx, &c)})
		}
	}
	return "", errors.New("the model goes on asking for tools")
}

// call runs a tool. What goes wrong is told to the model, as MCP has it.
func (h *host) call(ctx context.Context, c *call) string {
	var args map[string]any
	if err := json.Unmarshal([]byte(c.Function.Arguments), &args); err != nil {
		return "error: the arguments are no JSON object"
	}
	res, err := h.session.CallTool(ctx, &mcp.CallToolParams{Name: c.Function.Name, Arguments: args})
	if err != nil {
		return "error: " + err.Error()
	}
	var text []string
	for _, part := range res.Content {
		if t, ok := part.(*mcp.TextContent); ok {
			text = append(text, t.Text)
		}
	}
	return strings.Join(text, "\n")
}

// complete asks the model for its next message.
func (h *host) complete(ctx context.Context, chat []message, tools []any) (*message, error) {
	body, err := json.Marshal(map[string]any{"model": "stand-in", "messages": chat, "tools": tools})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(h.model, "/")+"/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the model: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the model answers with HTTP status %d: %.200q", resp.StatusCode, b)
	}
	var out struct {
		Choices []struct {
			Message message `json:"message"`
		} `json:"choices"`
	}
	if err := json.Unmarshal(b, &out); err != nil || len(out.Choices) == 0 {
		return nil, fmt.Errorf("the model's answer is no completion: %.200q", b)
	}
	return &out.Choices[0].Message, nil
}
