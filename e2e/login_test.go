package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/browser"
)

// TestLogin follows a deep link, logs in, and arrives where the link leads.
func TestLogin(t *testing.T) {
	eachLoginProvider(t, func(t *testing.T, p *loginProvider) {
		v := newVisit(t, p)
		const path = "/orders/2026/?item=a%2Fb&item=%C3%BC&empty="
		tab := v.open(path + "#total")
		p.signIn(tab, alice)
		landed(t, tab).expect(t, path, p.subject(alice))

		// A second tab of the same browser does not ask again.
		second := v.open("/second")
		reached(t, second).expect(t, "/second", p.subject(alice))
		v.expectNoProvider(t, second)
	})
}

// TestBackButton goes back to the login form of the provider after the login.
func TestBackButton(t *testing.T) {
	eachLoginProvider(t, func(t *testing.T, p *loginProvider) {
		v := newVisit(t, p)
		tab := v.signedIn(t, alice, "/orders?page=2")
		tab.Back()
		page := tab.Wait("the provider or the application", func(page browser.Page) bool {
			return isApplication(page) || strings.HasPrefix(page.URL, p.origin)
		})
		if !isApplication(page) { // the provider does not know better than to show its form again
			tab.Forward()
		}
		landed(t, tab).expect(t, "/orders?page=2", p.subject(alice))
		v.expectNoErrors(t, tab)
	})
}

// TestCallbackAgain loads the address of the callback again, whose code and transaction are spent.
func TestCallbackAgain(t *testing.T) {
	eachLoginProvider(t, func(t *testing.T, p *loginProvider) {
		v := newVisit(t, p)
		tab := v.signedIn(t, alice, "/orders?page=2")
		callback := callbackOf(t, tab)
		for _, again := range []*browser.Tab{tab, v.NewTab()} {
			again.Open(callback)
			landed(t, again).expect(t, "/orders?page=2", p.subject(alice))
			v.expectNoErrors(t, again)
		}

		// Without a session it takes a new login, for which the provider may ask again.
		v.forget(tab)
		tab.Open(callback)
		v.finish(t, tab, alice).expect(t, "/orders?page=2", p.subject(alice))
		v.expectNoErrors(t, tab)
	})
}

// callbackOf returns the address by which the provider sent the tab back.
func callbackOf(t *testing.T, tab *browser.Tab) string {
	t.Helper()
	for _, answer := range slices.Backward(tab.Answers()) {
		if strings.Contains(answer.URL, "/oauth2/callback?") {
			return answer.URL
		}
	}
	t.Fatal("the tab did not come back from the provider")
	return ""
}

// TestTwoTabs has two tabs that both show the login form, and finishes them one after the other.
func TestTwoTabs(t *testing.T) {
	eachLoginProvider(t, func(t *testing.T, p *loginProvider) {
		for _, order := range [][]int{{0, 1}, {1, 0}} {
			v := newVisit(t, p)
			paths := []string{"/first?tab=1", "/second?tab=2"}
			var tabs []*browser.Tab
			for _, path := range paths {
				tab := v.open(path)
				p.asksWho(tab)
				tabs = append(tabs, tab)
			}
			for _, i := range order {
				v.finish(t, tabs[i], alice).expect(t, paths[i], p.subject(alice))
				v.expectNoErrors(t, tabs[i])
			}
		}
	})
}

// TestTwoTabsAtOnce has two tabs with the login form filled in, and sends both before the first has arrived.
func TestTwoTabsAtOnce(t *testing.T) {
	eachLoginProvider(t, func(t *testing.T, p *loginProvider) {
		v := newVisit(t, p)
		paths := []string{"/first?tab=1", "/second?tab=2"}
		var tabs []*browser.Tab
		for _, path := range paths {
			tab := v.open(path)
			p.fillIn(tab, alice)
			tabs = append(tabs, tab)
		}
		for _, tab := range tabs {
			p.send(tab)
		}
		for i, tab := range tabs {
			v.finish(t, tab, alice).expect(t, paths[i], p.subject(alice))
			v.expectNoErrors(t, tab)
		}
	})
}

// TestTransactionGone has somebody at the login form for so long that the gateway's cookies for this login are no more.
func TestTransactionGone(t *testing.T) {
	eachLoginProvider(t, func(t *testing.T, p *loginProvider) {
		v := newVisit(t, p)
		tab := v.open("/orders?page=2")
		p.asksWho(tab)
		if len(v.siteCookies()) == 0 {
			t.Fatal("there is no cookie to lose")
		}
		v.forget(tab)
		p.signIn(tab, alice)
		// The login starts anew. A provider that remembers the first one asks for nothing.
		v.finish(t, tab, alice).expect(t, "/orders?page=2", p.subject(alice))
		v.expectNoErrors(t, tab)
	})
}
