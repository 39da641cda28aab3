package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// echoServer is an unmodified MCP server on the official SDK, over stdio.
func echoServer() {
	s := mcp.NewServer(&mcp.Implementation{Name: "echo-server", Version: "1"}, nil)
	type in struct {
		Text string `json:"text"`
	}
	mcp.AddTool(s, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, a in) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: a.Text}}}, nil, nil
	})
	if len(os.Args) == 2 && os.Args[1] == "http" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		log.Printf("listening at http://%s/mcp", l.Addr())
		log.Fatal(http.Serve(l, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: true})))
	}
	if err := s.Run(context.Background(), &mcp.StdioTransport{}); err != nil {
		log.Fatal(err)
	}
}

// dyingServer answers until a tool is called, and then ends with exit code 7.
func dyingServer() {
	s := mcp.NewServer(&mcp.Implementation{Name: "dying-server", Version: "1"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "echo"}, func(context.Context, *mcp.CallToolRequest, map[string]any) (*mcp.CallToolResult, any, error) {
		os.Exit(7)
		return nil, nil, nil
	})
	if err := s.Run(context.Background(), &mcp.StdioTransport{}); err != nil {
		log.Fatal(err)
	}
}

// echoClient calls echo on the server at a URL, or on a stdio command given
// after --, and prints what comes back.
func echoClient() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var t mcp.Transport
	if os.Args[1] == "--" {
		cmd := exec.Command(os.Args[2], os.Args[3:]...)
		cmd.Stderr = os.Stderr
		t = &mcp.CommandTransport{Command: cmd}
	} else {
		url := os.Args[1]
		if b, err := os.ReadFile(url); err == nil { // a file that holds it
			url = strings.TrimSpace(string(b))
		}
		t = &mcp.StreamableClientTransport{Endpoint: url, MaxRetries: -1}
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "echo-client", Version: "1"}, nil).Connect(ctx, t, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close()
	text := "hello through the seal"
	kib, _ := strconv.Atoi(os.Getenv("ECHO_KIB")) // that much in place of the text
	if kib > 0 {
		text = strings.Repeat("x", kib<<10)
	}
	res, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": text}})
	if err != nil {
		log.Fatal(err)
	}
	got := res.Content[0].(*mcp.TextContent).Text
	switch {
	case got != text:
		log.Fatalf("got %.200q", got)
	case kib > 0:
		fmt.Println(len(got), "bytes")
	default:
		fmt.Println(got)
	}
}
