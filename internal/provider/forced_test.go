package provider

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// S-086, S-087: what tokens with unknown keys can make us fetch.
func TestRenewKeysBudget(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answer http.HandlerFunc
		most   int // fetches in the minute of the attack
	}{
		"the same keys": {nil, 3},
		// a failed fetch is tried again by itself, as any, with growing pauses
		"failing": {answer(http.StatusInternalServerError, ""), 10},
		"hanging": {hang, 10},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
				keys, err := p.Keys(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if test.answer != nil {
					op.set(&op.jwks, test.answer)
				}
				fetches := op.count("jwks")
				var wait sync.WaitGroup
				for range 60 * 20 {
					for range 5 {
						wait.Go(func() {
							if got := p.RenewKeys(t.Context(), keys); got != keys {
								t.Error("the good keys are gone")
							}
						})
					}
					time.Sleep(time.Second / 20)
				}
				wait.Wait()
				if n := op.count("jwks") - fetches; n < 2 || n > test.most {
					t.Errorf("%d fetches in a minute, want 2 to %d", n, test.most)
				}
				if n := op.count("discovery"); n != 1 {
					t.Errorf("%d discoveries", n)
				}
			})
		})
	}
}

func TestRenewKeysInterval(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		first, second, third := optest.NewKey(t, "ES256", "e1"), optest.NewKey(t, "ES256", "e2"), optest.NewKey(t, "ES256", "e3")
		op.set(&op.jwks, withCacheControl("", first))
		keys, err := p.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// The first one is free, right after the keys were fetched.
		op.set(&op.jwks, withCacheControl("", first, second))
		renewed := p.RenewKeys(t.Context(), keys)
		if !signed(t, renewed, optest.Sign(second, nil, nil)) || op.count("jwks") != 2 {
			t.Fatalf("%d fetches", op.count("jwks"))
		}
		// Whoever still holds older keys gets the newer ones without a fetch.
		if again := p.RenewKeys(t.Context(), keys); again != renewed || op.count("jwks") != 2 {
			t.Errorf("%d fetches for what is known", op.count("jwks"))
		}
		op.set(&op.jwks, withCacheControl("", second, third))
		time.Sleep(forcedInterval - time.Nanosecond)
		if again := p.RenewKeys(t.Context(), renewed); again != renewed || op.count("jwks") != 2 {
			t.Errorf("%d fetches before the interval is over", op.count("jwks"))
		}
		time.Sleep(time.Nanosecond)
		renewed = p.RenewKeys(t.Context(), renewed)
		if !signed(t, renewed, optest.Sign(third, nil, nil)) || signed(t, renewed, optest.Sign(first, nil, nil)) || op.count("jwks") != 3 {
			t.Errorf("%d fetches when the interval is over", op.count("jwks"))
		}
		if p.KnownKeys() != renewed {
			t.Error("the renewed keys are not known")
		}
	})
}

// Callers share one fetch, and one that gives up does not end it for the others.
func TestRenewKeysShared(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		keys, err := p.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		after := optest.NewKey(t, "ES256", "after")
		op.set(&op.jwks, func(w http.ResponseWriter, r *http.Request) {
			<-release
			withCacheControl("", after)(w, r)
		})
		impatient, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan *jose.KeySet, 1)
		go func() { gaveUp <- p.RenewKeys(impatient, keys) }()
		var wait sync.WaitGroup
		for range 100 {
			wait.Go(func() {
				if got := p.RenewKeys(t.Context(), keys); !signed(t, got, optest.Sign(after, nil, nil)) {
					t.Error("a caller did not get the new key")
				}
			})
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		if got := <-gaveUp; got != keys {
			t.Error("who gave up did not get the keys there are")
		}
		close(release)
		wait.Wait()
		if n := op.count("jwks"); n != 2 {
			t.Errorf("%d fetches", n)
		}
	})
}
