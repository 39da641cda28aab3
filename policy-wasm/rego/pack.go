package rego

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// DataSection is the custom section that holds a policy's data document, as
// canonical JSON.
const DataSection = "tmcp.data"

const (
	maxData   = 1 << 20  // bytes of data.json
	maxBundle = 16 << 20 // bytes of all files of a bundle
	maxFiles  = 256
)

func invalid(why string) *policywasm.Failure {
	return policywasm.NewFailure(policywasm.ReasonInvalid, why)
}

// Is reports whether b is made by OPA: a bundle, or a module that exports
// opa_eval. It says nothing about whether it is acceptable.
func Is(b []byte) bool {
	return bytes.HasPrefix(b, gzipMagic) || scan.ExportsFunc(b, "opa_eval")
}

var gzipMagic = []byte("\x1f\x8b")

// Pack makes one module of a bundle: its policy.wasm; the section [DataSection],
// unless data.json is empty; and the section of metadata. The result depends on
// those three alone, so its SHA-256 names the policy, whatever else the bundle
// holds. Of a module without metadata it makes one with it. A module that has
// metadata, and meta is nil, is returned as it is.
//
// meta nil: a bundle gets the name "rego", the revision of its manifest as its
// version, and the entry points that the manifest lists. Errors are of type
// [*policywasm.Failure].
func Pack(b []byte, meta *policywasm.Metadata) ([]byte, error) {
	module, data := b, []byte(nil)
	if bytes.HasPrefix(b, gzipMagic) {
		bundle, err := open(b)
		if err != nil {
			return nil, invalid("bundle: " + err.Error())
		}
		module, data = bundle.module, bundle.data
		if meta == nil {
			meta = bundle.metadata()
		}
	}
	has, err := sections(module)
	switch {
	case err != nil:
		return nil, invalid(err.Error())
	case meta == nil && has[scan.Metadata] == nil:
		return nil, policywasm.NewFailure(policywasm.ReasonMetadata, "the module has no custom section "+scan.Metadata+"; attach it with tmcp policy build")
	case meta == nil:
		return b, nil
	case has[scan.Metadata] != nil:
		return nil, policywasm.NewFailure(policywasm.ReasonMetadata, "the module has metadata already")
	case data != nil && has[DataSection] != nil:
		return nil, invalid("the module of a bundle has a section " + DataSection)
	}
	out := slices.Clone(module)
	if data != nil {
		out = appendCustom(out, DataSection, data)
	}
	return appendCustom(out, scan.Metadata, meta.Append(nil)), nil
}

func appendCustom(b []byte, name string, content []byte) []byte {
	payload := append(binary.AppendUvarint(nil, uint64(len(name))), name...)
	payload = append(payload, content...)
	return append(binary.AppendUvarint(append(b, 0), uint64(len(payload))), payload...)
}

// sections finds the custom sections that matter here. A module that is not
// well-formed is for the scanner to refuse.
func sections(module []byte) (map[string][]byte, error) {
	found := map[string][]byte{}
	for b := module[min(8, len(module)):]; len(b) > 1; {
		id := b[0]
		size, n := binary.Uvarint(b[1:])
		if n <= 0 || size > uint64(len(b)-1-n) {
			break
		}
		payload := b[1+n : 1+n+int(size)]
		b = b[1+n+int(size):]
		length, n := binary.Uvarint(payload)
		if id != 0 || n <= 0 || length > uint64(len(payload)-n) {
			continue
		}
		name, content := string(payload[n:n+int(length)]), payload[n+int(length):]
		if name != scan.Metadata && name != DataSection {
			continue
		}
		if found[name] != nil {
			return nil, fmt.Errorf("two sections %q", name)
		}
		found[name] = append([]byte{}, content...)
	}
	return found, nil
}

// dataOf is the data document of a packed module; nil: none.
func dataOf(module []byte) ([]byte, error) {
	found, err := sections(module)
	if err != nil {
		return nil, invalid(err.Error())
	}
	data := found[DataSection]
	if data == nil {
		return nil, nil
	}
	canonical, err := canonicalData(data)
	if err != nil {
		return nil, invalid("section " + DataSection + ": " + err.Error())
	}
	if !bytes.Equal(canonical, data) {
		return nil, invalid("section " + DataSection + " is no canonical JSON")
	}
	return data, nil
}

// canonicalData holds data to the rules for documents, and to be an object.
func canonicalData(data []byte) ([]byte, error) {
	in, err := policywasm.NewInput(data, maxData)
	if err != nil {
		return nil, err
	}
	b, err := in.Bytes(policywasm.JSON)
	if err == nil && jsontext.Value(b).Kind() != '{' {
		err = errors.New("no object")
	}
	return b, err
}

// A bundle is what counts of an archive that "opa build" writes.
type bundle struct {
	module, data, manifest []byte
}

func open(b []byte) (*bundle, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	var out bundle
	limit := &io.LimitedReader{R: z, N: maxBundle}
	r := tar.NewReader(limit)
	for files := 0; ; files++ {
		h, err := r.Next()
		switch {
		case err == io.EOF:
			return out.finish()
		case limit.N <= 0:
			return nil, fmt.Errorf("more than %d bytes", maxBundle)
		case err != nil:
			return nil, err
		case files == maxFiles:
			return nil, fmt.Errorf("more than %d files", maxFiles)
		case h.Typeflag != tar.TypeReg:
			continue
		}
		into := map[string]*[]byte{"policy.wasm": &out.module, "data.json": &out.data, ".manifest": &out.manifest}
		name := strings.TrimPrefix(path.Clean(h.Name), "/")
		to := into[name]
		switch base := path.Base(name); {
		case to == nil && (base == "data.json" || base == "data.yaml" || strings.HasSuffix(base, ".wasm")):
			return nil, fmt.Errorf("%.64q: opa build -t wasm writes one policy.wasm and one data.json, in no folder", name)
		case to == nil:
			continue
		case *to != nil:
			return nil, fmt.Errorf("%q stands twice", name)
		}
		if *to, err = io.ReadAll(r); err != nil {
			return nil, err
		}
	}
}

func (b *bundle) finish() (*bundle, error) {
	if b.module == nil {
		return nil, errors.New("no policy.wasm; build with opa build -t wasm")
	}
	if b.data == nil {
		return b, nil
	}
	data, err := canonicalData(b.data)
	if err != nil {
		return nil, fmt.Errorf("data.json: %w", err)
	}
	if b.data = data; string(data) == "{}" {
		b.data = nil
	}
	return b, nil
}

// metadata is what the manifest tells.
func (b *bundle) metadata() *policywasm.Metadata {
	m := &policywasm.Metadata{ABI: policywasm.ABI, Name: "rego", Version: "0", Encoding: policywasm.JSON}
	if jsonrpc.Check(b.manifest, jsonrpc.Limits{MaxBytes: 64 << 10, MaxDepth: 8}) != nil {
		return m
	}
	if s, _ := jsonrpc.Text(jsonrpc.Get(b.manifest, "revision")); s != "" && len(s) <= 128 {
		m.Version = s
	}
	modules := jsonrpc.Get(b.manifest, "wasm")
	if modules.Kind() != '[' {
		return m
	}
	_ = jsonrpc.Elements(modules, func(v jsontext.Value) error {
		s, _ := jsonrpc.Text(jsonrpc.Get(v, "entrypoint"))
		for _, e := range []policywasm.Entry{policywasm.Appraise, policywasm.Authorize} {
			if s == entrypoint(e) && !slices.Contains(m.Entries, e) {
				m.Entries = append(m.Entries, e)
			}
		}
		return nil
	})
	return m
}
