package main

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/demo/probe"
	"github.com/caddy-openid-connect/caddy-openid-connect/demo/provider"
)

// logoutChecks signs people out, and sees that they stay so.
type logoutChecks struct {
	loginChecks
	provider *provider.Provider
}

func (c *logoutChecks) verify(ctx context.Context) error {
	site, err := url.Parse(c.site)
	if err != nil {
		return err
	}
	c.verifyLink(ctx, site)
	c.verifyScript(ctx, site)
	c.verifyElsewhere(ctx)
	return c.verifyBackchannel(ctx)
}

// signIn returns a browser in which somebody is signed in, and the page that this ends at.
func (c *logoutChecks) signIn(ctx context.Context, person string) (*probe.Browser, *probe.Page) {
	browser := probe.NewBrowser()
	return browser, browser.Press(ctx, browser.Visit(ctx, c.site+"/account"), "person", person)
}

// copyOf is somebody else, with the same cookies for the site.
func copyOf(browser *probe.Browser, site *url.URL) *probe.Browser {
	mallory := probe.NewBrowser()
	mallory.SetCookies(site, browser.Cookies(site))
	return mallory
}

func (c *logoutChecks) fetch(ctx context.Context, browser *probe.Browser) string {
	return browser.Fetch(ctx, c.site+"/account", nil).Outcome()
}

// verifyLink has alice follow the link on the page: to the provider, and back.
func (c *logoutChecks) verifyLink(ctx context.Context, site *url.URL) {
	alice, page := c.signIn(ctx, "alice")
	mallory := copyOf(alice, site)
	c.add("alice's cookie, copied", "200", c.fetch(ctx, mallory))
	end := alice.Click(ctx, page, "Sign out")
	c.add("alice signs out", "200", end.Outcome())
	c.add("alice signs out: lands", "/oauth2/logged-out", end.URL.Path)
	c.add("alice signs out: the page says so", "true", says(end, "You are signed out"))
	c.add("alice signs out: at the provider as well", "true", says(end, "where you have been signed out as well"))
	sent := &url.URL{}
	if logout := end.Redirect("/oauth2/logout"); logout != nil {
		if location, err := url.Parse(logout.Header.Get("Location")); err == nil {
			sent = location
		}
	}
	query := sent.Query()
	sent.RawQuery = ""
	c.add("logout request: leads to the provider", "provider, /end_session", c.where(sent))
	c.add("logout request: client_id", webApplication, query.Get("client_id"))
	c.add("logout request: post_logout_redirect_uri", "/oauth2/logged-out", strings.TrimPrefix(query.Get("post_logout_redirect_uri"), c.site))
	c.add("logout request: id_token_hint and state", "true", strconv.FormatBool(query.Get("id_token_hint") != "" && query.Get("state") != ""))
	c.add("alice's fetch after that", "401", c.fetch(ctx, alice))
	c.add("the copied cookie after that", "401", c.fetch(ctx, mallory))
	c.add("the signed-out page, reloaded", "/oauth2/logged-out", alice.Visit(ctx, end.URL.String()).URL.Path)
	again := alice.Visit(ctx, c.site+"/account")
	again.URL.RawQuery = ""
	c.add("alice's next page leads to a login", "provider, /login", c.where(again.URL))
}

// verifyScript has a script of the site sign bob out.
func (c *logoutChecks) verifyScript(ctx context.Context, site *url.URL) {
	bob, _ := c.signIn(ctx, "bob")
	logoutURL := bob.Fetch(ctx, c.site+"/oauth2/session", nil).Field("logout_url")
	c.add("bob's session: logout_url", "/oauth2/logout", logoutURL)
	mallory := copyOf(bob, site)
	answer := bob.Post(ctx, c.site+logoutURL, url.Values{}, nil)
	c.add("bob's script signs out", "200", answer.Outcome())
	target, _, _ := strings.Cut(answer.Field("logout_url"), "?")
	c.add("bob's script signs out: where to go on", c.issuer+"/end_session", target)
	end := bob.Visit(ctx, answer.Field("logout_url"))
	c.add("bob's script signs out: goes on", "/oauth2/logged-out", end.URL.Path)
	c.add("bob's session, as told to scripts", "false", bob.Fetch(ctx, c.site+"/oauth2/session", nil).Field("authenticated"))
	c.add("bob's cookie, copied before", "401", c.fetch(ctx, mallory))
}

// verifyElsewhere has another site try to sign alice out.
func (c *logoutChecks) verifyElsewhere(ctx context.Context) {
	alice, _ := c.signIn(ctx, "alice")
	elsewhere := http.Header{"Sec-Fetch-Site": {"cross-site"}}
	form := alice.Post(ctx, c.site+"/oauth2/logout", url.Values{}, http.Header{
		"Sec-Fetch-Dest": {"document"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Site": {"cross-site"},
	})
	c.add("a form on another site that signs out", "403", form.Outcome())
	image := alice.Fetch(ctx, c.site+"/oauth2/logout", http.Header{
		"Accept": {"image/*"}, "Sec-Fetch-Dest": {"image"}, "Sec-Fetch-Mode": {"no-cors"}, "Sec-Fetch-Site": {"cross-site"},
	})
	c.add("an image on another site: a page nobody sees", "200", image.Outcome())
	question := alice.Open(ctx, c.site+"/oauth2/logout", elsewhere)
	c.add("a link on another site: asks first", "true", says(question, "Sign out?"))
	c.add("alice is signed in after all that", "200", c.fetch(ctx, alice))
	end := alice.Click(ctx, question, "Sign out")
	c.add("alice agrees: lands", "/oauth2/logged-out", end.URL.Path)
	c.add("alice agrees: a fetch", "401", c.fetch(ctx, alice))
}

// issuedWithin is the precision of the times in tokens: a login in the same second as the provider's logout counts as older.
const issuedWithin = time.Second

// verifyBackchannel signs alice out at the provider, and nobody else.
func (c *logoutChecks) verifyBackchannel(ctx context.Context) error {
	here, _ := c.signIn(ctx, "alice")
	there, _ := c.signIn(ctx, "alice")
	bob, _ := c.signIn(ctx, "bob")
	subject := here.Fetch(ctx, c.site+"/oauth2/session", nil).Field("subject")
	c.add("alice in two browsers", "200, 200", c.fetch(ctx, here)+", "+c.fetch(ctx, there))
	forged := probe.NewBrowser().Post(ctx, c.site+"/oauth2/backchannel-logout", url.Values{"logout_token": {"nonsense"}}, nil)
	c.add("a logout token that is none", "logout_token_invalid", forged.Reason())
	c.add("alice after that", "200", c.fetch(ctx, here))
	if err := c.provider.SignOut(ctx, subject); err != nil {
		return err
	}
	c.add("the provider signs alice out: both browsers", "401, 401", c.fetch(ctx, here)+", "+c.fetch(ctx, there))
	c.add("the provider signs alice out: bob goes on", "200", c.fetch(ctx, bob))
	if err := wait(ctx, issuedWithin); err != nil {
		return err
	}
	_, landed := c.signIn(ctx, "alice")
	c.add("alice signs in again", "200", landed.Outcome())
	return nil
}
