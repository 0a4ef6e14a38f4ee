package openidconnect

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// demands is a directive, by which the log and an explanation tell the handlers of a test apart: none accepts a token for "nobody".
func demands(p *optest.Provider, matcher, audience string, settings ...string) string {
	const directive = "openid_connect %s %s {\nbearer_only\naudience %s\n%s\n}\n"
	return fmt.Sprintf(directive, matcher, p.Issuer(), audience, strings.Join(settings, "\n"))
}

// oneSite is a site for all hosts, twoSites are a.example and b.example.
func oneSite(lines ...string) string {
	return "http://:$PORT {\nbind 127.0.0.1\n" + strings.Join(lines, "\n") + "\nrespond end\n}\n"
}

func hostSite(host string, lines ...string) string {
	return strings.Replace(oneSite(lines...), "http://", "http://"+host, 1)
}

// The handler that explains a token is the one that a request for the same host and path comes to, whatever the routes look like.
func TestExplainFindsTheHandler(t *testing.T) {
	p := optest.New(t)
	c := startAdmin(t, "respond ok")
	a, b := demands(p, "", "a"), demands(p, "", "b")
	const open, none = "depends on more", "there are: "
	for name, test := range map[string]struct {
		config string
		wants  map[string]string // by host and path: the audience, or a part of what is wrong
	}{
		"one handler": {oneSite(a), map[string]string{"": "a", "x.example": "a", "x.example:8443/y?z=1": "a", "/y": "a"}},
		"one handler of a host": {hostSite("a.example", a), map[string]string{
			"": "a", "a.example": "a", "A.EXAMPLE:99/": "a", "b.example": none + "http://a.example:0",
		}},
		"two hosts": {hostSite("a.example", a) + hostSite("b.example:$PORT, http://*.b.example", b), map[string]string{
			"": "http://*.b.example:0, http://a.example:0, http://b.example:0", "/x": "http://a.example:0",
			"a.example": "a", "b.example/x": "b", "x.b.example": "b", "x.y.b.example": none, "c.example": none,
		}},
		"the same on two hosts": {hostSite("a.example", a) + hostSite("b.example", a), map[string]string{
			"": "a", "a.example": "a", "b.example": "a", "c.example": none,
		}},
		"a stricter one for some paths": {oneSite(demands(p, "/admin/*", "b"), a), map[string]string{
			"": "http://127.0.0.1:0 /admin/*", "x.example": "give the host, or the host and the path",
			"/admin/x": "b", "/ADMIN/x": "b", "//admin/x": "b", "x.example/admin/x?y": "b", "/admin": "a", "/x": "a",
		}},
		"a resource beside a matcher": {
			oneSite(demands(p, "/admin/*", "b", "protected_resource {\nresource /admin\n}"), a),
			map[string]string{"/admin/x": "b", "/x": "a"},
		},
		"handles": {
			oneSite("handle /b/* {", b, "}\nhandle /c {", demands(p, "", "c"), "}\nhandle {", a, "}"),
			map[string]string{"/b/x": "b", "/c": "c", "/c/": "a", "/": "a", "": "several"},
		},
		"a path that is taken off": {
			oneSite("handle_path /b/* {", demands(p, "/in/*", "b"), demands(p, "", "c"), "}\nhandle {", demands(p, "/in/*", "d"), "}"),
			map[string]string{"/b/in/x": "b", "/b/x": "c", "/in/x": "d", "/x": none + "http://127.0.0.1:0 /b/*"},
		},
		"a path that is another": {
			oneSite("rewrite /old/* /new{uri}", demands(p, "/new/*", "b"), a),
			map[string]string{"/old/x": "b", "/new/x": "b", "/x": "a"},
		},
		"all but some paths": {
			oneSite("@closed not path /public/* /assets/*\nhandle @closed {", a, "}"),
			map[string]string{"/x": "a", "/public/x": none, "": "a"},
		},
		"a regular expression": {
			oneSite(`@api path_regexp ^/v[0-9]+/`, demands(p, "@api", "b"), a),
			map[string]string{"/v12/x": "b", "/vx/": "a"},
		},
		"one within another": {
			oneSite(demands(p, "", "a", "unauth_action pass"), "handle /in/* {", b, "}"),
			map[string]string{"/in/x": "a", "/x": "a", "x.example/in/x": "a"},
		},
		"behind an answer": {oneSite("route {\nrespond /health ok", a, "}"), map[string]string{"/health": none, "/x": "a"}},
		"by a method": {
			oneSite("@post method POST\nhandle @post {", b, "}\nhandle {", a, "}"), map[string]string{"/x": "a", "": "a"},
		},
		"by a header alone": {oneSite("@x header X-Token *\nhandle @x {", a, "}"), map[string]string{"": "a"}},
		"by headers": {
			oneSite("@x header X *\n@y header Y *\nhandle @x {", a, "}\nhandle @y {", b, "}"),
			map[string]string{"": open, "/x": open, "x.example/": open},
		},
		"an answer for some methods": {oneSite("@get method GET\nroute {\nrespond @get ok", a, "}"), map[string]string{"": "a"}},
		"a named route": {
			"&(auth) {\n" + a + "}\n" + oneSite("route /x/* {\ninvoke auth\n}"), map[string]string{"/x/": "a", "/y": none},
		},
		"a named route without end": {
			"&(auth) {\n@x header X *\ninvoke @x auth\ninvoke @x auth\n}\n" + oneSite("route /x {\ninvoke auth\n}", a),
			map[string]string{"/y": "a", "/x": "a"},
		},
		"where errors are answered": {oneSite("handle_errors {", a, "}"), map[string]string{"": "a", "x.example/": "a"}},
		"two where errors are answered": {
			oneSite("handle_errors {", demands(p, "/x/*", "a"), b, "}"), map[string]string{"": "by any route"},
		},
		"none": {"respond ok", map[string]string{"": "has none"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := c.in(t)
			if err := c.load(test.config); err != nil {
				t.Fatal(err)
			}
			c.keep = false
			token := p.AccessToken(optest.Claims{"aud": "nobody"})
			for at, want := range test.wants {
				host, path, _ := strings.Cut(at, "/")
				if at != host {
					path = "/" + path
				}
				request := string(must(json.Marshal(explainRequest{Token: token, Host: host, Path: path, Online: true})))
				r := c.ask(http.MethodPost, "/openid_connect/explain", request, "Content-Type: application/json")
				if len(want) > 1 {
					if r.StatusCode != http.StatusBadRequest && r.StatusCode != http.StatusNotFound {
						t.Errorf("%q: status %d: %s", at, r.StatusCode, r.body)
					}
					wantText(t, r.json(t, "error"), want)
					continue
				}
				if r.StatusCode != http.StatusOK || r.json(t, "reason") != "wrong_audience" || r.json(t, "expected") != want {
					t.Errorf("%q: status %d, want the handler of %s: %s", at, r.StatusCode, want, r.body)
				}
				if path == "" || strings.Contains(name, "errors") {
					continue
				}
				takeLogs()
				real := newRequest(t, http.MethodGet, c.url(path), nil, "Authorization: Bearer "+token)
				if host != "" {
					real.Host = host
				}
				roundTrip(t, http.DefaultTransport, real)
				lines := logLines(t, takeLogs(), "request refused")
				if len(lines) == 0 || lines[0]["expected"] != want {
					t.Errorf("%q: a request is refused by %v", at, lines)
				}
			}
		})
	}
}

// What explanations say of handlers that not every request comes to.
func TestExplainNotesTheRoute(t *testing.T) {
	p := optest.New(t)
	c := startAdmin(t, "respond ok")
	for name, test := range map[string]struct{ config, note string }{
		"certain":     {oneSite(demands(p, "", "api")), ""},
		"by a header": {oneSite("@x header X-Token *\nhandle @x {", demands(p, "", "api"), "}"), noteMaybeMet},
		"beside another": {
			oneSite("@post method POST\nhandle @post {", demands(p, "", "b"), "}\nhandle {", demands(p, "", "api"), "}"), noteMaybeOther,
		},
		"of unknown route": {oneSite("handle_errors {", demands(p, "", "api"), "}"), noteUnplaced},
	} {
		t.Run(name, func(t *testing.T) {
			c := c.in(t)
			if err := c.load(test.config); err != nil {
				t.Fatal(err)
			}
			answer := c.post("/openid_connect/explain", map[string]any{"token": p.AccessToken(nil), "online": true}, 200)
			if answer["accepted"] != true {
				t.Errorf("%v", answer)
			}
			want := "<nil>"
			if test.note != "" {
				want = "[" + test.note + "]"
			}
			if got := fmt.Sprint(answer["notes"]); got != want {
				t.Errorf("notes %s, want %s", got, want)
			}
		})
	}
}

// readied makes a configuration ready, as a command does that starts no server.
func readied(t *testing.T, sites string) *caddyhttp.App {
	t.Helper()
	config, err := adaptCaddyfile("{\nadmin off\npersist_config off\nauto_https off\nstorage file_system " + storageFolder(t) + "\n}\n" + sites)
	if err != nil {
		t.Fatal(err)
	}
	var parsed *caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &parsed); err != nil {
		t.Fatal(err)
	}
	provisioning.Lock()
	ctx, err := caddy.ProvisionContext(parsed)
	provisioning.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	for h := range originsOfHandlers(ctx) {
		t.Cleanup(func() {
			if err := h.Cleanup(); err != nil {
				t.Error(err)
			}
		})
	}
	return must(ctx.AppIfConfigured("http")).(*caddyhttp.App)
}

// A configuration that only has been made ready is enough: no server runs, and a host is told from another by its port.
func TestHandlersOfWhatDoesNotRun(t *testing.T) {
	p := optest.New(t)
	app := readied(t, "http://a.example:8080 {\n"+demands(p, "", "api")+"}\n"+"http://a.example:9090 {\n"+demands(p, "", "b")+"}\n"+
		"http://b.example:9090, http://c.example {\n"+demands(p, "", "c")+"}\n")
	for _, test := range []struct{ host, want string }{
		{"a.example:8080", "api"},
		{"a.example:9090", "b"},
		{"b.example", "c"},
		{"b.example:9090", "c"},
		{"c.example:443", "c"}, // as it is behind a proxy
		{"a.example", "http://a.example:8080, http://a.example:9090"},
		{"b.example:8080", "there are: http://a.example:8080"},
		{"", "http://a.example:8080, http://a.example:9090, http://b.example:9090, http://c.example"},
	} {
		handlers, note, err := handlersAt(app, test.host, "/")
		switch {
		case err != nil:
			wantText(t, err, test.want)
		case len(handlers) != 1 || handlers[0].Audience[0] != test.want || note != "":
			t.Errorf("%s: %v, %q", test.host, handlers, note)
		}
	}
	handlers, _, err := handlersAt(app, "a.example:8080", "")
	if err != nil {
		t.Fatal(err)
	}
	if explained, err := explainAt(t.Context(), handlers, p.AccessToken(nil), true); err != nil || !explained.Accepted {
		t.Errorf("%+v, %v", explained, err)
	}
	if n := len(activeHandlers()); n != 0 {
		t.Errorf("%d handlers run", n)
	}
}
