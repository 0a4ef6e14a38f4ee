package e2e

import (
	"strings"
	"testing"
)

// TestFormPost has the provider answer with a form that posts itself to the site, which browsers treat as a request of
// another site. That takes TLS.
func TestFormPost(t *testing.T) {
	eachLoginProvider(t, func(t *testing.T, p *loginProvider) {
		v := newVisitAt(t, around.get(t).tls, p, "response_mode form_post")
		tab := v.open("/orders?page=2")
		p.asksWho(tab)
		v.expectCookies(t, "None")
		p.signIn(tab, alice)
		landed(t, tab).expect(t, "/orders?page=2", p.subject(alice))
		v.expectCookies(t, "Lax")
		if callback := v.url("/oauth2/callback"); !strings.HasPrefix(tab.Answers()[len(tab.Answers())-2].URL, callback) {
			t.Errorf("the tab did not come by %s", callback)
		}
		for _, answer := range tab.Answers() {
			if strings.HasPrefix(answer.URL, v.url("/oauth2/callback?")) {
				t.Errorf("the answer is in the address %s", answer.URL)
			}
		}

		second := v.open("/second")
		reached(t, second).expect(t, "/second", p.subject(alice))
		v.expectNoProvider(t, second)
	})
}

// expectCookies compares the attributes of all cookies of the gateway.
func (v *visit) expectCookies(t *testing.T, sameSite string) {
	t.Helper()
	cookies := v.siteCookies()
	if len(cookies) == 0 {
		t.Error("there are no cookies")
	}
	for _, c := range cookies {
		if strings.HasSuffix(c.Name, "-loop") { // goes where the callback goes, and tells nothing
			continue
		}
		if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HTTPOnly || c.SameSite != sameSite {
			t.Errorf("the cookie %s has Secure %t, HttpOnly %t and SameSite %q, want %q",
				c.Name, c.Secure, c.HTTPOnly, c.SameSite, sameSite)
		}
	}
}
