package openidconnect

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

const (
	// tokenLife is how long an access token of the provider lives, and tokenDue when it is renewed, as things are by default.
	tokenLife = 5 * time.Minute
	tokenDue  = tokenLife - defaultLeeway
)

// timeline is the time of sites, browsers and the provider. It stands still until it is moved, and may be moved while requests are under
// way.
type timeline struct {
	issuer *optest.Provider
	start  time.Time
	moved  atomic.Int64
}

func newTimeline(p *optest.Provider) *timeline {
	return &timeline{issuer: p, start: time.Now().Truncate(time.Second)}
}

func (l *timeline) now() time.Time { return l.start.Add(time.Duration(l.moved.Load())) }

// pass moves the time on, for all of them.
func (l *timeline) pass(d time.Duration) {
	l.moved.Add(int64(d))
	l.issuer.Advance(d)
}

// rule has a site that is idle go by this time.
func (l *timeline) rule(s *site) *site {
	s.handler.runtime.now = l.now
	return s
}

// renewing is somebody who is signed in with a refresh token, and the time.
type renewing struct {
	*visitor
	*timeline
}

// withToken is what most sites of these tests pass on: the access token shows which generation of a session a request got.
const withToken = "set_access_token_header\n"

// newRenewing signs somebody in at a site with these settings, on the storage that Caddy has by default: renewals are not coordinated. The
// provider must never see a spent refresh token.
func newRenewing(t testing.TB, settings string) *renewing {
	t.Helper()
	p := optest.New(t)
	p.SetRefreshTokens(true)
	return newRenewingAt(t, newLoginSite(t, p, "refresh_coordination local\n"+settings), p)
}

func newRenewingAt(t testing.TB, s *site, p *optest.Provider) *renewing {
	t.Helper()
	l := newTimeline(p)
	l.rule(s)
	t.Cleanup(func() { wantNoReuse(t, p) })
	return l.welcome(t, s)
}

// welcome signs somebody in at a site that goes by this time.
func (l *timeline) welcome(t testing.TB, s *site) *renewing {
	t.Helper()
	r := &renewing{newVisitor(t, s, l.issuer), l}
	r.Now = l.now
	r.upstream.advance()
	r.signIn("/")
	return r
}

// wantNoReuse checks that no refresh token was presented twice with the first time having been of use.
func wantNoReuse(t testing.TB, p *optest.Provider) {
	t.Helper()
	if n := p.RefreshReuses(); n != 0 {
		t.Errorf("%d refresh tokens were presented that had been spent", n)
	}
}

// clone is another request of the same browser, with the cookies of now.
func (r *renewing) clone() *renewing { return &renewing{r.visitor.clone(), r.timeline} }

// in is for the use of a subtest.
func (r *renewing) in(t testing.TB) *renewing {
	v := *r.visitor
	v.t, v.site = t, r.visitor.site.in(t)
	return &renewing{&v, r.timeline}
}

// served is what a request of a program got: the status, the access token that the upstream was given, the reason of a refusal, and the
// session's cookies that were set.
type served struct {
	*optest.Response
	token  string
	reason string
	set    string // the cookies as a Cookie header; empty: none
	forgot bool   // a cookie of the session was deleted
}

// ask sends a request as a script of a page does, with the browser's cookies or the given ones.
func (r *renewing) ask(headers ...string) served {
	r.t.Helper()
	return servedOf(r.t, r.Get(r.url("/"), append([]string{"Accept: application/json"}, headers...)...))
}

func servedOf(t testing.TB, r *optest.Response) served {
	t.Helper()
	s := served{Response: r}
	s.set, s.forgot = cookiesOf(r.Header)
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		return s
	}
	members := make(map[string]any)
	if r.Body != "" {
		members = claimsOf(t, r.Body)
	}
	if s.reason, _ = members["reason"].(string); r.Status == http.StatusOK {
		if values, _ := members["X-Access-Token"].([]any); len(values) == 1 {
			s.token, _ = values[0].(string)
		}
	}
	return s
}

// cookiesOf are the session's cookies that an answer sets, as a Cookie header, and whether it deletes any.
func cookiesOf(header http.Header) (set string, forgot bool) {
	var pairs []string
	for _, cookie := range (&http.Response{Header: header}).Cookies() {
		switch {
		case !isSessionName(cookie.Name):
		case cookie.MaxAge < 0 || cookie.Value == "":
			forgot = true
		default:
			pairs = append(pairs, cookie.Name+"="+cookie.Value)
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "; "), forgot
}

// cookie is what the browser has of its session, as a Cookie header.
func (r *renewing) cookie() string {
	r.t.Helper()
	var pairs []string
	for _, cookie := range r.kept(isSessionName) {
		pairs = append(pairs, cookie.Name+"="+cookie.Value)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "; ")
}

// wantServed checks that a request is let through, and how many grants the provider has given by then.
func (r *renewing) wantServed(grants int, headers ...string) served {
	r.t.Helper()
	r.upstream.advance()
	got := r.ask(headers...)
	if n := r.upstream.advance(); got.Status != http.StatusOK || n != 1 {
		r.t.Errorf("got %d (%s), and %d requests reached the upstream", got.Status, got.reason, n)
	}
	r.wantGrants(grants)
	return got
}

// wantGrants checks how many grants the provider has given, and that it was asked for no more.
func (r *renewing) wantGrants(grants int) {
	r.t.Helper()
	if got, asked := r.provider.RefreshGrants(), r.provider.RefreshAttempts(); got != grants || asked != grants {
		r.t.Errorf("%d grants of %d that were asked for, want %d", got, asked, grants)
	}
}

// wantAnonymous checks that a request counts as one without a session: 401 for a script, a login for a page.
func (r *renewing) wantAnonymous(headers ...string) {
	r.t.Helper()
	r.upstream.advance()
	refused := r.clone().ask(headers...)
	r.wantRefusal(refused.Response, http.StatusUnauthorized, "no_credentials")
	r.wantLogin(r.clone().open("/", headers...))
}

// wantUnavailable checks that requests are told to come back, pages and scripts, and that they keep their session.
func (r *renewing) wantUnavailable(headers ...string) {
	r.t.Helper()
	r.upstream.advance()
	page := r.clone().open("/page", headers...)
	r.wantPage(page, http.StatusServiceUnavailable, "refresh_unavailable")
	refused := r.clone().ask(headers...)
	r.wantRefusal(refused.Response, http.StatusServiceUnavailable, "refresh_unavailable")
	for _, answer := range []*optest.Response{page, refused.Response} {
		if seconds := answer.Header.Get("Retry-After"); seconds == "" || strings.HasPrefix(seconds, "-") || seconds == "0" {
			r.t.Errorf("Retry-After %q", seconds)
		}
		if set, forgot := cookiesOf(answer.Header); set != "" || forgot {
			r.t.Errorf("Set-Cookie %q", answer.Header.Values("Set-Cookie"))
		}
	}
}

// lines counts the log lines with this message.
func (s *site) lines(message string) int { return s.logs.FilterMessage(message).Len() }

// troubles counts the lines that an operator would look at.
func (s *site) troubles() int {
	return s.logs.Filter(func(entry zapEntry) bool {
		return entry.Level >= zapcore.WarnLevel && !strings.HasPrefix(entry.Message, "logouts end sessions on this instance alone")
	}).Len()
}

// counted is the value of refreshes_total for a result.
func (s *site) counted(result string) float64 {
	s.t.Helper()
	return valueOf(s.t, s.handler.runtime.metrics.refreshes, result)
}

// valueOf is the value of a counter with one label.
func valueOf(t testing.TB, counters prometheus.Collector, label string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(counters); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if metric.GetLabel()[0].GetValue() == label {
				return metric.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// forgetOpened has an idle site forget the sessions that it keeps opened.
func (r *renewing) forgetOpened() { r.site.handler.runtime.login.opened = newSessionCache() }
