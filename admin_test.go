package openidconnect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// adminSite is a whole Caddy with its admin API, at a socket of the test.
type adminSite struct {
	*caddySite
	*adminSocket
}

// adminSocket is where the admin API of the newest configuration listens. Each has its own: Caddy ends the old one's in the background.
type adminSocket struct {
	http.Transport
	folder string
	loads  int
	off    string // global options without it
}

// startAdmin is startCaddy with the admin API.
func startAdmin(t *testing.T, site string, globals ...string) *adminSite {
	t.Helper()
	folder, err := os.MkdirTemp("", "admin-*") //nolint:usetesting // the names of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	c := &adminSite{startCaddy(t, "respond ok", globals...), &adminSocket{folder: folder}}
	c.off = c.globals
	c.DisableKeepAlives = true
	c.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", c.socket())
	}
	t.Cleanup(func() {
		for _, h := range activeHandlers() {
			h.rest()
		}
		c.globals = c.off
		if err := c.runningCaddy.load("respond ok"); err != nil {
			t.Error(err)
		}
		os.RemoveAll(folder)
	})
	if err := c.load(site); err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *adminSocket) socket() string { return filepath.Join(s.folder, strconv.Itoa(s.loads)) }

// load replaces the running configuration.
func (c *adminSite) load(site string) error {
	c.loads++
	c.globals = strings.Replace(c.off, "admin off", "admin unix/"+c.socket(), 1)
	err := c.runningCaddy.load(site)
	if err != nil {
		c.loads--
	}
	return err
}

func (c *adminSite) in(t testing.TB) *adminSite { return &adminSite{c.caddySite.in(t), c.adminSocket} }

// ask sends a request to the admin API.
func (c *adminSite) ask(method, path, body string, headers ...string) *reply {
	c.t.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	return roundTrip(c.t, &c.Transport, newRequest(c.t, method, "http://localhost"+path, content, headers...))
}

// post sends a JSON object, and reads the one that comes back with the given status.
func (c *adminSite) post(path string, object any, status int) map[string]any {
	c.t.Helper()
	r := c.ask(http.MethodPost, path, string(must(json.Marshal(object))), "Content-Type: application/json")
	var answer map[string]any
	if err := json.Unmarshal([]byte(r.body), &answer); err != nil {
		c.t.Fatalf("the answer is %q", r.body)
	}
	if r.StatusCode != status {
		c.t.Fatalf("status %d, want %d: %s", r.StatusCode, status, r.body)
	}
	wantAdminHeaders(c.t, r)
	return answer
}

func wantAdminHeaders(t testing.TB, r *reply) {
	t.Helper()
	if got := r.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
	if got := r.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
}

// wantText checks that a text holds all of these.
func wantText(t testing.TB, text any, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(fmt.Sprint(text), part) {
			t.Errorf("%q is not in %q", part, text)
		}
	}
}

func TestAdminRequests(t *testing.T) {
	p := optest.New(t)
	c := startAdmin(t, api(p, ""))
	if r := c.ask(http.MethodGet, "/openid_connect/providers", ""); r.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %s", r.StatusCode, r.body)
	}
	if got := c.post("/openid_connect/explain", map[string]any{"token": p.AccessToken(nil), "online": true}, 200)["accepted"]; got != true {
		t.Fatalf("a good token: %v", got)
	}
	const kept = "x-value-that-is-not-for-the-log"
	large := `{"token":"` + strings.Repeat("a", maxAdminBody) + `"}`
	takeLogs()
	for name, test := range map[string]struct {
		method, path, body, contentType string
		status                          int
		allow, text                     string
	}{
		"nothing below the prefix": {"GET", "", "", "", 404, "", "explain, providers, revoke"},
		"another path":             {"GET", "sessions", "", "", 404, "", "explain, providers, revoke"},
		"a path below a path":      {"GET", "providers/x", "", "", 404, "", "explain, providers, revoke"},
		"POST to providers":        {"POST", "providers", "{}", "application/json", 405, "GET, HEAD", "the method must be GET, HEAD"},
		"GET of revoke":            {"GET", "revoke", "", "", 405, "POST", "POST"},
		"DELETE of explain":        {"DELETE", "explain", "", "", 405, "POST", "POST"},
		"no type":                  {"POST", "explain", "{}", "", 415, "", "application/json"},
		"a form":                   {"POST", "revoke", "sub=alice", "application/x-www-form-urlencoded", 415, "", "application/json"},
		"a form that looks like it": {
			"POST", "revoke", "sub=alice", "text/plain; charset=application/json", 415, "", "application/json",
		},
		"nothing":             {"POST", "explain", "", "application/json", 400, "", "empty"},
		"no JSON":             {"POST", "explain", kept, "application/json", 400, "", "not as it should be"},
		"half":                {"POST", "explain", `{"token":"` + kept, "application/json", 400, "", "not as it should be"},
		"a list":              {"POST", "explain", "[]", "application/json", 400, "", "must be a JSON object"},
		"null":                {"POST", "explain", "null", "application/json", 400, "", `"token" is missing`},
		"an unknown member":   {"POST", "explain", `{"token":"a","` + kept + `":1}`, "application/json", 400, "", `unknown field "` + kept + `"`},
		"a number":            {"POST", "explain", `{"token":1}`, "application/json", 400, "", `"token" must be a string`},
		"no flag":             {"POST", "explain", `{"online":"yes"}`, "application/json", 400, "", `"online" must be true or false`},
		"two objects":         {"POST", "explain", `{"token":"a"}{}`, "application/json", 400, "", "something follows"},
		"text after it":       {"POST", "revoke", `{"sub":"a"} ` + kept, "application/json", 400, "", "something follows"},
		"too large":           {"POST", "explain", large, "application/json", 413, "", "65536 bytes"},
		"no token":            {"POST", "explain", `{"host":"a.example"}`, "application/json", 400, "", `"token" is missing`},
		"no path":             {"POST", "explain", `{"token":"a","path":"x"}`, "application/json", 400, "", "begin with a slash"},
		"neither sub nor sid": {"POST", "revoke", `{}`, "application/json", 400, "", `one of "sub" and "sid"`},
		"sub and sid":         {"POST", "revoke", `{"sub":"a","sid":"b"}`, "application/json", 400, "", `one of "sub" and "sid"`},
		"bearer tokens alone": {"POST", "revoke", `{"sub":"a"}`, "application/json", 404, "", "keeps sessions"},
	} {
		t.Run(name, func(t *testing.T) {
			c := c.in(t)
			var headers []string
			if test.contentType != "" {
				headers = append(headers, "Content-Type: "+test.contentType)
			}
			r := c.ask(test.method, "/openid_connect/"+test.path, test.body, headers...)
			if r.StatusCode != test.status || r.Header.Get("Allow") != test.allow {
				t.Errorf("status %d, Allow %q: %s", r.StatusCode, r.Header.Get("Allow"), r.body)
			}
			wantAdminHeaders(t, r)
			wantText(t, r.json(t, "error"), test.text)
		})
	}
	if logs := takeLogs(); len(logLines(t, logs, "request error")) < 20 || strings.Contains(logs, kept) {
		t.Errorf("what was sent is in the log, or nothing is: %s", logs)
	}
	if r := c.ask(http.MethodHead, "/openid_connect/providers", ""); r.StatusCode != http.StatusOK || r.body != "" {
		t.Errorf("HEAD: status %d, %q", r.StatusCode, r.body)
	}
	r := c.ask(http.MethodPost, "/openid_connect/explain", `{"token":"a"}`, "Content-Type: application/json; charset=utf-8")
	if r.StatusCode != http.StatusOK {
		t.Errorf("with a charset: status %d", r.StatusCode)
	}
}

// A page in a browser reaches an admin API on its own machine. It must not get anything done there: Caddy asks where it comes from, and
// what it can send without asking first is not JSON.
func TestAdminIsNotForOtherPages(t *testing.T) {
	p := optest.New(t)
	c := startAdmin(t, api(p, ""))
	request := `{"token":"a"}`
	json := "Content-Type: application/json"
	if r := c.ask(http.MethodPost, "/openid_connect/explain", request, json); r.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %s", r.StatusCode, r.body)
	}
	for _, headers := range [][]string{
		{json, "Origin: https://attacker.example"},
		{json, "Origin: null"},
		{json, "Sec-Fetch-Mode: no-cors"},
		{"Content-Type: text/plain"},
		{"Content-Type: multipart/form-data; boundary=x"},
	} {
		if r := c.ask(http.MethodPost, "/openid_connect/explain", request, headers...); r.StatusCode < 400 {
			t.Errorf("%v: status %d: %s", headers, r.StatusCode, r.body)
		}
	}
}

// The admin API shows the handlers of the configuration that runs, and no other.
func TestAdminFollowsTheConfiguration(t *testing.T) {
	first, second := optest.New(t), optest.New(t)
	c := startAdmin(t, api(first, ""))
	issuers := func() (issuers []string) {
		t.Helper()
		r := c.ask(http.MethodGet, "/openid_connect/providers", "")
		var list []struct{ Issuer string }
		if err := json.Unmarshal([]byte(r.body), &list); err != nil {
			t.Fatalf("%v: %s", err, r.body)
		}
		for _, entry := range list {
			issuers = append(issuers, entry.Issuer)
		}
		return issuers
	}
	want := func(want ...string) {
		t.Helper()
		if got := issuers(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("providers %v, want %v", got, want)
		}
	}
	other := newBearerSite(t, second, "audience api") // provisioned, and not part of the configuration
	other.allows(second.AccessToken(nil))
	readied(t, "http://a.example:8080 {\n"+handler(second, "")+"}\n") // a whole configuration that does not run
	want(first.Issuer())
	accepts := func(p *optest.Provider) any {
		return c.post("/openid_connect/explain", map[string]any{"token": p.AccessToken(nil), "online": true}, 200)["accepted"]
	}
	if accepts(first) != true || accepts(second) != false {
		t.Error("the wrong token is accepted")
	}
	if err := c.load(api(second, "")); err != nil {
		t.Fatal(err)
	}
	want(second.Issuer())
	if accepts(first) != false || accepts(second) != true {
		t.Error("the wrong token is accepted after a reload")
	}
	if err := c.load("openid_connect " + first.Issuer() + " {\nno_such_setting\n}"); err == nil {
		t.Fatal("a broken configuration was loaded")
	}
	want(second.Issuer())
	if err := c.load("respond ok"); err != nil {
		t.Fatal(err)
	}
	want()
	if r := c.ask(http.MethodGet, "/openid_connect/providers", ""); r.body != "[]\n" {
		t.Errorf("without any handler: %q", r.body)
	}
	wantText(t, c.post("/openid_connect/explain", map[string]any{"token": "a"}, 404)["error"], "has none")
	wantText(t, c.post("/openid_connect/revoke", map[string]any{"sub": "a"}, 404)["error"], "keeps sessions")
	if err := c.load(api(first, "")); err != nil {
		t.Fatal(err)
	}
	want(first.Issuer())
}

// Without an admin API nothing is missing.
func TestAdminOff(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, api(p, ""))
	c.allows(p.AccessToken(nil))
	if n := len(activeHandlers()); n != 1 {
		t.Errorf("%d handlers", n)
	}
	if _, err := caddy.GetModule("admin.api.openid_connect"); err != nil {
		t.Error(err)
	}
}

// The admin API may be asked at any moment, also while one configuration replaces another.
func TestAdminWhileLoading(t *testing.T) {
	p := optest.New(t)
	configs := []string{webapp(p, "", "") + toUpstream, api(p, ""), webapp(p, "/x/*", "refresh_coordination local") + toUpstream, "respond ok"}
	c := startCaddy(t, configs[0])
	token := p.AccessToken(nil)
	loaded := make(chan struct{})
	var asking sync.WaitGroup
	for path, body := range map[string]string{
		"providers": "", "explain": `{"token":"` + token + `","online":true,"path":"/x/"}`, "revoke": `{"sub":"alice"}`,
	} {
		method := http.MethodPost
		if body == "" {
			method = http.MethodGet
		}
		asking.Go(func() {
			for {
				select {
				case <-loaded:
					return
				default:
				}
				r := httptest.NewRequestWithContext(t.Context(), method, "/openid_connect/"+path, strings.NewReader(body))
				r.Header.Set("Content-Type", "application/json")
				err := serveAdmin(httptest.NewRecorder(), r)
				failed, _ := errors.AsType[caddy.APIError](err)
				if err != nil && failed.HTTPStatus != http.StatusNotFound && failed.HTTPStatus != http.StatusServiceUnavailable {
					t.Errorf("%s: %v", path, err)
					return
				}
			}
		})
	}
	for i := range 12 {
		if err := c.load(configs[i%len(configs)]); err != nil {
			t.Error(err)
		}
	}
	close(loaded)
	asking.Wait()
}
