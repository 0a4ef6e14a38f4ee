package openidconnect

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// logoutLog is a log without what Caddy itself shows of a logout: the address at the provider, with its hint and its state.
var logoutLog = strings.NewReplacer("delete nonce", "delete nonce\n\t\t\tdelete id_token_hint\n\t\t\tdelete logout_hint").Replace(loginLog)

// Logouts of all sorts at the most talkative level, and no token, hint, state or cookie in anything that is said (S-261).
func TestS261NoSecretOfALogoutIsEverTold(t *testing.T) {
	const clientSecret = "the-secret-of-the-client-is-long-enough"
	const secret = "the-secret-of-the-sessions-of-this-test"
	p := optest.New(t, optest.WithEndSession(), optest.WithRevocation())
	p.SetIntrospectionClient("client", clientSecret)
	p.MarkSecret(secret)
	p.SetRefreshTokens(true)
	takeLogs()
	var sites strings.Builder
	sites.WriteString("log\nlog_append who {http.auth.user.id}\nlog_append state {http.vars.openid_connect}\n")
	for name, settings := range map[string]string{
		"plain": "", "tokens": "revoke_tokens_on_logout\nset_access_token_header\nset_raw_id_token_header", "stored": "revoke_tokens_on_logout\nstorage",
		"post": "revoke_tokens_on_logout\nrevocation_endpoint_auth_method client_secret_post\nfrontchannel_logout",
	} {
		block := "session {\ncookie_name oidc-" + name + "\nsecret \"" + secret + "\"\n}"
		if rest, stored := strings.CutSuffix(settings, "storage"); stored {
			settings, block = rest, strings.Replace(block, "}", "storage caddy\n}", 1)
		}
		sites.WriteString("handle /" + name + "/* {\nopenid_connect " + p.Issuer() + " {\nclient_id client\nclient_secret " + clientSecret +
			"\npath_prefix /" + name + "/oauth2\n" + settings + "\n" + block + "\n}\nreverse_proxy $UPSTREAM\n}\n")
	}
	c := startCaddy(t, sites.String())
	c.answer(func(http.ResponseWriter, *http.Request) {})
	l := &teller{cookies: make(map[string]bool), landed: make(map[int]int)}
	logIn := func(name string) *optest.Browser {
		b := optest.NewBrowser(t)
		if r := l.hear(b.Navigate(c.url("/" + name + "/page"))); r.Status != http.StatusOK {
			t.Fatalf("landed on %s with %d: %s", r.URL, r.Status, shown(r))
		}
		return b
	}

	// Without a filter Caddy's own log shows the hint: the search finds what is there to be found.
	l.hear(logIn("plain").NavigateFrom(c.url("/plain/page"), c.url("/plain/oauth2/logout")))
	if found := l.secretsIn(p, takeLogs()); len(found) == 0 {
		t.Error("nothing is found in a log that holds a hint")
	}
	c.globals = strings.Replace(c.globals, "log {\noutput openid_connect_test\nformat json\nlevel DEBUG\n}", logoutLog, 1)
	if err := c.load(sites.String()); err != nil {
		t.Fatal(err)
	}
	c.answer(func(http.ResponseWriter, *http.Request) {})
	const described = "what-the-provider-has-to-say-is-for-nobody"
	p.MarkSecret(described)
	accidents := map[string]func(){
		"nothing": func() {},
		"refused": func() {
			p.Fail(optest.Revocation, optest.Fault{Status: 400, Body: []byte(`{"error":"invalid_request","error_description":"` + described + `"}`)})
		},
		"HTML":        func() { p.Fail(optest.Revocation, optest.Fault{Status: 500, Body: []byte("<h1>" + described)}) },
		"dropped":     func() { p.Fail(optest.Revocation, optest.Fault{Drop: true}) },
		"odd state":   func() { p.SetLogoutState(func(state string) string { return state + "x" }) },
		"wrong URI":   func() { p.SetPostLogoutRedirectURIs("https://another.example.com/") },
		"large token": func() { p.SetUser(optest.Claims{"groups": manyTexts(60)}) },
	}
	for _, name := range []string{"plain", "tokens", "stored", "post"} {
		logout, home := c.url("/"+name+"/oauth2/logout"), c.url("/"+name+"/page")
		for _, provoke := range accidents {
			provoke()
			b := logIn(name)
			copied := b.Clone()
			l.hear(b.Get(logout, linked...))
			l.hear(b.Post(logout, url.Values{"x": {"y"}}, linked...))
			l.hear(b.Do(http.MethodPut, logout, "", clicked...))
			l.hear(b.NavigateFrom(home, logout))
			for _, late := range []*optest.Browser{copied, b} {
				l.hear(late.Get(home, "Accept: application/json"))
				l.hear(late.Get(home, typed...))
				l.hear(late.Get(logout, clicked...))
			}
			script := logIn(name)
			answer := script.Do(http.MethodPost, logout, "", metadata("same-origin", "cors", "empty")...)
			var told struct {
				LogoutURL string `json:"logout_url"`
			}
			if err := json.Unmarshal([]byte(answer.Body), &told); err != nil || told.LogoutURL == "" {
				t.Errorf("got %d: %s", answer.Status, answer.Body)
			} else {
				l.hear(script.NavigateFrom(home, told.LogoutURL))
			}
			p.Heal(optest.Revocation)
			p.SetLogoutState(nil)
			p.SetPostLogoutRedirectURIs()
			p.SetUser(nil)
		}
		session := l.hear(logIn(name).Get(c.url("/"+name+"/oauth2/session"), "Accept: application/json"))
		if want := `"logout_url":"/` + name + `/oauth2/logout"`; !strings.Contains(session.Body, want) {
			t.Errorf("%s is not in %s", want, session.Body)
		}
	}
	logs := takeLogs()
	for name := range series(t) {
		l.told.WriteString(name + "\n")
	}
	for message, least := range map[string]int{"handled request": 300, "logout": 40, "request refused": 50, "a token of a session that has ended was not revoked": 5} {
		if n := len(logLines(t, logs, message)); n < least {
			t.Errorf("only %d lines say %q", n, message)
		}
	}
	if len(p.Logouts()) < 40 || p.Hits(optest.Revocation) < 40 || len(p.Issued()) < 300 || len(l.cookies) < 50 {
		t.Errorf("only %d logouts, %d revocations, %d secrets and %d cookies", len(p.Logouts()), p.Hits(optest.Revocation), len(p.Issued()), len(l.cookies))
	}
	for where, text := range map[string]string{"the logs": logs, "an answer": l.told.String()} {
		for _, found := range l.secretsIn(p, text) {
			t.Errorf("%s: %s", where, found)
		}
	}
}

// The line of a logout says who and where, and a copy that comes later is told at the level of those who may be anybody.
func TestLogoutIsLogged(t *testing.T) {
	t.Parallel()
	v, p := newSignedIn(t, "")
	copied := cookieHeader(v)
	v.site.logs.TakeAll()
	v.wantLogout(v.signOut())
	told := v.site.logs.FilterMessage("logout").All()
	if len(told) != 1 {
		t.Fatalf("%d lines: %v", len(told), told)
	}
	fields := told[0].ContextMap()
	for name, want := range map[string]any{"by": "user", "issuer": p.Issuer(), "user_id": "alice", "host": strings.TrimPrefix(v.origin, "http://")} {
		if fields[name] != want {
			t.Errorf("%s %v, want %v", name, fields[name], want)
		}
	}
	if id, _ := fields["request_id"].(string); id == "" {
		t.Errorf("fields %v", fields)
	}
	v.wantDead(copied)
	reasons := make(map[any]int)
	for _, entry := range v.site.logs.FilterMessage("request refused").All() {
		reasons[entry.ContextMap()["reason"]]++
	}
	if reasons["session_revoked"] == 0 {
		t.Errorf("the operator is told %v", reasons)
	}
	if n := v.site.troubles(); n != 0 {
		t.Errorf("%d lines of trouble", n)
	}
}
