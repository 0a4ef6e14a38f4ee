package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/cluster"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

const (
	host   = "app.test"
	origin = "http://" + host

	// failing is the share of the provider's token calls that fail.
	failing = 0.05
	// tokenLifetime is that of access tokens, which leaves time for a second attempt before their end.
	tokenLifetime = 5 * time.Second
	// rotateEvery is how often the provider changes its key.
	rotateEvery = 20 * time.Second
	// warmUp is how long people use the site before anything is measured.
	warmUp = 5 * time.Second
	// settle is how long processes may take to come to rest: timers of connections to the provider hold a site for 90 s.
	settle = 2 * time.Minute
	// lastTry is how long a session may take to come back when the provider is well again: pauses after failures last up to 30 s.
	lastTry = 45 * time.Second
)

// site is what people use.
type site struct {
	provider *optest.Provider
	tokens   *cluster.Tokens
	front    *cluster.Front
	gateways []*cluster.Gateway
	closers  []func()

	loginMu sync.Mutex // the provider signs in one person at a time
	counts  counts
}

// soak runs one kind of site for its share of the time.
func soak(ctx context.Context, s settings, directory string, where place) (_ *result, err error) {
	t := new(site)
	defer t.close()
	if t.provider, err = optest.Start(); err != nil {
		return nil, err
	}
	t.closers = append(t.closers, t.provider.Close)
	t.tokens = cluster.NewTokens()
	t.front = cluster.NewFront(host)
	t.closers = append(t.closers, t.front.Close)
	t.provider.SetAccessLifetime(tokenLifetime)
	t.provider.SetTokenResponse(t.tokens.Issued)

	storage := "cookie"
	if where.redis {
		redis, err := cluster.StartRedis(directory, false)
		if err != nil {
			return nil, err
		}
		t.closers = append(t.closers, func() { _ = redis.Stop() })
		storage = fmt.Sprintf("redis 127.0.0.1:%d", redis.Port())
	}
	// At first and at last the gateways serve a site that keeps nothing.
	const nothing = origin + " {\n\trespond 204\n}\n"
	for i := range where.gateways {
		own := filepath.Join(directory, fmt.Sprint("gateway-", i))
		if err := os.Mkdir(own, 0o700); err != nil {
			return nil, err
		}
		g, err := cluster.StartGateway(cluster.GatewaySettings{
			Program: s.program, Directory: own, Storage: filepath.Join(directory, "storage"), Level: "WARN", Sites: nothing,
		})
		if err != nil {
			return nil, err
		}
		t.gateways = append(t.gateways, g)
		t.closers = append(t.closers, func() { _ = g.Stop() })
	}
	t.front.Use(t.gateways...)

	r := &result{name: where.name}
	if r.empty, err = t.measure(ctx); err != nil {
		return nil, err
	}
	r.empty = r.empty.plus(0, int64(where.gateways)*moreHeap)
	if err := t.load(ctx, t.caddyfile(storage)); err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(s.seed, uint64(where.gateways)))
	people := make([]*person, s.people)
	for i := range people {
		people[i] = newPerson(t, fmt.Sprint("person-", i), random)
	}
	t.live(ctx, people, warmUp, random)
	if r.warm, err = t.atRest(ctx, nil); err != nil {
		return nil, err
	}
	t.live(ctx, people, s.duration/time.Duration(len(places)), random)
	t.lastLook(ctx, people)
	everyone(people, func(p *person) {
		p.pause(seenWithin)
		p.allDead(ctx)
	})
	descriptors := 0
	if where.redis {
		descriptors = where.gateways * pooledConnections * runtime.GOMAXPROCS(0)
	}
	sessions := t.counts.logins.Load() + int64(t.provider.RefreshGrants())
	r.kept = r.warm.plus(descriptors, moreHeap+sessions*int64(where.gateways)*sessionHeap)
	if r.used, err = t.atRest(ctx, &r.kept); err != nil {
		return nil, err
	}
	if !r.used.fits(r.kept) {
		if r.stacks, err = t.gateways[0].Stacks(ctx); err != nil {
			return nil, err
		}
	}
	if err := t.load(ctx, nothing); err != nil {
		return nil, err
	}
	if r.gone, err = t.atRest(ctx, &r.empty); err != nil {
		return nil, err
	}
	if !r.gone.fits(r.empty) {
		if r.stacks, err = t.gateways[0].Stacks(ctx); err != nil {
			return nil, err
		}
	}
	// What has been logged out stays so for a site that is there again. A Caddy that reloads may leave a request without an answer.
	r.resent = t.front.Resent.Load()
	if err := t.load(ctx, t.caddyfile(storage)); err != nil {
		return nil, err
	}
	everyone(people, func(p *person) { p.allDead(ctx) })
	r.collect(t)
	return r, ctx.Err()
}

func (t *site) close() {
	for _, closer := range slices.Backward(t.closers) {
		closer()
	}
}

// caddyfile is the site itself. It answers by itself, so that no other handler's connections count.
func (t *site) caddyfile(storage string) string {
	return fmt.Sprintf(`%s {
	openid_connect %s {
		client_id client
		client_secret secret
		scope openid offline_access
		set_access_token_header
		session {
			secret "a secret of the soak test, longer than 32 bytes"
			storage %s
		}
	}
	respond "{http.auth.user.id} {http.auth.user.access_token}"
}
`, origin, t.provider.Issuer(), storage)
}

func (t *site) load(ctx context.Context, sites string) error {
	for _, g := range t.gateways {
		if err := g.Reload(ctx, sites); err != nil {
			return err
		}
	}
	return nil
}

// live lets people use the site for a while, with a provider that fails now and then and changes its keys.
func (t *site) live(ctx context.Context, people []*person, duration time.Duration, random *rand.Rand) {
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	t.provider.SetRefreshFailureRate(failing, random.Uint64())
	var everybody sync.WaitGroup
	everybody.Go(func() { t.rotateKeys(ctx) })
	for _, p := range people {
		everybody.Go(func() { p.live(ctx) })
	}
	everybody.Wait()
	t.provider.SetRefreshFailureRate(0, 0)
	t.provider.Heal(optest.Token)
}

// lastLook has everybody who should be signed in use the site once more, when the provider is well again.
func (t *site) lastLook(ctx context.Context, people []*person) {
	everyone(people, func(p *person) { p.lastLook(ctx) })
}

// everyone has all people do something at the same time.
func everyone(people []*person, do func(*person)) {
	var all sync.WaitGroup
	for _, p := range people {
		all.Go(func() { do(p) })
	}
	all.Wait()
}

// rotateKeys publishes a new key, signs with it, and takes the old one back.
func (t *site) rotateKeys(ctx context.Context) {
	pause := time.NewTicker(rotateEvery)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
			t.provider.Rotate(program{})
			t.counts.rotations.Add(1)
		}
	}
}

// program is what keys are made for outside of a test.
type program struct{ testing.TB }

func (program) Helper()                   {}
func (program) Cleanup(func())            {}
func (program) Fatal(reasons ...any)      { panic(fmt.Sprint(reasons...)) }
func (program) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
