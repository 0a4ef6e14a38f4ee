package provider

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// S-089, S-170: while the provider fails it is asked with growing pauses, whatever is asked of us, and it is back by itself.
func TestFailurePause(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]string{"discovery": "discovery", "jwks": "jwks"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
				handler := &op.discovery
				if target == "jwks" {
					handler = &op.jwks
				}
				good := *handler
				op.set(handler, answer(http.StatusInternalServerError, "down"))
				want := map[string]error{"discovery": ErrDiscovery, "jwks": ErrKeys}[target]
				for range 60 * 100 {
					if _, err := p.Keys(t.Context()); !errors.Is(err, want) {
						t.Fatalf("Keys: %v", err)
					}
					time.Sleep(10 * time.Millisecond)
				}
				times := op.times(target)
				if len(times) < 5 || len(times) > 10 {
					t.Fatalf("%d fetches in a minute", len(times))
				}
				pause := minPause
				for i, at := range times[1:] {
					if interval := at.Sub(times[i]); interval < pause || interval > pause*5/4+10*time.Millisecond {
						t.Errorf("pause %d is %v, want %v and at most a quarter more", i, interval, pause)
					}
					pause = min(2*pause, maxPause)
				}
				if after := p.RetryAfter(); after < time.Second || after > maxPause*5/4 {
					t.Errorf("RetryAfter = %v", after)
				}
				// S-170: nobody asks, and it is there again within half a minute
				op.set(handler, good)
				time.Sleep(30 * time.Second)
				synctest.Wait()
				if p.KnownKeys() == nil || !p.Status().Up {
					t.Errorf("not back: %+v", p.Status())
				}
				if after := p.RetryAfter(); after != time.Second {
					t.Errorf("RetryAfter = %v when all is well", after)
				}
				// S-086: with keys known a failure is no reason to ask more often than strangers may make us ask
				op.set(&op.jwks, answer(http.StatusInternalServerError, ""))
				fetches := op.count("jwks")
				for range 60 {
					p.RenewKeys(t.Context(), p.KnownKeys())
					time.Sleep(time.Second)
				}
				synctest.Wait()
				if n := op.count("jwks") - fetches; n < 2 || n > 4 { // two where both fall on the same instant
					t.Errorf("%d fetches in a minute of failure, want one for each half", n)
				}
			})
		})
	}
}

// S-100: the provider's own word on when to come back counts, within bounds.
func TestFetchRetryAfter(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		value    string
		status   int
		min, max time.Duration
	}{
		{"20", http.StatusServiceUnavailable, 20 * time.Second, 20 * time.Second},
		{"20", http.StatusTooManyRequests, 20 * time.Second, 20 * time.Second},
		{"86400", http.StatusServiceUnavailable, maxAskedPause, maxAskedPause},
		{"0", http.StatusServiceUnavailable, minPause, minPause * 5 / 4},
		{"-5", http.StatusServiceUnavailable, minPause, minPause * 5 / 4},
		{"soon", http.StatusServiceUnavailable, minPause, minPause * 5 / 4},
		{"20", http.StatusForbidden, minPause, minPause * 5 / 4},
	} {
		t.Run(test.value, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
				op.set(&op.discovery, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Retry-After", test.value)
					w.WriteHeader(test.status)
				})
				p.Warm()
				synctest.Wait()
				op.set(&op.discovery, answer(http.StatusOK, metadataOf(nil)))
				time.Sleep(2 * maxAskedPause)
				times := op.times("discovery")
				if len(times) != 2 {
					t.Fatalf("%d fetches", len(times))
				}
				if pause := times[1].Sub(times[0]); pause < test.min || pause > test.max {
					t.Errorf("asked again after %v, want %v to %v", pause, test.min, test.max)
				}
			})
		})
	}
}

// S-089, S-168: a provider that takes its time costs a caller no more than the timeout, and is asked again later.
func TestTimeout(t *testing.T) {
	t.Parallel()
	late := func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(4 * time.Second)
		answer(http.StatusOK, metadataOf(nil))(w, r)
	}
	tests := map[string]struct {
		discovery, jwks http.HandlerFunc
		want            error
	}{
		"discovery hangs":           {hang, nil, ErrDiscovery},
		"discovery drips":           {drip, nil, ErrDiscovery},
		"keys hang":                 {nil, hang, nil},
		"keys drip":                 {nil, drip, nil},
		"discovery late, keys hang": {late, hang, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
				goodDiscovery, goodKeys := op.discovery, op.jwks
				if test.discovery != nil {
					op.set(&op.discovery, test.discovery)
				}
				if test.jwks != nil {
					op.set(&op.jwks, test.jwks)
				}
				start := time.Now()
				_, err := p.Keys(t.Context())
				if err == nil || test.want != nil && !errors.Is(err, test.want) {
					t.Errorf("Keys: %v", err)
				}
				if waited := time.Since(start); waited > p.config.Timeout {
					t.Errorf("waited %v", waited)
				}
				op.set(&op.discovery, goodDiscovery)
				op.set(&op.jwks, goodKeys)
				time.Sleep(30 * time.Second)
				if _, err := p.Keys(t.Context()); err != nil {
					t.Errorf("half a minute later: %v", err)
				}
			})
		})
	}
}

// Who only needs the metadata does not depend on the keys.
func TestMetadataWithoutKeys(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{"failing": answer(http.StatusInternalServerError, ""), "hanging": hang} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
				op.set(&op.jwks, handler)
				if metadata, err := p.Metadata(t.Context()); err != nil || metadata.Issuer != memoryIssuer {
					t.Errorf("Metadata = %+v, %v", metadata, err)
				}
				if _, err := p.NewIntrospector(&ClientAuthentication{Method: ClientSecretPost, ClientID: "c", ClientSecret: "s"}).introspectOnce(t); err != nil {
					t.Errorf("Introspect: %v", err)
				}
			})
		})
	}
}
