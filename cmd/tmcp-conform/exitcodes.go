package main

import "fmt"

// Exit codes. They are part of the command's contract: do not renumber.
const (
	exitConformant  = 0
	exitFailures    = 1   // at least one failure that the baseline does not list
	exitUsage       = 2   // the command line is wrong
	exitUnreachable = 3   // no target, or a prerequisite is missing
	exitHarness     = 4   // the suite itself is at fault
	exitStale       = 5   // the baseline lists failures that no longer happen
	exitInterrupted = 130 // Ctrl-C
)

// exitError ends the command with a code. An empty msg prints nothing more.
type exitError struct {
	code int
	msg  string
}

func (e *exitError) Error() string { return e.msg }

// usage is the error of a wrong command line. [Main] adds where the help is.
func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Sprintf(format, args...)}
}
