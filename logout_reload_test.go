package openidconnect

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Logouts are not forgotten (S-211, S-226).

// refusesCookie checks that a cookie opens nothing at a whole Caddy.
func (c *caddySite) refusesCookie(cookies string) {
	c.t.Helper()
	c.wantAnswer(http.StatusUnauthorized, cookies)
}

// takesCookie checks that it does.
func (c *caddySite) takesCookie(cookies string) {
	c.t.Helper()
	c.wantAnswer(http.StatusOK, cookies)
}

func (c *caddySite) wantAnswer(status int, cookies string) {
	c.t.Helper()
	c.advance()
	r := c.get("/data", "Accept: application/json", "Cookie: "+cookies)
	if n := c.advance(); r.StatusCode != status || n != map[bool]int{true: 1}[status == http.StatusOK] {
		c.t.Errorf("got %d, want %d; %d requests reached the upstream: %s", r.StatusCode, status, n, r.body)
	}
}

// A copy of the cookie stays dead through reloads and restarts, whatever else they change, and however late it comes.
func TestS226LogoutsSurviveReloadsAndRestarts(t *testing.T) {
	const other = "another secret of these tests"
	secrets := func(texts ...string) string { return "session {\nsecret \"" + strings.Join(texts, `" "`) + "\"\n}" }
	for name, test := range map[string]struct{ before, after string }{
		"with keys in the storage":  {"", ""},
		"with a secret":             {secrets(sessionSecret), secrets(sessionSecret)},
		"with a new secret":         {secrets(sessionSecret), secrets(other, sessionSecret)},
		"in the storage":            {"session {\nstorage caddy\n}", "session {\nstorage caddy\n}"},
		"coordinated":               {"refresh_coordination storage", "refresh_coordination storage"},
		"for themselves":            {"refresh_coordination local", "refresh_coordination local"},
		"for themselves, at first":  {"refresh_coordination local", ""},
		"for themselves, later":     {"", "refresh_coordination local"},
		"for themselves, a secret":  {"refresh_coordination local\n" + secrets(sessionSecret), "refresh_coordination local\n" + secrets(sessionSecret)},
		"without further logouts":   {"", "backchannel_logout off"},
		"another logout path":       {"", "logout_path /bye"},
		"another provider timeout":  {"", "timeout 6s"},
		"renewals switched off":     {"", "renew_access_token_on_expiry off"},
		"other headers to be given": {"", "claim_header X-User sub\nset_access_token_header"},
	} {
		t.Run(name, func(t *testing.T) {
			p := optest.New(t, optest.WithEndSession())
			site := func(settings string) string { return webapp(p, "", settings) + toUpstream }
			c := startCaddy(t, site(test.before))
			v, phone := newCaddyVisitor(t, c, p), newCaddyVisitor(t, c, p)
			v.signIn("/")
			phone.signIn("/")
			copied, kept := cookieHeader(v), cookieHeader(phone)
			c.takesCookie(copied)
			v.wantLogout(v.signOut())
			c.refusesCookie(copied)
			lives := name != "other headers to be given" // for that session has no token to be passed on
			load := func(settings string) {
				t.Helper()
				if err := c.load(site(settings)); err != nil {
					t.Fatal(err)
				}
				c.refusesCookie(copied)
				if lives || settings == test.before {
					c.takesCookie(kept)
				}
				c.refusesCookie(copied)
			}
			load(test.after)
			load(test.before)
			if err := caddy.Stop(); err != nil {
				t.Fatal(err)
			}
			load(test.after)
			if err := caddy.Stop(); err != nil {
				t.Fatal(err)
			}
			load(test.after)
			c.wantNothingOf(copied)
		})
	}
}

// wantNothingOf checks that the pages of the site take a cookie for nobody's.
func (c *caddySite) wantNothingOf(cookies string) {
	c.t.Helper()
	r := c.get("/oauth2/session", "Cookie: "+cookies)
	if r.StatusCode != http.StatusOK || !strings.Contains(r.body, `"authenticated":false`) || strings.Contains(r.body, "alice") {
		c.t.Errorf("got %d: %s", r.StatusCode, r.body)
	}
}

// So it is with the storage that Caddy has when nobody says anything of it.
func TestS226LogoutsSurviveInTheDefaultStorage(t *testing.T) {
	standard := caddy.DefaultStorage
	caddy.DefaultStorage = &certmagic.FileStorage{Path: storageFolder(t)}
	t.Cleanup(func() { caddy.DefaultStorage = standard })
	p := optest.New(t, optest.WithEndSession())
	for way, settings := range ways {
		t.Run(way, func(t *testing.T) {
			c := startCaddy(t, "respond ready")
			before, after, _ := strings.Cut(c.globals, "\nstorage file_system ")
			_, after, _ = strings.Cut(after, "\n") // without the name of the folder
			c.globals = before + "\n" + after
			site := webapp(p, "", settings) + toUpstream
			load := func() {
				t.Helper()
				if err := c.load(site); err != nil {
					t.Fatal(err)
				}
			}
			load()
			if !isDefaultStorage(caddy.ActiveContext().Storage()) {
				t.Fatal("this is another storage")
			}
			v, phone := newCaddyVisitor(t, c, p), newCaddyVisitor(t, c, p)
			v.signIn("/")
			phone.signIn("/")
			copied, kept := cookieHeader(v), cookieHeader(phone)
			c.takesCookie(copied)
			v.wantLogout(v.signOut())
			for range 2 {
				c.refusesCookie(copied)
				c.takesCookie(kept)
				if err := caddy.Stop(); err != nil {
					t.Fatal(err)
				}
				load()
			}
			c.refusesCookie(copied)
		})
	}
}

// That sessions may live for longer from now on revives none that has ended.
func TestS211RaisedTimeoutsReviveNobody(t *testing.T) {
	p := optest.New(t, optest.WithEndSession())
	site := func(absolute string) string {
		return webapp(p, "", "session {\nsecret \""+sessionSecret+"\"\nabsolute_timeout "+absolute+"\n}") + toUpstream
	}
	l := newTimeline(p)
	l.start = l.start.Add(time.Second)
	c := startCaddy(t, site("1h"))
	l.ruleAll()
	v, phone := newCaddyVisitor(t, c, p), newCaddyVisitor(t, c, p)
	v.Now, phone.Now = l.now, l.now
	v.signIn("/")
	phone.signIn("/")
	copied, kept := cookieHeader(v), cookieHeader(phone)
	c.takesCookie(copied)
	v.wantLogout(v.signOut())
	c.refusesCookie(copied)
	load := func(absolute string) {
		t.Helper()
		if err := c.load(site(absolute)); err != nil {
			t.Fatal(err)
		}
		l.ruleAll()
	}
	load("30d")
	c.refusesCookie(copied)
	c.takesCookie(kept)
	l.pass(59 * time.Minute)
	c.refusesCookie(copied)
	c.takesCookie(kept)
	for _, d := range []time.Duration{2 * time.Minute, time.Hour, 2 * time.Hour, 10 * 24 * time.Hour} { // the list forgets it in between
		l.pass(d)
		c.refusesCookie(copied)
		c.refusesCookie(kept)
		load("30d")
		c.refusesCookie(copied)
	}
	t.Run("nor after a restart", func(t *testing.T) {
		c := c.in(t)
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := c.load(site("30d")); err != nil {
			t.Fatal(err)
		}
		l.ruleAll()
		c.refusesCookie(copied)
	})
}

// A restart in the middle of a logout: what is not yet written when the process ends is waited for.
func TestLogoutRightBeforeARestart(t *testing.T) {
	p := optest.New(t, optest.WithEndSession())
	c := startCaddy(t, webapp(p, "", "")+toUpstream)
	var copies []string
	for range 5 {
		v := newCaddyVisitor(t, c, p)
		v.signIn("/")
		copied := cookieHeader(v)
		c.takesCookie(copied)
		copies = append(copies, copied)
		v.wantLogout(v.signOut())
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := c.load(webapp(p, "", "") + toUpstream); err != nil {
			t.Fatal(err)
		}
		for _, copied := range copies {
			c.refusesCookie(copied)
		}
		// nor is it a session to be logged out once more
		late := newCaddyVisitor(t, c, p)
		late.wantSignedOut(late.signOut("Cookie: "+copied), "")
	}
}
