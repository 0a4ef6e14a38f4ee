package openidconnect

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// The provider's page with its frames, as somebody sees it who logs out at another site (C-090).
func TestC090FramesOfTheProvider(t *testing.T) {
	t.Parallel()
	for where, settings := range keptWhere {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t, optest.WithEndSession())
			with := func(name string) string {
				if settings == "" {
					return frontchannelOn + "session {\ncookie_name " + name + "\n}"
				}
				return frontchannelOn + strings.Replace(settings, "storage caddy", "storage caddy\ncookie_name "+name, 1)
			}
			b := newBackchannelAt(t, p, newLoginSite(t, p, with("one")))
			another := b.at(newLoginSite(t, p, with("two")))
			p.SetFrontchannelLogoutURI(b.frontchannelURL("x=y"), strings.TrimSuffix(another.frontchannelURL(""), "?"))
			first := b.signIn("alice", "s")
			second := first.at(another.site)
			another.site.advance()
			second.signIn("/")
			other := b.signIn("bob", "t")
			bystander := other.clone()
			landed := first.Navigate(first.url("/oauth2/logout"))
			var frames []*optest.Response
			for _, step := range first.Steps {
				if strings.Contains(step.URL, endpointFrontchannelLogout) {
					frames = append(frames, &optest.Response{Status: step.Status})
				}
			}
			if len(frames) != 2 || frames[0].Status != http.StatusOK || frames[1].Status != http.StatusOK {
				t.Fatalf("landed on %s with %d; the frames got %+v", landed.URL, landed.Status, frames)
			}
			wantEnded(t, first)
			second.wantSession(false)
			wantAlive(t, bystander)
		})
	}
}

// A frame never has tokens revoked: anybody can have it loaded. Nor does it call the provider for anything else (S-228).
func TestS228FramesRevokeNoTokens(t *testing.T) {
	t.Parallel()
	for where, settings := range keptWhere {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			b, _ := newFrontchannel(t, withToken+"revoke_tokens_on_logout\n"+settings, optest.WithRevocation(), optest.WithEndSession())
			b.p.SetRefreshTokens(true)
			byUser, victim := b.signIn("bob", "t"), b.signIn("alice", "s")
			byUser.Navigate(byUser.url("/oauth2/logout"))
			revoked := len(b.p.Revocations())
			if revoked == 0 {
				t.Fatal("not even a user's logout has tokens revoked")
			}
			before, sent := hitsOf(b.p), b.p.Hits(optest.EndSession)
			b.frame(b.named("s"))
			b.framedBy(victim.clone().Browser, b.named("s"))
			wantEnded(t, victim)
			b.site.settle()
			wantHits(t, b.p, before, hits{})
			if n := len(b.p.Revocations()); n != revoked || b.p.Hits(optest.EndSession) != sent {
				t.Errorf("%d tokens were revoked by a frame", n-revoked)
			}
		})
	}
}

// Frames reach any instance; what they need to know of a session all of them do, with sessions in cookies as in a storage.
func TestFramesReachAnyInstance(t *testing.T) {
	t.Parallel()
	for where, settings := range keptWhere {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			a, b, storage := newBackchannels(t, frontchannelOn+settings)
			victim, other, third := a.signIn("alice", "s"), a.signIn("bob", "t"), a.signIn("carol", "u")
			a.site.settle()
			if n := b.site.remembered(); n != 0 {
				t.Fatalf("the other instance remembers %d sessions that it has not seen", n)
			}
			b.frame(b.named("s"))
			wantEnded(t, victim.at(b.site))
			a.pass(learnedWithin)
			wantEnded(t, victim)
			wantAlive(t, other, other.at(b.site))

			// an instance that was started later, and knows of no session at all
			c := a.at(a.separate(newSiteOn(t, storage, a.p, sealedWithSecret(frontchannelOn+settings+"\ntimeout 5002ms"))))
			c.frame(c.named("t"))
			wantEnded(t, other.at(c.site), victim.at(c.site))
			wantAlive(t, third.at(c.site))
			a.pass(learnedWithin)
			wantEnded(t, other, other.at(b.site))
			wantAlive(t, third, third.at(b.site))
		})
	}
}

// The names of sessions that anybody makes up take no room, whatever their number (S-228).
func TestS228MadeUpSessionsTakeNoRoom(t *testing.T) {
	t.Parallel()
	for where, frames := range map[string]int{"in cookies": 10_000, "in the storage": 2_000} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			b, storage := newFrontchannel(t, keptWhere[where])
			victim := b.signIn("alice", "s")
			b.wantNoTrace(t, storage, func() {
				for n := range frames {
					// without a connection, for there are many of them
					w := httptest.NewRecorder()
					b.site.ServeHTTP(w, httptest.NewRequest(http.MethodGet, b.frontchannelURL(b.named(fmt.Sprint("made-up-", n))), nil))
					if w.Code != http.StatusOK {
						t.Fatalf("a frame got %d", w.Code)
					}
				}
			}, victim)
			b.frame(b.named("s"))
			wantEnded(t, victim)
		})
	}
}

// A session is known for as long as it lives, and no longer.
func TestFramesAndTheEndOfSessions(t *testing.T) {
	t.Parallel()
	b, _ := newFrontchannel(t, "session {\nabsolute_timeout 1h\n}")
	b.separate(b.site)
	first := b.signIn("alice", "s")
	b.site.settle()
	b.pass(59 * time.Minute)
	wantAlive(t, first)
	b.frame(b.named("s"))
	wantEnded(t, first)
	b.signIn("bob", "t")
	if n := b.site.remembered(); n != 2 {
		t.Errorf("%d names are remembered of two sessions", n)
	}
	b.pass(2 * time.Hour)
	last := b.signIn("carol", "u") // which sweeps
	if n := b.site.remembered(); n != 1 {
		t.Errorf("%d names are remembered when one session lives", n)
	}
	wantAlive(t, last)
}

// The issuer that a frame names is the provider's, known or not yet.
func TestIssuersOfFrames(t *testing.T) {
	t.Parallel()
	t.Run("tenants", func(t *testing.T) {
		t.Parallel()
		p := optest.New(t)
		p.SetMetadata(func(m map[string]any) { m["issuer"] = p.URL() + "/{tenantid}/v2.0" })
		at := func(tenant string) string { return p.URL() + "/" + tenant + "/v2.0" }
		p.SetIDTokenClaims(func(claims optest.Claims) { claims["iss"], claims["tid"] = at("ours"), "ours" })
		b := newBackchannelAt(t, p, newDiscoveredSite(t, p, frontchannelOn+"tenants ours"))
		victim := b.signIn("alice", "s")
		for _, issuer := range []string{at("theirs"), at("{tenantid}"), p.Issuer(), p.Endpoint(optest.Discovery)} {
			b.wantUntouched(func() { b.frame(namedBy(issuer, "s")) }, victim)
		}
		b.frame(namedBy(at("ours"), "s"))
		wantEnded(t, victim)
	})
	t.Run("before the provider has been reached", func(t *testing.T) {
		t.Parallel()
		a, _, storage := newBackchannels(t, frontchannelOn)
		victim := a.signIn("alice", "s")
		a.site.settle()
		a.p.Down()
		c := a.at(a.separate(newSiteOn(t, storage, a.p, sealedWithSecret(frontchannelOn+"timeout 5002ms"))))
		c.wantUntouched(func() { c.frame(namedBy("https://evil.example", "s")) }, victim.at(c.site))
		c.frame(c.named("s"))
		wantEndedOffline(t, victim.at(c.site))
		a.p.Up()
	})
}

// wantEndedOffline is wantEnded while no login can be started.
func wantEndedOffline(t testing.TB, v *visitor) {
	t.Helper()
	v.in(t).wantSession(false)
}

// While the storage fails a frame gets the same answer, and what this instance has seen is ended here.
func TestFramesWhileTheStorageFails(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	storage := newBrokenStorage(t)
	b := newBackchannelAt(t, p, newSiteOn(t, storage, p, sealedWithSecret(frontchannelOn)))
	victim, other := b.signIn("alice", "s"), b.signIn("bob", "t")
	b.site.settle()
	storage.broken.Store(true)
	b.wantUntouched(func() { b.frame(b.named("unknown")) }, victim, other)
	framed := make(chan *optest.Response, 1)
	go func() { framed <- optest.NewBrowser(t).Frame(framing, b.frontchannelURL(b.named("s"))) }()
	waitUntil(t, func() bool { return b.site.listed() == 1 })
	wantEnded(t, victim)
	storage.broken.Store(false)
	wantFramed(t, <-framed)
	wantAlive(t, other)
}

// What a site says of all its pages does not keep the provider from framing this one.
func TestFramesInACaddyThatForbidsThem(t *testing.T) {
	p := optest.New(t)
	const forbidden = "header X-Frame-Options DENY\nheader Content-Security-Policy \"frame-ancestors 'none'\"\n"
	b := newCaddyBackchannel(t, p, forbidden+webapp(p, "/app/*", frontchannelOn)+toUpstream)
	victim, other := b.signIn("alice", "s", "/app/"), b.signIn("bob", "t", "/app/")
	if r := victim.Get(victim.url("/")); r.FramableBy(framing) {
		t.Error("the site can be framed")
	}
	get := func(query string) *optest.Response {
		return optest.NewBrowser(t).Frame(framing, b.c.url("/oauth2/frontchannel-logout?"+query))
	}
	for _, query := range []string{"", namedBy(p.Issuer(), "unknown"), namedBy("x", "s")} {
		if r := get(query); r.Status != http.StatusOK || !r.FramableBy(framing) {
			t.Errorf("got %d, %v", r.Status, r.Header)
		}
	}
	b.wantSignedIn(true, "/app/", victim, other)
	if r := get(namedBy(p.Issuer(), "s")); r.Status != http.StatusOK || !r.FramableBy(framing) || r.Body != frontchannelPage {
		t.Errorf("got %d, %v", r.Status, r.Header)
	}
	b.wantSignedIn(false, "/app/", victim)
	b.wantSignedIn(true, "/app/", other)
	response := exchange(t, b.c.address, "GET /oauth2/frontchannel-logout HTTP/1.0\r\nHost: x\r\n\r\n") // an old client
	if response.StatusCode != http.StatusOK {
		t.Errorf("got %d", response.StatusCode)
	}
}
