package interop

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// ourOwnGo builds a fixture of this module, with the SDK at the version of go.mod.
func ourOwnGo(name string) *bundle {
	return &bundle{name: name, tools: []tool{goTool}, always: true,
		steps: func(ctx context.Context, in install) error {
			// In the caller's folder: the fixture is a package of this module.
			return run(ctx, "", []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-o", in.path(name), ownModule+name)
		}}
}

// goInstalled builds a program of another module at its version.
func goInstalled(name, pkg, version string) *bundle {
	return &bundle{name: name, recipe: pkg + "@" + version, tools: []tool{goTool},
		steps: func(ctx context.Context, in install) error {
			return run(ctx, in.dir, []string{"CGO_ENABLED=0", "GOBIN=" + in.dir, "GOFLAGS=", "GOWORK=off"}, "go", "install", "-trimpath", pkg+"@"+version)
		}}
}

var (
	goSDKBundle     = ourOwnGo("gosdk")
	mcpGoBundle     = ourOwnGo("mcpgo")
	goSDKEverything = goInstalled("go-sdk-everything", goSDK+"/conformance/everything-server", goSDKVersion)
	mcpGoEverything = goInstalled("mcp-go-everything", mcpGo+"/examples/everything", mcpGoVersion)

	tsV1Bundle  = npmBundle("ts-v1", "tsv1")
	tsV2Bundle  = npmBundle("ts-v2", "tsv2")
	suiteBundle = npmBundle("conformance", "conformance")

	python1Bundle = pipBundle("python1", python1)
	python2Bundle = pipBundle("python2", python2)
)

// nodeBundle is Node from npm: the machine's own may be older than 22, which the
// official suite dies on at import. The package for the machine's architecture is
// what the package "node" would fetch from its install script; asking for it
// directly needs no script.
var nodeBundle = &bundle{name: "node22", recipe: nodeVersion, tools: []tool{npmTool},
	steps: func(ctx context.Context, in install) error {
		err := run(ctx, in.dir, nil, "npm", "install", "--no-save", "--ignore-scripts", "--prefix", in.dir, nodePackage()+"@"+nodeVersion)
		if err != nil {
			return err
		}
		node := in.path("node_modules", nodePackage(), "bin", "node")
		out, err := exec.CommandContext(ctx, node, "--version").Output()
		if err != nil || strings.TrimSpace(string(out)) != "v"+nodeVersion {
			return fmt.Errorf("%s --version: got %q, %v; want v%s", node, out, err, nodeVersion)
		}
		return nil
	}}

func nodePackage() string {
	arch := map[string]string{"amd64": "x64", "386": "x86"}[runtime.GOARCH]
	if arch == "" {
		arch = runtime.GOARCH
	}
	prefix := "node"
	if runtime.GOOS == "darwin" && arch == "arm64" {
		prefix = "node-bin"
	}
	return prefix + "-" + runtime.GOOS + "-" + arch
}

// nodePath is where the bundle's Node is, for any bundle of the same cache.
func nodePath(in install) string {
	return in.of(nodeBundle).path("node_modules", nodePackage(), "bin", "node")
}

func npmBundle(name, fixture string) *bundle {
	return &bundle{name: name, fixture: fixture, recipe: "npm ci", needs: []*bundle{nodeBundle}, tools: []tool{npmTool},
		steps: func(ctx context.Context, in install) error {
			return run(ctx, in.dir, nil, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
		}}
}

func pipBundle(name, version string) *bundle {
	return &bundle{name: name, fixture: name, recipe: version, tools: []tool{pythonTool},
		steps: func(ctx context.Context, in install) error {
			if err := run(ctx, in.dir, nil, "python3", "-m", "venv", "venv"); err != nil {
				return err
			}
			return run(ctx, in.dir, nil, in.path("venv", "bin", "python"), "-m", "pip", "install",
				"--disable-pip-version-check", "--quiet", "--constraint", "constraints.txt", "mcp=="+version)
		}}
}

var rmcpBundle = &bundle{name: "rmcp", fixture: "rmcp", recipe: "cargo build --locked", slow: true, tools: []tool{cargoTool},
	steps: func(ctx context.Context, in install) error {
		target := in.path("target")
		if err := run(ctx, in.dir, []string{"CARGO_TARGET_DIR=" + target}, "cargo", "build", "--locked", "--quiet"); err != nil {
			return err
		}
		if err := os.Rename(in.path("target", "debug", "tmcp-interop-rmcp"), in.path("tmcp-interop-rmcp")); err != nil {
			return err
		}
		return os.RemoveAll(target) // ten times the size of the program
	}}

var javaBundle = &bundle{name: "java", fixture: "java", recipe: "mvn package", tools: []tool{mavenTool, javaTool},
	steps: func(ctx context.Context, in install) error {
		return run(ctx, in.dir, nil, "mvn", "--quiet", "--batch-mode", "package")
	}}

// InstallSuite installs MCP's official conformance suite and the Node that runs
// it, and returns the command to which the suite's own arguments are appended.
func InstallSuite(ctx context.Context, cacheDir string) ([]string, error) {
	if err := suiteBundle.install(ctx, cacheDir); err != nil {
		return nil, fmt.Errorf("install the official suite %s: %w", suiteVersion, err)
	}
	in := install{cacheDir, suiteBundle.dir(cacheDir)}
	return []string{nodePath(in), in.path("node_modules", "@modelcontextprotocol", "conformance", "dist", "index.js")}, nil
}
