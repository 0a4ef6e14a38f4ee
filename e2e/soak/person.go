package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/cluster"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// keptCookie is how long an old cookie is used, well inside of refresh_grace.
const keptCookie = time.Minute

// counts are what people and the provider have done.
type counts struct {
	logins, failedLogins, requests, late, forgotten, revoked, unavailable, lost, wrong, expired, rotations atomic.Int64
	logouts, toldLogouts, repeatedTokens, dead, revived                                                    atomic.Int64

	mu    sync.Mutex
	first []string // of what must not be
}

func (c *counts) violation(counter *atomic.Int64, format string, arguments ...any) {
	counter.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.first) < 10 {
		c.first = append(c.first, time.Now().Format(time.TimeOnly)+" "+fmt.Sprintf(format, arguments...))
	}
}

// person is somebody with a browser.
type person struct {
	site    *site
	subject string
	random  *rand.Rand
	client  *cluster.Client

	signedIn bool
	sid      string // what the provider calls the session
	revoked  bool   // at the provider: the session ends with its next renewal
	old      string // cookie
	oldSince time.Time
	dead     []deadCookie
}

func newPerson(t *site, subject string, random *rand.Rand) *person {
	return &person{
		site: t, subject: subject, random: rand.New(rand.NewPCG(random.Uint64(), random.Uint64())), client: cluster.NewClient(t.front, origin),
	}
}

// live does one thing after the other until the time is over. What has begun is ended.
func (p *person) live(ctx context.Context) {
	for ctx.Err() == nil {
		p.act(context.WithoutCancel(ctx))
		pause := time.NewTimer(p.upTo(200 * time.Millisecond))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

func (p *person) act(ctx context.Context) {
	if !p.signedIn {
		p.signIn(ctx)
		return
	}
	if p.old == "" || time.Since(p.oldSince) > keptCookie {
		p.old, p.oldSince = p.client.Cookie(), time.Now()
	}
	switch chance := p.random.IntN(1000); {
	case chance < 600:
		p.fetch(ctx)
	case chance < 750:
		p.navigate(ctx)
	case chance < 850: // a page with several things on it
		var all sync.WaitGroup
		results := make([]bool, 4)
		for i := range results {
			all.Go(func() {
				results[i] = p.get(func() (*cluster.Answer, error) { return p.client.Fetch(ctx, "/api") })
			})
		}
		all.Wait()
		for _, alive := range results {
			p.signedIn = p.signedIn && alive
		}
	case chance < 944:
		p.site.counts.late.Add(1)
		if !p.get(func() (*cluster.Answer, error) { return p.client.FetchWith(ctx, "/api", p.old) }) {
			p.signedIn = false
		}
	case chance < 956:
		p.signOut(ctx)
	case chance < 968:
		p.signedOutByProvider(ctx)
	case chance < 982:
		p.tryDead(ctx)
	case chance < 987: // closes the browser
		p.site.counts.forgotten.Add(1)
		p.forget()
	case chance < 990:
		p.site.counts.revoked.Add(1)
		p.revoked = true
		p.site.provider.RevokeSubject(p.subject)
	default: // away for longer than a token lives
		pause := time.NewTimer(tokenLifetime + p.upTo(tokenLifetime/2))
		<-pause.C
	}
}

// upTo is a random time.
func (p *person) upTo(most time.Duration) time.Duration {
	return time.Duration(p.random.Int64N(int64(most)))
}

func (p *person) forget() {
	p.client.Forget()
	p.signedIn, p.revoked, p.sid, p.old = false, false, "", ""
}

func (p *person) fetch(ctx context.Context) {
	if !p.get(func() (*cluster.Answer, error) { return p.client.Fetch(ctx, "/api") }) {
		p.signedIn = false
	}
}

// get uses the session, and reports whether there still is one.
func (p *person) get(request func() (*cluster.Answer, error)) (alive bool) {
	c := &p.site.counts
	c.requests.Add(1)
	began := time.Now()
	answer, err := request()
	switch {
	case err != nil:
		c.violation(&c.wrong, "%s: %v", p.subject, err)
		return true
	case p.isServed(answer, began):
		return true
	case answer.Status == http.StatusServiceUnavailable && answer.Header.Get("Retry-After") != "":
		c.unavailable.Add(1)
		return true
	case answer.Status == http.StatusUnauthorized:
		if !p.revoked {
			c.violation(&c.lost, "%s: a session is lost: %s", p.subject, answer.Body)
		}
		return false
	default:
		c.violation(&c.wrong, "%s: status %d: %.300s", p.subject, answer.Status, answer.Body)
		return true
	}
}

// isServed reports whether an answer is the application's, for this person. Its access token must have been alive when the request began.
func (p *person) isServed(answer *cluster.Answer, began time.Time) bool {
	subject, token, _ := strings.Cut(answer.Body, " ")
	if answer.Status != http.StatusOK || subject != p.subject {
		return false
	}
	if late, _, known := p.site.tokens.Late(token, began); !known || late > 0 {
		c := &p.site.counts
		c.violation(&c.expired, "%s: an access token that had expired %s before, known: %t", p.subject, late, known)
	}
	return true
}

// navigate opens a page, which may end in a login where the provider has revoked the session.
func (p *person) navigate(ctx context.Context) {
	if p.revoked {
		p.signIn(ctx)
		return
	}
	c := &p.site.counts
	c.requests.Add(1)
	began := time.Now()
	answer, err := p.client.Navigate(ctx, "/page")
	switch {
	case err != nil:
		c.violation(&c.wrong, "%s: %v", p.subject, err)
	case answer.Hops > 0:
		c.violation(&c.lost, "%s: a page led to a login: status %d", p.subject, answer.Status)
		p.forget()
	case answer.Status == http.StatusServiceUnavailable && answer.Header.Get("Retry-After") != "":
		c.unavailable.Add(1)
	case !p.isServed(answer, began):
		c.violation(&c.wrong, "%s: status %d: %.300s", p.subject, answer.Status, answer.Body)
	}
}

// signIn opens a page and logs in where that asks for it. One login in twenty fails at the token endpoint.
func (p *person) signIn(ctx context.Context) {
	t, c := p.site, &p.site.counts
	t.loginMu.Lock()
	defer t.loginMu.Unlock()
	t.provider.SetUser(optest.Claims{"sub": p.subject})
	sid := fmt.Sprintf("%s-%d", p.subject, c.logins.Load()+c.failedLogins.Load())
	t.provider.SetSIDs(func() string { return sid })
	fails := p.random.Float64() < failing
	if fails {
		t.provider.Fail(optest.Token, optest.Fault{Status: http.StatusServiceUnavailable, Times: 1})
	}
	began := time.Now()
	answer, err := p.client.Navigate(ctx, "/page")
	switch {
	case err != nil:
		c.violation(&c.wrong, "%s: login: %v", p.subject, err)
	case p.isServed(answer, began):
		if answer.Hops == 0 {
			return // the session has not noticed yet that it is revoked
		}
		c.logins.Add(1)
		p.signedIn, p.revoked, p.sid, p.old = true, false, sid, ""
	case answer.Status == http.StatusBadGateway || answer.Status == http.StatusServiceUnavailable:
		c.failedLogins.Add(1)
		p.forget()
	default:
		c.violation(&c.wrong, "%s: a login ends with status %d at %s: %.300s", p.subject, answer.Status, answer.URL, answer.Body)
		p.forget()
	}
}

// lastLook expects the session to be alive, once the pause after a failure is over.
func (p *person) lastLook(ctx context.Context) {
	if !p.signedIn || p.revoked {
		return
	}
	c := &p.site.counts
	limit, cancel := context.WithTimeout(ctx, lastTry)
	defer cancel()
	again := time.NewTicker(250 * time.Millisecond)
	defer again.Stop()
	for {
		began := time.Now()
		answer, err := p.client.Fetch(ctx, "/api")
		if err == nil && p.isServed(answer, began) {
			return
		}
		if err == nil && answer.Status != http.StatusServiceUnavailable {
			c.violation(&c.lost, "%s: at the end the session is lost: status %d", p.subject, answer.Status)
			return
		}
		select {
		case <-again.C:
		case <-limit.Done():
			c.violation(&c.lost, "%s: at the end the session does not come back: %v", p.subject, err)
			return
		}
	}
}
