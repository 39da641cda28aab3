//go:build !race

package policywasm_test

const raceFactor = 1
