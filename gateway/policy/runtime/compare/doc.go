// Package compare measures one policy, on one document, in one run: as modules
// that different toolchains made, in native Rego, in CEL, and as a plain Go
// function. It is a module of its own, since OPA and CEL bring dozens of modules:
// nothing but its tests may import them. Run go test -bench . in this folder.
package compare
