package openidconnect

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// cookieNames are the names of what the browser has of its session.
func (r *renewing) cookieNames() (names []string) {
	for _, cookie := range r.kept(isSessionName) {
		names = append(names, cookie.Name)
	}
	slices.Sort(names)
	return names
}

// A session that grows or shrinks when it is renewed changes its number of cookies, for all that bring an old one, and nothing stale stays.
func TestCookiesThatGrowAndShrink(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetRefreshTokens(true)
	r := newRenewingAt(t, newSecureLoginSite(t, p, withToken+"refresh_coordination local"), p)
	sizes := []int{1, 180, 60, 1, 120, 180, 1}
	counts := []int{1, 3, 1, 1, 2, 3, 1}
	for n, size := range sizes[1:] {
		p.SetUser(optest.Claims{"groups": manyTexts(size)})
		r.pass(tokenLife)
		late := r.clone()
		r.wantServed(n + 1)
		names := r.cookieNames()
		if len(names) != counts[n+1] || len(names) > 1 && !strings.HasSuffix(names[0], ".0") || len(names) == 1 && strings.HasSuffix(names[0], ".0") {
			t.Errorf("with %d groups: %q", size, names)
		}
		late.wantServed(n + 1)
		if got := late.cookieNames(); !slices.Equal(got, names) || late.cookie() != r.cookie() {
			t.Errorf("with %d groups a late request has %q, want %q", size, got, names)
		}
		if got := r.wantServed(n + 1); got.set != "" || got.forgot {
			t.Errorf("with %d groups: Set-Cookie again: %q", size, got.Header.Values("Set-Cookie"))
		}
		if got := userinfo(t, r.site.last(t).Header)["groups"].([]any); len(got) != size {
			t.Errorf("the upstream sees %d groups, want %d", len(got), size)
		}
	}
}

// A session that would no longer fit its cookies keeps the claims it had, with the new tokens; that ends nothing, and the operator hears what
// has grown.
func TestCookiesThatAreOutgrown(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, withToken+"claim_header X-Email email\nscope \"openid email\"")
	first := r.wantServed(0)
	r.provider.SetUser(optest.Claims{"email": "new@example.com", "groups": manyTexts(600)})
	r.pass(tokenLife)
	renewed := r.wantServed(1)
	if renewed.token == first.token || renewed.set == "" {
		t.Error("the access token was not renewed")
	}
	r.site.wantHeaders(map[string]string{"X-Email": "alice@example.com"})
	r.site.logged(zapcore.WarnLevel, "a renewed session would not fit its cookie and keeps its old claims",
		map[string]string{"reason": "session_too_large", "got": "groups"})
	r.provider.SetUser(optest.Claims{"email": "new@example.com"})
	r.pass(tokenLife)
	r.wantServed(2)
	r.site.wantHeaders(map[string]string{"X-Email": "new@example.com"})
	if n := r.site.lines("a renewed session would not fit its cookie and keeps its old claims"); n != 1 {
		t.Errorf("%d lines", n)
	}
}

// Tokens alone that do not fit any more end the session, with a line that says so.
func TestTokensThatAreOutgrown(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, withToken)
	big := strings.Join(manyTexts(400), "")
	r.provider.MarkSecret(big)
	r.provider.SetRefreshResponse(func(answer map[string]any) {
		answer["access_token"] = big
		delete(answer, "id_token")
	})
	r.pass(tokenLife)
	r.wantAnonymous()
	r.wantGrants(1)
	r.site.logged(zapcore.ErrorLevel, "session ended: it cannot be kept after its renewal", map[string]string{"reason": "session_too_large", "got": "access token"})
	if n := r.site.counted("session_too_large"); n != 1 {
		t.Errorf("%v are counted", n)
	}
	r.provider.SetRefreshResponse(nil)
	r.signIn("/")
}

// The raw ID token is the first to go when there is too little room, and comes back when there is.
func TestRawIDTokenAtARenewal(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, "set_raw_id_token_header\nsession {\nmax_cookie_bytes 2600\n}")
	raw := func() string { return r.site.last(t).Header.Get("X-Raw-Id-Token") }
	r.wantServed(0)
	first := raw()
	r.pass(tokenLife)
	r.wantServed(1)
	if second := raw(); second == "" || second == first {
		t.Errorf("the ID token was not renewed: %t", second == first)
	}
	r.provider.SetUser(optest.Claims{"groups": manyTexts(35)})
	r.pass(tokenLife)
	r.wantServed(2)
	if raw() != "" || len(userinfo(t, r.site.last(t).Header)["groups"].([]any)) != 35 {
		t.Errorf("with many groups: an ID token of %d bytes is passed on, and %v", len(raw()), userinfo(t, r.site.last(t).Header))
	}
	r.provider.SetUser(nil)
	r.pass(tokenLife)
	r.wantServed(3)
	if raw() == "" {
		t.Error("the ID token has not come back")
	}
}

// A cookie that is due to be reissued and renewed is written once, and says that it was used now.
func TestReissuedAndRenewed(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, withToken+"session {\nidling_timeout 10m\nreissue_interval 2m\n}")
	late := "Cookie: " + r.cookie()
	r.pass(tokenLife)
	renewed := r.wantServed(1)
	if n := len(sessionsIn(renewed.Response)); n != 1 {
		t.Errorf("%d cookies are set", n)
	}
	r.pass(119 * time.Second)
	if got := r.wantServed(1); got.set != "" {
		t.Error("it is reissued before the interval is over")
	}
	if got := r.wantServed(1, late); got.set != renewed.set {
		t.Error("a late request gets another cookie")
	}
	r.pass(time.Second) // the grace is over too
	reissued := r.wantServed(1)
	if reissued.set == "" || reissued.set == renewed.set || reissued.token != renewed.token {
		t.Errorf("reissued: %q", reissued.Header.Values("Set-Cookie"))
	}
	r.pass(10*time.Minute - time.Second)
	r.wantServed(2)
	r.pass(10 * time.Minute)
	r.wantAnonymous() // it was not used, and nobody renews it in the background
	r.wantGrants(2)
}

// Late requests keep a session in use that is reissued within the grace: all get the same reissued cookie.
func TestReissuedWithinTheGrace(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, withToken+"session {\nreissue_interval 30s\n}")
	late := r.cookie()
	r.pass(tokenLife)
	renewed := r.wantServed(1)
	r.pass(45 * time.Second)
	first := r.wantServed(1, "Cookie: "+late)
	if first.set == "" || first.set == renewed.set || first.token != renewed.token {
		t.Errorf("Set-Cookie %q", first.Header.Values("Set-Cookie"))
	}
	if got := r.wantServed(1, "Cookie: "+renewed.set); got.set != first.set {
		t.Error("who has the newest generation gets another cookie")
	}
	for _, got := range r.storm(t, 10, late, renewed.set, first.set) {
		if got.Status != http.StatusOK || got.set != "" && got.set != first.set {
			t.Errorf("got %d, Set-Cookie %q", got.Status, got.Header.Values("Set-Cookie"))
		}
	}
}

// A renewal takes place under the newest secret, whichever one the cookie was sealed with.
func TestRenewalUnderANewSecret(t *testing.T) {
	t.Parallel()
	const newer = "another secret of these tests"
	p := optest.New(t)
	p.SetRefreshTokens(true)
	l := newTimeline(p)
	storage := newSharedFolder(t)
	site := func(secrets string) *site {
		return l.process(newSiteOn(t, storage, p, withToken+"refresh_coordination storage\nsession {\nsecret "+secrets+"\n}"))
	}
	before := l.welcome(t, site(`"`+sessionSecret+`"`))
	old := before.cookie()
	both := before.at(site(`"` + newer + `" "` + sessionSecret + `"`)).clone()
	both.pass(tokenLife)
	renewed := both.wantServed(1)
	if got := before.at(site(`"` + newer + `"`)).ask("Cookie: " + renewed.set); got.Status != http.StatusOK {
		t.Errorf("the new secret alone: got %d (%s)", got.Status, got.reason)
	}
	if got := before.at(both.site).ask("Cookie: " + old); got.Status != http.StatusOK || got.token != renewed.token {
		t.Errorf("the old cookie where both secrets are known: got %d (%s)", got.Status, got.reason)
	}
	// an instance that has not heard of the new secret cannot read the result; it leaves the token alone, and the cookie too
	answer := before.clone().open("/", "Cookie: "+old)
	if set, forgot := cookiesOf(answer.Header); answer.Status != http.StatusFound || set != "" || forgot {
		t.Errorf("the old secret alone: got %d, Set-Cookie %q", answer.Status, answer.Header.Values("Set-Cookie"))
	}
	before.wantGrants(1)
	wantNoReuse(t, p)
}
