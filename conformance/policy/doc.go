// Package policy holds the cases of role policy: hosts of policies that are
// WebAssembly modules (chapter 20 of the specification). Call [Cases]; run them
// with [conformance.Run] against a [Subject].
//
// The host under test is behind a shim: a program that reads a request from each
// line of its stdin and writes an answer to each. README.md describes both, and
// the folder shims has one in Go. The modules are made when the suite runs; they
// are those of package corpus, of the specification's vectors, and some of the
// suite's own. [Export] writes all of it as files.
package policy
