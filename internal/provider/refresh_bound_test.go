package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// S-193, S-198: as many sessions as like refresh at the same time; what is beyond the bound waits for its turn, and each gets its own
// tokens.
func TestRefreshesWait(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		var underWay, most atomic.Int64
		op.set(&op.token, func(w http.ResponseWriter, r *http.Request) {
			n := underWay.Add(1)
			for before := most.Load(); n > before && !most.CompareAndSwap(before, n); before = most.Load() {
			}
			time.Sleep(time.Second)
			underWay.Add(-1)
			fmt.Fprintf(w, `{"access_token":"at of %s","token_type":"Bearer"}`, r.FormValue("refresh_token"))
		})
		const sessions = 4*maxConcurrentRefreshes - 1
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var wait sync.WaitGroup
		for i := range sessions {
			wait.Go(func() {
				token := fmt.Sprint("rt", i)
				tokens, err := p.Refresh(ctx, basic, RefreshGrant{RefreshToken: token})
				if err != nil || tokens.AccessToken != "at of "+token {
					t.Errorf("%s: %v, %v", token, tokens, err)
				}
			})
		}
		wait.Wait()
		if took := time.Since(start); took != 4*time.Second || op.count("token") != sessions || most.Load() != maxConcurrentRefreshes {
			t.Errorf("took %v for %d requests, %d at a time", took, op.count("token"), most.Load())
		}
	})
}

// Who waits for a place no longer than ctx lasts has sent nothing and lost nothing.
func TestRefreshBusy(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		op.set(&op.token, hang)
		var wait sync.WaitGroup
		for range maxConcurrentRefreshes {
			wait.Go(func() {
				if _, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: "rt"}); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrBusy) {
					t.Errorf("within the bound: %v", err)
				}
			})
		}
		synctest.Wait()
		start, sent := time.Now(), op.count("token")
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := p.Refresh(ctx, basic, RefreshGrant{RefreshToken: "rt"})
		if !errors.Is(err, ErrToken) || !errors.Is(err, ErrBusy) || !errors.Is(err, context.DeadlineExceeded) || RefreshRefused(err) || RetryAfterOf(err) != 0 {
			t.Errorf("beyond the bound: %v", err)
		}
		if waited := time.Since(start); waited != 3*time.Second || op.count("token") != sent || sent != maxConcurrentRefreshes {
			t.Errorf("waited %v, %d requests and %d more", waited, sent, op.count("token")-sent)
		}
		wait.Wait()
	})
}

// Refreshes and what strangers cause have bounds apart: neither comes to a standstill when the other does.
func TestRefreshBoundApart(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		if _, err := p.Metadata(t.Context()); err != nil {
			t.Fatal(err)
		}
		refresh := func() error {
			_, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: "rt"})
			return err
		}
		release := make(chan struct{})
		op.set(&op.introspection, func(w http.ResponseWriter, _ *http.Request) {
			<-release
			_, _ = io.WriteString(w, `{"active":true}`)
		})
		introspector := p.NewIntrospector(basic)
		var wait sync.WaitGroup
		for range maxConcurrentCalls {
			wait.Go(func() { _, _ = introspector.introspectOnce(t) })
		}
		synctest.Wait()
		if err := logins["token"].call(t.Context(), p); !errors.Is(err, ErrBusy) {
			t.Fatalf("strangers have places left, so this test shows nothing: %v", err)
		}
		if err := refresh(); err != nil {
			t.Errorf("beside introspection that hangs: %v", err)
		}
		close(release)
		wait.Wait()

		op.set(&op.token, func(w http.ResponseWriter, r *http.Request) {
			if r.FormValue("grant_type") == "refresh_token" {
				hang(w, r)
			}
			_, _ = io.WriteString(w, `{"access_token":"at","token_type":"Bearer"}`)
		})
		for range 2 * maxConcurrentRefreshes {
			wait.Go(func() {
				if err := refresh(); err == nil {
					t.Error("no error")
				}
			})
		}
		synctest.Wait()
		start := time.Now()
		if _, err := introspector.introspectOnce(t); err != nil {
			t.Errorf("introspection beside refreshes that hang: %v", err)
		}
		for name, login := range logins {
			if err := login.call(t.Context(), p); err != nil {
				t.Errorf("%s beside refreshes that hang: %v", name, err)
			}
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %v", waited)
		}
		wait.Wait()
	})
}

// S-195: refreshes that fail are no reason to leave anything else alone, and cause no fetch of metadata or keys.
func TestRefreshFailuresApart(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		keys, err := p.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		discoveries, fetches := op.count("discovery"), op.count("jwks")
		good := op.token
		for _, handler := range []http.HandlerFunc{
			answer(http.StatusInternalServerError, ""), answer(http.StatusUnauthorized, `{"error":"invalid_client"}`),
			func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "500")
				w.WriteHeader(http.StatusServiceUnavailable)
			},
		} {
			op.set(&op.token, handler)
			for range 2 * toleratedFailures {
				before := op.count("token")
				if _, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: "rt"}); !errors.Is(err, ErrToken) || op.count("token") != before+1 {
					t.Fatalf("%d requests: %v", op.count("token")-before, err)
				}
			}
		}
		if p.RetryAfter() != time.Second || !p.Status().Up {
			t.Errorf("RetryAfter = %v, %+v", p.RetryAfter(), p.Status())
		}
		if _, err := p.NewIntrospector(basic).introspectOnce(t); err != nil {
			t.Error(err)
		}
		if err := logins["userinfo"].call(t.Context(), p); err != nil {
			t.Error(err)
		}
		if op.count("discovery") != discoveries || op.count("jwks") != fetches {
			t.Errorf("%d discoveries and %d fetches of keys", op.count("discovery")-discoveries, op.count("jwks")-fetches)
		}
		// an unknown key in an ID token has its one fetch yet
		if p.RenewKeysForLogin(t.Context(), keys); op.count("jwks") != fetches+1 {
			t.Error("the keys were not fetched")
		}
		op.set(&op.token, good)
		if _, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: "rt"}); err != nil {
			t.Errorf("without waiting: %v", err)
		}
	})
}
