package scan

import "fmt"

// Reasons of an [Error]. They are stable: others match them.
const (
	Invalid   = "policy.invalid"   // no valid module
	Profile   = "policy.profile"   // a feature that policies may not use
	Limit     = "policy.limit"     // larger, deeper or costlier than allowed
	Import    = "policy.import"    // an import that is not offered
	Export    = "policy.export"    // an export is missing, or stands twice
	Signature = "policy.signature" // an import or export of another type
	Memory    = "policy.memory"    // more memory than allowed
)

// An Error says why a module is refused.
type Error struct {
	Reason string // one of the constants above
	Offset int    // in bytes from the start of the module
	Detail string // the rule, for people
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s at offset %#x: %s", e.Reason, e.Offset, e.Detail)
}

func newError(reason string, offset int, format string, args ...any) *Error {
	return &Error{Reason: reason, Offset: offset, Detail: fmt.Sprintf(format, args...)}
}

// Limits bound what a module may ask for. The defaults hold for every compiler
// that was measured, with room: about twice what the largest policy needs.
type Limits struct {
	Module    int    // bytes of the file
	Types     int    // function types
	Params    int    // of a function
	Imports   int    //
	Functions int    // defined ones
	Globals   int    //
	Exports   int    //
	Table     uint32 // elements that the table has at the start
	Pages     uint32 // most pages of 64 KiB that the memory ever has
	Elements  int    // of all element segments
	Data      int    // data segments
	Locals    int    // of a function, with its parameters
	Body      int    // bytes of a function
	Nesting   int    // of blocks in a function
	Loops     int    // nesting of loops in a function
	Targets   int    // of all br_table in a function
	Cost      int    // of compiling a function, see cost in body.go
	TotalCost int    // of compiling the module
	Depth     uint32 // of calls

	// Allow are the imports offered; nil: none.
	Allow []Func

	// ImportMemory, if set, is where the one memory comes from, in place of the
	// module's own: modules of some other hosts are made so.
	ImportMemory *ImportedMemory
}

// ImportedMemory is the name of a memory that a module imports.
type ImportedMemory struct{ Module, Name string }

// A Func is an imported function.
type Func struct {
	Module, Name string
	Type         FuncType
}

// Defaults are the limits of the ABI's version 1.
func Defaults() Limits {
	return Limits{
		Module: 8 << 20, Types: 4096, Params: 64, Imports: 64, Functions: 20_000,
		Globals: 10_000, Exports: 1024, Table: 100_000, Pages: 1024, Elements: 100_000,
		Data: 100_000, Locals: 500, Body: 128 << 10, Nesting: 1024, Loops: 16, Targets: 4096,
		Cost: 250_000, TotalCost: 4_000_000, Depth: 1000,
	}
}

const (
	maxName     = 1024
	maxMetadata = 16 << 10
	maxPages    = 1 << 16
)
