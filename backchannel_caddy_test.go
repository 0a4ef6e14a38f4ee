package openidconnect

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// caddyBackchannel is a whole Caddy that a provider tells of logouts.
type caddyBackchannel struct {
	t *testing.T
	p *optest.Provider
	c *caddySite
}

func newCaddyBackchannel(t *testing.T, p *optest.Provider, site string) *caddyBackchannel {
	t.Helper()
	return &caddyBackchannel{t, p, startCaddy(t, site)}
}

func (b *caddyBackchannel) signIn(sub, sid, path string) *visitor {
	b.t.Helper()
	b.p.SetUser(optest.Claims{"sub": sub})
	b.p.SetSIDs(func() string { return sid })
	v := newCaddyVisitor(b.t, b.c, b.p)
	b.c.advance()
	v.signIn(path)
	return v
}

// send posts a logout token to an endpoint.
func (b *caddyBackchannel) send(path, token string) optest.BackchannelAnswer {
	b.t.Helper()
	return b.p.SendLogout(b.t, b.c.url(path), token)
}

// wantSignedIn checks who is signed in where Caddy runs now.
func (b *caddyBackchannel) wantSignedIn(want bool, path string, people ...*visitor) {
	b.t.Helper()
	for _, v := range people {
		status := http.StatusUnauthorized
		if want {
			status = http.StatusOK
		}
		if r := v.Get(b.c.url(path), "Accept: application/json"); r.Status != status {
			b.t.Errorf("got %d, want %d", r.Status, status)
		}
	}
}

const backchannelPath = "/oauth2/backchannel-logout"

// The endpoint is where the provider looks for it, without a session, whatever is demanded of other requests (C-089).
func TestC089BackchannelEndpointIsReachable(t *testing.T) {
	for name, test := range map[string]struct{ site, endpoint, protected string }{
		"beside the matcher":    {"@m path /admin/*\n" + "MATCHED" + toUpstream, backchannelPath, "/admin/x"},
		"unauth_action deny":    {"DENY" + toUpstream, backchannelPath, "/x"},
		"unauth_action pass":    {"PASS" + toUpstream, backchannelPath, "/private/x"},
		"another prefix":        {"PREFIX" + toUpstream, "/auth/backchannel-logout", "/x"},
		"within handle_path":    {"handle_path /app/* {\nAPP" + toUpstream + "}", "/app/oauth2/backchannel-logout", "/app/x"},
		"behind a rewrite":      {"rewrite /oauth2/* /index.php\nPLAIN" + toUpstream, backchannelPath, "/x"},
		"errors are the site's": {"ERRORS" + toUpstream + "handle_errors {\nrespond drawn\n}", backchannelPath, "/x"},
		"with a header of all":  {"header X-Frame-Options SAMEORIGIN\nPLAIN" + toUpstream, backchannelPath, "/x"},
	} {
		t.Run(name, func(t *testing.T) {
			p := optest.New(t)
			site := strings.NewReplacer(
				"MATCHED", webapp(p, "@m", ""), "DENY", webapp(p, "", "unauth_action auth /x\nunauth_action deny"),
				"PASS", webapp(p, "", "unauth_action auth /private/*\nunauth_action pass"), "PREFIX", webapp(p, "", "path_prefix /auth"),
				"APP", webapp(p, "", "path_prefix /app/oauth2"), "ERRORS", webapp(p, "", "error_responses handle_errors"), "PLAIN", webapp(p, "", ""),
			).Replace(test.site)
			b := newCaddyBackchannel(t, p, site)
			victim, other := b.signIn("alice", "s", test.protected), b.signIn("bob", "t", test.protected)
			refused := b.send(test.endpoint, p.LogoutToken(optest.BySID("s"), set("aud", "x")))
			if refused.Status != http.StatusBadRequest || refused.Header.Get("Content-Type") != "application/json" ||
				!strings.Contains(refused.Body, "logout_token_invalid") {
				t.Errorf("got %d: %s", refused.Status, refused.Body)
			}
			b.wantIdentified(true, test.protected, victim, other)
			wantDone(t, b.send(test.endpoint, p.LogoutToken(optest.BySID("s"))))
			b.wantIdentified(false, test.protected, victim)
			b.wantIdentified(true, test.protected, other)
			b.c.advance()
			for _, path := range []string{"/", "x", "%6C"} { // what is not exactly the endpoint is none
				if r := b.send(test.endpoint+path, p.LogoutToken(optest.BySID("t"))); r.Status == http.StatusOK && b.c.advance() == 0 && r.Body == "" {
					t.Errorf("%s is an endpoint", test.endpoint+path)
				}
			}
			b.wantIdentified(true, test.protected, other)
		})
	}
}

// wantIdentified is wantSignedIn where anonymous requests may get through.
func (b *caddyBackchannel) wantIdentified(want bool, path string, people ...*visitor) {
	b.t.Helper()
	for _, v := range people {
		r := v.Get(b.c.url(path), "Accept: application/json")
		if got := r.Status == http.StatusOK && strings.Contains(r.Body, "X-Userinfo"); got != want {
			b.t.Errorf("signed in: %t, want %t (status %d)", got, want, r.Status)
		}
	}
}

// Where the endpoint is switched off, its path is like any other.
func TestBackchannelLogoutOff(t *testing.T) {
	p := optest.New(t)
	b := newCaddyBackchannel(t, p, webapp(p, "", "backchannel_logout off\naudience api")+toUpstream)
	victim := b.signIn("alice", "s", "/")
	token := p.LogoutToken(optest.BySID("s"))
	if r := b.send(backchannelPath, token); r.Status != http.StatusUnauthorized || !strings.Contains(r.Body, "no_credentials") || b.c.advance() != 0 {
		t.Errorf("got %d: %s", r.Status, r.Body)
	}
	b.wantSignedIn(true, "/", victim)
	b.c.advance()
	for _, header := range []string{"Authorization: Bearer " + p.AccessToken(nil), "Cookie: " + cookieHeader(victim)} {
		r := p.SendLogoutRequest(t, http.MethodPost, b.c.url(backchannelPath), formType, logoutForm(token), header)
		if r.Status != http.StatusOK || b.c.advance() != 1 {
			t.Errorf("got %d: %s", r.Status, r.Body)
		}
		if got := b.c.last(t).body; got != logoutForm(token) {
			t.Errorf("the upstream got %.40s", got)
		}
	}
	b.wantSignedIn(true, "/", victim)

	t.Run("bearer_only", func(t *testing.T) {
		c := startCaddy(t, api(p, ""))
		r := p.SendLogout(t, c.url(backchannelPath), token)
		if r.Status != http.StatusUnauthorized || !strings.Contains(r.Body, "no_credentials") || c.advance() != 0 {
			t.Errorf("got %d: %s", r.Status, r.Body)
		}
	})
}

// A logout outlives reloads of the configuration and restarts of Caddy, and works with handlers that came after the login (S-211, S-226).
func TestS226BackchannelLogoutsSurviveReloadsAndRestarts(t *testing.T) {
	restart := func(b *caddyBackchannel, site string) {
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
		if n := len(runningHandlers()); n != 0 {
			t.Errorf("%d handlers outlive their Caddy", n)
		}
		if err := b.c.load(site); err != nil {
			t.Fatal(err)
		}
	}
	reload := func(b *caddyBackchannel, site string) {
		if err := b.c.load(site); err != nil {
			t.Fatal(err)
		}
	}
	for where, settings := range map[string]string{
		"in cookies": "", "sealed with a secret": "session {\nsecret \"" + sessionSecret + "\"\n}", "in the storage": keptWhere["in the storage"],
		"instances that do not share": "refresh_coordination local",
	} {
		for name, again := range map[string]func(*caddyBackchannel, string){"reload": reload, "restart": restart} {
			for by, edit := range map[string]func(optest.Claims){"by sid": optest.BySID("s"), "by sub": optest.BySub("alice")} {
				t.Run(where+" "+name+" "+by, func(t *testing.T) {
					p := optest.New(t)
					site := webapp(p, "", settings) + toUpstream
					b := newCaddyBackchannel(t, p, site)
					victim, other, late := b.signIn("alice", "s", "/"), b.signIn("bob", "t", "/"), b.signIn("bob", "u", "/")
					wantDone(t, b.send(backchannelPath, p.LogoutToken(edit)))
					b.wantSignedIn(false, "/", victim)
					for _, change := range []string{"", "header X-Load 1\n", "header X-Load 2\n"} {
						again(b, change+site)
						b.wantSignedIn(false, "/", victim)
						b.wantSignedIn(true, "/", other, late)
					}
					again(b, webapp(p, "", settings+"\nscope openid email\nclaim_header X-Sub sub\ntimeout 7s")+toUpstream)
					b.wantSignedIn(false, "/", victim)
					wantDone(t, b.send(backchannelPath, p.LogoutToken(optest.BySID("u")))) // of a login that this process has not seen
					b.wantSignedIn(false, "/", victim, late)
					b.wantSignedIn(true, "/", other)
				})
			}
		}
	}
}

// Two handlers of one client, on two hosts, and a third of another provider.
func TestBackchannelLogoutForSeveralHosts(t *testing.T) {
	p, stranger := optest.New(t), optest.New(t)
	for where, settings := range map[string]string{"in cookies": "", "in either": "STORED", "in the storage": keptWhere["in the storage"]} {
		t.Run(where, func(t *testing.T) {
			host := func(name, settings string, p *optest.Provider) string {
				return "http://" + name + ".test:$PORT {\nbind 127.0.0.1\n" + webapp(p, "", strings.Replace(settings, "STORED", "", 1)) + toUpstream + "}\n"
			}
			second := strings.Replace(settings, "STORED", keptWhere["in the storage"], 1)
			c := startCaddy(t, host("a", settings, p)+host("b", second, p)+host("c", settings, stranger))
			_, port, _ := strings.Cut(c.address, ":")
			at := func(name, sub, sid string, p *optest.Provider) *visitor {
				p.SetUser(optest.Claims{"sub": sub})
				p.SetSIDs(func() string { return sid })
				v := newCaddyVisitor(t, c, p)
				v.Resolve(name+".test", c.address)
				v.origin = "http://" + name + ".test:" + port
				c.advance()
				v.signIn("/")
				return v
			}
			p.Resolve("b.test", c.address)
			victims := []*visitor{at("a", "alice", "s", p), at("b", "alice", "s", p)}
			others := []*visitor{at("a", "bob", "t", p), at("b", "bob", "t", p), at("c", "alice", "s", stranger)}
			wantAlive(t, append(victims, others...)...)
			wantDone(t, p.SendLogout(t, victims[1].url(backchannelPath), p.LogoutToken(optest.BySIDAndSub("s", "alice"))))
			wantEnded(t, victims...)
			wantAlive(t, others...)
		})
	}
}
