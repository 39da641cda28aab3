// Package vectors holds the test vectors of the specification, one cause each:
// [All] returns them. They are JSON files in this folder, one folder for each
// group, and README.md describes their fields for readers without Go.
//
//	for _, v := range vectors.All() {
//		switch v.Group { … }
//	}
package vectors

import (
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"sort"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

//go:generate go run ./gen

//go:embed */*.json
var files embed.FS

// A Vector is one input with what must come of it.
type Vector struct {
	ID           string         `json:"id"`              // group/name, stable
	Group        string         `json:"group"`           // what kind of input it is; see README.md
	Valid        bool           `json:"valid"`           // must be accepted
	Reason       string         `json:"reason,omitzero"` // of the error, when not valid
	Note         string         `json:"note"`            // what it shows, or which bug it catches
	Requirements []string       `json:"requirements"`    // ids of the specification
	Input        jsontext.Value `json:"input"`
	Output       jsontext.Value `json:"output,omitzero"`
}

// Hex is bytes that stand as lower-case hex in a vector.
type Hex []byte

// UnmarshalText reads hex.
func (h *Hex) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// MarshalText writes hex.
func (h Hex) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

var all = sync.OnceValue(func() []Vector {
	var out []Vector
	paths, err := fs.Glob(files, "*/*.json")
	if err != nil {
		panic(err)
	}
	sort.Strings(paths)
	for _, path := range paths {
		if strings.HasPrefix(path, "setup/") {
			continue
		}
		var v Vector
		if err := read(path, &v); err != nil {
			panic(err) // the files are part of the program
		}
		out = append(out, v)
	}
	return out
})

// All returns every vector, by group and name. Do not change what it returns.
func All() []Vector { return all() }

// Group returns the vectors of one group.
func Group(name string) []Vector {
	var out []Vector
	for _, v := range all() {
		if v.Group == name {
			out = append(out, v)
		}
	}
	return out
}

// Decode reads the vector's input, and its output if it has one, into what in
// and out point at. Members that have no field there are errors.
func (v *Vector) Decode(in, out any) error {
	if err := json.Unmarshal(v.Input, in, json.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("vector %s: input: %w", v.ID, err)
	}
	if out == nil || v.Output == nil {
		return nil
	}
	if err := json.Unmarshal(v.Output, out, json.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("vector %s: output: %w", v.ID, err)
	}
	return nil
}

// A Setup is the server of the groups request and answer; see README.md.
type Setup struct {
	Identity          string     `json:"identity"`
	IdentitySeed      Hex        `json:"identity_seed"`
	IdentityPublicKey Hex        `json:"identity_public_key"`
	Settings          string     `json:"settings"`
	SettingsDigest    Hex        `json:"settings_digest"`
	KeyObject         Hex        `json:"key_object"`
	KeyDigest         Hex        `json:"key_digest"`
	NotBefore         int64      `json:"not_before"`
	Expires           int64      `json:"expires"`
	Keys              []SetupKey `json:"keys"`
}

// A SetupKey is an HPKE key of the server.
type SetupKey struct {
	Suite      uint8  `json:"suite"`
	Name       string `json:"name"`
	Seed       Hex    `json:"seed"`
	PrivateKey Hex    `json:"private_key"`
	PublicKey  Hex    `json:"public_key"`
}

// Server returns the setup of setup/server.json.
func Server() Setup {
	var s Setup
	if err := read("setup/server.json", &s); err != nil {
		panic(err) // the file is part of the program
	}
	return s
}

func read(path string, v any) error {
	b, err := files.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v, json.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("vector file %s: %w", path, err)
	}
	return nil
}
