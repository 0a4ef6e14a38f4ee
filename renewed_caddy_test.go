package openidconnect

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// What a renewal changes, in a whole Caddy and by its own clock: access tokens live for a second there.

// renewedPage opens a page until a renewal has been made, and returns the answer to the very request that made it.
func (v *visitor) renewedPage(path string) *optest.Response {
	v.t.Helper()
	before := v.provider.RefreshGrants()
	var last *optest.Response
	waitUntil(v.t, func() bool {
		v.upstream.advance()
		last = v.Get(v.url(path), "Accept: application/json")
		return v.provider.RefreshGrants() > before
	})
	return last
}

// S-197: headers, placeholders, matchers, the access log and rules take what the provider says now, from the renewing request on.
func TestS197InAWholeCaddy(t *testing.T) {
	p := optest.New(t)
	p.SetRefreshTokens(true)
	p.SetAccessLifetime(time.Second)
	c := startCaddy(t, `
	log
	route {
		`+webapp(p, "", `
			`+withinProcess+`
			scope openid profile
			username_claim preferred_username
			required_claim groups staff
			claim_header X-Groups groups
			session {
				secret "`+sessionSecret+`"
			}`)+`
		@admin expression `+"`"+`"admin" in {http.auth.user.groups}`+"`"+`
		request_header @admin X-Admin yes
		reverse_proxy $UPSTREAM {
			header_up X-Up "{http.auth.user.groups} of {http.auth.user.id}"
		}
	}`)
	user := func(name string, groups ...string) {
		p.SetUser(optest.Claims{"preferred_username": name, "groups": groups})
	}
	user("ada", "staff")
	v := newCaddyVisitor(t, c, p)
	v.signIn("/")
	wantUpstream := func(want map[string]string) {
		t.Helper()
		header := c.last(t).Header
		for name, value := range want {
			if got := header.Get(name); got != value {
				t.Errorf("%s %q, want %q", name, got, value)
			}
		}
	}
	wantUpstream(map[string]string{"X-Groups": "staff", "X-Up": "staff of ada", "X-Admin": ""})

	user("ada.lovelace", "staff", "admin")
	if r := v.renewedPage("/one"); r.Status != http.StatusOK {
		t.Fatalf("got %d: %s", r.Status, r.Body)
	}
	wantUpstream(map[string]string{"X-Groups": "staff,admin", "X-Up": "staff,admin of ada.lovelace", "X-Admin": "yes"})

	user("ada.lovelace", "staff")
	if r := v.renewedPage("/two"); r.Status != http.StatusOK {
		t.Fatalf("got %d: %s", r.Status, r.Body)
	}
	wantUpstream(map[string]string{"X-Groups": "staff", "X-Up": "staff of ada.lovelace", "X-Admin": ""})

	user("ada.lovelace", "other")
	refused := v.renewedPage("/three")
	if refused.Status != http.StatusForbidden || c.advance() != 0 || jsonMembers(t, refused.Body)["reason"] != "claim_required" {
		t.Errorf("got %d without the group: %s", refused.Status, refused.Body)
	}
	if len(sessionsIn(refused)) == 0 {
		t.Error("the refusal does not bring the renewed session")
	}
	user("ada", "staff")
	if r := v.renewedPage("/four"); r.Status != http.StatusOK {
		t.Errorf("got %d with the group again", r.Status)
	}
	if n := p.RefreshReuses(); n != 0 {
		t.Errorf("%d refresh tokens were presented twice", n)
	}
	var seen []string
	waitUntil(t, func() bool { // the line is written after the answer
		for _, line := range logLines(t, takeLogs(), "handled request") {
			uri, _ := line["request"].(map[string]any)["uri"].(string)
			seen = append(seen, fmt.Sprint(uri, " ", line["user_id"]))
		}
		return slices.Contains(seen, "/four ada")
	})
	for _, want := range []string{"/ ada", "/one ada.lovelace", "/two ada.lovelace"} {
		if !slices.Contains(seen, want) {
			t.Errorf("no line %q in the access log", want)
		}
	}
}

// Handlers of a host that share a session share its renewals: whichever makes one asks for what the others need as well.
func TestRenewalServesSiblings(t *testing.T) {
	p := optest.New(t)
	p.SetRefreshTokens(true)
	p.SetAccessLifetime(time.Second)
	p.SetUserinfo(func(claims optest.Claims) { claims["desk"] = claims["room"] })
	user := func(room string) { p.SetUser(optest.Claims{"room": room}) }
	const session = "\n" + withinProcess + "\nsession {\nsecret \"" + sessionSecret + "\"\n}\n"
	c := startCaddy(t, webapp(p, "/a/*", "claim_header X-Room room\nset_userinfo_header off"+session)+
		webapp(p, "/b/*", "claim_header X-Desk desk\nset_access_token_header\nset_userinfo_header off"+session)+toUpstream)
	user("1")
	v := newCaddyVisitor(t, c, p)
	v.signIn("/a/")
	for room, path := range map[string]string{"2": "/a/", "3": "/b/"} {
		user(room)
		if r := v.renewedPage(path); r.Status != http.StatusOK {
			t.Fatalf("got %d: %s", r.Status, r.Body)
		}
		for path, header := range map[string]string{"/a/": "X-Room", "/b/": "X-Desk"} {
			if r := v.Get(v.url(path)); r.Status != http.StatusOK || c.last(t).Header.Get(header) != room {
				t.Errorf("%s got %d and %q of room %s", path, r.Status, c.last(t).Header.Get(header), room)
			}
			if got := c.last(t).Header.Get("X-Access-Token"); (got != "") != (path == "/b/") {
				t.Errorf("%s got the access token %.20q", path, got)
			}
		}
	}
	if n := p.RefreshReuses(); n != 0 {
		t.Errorf("%d refresh tokens were presented twice", n)
	}
}

// A provider that takes longer to renew a token than the token lives is asked once with a request, and the request gets what it may have.
func TestRenewalOfTokensThatHardlyLive(t *testing.T) {
	p := optest.New(t)
	p.SetRefreshTokens(true)
	p.SetAccessLifetime(time.Second)
	c := startCaddy(t, webapp(p, "/token/*", withinProcess+"\nset_access_token_header")+webapp(p, "/page/*", withinProcess)+toUpstream)
	v := newCaddyVisitor(t, c, p)
	v.signIn("/page/")
	p.FailRefresh(optest.Fault{Delay: 1100 * time.Millisecond})
	for path, status := range map[string]int{"/page/": http.StatusOK, "/token/": http.StatusServiceUnavailable} {
		waitUntil(t, func() bool { // with a token of the time before, if need be
			before := p.RefreshAttempts()
			r := v.Get(v.url(path), "Accept: application/json")
			n := p.RefreshAttempts() - before
			if n > 1 || n == 1 && r.Status != status {
				t.Errorf("%s got %d by %d attempts", path, r.Status, n)
			}
			return n > 0
		})
	}
	p.HealRefresh()
	waitUntil(t, func() bool { return v.Get(v.url("/token/")).Status == http.StatusOK })
	if n := p.RefreshReuses(); n != 0 {
		t.Errorf("%d refresh tokens were presented twice", n)
	}
}

// What a later directive fails with is answered by the server, or by the site's handle_errors: to this user alone, and with the session that
// the request has renewed.
func TestErrorsOfLaterDirectives(t *testing.T) {
	p := optest.New(t)
	p.SetRefreshTokens(true)
	p.SetAccessLifetime(time.Second)
	c := startCaddy(t, "route {\n"+webapp(p, "", withinProcess)+`
		error /gone 404
		reverse_proxy /down 127.0.0.1:1
		`+toUpstream+`}
		handle_errors 4xx {
			respond "nothing here for {http.auth.user.id}" 404
		}`)
	v := newCaddyVisitor(t, c, p)
	v.signIn("/")
	for path, status := range map[string]int{"/page": 200, "/down": 502} {
		r := v.renewedPage(path)
		if cookies := sessionsIn(r); r.Status != status || len(cookies) != 1 || r.Header.Get("Cache-Control") != "private, no-store" {
			t.Errorf("%s: the renewing request gets %d, the cookies %q and Cache-Control %q", path, r.Status, cookies, r.Header.Values("Cache-Control"))
		}
	}
	p.SetAccessLifetime(time.Hour)
	v.renewedPage("/page")
	for path, status := range map[string]int{"/page": 200, "/gone": 404, "/down": 502} {
		r := v.open(path)
		if r.Status != status || r.Header.Get("Cache-Control") != "private" || !strings.Contains(r.Header.Get("Vary"), "Cookie") {
			t.Errorf("%s: %d, Cache-Control %q, Vary %q", path, r.Status, r.Header.Values("Cache-Control"), r.Header.Values("Vary"))
		}
	}
}
