package openidconnect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard" // what a user's Caddyfile may hold

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// caddySite is a whole Caddy in front of an upstream that records what reaches it. There is one Caddy in a process, so tests that start one
// are not parallel.
type caddySite struct {
	*runningCaddy
	t testing.TB
}

type runningCaddy struct {
	recorder
	upstream *httptest.Server
	globals  string
	address  string // host and port
	keep     bool   // the address at the next load
}

// startCaddy runs Caddy with the directives of a site, or with whole sites that listen at $PORT, until the test ends. $UPSTREAM stands
// for the address of the upstream, and globals are lines of the global options.
func startCaddy(t *testing.T, site string, globals ...string) *caddySite {
	t.Helper()
	c := &caddySite{runningCaddy: &runningCaddy{globals: strings.Join(globals, "\n")}, t: t}
	c.upstream = httptest.NewServer(&c.recorder)
	storage := storageFolder(t) // which goes after Caddy has
	t.Cleanup(func() {
		if ctx := caddy.ActiveContext(); ctx.Context != nil {
			for h := range originsOfHandlers(ctx) {
				h.rest()
			}
		}
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
		c.upstream.Close()
	})
	c.globals += "\nadmin off\npersist_config off\nauto_https off\ngrace_period 5s\nstorage file_system " + storage
	if !strings.Contains(c.globals, "log {") {
		c.globals += "\nlog {\noutput openid_connect_test\nformat json\nlevel DEBUG\n}"
	}
	if err := c.load(site); err != nil {
		t.Fatal(err)
	}
	return c
}

// load replaces the running configuration. It gets an address of its own, since the servers of the old one go on for a moment.
func (c *runningCaddy) load(site string) error {
	port := "0"
	if c.keep {
		_, port, _ = strings.Cut(c.address, ":")
	}
	if !strings.Contains(site, "$PORT") {
		site = "http://:$PORT {\nbind 127.0.0.1\n" + site + "\n}"
	}
	site = strings.NewReplacer("$PORT", port, "$UPSTREAM", c.upstream.Listener.Addr().String()).Replace(site)
	config, err := adaptCaddyfile("{\n" + c.globals + "\n}\n" + site)
	if err != nil {
		return err
	}
	if err := caddy.Load(config, true); err != nil {
		return err
	}
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		return err
	}
	for _, server := range app.(*caddyhttp.App).Servers {
		c.address = server.Listeners()[0].Addr().String()
	}
	return nil
}

func adaptCaddyfile(text string) ([]byte, error) {
	adapter := caddyfile.Adapter{ServerType: httpcaddyfile.ServerType{}}
	config, _, err := adapter.Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	return config, err
}

func (c *runningCaddy) url(path string) string { return "http://" + c.address + path }

// in returns the site for the use of a subtest.
func (c *caddySite) in(t testing.TB) *caddySite {
	return &caddySite{runningCaddy: c.runningCaddy, t: t}
}

// get sends a GET with the given headers, as "Name: value".
func (c *caddySite) get(path string, headers ...string) *reply {
	c.t.Helper()
	return roundTrip(c.t, http.DefaultTransport, newRequest(c.t, http.MethodGet, c.url(path), nil, headers...))
}

func (c *caddySite) bearer(token string) *reply {
	c.t.Helper()
	return c.get("/", "Authorization: Bearer "+token)
}

// allows checks that a bearer token gets through.
func (c *caddySite) allows(token string) {
	c.t.Helper()
	c.wantAllowed(c.t, c.bearer(token))
}

// refuses checks that a bearer token does not get through, and why.
func (c *caddySite) refuses(token string, status int, reason string) {
	c.t.Helper()
	c.wantRefused(c.t, c.bearer(token), status, reason)
}

// caddyLogs is a log writer that keeps everything in memory.
type caddyLogs struct{}

var capturedLogs struct {
	sync.Mutex
	bytes.Buffer
}

func init() {
	caddy.RegisterModule(caddyLogs{})
}

func (caddyLogs) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.writers.openid_connect_test", New: func() caddy.Module { return new(caddyLogs) }}
}

func (caddyLogs) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (caddyLogs) String() string { return "openid_connect_test" }

func (caddyLogs) WriterKey() string { return "openid_connect_test" }

func (caddyLogs) OpenWriter() (io.WriteCloser, error) { return caddyLogs{}, nil }

func (caddyLogs) Close() error { return nil }

func (caddyLogs) Write(line []byte) (int, error) {
	capturedLogs.Lock()
	defer capturedLogs.Unlock()
	return capturedLogs.Write(line)
}

// takeLogs returns everything that was logged since the last call.
func takeLogs() string {
	capturedLogs.Lock()
	defer capturedLogs.Unlock()
	text := capturedLogs.String()
	capturedLogs.Reset()
	return text
}

// logLines returns the structured lines of text whose message is the given one.
func logLines(tb testing.TB, text, message string) []map[string]any {
	tb.Helper()
	var lines []map[string]any
	for line := range strings.Lines(text) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			tb.Fatalf("log line is not JSON: %s", line)
		}
		if fields["msg"] == message {
			lines = append(lines, fields)
		}
	}
	return lines
}

// api is a site that demands tokens of p for the audience "api".
func api(p *optest.Provider, settings string) string {
	return handler(p, settings) + "reverse_proxy $UPSTREAM\n"
}

// handler is the directive of such a site alone.
func handler(p *optest.Provider, settings string) string {
	return fmt.Sprintf("openid_connect %s {\nbearer_only\naudience api\n%s\n}\n", p.Issuer(), settings)
}
