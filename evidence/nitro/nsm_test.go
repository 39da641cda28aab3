package nitro

import (
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// TestRequests: the messages are those of AWS's nsm-api.
func TestRequests(t *testing.T) {
	if got, want := hex.EncodeToString(AttestationRequest([]byte("data"), nil, []byte{})), "a16b4174746573746174696f6ea3"+"656e6f6e6365f6"+"69757365725f646174614464617461"+"6a7075626c69635f6b657940"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := string(DescribeRequest()); got != "\x6bDescribeNSM" {
		t.Errorf("got %q", got)
	}
	var m map[string]map[string][]byte
	if err := cbor.Unmarshal(AttestationRequest(make([]byte, 64), make([]byte, 32), nil), &m); err != nil || len(m["Attestation"]["user_data"]) != 64 || len(m["Attestation"]["nonce"]) != 32 || m["Attestation"]["public_key"] != nil {
		t.Errorf("%v, %v", m, err)
	}
}

func TestParseResponse(t *testing.T) {
	enc := func(v any) []byte {
		b, err := cbor.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	type m = map[string]any
	describe := m{"version_major": 1, "version_minor": 2, "version_patch": 3, "module_id": "i-1", "max_pcrs": 32, "locked_pcrs": []int{0, 1}, "digest": "SHA384"}
	for name, tt := range map[string]struct {
		b    []byte
		want *Response
		err  string
	}{
		"document":       {AttestationResponse([]byte("doc")), &Response{Document: []byte("doc")}, ""},
		"description":    {enc(m{"DescribeNSM": describe}), &Response{Description: &Description{1, 2, 3, "i-1", 32, []uint16{0, 1}, "SHA384"}}, ""},
		"refusal":        {enc(m{"Error": "InputTooLarge"}), nil, "InputTooLarge"},
		"empty document": {AttestationResponse(nil), nil, "neither"},
		"no document":    {enc(m{"Attestation": m{}}), nil, "neither"},
		"text":           {enc("DescribeNSM"), nil, "response"},
		"two answers":    {enc(m{"Attestation": m{"document": []byte("x")}, "Error": "Success"}), nil, "neither"},
		"nothing":        {nil, nil, "EOF"},
		"other":          {enc(m{"GetRandom": m{"random": []byte("x")}}), nil, "neither"},
		"twice":          {append([]byte{0xA2}, append(AttestationResponse([]byte("a"))[1:], AttestationResponse([]byte("b"))[1:]...)...), nil, "duplicate"},
		"trailing":       {append(AttestationResponse([]byte("a")), 0), nil, "extraneous"},
		"too long":       {AttestationResponse(make([]byte, MaxResponse)), nil, "at most"},
	} {
		got, err := ParseResponse(tt.b)
		if err != nil && (tt.err == "" || !strings.Contains(err.Error(), tt.err)) || err == nil && !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, %v; want %+v, %q", name, got, err, tt.want, tt.err)
		}
	}
	_, err := ParseResponse(enc(m{"Error": "InvalidOperation"}))
	var refused ModuleError
	if !errors.As(err, &refused) || refused != "InvalidOperation" {
		t.Errorf("got %v", err)
	}
}
