package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/subprocess"
)

// programPackage is the Caddy that the gateways run.
const programPackage = "github.com/caddy-openid-connect/caddy-openid-connect/e2e/cluster/caddy"

// Build makes the program of the gateways in a directory and returns its path. It works anywhere inside the e2e module.
func Build(ctx context.Context, directory string) (string, error) {
	program := filepath.Join(directory, "caddy")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, programPackage)
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building Caddy: %w\n%s", err, output)
	}
	return program, nil
}

// Gateway is a Caddy in a process of its own.
type Gateway struct {
	*Process
	Log *Log

	settings GatewaySettings
	port     int
	admin    int
}

// GatewaySettings say what a gateway runs.
type GatewaySettings struct {
	Program   string // from Build
	Directory string // its own
	Storage   string // of Caddy, perhaps shared; storage in its own directory by default
	DataHome  string // the directory, perhaps shared, in which Caddy's default storage is, if that is to be used in place of Storage
	Level     string // of the log; INFO by default
	Sites     string // Caddyfile; addresses have no port
}

// StartGateway starts a Caddy and returns when it answers.
func StartGateway(settings GatewaySettings) (*Gateway, error) {
	if settings.Storage == "" && settings.DataHome == "" {
		settings.Storage = filepath.Join(settings.Directory, "storage")
	}
	if settings.Level == "" {
		settings.Level = "INFO"
	}
	g := &Gateway{Log: new(Log), settings: settings}
	for attempt := 1; ; attempt++ {
		var err error
		if g.port, err = subprocess.FreePort(); err != nil {
			return nil, err
		}
		if g.admin, err = subprocess.FreePort(); err != nil {
			return nil, err
		}
		if err = g.Start(); err == nil {
			return g, nil
		}
		if attempt == startAttempts || !strings.Contains(err.Error(), "address already in use") {
			return nil, err
		}
	}
}

// Start runs the gateway again, after Kill or Stop, at the address that it had.
func (g *Gateway) Start() error {
	path := filepath.Join(g.settings.Directory, "Caddyfile")
	if err := os.WriteFile(path, []byte(g.caddyfile()), 0o600); err != nil {
		return err
	}
	command := exec.Command(g.settings.Program, "run", "--config", path, "--adapter", "caddyfile")
	command.Env = append(os.Environ(), "HOME="+g.settings.Directory,
		"XDG_DATA_HOME="+cmp.Or(g.settings.DataHome, filepath.Join(g.settings.Directory, "data")),
		"XDG_CONFIG_HOME="+filepath.Join(g.settings.Directory, "config"))
	command.Dir = g.settings.Directory
	command.Stderr = g.Log
	var err error
	if g.Process, err = startProcess(command); err != nil {
		return fmt.Errorf("starting Caddy: %w", err)
	}
	if err := g.ready(g.Address()); err != nil {
		g.Kill()
		return fmt.Errorf("starting Caddy: %w\n%s\n%s", err, g.caddyfile(), g.Log)
	}
	return nil
}

// Address is where the sites are.
func (g *Gateway) Address() string { return loopback(g.port) }

func (g *Gateway) caddyfile() string {
	storage := ""
	if g.settings.Storage != "" {
		storage = "storage file_system " + g.settings.Storage
	}
	return fmt.Sprintf(`{
	admin %s
	persist_config off
	auto_https off
	http_port %d
	default_bind 127.0.0.1
	grace_period 10s
	%s
	log {
		output stderr
		format json
		level %s
		exclude http.handlers.reverse_proxy
	}
	metrics
	servers {
		protocols h1
	}
}

%s
`, loopback(g.admin), g.port, storage, g.settings.Level, g.settings.Sites)
}

// Reload replaces the sites in the running process.
func (g *Gateway) Reload(ctx context.Context, sites string) error {
	g.settings.Sites = sites
	answer, status, err := g.ask(ctx, http.MethodPost, "/load", g.caddyfile())
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d: %s", status, answer)
	}
	if err != nil {
		return fmt.Errorf("reloading Caddy: %w", err)
	}
	return nil
}

var goroutinesMetric = regexp.MustCompile(`(?m)^go_goroutines ([0-9.e+]+)$`)

// Goroutines counts the goroutines of the process.
func (g *Gateway) Goroutines(ctx context.Context) (int, error) {
	text, err := g.Metrics(ctx)
	if err != nil {
		return 0, err
	}
	match := goroutinesMetric.FindStringSubmatch(text)
	if match == nil {
		return 0, errors.New("the metrics do not tell the number of goroutines")
	}
	n, err := strconv.ParseFloat(match[1], 64)
	return int(n), err
}

// Metrics returns the metrics in the text format of Prometheus.
func (g *Gateway) Metrics(ctx context.Context) (string, error) {
	return g.read(ctx, "/metrics")
}

// Stacks returns the goroutines, those of the same stack together.
func (g *Gateway) Stacks(ctx context.Context) (string, error) {
	return g.read(ctx, "/debug/pprof/goroutine?debug=1")
}

var liveHeap = regexp.MustCompile(`(?m)^# HeapAlloc = ([0-9]+)$`)

// Heap collects the garbage and returns how many bytes are in use after that.
func (g *Gateway) Heap(ctx context.Context) (int64, error) {
	text, err := g.read(ctx, "/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		return 0, err
	}
	match := liveHeap.FindStringSubmatch(text)
	if match == nil {
		return 0, errors.New("the profile does not tell the size of the heap")
	}
	return strconv.ParseInt(match[1], 10, 64)
}

func (g *Gateway) read(ctx context.Context, path string) (string, error) {
	text, status, err := g.ask(ctx, http.MethodGet, path, "")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: status %d", path, status)
	}
	return text, err
}

// ask makes a request to the admin API.
func (g *Gateway) ask(ctx context.Context, method, path, body string) (answer string, status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://"+loopback(g.admin)+path, strings.NewReader(body))
	if err != nil {
		return "", 0, err
	}
	request.Header.Set("Content-Type", "text/caddyfile")
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), response.StatusCode, err
}
