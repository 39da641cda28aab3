package interop

import (
	"context"
	"strconv"
)

// Versions of the published AICC Trusted MCP, and of MCP's SDK below it. The package
// asks for any version of the SDK, and works with 1.x.
const (
	aiccVersion = "0.0.1"
	aiccSDK     = "1.30.0"
)

var aiccBundle = &bundle{name: "aicc", fixture: "aicc", recipe: "pip --require-hashes", slow: true,
	tools: []tool{{"python3", []string{"--version"}, 3, 11, "install Python 3.11 or later with venv (apt-get install python3-venv)"}},
	steps: func(ctx context.Context, in install) error {
		if err := run(ctx, in.dir, nil, "python3", "-m", "venv", "venv"); err != nil {
			return err
		}
		return run(ctx, in.dir, nil, in.path("venv", "bin", "python"), "-m", "pip", "install",
			"--disable-pip-version-check", "--quiet", "--require-hashes", "--requirement", "requirements.txt")
	}}

// AICCServer is a server on the published AICC Trusted MCP, with the JSON
// configuration in a file of that (absolute) path. It is not one of [Targets]: it
// has a wire format of its own. Its endpoints answer in event streams ("sse", its
// default) or JSON ("json"), and do so without the package ("plain-sse",
// "plain-json"). The SDK takes no request of more than 4 MiB; the endpoint
// "json-large" does.
func AICCServer(configFile string) *Target {
	legacy := []Era{Legacy}
	return &Target{
		Name: "aicc-server", Kind: Server, Language: "python", Package: "bytedance_jeddak_trusted_mcp", Version: aiccVersion,
		Endpoints: []Endpoint{{"sse", HTTP, legacy}, {"json", HTTP, legacy}, {"json-large", HTTP, legacy},
			{"plain-sse", HTTP, legacy}, {"plain-json", HTTP, legacy}},
		bundle: aiccBundle,
		command: func(in install, e Endpoint, port int) invocation {
			args := map[string][]string{"sse": {"server"}, "json": {"server", "--json"}, "json-large": {"server", "--json", "--large"},
				"plain-sse": {"plain"}, "plain-json": {"plain", "--json"}}[e.Name]
			argv := append(aiccPeer(in), args[0], strconv.Itoa(port), "--config", configFile)
			return invocation{argv: append(argv, args[1:]...), path: "/mcp"}
		},
	}
}

// AICCClient returns the command that, with a server's URL appended, runs a client
// on the published package with the JSON configuration in a file, or on MCP's SDK
// alone without a file. See fixtures/aicc/peer.py for what it reads and prints.
// The package keeps logs in the working directory.
func AICCClient(cacheDir, configFile string) []string {
	argv := aiccPeer(install{cacheDir, aiccBundle.dir(cacheDir)})
	if configFile == "" {
		return append(argv, "plainclient")
	}
	return append(argv, "client", "--config", configFile)
}

func aiccPeer(in install) []string {
	return []string{in.path("venv", "bin", "python"), in.path("peer.py")}
}
