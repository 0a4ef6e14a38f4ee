package openidconnect

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// attributesOf are the attributes of a cookie that matter to browsers, in a fixed order.
func attributesOf(cookie *http.Cookie) string {
	parts := []string{"Path=" + cookie.Path}
	if cookie.Domain != "" {
		parts = append(parts, "Domain="+cookie.Domain)
	}
	if cookie.MaxAge != 0 {
		parts = append(parts, "Max-Age")
	}
	sites := map[http.SameSite]string{http.SameSiteLaxMode: "Lax", http.SameSiteStrictMode: "Strict", http.SameSiteNoneMode: "None"}
	if site := sites[cookie.SameSite]; site != "" {
		parts = append(parts, site)
	}
	for name, set := range map[string]bool{"Secure": cookie.Secure, "HttpOnly": cookie.HttpOnly, "Partitioned": cookie.Partitioned} {
		if set {
			parts = append(parts, name)
		}
	}
	slices.Sort(parts[1:])
	return strings.Join(parts, " ")
}

// Each cookie has the attributes that its setting asks for, and browsers take all of them.
func TestCookieAttributes(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	for name, test := range map[string]struct {
		settings             string
		secure               bool   // https
		prefix               string // of the session's name
		session, transaction string
	}{
		"http": {"", false, "oidc-", "Path=/ HttpOnly Lax Max-Age", "Path=/ HttpOnly Lax Max-Age"},
		"https": {
			"", true, "__Host-oidc-", "Path=/ HttpOnly Lax Max-Age Secure", "Path=/ HttpOnly Lax Max-Age Secure",
		},
		"a name": {
			"cookie_name app", true, "app", "Path=/ HttpOnly Lax Max-Age Secure", "Path=/ HttpOnly Lax Max-Age Secure",
		},
		"a name with a prefix": {
			"cookie_name __Host-app", true, "__Host-app", "Path=/ HttpOnly Lax Max-Age Secure", "Path=/ HttpOnly Lax Max-Age Secure",
		},
		"a path": {
			"cookie_path /app", true, "__Secure-oidc-", "Path=/app HttpOnly Lax Max-Age Secure", "Path=/ HttpOnly Lax Max-Age Secure",
		},
		"strict": {
			"cookie_same_site strict", true, "__Host-oidc-", "Path=/ HttpOnly Max-Age Secure Strict", "Path=/ HttpOnly Lax Max-Age Secure",
		},
		"none": {
			"cookie_same_site none", true, "__Host-oidc-", "Path=/ HttpOnly Max-Age None Secure", "Path=/ HttpOnly Max-Age None Secure",
		},
		"partitioned": {
			"cookie_same_site none\ncookie_partitioned", true, "__Host-oidc-",
			"Path=/ HttpOnly Max-Age None Partitioned Secure", "Path=/ HttpOnly Max-Age None Partitioned Secure",
		},
		"for scripts": {
			"cookie_http_only off", true, "__Host-oidc-", "Path=/ Lax Max-Age Secure", "Path=/ HttpOnly Lax Max-Age Secure",
		},
		"not persistent": {
			"cookie_persistent off", true, "__Host-oidc-", "Path=/ HttpOnly Lax Secure", "Path=/ HttpOnly Lax Max-Age Secure",
		},
		"not secure": {
			"cookie_secure off", true, "oidc-", "Path=/ HttpOnly Lax Max-Age", "Path=/ HttpOnly Lax Max-Age",
		},
	} {
		t.Run(name, func(t *testing.T) {
			start := newLoginSite
			if test.secure {
				start = newSecureLoginSite
			}
			settings := "path_prefix /app/oauth2"
			if test.settings != "" {
				settings += "\nsession {\n" + test.settings + "\n}"
			}
			v := newVisitor(t, start(t, p, settings), p)
			landed := v.Navigate(v.url("/app/page"))
			if strings.Contains(test.settings, "strict") {
				landed = v.NavigateFrom(landed.URL, v.wayOut(landed)) // the page goes there by itself
			}
			if landed.Status != http.StatusOK || landed.URL != v.url("/app/page") || v.upstream.advance() != 1 {
				t.Fatalf("landed on %s with %d", landed.URL, landed.Status)
			}
			sorts := map[string]string{}
			for _, step := range v.Steps {
				for _, cookie := range step.SetCookies {
					attributes := attributesOf(cookie)
					switch {
					case isTransactionName(cookie.Name), strings.HasSuffix(cookie.Name, "-loop"):
						if attributes != test.transaction {
							t.Errorf("%s has %q, want %q", cookie.Name, attributes, test.transaction)
						}
						sorts["other"] = cookie.Name
					case cookie.MaxAge < 0: // browsers delete what has the same name, path and domain
						if strings.Replace(attributes, " Max-Age", "", 1) != strings.Replace(test.session, " Max-Age", "", 1) {
							t.Errorf("%s is deleted with %q, and set with %q", cookie.Name, attributes, test.session)
						}
					default:
						if attributes != test.session || !strings.HasPrefix(cookie.Name, test.prefix) {
							t.Errorf("%s has %q, want %s… with %q", cookie.Name, attributes, test.prefix, test.session)
						}
						if cookie.MaxAge != 0 && cookie.MaxAge != int(24*time.Hour/time.Second) {
							t.Errorf("%s has Max-Age %d", cookie.Name, cookie.MaxAge)
						}
						sorts["session"] = cookie.Name
					}
				}
			}
			if len(sorts) != 2 {
				t.Errorf("cookies were set: %v", sorts)
			}
			for _, dropped := range v.Dropped {
				t.Errorf("the browser dropped %.60s: %s", dropped.Cookie, dropped.Reason)
			}
			// the end of the session deletes the cookie in a way that works
			v.later(25 * time.Hour)
			ended := v.clone()
			ended.Now = nil
			ended.wantLogin(ended.open("/app/page"))
			for _, cookie := range ended.Cookies(ended.url("/app/page")) {
				if cookie.Name == sorts["session"] {
					t.Errorf("%s is left", cookie.Name)
				}
			}
		})
	}
}

// On http a cookie that is Secure never comes back. The loop breaker says so.
func TestSecureCookiesOverHTTP(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "session {\ncookie_secure on\n}")
	v := newVisitor(t, s, p)
	landed := v.Navigate(v.url("/"))
	if landed.Status == http.StatusOK || len(v.Dropped) == 0 {
		t.Fatalf("got %d, and %d cookies were dropped", landed.Status, len(v.Dropped))
	}
	s.advance()
}

// A login with as many groups as people have fits into a few cookies, each of which browsers take, and all of which Caddy takes.
func TestManyGroups(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	for _, count := range []int{1, 50, 100, 150, 200, 300} {
		t.Run(strconv.Itoa(count), func(t *testing.T) {
			groups := make([]string, count)
			for i := range groups {
				groups[i] = fmt.Sprintf("department-%03d-%s", i, manyGroups(1)[0][:6])
			}
			p.SetUser(optest.Claims{"sub": "alice", "groups": groups})
			s := newSecureLoginSite(t, p, "claim_header X-Groups groups")
			v := newVisitor(t, s, p)
			v.signIn("/")
			s.wantHeaders(map[string]string{"X-Groups": strings.Join(groups, ",")})
			size := 0
			for _, cookie := range v.kept(isSessionName) {
				size += len(cookie.Name) + len("=; ") + len(cookie.Value)
			}
			if size > 12_000 {
				t.Errorf("%d bytes of cookies", size)
			}
			if len(v.Dropped) != 0 {
				t.Errorf("the browser dropped %v", v.Dropped)
			}
			// a smaller session of the same browser leaves no piece of the larger one behind
			p.SetUser(optest.Claims{"sub": "alice"})
			request := v.wantLogin(v.open("/oauth2/login?prompt=login"))
			v.wantRedirect(v.arrive(request, v.answerTo(request)), "/")
			if cookies := v.kept(isSessionName); len(cookies) != 1 {
				t.Errorf("%d cookies of the session, want 1", len(cookies))
			}
			v.wantSession(true)
		})
	}
}

// What cannot be kept is a failure at once, which names the reason; nobody is sent round in circles by a cookie that never comes back.
func TestTooLargeForASession(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	large := optest.Claims{"sub": "alice", "tenant": strings.Repeat("x", 100), "groups": manyGroups(1000), "roles": manyGroups(10)}
	for name, test := range map[string]struct {
		settings string
		user     optest.Claims
		biggest  string
	}{
		"by default":         {"", large, "the claim groups has "},
		"by a smaller limit": {"session {\nmax_cookie_bytes 1000\n}", optest.Claims{"sub": "alice", "tenant": manyGroups(60)}, "the claim tenant has "},
		"with a token":       {"set_access_token_header", large, "the access token "},
	} {
		t.Run(name, func(t *testing.T) {
			p.SetUser(test.user)
			s := newLoginSite(t, p, test.settings)
			v, before := newVisitor(t, s, p), hitsOf(p)
			v.wantPage(v.Navigate(v.url("/")), http.StatusBadRequest, "session_too_large")
			wantHits(t, p, before, hits{authorize: 1, token: 1})
			line := s.logged(zapcore.ErrorLevel, "request refused", map[string]string{
				"reason": "session_too_large", "got": test.biggest, "hint": "storage caddy",
			})
			if text, _ := line["expected"].(string); !strings.Contains(text, "bytes") {
				t.Errorf("expected %q", text)
			}
			v.wantSession(false)
		})
	}
	t.Run("in Caddy's storage it can be kept", func(t *testing.T) {
		p.SetUser(large)
		newVisitor(t, newSiteOn(t, newFolderStorage(t), p, withStorage+"set_access_token_header"), p).signIn("/")
	})
}

// The raw ID token is the first to go when a session becomes too large for its cookie.
func TestTheRawIDTokenIsDroppedFirst(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "set_raw_id_token_header\nset_userinfo_header off\nclaim_header X-Groups groups")
	with := func(count int) (kept, passedOn bool) {
		p.SetUser(optest.Claims{"sub": "alice", "groups": manyGroups(count)})
		v := newVisitor(t, s, p)
		if landed := v.Navigate(v.url("/")); landed.Status != http.StatusOK {
			v.wantPage(landed, http.StatusBadRequest, "session_too_large")
			return false, false
		}
		header := s.last(t).Header
		if got := strings.Count(header.Get("X-Groups"), ",") + 1; s.advance() != 1 || got != count {
			t.Errorf("%d groups are passed on, want %d", got, count)
		}
		return true, header.Get("X-Raw-Id-Token") != ""
	}
	var dropped []int
	for count := 10; ; count += 5 {
		if count == 20 {
			count = 400
		}
		kept, passedOn := with(count)
		if !kept {
			break
		}
		if count <= 20 && !passedOn {
			t.Errorf("%d groups: the raw ID token is not passed on", count)
		}
		if !passedOn {
			dropped = append(dropped, count)
		} else if len(dropped) > 0 {
			t.Errorf("%d groups: there is a raw ID token, which was left out at %d", count, dropped)
		}
	}
	if len(dropped) == 0 {
		t.Error("the raw ID token was never left out")
	}
}
