package main

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/cluster"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

const (
	// seenWithin is how long after a logout on one gateway another may still serve its session.
	seenWithin = 5 * time.Second
	// keyWait is how long a gateway may refuse a logout token whose key it does not know, which it does not fetch each time.
	keyWait = 40 * time.Second
	// issuedWithin is the precision of the time at which tokens are issued.
	issuedWithin = time.Second
)

// deadCookie is one whose session has been logged out.
type deadCookie struct {
	cookie string
	since  time.Time
}

// signOut is a person who signs out, sometimes while a page is still loading.
func (p *person) signOut(ctx context.Context) {
	c := &p.site.counts
	before := p.client.Cookie()
	var loading sync.WaitGroup
	if p.random.IntN(2) == 0 {
		for range 3 {
			loading.Go(func() { p.mayEnd(func() (*cluster.Answer, error) { return p.client.Fetch(ctx, "/api") }) })
		}
	}
	answer, err := p.client.SignOut(ctx)
	loading.Wait()
	if err != nil || answer.Status != http.StatusOK {
		c.violation(&c.wrong, "%s: a logout: %v, status %d: %.300s", p.subject, err, answer.Status, answer.Body)
		return
	}
	c.logouts.Add(1)
	// what was on its way may have brought the session's cookie back
	p.bury(before, p.client.Cookie())
}

// signedOutByProvider is the provider, which ends this session or all of the person's.
func (p *person) signedOutByProvider(ctx context.Context) {
	c := &p.site.counts
	whom, bySubject := optest.BySID(p.sid), p.random.IntN(3) == 0
	if bySubject {
		whom = optest.BySub(p.subject)
	}
	for began := time.Now(); ; c.repeatedTokens.Add(1) {
		answer, err := p.client.SendLogout(ctx, p.site.provider.LogoutToken(whom))
		if err == nil && answer.Status == http.StatusOK {
			break
		}
		if err != nil || answer.Status != http.StatusBadRequest || time.Since(began) > keyWait {
			c.violation(&c.wrong, "%s: a logout token: %v, status %d: %.300s", p.subject, err, answer.Status, answer.Body)
			return
		}
		p.pause(issuedWithin / 2)
	}
	c.toldLogouts.Add(1)
	p.bury(p.client.Cookie())
	if bySubject {
		p.pause(issuedWithin) // a login in the same second would be meant too
	}
}

func (p *person) pause(d time.Duration) { <-time.After(d) }

// bury notes what nobody may take any more, and has the person start afresh.
func (p *person) bury(cookies ...string) {
	now := time.Now()
	for _, cookie := range append(cookies, p.old) {
		if cookie != "" {
			p.dead = append(p.dead, deadCookie{cookie, now})
		}
	}
	p.forget()
}

// mayEnd uses a session that is being logged out.
func (p *person) mayEnd(request func() (*cluster.Answer, error)) {
	c := &p.site.counts
	c.requests.Add(1)
	began := time.Now()
	answer, err := request()
	switch {
	case err != nil:
		c.violation(&c.wrong, "%s: during a logout: %v", p.subject, err)
	case p.isServed(answer, began), answer.Status == http.StatusUnauthorized:
	case answer.Status == http.StatusServiceUnavailable && answer.Header.Get("Retry-After") != "":
		c.unavailable.Add(1)
	default:
		c.violation(&c.wrong, "%s: during a logout: status %d: %.300s", p.subject, answer.Status, answer.Body)
	}
}

// tryDead is somebody who has copied a cookie, and uses it after the logout.
func (p *person) tryDead(ctx context.Context) {
	if len(p.dead) == 0 {
		return
	}
	p.expectDead(ctx, p.dead[p.random.IntN(len(p.dead))])
}

// expectDead uses a cookie that must be dead. Another gateway than that of the logout may need a moment to learn of it.
func (p *person) expectDead(ctx context.Context, d deadCookie) {
	c := &p.site.counts
	c.dead.Add(1)
	mayLive := len(p.site.gateways) > 1 && time.Since(d.since) < seenWithin
	answer, err := p.client.FetchWith(ctx, "/api", d.cookie)
	switch {
	case err != nil:
		c.violation(&c.wrong, "%s: with a dead cookie: %v", p.subject, err)
	case answer.Status != http.StatusUnauthorized && !mayLive:
		c.violation(&c.revived, "%s: status %d for a cookie that was logged out %s before", p.subject, answer.Status, time.Since(d.since))
	}
}

// allDead tries all cookies that have been logged out, at all gateways.
func (p *person) allDead(ctx context.Context) {
	for _, g := range p.site.gateways {
		for _, d := range p.dead {
			p.expectDead(cluster.Pin(ctx, g), d)
		}
	}
}
