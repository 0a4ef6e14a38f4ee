package openidconnect

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// What the provider refuses ends the session: a login for a page, a 401 for a script, after one attempt, and nobody sees a 5xx.
func TestS194RefusedRefreshTokens(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]optest.Fault{
		"invalid_grant":            {Status: 400, Body: []byte(`{"error":"invalid_grant"}`)},
		"invalid_grant with 401":   {Status: 401, Body: []byte(`{"error":"invalid_grant"}`)},
		"invalid_grant with 200":   {Status: 200, Body: []byte(`{"error":"invalid_grant"}`)},
		"invalid_client":           {Status: 401, Body: []byte(`{"error":"invalid_client"}`)},
		"401 without a word":       {Status: 401},
		"unauthorized_client":      {Status: 400, Body: []byte(`{"error":"unauthorized_client"}`)},
		"in words of its own":      {Status: 400, Body: []byte(`{"error":"bad_request","error_description":"Refresh token has expired"}`)},
		"in plain text":            {Status: 403, Body: []byte("The refresh token was revoked.")},
		"interaction_required":     {Status: 400, Body: []byte(`{"error":"interaction_required"}`)},
		"invalid_grant, page-like": {Status: 400, Body: []byte(`{"error":"invalid_grant","error_description":"<h1>Session not active</h1>"}`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRenewing(t, withToken)
			r.pass(tokenLife)
			r.wantServed(1) // so it can be renewed
			r.provider.FailRefresh(fault)
			r.pass(tokenLife)
			script := r.clone()
			r.wantRefusal(script.ask().Response, http.StatusUnauthorized, "no_credentials")
			answer := r.open("/page")
			r.wantLogin(answer)
			if n := len(r.kept(isSessionName)); n != 0 {
				t.Errorf("%d cookies of the session are left", n)
			}
			for range 5 {
				script.wantAnonymous() // whose cookie is the same still
			}
			if n := r.provider.RefreshAttempts(); n != 2 {
				t.Errorf("%d attempts, want the one that went well and one", n)
			}
			r.site.logged(zapcore.InfoLevel, "session ended", map[string]string{"reason": "refresh_rejected", "issuer": r.provider.Issuer()})
			if n := r.site.lines("session ended"); n != 1 {
				t.Errorf("%d lines about it, want 1", n)
			}
			if n := r.site.counted("rejected"); n != 1 {
				t.Errorf("%v renewals are counted as rejected", n)
			}
			r.provider.HealRefresh()
			r.signIn("/page") // a clean login, which no loop breaker minds
			r.pass(tokenLife)
			if got := r.ask(); got.Status != http.StatusOK || r.provider.RefreshGrants() != 2 {
				t.Errorf("the new session: got %d (%s) after %d grants", got.Status, got.reason, r.provider.RefreshGrants())
			}
		})
	}
}

// passing are failures that say nothing of the session.
func passing() map[string]optest.Fault {
	return map[string]optest.Fault{
		"500":                      {Status: 500},
		"502 with a page":          {Status: 502, Body: []byte("<html><h1>Bad Gateway</h1></html>"), Header: http.Header{"Content-Type": {"text/html"}}},
		"503":                      {Status: 503},
		"504":                      {Status: 504, Body: []byte("upstream timed out")},
		"429":                      {Status: 429, Body: []byte(`{"error":"slow_down"}`)},
		"server_error with 400":    {Status: 400, Body: []byte(`{"error":"server_error"}`)},
		"a page with 200":          {Status: 200, Body: []byte("<html>Maintenance</html>"), Header: http.Header{"Content-Type": {"text/html"}}},
		"no JSON with 200":         {Status: 200, Body: []byte("{")},
		"no access token":          {Status: 200, Body: []byte(`{"token_type":"Bearer","expires_in":300}`)},
		"a token of another type":  {Status: 200, Body: []byte(`{"access_token":"a","token_type":"mac"}`)},
		"a page with 403":          {Status: 403, Body: []byte("<html>blocked by the firewall</html>"), Header: http.Header{"Content-Type": {"text/html"}}},
		"404":                      {Status: 404},
		"a redirect":               {Redirect: "https://id.example.com/elsewhere"},
		"a connection that closes": {Drop: true},
		"no answer":                {Hang: true}, // but for the timeout
		"an endless answer":        {Endless: true, Body: []byte(" ")},
	}
}

// While the provider has trouble nobody is logged out. Who needs a token that lives gets one for as long as there is one, then an answer that
// says when to come back; all others notice nothing. When the trouble is over it goes on as if nothing had been.
func TestS195PassingFailures(t *testing.T) {
	t.Parallel()
	for name, fault := range passing() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const settings = "timeout 400ms\n"
			for _, passesOn := range []bool{true, false} {
				with := settings
				if passesOn {
					with += withToken
				}
				r := newRenewing(t, with)
				first := r.wantServed(0)
				r.provider.FailRefresh(fault)
				r.pass(tokenDue)
				if got := r.ask(); got.Status != http.StatusOK || got.token != first.token || got.set != "" {
					t.Errorf("while the token lives: got %d (%s), Set-Cookie %q", got.Status, got.reason, got.Header.Values("Set-Cookie"))
				}
				r.pass(defaultLeeway)
				if passesOn {
					r.wantUnavailable()
				} else if got := r.ask(); got.Status != http.StatusOK {
					t.Errorf("after its end: got %d (%s)", got.Status, got.reason)
				}
				if n := r.provider.RefreshGrants(); n != 0 {
					t.Fatalf("%d grants", n)
				}
				r.provider.HealRefresh()
				old := "Cookie: " + r.cookie()
				r.pass(maxPause)
				waitUntil(t, func() bool { // the last attempt may still be under way
					r.ask(old)
					return r.site.lines("session renewed") > 0
				})
				got := r.ask(old)
				if got.Status != http.StatusOK || got.set == "" || passesOn && got.token == first.token {
					t.Errorf("afterwards: got %d (%s), Set-Cookie %q", got.Status, got.reason, got.Header.Values("Set-Cookie"))
				}
				if n := r.provider.RefreshGrants(); n != 1 {
					t.Errorf("%d grants afterwards", n)
				}
				if n := r.site.lines("session ended"); n != 0 {
					t.Errorf("%d lines about an end", n)
				}
				if passed, well := r.site.counted("unavailable"), r.site.counted("succeeded"); passed == 0 || well != 1 {
					t.Errorf("%v unavailable and %v succeeded are counted", passed, well)
				}
			}
		})
	}
}

// keep: ten minutes past the end of its access token a session that cannot be renewed is none any more, though it may become one again;
// and absolute_timeout holds whatever happens.
func TestKeptWhileTheProviderIsAway(t *testing.T) {
	t.Parallel()
	for name, passesOn := range map[string]bool{"with set_access_token_header": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := ""
			if passesOn {
				settings = withToken
			}
			r := newRenewing(t, settings)
			down := optest.Fault{Status: http.StatusServiceUnavailable}
			r.provider.FailRefresh(down)
			want := func() {
				t.Helper()
				if passesOn {
					r.wantUnavailable()
				} else if got := r.ask(); got.Status != http.StatusOK {
					t.Errorf("got %d (%s)", got.Status, got.reason)
				}
			}
			r.pass(tokenLife)
			want()
			r.pass(keptPastExpiry - time.Second)
			want()
			r.pass(time.Second)
			r.wantAnonymous()
			r.open("/") // which does not take the cookie away
			if r.cookie() == "" {
				t.Error("the cookie of a session that may yet be renewed is deleted")
			}
			r.provider.HealRefresh()
			r.pass(maxPause)
			if got := r.ask(); got.Status != http.StatusOK || r.provider.RefreshGrants() != 1 {
				t.Errorf("when the provider is back: got %d (%s) with %d grants", got.Status, got.reason, r.provider.RefreshGrants())
			}
		})
	}
	t.Run("absolute_timeout", func(t *testing.T) {
		t.Parallel()
		r := newRenewing(t, withToken+"session {\nabsolute_timeout 7m\n}")
		r.provider.FailRefresh(optest.Fault{Status: http.StatusServiceUnavailable})
		r.pass(7*time.Minute - time.Second)
		r.wantUnavailable()
		r.pass(time.Second)
		r.wantAnonymous()
	})
}

// refresh_failure end is for those who would rather have nobody in than somebody whom the provider could not be asked about.
func TestEndedWhileTheProviderIsAway(t *testing.T) {
	t.Parallel()
	for _, settings := range []string{withToken, "", "refresh_coordination storage\n"} {
		t.Run(settings, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			p.SetRefreshTokens(true)
			l := newTimeline(p)
			r := l.welcome(t, l.instance(t, newSharedFolder(t), settings+"refresh_failure end"))
			p.FailRefresh(optest.Fault{Status: http.StatusServiceUnavailable})
			r.pass(tokenDue)
			if got := r.ask(); got.Status != http.StatusOK {
				t.Errorf("while the token lives: got %d (%s)", got.Status, got.reason)
			}
			r.pass(defaultLeeway)
			attempts := p.RefreshAttempts()
			r.wantAnonymous()
			p.HealRefresh()
			r.pass(time.Hour)
			r.wantAnonymous()
			if n := p.RefreshAttempts() - attempts; n > 1 {
				t.Errorf("%d more attempts for a session that has ended", n)
			}
			r.signIn("/")
			if got := r.ask(); got.Status != http.StatusOK {
				t.Errorf("a new session: got %d (%s)", got.Status, got.reason)
			}
		})
	}
}

// The site can draw the page itself.
func TestUnavailableThroughHandleErrors(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, withToken+"error_responses handle_errors")
	r.provider.FailRefresh(optest.Fault{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"20"}}})
	r.pass(tokenLife)
	for _, headers := range [][]string{typed, {"Accept: application/json"}} {
		answer := r.Get(r.url("/"), headers...)
		if answer.Status != http.StatusServiceUnavailable || answer.Header.Get("X-Handled-Reason") != "refresh_unavailable" ||
			answer.Header.Get("Retry-After") != "20" || !strings.HasPrefix(answer.Body, "handle_errors: ") {
			t.Errorf("%q: got %d, %v: %s", headers, answer.Status, answer.Header, answer.Body)
		}
	}
}
