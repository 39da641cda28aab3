package interop

import (
	"os"
	"strconv"
	"sync"
)

// Versions. go.mod pins the Go SDKs for the fixtures; a test compares.
const (
	goSDKVersion  = "v1.8.0"
	mcpGoVersion  = "v1.2.1"
	tsV1Version   = "1.32.2"
	everythingTS  = "2026.8.31"
	tsV2Version   = "2.4.0"
	python1       = "1.30.0"
	python2       = "2.3.0"
	rmcpVersion   = "3.9.0"
	javaVersion   = "2.1.0"
	suiteVersion  = "0.2.0-alpha.12"
	nodeVersion   = "22.23.3"
	ownModule     = "github.com/trustedmcp/tmcp/interop/fixtures/"
	goSDK         = "github.com/modelcontextprotocol/go-sdk"
	mcpGo         = "github.com/mark3labs/mcp-go"
	stdioName     = "stdio"
	httpName      = "http"
	statefulHTTP  = "http-stateful"
	statelessHTTP = "http-stateless"
)

// Targets lists all targets, servers first. Callers must not change them.
var Targets = sync.OnceValue(func() []*Target {
	both := []Era{Legacy, Modern}
	legacy := []Era{Legacy}
	endpoints := func(eras ...Era) []Endpoint {
		return []Endpoint{{stdioName, Stdio, eras}, {httpName, HTTP, eras}}
	}
	askAll := []string{"stdio/legacy", "stdio/modern", "http/legacy", "http/modern"}
	askLegacy := []string{"stdio/legacy", "http/legacy"}
	return []*Target{
		{
			Name: "go-sdk-server", Kind: Server, Language: "go", Package: goSDK, Version: goSDKVersion,
			Endpoints: endpoints(both...), Common: true, Ask: askAll, bundle: goSDKBundle, command: serverCommand(goFixture("gosdk")),
			Oddities: []string{"one handler serves one era in full: the fixture chooses between two by MCP-Protocol-Version"},
		},
		{
			Name: "go-sdk-everything", Kind: Server, Language: "go", Package: goSDK + "/conformance/everything-server", Version: goSDKVersion,
			Endpoints: []Endpoint{{stdioName, Stdio, both}, {statefulHTTP, HTTP, legacy}, {statelessHTTP, HTTP, both}},
			bundle:    goSDKEverything, command: goSDKEverythingCommand,
			Oddities: []string{
				"has the fixtures of MCP's official suite, not the common tools",
				"http-stateful answers server/discover, with legacy revisions only",
			},
		},
		{
			Name: "mcp-go-server", Kind: Server, Language: "go", Package: mcpGo, Version: mcpGoVersion,
			Endpoints: endpoints(both...), Common: true, Ask: askAll, bundle: mcpGoBundle, command: serverCommand(goFixture("mcpgo")),
			Oddities: []string{
				"over HTTP without an event store it may drop the last notification before a result: the fixture waits 100 ms after them",
				"over legacy HTTP it deals a session's notifications out to the answer's stream and the standing one, so they may arrive out of order",
			},
		},
		{
			Name: "mcp-go-everything", Kind: Server, Language: "go", Package: mcpGo + "/examples/everything", Version: mcpGoVersion,
			Endpoints: []Endpoint{{stdioName, Stdio, both}}, bundle: mcpGoEverything,
			command: func(in install, _ Endpoint, _ int) invocation {
				return invocation{argv: []string{in.path("everything"), "-t", "stdio"}}
			},
			Oddities: []string{
				"its echo takes message, not text",
				"over HTTP it listens on port 8080 of every interface, with no way to change that, so it runs over stdio only",
			},
		},
		{
			Name: "ts-everything", Kind: Server, Language: "typescript", Package: "@modelcontextprotocol/server-everything", Version: everythingTS,
			Endpoints: endpoints(legacy...), bundle: tsV1Bundle, command: everythingTSCommand,
			Oddities: []string{
				"its echo takes message, not text, and answers \"Echo: \" and the message",
				"over HTTP it listens on every interface: a preloaded script confines it to loopback",
				"HTTP errors carry a null id",
			},
		},
		{
			Name: "ts-v2-server", Kind: Server, Language: "typescript", Package: "@modelcontextprotocol/server", Version: tsV2Version,
			Endpoints: endpoints(both...), Common: true, Ask: []string{"stdio/legacy", "stdio/modern", "http/modern"},
			bundle: tsV2Bundle, command: serverCommand(nodeFixture("fixture.mjs")),
			Oddities: []string{"legacy HTTP is stateless by default, so a server can't ask a legacy client over HTTP"},
		},
		{
			Name: "python1-server", Kind: Server, Language: "python", Package: "mcp", Version: python1,
			Endpoints: endpoints(legacy...), Common: true, Ask: askLegacy, bundle: python1Bundle, command: serverCommand(pythonFixture),
			Oddities: []string{"answers server/discover with -32602 over stdio, not -32601"},
		},
		{
			Name: "python2-server", Kind: Server, Language: "python", Package: "mcp", Version: python2,
			Endpoints: endpoints(both...), Common: true, Ask: askAll, bundle: python2Bundle, command: serverCommand(pythonFixture),
		},
		{
			Name: "rmcp-server", Kind: Server, Language: "rust", Package: "rmcp", Version: rmcpVersion,
			Endpoints: endpoints(both...), Common: true, Ask: askAll, bundle: rmcpBundle, command: serverCommand(rustFixture),
		},
		{
			Name: "java-server", Kind: Server, Language: "java", Package: "io.modelcontextprotocol.sdk:mcp", Version: javaVersion,
			Endpoints: endpoints(legacy...), Common: true, Ask: askLegacy, bundle: javaBundle, command: serverCommand(javaFixture),
			Oddities: []string{
				"a GET for the standalone stream gets no response header until there is something to send, and the go-sdk client waits for it without end",
				"an HTTP request without a session gets status 400 and a Java exception with its stack trace as JSON, not JSON-RPC",
			},
		},

		{
			Name: "go-sdk-client", Kind: Client, Language: "go", Package: goSDK, Version: goSDKVersion,
			Endpoints: endpoints(Modern, Legacy), bundle: goSDKBundle, command: clientCommand(goFixture("gosdk")),
			Oddities: []string{"falls back to initialize on any error of server/discover, also when told to open with 2026-07-28"},
		},
		{
			Name: "mcp-go-client", Kind: Client, Language: "go", Package: mcpGo, Version: mcpGoVersion,
			Endpoints: endpoints(Modern, Legacy), bundle: mcpGoBundle, command: clientCommand(goFixture("mcpgo")),
			Oddities: []string{
				"falls back to initialize on any error of server/discover, also when told to open with 2026-07-28",
				"WithContinuousListening silently keeps it legacy",
			},
		},
		{
			Name: "ts-v1-client", Kind: Client, Language: "typescript", Package: "@modelcontextprotocol/sdk", Version: tsV1Version,
			Endpoints: endpoints(Legacy), bundle: tsV1Bundle,
			command: func(in install, _ Endpoint, _ int) invocation {
				return invocation{argv: nodeFixture("client.mjs")(in)}
			},
		},
		{
			Name: "ts-v2-client", Kind: Client, Language: "typescript", Package: "@modelcontextprotocol/client", Version: tsV2Version,
			Endpoints: endpoints(Legacy, Modern), bundle: tsV2Bundle, command: clientCommand(nodeFixture("fixture.mjs")),
		},
		{
			Name: "python1-client", Kind: Client, Language: "python", Package: "mcp", Version: python1,
			Endpoints: endpoints(Legacy), bundle: python1Bundle, command: clientCommand(pythonFixture),
		},
		{
			Name: "python2-client", Kind: Client, Language: "python", Package: "mcp", Version: python2,
			Endpoints: endpoints(Modern, Legacy), bundle: python2Bundle, command: clientCommand(pythonFixture),
			Oddities: []string{"told to open with 2026-07-28 it adopts it without server/discover, so it doesn't know the server's name"},
		},
		{
			Name: "rmcp-client", Kind: Client, Language: "rust", Package: "rmcp", Version: rmcpVersion,
			Endpoints: endpoints(Legacy, Modern), bundle: rmcpBundle, command: clientCommand(rustFixture),
		},
		{
			Name: "java-client", Kind: Client, Language: "java", Package: "io.modelcontextprotocol.sdk:mcp", Version: javaVersion,
			Endpoints: endpoints(Legacy), bundle: javaBundle, command: clientCommand(javaFixture),
		},
	}
})

// A program is the command line of a fixture, without its arguments.
type program func(install) []string

func serverCommand(p program) func(install, Endpoint, int) invocation {
	return func(in install, e Endpoint, port int) invocation {
		if e.Transport == Stdio {
			return invocation{argv: append(p(in), "stdio")}
		}
		return invocation{argv: append(p(in), "http", strconv.Itoa(port)), path: "/mcp"}
	}
}

func clientCommand(p program) func(install, Endpoint, int) invocation {
	return func(in install, _ Endpoint, _ int) invocation {
		return invocation{argv: append(p(in), "client")}
	}
}

func goFixture(name string) program {
	return func(in install) []string { return []string{in.path(name)} }
}

func nodeFixture(script string) program {
	return func(in install) []string { return []string{nodePath(in), in.path(script)} }
}

func pythonFixture(in install) []string {
	return []string{in.path("venv", "bin", "python"), in.path("fixture.py")}
}

func rustFixture(in install) []string { return []string{in.path("tmcp-interop-rmcp")} }

func javaFixture(in install) []string {
	classpath := in.path("target", "classes") + string(os.PathListSeparator) + in.path("target", "lib", "*")
	// The compiler that is quick to start: the process lives for seconds.
	return []string{"java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", classpath, "org.trustedmcp.interop.Fixture"}
}

func goSDKEverythingCommand(in install, e Endpoint, port int) invocation {
	argv := []string{in.path("everything-server")}
	if e.Transport == HTTP {
		argv = append(argv, "-http=127.0.0.1:"+strconv.Itoa(port), "-stateless="+strconv.FormatBool(e.Name == statelessHTTP))
	}
	return invocation{argv: argv, path: "/"}
}

func everythingTSCommand(in install, e Endpoint, port int) invocation {
	argv := []string{nodePath(in), "--require", in.path("loopback.cjs"),
		in.path("node_modules", "@modelcontextprotocol", "server-everything", "dist", "index.js")}
	if e.Transport == Stdio {
		return invocation{argv: append(argv, "stdio")}
	}
	return invocation{argv: append(argv, "streamableHttp"), env: []string{"PORT=" + strconv.Itoa(port)}, path: "/mcp"}
}
