// Command guest is a policy of waPC, for TinyGo: it accepts get_weather.
package main

import (
	"errors"
	"strings"

	wapc "github.com/wapc/wapc-guest-tinygo"
)

func main() {}

func init() {
	wapc.RegisterFunctions(wapc.Functions{
		"protocol_version":  func([]byte) ([]byte, error) { return []byte(`"v1"`), nil },
		"validate_settings": func([]byte) ([]byte, error) { return []byte(`{"valid":true}`), nil },
		"validate":          validate,
	})
}

func validate(request []byte) ([]byte, error) {
	switch s := string(request); {
	case strings.Contains(s, `"name":"ask_host"`):
		return wapc.HostCall("kubewarden", "net", "v1/dns_lookup_host", []byte(`"localhost"`))
	case strings.Contains(s, `"name":"fail"`):
		return nil, errors.New("it failed")
	case strings.Contains(s, `"name":"get_weather"`):
		return []byte(`{"accepted":true}`), nil
	}
	return []byte(`{"accepted":false,"message":"only get_weather"}`), nil
}
