package provider

import (
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// The attack: bearer tokens of unknown keys, without end, so that the one logout token that the provider sends after it has changed its
// keys is refused. The other way round, logout tokens of unknown keys keep neither bearer tokens nor logins from the new key.
func TestRenewKeysForLogoutUnderAttack(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ flood, genuine []string }{
		"bearer tokens":   {[]string{"RenewKeys"}, []string{"RenewKeysForLogout", "RenewKeysForLogin"}},
		"logout tokens":   {[]string{"RenewKeysForLogout"}, []string{"RenewKeys", "RenewKeysForLogin"}},
		"both at a time":  {[]string{"RenewKeys", "RenewKeysForLogout"}, []string{"RenewKeysForLogin"}},
		"its own, logins": {[]string{"RenewKeysForLogin"}, []string{"RenewKeys", "RenewKeysForLogout"}},
	}
	for name, test := range tests {
		for _, genuine := range test.genuine {
			t.Run(name+", "+genuine, func(t *testing.T) {
				t.Parallel()
				inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
					keys, err := p.Keys(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					flood := func() {
						for _, name := range test.flood {
							renewals[name](p, t.Context(), keys)
						}
					}
					var wait sync.WaitGroup
					for range 4 * 20 {
						wait.Go(flood)
						time.Sleep(time.Second / 20)
					}
					wait.Wait()
					if n := op.count("jwks"); n != 1+len(test.flood) {
						t.Fatalf("%d fetches, so the budget is not spent", n)
					}
					after := optest.NewKey(t, "ES256", "after")
					op.set(&op.jwks, withCacheControl("", after))
					if flood(); p.KnownKeys() != keys {
						t.Fatal("the flood has fetched the new key itself, so this test shows nothing")
					}
					if got := renewals[genuine](p, t.Context(), keys); !signed(t, got, optest.Sign(after, nil, nil)) || op.count("jwks") != 2+len(test.flood) {
						t.Errorf("no new key after %d fetches", op.count("jwks"))
					}
				})
			})
		}
	}
}

// S-225: the first fetch is free, then there is one in 30 seconds, shared by all, whatever comes of it.
func TestRenewKeysForLogoutBudget(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answer      http.HandlerFunc
		bearers     bool // a flood of these at the same time
		least, most int  // fetches in five minutes
	}{
		"the same keys":              {nil, false, 10, 10},
		"failing":                    {answer(http.StatusInternalServerError, ""), false, 9, 20},
		"hanging":                    {hang, false, 8, 20},
		"with bearers":               {nil, true, 20, 20},
		"failing, both":              {answer(http.StatusInternalServerError, ""), true, 10, 30},
		"keys that cannot be parsed": {answer(http.StatusOK, "{}"), true, 10, 30},
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
				var wait sync.WaitGroup
				for range 5 * 60 * 4 {
					for range 3 {
						wait.Go(func() {
							if got := p.RenewKeysForLogout(t.Context(), keys); got != keys {
								t.Error("the good keys are gone")
							}
						})
					}
					if test.bearers {
						wait.Go(func() { p.RenewKeys(t.Context(), keys) })
					}
					time.Sleep(time.Second / 4)
				}
				wait.Wait()
				if n := op.count("jwks") - 1; n < test.least || n > test.most {
					t.Errorf("%d fetches in five minutes, want %d to %d", n, test.least, test.most)
				}
			})
		})
	}
}

// While the provider is down it is asked again by itself; what strangers send comes not on top of that.
func TestRetriesSpendBudgets(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{"RenewKeys": 0, "RenewKeysForLogout": 0, "RenewKeysForLogin": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
				keys, err := p.Keys(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				op.set(&op.jwks, answer(http.StatusInternalServerError, ""))
				p.RenewKeysForLogin(t.Context(), keys)
				synctest.Wait()
				time.Sleep(time.Until(p.Status().NextFetch))
				synctest.Wait()
				if n := op.count("jwks"); n != 3 {
					t.Fatalf("%d fetches, so there was no retry", n)
				}
				if renewals[name](p, t.Context(), keys); op.count("jwks") != 3+want {
					t.Errorf("%d fetches after a retry, want %d", op.count("jwks")-3, want)
				}
			})
		})
	}
}
