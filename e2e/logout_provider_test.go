package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/browser"
)

// atAnotherBrowser is a visit of the same site with another browser.
func (v *visit) atAnotherBrowser(t *testing.T) *visit {
	t.Helper()
	other := *v
	other.Person = v.browser.NewPerson(t)
	return &other
}

// seat is somebody who is signed in, and what there is to know about the session.
type seat struct {
	*visit
	tab    *browser.Tab
	sid    string
	copied cookies
}

// sit signs somebody in at a browser.
func (v *visit) sit(t *testing.T, who person) *seat {
	t.Helper()
	s := &seat{visit: v, tab: v.signedIn(t, who, "/orders")}
	s.sid, _ = reached(t, s.tab).claims(t)["sid"].(string)
	if s.copied = v.session(); s.sid == "" {
		t.Fatal("the ID token has no sid")
	}
	s.expect(t, "at first", true)
	return s
}

// expect compares whether a session lives: for a page that is open, and for somebody with a copy of its cookies.
func (s *seat) expect(t *testing.T, what string, alive bool) {
	t.Helper()
	script, page := http.StatusUnauthorized, http.StatusFound
	if alive {
		script, page = http.StatusOK, http.StatusOK
	}
	if got := browser.Evaluate[fetched](s.tab, fetchScript); got.Status != script {
		t.Errorf("%s: a script of the open page gets %d, want %d", what, got.Status, script)
	}
	expectSession(t, s.tab, alive)
	s.expectCopy(t, s.copied, script, page)
}

// again clicks in a page whose session has ended, and logs in.
func (s *seat) again(t *testing.T, who person) *seat {
	t.Helper()
	s.tab.Click(next)
	s.provider.signIn(s.tab, who) // with the password
	landed(t, s.tab).expect(t, "/next", s.provider.subject(who))
	s.expectNoErrors(t, s.tab)
	renewed := &seat{visit: s.visit, tab: s.tab, copied: s.session()}
	renewed.sid, _ = reached(t, s.tab).claims(t)["sid"].(string)
	renewed.expect(t, "after another login", true)
	return renewed
}

// endsThere logs out at the provider, which knows of no site that has asked for it.
func (s *seat) endsThere(t *testing.T) *browser.Tab {
	t.Helper()
	return s.endsThereWith(t, "")
}

// endsThereWith sends an ID token along, unless it is empty.
func (s *seat) endsThereWith(t *testing.T, hint string) *browser.Tab {
	t.Helper()
	address := s.provider.endSessionURL()
	if hint != "" {
		address += "?id_token_hint=" + hint
	}
	tab := s.NewTab()
	tab.Open(address)
	tab.Click(s.provider.confirmation)
	tab.Wait("the end of the logout", func(page browser.Page) bool {
		return strings.HasPrefix(page.URL, s.provider.origin) && !tab.Has(s.provider.confirmation) && page.Text != ""
	})
	return tab
}

// expectLogouts counts what the log says of logouts by the provider.
func (v *visit) expectLogouts(t *testing.T, channel string, want int) {
	t.Helper()
	if got := v.logouts(t, channel); got != want {
		t.Errorf("the log tells of %d logouts by %s, want %d", got, channel, want)
	}
}

// logouts counts them. No logout token may have been refused.
func (v *visit) logouts(t *testing.T, channel string) (got int) {
	t.Helper()
	for line := range strings.Lines(v.gateway.log(t)) {
		if strings.Contains(line, `"msg":"logout","by":"`+channel+`"`) {
			got++
		}
		if strings.Contains(line, "logout_token_invalid") {
			t.Errorf("a logout token was refused: %s", line)
		}
	}
	return got
}

// inEachStorage runs a test with sessions in cookies, and with sessions in Caddy's storage.
func inEachStorage(t *testing.T, test func(t *testing.T, options ...string)) {
	t.Run("cookies", func(t *testing.T) { test(t) })
	t.Run("storage", func(t *testing.T) { test(t, "session {", "storage caddy", "}") })
}

// backchannel is a registration with logout tokens.
func (s *surroundings) backchannel() loginOptions {
	o := s.registration()
	o.backchannelURI = string(s.plain.numeric()) + "/oauth2/backchannel-logout"
	return o
}

// TestBackchannelByAdministrator ends sessions in Keycloak's administration. Logout tokens tell of it.
func TestBackchannelByAdministrator(t *testing.T) {
	inEachStorage(t, func(t *testing.T, options ...string) {
		p := newKeycloakAccount(t, around.get(t).backchannel())
		v := newVisit(t, p, options...)
		first, second, other := v.sit(t, p.user), v.atAnotherBrowser(t).sit(t, p.user), v.atAnotherBrowser(t).sit(t, bob)
		if first.sid == second.sid {
			t.Fatal("both browsers have the same session at Keycloak")
		}

		if err := p.admin.RemoveSession(t.Context(), first.sid); err != nil {
			t.Fatal(err)
		}
		first.expect(t, "one session removed", false)
		second.expect(t, "another session of the user removed", true)
		other.expect(t, "a session of somebody else removed", true)
		v.expectLogouts(t, "backchannel", 1)
		renewed := first.again(t, p.user)

		if err := p.admin.SignOut(t.Context(), p.subject(p.user)); err != nil {
			t.Fatal(err)
		}
		renewed.expect(t, "signed out everywhere", false)
		second.expect(t, "signed out everywhere", false)
		other.expect(t, "somebody else signed out", true)
		v.expectLogouts(t, "backchannel", 3)

		v.gateway.stop(t)
		v.gateway.start(t)
		v.gateway.load(t, v.config)
		for _, ended := range []*seat{first, renewed, second} {
			ended.expectCopy(t, ended.copied, http.StatusUnauthorized, http.StatusFound)
		}
		other.expect(t, "after a restart", true)
		second.again(t, p.user)
	})
}

// TestBackchannelBySubject has Keycloak leave out which session it means: all of the person.
func TestBackchannelBySubject(t *testing.T) {
	o := around.get(t).backchannel()
	o.bySubject = true
	p := newKeycloakAccount(t, o)
	v := newVisit(t, p)
	first, second, other := v.sit(t, p.user), v.atAnotherBrowser(t).sit(t, p.user), v.atAnotherBrowser(t).sit(t, bob)
	if err := p.admin.RemoveSession(t.Context(), first.sid); err != nil {
		t.Fatal(err)
	}
	first.expect(t, "one session removed", false)
	second.expect(t, "one session removed", false)
	other.expect(t, "a session of somebody else removed", true)
	v.expectLogouts(t, "backchannel", 1)
	pass(t, time.Second) // what begins in the same second ends with the others
	first.again(t, p.user)
}

// TestBackchannelByUser logs out at the provider, in the browser. Logout tokens end the session of that browser.
func TestBackchannelByUser(t *testing.T) {
	for _, test := range []struct {
		name  string
		start newProvider
	}{
		{"oidc-provider", newNodeLoginWith},
		{"keycloak", newKeycloakAccount},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := test.start(t, around.get(t).backchannel())
			v := newVisit(t, p)
			first, second, other := v.sit(t, p.user), v.atAnotherBrowser(t).sit(t, p.user), v.atAnotherBrowser(t).sit(t, bob)
			first.endsThere(t)
			first.expect(t, "logged out at the provider", false)
			second.expect(t, "logged out in another browser", true)
			other.expect(t, "somebody else logged out", true)
			v.expectLogouts(t, "backchannel", 1)
			renewed := first.again(t, p.user)

			// The logout from here is one of the provider as well, which may come here twice.
			renewed.tab.Click(signOut)
			renewed.leaves(t, renewed.tab, true)
			renewed.expectCopy(t, renewed.copied, http.StatusUnauthorized, http.StatusFound)
			second.expect(t, "logged out here in another browser", true)
		})
	}
}

// TestFrontchannel logs out at Keycloak, whose page has a frame for each site. The frame gets no cookie of the site.
func TestFrontchannel(t *testing.T) {
	inEachStorage(t, func(t *testing.T, options ...string) {
		o := around.get(t).registration()
		o.frontchannelURI = string(around.get(t).plain) + "/oauth2/frontchannel-logout"
		p := newKeycloakAccount(t, o)
		v := newVisit(t, p, append(options, "frontchannel_logout")...)
		first, second, other := v.sit(t, p.user), v.atAnotherBrowser(t).sit(t, p.user), v.atAnotherBrowser(t).sit(t, bob)

		tab := first.endsThere(t)
		frame := func() (last browser.Request) {
			for _, request := range tab.Requests() {
				if strings.HasPrefix(request.URL, o.frontchannelURI+"?") {
					last = request
				}
			}
			return last
		}
		eventually(t, "an answer to the frame", 30*time.Second, func() bool { return frame().Status != 0 })
		if got := frame(); got.Kind != "Document" || got.Status != http.StatusOK || got.Failed != "" || len(got.Cookies) != 0 {
			t.Errorf("the frame got %+v", got)
		}
		if shown := browser.Evaluate[string](first.Frame(o.frontchannelURI), "document.title"); shown != "Signed out" {
			t.Errorf("the frame shows %q", shown)
		}
		first.expect(t, "logged out at the provider", false)
		second.expect(t, "logged out in another browser", true)
		other.expect(t, "somebody else logged out", true)
		v.expectLogouts(t, "frontchannel", 1)
		renewed := first.again(t, p.user)

		// The logout from here passes by the same frames.
		renewed.tab.Click(signOut)
		renewed.leaves(t, renewed.tab, true)
		renewed.expectCopy(t, renewed.copied, http.StatusUnauthorized, http.StatusFound)
		second.expect(t, "logged out here in another browser", true)
	})
}
