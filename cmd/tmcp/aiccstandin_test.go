package main

import (
	"os"

	"github.com/rogpeppe/go-internal/testscript"
)

// expand replaces $NAME in a file by the variable's value: expand FILE.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(os.Expand(ts.ReadFile(args[0]), ts.Getenv)), 0o600))
}
