//go:build wasip1 || tinygo.wasm

package policy

import "unsafe"

// What the host reads and writes. Variables keep it from being collected.
var input, output []byte

//go:wasmexport tmcp_abi_version
func abiVersion() int32 { return 1 }

//go:wasmexport tmcp_allocate
func allocate(size uint32) uint32 {
	input = make([]byte, max(size, 1))
	return address(input)
}

//go:wasmexport tmcp_appraise
func appraise(at, size uint32) uint64 { return export(Appraise, at, size, true) }

//go:wasmexport tmcp_authorize
func authorize(at, size uint32) uint64 { return export(Authorize, at, size, false) }

// export answers about the input that stands at at, which must be where allocate
// made room.
func export(f func(Value, *Result), at, size uint32, appraise bool) uint64 {
	doc := ""
	if uint64(size) <= uint64(len(input)) && at == address(input) {
		doc = string(input[:size])
	}
	output = answer(f, doc, appraise)
	return uint64(address(output))<<32 | uint64(len(output))
}

func address(b []byte) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }
