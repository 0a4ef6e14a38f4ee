package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-openid-connect/caddy-openid-connect/demo/probe"
	"github.com/caddy-openid-connect/caddy-openid-connect/demo/upstream"
)

// deepLink is where people want to go in a check: what looks like a mistake in it has to survive the login.
const deepLink = "/account?tab=a%20b&next=%2Fx%3Fy&tab=2&empty="

// sessionHeaders are what the site adds to X-Userinfo for people, in the spellings that backends take for the same header.
var sessionHeaders = []string{"X-User-Email", "X_User_Email", "X-User-Groups", "x-user-groups", "X_User_Groups", "X.User_Groups"}

// loginChecks walks through the site as people do.
type loginChecks struct {
	site, issuer string
	upstream     *upstream.Handler
	results      *results
}

func (c *loginChecks) add(name, expected, got string) { c.results.add(name, expected, got) }

// where is an address as seen from the site.
func (c *loginChecks) where(address *url.URL) string {
	if path, ok := strings.CutPrefix(address.String(), c.issuer); ok {
		return "provider, " + path
	}
	return strings.TrimPrefix(address.String(), c.site)
}

func says(page *probe.Page, words string) string {
	return strconv.FormatBool(strings.Contains(page.Text(), words))
}

// verify makes all the checks; reload loads the running configuration once more.
func (c *loginChecks) verify(ctx context.Context, reload func() error) error {
	c.verifyAnonymous(ctx)
	alice := c.verifyAlice(ctx)
	if err := reload(); err != nil {
		return err
	}
	c.add("alice after a reload of the configuration", "200", alice.Fetch(ctx, c.site+"/account", nil).Outcome())
	c.verifyBob(ctx)
	c.verifyCookies(ctx, alice)
	c.verifyCallback(ctx)
	c.verifyCancelled(ctx)
	return nil
}

func (c *loginChecks) verifyAnonymous(ctx context.Context) {
	browser := probe.NewBrowser()
	c.add("public page, anonymous", "200", browser.Visit(ctx, c.site+"/").Outcome())
	forged := browser.Fetch(ctx, c.site+"/", forge(sessionHeaders...))
	c.add("public page, forged identity headers", "200", forged.Outcome())
	c.add("public page, forged headers that the upstream saw", "none", forgedHeaders(&forged.Answer))

	passed := c.upstream.Count()
	page := browser.Open(ctx, c.site+deepLink, nil)
	c.add("page without a session", "302", page.Outcome())
	c.add("page without a session: Cache-Control", "no-store", page.Header.Get("Cache-Control"))
	authorization, err := url.Parse(page.Header.Get("Location"))
	if err != nil {
		authorization = new(url.URL)
	}
	query := authorization.Query()
	authorization.RawQuery = ""
	c.add("page without a session: leads to the provider", "provider, /authorize", c.where(authorization))
	c.add("authorization request: response_type", "code", query.Get("response_type"))
	c.add("authorization request: redirect_uri", "/oauth2/callback", strings.TrimPrefix(query.Get("redirect_uri"), c.site))
	c.add("authorization request: PKCE", "S256", query.Get("code_challenge_method"))
	c.add("authorization request: state and nonce", "true", strconv.FormatBool(query.Get("state") != "" && query.Get("nonce") != ""))

	fetch := probe.NewBrowser().Fetch(ctx, c.site+"/account", nil)
	c.add("fetch without a session", "401", fetch.Outcome())
	c.add("fetch without a session: error", "login_required", fetch.Field("error"))
	loginURL, _, _ := strings.Cut(fetch.Field("login_url"), "?")
	c.add("fetch without a session: login_url", "/oauth2/login", loginURL)
	c.add("fetch without a session: cookies", "0", fmt.Sprint(len(fetch.Header["Set-Cookie"])))
	c.add("no session, as told to scripts", "false", browser.Fetch(ctx, c.site+"/oauth2/session", nil).Field("authenticated"))
	c.add("requests without a session that the upstream saw", "0", fmt.Sprint(c.upstream.Count()-passed))
}

// verifyAlice signs alice in, who may see everything.
func (c *loginChecks) verifyAlice(ctx context.Context) *probe.Browser {
	alice := probe.NewBrowser()
	landed := alice.Press(ctx, alice.Visit(ctx, c.site+deepLink), "person", "alice")
	c.add("alice signs in", "200", landed.Outcome())
	c.add("alice lands where she wanted to go", deepLink, c.where(landed.URL))
	c.add("alice's page knows her by name", "true", says(landed, "You are Alice Anders, alice@demo.localhost"))
	c.add("alice's page is not for shared caches", "true", strconv.FormatBool(strings.Contains(landed.Header.Get("Cache-Control"), "private")))

	account := alice.Fetch(ctx, c.site+deepLink, nil)
	c.add("alice: path that the upstream saw", deepLink, account.Field("path"))
	c.add("alice: X-Userinfo", "Alice Anders", account.Claim("name"))
	c.add("alice: X-User-Email", "alice@demo.localhost", account.UpstreamHeader("X-User-Email"))
	c.add("alice: X-User-Groups", "staff,admins", account.UpstreamHeader("X-User-Groups"))
	c.add("cookies that the upstream saw", "none", cmp.Or(strings.Join(account.UpstreamHeaders()["Cookie"], "; "), "none"))

	session := alice.Fetch(ctx, c.site+"/oauth2/session", nil)
	c.add("alice's session", "true", session.Field("authenticated"))
	c.add("alice's session: subject", account.Claim("sub"), session.Field("subject"))
	c.add("alice on the admins' page", "200", alice.Visit(ctx, c.site+"/admin").Outcome())
	return alice
}

// verifyBob signs bob in, who is not one of the admins.
func (c *loginChecks) verifyBob(ctx context.Context) {
	bob := probe.NewBrowser()
	passed := c.upstream.Count()
	denied := bob.Press(ctx, bob.Visit(ctx, c.site+"/admin?from=bob"), "person", "bob")
	c.add("bob on the admins' page", "403", denied.Outcome())
	c.add("bob on the admins' page: stays there", "/admin?from=bob", c.where(denied.URL))
	c.add("bob on the admins' page: names the account", "true", says(denied, "Signed in as bob"))
	c.add("bob's fetch of the admins' page", "claim_required", bob.Fetch(ctx, c.site+"/admin", nil).Reason())
	c.add("bob's requests to the admins' page that passed", "0", fmt.Sprint(c.upstream.Count()-passed))

	forged := bob.Fetch(ctx, c.site+"/account", forge(sessionHeaders...))
	c.add("bob with forged identity headers", "200", forged.Outcome())
	c.add("bob: forged headers that the upstream saw", "none", forgedHeaders(&forged.Answer))
	c.add("bob with forged identity headers: X-Userinfo", "Bob Berger", forged.Claim("name"))
	c.add("bob with forged identity headers: X-User-Groups", "staff", forged.UpstreamHeader("X-User-Groups"))

	other := bob.Press(ctx, bob.Click(ctx, denied, "Use another account"), "person", "alice")
	c.add("bob uses alice's account", "200", other.Outcome())
	c.add("bob uses alice's account: comes back", "/admin?from=bob", c.where(other.URL))
	again := bob.Press(ctx, bob.Click(ctx, other, "Sign in as somebody else"), "person", "bob")
	c.add("bob is himself again", "true", says(again, "You are Bob Berger"))
}

// verifyCookies gives somebody else alice's cookies, as they are and with one character of each changed.
func (c *loginChecks) verifyCookies(ctx context.Context, alice *probe.Browser) {
	site, err := url.Parse(c.site)
	if err != nil {
		c.add("the site's address", "a URL", err.Error())
		return
	}
	mallory := probe.NewBrowser()
	cookies := alice.Cookies(site)
	mallory.SetCookies(site, cookies)
	c.add("fetch with a copied cookie", "200", mallory.Fetch(ctx, c.site+"/account", nil).Outcome())
	for _, cookie := range cookies {
		value := []byte(cookie.Value)
		if middle := len(value) / 2; value[middle] == 'A' {
			value[middle] = 'B'
		} else {
			value[middle] = 'A'
		}
		cookie.Value = string(value)
	}
	mallory.SetCookies(site, cookies)
	c.add("fetch with a tampered cookie", "401", mallory.Fetch(ctx, c.site+"/account", nil).Outcome())
	page := mallory.Visit(ctx, c.site+deepLink)
	c.add("page with a tampered cookie", "200", page.Outcome())
	page.URL.RawQuery = ""
	c.add("page with a tampered cookie: a new login", "provider, /login", c.where(page.URL))
	landed := mallory.Press(ctx, page, "person", "bob")
	c.add("page with a tampered cookie: after the login", "200", landed.Outcome())
	c.add("page with a tampered cookie: lands", deepLink, c.where(landed.URL))
}

// verifyCallback reloads the address that a login comes back to, and gives it to somebody else.
func (c *loginChecks) verifyCallback(ctx context.Context) {
	alice := probe.NewBrowser()
	landed := alice.Press(ctx, alice.Visit(ctx, c.site+deepLink), "person", "alice")
	callback := landed.Redirect("/oauth2/callback")
	if callback == nil {
		c.add("callback", "302", "none on the way to "+c.where(landed.URL))
		return
	}
	c.add("callback", "302", callback.Outcome())
	c.add("callback: session cookie", "HttpOnly, SameSite=Lax", newCookies(callback))
	reloaded := alice.Visit(ctx, callback.URL.String())
	c.add("callback reloaded", "200", reloaded.Outcome())
	c.add("callback reloaded: lands", deepLink, c.where(reloaded.URL))

	mallory := probe.NewBrowser()
	stolen := mallory.Visit(ctx, callback.URL.String())
	stolen.URL.RawQuery = ""
	c.add("callback in another browser: a new login", "provider, /login", c.where(stolen.URL))
	c.add("callback in another browser: no session", "401", mallory.Fetch(ctx, c.site+"/account", nil).Outcome())
}

// newCookies tells how browsers treat the cookies that an answer sets, all alike; those that it deletes do not count.
func newCookies(page *probe.Page) string {
	var kinds []string
	for _, line := range page.Header["Set-Cookie"] {
		cookie, err := http.ParseSetCookie(line)
		switch {
		case err != nil:
			kinds = append(kinds, err.Error())
		case cookie.MaxAge < 0:
		case cookie.HttpOnly && cookie.SameSite == http.SameSiteLaxMode:
			kinds = append(kinds, "HttpOnly, SameSite=Lax")
		default:
			kinds = append(kinds, "less protected")
		}
	}
	slices.Sort(kinds)
	return cmp.Or(strings.Join(slices.Compact(kinds), "; "), "none")
}

// verifyCancelled begins a login and thinks better of it.
func (c *loginChecks) verifyCancelled(ctx context.Context) {
	browser := probe.NewBrowser()
	cancelled := browser.Press(ctx, browser.Visit(ctx, c.site+deepLink), "cancel", "1")
	c.add("login cancelled: a page, and no new login", "/oauth2/callback", cancelled.URL.Path)
	c.add("login cancelled: the page says so", "true", says(cancelled, "access_denied"))
	again := browser.Press(ctx, browser.Click(ctx, cancelled, "Try again"), "person", "bob")
	c.add("login cancelled: another try", "200", again.Outcome())
	c.add("login cancelled: another try lands", deepLink, c.where(again.URL))
}
