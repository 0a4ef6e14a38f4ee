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
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
		c.upstream.Close()
	})
	c.globals += "\nadmin off\npersist_config off\nauto_https off\ngrace_period 5s\nstorage file_system " + t.TempDir()
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

func (caddyLogs) String() string    { return "openid_connect_test" }
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

// TestWhatRequestsGet goes through every kind of request that a bearer-only site meets.
func TestWhatRequestsGet(t *testing.T) {
	p, down := optest.New(t), optest.New(t)
	c := startCaddy(t, `
	handle /rules/* {
		`+api(p, "required_scopes read write\ndenied_claim groups suspended\nbearer_token_from cookie token\nbearer_token_from query token")+`
	}
	handle /pass/* {
		`+api(p, "unauth_action pass")+`
	}
	handle /opaque/* {
		`+api(p, "client_id client\nclient_secret secret")+`
	}
	handle /down/* {
		`+api(down, "")+`
	}
	handle {
		`+api(p, "")+`
	}`)
	token := p.AccessToken(nil)
	c.allows(token)
	navigation := []string{"Accept: text/html,*/*;q=0.8", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: none"}

	t.Run("valid bearer token, rules hold", func(t *testing.T) {
		c := c.in(t)
		r := c.get("/rules/x?a=1", "Authorization: Bearer "+p.AccessToken(optest.Claims{"scope": "openid write read"}))
		c.wantAllowed(t, r)
		if got := r.Header.Get("Cache-Control"); got != "private" {
			t.Errorf("Cache-Control %q, want private", got)
		}
		arrived := c.last(t)
		if claims := userinfo(t, arrived.Header); claims["sub"] != "alice" {
			t.Errorf("the upstream sees %v", claims)
		}
		if arrived.RequestURI != "/rules/x?a=1" {
			t.Errorf("the upstream sees %s", arrived.RequestURI)
		}
	})
	t.Run("bearer token present but not valid", func(t *testing.T) {
		c := c.in(t)
		for _, path := range []string{"/", "/rules/", "/pass/"} {
			c.wantRefused(t, c.get(path, "Authorization: Bearer "+p.AccessToken(optest.Claims{"aud": "other"})), 401, "wrong_audience")
			c.wantRefused(t, c.get(path, "Authorization: Bearer nonsense"), 401, "malformed_token")
		}
		page := c.get("/pass/", append(navigation, "Authorization: Bearer nonsense")...)
		if page.StatusCode != 401 || page.Header.Get("Location") != "" || !strings.Contains(page.Header.Get("WWW-Authenticate"), "invalid_token") {
			t.Errorf("a navigation with a bad token got %d %v", page.StatusCode, page.Header)
		}
		if c.advance() != 0 {
			t.Error("it reached the upstream")
		}
	})
	t.Run("two or more Authorization headers", func(t *testing.T) {
		c := c.in(t)
		for _, path := range []string{"/", "/pass/"} {
			c.wantRefused(t, c.get(path, "Authorization: Bearer "+token, "Authorization: Basic YTpi"), 400, "ambiguous_credentials")
		}
	})
	t.Run("a token in two places", func(t *testing.T) {
		c := c.in(t)
		c.wantRefused(t, c.get("/rules/?token="+token, "Authorization: Bearer "+token), 400, "ambiguous_credentials")
		c.wantRefused(t, c.get("/rules/", "Cookie: token="+token, "Authorization: Bearer "+token), 400, "ambiguous_credentials")
	})
	t.Run("bearer lacks a scope", func(t *testing.T) {
		c := c.in(t)
		r := c.get("/rules/", "Authorization: Bearer "+token)
		c.wantRefused(t, r, 403, "insufficient_scope")
		if got := r.Header.Get("WWW-Authenticate"); !strings.HasSuffix(got, `, scope="read write"`) {
			t.Errorf("challenge %s, want the scopes that are needed", got)
		}
	})
	t.Run("bearer fails another rule", func(t *testing.T) {
		c := c.in(t)
		denied := p.AccessToken(optest.Claims{"scope": "read write", "groups": []string{"staff", "suspended"}})
		c.wantRefused(t, c.get("/rules/", "Authorization: Bearer "+denied), 403, "claim_denied")
	})
	t.Run("Authorization with another scheme", func(t *testing.T) {
		c := c.in(t)
		c.wantRefused(t, c.get("/", "Authorization: Basic YTpi"), 401, "no_credentials")
		c.wantAllowed(t, c.get("/pass/", "Authorization: Basic YTpi"))
		arrived := c.last(t)
		if got := arrived.Header.Get("Authorization"); got != "Basic YTpi" || arrived.Header.Get("X-Userinfo") != "" {
			t.Errorf("the upstream sees Authorization %q and X-Userinfo %q", got, arrived.Header.Get("X-Userinfo"))
		}
	})
	t.Run("introspection unreachable and needed for a bearer", func(t *testing.T) {
		c := c.in(t)
		p.Fail(optest.Introspection, optest.Fault{Status: 500, Times: 1})
		opaque := p.OpaqueToken(p.AccessClaims(nil))
		c.wantRefused(t, c.get("/opaque/", "Authorization: Bearer "+opaque), 503, "introspection_unavailable")
		c.wantAllowed(t, c.get("/opaque/", "Authorization: Bearer "+opaque))
	})
	t.Run("no credentials, deny", func(t *testing.T) {
		c := c.in(t)
		c.wantRefused(t, c.get("/"), 401, "no_credentials")
		c.wantRefused(t, c.get("/", "Accept: application/json"), 401, "no_credentials")
	})
	t.Run("no credentials, pass", func(t *testing.T) {
		c := c.in(t)
		c.wantAllowed(t, c.get("/pass/", "X-Userinfo: forged"))
		if got := c.last(t).Header["X-Userinfo"]; got != nil {
			t.Errorf("the upstream sees X-Userinfo %q", got)
		}
	})
	t.Run("keys known and an unknown kid whose refetch fails", func(t *testing.T) {
		c := c.in(t)
		p.Fail(optest.JWKS, optest.Fault{Status: 500})
		defer p.Heal(optest.JWKS)
		c.refuses(optest.Sign(optest.NewKey(t, "ES256", "unknown"), nil, p.AccessClaims(nil)), 401, "unknown_key")
		c.allows(p.AccessToken(nil))
	})
	t.Run("provider not known yet or unreachable", func(t *testing.T) {
		c := c.in(t)
		ahead := down.AccessToken(nil)
		c.wantAllowed(t, c.get("/down/", "Authorization: Bearer "+ahead))
		p2 := optest.New(t)
		p2.Down()
		if err := c.load("handle /down/* {\n" + api(down, "") + "}\nhandle /unknown/* {\n" + api(p2, "") + "}\nhandle {\n" + api(p, "") + "}"); err != nil {
			t.Fatal(err)
		}
		down.Down()
		c.wantRefused(t, c.get("/unknown/", "Authorization: Bearer "+p2.AccessToken(nil)), 503, "discovery_failed")
		c.wantRefused(t, c.get("/unknown/"), 401, "no_credentials")
		c.wantRefused(t, c.get("/unknown/", "Authorization: Bearer nonsense"), 401, "malformed_token")
		c.wantAllowed(t, c.get("/down/", "Authorization: Bearer "+ahead))
		c.wantAllowed(t, c.get("/down/", "Authorization: Bearer "+down.AccessToken(nil)))
		c.allows(token)
	})
}

// With error_responses handle_errors the site draws its own page: the headers are ours, the body is the site's.
func TestSiteDrawsItsOwnErrors(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, api(p, "error_responses handle_errors\nrequired_scopes read")+`
	handle_errors {
		header X-Reason "{http.openid_connect.reason}"
		respond "{err.status_code}|{err.message}|{http.openid_connect.error}|{http.openid_connect.reason}|{http.openid_connect.request_id}|{http.auth.user.id}"
	}`)
	c.allows(p.AccessToken(nil))
	for _, test := range []struct {
		name, authorization string
		status              int
		code, reason        string
		challenge           string
	}{
		{"no credentials", "", 401, "login_required", "no_credentials", `Bearer realm="openid_connect"`},
		{"malformed", "Bearer a b", 400, "invalid_request", "malformed_authorization", `Bearer realm="openid_connect", error="invalid_request"`},
		{"not valid", "Bearer " + p.AccessToken(optest.Claims{"sub": "mallory", "aud": "x"}), 401, "invalid_token", "wrong_audience", `Bearer realm="openid_connect", error="invalid_token"`},
		{"lacks a scope", "Bearer " + p.AccessToken(optest.Claims{"sub": "mallory", "scope": "x"}), 403, "insufficient_scope", "insufficient_scope", `Bearer realm="openid_connect", error="insufficient_scope"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := c.in(t)
			var headers []string
			if test.authorization != "" {
				headers = append(headers, "Authorization: "+test.authorization)
			}
			r := c.get("/", headers...)
			parts := strings.Split(r.body, "|")
			if len(parts) != 6 {
				t.Fatalf("status %d, body %q", r.StatusCode, r.body)
			}
			if r.StatusCode != test.status || parts[0] != fmt.Sprint(test.status) || parts[2] != test.code || parts[3] != test.reason {
				t.Errorf("status %d, page %q", r.StatusCode, r.body)
			}
			if parts[1] == "" || parts[4] == "" || parts[5] != "" {
				t.Errorf("message %q, request id %q, user %q", parts[1], parts[4], parts[5])
			}
			if got := r.Header.Get("WWW-Authenticate"); !strings.HasPrefix(got, test.challenge) {
				t.Errorf("challenge %s, want %s", got, test.challenge)
			}
			if r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("X-Reason") != test.reason {
				t.Errorf("headers %v", r.Header)
			}
			if n := c.advance(); n != 0 {
				t.Errorf("%d requests reached the upstream", n)
			}
		})
	}
}
