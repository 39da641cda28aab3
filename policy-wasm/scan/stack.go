package scan

// A frame's words are its locals and the most operands that it ever has on the
// stack. Engines keep them all while it calls others, so a frame of many words
// counts as several calls: without that, 1000 nested calls keep 200 MB.
const wordsPerCall = 256

// calls is what a call of the function takes of the depth.
func (b *body) calls() int64 { return 1 + int64(b.locals+b.operands)/wordsPerCall }

// A stack follows the height of the operand stack. It knows no types: in
// modules that are not valid, which engines refuse, it stays at its base.
type stack struct{ height, base, most int }

func (s *stack) move(by int) {
	s.height = max(s.height+by, s.base)
	s.most = max(s.most, s.height)
}

// call takes parameters and leaves results.
func (s *stack) call(t FuncType) {
	s.move(-len(t.Params))
	s.move(len(t.Results))
}

// variable is a get, a set or a tee.
func (s *stack) variable(get, set bool) {
	switch {
	case get:
		s.move(1)
	case set:
		s.move(-1)
	}
}

// effect is how an instruction without operands of its own, or a load or store,
// moves the height.
func effect(op byte) int {
	switch {
	case op >= 0x28 && op <= 0x35: // loads
		return 0
	case op >= 0x36 && op <= 0x3e: // stores
		return -2
	case op == 0x45, op == 0x50, // eqz
		op >= 0x67 && op <= 0x69, op >= 0x79 && op <= 0x7b, // clz, ctz, popcnt
		op >= 0x8b && op <= 0x91, op >= 0x99 && op <= 0x9f, // abs to sqrt
		op >= 0xa7: // conversions
		return 0
	case op >= opNumericFirst:
		return -1
	}
	return 0
}

// givesNaN is the type of the NaN that an instruction can make, or 0. Loads,
// constants, neg, abs and copysign only move bits, or change the sign.
func givesNaN(op byte) ValueType {
	switch {
	case op >= 0x8d && op <= 0x97, op == 0xb6: // ceil to max; demote
		return F32
	case op >= 0x9b && op <= 0xa5, op == 0xbb: // the same; promote
		return F64
	}
	return 0
}
