package openidconnect

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// The module's own endpoints, but for the callback.

// sessionAnswer is what /session says.
type sessionAnswer struct {
	Authenticated bool   `json:"authenticated"`
	Subject       string `json:"subject"`
	ExpiresIn     int64  `json:"expires_in"`
	LoginURL      string `json:"login_url"`
}

func (v *visitor) session(path string, headers ...string) sessionAnswer {
	v.t.Helper()
	r := v.Get(v.url(path), headers...)
	if r.Status != http.StatusOK || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Cache-Control") != "no-store" ||
		r.Header.Get("Set-Cookie") != "" {
		v.t.Fatalf("got %d, %v: %s", r.Status, r.Header, r.Body)
	}
	var answer sessionAnswer
	if err := json.Unmarshal([]byte(r.Body), &answer); err != nil {
		v.t.Fatal(err)
	}
	if n := v.upstream.advance(); n != 0 {
		v.t.Errorf("%d requests reached the upstream", n)
	}
	return answer
}

func TestSection3Session(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p,
		"unauth_action deny\nunauth_action auth /app\nsession {\nabsolute_timeout 2h\nidling_timeout 10m\nreissue_interval 1m\n}")
	v := newVisitor(t, s, p)
	s.setNow(time.Now().Truncate(time.Second)) // as precise as sessions are
	anonymous := sessionAnswer{LoginURL: "/oauth2/login"}
	for _, headers := range [][]string{nil, {"Cookie: x=y"}, {"Authorization: Bearer x"}, typed} {
		if got := v.session("/oauth2/session?x=y", headers...); got != anonymous {
			t.Errorf("anonymous: %+v", got)
		}
	}
	v.signIn("/app")
	if got := v.session("/oauth2/session"); got != (sessionAnswer{true, "alice", 10 * 60, "/oauth2/login"}) {
		t.Errorf("after the login: %+v", got)
	}
	v.later(4 * time.Minute) // a reissue is due, and asking is not using
	for range 2 {
		if got := v.session("/oauth2/session"); got.ExpiresIn != 6*60 || !got.Authenticated {
			t.Errorf("four minutes later: %+v", got)
		}
	}
	idle := v.clone()
	v.wantSession(true)
	if got := v.session("/oauth2/session"); got.ExpiresIn != 10*60 {
		t.Errorf("after a use: %+v", got)
	}
	for range 28 { // by use alone a session lives as long as absolute_timeout
		v.later(4 * time.Minute)
		v.wantSession(true)
	}
	if got := v.session("/oauth2/session"); got.ExpiresIn != 4*60 {
		t.Errorf("four minutes before its end: %+v", got)
	}
	idle.Now = nil
	if got := idle.session("/oauth2/session"); got != anonymous {
		t.Errorf("idle: %+v", got)
	}
	v.later(4 * time.Minute)
	v.Now = nil
	if got := v.session("/oauth2/session"); got != anonymous {
		t.Errorf("at its end: %+v", got)
	}
	if r := v.Do(http.MethodHead, v.url("/oauth2/session"), ""); r.Status != http.StatusOK || r.Body != "" ||
		r.Header.Get("Content-Length") == "" {
		t.Errorf("HEAD got %d, %v", r.Status, r.Header)
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
		for _, path := range []string{"/oauth2/session", "/oauth2/jwks.json", "/oauth2/logged-out"} {
			if r := v.Do(method, v.url(path), ""); r.Status != http.StatusMethodNotAllowed || r.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s got %d, Allow %q", method, path, r.Status, r.Header.Get("Allow"))
			}
		}
	}
}

func TestSection3JWKS(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	for name, test := range map[string]struct {
		settings string
		keys     int
	}{
		"without a key": {"", 0},
		"private_key_jwt": {
			"token_endpoint_auth_method private_key_jwt\nclient_private_key `" + optest.NewKey(t, "ES256", "x").PrivatePEM() +
				"`\nclient_private_key_id ours", 1,
		},
	} {
		v := newVisitor(t, newLoginSite(t, p, test.settings), p)
		r := v.Get(v.url("/oauth2/jwks.json"))
		if r.Status != http.StatusOK || r.Header.Get("Content-Type") != "application/jwk-set+json" ||
			r.Header.Get("Cache-Control") != "public, max-age=3600" {
			t.Errorf("%s: got %d, %v", name, r.Status, r.Header)
		}
		var set struct{ Keys []map[string]any }
		if err := json.Unmarshal([]byte(r.Body), &set); err != nil || set.Keys == nil || len(set.Keys) != test.keys {
			t.Fatalf("%s: %s, %v", name, r.Body, err)
		}
		for _, key := range set.Keys {
			if key["kid"] != "ours" || key["kty"] != "EC" || key["use"] != "sig" || key["d"] != nil || key["x"] == nil {
				t.Errorf("%s: key %v", name, key)
			}
		}
	}
}

func TestSection3LoggedOutStartsNothing(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	v := newVisitor(t, newLoginSite(t, p, "path_prefix /sso"), p)
	for range 2 {
		r := v.open("/sso/logged-out")
		if r.Status != http.StatusOK || r.Header.Get("Cache-Control") != "no-store" || !strings.Contains(r.Body, `<a href="/sso/login">`) ||
			r.Header.Get("Set-Cookie") != "" || strings.Contains(r.Body, "http-equiv") {
			t.Errorf("got %d, %v: %s", r.Status, r.Header, shown(r))
		}
		v.wantNothingGiven(r)
	}
	wantHits(t, p, hits{}, hits{})
}

// Paths are matched as they were sent, exactly; everything else below the prefix is a page like any other.
func TestSection3OtherPathsUnderThePrefixAreOrdinary(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	v := newVisitor(t, newLoginSite(t, p, "redirect_uri /sso/done"), p)
	v.signIn("/sso/")
	for _, path := range []string{
		"/oauth2", "/oauth2/", "/oauth2/x", "/oauth2/session/", "/oauth2//session", "//oauth2/session", "/oauth2/%73ession",
		"/oauth2%2fsession",
		"/oauth2/session;x", "/oauth2/./session", "/OAUTH2/session", "/oauth2/session%00", "/oauth2/callback", "/sso/done/",
		"/x/../oauth2/session",
		"/oauth2/session%3f", "/oauth2/jwks.json.", "/sso/session",
	} {
		target := strings.Replace(v.url(path), "/x/../", "/x/%2e%2e/", 1)
		if r := v.Get(target); r.Status != http.StatusOK || v.upstream.advance() != 1 {
			t.Errorf("%s with a session got %d", path, r.Status)
		}
		v.wantRefusal(v.Get(target, "Cookie: x=y"), 401, "no_credentials")
	}
	if got := v.session("/oauth2/session?a=b"); !got.Authenticated {
		t.Errorf("%+v", got)
	}
	bearer := newBearerSite(t, p, "audience api")
	for _, path := range []string{"/oauth2/session", "/oauth2/login", "/oauth2/callback", "/oauth2/logged-out", "/oauth2/jwks.json"} {
		bearer.wantRefused(t, bearer.get(path), 401, "no_credentials")
	}
}

func TestSection3LoginStartsOnlyOnNavigations(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "unauth_action deny")
	v := newVisitor(t, s, p)
	for name, start := range map[string]func(v *visitor) *optest.Response{
		"GET":              func(v *visitor) *optest.Response { return v.open("/oauth2/login?return_to=/x%3Fy") },
		"a link elsewhere": func(v *visitor) *optest.Response { return v.Get(v.url("/oauth2/login?return_to=/x%3Fy"), linked...) },
		"of an older browser": func(v *visitor) *optest.Response {
			return v.Get(v.url("/oauth2/login?return_to=/x%3Fy"), "Accept: text/html")
		},
		"a form": func(v *visitor) *optest.Response {
			return v.Post(v.url("/oauth2/login"), url.Values{"return_to": {"/x?y"}}, typed...)
		},
		"the whole origin": func(v *visitor) *optest.Response {
			return v.open("/oauth2/login?return_to=" + url.QueryEscape(v.url("/x?y")))
		},
		"the whole ORIGIN": func(v *visitor) *optest.Response {
			return v.open("/oauth2/login?return_to=" + url.QueryEscape("HTTP"+v.url("/x?y")[4:]))
		},
		"more than one prompt": func(v *visitor) *optest.Response {
			return v.open("/oauth2/login?return_to=/x%3Fy&prompt=none&prompt=login")
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVisitor(t, s, p)
			request := v.wantLogin(start(v))
			if request.Has("prompt") {
				t.Errorf("prompt=%s", request.Get("prompt"))
			}
			v.wantRedirect(v.arrive(request, v.answerTo(request)), "/x?y")
		})
	}
	for _, headers := range [][]string{
		nil,
		{"Sec-Fetch-Mode: cors", "Accept: text/html"},
		{"Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"},
		{"Accept: text/html", "X-Requested-With: XMLHttpRequest"},
		append([]string{"Sec-Purpose: prefetch"}, typed...),
	} {
		v.wantRefusal(v.Get(v.url("/oauth2/login"), headers...), 401, "no_credentials")
		v.wantRefusal(v.Post(v.url("/oauth2/login"), nil, headers...), 401, "no_credentials")
	}
	v.wantPage(v.Post(v.url("/oauth2/login"), nil, linked...), 403, "cross_site_login")
	v.wantPage(v.Post(v.url("/oauth2/login"), url.Values{"return_to": {strings.Repeat("x", 100_000)}}, typed...), 400, "provider_error")
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch} {
		if r := v.Do(method, v.url("/oauth2/login"), "", typed...); r.Status != http.StatusMethodNotAllowed {
			t.Errorf("%s got %d", method, r.Status)
		}
	}
}

func TestSection3LoginWithALiveSession(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetMetadata(func(m map[string]any) { m["prompt_values_supported"] = []string{"login", "select_account", "consent"} })
	v := newVisitor(t, newLoginSite(t, p, ""), p)
	v.signIn("/")
	before := hitsOf(p)
	v.wantRedirect(v.open("/oauth2/login?return_to=/x%3Fy"), "/x?y")
	v.wantRedirect(v.open("/oauth2/login"), "/")
	for _, prompt := range []string{"login", "select_account", "consent"} {
		if got := v.wantLogin(v.open("/oauth2/login?prompt=" + prompt))["prompt"]; !slices.Equal(got, []string{prompt}) {
			t.Errorf("prompt=%s became %q", prompt, got)
		}
	}
	for _, prompt := range []string{"", "none", "create", "x%00", "login%20consent", "%7Benv.HOME%7D"} {
		if got := v.wantLogin(v.open("/oauth2/login?prompt=" + prompt))["prompt"]; got != nil {
			t.Errorf("prompt=%s became %q", prompt, got)
		}
	}
	v.wantSession(true) // until another login is finished
	wantHits(t, p, before, hits{})
}

// Another party, perhaps the provider's own portal, starts a login (OpenID Connect Core section 4).
func TestSection3ThirdPartyInitiatedLogin(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		start := func(v *visitor, parameters url.Values) *optest.Response {
			if method == http.MethodPost {
				return v.Post(v.url("/oauth2/login"), parameters, linked...)
			}
			return v.Get(v.url("/oauth2/login?"+parameters.Encode()), linked...)
		}
		for _, test := range []struct {
			name       string
			parameters url.Values
			hint       string
			leads      string // empty: refused
		}{
			{"iss alone", url.Values{"iss": {p.Issuer()}}, "", "/"},
			{"all of it", url.Values{"iss": {p.Issuer()}, "login_hint": {"ada@example.com & {env.HOME}"}, "target_link_uri": {s.server.URL +
				"/x?y"}}, "ada@example.com & {env.HOME}", "/x?y"},
			{"a target elsewhere", url.Values{"iss": {p.Issuer()}, "target_link_uri": {"https://evil.example/x"}}, "", "/"},
			{"an excessive hint", url.Values{"iss": {p.Issuer()}, "login_hint": {strings.Repeat("x", 513)}}, "", "/"},
			{"another issuer", url.Values{"iss": {"https://evil.example"}}, "", ""},
			{"with a slash", url.Values{"iss": {p.Issuer() + "/"}}, "", ""},
			{"empty", url.Values{"iss": {""}}, "", ""},
			{"twice", url.Values{"iss": {p.Issuer(), p.Issuer()}}, "", ""},
			{"right and wrong", url.Values{"iss": {p.Issuer(), "https://evil.example"}}, "", ""},
		} {
			t.Run(method+"/"+test.name, func(t *testing.T) {
				v := newVisitor(t, s, p)
				r := start(v, test.parameters)
				if test.leads == "" {
					v.wantPage(r, 400, "issuer_mismatch")
					return
				}
				request := v.wantLogin(r)
				if got := request.Get("login_hint"); got != test.hint {
					t.Errorf("login_hint %q", got)
				}
				v.wantRedirect(v.arrive(request, v.answerTo(request)), test.leads)
			})
		}
	}
}

// Whatever somebody wishes, a login ends on this site: as browsers read it, not as we do.
func TestSection3ReturnToAnotherOriginBecomesTheRoot(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	v := newVisitor(t, newLoginSite(t, p, ""), p)
	v.signIn("/")
	for wish, want := range map[string]string{
		"/x": "/x", "/x?y=z&a=%2F": "/x?y=z&a=%2F", "/x?next=https://evil.example/": "/x?next=https://evil.example/", "/a%20b": "/a%20b",
		"/x#y":          "/x",
		"/oauth2/login": "/", "/oauth2/callback?code=x": "/", "/oauth2/logged-out": "/", "/oauth2/session?x": "/",
		"/%6fauth2/x": "/%6fauth2/x", "/{http.request.host}//x": "/%7Bhttp.request.host%7D//x",
	} {
		v.wantRedirect(v.open("/oauth2/login?return_to="+url.QueryEscape(wish)), want)
	}
	hostile := []string{
		"https://evil.example", "http://evil.example/", "HTTPS://evil.example", "//evil.example", "///evil.example", "////evil.example",
		`/\evil.example`,
		`\\evil.example`, `\/evil.example`, `/\/evil.example`, "/\t/evil.example", "/\n/evil.example", "\t//evil.example", " //evil.example",
		"/%09/evil.example",
		"/%2f/evil.example", "/%5c/evil.example", "/%2f%2fevil.example", "//evil.example/%2e%2e", "/.//evil.example", "/..//evil.example",
		"/x/..//evil.example",
		"/x/%2e%2e//evil.example", "/%2e%2e//evil.example", "/;/..//evil.example", "https:evil.example", "https:/evil.example",
		"https:///evil.example",
		"javascript:alert(1)", "JavaScript:alert(1)", "java\nscript:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd",
		"evil.example", "@evil.example",
		v.url("") + ".evil.example/", v.url("") + "@evil.example/", v.url("") + "\\@evil.example/", "http://127.0.0.1@evil.example/",
		"/\u2028/evil.example",
		"http://127.0.0.1:1/", "https" + v.url("")[4:] + "/", "//" + v.url("")[7:] + "/", "/\x00/evil.example", "/x\r\nSet-Cookie: a=b",
		"?//evil.example", "#//evil.example",
		"/" + strings.Repeat("x", 2000), "/%252f/evil.example", "/%25252f/..%252f/evil.example", "%2f%2fevil.example", "",
	}
	for _, wish := range hostile {
		for _, parameter := range []string{"return_to", "target_link_uri"} {
			r := v.open("/oauth2/login?" + parameter + "=" + url.QueryEscape(wish))
			if target := r.Location(); r.Status != http.StatusFound || target != v.url("/") {
				t.Errorf("%q leads to %q with %d", wish, target, r.Status)
			}
			if r.Header.Get("Set-Cookie") != "" {
				t.Errorf("%q: Set-Cookie %q", wish, r.Header.Values("Set-Cookie"))
			}
		}
	}
	v.upstream.advance()
	t.Run("nor does the page that was asked for lead elsewhere", func(t *testing.T) {
		for _, path := range []string{
			"//evil.example/x", "/.//evil.example", "/%2f%2fevil.example", `/\evil.example`, "/;//evil.example",
			"/%0d%0aX:%20y",
		} {
			conn := exchange(t, v.site.server.URL, fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/html\r\nConnection: close\r\n\r\n",
				path, v.url("")[7:]))
			if conn.StatusCode == http.StatusBadRequest {
				continue
			}
			stranger := newVisitor(t, v.site, p)
			for _, cookie := range conn.Cookies() {
				stranger.SetCookie(stranger.url("/"), cookie)
			}
			location, err := url.Parse(conn.Header.Get("Location"))
			if err != nil {
				t.Fatal(err)
			}
			request := location.Query()
			r := stranger.arrive(request, stranger.answerTo(request))
			if target := r.Location(); r.Status != http.StatusFound || !strings.HasPrefix(target, v.url("/")) {
				t.Errorf("%q leads to %q with %d: %s", path, target, r.Status, shown(r))
			}
		}
	})
}
