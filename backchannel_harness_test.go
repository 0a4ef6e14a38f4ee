package openidconnect

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// formType is the media type of forms.
const formType = "application/x-www-form-urlencoded"

// backchannel is a provider that ends sessions of a site by itself, and the time of both.
type backchannel struct {
	*timeline
	t    testing.TB
	p    *optest.Provider
	site *site
	uri  string
}

func newBackchannel(t *testing.T, settings string, options ...optest.Option) *backchannel {
	t.Helper()
	p := optest.New(t, options...)
	return newBackchannelAt(t, p, newLoginSite(t, p, settings))
}

func newBackchannelAt(t testing.TB, p *optest.Provider, s *site) *backchannel {
	t.Helper()
	l := newTimeline(p)
	return &backchannel{l, t, p, l.rule(s), s.server.URL + defaultPathPrefix + endpointBackchannelLogout}
}

// at is the same provider and time with another site.
func (b *backchannel) at(s *site) *backchannel {
	return &backchannel{b.timeline, b.t, b.p, b.rule(s), s.server.URL + defaultPathPrefix + endpointBackchannelLogout}
}

// in is for the use of a subtest.
func (b *backchannel) in(t testing.TB) *backchannel {
	copied := *b
	copied.t, copied.site = t, b.site.in(t)
	return &copied
}

// signIn logs somebody in, by the names that the provider has for the user and for the session.
func (b *backchannel) signIn(sub, sid string) *visitor {
	b.t.Helper()
	v := newVisitor(b.t, b.site, b.p)
	v.Now = b.now
	b.signInWith(v, sub, sid)
	return v
}

func (b *backchannel) signInWith(v *visitor, sub, sid string) {
	b.t.Helper()
	b.p.SetUser(optest.Claims{"sub": sub})
	b.p.SetSIDs(func() string { return sid })
	v.upstream.advance()
	v.signIn("/")
}

// wantAlive checks that people are signed in.
func wantAlive(t testing.TB, people ...*visitor) {
	t.Helper()
	for _, v := range people {
		v.in(t).wantSession(true)
	}
}

// wantEnded checks that people are not signed in any more, whatever they ask for.
func wantEnded(t testing.TB, people ...*visitor) {
	t.Helper()
	for _, v := range people {
		v := v.clone().in(t)
		v.wantSession(false)
		if got := v.session("/oauth2/session"); got.Authenticated {
			t.Error("/session says that the session lives")
		}
		v.wantLogin(v.open("/"))
	}
}

// in is for the use of a subtest.
func (v *visitor) in(t testing.TB) *visitor {
	copied := *v
	copied.t = t
	return &copied
}

// send has the provider post a logout token.
func (b *backchannel) send(token string) optest.BackchannelAnswer {
	b.t.Helper()
	return b.p.SendLogout(b.t, b.uri, token)
}

// wantDone sends a logout token that must be accepted.
func (b *backchannel) wantDone(token string) optest.BackchannelAnswer {
	b.t.Helper()
	answer := b.send(token)
	wantDone(b.t, answer)
	return answer
}

func wantDone(t testing.TB, answer optest.BackchannelAnswer) {
	t.Helper()
	if answer.Status != http.StatusOK || answer.Body != "" {
		t.Errorf("got %d, want 200 without a body: %s", answer.Status, answer.Body)
	}
	wantBackchannelHeaders(t, answer)
}

// wantBackchannelHeaders checks what all answers of the endpoint have in common: nothing for a cache, a browser or another site.
func wantBackchannelHeaders(t testing.TB, answer optest.BackchannelAnswer) {
	t.Helper()
	if got := answer.Header.Values("Cache-Control"); len(got) != 1 || got[0] != "no-store" {
		t.Errorf("Cache-Control %q, want no-store", got)
	}
	for name := range answer.Header {
		if name == "Set-Cookie" || name == "Location" || name == "Www-Authenticate" || strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("the answer has %s %q", name, answer.Header.Values(name))
		}
	}
}

// wantRefused sends a logout token that must not be accepted; reason is what the log says of the token.
func (b *backchannel) wantRefused(token, reason string) {
	b.t.Helper()
	b.wantRefusal(b.send(token), http.StatusBadRequest, reason)
}

// wantRefusal checks the answer to what is no logout token, and what the log says of it.
func (b *backchannel) wantRefusal(answer optest.BackchannelAnswer, status int, reason string) {
	b.t.Helper()
	wantBackchannelHeaders(b.t, answer)
	var body struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		Reason      string `json:"reason"`
		RequestID   string `json:"request_id"`
	}
	if answer.Status != status || answer.Header.Get("Content-Type") != "application/json" {
		b.t.Fatalf("got %d, %v, want %d and JSON (%s): %s", answer.Status, answer.Header, status, reason, answer.Body)
	}
	if err := json.Unmarshal([]byte(answer.Body), &body); err != nil {
		b.t.Fatal(err)
	}
	if body.Error != "invalid_request" && reason != "store_unavailable" || body.Description == "" || body.RequestID == "" {
		b.t.Errorf("the answer is %s", answer.Body)
	}
	entries := b.site.logs.Filter(func(entry zapEntry) bool {
		return entry.Message == "request refused" && entry.ContextMap()["request_id"] == body.RequestID
	}).All()
	if len(entries) != 1 {
		b.t.Fatalf("%d lines about it", len(entries))
	}
	fields := entries[0].ContextMap()
	if fields["reason"] != body.Reason {
		b.t.Errorf("the log has the reason %v, the answer %s", fields["reason"], body.Reason)
	}
	if reason == "store_unavailable" {
		return
	}
	if entries[0].Level != zapcore.DebugLevel || body.Reason != "logout_token_invalid" {
		b.t.Errorf("level %s and reason %s of what anybody can send", entries[0].Level, body.Reason)
	}
	if said, _ := fields["error"].(string); reason != "" && !strings.HasPrefix(said+"\n", reason+"\n") {
		b.t.Errorf("the log says %q, want %s (expected %v, got %v)", said, reason, fields["expected"], fields["got"])
	}
}

// listed is how many revocations the site knows of.
func (s *site) listed() int { return s.handler.runtime.login.revocations.Len() }

// wantUntouched checks that whatever is done ends no session, and leaves no trace in the list.
func (b *backchannel) wantUntouched(do func(), people ...*visitor) {
	b.t.Helper()
	before := b.site.listed()
	do()
	if now := b.site.listed(); now != before {
		b.t.Errorf("%d revocations, there were %d", now, before)
	}
	wantAlive(b.t, people...)
}

// logoutForm is the body of a logout request.
func logoutForm(token string) string { return url.Values{"logout_token": {token}}.Encode() }
