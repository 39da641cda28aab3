//go:build race

package policywasm_test

// raceFactor is how much longer the race detector makes what grows memory take, which
// it watches byte by byte.
const raceFactor = 20
