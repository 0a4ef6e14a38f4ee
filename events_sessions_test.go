package openidconnect

import (
	"errors"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// event is one of this provider and client that a request of this host has caused.
func (b *backchannel) event(name string, data map[string]any) recordedEvent {
	all := map[string]any{
		"issuer": b.p.Issuer(), "client_id": "client", "host": strings.TrimPrefix(b.site.server.URL, "http://"), "request_id": "*",
	}
	maps.Copy(all, data)
	return recordedEvent{name, all}
}

// What happens to the sessions of a user, each of it told once and with all that belongs to it.
func TestEventsOfSessions(t *testing.T) {
	t.Parallel()
	for where, settings := range keptWhere {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			if settings == "" {
				settings = "session {\n}"
			}
			settings = strings.Replace(settings, "session {\n", "session {\nidling_timeout 1h\nabsolute_timeout 2h\n", 1)
			b, _ := newFrontchannel(t, withToken+"claim_header X-Email email\nusername_claim email\nscope openid email\n"+settings, optest.WithEndSession())
			b.p.SetRefreshTokens(true)
			heard := listen(t, b.site)
			login := func(sub, sid string) *visitor {
				t.Helper()
				b.p.SetUser(optest.Claims{"sub": sub, "email": sub + "@example.com"})
				b.p.SetSIDs(func() string { return sid })
				v := newVisitor(t, b.site, b.p)
				v.Now = b.now
				b.site.advance()
				v.signIn("/")
				wantEvents(t, heard, b.event(eventLogin, map[string]any{"subject": sub, "user_id": sub + "@example.com"}))
				return v
			}
			none := func() { t.Helper(); wantEvents(t, heard) }

			v := login("alice", "1")
			v.open("/")
			b.site.advance()
			v.session("/oauth2/session")
			none()

			copied := v.clone()
			v.Navigate(v.url("/oauth2/logout"))
			wantEvents(t, heard, b.event(eventLogout, map[string]any{"by": "user", "subject": "alice", "count": 1}))
			v.Navigate(v.url("/oauth2/logout")) // there is nothing more to end
			none()
			// a copy of the cookie is told of when a page is asked for with it; it was deleted once, in the answer to the logout
			copied.open("/")
			none()

			v = login("alice", "2")
			token := b.p.LogoutToken(optest.BySIDAndSub("2", "alice"))
			b.wantDone(token)
			wantEvents(t, heard, b.event(eventLogout, map[string]any{"by": "backchannel", "subject": "alice", "sid": "2", "count": 1}))
			b.wantDone(token)
			b.wantRefused(b.p.LogoutToken(), "missing_claim")
			none()
			v.open("/")
			wantEvents(t, heard, b.event(eventSessionEnded, map[string]any{"reason": "session_revoked", "subject": "alice"}))
			v.open("/")
			none() // once

			b.pass(2 * time.Second)
			login("alice", "3")
			b.frame(b.named("unknown"))
			b.frame(namedBy("https://evil.example", "3"))
			none()
			b.frame(b.named("3"))
			wantEvents(t, heard, b.event(eventLogout, map[string]any{"by": "frontchannel", "subject": "", "sid": "3", "count": 1}))

			b.pass(2 * time.Second)
			v = login("alice", "4")
			b.p.RevokeRefreshTokens()
			b.pass(tokenLife)
			v.open("/")
			b.site.settle()
			got := heard.take()
			if len(got) != 1 || got[0].name != eventSessionEnded || got[0].data["reason"] != "refresh_rejected" || got[0].data["subject"] != "alice" ||
				got[0].data["issuer"] != b.p.Issuer() || got[0].data["client_id"] != "client" {
				t.Errorf("a renewal that is refused: %v", got)
			}
			v.open("/")
			none()
			wantNoSecrets(t, heard, b.p, cookieHeader(v), cookieHeader(copied))
		})
	}
}

// The clocks of a session end it when somebody comes back too late.
func TestEventsOfSessionsThatExpire(t *testing.T) {
	t.Parallel()
	b := newBackchannel(t, "session {\nidling_timeout 30m\nabsolute_timeout 1h\n}")
	heard := listen(t, b.site)
	idle := b.signIn("alice", "1")
	heard.take()
	b.pass(31 * time.Minute)
	idle.wantSession(false)
	wantEvents(t, heard) // a script cannot drop the cookie
	idle.open("/")
	wantEvents(t, heard, b.event(eventSessionEnded, map[string]any{"reason": "session_idle", "subject": "alice"}))
	old := b.signIn("bob", "2")
	heard.take()
	for range 3 {
		b.pass(20*time.Minute - time.Second)
		old.open("/")
	}
	wantEvents(t, heard)
	cookie := "Cookie: " + cookieHeader(old) // which a browser would not send any more
	b.pass(time.Minute)
	old.open("/", cookie)
	wantEvents(t, heard, b.event(eventSessionEnded, map[string]any{"reason": "session_expired", "subject": "bob"}))
	stranger := newVisitor(t, b.site, b.p)
	stranger.Get(stranger.url("/"), append([]string{cookie + "x"}, typed...)...)
	wantEvents(t, heard) // what anybody can send
}

// A rule that refuses somebody who is known is told of; what strangers can cause is not.
func TestEventsOfDenials(t *testing.T) {
	t.Parallel()
	b := newBackchannel(t, "audience api\ndenied_claim sub mallory\nrequired_scopes openid")
	heard := listen(t, b.site)
	b.p.SetUser(optest.Claims{"sub": "mallory", "email": "mallory@example.com"})
	v := newVisitor(t, b.site, b.p)
	v.Now = b.now
	if r := v.Navigate(v.url("/")); r.Status != http.StatusForbidden {
		t.Fatalf("got %d", r.Status)
	}
	denied := map[string]any{"reason": "claim_denied", "method": "session", "account": "*"}
	wantEvents(t, heard, b.event(eventLogin, map[string]any{"subject": "mallory", "user_id": "mallory"}), b.event(eventDenied, denied))
	v.Get(v.url("/data"), "Accept: application/json")
	wantEvents(t, heard, b.event(eventDenied, denied))

	b.site.refuses(b.p.AccessToken(optest.Claims{"sub": "mallory", "scope": "openid"}), http.StatusForbidden, "claim_denied")
	b.site.refuses(b.p.AccessToken(optest.Claims{"scope": "other"}), http.StatusForbidden, "insufficient_scope")
	got := heard.take()
	if len(got) != 2 {
		t.Fatalf("%d events of bearer tokens: %v", len(got), got)
	}
	for i, reason := range []string{"claim_denied", "insufficient_scope"} {
		if got[i].name != eventDenied || got[i].data["reason"] != reason || got[i].data["method"] != "bearer" || got[i].data["issuer"] != b.p.Issuer() {
			t.Errorf("got %s %v", got[i].name, got[i].data)
		}
	}

	stranger := newVisitor(t, b.site, b.p)
	stranger.Get(stranger.url("/"), "Accept: application/json")
	stranger.open("/")
	stranger.Submit("https://evil.example/", stranger.url("/oauth2/login"), nil)
	stranger.Submit("https://evil.example/", stranger.url("/oauth2/logout"), nil)
	b.site.refuses(b.p.AccessToken(optest.Claims{"aud": "other"}), http.StatusUnauthorized, "wrong_audience")
	b.site.refuses("rubbish", http.StatusUnauthorized, "inactive")
	request := stranger.begin("/")
	stranger.arrive(request, map[string][]string{"error": {"access_denied"}, "state": request["state"]})
	wantEvents(t, heard)
}

// A listener that fails, or even panics, harms nobody.
func TestEventsWhoseListenersFail(t *testing.T) {
	t.Parallel()
	for name, misdo := range map[string]func() error{
		"an error": func() error { return errors.New("the listener is on strike") },
		"aborted":  func() error { return caddy.ErrEventAborted },
		"a panic":  func() error { panic("the listener has fallen over") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := newFrontchannel(t, "denied_claim sub mallory", optest.WithEndSession())
			heard := listen(t, b.site)
			heard.misbehave(misdo)
			alice, bob, carol := b.signIn("alice", "1"), b.signIn("bob", "2"), b.signIn("carol", "3")
			b.wantDone(b.p.LogoutToken(optest.BySID("1")))
			wantEnded(t, alice)
			b.frame(b.named("2"))
			wantEnded(t, bob)
			if r := carol.Navigate(carol.url("/oauth2/logout")); r.Status != http.StatusOK {
				t.Errorf("a logout got %d", r.Status)
			}
			wantEnded(t, carol)
			if n := len(heard.all(eventLogin)); n != 3 {
				t.Errorf("%d logins", n)
			}
			if n := len(heard.all(eventLogout)); n != 3 {
				t.Errorf("%d logouts", n)
			}
		})
	}
}
