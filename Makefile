# Everything a machine needs beyond Go and the toolchains of other languages is
# installed by what is run, from the package registries, into a cache: the user's
# cache folder, or the one that TMCP_INTEROP_CACHE names.
GO ?= go
export CGO_ENABLED ?= 0
FUZZTIME ?= 10s
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.7.0
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@latest

.PHONY: demo build test short race lint vuln bench fuzz interop oracle policies generate clean

demo: ## the main job: a sealed call, and attacks on it and on attestation
	$(GO) run ./cmd/tmcp demo

build: ## both commands, in bin/
	$(GO) build -trimpath -o bin/ ./cmd/...

test: ## all tests, with implementations of others from their registries
	TMCP_INTEROP=1 $(GO) test -timeout 40m ./...

short: ## the tests that need nothing but Go
	$(GO) test ./...

race: ## the tests that need nothing but Go, under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race ./...

lint:
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "not gofmt-clean:"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

vuln: ## needs the vulnerability database
	$(GO) run $(GOVULNCHECK) ./...

bench: ## ratios in one run; see docs/benchmarks.md
	$(GO) test -run '^$$' -bench . -benchmem ./...

# Without a bound, minimising an input of some kilobytes takes all the time.
fuzz: ## every fuzz target for FUZZTIME
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg || exit 1; \
	  done; \
	done

interop: ## only what talks to implementations of others
	TMCP_INTEROP=1 $(GO) test -timeout 40m -v ./interop/... 

oracle: ## our verdicts on quotes against oasis-core's: a module of its own, with hundreds of dependencies
	cd internal/oracle && $(GO) test -mod=mod ./...

policies: ## one policy as a module, in native Rego, in CEL and in Go: a module of its own, with dozens of dependencies
	cd gateway/policy/runtime/compare && $(GO) test -v -run Same\|Resident -bench . -cpu 1,2 .

generate: ## ledger, vectors, tables: everything that is derived
	$(GO) generate ./...

clean:
	rm -rf bin out
