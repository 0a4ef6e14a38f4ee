package openidconnect

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// visit is a request of a signed-in browser; it reports whether the session is alive, and for how long a new cookie is good, 0 if there is
// none.
func (v *visitor) visit(t *testing.T) (alive bool, renewed time.Duration) {
	t.Helper()
	r := v.Get(v.url("/"), "Accept: application/json")
	alive = r.Status == http.StatusOK
	if n := v.upstream.advance(); (n == 1) != alive {
		t.Fatalf("status %d, and %d requests reached the upstream", r.Status, n)
	}
	for _, cookie := range r.Steps[0].SetCookies {
		if isSessionName(cookie.Name) {
			renewed = time.Duration(cookie.MaxAge) * time.Second
		}
	}
	wantCacheControl := "private"
	switch {
	case !alive:
		wantCacheControl = "no-store"
	case renewed > 0:
		wantCacheControl = "private, no-store"
	}
	if got := r.Header.Get("Cache-Control"); got != wantCacheControl {
		t.Errorf("Cache-Control %q, want %q", got, wantCacheControl)
	}
	return alive, renewed
}

// moment is what happens so long after the login.
type moment struct {
	at      time.Duration
	alive   bool
	renewed bool
}

// Three clocks, never mixed: how long a session lives, how long it may go unused, and how often the cookie says that it was used.
func TestSessionClocks(t *testing.T) {
	t.Parallel()
	const s, m, h = time.Second, time.Minute, time.Hour
	for name, test := range map[string]struct {
		settings string
		absolute time.Duration
		reason   string
		moments  []moment
	}{
		"as they are by default": {"", 24 * h, "session_expired", []moment{
			{0, true, false},
			{5*m - s, true, false},
			{5 * m, true, true},
			{10*m - s, true, false},
			{12 * h, true, true},
			{24*h - s, true, true},
			{24 * h, false, false},
		}},
		"an absolute timeout": {"absolute_timeout 1h", h, "session_expired", []moment{
			{30 * m, true, true}, {h - s, true, true}, {h, false, false}, {2 * h, false, false},
		}},
		"an absolute timeout of long ago": {"absolute_timeout 400d", 400 * 24 * h, "session_expired", []moment{
			{399 * 24 * h, true, true}, {400 * 24 * h, false, false},
		}},
		"unused": {"idling_timeout 10m", 24 * h, "session_idle", []moment{
			{10*m - s, true, true}, {20*m - 2*s, true, true}, {30*m - 2*s, false, false},
		}},
		"used all the time": {"idling_timeout 4m", 24 * h, "session_idle", []moment{
			{m, true, false},
			{2*m - s, true, false},
			{4*m - s, true, true},
			{5 * m, true, false},
			{6 * m, true, true},
			{8 * m, true, true},
			{10 * m, true, true},
			{12*m + 59*s, true, true},
			{17 * m, false, false},
		}},
		"used just too seldom to be noticed": {"idling_timeout 10m\nreissue_interval 5m", 24 * h, "session_idle", []moment{
			{5*m - s, true, false}, {10*m - s, true, true}, {20 * m, false, false},
		}},
		"both": {"idling_timeout 30m\nabsolute_timeout 1h", h, "session_expired", []moment{
			{29 * m, true, true}, {58 * m, true, true}, {h, false, false},
		}},
		"a short interval": {"reissue_interval 10s", 24 * h, "session_expired", []moment{
			{9 * s, true, false}, {10 * s, true, true}, {19 * s, true, false}, {20 * s, true, true}, {25 * h, false, false},
		}},
		"a long interval": {"reissue_interval 2h", 24 * h, "session_expired", []moment{
			{h, true, false}, {2 * h, true, true}, {3 * h, true, false}, {24 * h, false, false},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			site := newLoginSite(t, p, "session {\n"+test.settings+"\n}")
			v := newVisitor(t, site, p)
			start := time.Now().Truncate(time.Second)
			v.moveTo(start)
			v.signIn("/")
			for _, moment := range test.moments {
				v.moveTo(start.Add(moment.at))
				// as a thief would keep the cookie, whom no Max-Age stops
				v.Now = func() time.Time { return start }
				alive, renewed := v.visit(t)
				if alive != moment.alive || (renewed > 0) != moment.renewed {
					t.Fatalf("after %s: alive %t, renewed %s; want %t and %t", moment.at, alive, renewed, moment.alive, moment.renewed)
				}
				if want := test.absolute - moment.at; renewed > 0 && renewed != want {
					t.Errorf("after %s: the cookie is good for %s, want %s", moment.at, renewed, want)
				}
			}
			site.logged(zapcore.DebugLevel, "request refused", map[string]string{"reason": test.reason})
			v.wantLogin(v.open("/")) // which says nothing of what has ended
			if n := len(v.kept(isSessionName)); n != 0 {
				t.Errorf("%d cookies of a dead session are left", n)
			}
		})
	}
}

// moveTo sets the clocks of the site and of the browser.
func (v *visitor) moveTo(now time.Time) {
	v.site.setNow(now)
	v.Now = func() time.Time { return now }
}

// The browser forgets a session when it ends, so that nothing is sent for nothing.
func TestTheBrowserForgetsWithTheSession(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	v := newVisitor(t, newLoginSite(t, p, "session {\nabsolute_timeout 1h\n}"), p)
	v.signIn("/")
	v.later(30 * time.Minute)
	v.wantSession(true)
	v.later(29 * time.Minute)
	if n := len(v.kept(isSessionName)); n == 0 {
		t.Error("the cookie has gone before the session")
	}
	v.later(2 * time.Minute)
	if n := len(v.kept(isSessionName)); n != 0 {
		t.Errorf("%d cookies are left", n)
	}
}

// Requests that bring the same cookie get the same new one, so that none of them undoes another.
func TestRequestsAtOnceAreReissuedOnce(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	v := newVisitor(t, s, p)
	v.signIn("/")
	v.later(6 * time.Minute)
	var mu sync.Mutex
	var values []string
	var group sync.WaitGroup
	for range 20 {
		v := v.clone()
		group.Go(func() {
			r := v.Get(v.url("/"), "Accept: application/json")
			mu.Lock()
			defer mu.Unlock()
			for _, cookie := range r.Steps[0].SetCookies {
				values = append(values, fmt.Sprintf("%s=%s", cookie.Name, cookie.Value))
			}
		})
	}
	group.Wait()
	s.advance()
	if n := len(values); n != 20 || len(slices.Compact(values)) != 1 {
		t.Errorf("%d cookies were set, not all of them the same", n)
	}
}

// What only looks changes nothing: neither of these keeps a session from idling out.
func TestLookingAtASessionIsNoUse(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	v := newVisitor(t, newLoginSite(t, p, "session {\nidling_timeout 10m\n}"), p)
	v.signIn("/")
	for range 3 {
		v.later(3 * time.Minute)
		r := v.Get(v.url("/oauth2/session"), "Accept: application/json")
		if r.Status != http.StatusOK || !strings.Contains(r.Body, `"authenticated":true`) || len(r.Header.Values("Set-Cookie")) != 0 {
			t.Fatalf("got %d, %q: %s", r.Status, r.Header.Values("Set-Cookie"), r.Body)
		}
		v.Get(v.url("/oauth2/jwks.json"))
		v.Get(v.url("/oauth2/logged-out"))
	}
	v.later(2 * time.Minute)
	v.wantSession(false)
}

// The seconds that a page can show are those until the first of the clocks runs out.
func TestSessionTellsHowLongItLives(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	for settings, want := range map[string][]int{ // after 0, 20 and 50 minutes of use
		"absolute_timeout 1h":                     {3600, 2400, 600},
		"absolute_timeout 1h\nidling_timeout 30m": {1800, 1800, 600},
		"absolute_timeout 2d\nidling_timeout 1h":  {3600, 3600, 3600},
	} {
		t.Run(settings, func(t *testing.T) {
			v := newVisitor(t, newLoginSite(t, p, "session {\n"+settings+"\n}"), p)
			start := time.Now().Truncate(time.Second)
			v.moveTo(start)
			v.signIn("/")
			for i, after := range []time.Duration{0, 20 * time.Minute, 50 * time.Minute} {
				if after == 50*time.Minute {
					v.moveTo(start.Add(35 * time.Minute))
					v.wantSession(true)
				}
				v.moveTo(start.Add(after))
				v.wantSession(true)
				r := v.Get(v.url("/oauth2/session"), "Accept: application/json")
				if got := jsonMembers(t, r.Body)["expires_in"]; got != float64(want[i]) {
					t.Errorf("after %s: %v seconds, want %d", after, got, want[i])
				}
			}
		})
	}
}
