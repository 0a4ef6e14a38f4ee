package openidconnect

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// What is dead after a logout, and what is not (S-211).

// ways are how sessions are kept.
var ways = map[string]string{"in the cookie": "", "in a storage": "session {\nstorage caddy\n}"}

// A copy of the cookie is worth nothing after a logout, whichever generation of the session it is of, and however much time has passed.
func TestS211CopiesOfAllGenerations(t *testing.T) {
	t.Parallel()
	for way, settings := range ways {
		for _, by := range []string{"the newest", "the oldest in grace"} {
			t.Run(way+"/by "+by, func(t *testing.T) {
				t.Parallel()
				p := optest.New(t, optest.WithEndSession())
				p.SetRefreshTokens(true)
				l := newTimeline(p)
				r := l.welcome(t, l.instance(t, newSharedFolder(t), withToken+"refresh_grace 1h\n"+settings))
				another := l.welcome(t, r.visitor.site)
				copies := []string{r.cookie()}
				for n := range 3 {
					r.pass(tokenLife)
					r.wantServed(n + 1)
					copies = append(copies, r.cookie())
				}
				r.pass(10 * time.Second)
				for _, cookie := range copies {
					r.wantAlive(cookie)
				}
				kept := another.cookie()
				using := len(copies) - 1
				if by != "the newest" {
					using = 0
				}
				r.wantLogoutAsked(r.signOut("Cookie: " + copies[using]))
				dead := func() {
					t.Helper()
					for _, cookie := range copies {
						r.wantDead(cookie)
					}
				}
				dead()
				another.wantAlive(kept)
				attempts := p.RefreshAttempts()
				for _, d := range []time.Duration{time.Second, rereadAfter, tokenLife, time.Hour, 20 * time.Hour} {
					r.pass(d)
					dead()
					r.forgetOpened()
					dead()
				}
				if n := p.RefreshAttempts() - attempts; n != 0 {
					t.Errorf("the provider was asked %d times to renew what is over", n)
				}
			})
		}
	}
}

// So it is with what takes several cookies, each of which the browser is told to drop, and with nothing else that it has.
func TestS215LogoutDropsAllThatIsOurs(t *testing.T) {
	t.Parallel()
	for _, domain := range []bool{false, true} {
		p := quickProvider(t)
		p.SetEndSession(true)
		settings := ""
		if domain {
			settings = "redirect_uri https://app.example.com/oauth2/callback\nsession {\ncookie_domain example.com\n}"
		}
		v := newDomainVisitor(t, newSecureLoginSite(t, p, settings), p, "app.example.com").on("app.example.com")
		p.SetUser(optest.Claims{"sub": "alice", "groups": manyTexts(180)})
		v.signIn("/")
		if n := len(v.kept(isSessionName)); n < 2 {
			t.Fatalf("%d cookies of the session", n)
		}
		copied := cookieHeader(v)
		for range 3 {
			v.begin("/oauth2/login?prompt=login&return_to=/x")
		}
		if n := len(v.kept(isTransactionName)); n != 3 {
			t.Fatalf("%d logins are under way", n)
		}
		theirs := []string{"theme", "oidc", "JSESSIONID", "__Secure-theirs", "optest-sso-1"}
		for _, name := range theirs {
			v.SetCookie(v.url("/"), &http.Cookie{Name: name, Value: "kept", Path: "/", Secure: strings.HasPrefix(name, "__")})
		}
		v.wantAlive(copied)
		answer := v.signOut()
		v.wantLogout(answer)
		for _, name := range theirs {
			if kept := v.kept(func(other string) bool { return other == name }); len(kept) != 1 {
				t.Errorf("%s has gone", name)
			}
			for _, line := range answer.Header.Values("Set-Cookie") {
				if strings.HasPrefix(line, name+"=") {
					t.Errorf("Set-Cookie %s", line)
				}
			}
		}
		if names := slices.Sorted(slices.Values(cookiesIn(answer, func(string) bool { return true }))); len(names) != 0 {
			t.Errorf("the answer sets %q", names)
		}
		v.wantDead(copied)
		if len(v.Dropped) != 0 {
			t.Errorf("the browser took no notice of %v", v.Dropped)
		}
	}
}

// A logout is of this browser alone: the same user elsewhere, and everybody else, goes on.
func TestLogoutOfOneBrowser(t *testing.T) {
	t.Parallel()
	for way, settings := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t, optest.WithEndSession())
			s := newLoginSite(t, p, settings)
			laptop, phone, carol := newVisitor(t, s, p), newVisitor(t, s, p), newVisitor(t, s, p)
			laptop.signIn("/")
			phone.signIn("/")
			p.SetUser(optest.Claims{"sub": "carol"})
			carol.signIn("/")
			copied := cookieHeader(laptop)
			laptop.wantLogout(laptop.signOut())
			laptop.wantDead(copied)
			phone.wantSession(true)
			carol.wantSession(true)
			phone.wantLogout(phone.signOut())
			carol.wantSession(true)
		})
	}
}

// Whoever signs in next in the same browser is himself, and what comes late of the first one neither works nor takes anything from him.
func TestLogoutThenSomebodyElse(t *testing.T) {
	t.Parallel()
	for way, settings := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t, optest.WithEndSession())
			s := newLoginSite(t, p, "set_userinfo_header off\nclaim_header X-User sub\n"+settings)
			v := newVisitor(t, s, p)
			v.signIn("/")
			s.wantHeaders(map[string]string{"X-User": "alice"})
			stale := "Cookie: " + cookieHeader(v)
			landed := v.NavigateFrom(v.url("/"), v.url("/oauth2/logout"))
			v.wantSignedOut(landed, detailSignedOutThere)
			p.SetUser(optest.Claims{"sub": "carol"})
			v.signIn("/")
			s.wantHeaders(map[string]string{"X-User": "carol"})
			for _, pause := range []time.Duration{0, rereadAfter, deletionMemory / 2} {
				v.later(pause)
				// the browser has sent these before it was told to drop the cookie
				for _, late := range []*optest.Response{
					v.open("/page", stale), v.Get(v.url("/data"), "Accept: application/json", stale), v.Get(v.url("/image"), append(metadata("same-origin", "no-cors", "image"), stale)...),
					v.open("/page", stale),
				} {
					if late.Status == http.StatusOK || s.advance() != 0 {
						t.Errorf("after %s it is served: %d", pause, late.Status)
					}
					if _, forgot := cookiesOf(late.Header); forgot {
						t.Errorf("after %s the new session is dropped: %q", pause, late.Header.Values("Set-Cookie"))
					}
				}
				v.lose(isTransactionName)
				v.wantSession(true)
				s.wantHeaders(map[string]string{"X-User": "carol"})
			}
		})
	}
}

// With two cookies of one name, both sessions end.
func TestLogoutWithTwoCookies(t *testing.T) {
	t.Parallel()
	p := optest.New(t, optest.WithEndSession())
	s := newLoginSite(t, p, "")
	one, other := newVisitor(t, s, p), newVisitor(t, s, p)
	one.signIn("/")
	p.SetUser(optest.Claims{"sub": "mallory"})
	other.signIn("/")
	first, second := cookieHeader(one), cookieHeader(other)
	one.wantAlive(first)
	one.wantAlive(second)
	only := func(header string) string { // without the cookie of the provider
		for pair := range strings.SplitSeq(header, "; ") {
			if strings.HasPrefix(pair, "oidc-") && !strings.HasPrefix(pair[len("oidc-123456"):], "-") {
				return pair
			}
		}
		return ""
	}
	one.wantLogout(one.signOut("Cookie: " + only(first) + "; " + only(second)))
	one.wantDead(first)
	one.wantDead(second)
}
