package openidconnect

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Whoever signs in again has a session, whatever the provider calls it, and a token that is sent once more does not end it (C-079, C-086).
func TestSessionsAfterALogout(t *testing.T) {
	t.Parallel()
	for where, settings := range keptWhere {
		for name, edit := range map[string]func(optest.Claims){
			"by sid": optest.BySID("s"), "by sub": optest.BySub("alice"), "by both": optest.BySIDAndSub("s", "alice"),
		} {
			t.Run(where+" "+name, func(t *testing.T) {
				t.Parallel()
				b := newBackchannel(t, settings)
				first := b.signIn("alice", "s")
				token := b.p.LogoutToken(edit)
				b.wantDone(token)
				wantEnded(t, first)
				b.pass(2 * time.Second)
				again := first.clone()
				again.Navigate(again.url("/")) // the cookie of the dead one is replaced
				again.upstream.advance()
				wantAlive(t, again)
				another := b.signIn("alice", "s")
				for range 3 {
					b.wantDone(token)
					b.wantDone(token)
					wantAlive(t, again, another)
					wantEnded(t, first)
					b.pass(20 * time.Second)
				}
				b.pass(2 * time.Minute) // by now the token has expired
				b.wantRefused(token, "expired")
				wantAlive(t, again, another)
				b.wantDone(b.p.LogoutToken(edit))
				wantEnded(t, first, again, another)
			})
		}
	}
}

// A token that was refused is not taken for one that has been carried out, and a stranger cannot use up a jti.
func TestRefusedTokensAreNotRemembered(t *testing.T) {
	t.Parallel()
	b := newBackchannel(t, "")
	victim := b.signIn("alice", "s")
	jti := set("jti", "1")
	b.wantUntouched(func() {
		b.wantRefused(optest.Sign(optest.NewKey(t, "RS256", "rs-1"), optest.Claims{"kid": "rs-1"}, b.p.LogoutClaims(optest.BySID("s"), jti)), "bad_signature")
		b.wantRefused(b.p.LogoutToken(optest.BySID("s"), jti, set("nonce", "n")), "wrong_token_type")
		b.wantRefused(b.p.LogoutToken(optest.BySID("s"), jti, set("aud", "x")), "wrong_audience")
	}, victim)
	b.wantDone(b.p.LogoutToken(optest.BySID("s"), jti))
	wantEnded(t, victim)
}

// A sid is any text, and two of them are the same if they are so to the letter (C-088).
func TestC088OddSIDs(t *testing.T) {
	t.Parallel()
	var printable strings.Builder
	for c := byte(' '); c <= '~'; c++ {
		printable.WriteByte(c)
	}
	sids := []string{
		"s", "S", " s", "s ", "s s", "s\ts", "s\ns", "s\x01s", "s/s", "../s", `"s"`, `\s`, "'s'", "<s>", "{s}", "{http.request.host}", "%73", "s%20s", "s+s",
		"s.1", "s,1", "s;1", "0", "-1", "null", "true", "[]", "s?x=y", "s#x", "s:s", "*", "$", "ß", "ss", "é", "e\u0301", "日本", "🙂", "\u202es",
		"https://id.example/session?id=1&x=2", printable.String(), strings.Repeat("a", 255), strings.Repeat("a", 254) + "b", strings.Repeat("é", 127),
		strings.Repeat("long", 500),
	}
	for where, settings := range keptWhere {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			b := newBackchannel(t, settings)
			people := make([]*visitor, len(sids))
			for i, sid := range sids {
				people[i] = b.signIn("alice", sid)
			}
			for i, sid := range sids {
				wantAlive(t, people[i]) // whoever has been logged out before
				b.wantDone(b.p.LogoutToken(optest.BySID(sid)))
				people[i].wantSession(false)
			}
		})
	}
}

// No copy of a session's cookie opens anything after the logout: not an old one of the grace time, nor the newest (S-211).
func TestS211LogoutEndsAllGenerations(t *testing.T) {
	t.Parallel()
	for where, settings := range keptWhere {
		for name, edit := range map[string]func(optest.Claims){"by sid": optest.BySID("s"), "by sub": optest.BySub("alice")} {
			t.Run(where+" "+name, func(t *testing.T) {
				t.Parallel()
				b := newBackchannel(t, withToken+settings)
				b.p.SetRefreshTokens(true)
				v := b.signIn("alice", "s")
				r := &renewing{v, b.timeline}
				oldest := r.cookie()
				cookies := []string{oldest}
				for n := range 2 {
					b.pass(tokenDue + time.Second)
					r.wantServed(n + 1)
					b.site.settle()
					if now := r.cookie(); now != oldest {
						cookies = append(cookies, now)
					}
				}
				previous := cookies[max(0, len(cookies)-2)]
				if late := r.wantServed(2, "Cookie: "+previous); late.token == "" {
					t.Error("the grace result has no token")
				}
				b.wantDone(b.p.LogoutToken(edit))
				for _, cookie := range cookies {
					r.wantAnonymous("Cookie: " + cookie)
				}
				b.pass(tokenLife)
				for _, cookie := range cookies {
					r.wantAnonymous("Cookie: " + cookie)
				}
				if n := b.p.RefreshAttempts(); n != 2 {
					t.Errorf("%d attempts to renew, want none after the logout", n)
				}
			})
		}
	}
}

// A renewal that is under way when the logout arrives does not bring the session back.
func TestLogoutTokenDuringARenewal(t *testing.T) {
	t.Parallel()
	for where, settings := range keptWhere {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			b := newBackchannel(t, withToken+settings)
			b.p.SetRefreshTokens(true)
			r := &renewing{b.signIn("alice", "s"), b.timeline}
			old := r.cookie()
			b.pass(tokenLife)
			held := make(chan struct{})
			b.p.FailRefresh(optest.Fault{Wait: held})
			hits := b.p.Hits(optest.Token)
			late := make(chan served, 1)
			go func() { late <- r.clone().ask() }()
			b.p.WaitForHits(t, optest.Token, hits+1)
			b.wantDone(b.p.LogoutToken(optest.BySID("s")))
			close(held)
			got := <-late
			b.site.settle()
			b.p.HealRefresh()
			r.wantAnonymous("Cookie: " + old)
			if got.set != "" {
				r.wantAnonymous("Cookie: " + got.set)
			}
			b.pass(tokenLife)
			r.wantAnonymous("Cookie: " + old)
		})
	}
}

// An answer that was under way when the logout arrived sets no cookie that works.
func TestLogoutTokenDuringAnAnswer(t *testing.T) {
	t.Parallel()
	b := newBackchannel(t, "session {\nreissue_interval 1m\n}")
	v := b.signIn("alice", "s")
	b.pass(2 * time.Minute)
	held, there := make(chan struct{}), make(chan struct{})
	b.site.answer(func(w http.ResponseWriter, r *http.Request) {
		close(there)
		<-held
		w.WriteHeader(http.StatusOK)
	})
	answered := make(chan *optest.Response, 1)
	go func() { answered <- v.clone().Get(v.url("/slow"), "Accept: application/json") }()
	<-there
	b.wantDone(b.p.LogoutToken(optest.BySID("s")))
	close(held)
	if got := <-answered; len(sessionsIn(got)) != 0 {
		t.Errorf("a late answer sets %q", sessionsIn(got))
	}
	b.site.answer(nil)
	wantEnded(t, v)
}
