package provider

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// asking are the calls that take more than what is known, and the errors that they wrap.
var asking = map[string]struct {
	call func(ctx context.Context, p *Provider) error
	want error
}{
	"token":    logins["token"],
	"userinfo": logins["userinfo"],
	"refresh": {func(ctx context.Context, p *Provider) error {
		_, err := p.Refresh(ctx, basic, RefreshGrant{RefreshToken: "rt"})
		return err
	}, ErrToken},
	"introspection": {func(ctx context.Context, p *Provider) error {
		_, _, err := p.NewIntrospector(basic).Introspect(ctx, "token", nil)
		return err
	}, ErrIntrospection},
	"revocation": {func(ctx context.Context, p *Provider) error {
		return p.Revoke(ctx, basic, "rt", HintRefreshToken)
	}, ErrRevocation},
}

func (op *memory) requests() (n int) {
	op.mu.Lock()
	defer op.mu.Unlock()
	for _, times := range op.hits {
		n += len(times)
	}
	return n
}

// Nothing known, nothing asked: neither now nor later, and nobody is told of a call.
func TestWithoutCallsUnknown(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		var seen events
		defer p.Observe("test", &seen)()
		ctx := WithoutCalls(t.Context())
		start := time.Now()
		if metadata, err := p.Metadata(ctx); !errors.Is(err, ErrDiscovery) || !errors.Is(err, ErrOffline) || metadata != nil {
			t.Errorf("Metadata = %v, %v", metadata, err)
		}
		if keys, err := p.Keys(ctx); !errors.Is(err, ErrDiscovery) || !errors.Is(err, ErrOffline) || keys != nil {
			t.Errorf("Keys = %v, %v", keys, err)
		}
		for name, renew := range renewals {
			if keys := renew(p, ctx, nil); keys != nil {
				t.Errorf("%s = %v", name, keys)
			}
		}
		for name, test := range asking {
			if err := test.call(ctx, p); !errors.Is(err, ErrDiscovery) || !errors.Is(err, ErrOffline) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %v", waited)
		}
		time.Sleep(2 * MaxKeysLifetime)
		synctest.Wait()
		if calls, ups, _ := seen.take(); op.requests() != 0 || len(calls)+len(ups) != 0 || p.Status().Asked {
			t.Errorf("%d requests, told of %v, %v", op.requests(), calls, ups)
		}
		for name, test := range asking { // with any other context all of this works
			if err := test.call(t.Context(), p); err != nil {
				t.Errorf("%s with calls: %v", name, err)
			}
		}
		if _, err := p.Keys(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

var renewals = map[string]func(p *Provider, ctx context.Context, known *jose.KeySet) *jose.KeySet{
	"RenewKeys":          (*Provider).RenewKeys,
	"RenewKeysForLogin":  (*Provider).RenewKeysForLogin,
	"RenewKeysForLogout": (*Provider).RenewKeysForLogout,
}

// What is known is the answer. No budget is spent, no place taken, no rest begun.
func TestWithoutCallsKnown(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		known, err := p.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		before := op.requests()
		// what passes a context on must not lose it
		ctx, cancel := context.WithCancel(context.WithoutCancel(WithoutCalls(t.Context())))
		defer cancel()
		if metadata, err := p.Metadata(ctx); err != nil || metadata != p.KnownMetadata() {
			t.Errorf("Metadata = %v, %v", metadata, err)
		}
		if keys, err := p.Keys(ctx); err != nil || keys != known {
			t.Errorf("Keys = %v, %v", keys, err)
		}
		introspector := p.NewIntrospector(basic)
		for range 2 * toleratedFailures {
			for name, renew := range renewals {
				if keys := renew(p, ctx, known); keys != known {
					t.Errorf("%s = %v", name, keys)
				}
			}
			for name, test := range asking {
				if err := test.call(ctx, p); !errors.Is(err, test.want) || !errors.Is(err, ErrOffline) || errors.Is(err, ErrBusy) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if _, _, err := introspector.Introspect(ctx, "token", nil); !errors.Is(err, ErrOffline) {
				t.Errorf("Introspect: %v", err)
			}
		}
		if op.requests() != before || len(p.calls)+len(p.refreshes)+len(p.revocations) != 0 {
			t.Errorf("%d requests", op.requests()-before)
		}
		if _, err := introspector.introspectOnce(t); err != nil {
			t.Errorf("a rest has begun: %v", err)
		}
		// nor is one that others have brought about the reason
		op.set(&op.introspection, answer(http.StatusInternalServerError, ""))
		for range toleratedFailures {
			_, _ = introspector.introspectOnce(t)
		}
		if _, _, err := introspector.Introspect(ctx, "token", nil); introspector.pause() <= 0 || !errors.Is(err, ErrOffline) {
			t.Errorf("during a rest: %v", err)
		}
		for name, renew := range renewals {
			fetched := op.count("jwks")
			if renew(p, t.Context(), known); op.count("jwks") != fetched+1 {
				t.Errorf("%s: its budget was spent", name)
			}
		}
		// newer keys than those that the caller knows are known as well
		op.set(&op.jwks, withCacheControl("", optest.NewKey(t, "ES256", "after")))
		time.Sleep(forcedInterval)
		renewed := p.RenewKeys(t.Context(), known)
		for name, renew := range renewals {
			if got := renew(p, ctx, known); got != renewed || got == known {
				t.Errorf("%s does not see the new keys", name)
			}
		}
	})
}

// Nobody waits for what others have under way: neither for their fetch nor for their places.
func TestWithoutCallsBesideOthers(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		ctx := WithoutCalls(t.Context())
		good := op.discovery
		op.set(&op.discovery, hang)
		var wait sync.WaitGroup
		wait.Go(func() { _, _ = p.Keys(t.Context()) })
		synctest.Wait()
		start := time.Now()
		if _, err := p.Keys(ctx); !errors.Is(err, ErrDiscovery) || !errors.Is(err, ErrOffline) || time.Since(start) != 0 {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		wait.Wait()
		synctest.Wait()
		// why it is not known is told
		failed, ok := errors.AsType[*callError](lastErrorOf(p))
		_, err := p.Keys(ctx)
		if told, same := errors.AsType[*callError](err); !ok || !same || told != failed || !errors.Is(err, ErrDiscovery) || !errors.Is(err, ErrOffline) {
			t.Errorf("got %v", err)
		}
		op.set(&op.discovery, good)
		time.Sleep(maxPause)
		synctest.Wait()
		keys, err := p.Keys(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range []*http.HandlerFunc{&op.introspection, &op.token, &op.revocation, &op.jwks} {
			op.set(target, hang)
		}
		for range maxConcurrentCalls {
			wait.Go(func() { _ = asking["introspection"].call(t.Context(), p) })
			wait.Go(func() { _ = asking["refresh"].call(t.Context(), p) })
			wait.Go(func() { _ = asking["revocation"].call(t.Context(), p) })
		}
		for _, renew := range renewals {
			wait.Go(func() { renew(p, t.Context(), keys) })
		}
		synctest.Wait()
		start = time.Now()
		for name, test := range asking {
			if err := test.call(ctx, p); !errors.Is(err, test.want) || !errors.Is(err, ErrOffline) || errors.Is(err, ErrBusy) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for name, renew := range renewals {
			if renew(p, ctx, keys) != keys {
				t.Errorf("%s has other keys", name)
			}
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %v", waited)
		}
		wait.Wait()
	})
}

// What no call would change is said as ever, and the client itself sends nothing, whoever uses it.
func TestWithoutCallsMissing(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		op.set(&op.discovery, answer(http.StatusOK, `{"issuer":"`+memoryIssuer+`"}`))
		if _, err := p.Metadata(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := op.requests()
		ctx := WithoutCalls(t.Context())
		if _, err := p.Keys(ctx); !errors.Is(err, ErrKeys) || !errors.Is(err, ErrNoEndpoint) || errors.Is(err, ErrOffline) {
			t.Errorf("Keys: %v", err)
		}
		for _, name := range []string{"introspection", "userinfo", "revocation"} {
			if err := asking[name].call(ctx, p); !errors.Is(err, asking[name].want) || !errors.Is(err, ErrNoEndpoint) || errors.Is(err, ErrOffline) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, _, err := p.get(ctx, "jwks", memoryIssuer+"/jwks"); !errors.Is(err, ErrOffline) || op.requests() != before {
			t.Errorf("%v, %d requests", err, op.requests()-before)
		}
		if _, _, err := p.get(t.Context(), "jwks", memoryIssuer+"/jwks"); err != nil {
			t.Error(err)
		}
	})
	// keys that could not be fetched, although the metadata could
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		op.set(&op.jwks, answer(http.StatusInternalServerError, ""))
		if _, err := p.Keys(t.Context()); !errors.Is(err, ErrKeys) {
			t.Fatalf("Keys: %v", err)
		}
		if _, err := p.Keys(WithoutCalls(t.Context())); !errors.Is(err, ErrKeys) || !errors.Is(err, ErrOffline) {
			t.Errorf("Keys: %v", err)
		}
	})
	// and those that nobody has asked for yet
	static := newProvider(t, optest.New(t), func(c *Config) { c.Endpoints.JWKSURI = c.Issuer + "/jwks" })
	if _, err := static.Keys(WithoutCalls(t.Context())); !errors.Is(err, ErrKeys) || !errors.Is(err, ErrOffline) {
		t.Errorf("Keys: %v", err)
	}
	if metadata, err := static.Metadata(WithoutCalls(t.Context())); err != nil || metadata == nil {
		t.Errorf("Metadata: %v", err)
	}
}
