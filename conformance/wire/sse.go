package wire

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
)

// event is one Server-Sent Event.
type event struct {
	raw  []byte // as on the wire, with its blank line
	name string
	data []byte
}

// readEvent reads the next event that has data. Comments and events without
// data (keep-alives, and the priming event of 2025-11-25) are passed over.
func readEvent(r *bufio.Reader) (event, error) {
	var ev event
	hasData := false
	for {
		line, err := readLine(r, MaxBytes-len(ev.raw))
		ev.raw = append(ev.raw, line...)
		if err != nil {
			return ev, err
		}
		text := bytes.TrimRight(line, "\r\n")
		if len(text) == 0 {
			if hasData && len(ev.data) > 0 {
				return ev, nil
			}
			ev, hasData = event{}, false
			continue
		}
		field, value, _ := bytes.Cut(text, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "data":
			if hasData {
				ev.data = append(ev.data, '\n')
			}
			ev.data = append(ev.data, value...)
			hasData = true
		case "event":
			ev.name = string(value)
		}
	}
}

// readLine reads up to and with the next newline, at most max bytes.
func readLine(r *bufio.Reader, max int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > max {
			return line[:max], fmt.Errorf("%w: more than %d bytes without an end", ErrFlood, MaxBytes)
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err == io.EOF && len(line) > 0 {
			return line, io.ErrUnexpectedEOF
		}
		return line, err
	}
}
