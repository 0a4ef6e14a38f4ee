package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// S-090: all first requests share one discovery and one fetch of the keys; one that gives up does not end it for the others.
func TestSingleFlight(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	release := make(chan struct{})
	op.Fail(optest.Discovery, optest.Fault{Wait: release})
	p := newProvider(t, op, nil)
	impatient, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() {
		_, err := p.Keys(impatient)
		gaveUp <- err
	}()
	op.WaitForHits(t, optest.Discovery, 1)
	token := op.AccessToken(nil)
	var wait sync.WaitGroup
	for i := range 100 {
		wait.Go(func() {
			if i%2 == 0 {
				if metadata, err := p.Metadata(t.Context()); err != nil || metadata.Issuer != op.Issuer() {
					t.Errorf("Metadata: %v", err)
				}
			}
			if keys, err := p.Keys(t.Context()); err != nil || !signed(t, keys, token) {
				t.Errorf("Keys: %v", err)
			}
		})
	}
	// the one that started it leaves
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up got %v", err)
	}
	close(release)
	wait.Wait()
	if op.Hits(optest.Discovery) != 1 || op.Hits(optest.JWKS) != 1 {
		t.Errorf("%d discoveries, %d fetches of keys", op.Hits(optest.Discovery), op.Hits(optest.JWKS))
	}
}

// S-089: the same with a provider that fails, and a deadline of one's own.
func TestSingleFlightFailing(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	release := make(chan struct{})
	op.Fail(optest.Discovery, optest.Fault{Wait: release, Status: 500})
	p := newProvider(t, op, nil)
	p.Warm()
	op.WaitForHits(t, optest.Discovery, 1)
	deadline, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := p.Keys(deadline); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrDiscovery) {
		t.Errorf("beyond its deadline: %v", err)
	}
	var wait sync.WaitGroup
	for range 100 {
		wait.Go(func() {
			if _, err := p.Keys(t.Context()); !errors.Is(err, ErrDiscovery) {
				t.Errorf("Keys: %v", err)
			}
		})
	}
	close(release)
	wait.Wait()
	if op.Hits(optest.OAuthDiscovery) != 0 || op.Hits(optest.JWKS) != 0 {
		t.Errorf("%d requests to the other place, %d for keys", op.Hits(optest.OAuthDiscovery), op.Hits(optest.JWKS))
	}
}

func TestWarm(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	p := newProvider(t, op, nil)
	for range 10 {
		p.Warm()
	}
	op.WaitForHits(t, optest.JWKS, 1)
	if _, err := p.Keys(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Warm()
	if op.Hits(optest.Discovery) != 1 || op.Hits(optest.JWKS) != 1 {
		t.Errorf("%d discoveries, %d fetches of keys", op.Hits(optest.Discovery), op.Hits(optest.JWKS))
	}
}

func TestObserve(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		good := op.discovery
		op.set(&op.discovery, http.NotFound)
		var first, second, late events
		stopFirst := p.Observe("a", &first)
		stopAgain := p.Observe("a", &second) // the same key: the first one stands for both
		if _, ups, _ := first.take(); ups != nil {
			t.Errorf("told of %v before anything was fetched", ups)
		}
		if _, err := p.Keys(t.Context()); err == nil {
			t.Fatal("no error")
		}
		calls, ups, _ := first.take()
		if !slices.Equal(calls, []string{"discovery 404", "discovery 404"}) || !slices.Equal(ups, []string{"up=false changed=true failed=true"}) {
			t.Errorf("told of %v, %v", calls, ups)
		}
		stopLate := p.Observe("b", &late)
		if _, ups, _ := late.take(); !slices.Equal(ups, []string{"up=false changed=false failed=false"}) {
			t.Errorf("who comes late is told of %v", ups)
		}
		op.set(&op.discovery, good)
		time.Sleep(minPause * 5 / 4)
		synctest.Wait()
		keys := p.KnownKeys()
		for _, seen := range []*events{&first, &late} {
			calls, ups, _ = seen.take()
			if !slices.Equal(calls, []string{"discovery 200", "jwks 200"}) || !slices.Equal(ups, []string{"up=true changed=true failed=false"}) {
				t.Errorf("told of %v, %v", calls, ups)
			}
		}
		renew := func() {
			time.Sleep(forcedInterval)
			keys = p.RenewKeys(t.Context(), keys)
			synctest.Wait()
		}
		renew()
		if calls, ups, _ = first.take(); !slices.Equal(calls, []string{"jwks 200"}) || !slices.Equal(ups, []string{"up=true changed=false failed=false"}) {
			t.Errorf("told of %v, %v", calls, ups)
		}
		// It stays until all that share it have stopped; stopping twice does not count twice.
		stopFirst()
		stopFirst()
		renew()
		if calls, _, _ := first.take(); len(calls) != 1 {
			t.Errorf("one of two has stopped: told of %v", calls)
		}
		stopAgain()
		renew()
		if calls, ups, _ := first.take(); calls != nil || ups != nil {
			t.Errorf("both have stopped: told of %v, %v", calls, ups)
		}
		if calls, _, _ := late.take(); len(calls) != 3 {
			t.Errorf("the other is told of %v", calls)
		}
		if calls, ups, _ := second.take(); calls != nil || ups != nil {
			t.Errorf("the second of one key was told of %v, %v", calls, ups)
		}
		op.set(&op.jwks, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		renew()
		if calls, ups, _ := late.take(); !slices.Equal(calls, []string{"jwks 0"}) || !slices.Equal(ups, []string{"up=false changed=true failed=true"}) {
			t.Errorf("told of %v, %v", calls, ups)
		}
		stopLate()
		stopLate()
		// The key is free again.
		defer p.Observe("a", &second)()
		if _, ups, _ := second.take(); len(ups) != 1 {
			t.Errorf("told of %v", ups)
		}
	})
}

// Handlers come and go while calls are under way.
func TestObserveConcurrently(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	var now clock
	p := New(configFor(op, nil))
	defer p.Close()
	p.now = now.now
	keys, err := p.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var seen events
	var wait sync.WaitGroup
	for i := range 4 {
		wait.Go(func() {
			for n := range 100 {
				stop := p.Observe(fmt.Sprint("handler ", (i+n)%3), &seen)
				p.Status()
				p.RetryAfter()
				p.KnownMetadata()
				stop()
			}
		})
	}
	wait.Go(func() {
		for range 20 {
			now.advance(forcedInterval)
			keys = p.RenewKeys(t.Context(), keys)
		}
	})
	wait.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.observers) != 0 {
		t.Errorf("%d observers are left", len(p.observers))
	}
}

// A panic while an answer is handled is a failure like any other: who waits is told, and it is tried again.
func TestPanic(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	var now clock
	p := New(configFor(op, nil))
	defer p.Close()
	p.now = now.now
	stop := p.Observe("test", panicking{})
	if _, err := p.Keys(t.Context()); !errors.Is(err, ErrDiscovery) {
		t.Errorf("Keys: %v", err)
	}
	stop()
	now.advance(time.Minute)
	if _, err := p.Keys(t.Context()); err != nil {
		t.Errorf("Keys, a minute later: %v", err)
	}
}

// panicking is an observer with a fault.
type panicking struct{}

func (panicking) Called(string, int, time.Duration) { panic("called") }
func (panicking) Up(bool, bool, error)              {}
func (panicking) KeySkipped(int, error)             {}
