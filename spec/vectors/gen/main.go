// Command gen writes the test vectors of this folder. It computes them from the
// text of the specification, with crypto/hpke, crypto/hkdf and a general CBOR
// encoder, and imports nothing of the implementation that they test.
//
//	go generate ./spec/vectors           # write those that are missing
//	go run ./spec/vectors/gen -force     # write all again
//
// Each vector is one entry of a table with a small function. Everything is
// derived from fixed seeds; what can't be (encapsulations, RSA signatures) is
// kept in setup/frozen.json, so that a second run gives the same bytes.
package main

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// x is bytes that stand as hex in JSON.
type x []byte

func (b x) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }

// obj is a JSON object.
type obj = map[string]any

// vec is one vector. reason "" says that it is valid.
type vec struct {
	reason, req, note string
	in, out           any
}

type file struct {
	ID           string   `json:"id"`
	Group        string   `json:"group"`
	Valid        bool     `json:"valid"`
	Reason       string   `json:"reason,omitzero"`
	Note         string   `json:"note"`
	Requirements []string `json:"requirements"`
	Input        any      `json:"input"`
	Output       any      `json:"output,omitzero"`
}

var (
	files = map[string][]byte{} // by path below the folder
	order []string
)

func add(group, name string, v vec) {
	if v.req == "" || v.note == "" {
		panic(group + "/" + name + ": a vector needs a requirement and a note")
	}
	put(group+"/"+name+".json", file{group + "/" + name, group, v.reason == "", v.reason, v.note, strings.Fields(v.req), v.in, v.out})
}

func put(path string, v any) {
	if _, double := files[path]; double {
		panic(path + " is written twice")
	}
	b := must(json.Marshal(v, jsontext.WithIndent("  "), json.Deterministic(true), jsontext.EscapeForHTML(false)))
	files[path] = append(b, '\n')
	order = append(order, path)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func main() {
	dir := flag.String("dir", ".", "folder of the vectors")
	force := flag.Bool("force", false, "write also those that exist and differ")
	flag.Parse()
	loadFrozen(*dir)
	jsonVectors()
	keyVectors()
	scheduleVectors()
	syntaxVectors()
	contentVectors()
	requestVectors()
	answerVectors()
	smallVectors()
	reportDataVectors()
	possessionVectors()
	policyVectors()
	aiccVectors()
	put("setup/server.json", setup())
	put("setup/frozen.json", frozen)
	differ := 0
	for _, path := range order {
		name := filepath.Join(*dir, filepath.FromSlash(path))
		old, err := os.ReadFile(name)
		switch {
		case err == nil && bytes.Equal(old, files[path]):
			continue
		case err == nil && !*force && path != "setup/frozen.json":
			fmt.Fprintf(os.Stderr, "%s differs from what is generated; -force overwrites it\n", path)
			differ++
			continue
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if err := os.WriteFile(name, files[path], 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if differ > 0 {
		os.Exit(1)
	}
}
