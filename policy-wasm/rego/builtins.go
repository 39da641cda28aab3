package rego

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A builtin is a function that OPA leaves to the host. nil: undefined for these
// arguments, as OPA has it. An error ends the evaluation: what is not supported,
// and anything that could turn a denial around by being undefined.
type builtin struct {
	args int
	call func(r *run, a []value) (*value, error)
}

// offered are the builtins, all deterministic.
var offered = map[string]builtin{
	"base64url.encode_no_pad": strings1(func(s string) (*value, error) {
		return textValue(base64.RawURLEncoding.EncodeToString([]byte(s))), nil
	}),
	"crypto.hmac.sha256": strings2(func(s, key string) *value {
		h := hmac.New(sha256.New, []byte(key))
		h.Write([]byte(s))
		return textValue(hex.EncodeToString(h.Sum(nil)))
	}),
	"crypto.hmac.equal": strings2(func(a, b string) *value { return boolValue(hmac.Equal([]byte(a), []byte(b))) }),
	"crypto.sha256": strings1(func(s string) (*value, error) {
		sum := sha256.Sum256([]byte(s))
		return textValue(hex.EncodeToString(sum[:])), nil
	}),
	"hex.decode":     {1, hexDecode},
	"hex.encode":     strings1(func(s string) (*value, error) { return textValue(hex.EncodeToString([]byte(s))), nil }),
	"indexof_n":      strings2(indexes),
	"semver.compare": strings2(semverCompare),
	"semver.is_valid": {1, func(_ *run, a []value) (*value, error) {
		return boolValue(a[0].kind == str && semverOf(a[0].text) != nil), nil
	}},
	"sprintf":                  {2, sprintf},
	"strings.any_prefix_match": {2, affix(strings.HasPrefix)},
	"strings.any_suffix_match": {2, affix(strings.HasSuffix)},
	"strings.count":            strings2(func(s, sub string) *value { return intValue(int64(strings.Count(s, sub))) }),
	"time.add_date":            {4, addDate},
	"time.clock":               instant(func(t time.Time) *value { return ints(t.Hour(), t.Minute(), t.Second()) }),
	"time.date":                instant(func(t time.Time) *value { return ints(t.Year(), int(t.Month()), t.Day()) }),
	"time.now_ns":              {0, func(r *run, _ []value) (*value, error) { return &value{kind: number, text: r.time}, nil }},
	"time.parse_rfc3339_ns":    {1, parseTime},
	"time.weekday":             instant(func(t time.Time) *value { return textValue(t.Weekday().String()) }),
	"trace":                    {1, func(*run, []value) (*value, error) { return boolValue(true), nil }},
}

// Builtins are the names of the builtins that are offered besides those that OPA
// compiles into the module itself, sorted. time.now_ns gives the time of the
// document; nothing gives another clock, randomness, or a network.
func Builtins() []string { return slices.Sorted(maps.Keys(offered)) }

func strings1(f func(s string) (*value, error)) builtin {
	return builtin{1, func(_ *run, a []value) (*value, error) {
		if a[0].kind != str {
			return nil, nil
		}
		return f(a[0].text)
	}}
}

func strings2(f func(a, b string) *value) builtin {
	return builtin{2, func(_ *run, a []value) (*value, error) {
		if a[0].kind != str || a[1].kind != str {
			return nil, nil
		}
		return f(a[0].text, a[1].text), nil
	}}
}

func ints(n ...int) *value {
	out := listValue()
	for _, i := range n {
		out.items = append(out.items, *intValue(int64(i)))
	}
	return out
}

func hexDecode(_ *run, a []value) (*value, error) {
	b, err := hex.DecodeString(a[0].text)
	switch {
	case a[0].kind != str || err != nil:
		return nil, nil
	case !utf8.Valid(b):
		return nil, errors.New("hex.decode: the bytes are no UTF-8, and can't be a text here")
	}
	return textValue(string(b)), nil
}

func indexes(s, sub string) *value {
	if sub == "" {
		return nil
	}
	out := listValue()
	for at, runes := 0, 0; ; {
		i := strings.Index(s[at:], sub)
		if i < 0 {
			return out
		}
		runes += utf8.RuneCountInString(s[at : at+i])
		out.items = append(out.items, *intValue(int64(runes)))
		_, n := utf8.DecodeRuneInString(s[at+i:])
		at, runes = at+i+n, runes+1
	}
}

// maxAffixes bounds how many pairs of texts are compared.
const maxAffixes = 1 << 16

func affix(match func(s, affix string) bool) func(*run, []value) (*value, error) {
	texts := func(v value) ([]string, bool) {
		switch v.kind {
		case str:
			return []string{v.text}, true
		case array, set:
			var out []string
			for _, x := range v.items {
				if x.kind != str {
					return nil, false
				}
				out = append(out, x.text)
			}
			return out, true
		}
		return nil, false
	}
	return func(_ *run, a []value) (*value, error) {
		of, ok := texts(a[0])
		with, too := texts(a[1])
		switch {
		case !ok || !too:
			return nil, nil
		case len(of)*len(with) > maxAffixes:
			return nil, fmt.Errorf("a match of %d texts with %d; %d pairs are compared at most", len(of), len(with), maxAffixes)
		}
		return boolValue(slices.ContainsFunc(of, func(s string) bool {
			return slices.ContainsFunc(with, func(x string) bool { return match(s, x) })
		})), nil
	}
}

// maxWidth is the largest number in a format: 1,000 of "%1000000d" make 1 GB.
const maxWidth = 255

// sprintf formats as OPA does, by Go's rules, but for formats that could make
// much text of little: indexes of arguments, widths in arguments, large widths.
func sprintf(_ *run, a []value) (*value, error) {
	if a[0].kind != str || a[1].kind != array {
		return nil, nil
	}
	if err := checkFormat(a[0].text); err != nil {
		return nil, err
	}
	args := make([]any, len(a[1].items))
	for i, v := range a[1].items {
		args[i] = formatted(v)
	}
	return textValue(fmt.Sprintf(a[0].text, args...)), nil
}

func checkFormat(s string) error {
	for {
		_, verb, more := strings.Cut(s, "%")
		if !more {
			return nil
		}
		flags := len(verb) - len(strings.TrimLeft(verb, "+-# 0123456789.*[]"))
		n := 0
		for _, c := range []byte(verb[:flags]) {
			switch {
			case c == '*' || c == '[':
				return errors.New("sprintf: * and indexes of arguments are not offered in a format")
			case c >= '0' && c <= '9':
				n = n*10 + int(c-'0')
			default:
				n = 0
			}
			if n > maxWidth {
				return fmt.Errorf("sprintf: a width or precision of more than %d", maxWidth)
			}
		}
		s = verb[flags:]
		if strings.HasPrefix(s, "p") { // fmt asks no value how it formats itself
			return errors.New("sprintf: %p would tell an address of the host, another one each time")
		}
		s = strings.TrimPrefix(s, "%")
	}
}

// formatted is a value as OPA hands it to Go's fmt.
func formatted(v value) any {
	switch {
	case v.kind == str:
		return v.text
	case v.kind != number:
		return v.String()
	case strings.ContainsAny(v.text, ".eE"):
		if f, err := strconv.ParseFloat(v.text, 64); err == nil {
			return f
		}
		return v.text
	}
	if n, ok := v.int(); ok {
		return n
	}
	if n, ok := new(big.Int).SetString(v.text, 10); ok {
		return n
	}
	return v.text
}

// instant is a builtin of a time in nanoseconds, or of [nanoseconds, zone].
func instant(f func(time.Time) *value) builtin {
	return builtin{1, func(_ *run, a []value) (*value, error) {
		t, err := timeOf(a[0])
		if t == nil || err != nil {
			return nil, err
		}
		return f(*t), nil
	}}
}

func timeOf(v value) (*time.Time, error) {
	if v.kind == array && len(v.items) > 0 && len(v.items) <= 2 {
		if len(v.items) == 2 && (v.items[1].kind != str || v.items[1].text != "" && v.items[1].text != "UTC") {
			return nil, errors.New("time: only the zone UTC is known: others depend on the machine")
		}
		v = v.items[0]
	}
	n, ok := v.int()
	if !ok {
		return nil, nil
	}
	t := time.Unix(0, n).UTC()
	return &t, nil
}

var (
	firstTime = time.Unix(0, math.MinInt64)
	lastTime  = time.Unix(0, math.MaxInt64)
)

func nanosOf(t time.Time) *value {
	if t.Before(firstTime) || t.After(lastTime) {
		return nil
	}
	return intValue(t.UnixNano())
}

func parseTime(_ *run, a []value) (*value, error) {
	t, err := time.Parse(time.RFC3339, a[0].text)
	if a[0].kind != str || err != nil {
		return nil, nil
	}
	return nanosOf(t), nil
}

func addDate(_ *run, a []value) (*value, error) {
	t, err := timeOf(a[0])
	if t == nil || err != nil {
		return nil, err
	}
	var n [3]int
	for i, v := range a[1:] {
		x, ok := v.int()
		if !ok || x > 1e6 || x < -1e6 {
			return nil, nil
		}
		n[i] = int(x)
	}
	return nanosOf(t.AddDate(n[0], n[1], n[2])), nil
}

// A version is a semantic one (2.0.0): three numbers, and identifiers of a
// pre-release.
type version struct {
	numbers [3]int64
	pre     []string
}

func semverOf(s string) *version {
	var v version
	s, build, hasBuild := strings.Cut(s, "+")
	s, pre, hasPre := strings.Cut(s, "-")
	parts := strings.Split(s, ".")
	if len(parts) != 3 || hasPre && !identifiers(pre) || hasBuild && !identifiers(build) {
		return nil
	}
	for i, p := range parts {
		n, err := strconv.ParseInt(p, 10, 64)
		if err != nil || n < 0 || strconv.FormatInt(n, 10) != p {
			return nil
		}
		v.numbers[i] = n
	}
	if hasPre {
		v.pre = strings.Split(pre, ".")
	}
	return &v
}

func identifiers(s string) bool {
	for id := range strings.SplitSeq(s, ".") {
		if id == "" || strings.Trim(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" {
			return false
		}
	}
	return true
}

func semverCompare(a, b string) *value {
	v, w := semverOf(a), semverOf(b)
	if v == nil || w == nil {
		return nil
	}
	c := slices.Compare(v.numbers[:], w.numbers[:])
	if c == 0 && (len(v.pre) == 0 || len(w.pre) == 0) {
		c = cmp.Compare(min(len(w.pre), 1), min(len(v.pre), 1)) // none is the later one
	} else if c == 0 {
		c = slices.CompareFunc(v.pre, w.pre, func(a, b string) int {
			m, err := strconv.ParseInt(a, 10, 64)
			n, err2 := strconv.ParseInt(b, 10, 64)
			switch {
			case err == nil && err2 == nil:
				return cmp.Compare(m, n)
			case err == nil:
				return -1
			case err2 == nil:
				return 1
			}
			return strings.Compare(a, b)
		})
	}
	return intValue(int64(c))
}
