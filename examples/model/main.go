// Command model stands in for a model's API: it speaks the chat completions that
// many models have, with tools, and follows simple rules in place of thinking.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9001", "HOST:PORT to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal("model: ", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", complete)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	fmt.Fprintf(os.Stderr, "model: http://%s/v1\n", l.Addr())
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal("model: ", err)
	}
}

type request struct {
	Messages []message `json:"messages"`
	Tools    []struct {
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	} `json:"tools"`
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
	Calls   []call `json:"tool_calls,omitempty"`
}

type call struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

func complete(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	var req request
	if err == nil {
		err = json.Unmarshal(b, &req)
	}
	if err != nil || len(req.Messages) == 0 {
		http.Error(w, "no chat: send messages in JSON", http.StatusBadRequest)
		return
	}
	answer, reason := think(&req)
	out, err := json.Marshal(map[string]any{"object": "chat.completion", "choices": []any{map[string]any{"index": 0, "message": answer, "finish_reason": reason}}})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(out)
}

// think asks for each tool that fits the question once, and then says what came
// of it.
func think(req *request) (message, string) {
	question := ""
	var results []string
	for _, m := range req.Messages {
		switch m.Role {
		case "user":
			question, results = m.Content, nil
		case "tool":
			results = append(results, m.Content)
		}
	}
	if len(results) > 0 {
		return message{Role: "assistant", Content: "The tools say: " + strings.Join(results, " | ")}, "stop"
	}
	answer := message{Role: "assistant"}
	for _, t := range req.Tools {
		name := t.Function.Name
		if !slices.Contains([]string{"get_forecast", "get_alerts"}, name) {
			continue
		}
		c := call{ID: fmt.Sprintf("call_%d", len(answer.Calls)+1), Type: "function"}
		args, err := json.Marshal(map[string]any{"city": city(question)})
		if err != nil {
			continue
		}
		c.Function.Name, c.Function.Arguments = name, string(args)
		answer.Calls = append(answer.Calls, c)
	}
	if len(answer.Calls) == 0 {
		answer.Content = "I have no tool for that."
		return answer, "stop"
	}
	return answer, "tool_calls"
}

// city is the last word that begins with a capital letter or has none.
func city(question string) string {
	found := ""
	for _, word := range strings.Fields(question) {
		word = strings.Trim(word, "?!.,")
		if word != "" && word != strings.ToLower(word) || strings.ToLower(word) == strings.ToUpper(word) {
			found = word
		}
	}
	return found
}
