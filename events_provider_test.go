package openidconnect

import (
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// A provider that goes and comes back is told of once each time, not with each request, nor with each handler.
func TestEventsOfTheProvider(t *testing.T) {
	p := optest.New(t)
	p.Down()
	heard.take()
	c := startCaddy(t, "handle /a/* {\n"+api(p, "")+"}\nhandle {\n"+api(p, "required_scopes read")+"}", "events {\non openid_connect.provider_down openid_connect_test\non openid_connect.provider_up openid_connect_test\n}")
	token := p.AccessToken(nil)
	for range 20 {
		c.refuses(token, http.StatusServiceUnavailable, "discovery_failed")
	}
	waitUntil(t, func() bool { return p.Refused() >= 3 }) // several attempts
	down := heard.all(eventProviderDown)
	if len(down) != 1 || down[0].data["issuer"] != p.Issuer() || down[0].data["reason"] != "discovery_failed" || len(down[0].data) != 2 {
		t.Errorf("the provider has gone: %v", down)
	}
	if up := heard.all(eventProviderUp); len(up) != 0 {
		t.Errorf("it is told to be there: %v", up)
	}
	p.Up()
	waitUntil(t, func() bool { return len(heard.all(eventProviderUp)) > 0 })
	for range 20 {
		c.allows(token)
	}
	up := heard.all(eventProviderUp)
	if len(up) != 1 || up[0].data["issuer"] != p.Issuer() || len(up[0].data) != 1 || len(heard.all("")) != 2 {
		t.Errorf("the provider is back: %v of %v", up, heard.all(""))
	}
}

// The events as a configuration subscribes to them: some by name, from the module that they come from.
func TestEventsInACaddy(t *testing.T) {
	p := optest.New(t, optest.WithEndSession())
	heard.take()
	c := startCaddy(t, webapp(p, "", "")+toUpstream, "events {\non openid_connect.login openid_connect_test\non openid_connect.logout openid_connect_test\n}")
	p.SetUser(optest.Claims{"sub": "alice", "email": "alice@example.com"})
	p.SetSIDs(func() string { return "s" })
	v := newCaddyVisitor(t, c, p)
	v.signIn("/")
	cookie := v.kept(isSessionName)[0].Value
	wantDone(t, p.SendLogout(t, c.url(backchannelPath), p.LogoutToken(optest.BySIDAndSub("s", "alice"))))
	v.open("/") // session_ended, which nobody has asked for
	told := heard.all("")
	if len(told) != 2 || told[0].name != eventLogin || told[1].name != eventLogout {
		t.Fatalf("told of %v", told)
	}
	for name, want := range map[string]any{"issuer": p.Issuer(), "client_id": "client", "host": c.address, "subject": "alice", "user_id": "alice"} {
		if got := told[0].data[name]; got != want {
			t.Errorf("the login's %s is %v, want %v", name, got, want)
		}
	}
	for name, want := range map[string]any{"issuer": p.Issuer(), "client_id": "client", "host": c.address, "subject": "alice", "sid": "s", "by": "backchannel", "count": 1} {
		if got := told[1].data[name]; got != want {
			t.Errorf("the logout's %s is %v, want %v", name, got, want)
		}
	}
	wantNoSecrets(t, &heard, p, cookie, sessionSecret)
}

// Nobody's listening costs nothing: no event is made.
func TestEventsWithoutAListener(t *testing.T) {
	p := optest.New(t)
	quiet := "log {\noutput openid_connect_test\nformat json\nlevel INFO\n}"
	c := startCaddy(t, webapp(p, "", "denied_claim sub mallory")+toUpstream, quiet)
	v := newCaddyVisitor(t, c, p)
	v.signIn("/")
	takeLogs()
	var handlers []*runtime
	for h := range originsOfHandlers(caddy.ActiveContext()) {
		handlers = append(handlers, h.runtime)
	}
	rt := handlers[0]
	data := map[string]any{"by": logoutByUser}
	if n := testing.AllocsPerRun(100, func() { rt.emit(nil, eventLogout, data) }); n != 0 {
		t.Errorf("%v allocations for an event that nobody hears", n)
	}
	if n := testing.AllocsPerRun(100, func() { rt.events.emit(eventProviderUp, "x", data) }); n != 0 {
		t.Errorf("%v allocations for an event that nobody hears", n)
	}
	if logs := takeLogs(); strings.Contains(logs, eventLogout) {
		t.Error("the event is in the log")
	}
	without := emitter{logger: zap.NewNop()} // as where there is no such app
	without.emit(eventLogin, "x", nil)
}
