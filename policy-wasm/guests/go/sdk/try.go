//go:build !wasip1 && !tinygo.wasm

package policy

import (
	"bytes"
	"slices"
)

// Object and List are documents for [Try], with string, int, bool, nil and each
// other in them.
type (
	Object map[string]any
	List   []any
)

// Try asks f about a document as a host does, and returns the decision with the
// codes of its reasons, such as "allow" or "deny debug tcb". It is for unit
// tests, and not there in modules.
func Try(f func(Value, *Result), doc any) string {
	r := &Result{doc: string(answer(f, string(encode(doc)), true))}
	out := Value{r: r}
	s := out.Get("decision").Text()
	if reasons := out.Find("reasons"); !reasons.IsNull() {
		for _, reason := range reasons.Items() {
			s += " " + reason.Get("code").Text()
		}
	}
	return s
}

// encode returns v in deterministic CBOR. What is no part of a document becomes
// undefined, which is refused.
func encode(v any) []byte {
	switch v := v.(type) {
	case nil:
		return []byte{byteNull}
	case bool:
		return appendBool(nil, v)
	case int:
		return appendInt(nil, int64(v))
	case string:
		return appendText(nil, v)
	case List:
		b := appendHead(nil, kindArray, uint64(len(v)))
		for _, item := range v {
			b = append(b, encode(item)...)
		}
		return b
	case Object:
		members := make([][2][]byte, 0, len(v))
		for name, value := range v {
			members = append(members, [2][]byte{appendText(nil, name), encode(value)})
		}
		slices.SortFunc(members, func(a, b [2][]byte) int { return bytes.Compare(a[0], b[0]) })
		b := appendHead(nil, kindMap, uint64(len(v)))
		for _, m := range members {
			b = append(append(b, m[0]...), m[1]...)
		}
		return b
	}
	return []byte{kindOther<<5 | 23}
}
