package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// gatewayVariable is the environment variable by which this test binary knows that it is to be a Caddy and nothing else.
const gatewayVariable = "E2E_GATEWAY"

// commandVariable is the one by which it knows that it is to be the command caddy.
const commandVariable = "E2E_COMMAND"

// serveGateway loads each Caddyfile that it reads, a JSON string a line, and answers with the error, or an empty string. It ends
// by the same signals as Caddy, and at the end of the input: then nobody needs it any more.
func serveGateway() error {
	caddy.TrapSignals()
	answers := json.NewEncoder(os.Stdout)
	for requests := json.NewDecoder(os.Stdin); ; {
		var caddyfile, answer string
		if err := requests.Decode(&caddyfile); errors.Is(err, io.EOF) {
			return caddy.Stop()
		} else if err != nil {
			return err
		}
		config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
		if err == nil {
			err = caddy.Load(config, true)
		}
		if err != nil {
			answer = err.Error()
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
}

// gatewayProcess is a Caddy in a process of its own, which can be restarted.
type gatewayProcess struct {
	directory string // keeps its storage and its log
	process   *exec.Cmd
	stdin     io.WriteCloser
	stdout    *bufio.Reader
}

func newGateway(t *testing.T) *gatewayProcess {
	t.Helper()
	g := &gatewayProcess{directory: t.TempDir()}
	g.start(t)
	t.Cleanup(func() { g.stop(t) })
	return g
}

func (g *gatewayProcess) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(g.directory, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	g.process = exec.Command(os.Args[0])
	g.process.Env = append(os.Environ(), gatewayVariable+"=1")
	g.process.Stderr = log
	stdout, err := g.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	g.stdout = bufio.NewReader(stdout)
	if g.stdin, err = g.process.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := g.process.Start(); err != nil {
		t.Fatal(err)
	}
}

// stop ends it as a service manager does.
func (g *gatewayProcess) stop(t *testing.T) {
	t.Helper()
	if err := g.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := g.process.Wait(); err != nil {
		t.Errorf("the gateway: %v\n%s", err, g.log(t))
	}
}

// log is what the gateway logged so far, from the debug level on.
func (g *gatewayProcess) log(t *testing.T) string {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(g.directory, "log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(log)
}

// load runs these sites. They replace those before them.
func (g *gatewayProcess) load(t *testing.T, sites ...string) {
	t.Helper()
	caddyfile := fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	storage file_system %s
	log {
		output stderr
		level DEBUG
	}
	servers {
		protocols h1 h2
	}
}
%s
`, filepath.Join(g.directory, "storage"), strings.Join(sites, "\n"))
	if err := json.NewEncoder(g.stdin).Encode(caddyfile); err != nil {
		t.Fatal(err)
	}
	line, err := g.stdout.ReadBytes('\n')
	if err != nil {
		t.Fatalf("the gateway does not answer: %v\n%s", err, g.log(t))
	}
	var answer string
	if err := json.Unmarshal(line, &answer); err != nil {
		t.Fatal(err)
	}
	if answer != "" {
		t.Fatalf("%s\n%s", answer, caddyfile)
	}
}
