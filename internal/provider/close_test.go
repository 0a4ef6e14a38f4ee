package provider

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// S-097: after Close nothing runs, nothing starts, and who waits is let go.
func TestClose(t *testing.T) {
	t.Parallel()
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
			op.set(&op.jwks, withCacheControl("max-age=60", optest.NewKey(t, "ES256", "e1")))
			keys, err := p.Keys(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(10*time.Minute + time.Second)
			before := op.count("jwks")
			if before != 11 {
				t.Fatalf("%d fetches in ten minutes", before)
			}
			p.Close()
			p.Close()
			p.Warm()
			time.Sleep(48 * time.Hour)
			if got := p.RenewKeys(t.Context(), keys); got != keys {
				t.Error("the keys are no longer readable")
			}
			if got, err := p.Keys(t.Context()); got != keys || err != nil {
				t.Errorf("Keys: %v", err)
			}
			if after := op.count("jwks"); after != before {
				t.Errorf("%d fetches after Close", after-before)
			}
		})
	})
	t.Run("failing", func(t *testing.T) {
		t.Parallel()
		inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
			op.set(&op.discovery, answer(http.StatusInternalServerError, ""))
			if _, err := p.Keys(t.Context()); err == nil {
				t.Fatal("no error")
			}
			p.Close()
			time.Sleep(time.Hour)
			if _, err := p.Keys(t.Context()); err == nil {
				t.Error("keys from nowhere")
			}
			if n := op.count("discovery"); n != 1 {
				t.Errorf("%d fetches", n)
			}
		})
	})
	t.Run("under way", func(t *testing.T) {
		t.Parallel()
		inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
			op.set(&op.discovery, hang)
			start := time.Now()
			result := make(chan error)
			go func() {
				_, err := p.Keys(t.Context())
				result <- err
			}()
			synctest.Wait()
			p.Close()
			if err := <-result; err == nil || time.Since(start) != 0 {
				t.Errorf("who waited got %v after %v", err, time.Since(start))
			}
			time.Sleep(time.Hour)
			if n := op.count("discovery"); n != 1 {
				t.Errorf("%d fetches", n)
			}
		})
	})
	t.Run("never used", func(t *testing.T) {
		t.Parallel()
		inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
			p.Close()
			p.Warm()
			if _, err := p.Metadata(t.Context()); err == nil {
				t.Error("metadata from nowhere")
			}
			time.Sleep(time.Hour)
			if n := op.count("discovery"); n != 0 {
				t.Errorf("%d fetches", n)
			}
		})
	})
}
