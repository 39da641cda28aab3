//go:build !linux

package policywasm_test

import "time"

var started = time.Now()

func spent() time.Duration { return time.Since(started) }
