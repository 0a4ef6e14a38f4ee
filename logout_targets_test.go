package openidconnect

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Where a logout leads, with providers of all sorts.

// A path of the site, a URL elsewhere, or by default a page that starts nothing.
func TestPostLogoutRedirectURI(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]string{
		"":                                     "$ORIGIN/oauth2/logged-out",
		"/":                                    "$ORIGIN/",
		"/goodbye":                             "$ORIGIN/goodbye",
		"/goodbye?from=app&x=%2F":              "$ORIGIN/goodbye?from=app&x=%2F",
		"https://www.example.com/":             "https://www.example.com/",
		"https://www.example.com/bye?from=app": "https://www.example.com/bye?from=app",
		"/oauth2/logged-out":                   "$ORIGIN/oauth2/logged-out",
		"{env.OPENID_CONNECT_NOT_THERE}/goodbye/here": "",
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			settings := ""
			if setting != "" {
				settings = "post_logout_redirect_uri " + setting
			}
			if want == "" {
				h, err := parse(loginSettingsAt(optest.New(t), settings))
				if err == nil {
					err = h.Provision(newContext(t))
				}
				if err == nil || !strings.Contains(err.Error(), "post_logout_redirect_uri") {
					t.Errorf("it is accepted: %v", err)
				}
				return
			}
			v, p := newSignedIn(t, settings)
			want := strings.Replace(want, "$ORIGIN", v.origin, 1)
			p.SetPostLogoutRedirectURIs(want)
			answer := v.signOut()
			asked := v.wantLogout(answer)
			if got := asked.Get("post_logout_redirect_uri"); got != want || asked.Get("state") == "" {
				t.Errorf("post_logout_redirect_uri %q, state %q; want %q", got, asked.Get("state"), want)
			}
			back := v.Get(answer.Location(), linked...)
			if target, _, _ := strings.Cut(back.Location(), "state="); back.Status != http.StatusFound || strings.TrimRight(target, "?&") != want {
				t.Errorf("the provider answers %d and %q: %s", back.Status, back.Location(), back.Body)
			}
		})
	}
}

// What the URL of the endpoint has of its own stays as it is, and no parameter stands twice.
func TestEndSessionEndpointsWithAQuery(t *testing.T) {
	t.Parallel()
	for own, want := range map[string]string{
		"":                           "",
		"?":                          "",
		"?p=B2C_1_signin":            "?p=B2C_1_signin&",
		"?p=B2C_1_signin&":           "?p=B2C_1_signin&",
		"?a=b%20c&a=d&%7Be%7D":       "?a=b%20c&a=d&%7Be%7D&",
		"?client_id=client&tenant=x": "?client_id=client&tenant=x&",
	} {
		t.Run(own, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t, optest.WithEndSession())
			p.SetMetadata(func(m map[string]any) { m["end_session_endpoint"] = p.Endpoint(optest.EndSession) + own })
			v := newVisitor(t, newLoginSite(t, p, ""), p)
			v.signIn("/")
			answer := v.signOut()
			location := answer.Header.Get("Location")
			rest, ok := strings.CutPrefix(location, p.Endpoint(optest.EndSession)+want)
			if !ok || strings.Contains(rest, "#") || strings.Contains(location, "&&") || strings.HasSuffix(location, "&") || strings.Count(location, "?") != 1 {
				t.Errorf("the user is sent to %s", location)
			}
			u, err := url.Parse(location)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"client_id", "id_token_hint", "post_logout_redirect_uri", "state"} {
				if values := u.Query()[name]; len(values) != 1 || values[0] == "" {
					t.Errorf("%s: %q", name, values)
				}
			}
			v.wantEndOf(answer)
		})
	}
}

// Of a provider that cannot end its sessions the user is told so, or sent to where the site wants him, and never back into single sign-on.
func TestS210ProvidersWithoutTheEndpoint(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings string
		lands    string // empty: the page that says so
	}{
		"by default": {"", ""},
		"a path":     {"post_logout_redirect_uri /goodbye\nunauth_action pass /goodbye", "$ORIGIN/goodbye"},
		"a URL":      {"post_logout_redirect_uri https://www.example.com/bye?x=1", "https://www.example.com/bye?x=1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t, optest.WithSSO())
			v := newVisitor(t, newLoginSite(t, p, test.settings), p)
			v.signIn("/")
			copied, before := cookieHeader(v), hitsOf(p)
			answer := v.signOut()
			v.wantEndOf(answer)
			if test.lands == "" {
				v.wantSignedOut(answer, detailStillSignedIn)
			} else if want := strings.Replace(test.lands, "$ORIGIN", v.origin, 1); answer.Status != http.StatusFound || answer.Location() != want {
				t.Errorf("got %d and %q, want %q", answer.Status, answer.Location(), want)
			}
			if name == "a path" {
				landed := v.NavigateFrom(v.url("/"), answer.Location())
				if landed.Status != http.StatusOK || len(landed.Steps) != 1 || v.upstream.advance() != 1 {
					t.Errorf("landed on %s with %d", landed.URL, landed.Status)
				}
			}
			wantHits(t, p, before, hits{})
			if p.Prompts() != 1 || len(p.SSOSessions()) != 1 {
				t.Errorf("%d prompts, and %d sessions at the provider", p.Prompts(), len(p.SSOSessions()))
			}
			v.wantDead(copied)
			if names := v.kept(func(name string) bool { return strings.HasPrefix(name, "optest-sso-") }); len(names) != 1 {
				t.Errorf("of the cookies of others there are %v", names)
			}
		})
	}
}

// An endpoint that is configured is used, whatever the metadata says.
func TestConfiguredEndSessionEndpoint(t *testing.T) {
	t.Parallel()
	p := optest.New(t, optest.WithEndSession())
	p.SetMetadata(func(m map[string]any) { delete(m, "end_session_endpoint") })
	v := newVisitor(t, newLoginSite(t, p, "end_session_endpoint "+p.Endpoint(optest.EndSession)+"?own=1"), p)
	v.signIn("/")
	if asked := v.wantLogout(v.signOut()); asked.Get("own") != "1" || asked.Get("id_token_hint") == "" {
		t.Errorf("the provider is asked %v", asked)
	}
	without := newVisitor(t, newLoginSite(t, p, ""), p)
	without.signIn("/")
	without.wantSignedOut(without.signOut(), detailStillSignedIn)
}

// A provider that is down keeps nobody signed in: neither one that is known, nor one that nobody has heard of yet.
func TestLogoutWithoutTheProvider(t *testing.T) {
	t.Parallel()
	t.Run("known", func(t *testing.T) {
		t.Parallel()
		v, p := newSignedIn(t, "")
		copied := cookieHeader(v)
		p.Down()
		v.wantLogout(v.signOut())
		v.upstream.advance()
		refused := v.Get(v.url("/data"), "Accept: application/json", "Cookie: "+copied)
		v.wantRefusal(refused, http.StatusUnauthorized, "no_credentials")
	})
	for name, breakIt := range map[string]func(p *optest.Provider){
		"unreachable": func(p *optest.Provider) { p.Down() },
		"failing":     func(p *optest.Provider) { p.Fail(optest.Discovery, optest.Fault{Status: 503}) },
		"hanging":     func(p *optest.Provider) { p.Fail(optest.Discovery, optest.Fault{Hang: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t, optest.WithEndSession())
			storage := newSharedFolder(t)
			first := newSiteOn(t, storage, p, sealedWithSecret(""))
			v := newVisitor(t, first, p)
			v.signIn("/")
			copied := cookieHeader(v)
			breakIt(p)
			// as after a restart: this one has never heard of the provider
			v = v.at(newSiteOn(t, storage, p, sealedWithSecret("timeout 60s\npost_logout_redirect_uri /goodbye")))
			v.wantAlive(copied)
			began := time.Now()
			answer := v.signOut()
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("it took %s", took)
			}
			v.wantEndOf(answer)
			v.wantSignedOut(answer, detailUnreachable)
			refused := v.Get(v.url("/data"), "Accept: application/json", "Cookie: "+copied)
			v.wantRefusal(refused, http.StatusUnauthorized, "no_credentials")
			if p.Hits(optest.EndSession) != 0 {
				t.Error("the provider was asked to end the session")
			}
		})
	}
}

// A host that is none is nowhere to be sent back to. The session ends all the same.
func TestLogoutAtAnInvalidHost(t *testing.T) {
	t.Parallel()
	v, p := newSignedIn(t, "")
	for host, valid := range map[string]bool{
		"127.0.0.1": true, "127.0.0.1/x:1": false, "127.0.0.1?x:1": false, "127.0.0.1 x:1": false, "127.0.0.1:1/x": false, "127.0.0.1:1@evil": false,
	} {
		v.lose(isSessionName)
		v.signIn("/")
		r := httptest.NewRequest(http.MethodGet, "/oauth2/logout", nil)
		r.Host = host
		r.Header = http.Header{"Cookie": {cookieHeader(v)}, "Accept": {"text/html"}}
		w := httptest.NewRecorder()
		v.site.ServeHTTP(w, r)
		location, err := url.Parse(w.Header().Get("Location"))
		if err != nil || location.Query().Has("post_logout_redirect_uri") != valid || location.Query().Has("state") != valid {
			t.Errorf("%s: got %d and %q", host, w.Code, location)
		}
		if strings.HasPrefix(location.String(), p.URL()) == (w.Code == http.StatusOK) {
			t.Errorf("%s: got %d and %q", host, w.Code, location)
		}
	}
}
