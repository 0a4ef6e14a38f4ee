package main

import (
	"context"
	"net/http"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// providerEndpoints are those that a gateway calls, and that of the browser.
var providerEndpoints = []string{
	optest.Discovery, optest.OAuthDiscovery, optest.JWKS, optest.Authorize, optest.Token, optest.Userinfo, optest.Introspection,
}

// providerFaults are the ways in which the provider fails.
var providerFaults = []struct {
	name  string
	fault optest.Fault // of all endpoints
	down  bool         // in place of that
}{
	{name: "down", down: true},
	{name: "hangs", fault: optest.Fault{Hang: true}},
	{name: "500", fault: optest.Fault{Status: http.StatusInternalServerError, Body: []byte("oops")}},
	{name: "503 with Retry-After", fault: optest.Fault{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"1"}}}},
	{name: "drops connections", fault: optest.Fault{Drop: true}},
	{name: "a page with status 200", fault: optest.Fault{Body: []byte("<html><body>Down for maintenance</body></html>")}},
	{name: "half an object", fault: optest.Fault{Body: []byte(`{"access_token":"a","id_token":`)}},
	{name: "an empty object", fault: optest.Fault{Body: []byte(`{}`)}},
	{name: "an answer without end", fault: optest.Fault{Body: []byte(`{"a":"` + "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), Endless: true}},
	{name: "an answer that stalls", fault: optest.Fault{Body: []byte(`{"a":1}`), Drip: true}},
	{name: "slow", fault: optest.Fault{Delay: providerTimeout * 2 / 5}},
	{name: "redirects", fault: optest.Fault{Redirect: "http://evil.test/"}},
}

// playProvider has a provider that fails in another way for a second or two, and is well in between for half as long.
func playProvider(ctx context.Context, t *site) error {
	if err := t.start(t.caddyfile(options{}), 1); err != nil {
		return err
	}
	c, err := t.newCrowd(ctx)
	if err != nil {
		return err
	}
	c.use(ctx, warmUp)
	if t.before, err = t.atRest(ctx, nil); err != nil {
		return err
	}
	// Nobody else notices: neither tokens nor those who have none need the provider.
	c.allowed[withSession] = []int{http.StatusServiceUnavailable}
	c.allowed[newLogin] = []int{http.StatusBadRequest, http.StatusBadGateway, http.StatusServiceUnavailable}
	over, cancel := context.WithTimeout(ctx, t.duration)
	defer cancel()
	flaps := make(chan int)
	go func() { flaps <- t.flapProvider(over) }()
	c.use(ctx, t.duration)
	t.noteDone("%d times the provider failed, in %d ways; %d renewals went well, of %d tried", <-flaps, len(providerFaults),
		t.provider.RefreshGrants(), t.provider.RefreshAttempts())
	c.lastLook(ctx)
	t.room = c.kept()
	return t.compare(ctx)
}

// flapProvider returns how often the provider has failed, once the time is over and it is well again.
func (t *site) flapProvider(ctx context.Context) (times int) {
	order := t.random.Perm(len(providerFaults))
	for ; pause(ctx, time.Second/2+time.Duration(t.random.Int64N(int64(time.Second/2)))); times++ {
		trouble := providerFaults[order[times%len(order)]]
		if trouble.down {
			// What is being answered is answered first: nobody can keep a session whose refresh token was spent for an answer that was lost.
			t.provider.Fail(optest.Token, optest.Fault{Hang: true})
			_ = pause(ctx, 200*time.Millisecond)
			t.provider.Down()
		}
		for _, endpoint := range providerEndpoints {
			// Every other time people can sign in there, and the trouble begins when they come back.
			if !trouble.down && (endpoint != optest.Authorize || times%2 == 0) {
				t.provider.Fail(endpoint, trouble.fault)
			}
		}
		_ = pause(ctx, time.Second+time.Duration(t.random.Int64N(int64(time.Second))))
		for _, endpoint := range providerEndpoints {
			t.provider.Heal(endpoint)
		}
		t.provider.Up()
	}
	return times
}
