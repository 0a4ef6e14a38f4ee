package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Who uses a site, in the report.
const (
	withSession  = "sessions"
	newLogin     = "logins"
	knownToken   = "bearer tokens seen before"
	newToken     = "bearer tokens never seen"
	unknownToken = "tokens of an unknown key"
	nobody       = "without credentials"
)

const (
	people   = 12
	machines = 4
	// restless is how long somebody waits between two requests at most.
	restless = 120 * time.Millisecond
	// recovery is how long sessions and logins may take when all is well again: pauses after failures last up to 30 s.
	recovery = 45 * time.Second
	// newcomer logs in again and again.
	newcomer = "newcomer"
)

// crowd are the people and machines that use a site all the time.
type crowd struct {
	site    *site
	people  []*person
	tokens  []string
	alien   *optest.Key      // of no provider that the gateway knows
	allowed map[string][]int // other answers than 200 (401 for those without good credentials), by who may get them
	// restless is the longest time between two requests of one of them.
	restless time.Duration
	minted   int
	mu       sync.Mutex
}

// person has a session and keeps it.
type person struct {
	*browser
	subject string
}

func (t *site) newCrowd(ctx context.Context) (*crowd, error) {
	c := &crowd{site: t, allowed: make(map[string][]int), restless: restless, alien: optest.NewKey(program{}, "ES256", "alien")}
	for i := range people {
		p := &person{t.newBrowser(), fmt.Sprint("person-", i)}
		if err := p.signIn(ctx); err != nil {
			return nil, err
		}
		c.people = append(c.people, p)
	}
	t.provider.SetUser(optest.Claims{"sub": newcomer})
	for i := range machines {
		c.tokens = append(c.tokens, t.newMachine(fmt.Sprint("machine-", i)))
	}
	return c, nil
}

// signIn is a login that must go well.
func (p *person) signIn(ctx context.Context) error {
	p.site.provider.SetUser(optest.Claims{"sub": p.subject})
	a, hops, err := p.open(ctx, newLogin, "/page")
	if err != nil {
		return fmt.Errorf("signing in %s: %w", p.subject, err)
	}
	if a.status != http.StatusOK || a.header.Get(subjectHeader) != p.subject || hops == 0 {
		return fmt.Errorf("signing in %s ends with status %d after %d redirects", p.subject, a.status, hops)
	}
	return nil
}

// newMachine issues an access token that the application knows.
func (t *site) newMachine(subject string) string {
	token := t.provider.AccessToken(optest.Claims{"sub": subject})
	t.application.machines.Store(token, subject)
	return token
}

// program is what keys are made for outside of a test.
type program struct{ testing.TB }

func (program) Helper()              {}
func (program) Fatal(reasons ...any) { panic(fmt.Sprint(reasons...)) }

// use has everybody use the site for a while.
func (c *crowd) use(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var all sync.WaitGroup
	repeat := func(act func(context.Context)) {
		random := rand.New(rand.NewPCG(c.site.random.Uint64(), c.site.random.Uint64()))
		all.Go(func() {
			for pause(ctx, time.Duration(random.Int64N(int64(c.restless)))) {
				act(context.WithoutCancel(ctx)) // what has begun is ended
			}
		})
	}
	for i, p := range c.people {
		repeat(func(ctx context.Context) { c.expect(withSession, p.use(ctx, i%3 == 0), p.subject) })
	}
	for range 2 {
		repeat(c.logIn)
		repeat(c.sendNew)
	}
	for i, token := range c.tokens {
		repeat(func(ctx context.Context) {
			c.expect(knownToken, c.send(ctx, knownToken, token, true), fmt.Sprint("machine-", i))
		})
	}
	repeat(c.sendUnknown)
	repeat(func(ctx context.Context) {
		if a, err := c.site.newBrowser().ask(ctx, nobody, origin+"/api", script(), false); err == nil && a.status != http.StatusUnauthorized {
			c.site.tally.violation("%s: status %d", nobody, a.status)
		}
	})
	all.Wait()
}

// use makes a request with the session, as a page or as a script.
func (p *person) use(ctx context.Context, asPage bool) *answer {
	header := script()
	if asPage {
		header = page()
	}
	a, err := p.ask(ctx, withSession, origin+"/api", header, true)
	if err != nil {
		return nil // which has been noted
	}
	return a
}

// expect wants the application's answer for somebody, or one of the others that are allowed.
func (c *crowd) expect(who string, a *answer, subject string) {
	switch {
	case a == nil:
	case a.status == http.StatusOK && a.header.Get(subjectHeader) == subject:
	case a.status != http.StatusOK && slices.Contains(c.allowed[who], a.status):
	default:
		c.site.tally.violation("%s: status %d for %s, taken for %q: %.300s", who, a.status, subject, a.header.Get(subjectHeader), a.body)
	}
}

func (c *crowd) send(ctx context.Context, who, token string, mayEnter bool) *answer {
	header := script()
	header.Set("Authorization", "Bearer "+token)
	a, err := c.site.newBrowser().ask(ctx, who, origin+"/api", header, mayEnter)
	if err != nil {
		return nil
	}
	return a
}

// sendNew sends a token for the first time.
func (c *crowd) sendNew(ctx context.Context) {
	c.mu.Lock()
	c.minted++
	subject := fmt.Sprint("new-machine-", c.minted)
	c.mu.Unlock()
	c.expect(newToken, c.send(ctx, newToken, c.site.newMachine(subject), true), subject)
}

// sendUnknown sends a token of a key that the provider never had. It is 401 also while the keys cannot be fetched again.
func (c *crowd) sendUnknown(ctx context.Context) {
	a := c.send(ctx, unknownToken, optest.Sign(c.alien, optest.Claims{"typ": "at+jwt"}, c.site.provider.AccessClaims(nil)), false)
	if a != nil && a.status != http.StatusUnauthorized {
		c.site.tally.violation("%s: status %d: %.300s", unknownToken, a.status, a.body)
	}
}

// logIn is somebody new. Where the provider lets the browser down, nobody can log in.
func (c *crowd) logIn(ctx context.Context) {
	a, _, err := c.site.newBrowser().open(ctx, newLogin, "/page")
	if err == nil {
		c.expect(newLogin, a, newcomer)
	} else if errors.Is(err, errElsewhere) && len(c.allowed[newLogin]) == 0 {
		c.site.tally.violation("%s: %v", newLogin, err)
	}
}

// lastLook expects all sessions to be alive, and a login to go well, once everything works again.
func (c *crowd) lastLook(ctx context.Context) {
	began := time.Now()
	var all sync.WaitGroup
	for _, p := range c.people {
		all.Go(func() {
			c.within(ctx, "the session of "+p.subject, func(ctx context.Context) bool {
				a := p.use(ctx, false)
				c.expect(withSession, a, p.subject)
				return a != nil && a.status == http.StatusOK
			})
		})
	}
	all.Go(func() {
		c.within(ctx, "a login", func(ctx context.Context) bool {
			a, _, err := c.site.newBrowser().open(ctx, newLogin, "/page")
			return err == nil && a.status == http.StatusOK
		})
	})
	all.Wait()
	c.site.noteDone("all sessions and logins worked %s after the end of the trouble", time.Since(began).Round(100*time.Millisecond))
	if n := c.site.provider.RefreshReuses(); n != 0 {
		c.site.tally.violation("the provider got %d refresh tokens that were spent", n)
	}
}

// within repeats a step until it goes well.
func (c *crowd) within(ctx context.Context, what string, step func(context.Context) bool) {
	limit, cancel := context.WithTimeout(ctx, recovery)
	defer cancel()
	for !step(ctx) {
		if !pause(limit, 250*time.Millisecond) {
			c.site.tally.violation("%s does not come back within %s", what, recovery)
			return
		}
	}
}

// kept is the room for what the gateway remembers of logins, renewals and tokens.
func (c *crowd) kept() room {
	sessions := int64(c.site.tally.count(newLogin, http.StatusOK) + c.site.provider.RefreshGrants())
	return room{heap: sessions*sessionHeap + int64(c.minted)*tokenHeap}
}
