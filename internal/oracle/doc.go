// Package oracle holds our verifier of Intel quotes against oasis-core's, the
// only other one in Go that knows SGX version 3 and TDX version 4. It is a module
// of its own, since that one brings hundreds of modules: nothing but its tests
// may import them. Run go test in this folder.
package oracle
