package provider

import (
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// The attack: bearer tokens of unknown keys, without end, so that nobody can log in when the provider changes its keys.
func TestRenewKeysForLoginUnderAttack(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		keys, err := p.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var wait sync.WaitGroup
		for range 10 * 20 {
			wait.Go(func() { p.RenewKeys(t.Context(), keys) })
			time.Sleep(time.Second / 20)
		}
		wait.Wait()
		if n := op.count("jwks"); n != 2 {
			t.Fatalf("%d fetches, so the bearers' budget is not spent", n)
		}
		after := optest.NewKey(t, "ES256", "after")
		op.set(&op.jwks, withCacheControl("", after))
		if got := p.RenewKeys(t.Context(), keys); got != keys {
			t.Fatal("a bearer token caused a fetch")
		}
		if got := p.RenewKeysForLogin(t.Context(), keys); !signed(t, got, optest.Sign(after, nil, nil)) || op.count("jwks") != 3 {
			t.Errorf("a login did not get the new key, after %d fetches", op.count("jwks"))
		}
	})
}

// An attack's fetch that hangs does not hold up a login.
func TestRenewKeysForLoginBesideOther(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		keys, err := p.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		op.set(&op.jwks, hang)
		var wait sync.WaitGroup
		wait.Go(func() { p.RenewKeys(t.Context(), keys) })
		synctest.Wait()
		after := optest.NewKey(t, "ES256", "after")
		op.set(&op.jwks, withCacheControl("", after))
		start := time.Now()
		if got := p.RenewKeysForLogin(t.Context(), keys); !signed(t, got, optest.Sign(after, nil, nil)) || time.Since(start) != 0 {
			t.Errorf("a login did not get the new key, or only after %v", time.Since(start))
		}
		wait.Wait()
		if got := p.KnownKeys(); !signed(t, got, optest.Sign(after, nil, nil)) {
			t.Error("the fetch that hung has taken the new key away")
		}
	})
}

// The budget of logins: the first is free, then one in 5 seconds, shared by all, whatever comes of it.
func TestRenewKeysForLoginBudget(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answer      http.HandlerFunc
		timeout     time.Duration
		least, most int // fetches in the minute
	}{
		"the same keys": {nil, 5 * time.Second, 12, 12},
		// a failed fetch is tried again by itself too
		"failing": {answer(http.StatusInternalServerError, ""), 5 * time.Second, 12, 15},
		"hanging": {hang, 5 * time.Second, 11, 15},
		// one at a time
		"hanging for long": {hang, 25 * time.Second, 2, 4},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(c *Config) { c.Timeout = test.timeout }, func(t *testing.T, p *Provider, op *memory) {
				keys, err := p.Keys(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if test.answer != nil {
					op.set(&op.jwks, test.answer)
				}
				var wait sync.WaitGroup
				for range 60 * 20 {
					for range 3 {
						wait.Go(func() {
							if got := p.RenewKeysForLogin(t.Context(), keys); got != keys {
								t.Error("the good keys are gone")
							}
						})
					}
					time.Sleep(time.Second / 20)
				}
				wait.Wait()
				if n := op.count("jwks") - 1; n < test.least || n > test.most {
					t.Errorf("%d fetches in a minute, want %d to %d", n, test.least, test.most)
				}
			})
		})
	}
}

// What one kind of token has fetched serves the other; configured keys are never fetched.
func TestRenewKeysForLoginShares(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		keys, err := p.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		op.set(&op.jwks, withCacheControl("", optest.NewKey(t, "ES256", "after")))
		renewed := p.RenewKeysForLogin(t.Context(), keys)
		if renewed == keys || p.RenewKeys(t.Context(), keys) != renewed || p.RenewKeysForLogin(t.Context(), keys) != renewed || op.count("jwks") != 2 {
			t.Errorf("%d fetches", op.count("jwks"))
		}
		// and the bearers' first one is still free
		op.set(&op.jwks, withCacheControl("", optest.NewKey(t, "ES256", "later")))
		if p.RenewKeys(t.Context(), renewed) == renewed || op.count("jwks") != 3 {
			t.Errorf("%d fetches: a login spends the bearers' budget", op.count("jwks"))
		}
	})
	static := new(jose.KeySet)
	op := optest.New(t)
	p := newProvider(t, op, func(c *Config) { c.StaticKeys = static })
	if p.RenewKeysForLogin(t.Context(), static) != static || op.Hits(optest.JWKS) != 0 {
		t.Error("configured keys were fetched")
	}
}
