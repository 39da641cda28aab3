package rego

import (
	"slices"
	"strings"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// compiled are the builtins that OPA compiles into the module, or out of it,
// by the number of their arguments; behind a slash the operator.
var compiled = []string{
	`print rego.metadata.chain rego.metadata.rule`,
	`abs all any array.flatten array.reverse base64.decode base64.encode base64.is_valid base64url.decode base64url.encode bits.negate ceil count floor internal.print internal.template_string intersection is_array is_boolean is_null is_number is_object is_set is_string json.is_valid json.marshal json.unmarshal lower max min object.keys object.union_n product regex.is_valid round sort strings.reverse sum to_number trim_space type_name union upper walk`,
	`and/& array.concat assign/:= bits.and bits.lsh bits.or bits.rsh bits.xor concat contains div// endswith eq/= equal/== format_int graph.reachable gt/> gte/>= indexof internal.member_2/in json.filter json.remove lt/< lte/<= minus/- mul/* net.cidr_contains net.cidr_intersects net.cidr_overlap neq/!= numbers.range object.filter object.remove object.union or/| plus/+ re_match regex.match rem/% set_diff split startswith strings.replace_n trim trim_left trim_prefix trim_right trim_suffix`,
	`array.slice glob.match internal.member_3/in object.get regex.find_all_string_submatch_n replace substring`,
}

// Capabilities is a file for "opa build --capabilities": with it OPA refuses what
// this host does not offer. Types are not in it: all arguments may be anything.
func Capabilities() []byte {
	type entry struct {
		name, operator string
		args           int
	}
	var all []entry
	for n, names := range compiled {
		for s := range strings.FieldsSeq(names) {
			name, operator, _ := strings.Cut(s, "/")
			all = append(all, entry{name, operator, n})
		}
	}
	for name, b := range offered {
		all = append(all, entry{name, "", b.args})
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	const anything = `{"type":"any"}`
	out := []byte("{\"builtins\":[")
	for i, e := range all {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, "\n{\"name\":"...)
		out = append(out, jsonrpc.Quote(e.name)...)
		out = append(out, `,"decl":{"type":"function"`...)
		if e.args > 0 {
			out = append(out, `,"args":[`+strings.TrimSuffix(strings.Repeat(anything+",", e.args), ",")+`]`...)
		}
		switch e.name {
		case "print":
			out = append(out, `,"variadic":`+anything...)
		case "internal.print":
		default:
			out = append(out, `,"result":`+anything...)
		}
		out = append(out, '}')
		if e.operator != "" {
			out = append(out, `,"infix":`...)
			out = append(out, jsonrpc.Quote(e.operator)...)
		}
		if e.name == "walk" {
			out = append(out, `,"relation":true`...)
		}
		out = append(out, '}')
	}
	return append(out, "\n],\"future_keywords\":[\"and\",\"not\",\"or\"],\"features\":[\"keywords_in_refs\",\"rego_v1\",\"rego_v2\",\"rego_v2_import\",\"template_strings\"]}\n"...)
}
