package signed

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

const maxParts = 8

// compareVersions compares decimal numbers with dots between; a part that is
// missing is 0. Anything else has no order that all agree on, and is an error.
func compareVersions(a, b string) (int, error) {
	x, err := versionParts(a)
	if err != nil {
		return 0, err
	}
	y, err := versionParts(b)
	if err != nil {
		return 0, err
	}
	for i := range x {
		if c := cmp.Compare(x[i], y[i]); c != 0 {
			return c, nil
		}
	}
	return 0, nil
}

func versionParts(s string) (parts [maxParts]uint64, err error) {
	all := strings.Split(s, ".")
	bad := fmt.Errorf("the version %.40q can't be compared: want 1 to %d decimal numbers with dots between, as 1.12.0", s, maxParts)
	if len(all) > maxParts {
		return parts, bad
	}
	for i, p := range all {
		n, err := strconv.ParseUint(p, 10, 63)
		if err != nil || strconv.FormatUint(n, 10) != p {
			return parts, bad
		}
		parts[i] = n
	}
	return parts, nil
}
