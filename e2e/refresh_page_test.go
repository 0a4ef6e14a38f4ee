package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/browser"
)

// pageScript makes many requests at once, as a page does that is full of parts.
const pageScript = `Promise.all(Array.from({length: %d}, (_, i) => fetch("/received?part=" + i).then(async r => ({
	status: r.status, received: r.ok ? await r.json() : {},
}))))`

type partAnswer struct {
	Status   int      `json:"status"`
	Received received `json:"received"`
}

// fetchParts has a page make many requests at once, all of which must reach the application. It returns the access token
// that came with the last.
func (r *renewing) fetchParts(t *testing.T, tab *browser.Tab, parts int) (accessToken string) {
	t.Helper()
	for i, answer := range browser.Evaluate[[]partAnswer](tab, fmt.Sprintf(pageScript, parts)) {
		if answer.Status != http.StatusOK {
			t.Fatalf("part %d got %d", i, answer.Status)
		}
		r.note(answer.Received)
		accessToken = answer.Received.Header.Get("X-Access-Token")
		answer.Received.expectAlive(t)
	}
	return accessToken
}

// TestPageRenewal has a page that makes many requests at once after the end of each access token.
func TestPageRenewal(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, newKeycloakAccount)
	tab := r.logsIn(t, "/dashboard")
	seen := map[string]bool{r.fetchParts(t, tab, 1): true}
	for range 3 {
		expire(t)
		before := r.session()
		r.renews(t, func() { seen[r.fetchParts(t, tab, atOnce)] = true })
		if maps.Equal(before, r.session()) {
			t.Error("the browser has no new cookie")
		}
	}
	if len(seen) < 4 {
		t.Errorf("the application got %d access tokens, want a new one each time", len(seen))
	}
	if g := r.provider.grants(t); g.Refused != 0 {
		t.Errorf("%d refresh tokens were refused", g.Refused)
	}
	r.expectNoErrors(t, tab)
	tab.Reload()
	landed(t, tab).expect(t, "/dashboard", r.subject())
}

// TestStreamRenewal opens a WebSocket and a stream of events after the end of an access token. The new cookie comes with their
// beginning.
func TestStreamRenewal(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, newZitadelLoginWith)
	tab := r.logsIn(t, "/dashboard")
	for _, stream := range []struct{ script, answer string }{{socketScript, "ping"}, {eventsScript, "tick"}} {
		expire(t)
		before := r.session()
		r.renews(t, func() {
			if got := browser.Evaluate[string](tab, stream.script); got != stream.answer {
				t.Errorf("the stream says %q, want %q", got, stream.answer)
			}
			if maps.Equal(before, r.session()) {
				t.Error("the browser has no new cookie")
			}
			r.fetchParts(t, tab, 1) // with the new one
		})
	}
	if got, want := tab.Sockets(), []string{"101"}; !slices.Equal(got, want) {
		t.Errorf("the WebSockets began with %q, want %q", got, want)
	}
}

// pollScript has a page ask all the time, and keep the statuses.
const pollScript = `window.polled = [];
window.polling = setInterval(() => fetch("/received?poll").then(r => polled.push(r.status)), 200)`

func polled(tab *browser.Tab) []int { return browser.Evaluate[[]int](tab, "polled") }

// TestSleepingTab has one tab that sleeps while the other one works and renews the session, and then the other way round.
func TestSleepingTab(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, newNodeLoginWith)
	first := r.logsIn(t, "/first")
	second := r.open("/second")
	landed(t, second)
	for _, tabs := range [][]*browser.Tab{{first, second}, {second, first}} {
		asleep, awake := tabs[0], tabs[1]
		browser.Evaluate[int](asleep, pollScript)
		eventually(t, "an answer to the polling tab", 30*time.Second, func() bool { return len(polled(asleep)) > 0 })
		asleep.Freeze()
		dozed := len(polled(asleep))
		expire(t)
		r.renews(t, func() { r.fetchParts(t, awake, 3) })
		expire(t)
		if n := len(polled(asleep)); n > dozed+1 {
			t.Fatalf("the frozen tab has polled: %d answers, then %d", dozed, n)
		}
		r.renews(t, func() {
			asleep.Thaw()
			r.fetchParts(t, asleep, atOnce)
		})
		eventually(t, "an answer to the tab that is awake again", 30*time.Second, func() bool { return len(polled(asleep)) > dozed+1 })
		browser.Evaluate[string](asleep, `clearInterval(polling); ""`)
		for i, status := range polled(asleep) {
			if status != http.StatusOK {
				t.Errorf("answer %d to the polling tab is %d", i, status)
			}
		}
	}

	// Both wake up at once, and one of them sends a form.
	expire(t)
	r.renews(t, func() {
		first.Click("form button")
		r.fetchParts(t, second, atOnce)
		first.Wait("the order", func(page browser.Page) bool {
			return isApplication(page) && strings.HasSuffix(page.URL, "/orders")
		})
	})
	if got := reached(t, first); got.Method != http.MethodPost || got.Body != "order=7" {
		t.Errorf("the application got %s with %q, want the order", got.Method, got.Body)
	}
	for _, tab := range []*browser.Tab{first, second} {
		r.expectNoErrors(t, tab)
	}
}

// TestSlowAnswer has a tab wait for an answer for longer than an access token lives. By the time that it comes, with the cookie
// of a renewal of its own, the browser has a newer one.
func TestSlowAnswer(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, newNodeLoginWith)
	waiting := r.logsIn(t, "/waiting")
	working := r.open("/working")
	landed(t, working)
	expire(t)
	const script = `window.slow = fetch("/received?after=%s").then(async r => ({status: r.status, received: await r.json()})); ""`
	browser.Evaluate[string](waiting, fmt.Sprintf(script, tokenLifetime+2*time.Second))
	eventually(t, "the renewal of the slow request", 30*time.Second, func() bool { return r.provider.grants(t).Given == 1 })
	expire(t)
	r.renews(t, func() { r.fetchParts(t, working, 1) })
	newest := r.session()
	slow := browser.Evaluate[partAnswer](waiting, "window.slow")
	if slow.Status != http.StatusOK {
		t.Errorf("the slow request got %d", slow.Status)
	}
	if !maps.Equal(newest, r.session()) {
		t.Error("the slow answer replaced the newest cookie")
	}
	r.fetchParts(t, waiting, 1)
	if g := r.provider.grants(t); g.Refused != 0 {
		t.Errorf("%d refresh tokens were refused", g.Refused)
	}
}
