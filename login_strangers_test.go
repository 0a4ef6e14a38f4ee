package openidconnect

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// What strangers can make of logins: they begin and fail them at will.

// tellAnew has the log be told as if a minute had gone by.
func (m *loginMemory) tellAnew() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.lines)
}

// Anybody can begin a login and come back with an error or a code of his own, as often as he likes: the operator is warned, and not drowned.
func TestLoginsThatStrangersFailDoNotFloodTheLog(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	fail := func() {
		v := newVisitor(t, s, p)
		request := v.begin("/")
		v.arrive(request, url.Values{"error": {"invalid_scope"}, "state": {request.Get("state")}})
	}
	warned := func() int {
		return s.logs.Filter(func(entry zapEntry) bool {
			return entry.Level == zapcore.WarnLevel && entry.Message == "request refused"
		}).Len()
	}
	flood := func() {
		for range 2 * maxLoginLines {
			fail()
		}
	}
	fail()
	if got := warned(); got != 1 {
		t.Fatalf("%d warnings of the first", got)
	}
	flood()
	if got := warned(); got != maxLoginLines {
		t.Errorf("%d warnings in a minute, want %d", got, maxLoginLines)
	}
	s.setNow(time.Now().Add(time.Minute))
	flood()
	if got := warned(); got != 2*maxLoginLines {
		t.Errorf("%d warnings in two minutes, want %d", got, 2*maxLoginLines)
	}
	if got := s.lines("request refused"); got != 1+4*maxLoginLines {
		t.Errorf("%d lines in all", got)
	}
}

// loggedIn is the value of logins_total for a result.
func (s *site) loggedIn(result string) float64 {
	s.t.Helper()
	return valueOf(s.t, s.handler.runtime.metrics.logins, result)
}

// The loop breaker's cookie and the callback's parameters can be made up. Who does so brings nobody to look at the log or the alerts.
func TestLoopsAndErrorsThatAreMadeUpCountForNothing(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	v := newVisitor(t, s, p)
	for range loopLogins {
		request := v.begin("/")
		v.arrive(request, v.answerTo(request))
		v.lose(isSessionName) // as if it had never come
	}
	v.wantPage(v.open("/"), 400, "login_loop")
	lines := s.logs.FilterMessage("login loop ended").FilterLevelExact(zapcore.WarnLevel).Len()
	if got := s.loggedIn("login_loop"); got != 1 || lines != 1 {
		t.Fatalf("a loop is counted %v times, and told %d times", got, lines)
	}

	stranger := newVisitor(t, s, p)
	name := s.handler.runtime.login.cookies.Name(false) + "-loop"
	for n := range 20 {
		now := strconv.FormatInt(s.handler.runtime.now().Unix(), 10)
		r := stranger.site.get("/", "Accept: text/html", fmt.Sprintf("Cookie: %s=aa%d.%s-bb%d.%s-cc%d.%s", name, n, now, n, now, n, now))
		if r.StatusCode != http.StatusBadRequest || !strings.Contains(r.body, "login_loop") {
			t.Fatalf("the loop breaker does not read the made-up cookie: %d", r.StatusCode)
		}
	}
	if lines := s.logs.FilterMessage("login loop ended").FilterLevelExact(zapcore.WarnLevel).Len(); lines != 1 {
		t.Errorf("%d lines", lines)
	}
	if got := s.loggedIn("login_loop"); got != 1 {
		t.Errorf("counted %v times", got)
	}

	before := s.loggedIn("state_mismatch")
	for _, query := range []string{"error=server_error&state=zz", "error=access_denied", "code=x&state=zz&iss=https://other.example.com"} {
		stranger.open("/oauth2/callback?" + query)
	}
	for _, result := range []string{"provider_error", "access_denied", "issuer_mismatch", "code_exchange_failed"} {
		if got := s.loggedIn(result); got != 0 {
			t.Errorf("%s is counted %v times", result, got)
		}
	}
	if got := s.loggedIn("state_mismatch") - before; got == 0 {
		t.Error("nothing is counted as what it is")
	}
}
