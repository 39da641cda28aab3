package interop

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// A tool is a program that the machine must have already.
type tool struct {
	name    string   // program
	version []string // arguments that make it print its version; nil for any version
	major   int      // least version
	minor   int
	hint    string
}

var (
	goTool     = tool{"go", nil, 0, 0, "install Go and put its bin folder into PATH"}
	npmTool    = tool{"npm", nil, 0, 0, "install Node.js with npm (apt-get install npm)"}
	pythonTool = tool{"python3", []string{"--version"}, 3, 10, "install Python with venv (apt-get install python3-venv)"}
	cargoTool  = tool{"cargo", []string{"--version"}, 1, 88, "install the current stable Rust with rustup"}
	mavenTool  = tool{"mvn", nil, 0, 0, "install Maven (apt-get install maven)"}
	javaTool   = tool{"javac", []string{"-version"}, 17, 0, "install a JDK (apt-get install openjdk-17-jdk-headless)"}
)

var versionNumber = regexp.MustCompile(`(\d+)\.(\d+)`)

// check returns a *PrerequisiteError unless the tool is there, and new enough.
func (t tool) check(ctx context.Context, target string) error {
	missing := func(reason string) error {
		return &PrerequisiteError{Target: target, Tool: t.name, Reason: reason, Hint: t.hint}
	}
	path, err := exec.LookPath(t.name)
	if err != nil {
		return missing("is not in PATH")
	}
	if t.version == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, t.version...).CombinedOutput()
	m := versionNumber.FindSubmatch(out)
	if err != nil || m == nil {
		return missing(fmt.Sprintf("doesn't tell its version (%v: %.200q)", err, out))
	}
	major, _ := strconv.Atoi(string(m[1]))
	minor, _ := strconv.Atoi(string(m[2]))
	if major < t.major || major == t.major && minor < t.minor {
		return missing(fmt.Sprintf("is version %d.%d, but %d.%d is needed", major, minor, t.major, t.minor))
	}
	return nil
}
