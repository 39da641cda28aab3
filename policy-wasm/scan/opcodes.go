package scan

// Opcodes that are read or written by name.
const (
	opUnreachable  = 0x00
	opNop          = 0x01
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opDrop         = 0x1a
	opSelect       = 0x1b
	opLocalGet     = 0x20
	opLocalSet     = 0x21
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opLoadFirst    = 0x28
	opStoreLast    = 0x3e
	opMemorySize   = 0x3f
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opNumericFirst = 0x45
	opNumericLast  = 0xc4 // with the sign extensions
	opI32Eq        = 0x46
	opI32LtS       = 0x48
	opI64LtS       = 0x53
	opF32Eq        = 0x5b
	opF64Eq        = 0x61
	opI32Add       = 0x6a
	opI32Sub       = 0x6b
	opI64Sub       = 0x7d
	opI64Shl       = 0x86
	opI64ShrU      = 0x88
	opI64ExtendU   = 0xad
	opPrefix       = 0xfc
)

// Weights of instructions, in units of fuel. All others weigh 1. They are part
// of the ABI's version: other weights would give other answers.
const (
	weightMemory   = 2    // load, store
	weightFloat    = 4    // arithmetic on f32 and f64
	weightDivide   = 8    // div, rem
	weightCall     = 10   //
	weightIndirect = 15   //
	weightHost     = 200  // calling an import
	weightBulk     = 20   // memory.copy, fill, init; and 1 for each 2^bulkShift bytes
	weightGrow     = 1000 // and 2^growShift for each page
	bulkShift      = 6
	growShift      = 12
)
