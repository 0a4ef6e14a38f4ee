package openidconnect

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

// When a session is renewed, by what the provider says of its access tokens and by what is configured.
func TestWhenSessionsAreRenewed(t *testing.T) {
	t.Parallel()
	const s, m, h = time.Second, time.Minute, time.Hour
	expiresIn := func(value any) func(p *optest.Provider) {
		return func(p *optest.Provider) {
			p.SetOpaqueAccessTokens(true)
			p.SetTokenResponse(func(answer map[string]any) { answer["expires_in"] = value })
		}
	}
	lives := func(d time.Duration) func(p *optest.Provider) {
		return func(p *optest.Provider) { p.SetAccessLifetime(d) }
	}
	silent := func(opaque bool) func(p *optest.Provider) {
		return func(p *optest.Provider) {
			p.SetOpaqueAccessTokens(opaque)
			p.SetOmitExpiresIn(true)
		}
	}
	for name, test := range map[string]struct {
		settings string
		provider func(p *optest.Provider)
		due      time.Duration // 0: never
	}{
		"by default, 30s ahead":                             {"", lives(5 * m), 5*m - 30*s},
		"of an hour":                                        {"", lives(h), h - 30*s},
		"of a minute, a fifth ahead":                        {"", lives(m), m - 12*s},
		"of ten seconds":                                    {"", lives(10 * s), 8 * s},
		"of two and a half minutes":                         {"", lives(150 * s), 2 * m},
		"a leeway of a minute":                              {"access_token_expires_leeway 1m", lives(5 * m), 4 * m},
		"no leeway":                                         {"access_token_expires_leeway 0", lives(5 * m), 5 * m},
		"a leeway longer than the life, of which half":      {"access_token_expires_leeway 1h", lives(5 * m), 150 * s},
		"a leeway as long as the life":                      {"access_token_expires_leeway 10s", lives(10 * s), 5 * s},
		"a leeway of half":                                  {"access_token_expires_leeway 150s", lives(5 * m), 150 * s},
		"by exp alone":                                      {"", silent(false), 5*m - 30*s},
		"by exp, which is stated":                           {"access_token_expires_in 1h", silent(false), 5*m - 30*s},
		"nothing stated":                                    {"", silent(true), 0},
		"nothing stated but by us":                          {"access_token_expires_in 10m", silent(true), 10*m - 30*s},
		"stated, whatever we say":                           {"access_token_expires_in 10m", expiresIn(120), 2*m - 24*s},
		"in a string":                                       {"", expiresIn("120"), 2*m - 24*s},
		"with a fraction":                                   {"", expiresIn(120.5), 120*s + 500*time.Millisecond - 24*s - 100*time.Millisecond},
		"of nothing":                                        {"", expiresIn(0), 5*m - 30*s},
		"of less":                                           {"", expiresIn(-3600), 5*m - 30*s},
		"of centuries":                                      {"", expiresIn(1e15), 5*m - 30*s},
		"in words":                                          {"", expiresIn("an hour"), 5*m - 30*s},
		"null, as if it were not there":                     {"access_token_expires_in 10m", expiresIn(nil), 10*m - 30*s},
		"at the interval, the token lives":                  {"refresh_session_interval 10m", lives(h), 10 * m},
		"at the interval, the token's end is not known":     {"refresh_session_interval 10m", silent(true), 10 * m},
		"before the interval, the token ends":               {"refresh_session_interval 10m", lives(5 * m), 5*m - 30*s},
		"an interval of 0 is none":                          {"refresh_session_interval 0", silent(true), 0},
		"with an interval, a leeway":                        {"refresh_session_interval 10m\naccess_token_expires_leeway 1m", lives(10*m + 30*s), 570 * s},
		"not at all":                                        {"renew_access_token_on_expiry off", lives(5 * m), 0},
		"nor for the sake of a header with the token":       {"renew_access_token_on_expiry off\nset_refresh_token_header", lives(5 * m), 0},
		"where the access token is passed on, just as well": {withToken, lives(5 * m), 5*m - 30*s},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			p.SetRefreshTokens(true)
			test.provider(p)
			r := newRenewingAt(t, newLoginSite(t, p, "refresh_coordination local\n"+test.settings), p)
			// exp is in whole seconds of the provider's clock, which is a little ahead
			const tolerance = 3 * s
			if test.due == 0 {
				for range 20 {
					r.pass(time.Hour)
					r.wantServed(0)
				}
				return
			}
			for n := range 3 {
				r.pass(test.due - tolerance)
				r.wantServed(n)
				r.pass(2 * tolerance)
				r.wantServed(n + 1)
			}
		})
	}
}

// To the millisecond: a token that has just been granted is never due, one within its leeway always is.
func TestDue(t *testing.T) {
	t.Parallel()
	now := time.Now()
	granted := func(life time.Duration) *session.Session {
		return &session.Session{Created: now.Add(-time.Hour), Renewed: now, AccessExpires: now.Add(life), RefreshToken: "r"}
	}
	for life := time.Millisecond; life < 1000*time.Hour; life *= 3 {
		for _, leeway := range []time.Duration{-1, 0, time.Millisecond, time.Second, time.Minute, time.Hour, 1000 * time.Hour} {
			policy := refreshPolicy{enabled: true, leeway: leeway}
			sess := granted(life)
			if policy.isDue(sess, now) {
				t.Errorf("with a life of %s and a leeway of %s it is due at once", life, leeway)
			}
			if !policy.isDue(sess, now.Add(life)) {
				t.Errorf("with a life of %s and a leeway of %s it is not due when it has expired", life, leeway)
			}
			due := life - policy.leewayOf(sess)
			if policy.isDue(sess, now.Add(due-1)) || !policy.isDue(sess, now.Add(due)) {
				t.Errorf("with a life of %s and a leeway of %s it is not due after %s", life, leeway, due)
			}
			if due < life/2 || leeway >= 0 && due < life-leeway || leeway < 0 && (due < life-defaultLeeway || due < life*4/5) {
				t.Errorf("with a life of %s and a leeway of %s it is due after %s", life, leeway, due)
			}
		}
	}
	for name, test := range map[string]struct {
		policy refreshPolicy
		sess   session.Session
		want   bool
	}{
		"as it should be":            {refreshPolicy{enabled: true, leeway: -1}, session.Session{RefreshToken: "r", Renewed: now.Add(-time.Hour), AccessExpires: now}, true},
		"switched off":               {refreshPolicy{leeway: -1}, session.Session{RefreshToken: "r", Renewed: now.Add(-time.Hour), AccessExpires: now}, false},
		"without a refresh token":    {refreshPolicy{enabled: true, leeway: -1}, session.Session{Renewed: now.Add(-time.Hour), AccessExpires: now}, false},
		"of an earlier version":      {refreshPolicy{enabled: true, leeway: -1}, session.Session{RefreshToken: "r", Created: now.Add(-time.Hour), AccessExpires: now.Add(29 * time.Second)}, true},
		"and its interval":           {refreshPolicy{enabled: true, interval: time.Hour}, session.Session{RefreshToken: "r", Created: now.Add(-time.Hour)}, true},
		"which is not over":          {refreshPolicy{enabled: true, interval: time.Hour}, session.Session{RefreshToken: "r", Created: now.Add(-time.Hour + 1)}, false},
		"an end before its granting": {refreshPolicy{enabled: true, leeway: -1}, session.Session{RefreshToken: "r", Renewed: now, AccessExpires: now.Add(-time.Hour)}, true},
	} {
		if got := test.policy.isDue(&test.sess, now); got != test.want {
			t.Errorf("%s: due %t", name, got)
		}
	}
}

// An access token that has expired never gets upstream, renewal or not.
func TestExpiredAccessTokensStayHere(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings string
		tokens   bool // the provider gives refresh tokens
		signedIn bool // when the access token has expired
	}{
		"passed on, renewed":                           {withToken, true, true},
		"passed on, without a refresh token":           {withToken, false, false},
		"passed on, not renewed":                       {withToken + "renew_access_token_on_expiry off", true, false},
		"as Authorization, without a refresh token":    {"access_token_in_authorization_header", false, false},
		"kept back, without a refresh token":           {"", false, true},
		"kept back, not renewed":                       {"renew_access_token_on_expiry off", true, true},
		"kept back, though kept, without a renewal":    {"session_contents access_token user id_token\nrenew_access_token_on_expiry off", true, true},
		"the refresh token alone is passed on, no use": {"set_refresh_token_header\nrenew_access_token_on_expiry off", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			p.SetRefreshTokens(test.tokens)
			r := newRenewingAt(t, newLoginSite(t, p, "refresh_coordination local\n"+test.settings), p)
			r.pass(tokenLife - time.Second)
			if got := r.ask(); got.Status != http.StatusOK {
				t.Fatalf("before: got %d (%s)", got.Status, got.reason)
			}
			r.pass(time.Second)
			if test.signedIn {
				if got := r.ask(); got.Status != http.StatusOK {
					t.Errorf("got %d (%s)", got.Status, got.reason)
				}
				return
			}
			r.wantAnonymous()
			if p.RefreshAttempts() != 0 {
				t.Error("the provider was asked")
			}
		})
	}
}
