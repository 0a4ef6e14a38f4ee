package provider

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// S-217: what hangs or drips costs a logout the timeout, once, discovery included, and frees its place.
func TestRevokeTimeout(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{"hang": hang, "drip": drip} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
				good := op.discovery
				op.set(&op.revocation, handler)
				op.set(&op.discovery, func(w http.ResponseWriter, r *http.Request) {
					time.Sleep(2 * time.Second)
					good(w, r)
				})
				start := time.Now()
				err := p.Revoke(t.Context(), basic, revokedToken, HintRefreshToken)
				if !errors.Is(err, ErrRevocation) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrBusy) {
					t.Errorf("got %v", err)
				}
				if waited := time.Since(start); waited != p.config.Timeout || op.count("revocation") != 1 || len(p.revocations) != 0 {
					t.Errorf("waited %v for %d requests, %d places are taken", waited, op.count("revocation"), len(p.revocations))
				}
				// a caller that goes earlier is not kept
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start = time.Now()
				if err := p.Revoke(ctx, basic, revokedToken, ""); !errors.Is(err, ErrRevocation) || time.Since(start) != time.Second || op.count("revocation") != 2 {
					t.Errorf("cancelled after %v: %v", time.Since(start), err)
				}
				// and one that is gone sends nothing
				if err := p.Revoke(ctx, basic, revokedToken, ""); err == nil || op.count("revocation") != 2 {
					t.Errorf("%v, %d requests", err, op.count("revocation"))
				}
				if p.RetryAfter() != time.Second || !p.Status().Up {
					t.Errorf("RetryAfter = %v, %+v", p.RetryAfter(), p.Status())
				}
			})
		})
	}
}

// Many users who log out at the same time wait for each other, and nobody else for them; the other way round as well.
func TestRevokeBoundApart(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		if _, err := p.Keys(t.Context()); err != nil {
			t.Fatal(err)
		}
		revoke := func() error { return p.Revoke(t.Context(), basic, revokedToken, HintRefreshToken) }
		op.set(&op.revocation, func(http.ResponseWriter, *http.Request) { time.Sleep(time.Second) })
		var wait sync.WaitGroup
		start := time.Now()
		for range 4 * maxConcurrentRevocations {
			wait.Go(func() {
				if err := revoke(); err != nil {
					t.Errorf("of a burst: %v", err)
				}
			})
		}
		synctest.Wait()
		if n := op.count("revocation"); n != maxConcurrentRevocations {
			t.Fatalf("%d revocations at a time", n)
		}
		introspector := p.NewIntrospector(basic)
		others := func(when string) {
			before := time.Now()
			if _, err := introspector.introspectOnce(t); err != nil {
				t.Errorf("introspection %s: %v", when, err)
			}
			for name, login := range logins {
				if err := login.call(t.Context(), p); err != nil {
					t.Errorf("%s %s: %v", name, when, err)
				}
			}
			if _, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: "rt"}); err != nil {
				t.Errorf("refresh %s: %v", when, err)
			}
			if waited := time.Since(before); waited != 0 {
				t.Errorf("%s they waited %v", when, waited)
			}
		}
		others("beside a burst")
		wait.Wait()
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("the burst took %v", took)
		}

		// the provider hangs: nobody waits longer than one call may take, and what has found no place has sent nothing
		op.set(&op.revocation, hang)
		start, sent := time.Now(), op.count("revocation")
		for range 2 * maxConcurrentRevocations {
			wait.Go(func() {
				if err := revoke(); !errors.Is(err, ErrRevocation) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Revoke(ctx, basic, revokedToken, ""); !errors.Is(err, ErrRevocation) || !errors.Is(err, ErrBusy) {
			t.Errorf("without a place: %v", err)
		}
		others("beside those that hang")
		wait.Wait()
		if took := time.Since(start); took != p.config.Timeout || len(p.revocations) != 0 {
			t.Errorf("took %v, %d places are taken", took, len(p.revocations))
		}
		synctest.Wait()
		// some may have had the place of one that ended at the very same moment
		if n := op.count("revocation") - sent; n < maxConcurrentRevocations || n > 2*maxConcurrentRevocations {
			t.Errorf("%d requests", n)
		}

		// strangers and refreshes that hang do not keep anybody from logging out
		op.set(&op.revocation, answer(http.StatusOK, ""))
		op.set(&op.introspection, hang)
		op.set(&op.token, hang)
		for range maxConcurrentCalls {
			wait.Go(func() { _, _ = introspector.introspectOnce(t) })
		}
		for range maxConcurrentRefreshes {
			wait.Go(func() { _, _ = p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: "rt"}) })
		}
		synctest.Wait()
		start = time.Now()
		if err := revoke(); err != nil || time.Since(start) != 0 {
			t.Errorf("beside others that hang: %v after %v", err, time.Since(start))
		}
		wait.Wait()
	})
}
