module github.com/trustedmcp/tmcp/internal/oracle/apiclient

go 1.26.0

replace github.com/trustedmcp/tmcp => ../../..

// The client is written for this version, and does not build with the later one
// that the main module's tests use.
replace github.com/veraison/cmw => github.com/veraison/cmw v0.1.0

require (
	github.com/trustedmcp/tmcp v0.0.0
	github.com/veraison/apiclient v0.3.0
)

require (
	github.com/fxamacker/cbor/v2 v2.9.6 // indirect
	github.com/go-json-experiment/json v0.0.0-20260820222146-c27c302e5fc3 // indirect
	github.com/google/go-sev-guest v0.15.0 // indirect
	github.com/google/logger v1.1.1 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/mitchellh/mapstructure v1.5.0 // indirect
	github.com/moogar0880/problems v0.1.1 // indirect
	github.com/veraison/cmw v0.2.0 // indirect
	github.com/veraison/go-cose v1.3.0 // indirect
	github.com/x448/float16 v0.8.4 // indirect
	go.uber.org/multierr v1.11.0 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/oauth2 v0.35.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	google.golang.org/protobuf v1.34.2 // indirect
)
