package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// vandals is how many send garbage at the same time.
const vandals = 64

// playGarbage sends what is left of good requests when chance has had its way with them, while others use the site as usual.
func playGarbage(ctx context.Context, t *site) error {
	// every host is ours, so that nothing is turned away for that by Caddy
	sites := t.caddyfile(options{address: "http://", handler: "frontchannel_logout\n\t\tbearer_token_from query access_token"})
	if err := t.start(sites, 1); err != nil {
		return err
	}
	// what Caddy says when it cannot read a body to its end that is passed on
	t.expected = []string{"reverseproxy.statusError"}
	c, err := t.newCrowd(ctx)
	if err != nil {
		return err
	}
	c.restless = 3 * restless
	l, err := t.newLoot(ctx)
	if err != nil {
		return err
	}
	// garbage is part of the warm-up too
	t.vandalize(ctx, c, l, warmUp)
	if t.before, err = t.atRest(ctx, nil); err != nil {
		return err
	}
	served, open, introspections := t.application.served.Load(), t.application.open.Load(), t.provider.Hits(optest.Introspection)
	began := time.Now()
	sent := t.vandalize(ctx, c, l, t.duration)
	took := time.Since(began)
	t.noteDone("%d requests of garbage, %.0f a second; the application got %d requests with good credentials, and %d for what is open",
		sent, float64(sent)/took.Seconds(), t.application.served.Load()-served, t.application.open.Load()-open)
	t.noteDone("%d tokens that are no JWT were asked for at the provider", t.provider.Hits(optest.Introspection)-introspections)
	if sent == 0 || t.application.open.Load() == open || t.tally.count(garbage, http.StatusOK) == 0 {
		t.tally.violation("nothing was let in: the runs show nothing")
	}
	c.lastLook(ctx)
	t.room = c.kept()
	return t.compare(ctx)
}

// Garbage, in the report.
const garbage, broken = "garbage", "broken HTTP"

// vandalize sends garbage at the rate that the command line says, for a while, and returns how much it was.
func (t *site) vandalize(ctx context.Context, c *crowd, l *loot, d time.Duration) (sent int64) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() { c.use(ctx, d) })
	var turn, count atomic.Int64
	began, between := time.Now(), time.Second/time.Duration(t.rate)
	for range vandals {
		v := &vandal{site: t, loot: l, random: rand.New(rand.NewPCG(t.random.Uint64(), t.random.Uint64()))}
		all.Go(func() {
			defer v.leave()
			for pause(ctx, time.Until(began.Add(time.Duration(turn.Add(1))*between))) {
				v.strike(context.WithoutCancel(ctx))
				count.Add(1)
			}
		})
	}
	all.Wait()
	return count.Load()
}

// loot is what garbage is made of: credentials that are good, and some that never were.
type loot struct {
	sessions [][]*http.Cookie
	tokens   []string
	useless  []string // tokens

	mu     sync.Mutex
	logins []begunLogin
}

// begunLogin is one that somebody has begun and never ended.
type begunLogin struct{ state, cookie string }

func (t *site) newLoot(ctx context.Context) (*loot, error) {
	t.provider.SetAccessLifetime(time.Hour)
	l := new(loot)
	for i := range 8 {
		user := optest.Claims{"sub": fmt.Sprint("victim-", i)}
		if i%4 == 3 { // one whose session takes several cookies
			random := make([]byte, 3000)
			for j := range random {
				random[j] = byte(t.random.Uint32())
			}
			user["groups"] = fmt.Sprintf("%x", random)
		}
		p := &person{t.newBrowser(), fmt.Sprint(user["sub"])}
		t.provider.SetUser(user)
		a, _, err := p.open(ctx, newLogin, "/page")
		if err != nil {
			return nil, err
		}
		if a.status != http.StatusOK {
			return nil, fmt.Errorf("signing in %s ends with status %d: %.300s", p.subject, a.status, a.body)
		}
		l.sessions = append(l.sessions, slices.DeleteFunc(p.cookies(), func(c *http.Cookie) bool { return strings.HasSuffix(c.Name, "-loop") }))
	}
	t.provider.SetAccessLifetime(tokenLifetime)
	t.provider.SetUser(optest.Claims{"sub": newcomer})
	for i := range 6 {
		l.tokens = append(l.tokens, t.newMachine(fmt.Sprint("robot-", i)))
	}
	key, past := t.provider.Key("rs-1"), time.Now().Add(-time.Hour)
	claims := t.provider.AccessClaims(nil)
	header := optest.Claims{"typ": "at+jwt"}
	l.useless = []string{
		optest.Unsigned(nil, claims),
		optest.HMAC("HS256", []byte("secret"), header, claims), optest.HMAC("HS256", []byte(key.PEM()), header, claims),
		optest.Sign(optest.NewKey(program{}, "ES256", "rs-1"), header, claims),
		optest.Sign(optest.NewKey(program{}, "ES256", "es-1"), header, claims),
		t.provider.AccessToken(optest.Claims{"exp": past.Unix()}), t.provider.AccessToken(optest.Claims{"aud": "other"}),
		t.provider.AccessToken(optest.Claims{"iss": "http://evil.test"}), t.provider.AccessToken(optest.Claims{"exp": nil}),
		t.provider.IDToken(nil), t.provider.LogoutToken(optest.BySub("nobody")), optest.SignRaw(key, `{"alg":"RS256","kid":"rs-1"}`, `[1]`),
		optest.SignRaw(key, `{"alg":"RS256","kid":"rs-1","crit":["b64"],"b64":false}`, `{}`),
		"eyJhbGciOiJub25lIn0.e30.", "a.b.c", "a.b.c.d.e", "..", "opaque",
	}
	return l, nil
}

// held reports whether a request holds credentials that are good, every byte of them.
func (l *loot) held(request string) bool {
	for _, token := range l.tokens {
		if strings.Contains(request, token) {
			return true
		}
	}
	for _, cookies := range l.sessions {
		all := true
		for _, cookie := range cookies {
			all = all && strings.Contains(request, cookie.Value)
		}
		if all {
			return true
		}
	}
	return false
}

// noteLogin keeps the newest logins that were begun.
func (l *loot) noteLogin(begun begunLogin) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.logins = append(l.logins, begun); len(l.logins) > 64 {
		l.logins = l.logins[32:]
	}
}

func (l *loot) login(random *rand.Rand) begunLogin {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.logins) == 0 {
		return begunLogin{"none", "none=none"}
	}
	return l.logins[random.IntN(len(l.logins))]
}
