package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/demo/probe"
	"github.com/caddy-openid-connect/caddy-openid-connect/demo/provider"
)

const (
	// briefly is how long the access token lives that the checks see expire. The provider tells it in whole seconds, rounded down.
	briefly = 3 * time.Second
	// manyRequests is what a page may cause at once.
	manyRequests = 20
)

// renewalChecks outlives an access token, at a provider where each refresh token is good for one use and a second use ends the session.
type renewalChecks struct {
	loginChecks
	provider   *provider.Provider
	tokensLive func(time.Duration) // those that the provider gives from now on
}

func (c *renewalChecks) verify(ctx context.Context) error {
	site, err := url.Parse(c.site)
	if err != nil {
		return err
	}
	c.tokensLive(briefly)
	alice := probe.NewBrowser()
	landed := alice.Press(ctx, alice.Visit(ctx, c.site+"/account"), "person", "alice")
	c.add("alice signs in, with a token for a few seconds", "200", landed.Outcome())
	c.tokensLive(tokenLifetime)
	cookies := alice.Cookies(site)
	late, later := probe.NewBrowser(), probe.NewBrowser()
	late.SetCookies(site, cookies)
	later.SetCookies(site, cookies)
	if err := wait(ctx, briefly); err != nil {
		return err
	}

	before := c.provider.Renewals()
	since := func() string {
		now := c.provider.Renewals()
		return fmt.Sprintf("%d granted, %d reused", now.Granted-before.Granted, now.Reused-before.Reused)
	}
	answers, tokens := c.fetchAtOnce(ctx, alice)
	c.add(fmt.Sprintf("%d requests at once after its expiry", manyRequests), "200", answers)
	c.add("their access tokens that the upstream saw", "1", strconv.Itoa(len(tokens)))
	c.add("refresh tokens that the provider saw", "1 granted, 0 reused", since())
	c.add("alice has another cookie now", "true", strconv.FormatBool(!slices.Equal(values(cookies), values(alice.Cookies(site)))))

	c.verifyLate(ctx, late, tokens)
	c.add("late with the old cookie, once more in a new browser", "200", later.Fetch(ctx, c.site+"/account", nil).Outcome())
	c.add("alice goes on", "200", alice.Fetch(ctx, c.site+"/account", nil).Outcome())
	c.add("refresh tokens that the provider saw, after all this", "1 granted, 0 reused", since())
	return c.verifyRefused(ctx)
}

// verifyLate sends a request that left its browser before the renewal and arrives after it.
func (c *renewalChecks) verifyLate(ctx context.Context, late *probe.Browser, tokens []string) {
	page := late.Fetch(ctx, c.site+"/account", nil)
	c.add("a late request with the old cookie", "200", page.Outcome())
	c.add("a late request: the renewed access token", "true", strconv.FormatBool(slices.Contains(tokens, page.UpstreamHeader("X-Access-Token"))))
	c.add("a late request: the renewed cookie", "HttpOnly, SameSite=Lax", newCookies(page))
}

// verifyRefused has the provider take back what bob has granted, as when an account is disabled.
func (c *renewalChecks) verifyRefused(ctx context.Context) error {
	c.tokensLive(briefly)
	bob := probe.NewBrowser()
	landed := bob.Press(ctx, bob.Visit(ctx, c.site+"/account"), "person", "bob")
	c.add("bob signs in, with a token for a few seconds", "200", landed.Outcome())
	c.tokensLive(tokenLifetime)
	subject := bob.Fetch(ctx, c.site+"/oauth2/session", nil).Field("subject")
	c.provider.TakeBack(subject)
	if err := wait(ctx, briefly); err != nil {
		return err
	}
	c.add("bob's account is disabled: a fetch", "401", bob.Fetch(ctx, c.site+"/account", nil).Outcome())
	page := bob.Visit(ctx, c.site+"/account")
	page.URL.RawQuery = ""
	c.add("bob's account is disabled: a page leads to a login", "provider, /login", c.where(page.URL))
	return nil
}

// fetchAtOnce sends many requests in parallel. It returns what came of them, which is one thing if all is well, and the access tokens that
// the upstream got.
func (c *renewalChecks) fetchAtOnce(ctx context.Context, browser *probe.Browser) (outcome string, tokens []string) {
	outcomes, tokens := make([]string, manyRequests), make([]string, manyRequests)
	var all sync.WaitGroup
	for i := range manyRequests {
		all.Go(func() {
			page := browser.Fetch(ctx, c.site+"/account", nil)
			outcomes[i], tokens[i] = page.Outcome(), page.UpstreamHeader("X-Access-Token")
		})
	}
	all.Wait()
	slices.Sort(outcomes)
	slices.Sort(tokens)
	return strings.Join(slices.Compact(outcomes), ", "), slices.Compact(tokens)
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func values(cookies []*http.Cookie) []string {
	all := make([]string, 0, len(cookies))
	for _, cookie := range cookies {
		all = append(all, cookie.Value)
	}
	return all
}
