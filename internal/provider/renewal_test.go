package provider

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// withCacheControl serves the keys with that header.
func withCacheControl(value string, keys ...*optest.Key) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if value != "" {
			w.Header().Set("Cache-Control", value)
		}
		_, _ = w.Write(optest.KeySet(keys...))
	}
}

// S-095: the age at which the keys are fetched again, by nobody's request.
func TestKeysLifetime(t *testing.T) {
	t.Parallel()
	tests := []struct {
		cacheControl string
		configured   time.Duration
		want         time.Duration
	}{
		{"", 0, MaxKeysLifetime},
		{"max-age=0", 0, MinKeysLifetime},
		{"max-age=1", 0, MinKeysLifetime},
		{"max-age=60", 0, time.Minute},
		{"max-age=600", 0, 10 * time.Minute},
		{"MAX-AGE=600", 0, 10 * time.Minute},
		{`max-age="600"`, 0, 10 * time.Minute},
		{"public, max-age=600, must-revalidate", 0, 10 * time.Minute},
		{"public,max-age=600", 0, 10 * time.Minute},
		{"max-age=600, max-age=1200", 0, 10 * time.Minute},
		{"max-age=86400", 0, MaxKeysLifetime},
		{"max-age=31536000", 0, MaxKeysLifetime},
		{"max-age=99999999999999999999999", 0, MaxKeysLifetime},
		{"no-store", 0, MinKeysLifetime},
		{"no-cache, max-age=600", 0, MinKeysLifetime},
		{"max-age", 0, MaxKeysLifetime},
		{"max-age=", 0, MaxKeysLifetime},
		{"max-age=-1", 0, MaxKeysLifetime},
		{"max-age=soon", 0, MaxKeysLifetime},
		{"max-age=1e3", 0, MaxKeysLifetime},
		{", ,;==\"", 0, MaxKeysLifetime},
		{"s-maxage=600", 0, MaxKeysLifetime},
		{"max-age=600", 5 * time.Minute, 5 * time.Minute},
		{"no-store", 12 * time.Hour, 12 * time.Hour},
	}
	for _, test := range tests {
		t.Run(test.cacheControl, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(c *Config) { c.KeysLifetime = test.configured }, func(t *testing.T, p *Provider, op *memory) {
				op.set(&op.jwks, withCacheControl(test.cacheControl, optest.NewKey(t, "ES256", "e1")))
				p.Warm()
				time.Sleep(3*test.want - time.Second)
				times := op.times("jwks")
				if len(times) != 3 {
					t.Fatalf("%d fetches, want 3", len(times))
				}
				for i, at := range times[1:] {
					if interval := at.Sub(times[i]); interval != test.want {
						t.Errorf("fetched again after %v, want %v", interval, test.want)
					}
				}
			})
		})
	}
}

// S-087: a key that the provider removes is gone with the next renewal, one that it adds is there.
func TestBackgroundRenewal(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		before, after := optest.NewKey(t, "ES256", "before"), optest.NewKey(t, "ES256", "after")
		op.set(&op.jwks, withCacheControl("max-age=600", before))
		keys, err := p.Keys(t.Context())
		if err != nil || !signed(t, keys, optest.Sign(before, nil, nil)) {
			t.Fatal(err)
		}
		op.set(&op.jwks, withCacheControl("max-age=600", after))
		time.Sleep(10*time.Minute - time.Nanosecond)
		synctest.Wait()
		if p.KnownKeys() != keys {
			t.Error("the keys changed before their time")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		keys = p.KnownKeys()
		if signed(t, keys, optest.Sign(before, nil, nil)) || !signed(t, keys, optest.Sign(after, nil, nil)) {
			t.Error("the keys are still the ones of before")
		}
		// the same document again is the same set
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if p.KnownKeys() != keys || op.count("jwks") != 3 {
			t.Errorf("%d fetches, and the same document made other keys", op.count("jwks"))
		}
	})
}

// S-172: an endpoint that moves is picked up by a renewal of the metadata, which is due after an hour however long the keys last.
func TestMetadataRenewal(t *testing.T) {
	t.Parallel()
	for name, cacheControl := range map[string]string{"keys last less": "max-age=1200", "keys last as long": "max-age=3600", "keys last longer": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
				op.set(&op.jwks, withCacheControl(cacheControl, optest.NewKey(t, "ES256", "e1")))
				if metadata, err := p.Metadata(t.Context()); err != nil || metadata.Introspection != memoryIssuer+"/introspect" {
					t.Fatal(metadata, err)
				}
				op.set(&op.discovery, answer(http.StatusOK, metadataOf(map[string]any{"introspection_endpoint": memoryIssuer + "/moved", "revocation_endpoint": memoryIssuer + "/new"})))
				time.Sleep(metadataLifetime - time.Second)
				if n := op.count("discovery"); n != 1 {
					t.Errorf("%d discoveries within the hour", n)
				}
				time.Sleep(metadataLifetime)
				synctest.Wait()
				if metadata := p.KnownMetadata(); metadata.Introspection != memoryIssuer+"/moved" || metadata.Revocation != memoryIssuer+"/new" {
					t.Errorf("after two hours: %+v, %d discoveries", metadata, op.count("discovery"))
				}
			})
		})
	}
}

// S-172: a provider that changes its name is no longer the one that we trust. What is known stays in use.
func TestIssuerChangeRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]func(c *Config){
		"issuer configured":    nil,
		"discovery configured": func(c *Config) { c.Issuer, c.Discovery = "", memoryIssuer+"/.well-known/openid-configuration" },
	}
	for name, edit := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, edit, func(t *testing.T, p *Provider, op *memory) {
				var seen events
				defer p.Observe("test", &seen)()
				op.set(&op.jwks, withCacheControl("max-age=600", optest.NewKey(t, "ES256", "e1")))
				keys, err := p.Keys(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				metadata := p.KnownMetadata()
				op.set(&op.discovery, answer(http.StatusOK, metadataOf(map[string]any{"issuer": "http://other.example", "jwks_uri": memoryIssuer + "/other"})))
				time.Sleep(2 * metadataLifetime)
				synctest.Wait()
				if p.KnownMetadata() != metadata || p.KnownKeys() != keys {
					t.Errorf("metadata %+v", p.KnownMetadata())
				}
				if status := p.Status(); status.Up || !errors.Is(lastErrorOf(p), ErrIssuerMismatch) {
					t.Errorf("status %+v", status)
				}
				_, ups, _ := seen.take()
				changed := 0
				for _, up := range ups {
					if strings.HasPrefix(up, "up=false changed=true") {
						changed++
					}
				}
				if changed != 1 || op.count("other") != 0 {
					t.Errorf("%d changes to down, %d requests to the new place", changed, op.count("other"))
				}
				op.set(&op.discovery, answer(http.StatusOK, metadataOf(nil)))
				time.Sleep(forcedInterval)
				synctest.Wait()
				if status := p.Status(); !status.Up || lastErrorOf(p) != nil {
					t.Errorf("status after the name is right again: %+v", status)
				}
			})
		})
	}
}

// S-087, S-088: keys are renewed, and removed ones forgotten, while discovery fails; its place is known.
func TestKeysRenewedWithoutDiscovery(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		before, after := optest.NewKey(t, "ES256", "before"), optest.NewKey(t, "ES256", "after")
		op.set(&op.jwks, withCacheControl("max-age=600", before))
		if _, err := p.Keys(t.Context()); err != nil {
			t.Fatal(err)
		}
		op.set(&op.discovery, answer(http.StatusInternalServerError, ""))
		time.Sleep(90 * time.Minute)
		op.set(&op.jwks, withCacheControl("max-age=600", after))
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		if keys := p.KnownKeys(); signed(t, keys, optest.Sign(before, nil, nil)) || !signed(t, keys, optest.Sign(after, nil, nil)) {
			t.Error("the keys are the ones of before, a quarter of an hour after the provider replaced them")
		}
	})
}

// A renewal of the keys that a token causes does not end the attempts to renew the metadata.
func TestDiscoveryRetriedAfterForcedRenewal(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		op.set(&op.jwks, withCacheControl("max-age=3600", optest.NewKey(t, "ES256", "e1")))
		keys, err := p.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		op.set(&op.discovery, answer(http.StatusInternalServerError, ""))
		time.Sleep(metadataLifetime + time.Minute)
		if p.Status().Up {
			t.Fatal("discovery does not fail")
		}
		op.set(&op.jwks, withCacheControl("max-age=86400", optest.NewKey(t, "ES256", "e2")))
		p.RenewKeys(t.Context(), keys)
		op.set(&op.discovery, answer(http.StatusOK, metadataOf(map[string]any{"introspection_endpoint": memoryIssuer + "/moved"})))
		time.Sleep(metadataLifetime)
		synctest.Wait()
		if metadata := p.KnownMetadata(); metadata.Introspection != memoryIssuer+"/moved" {
			t.Errorf("an hour after discovery works again: %+v", metadata)
		}
	})
}

// A slow answer to one fetch does not undo a faster one that began later.
func TestOldAnswerDoesNotReplaceNewer(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		before, after := optest.NewKey(t, "ES256", "before"), optest.NewKey(t, "ES256", "after")
		op.set(&op.jwks, withCacheControl("max-age=600", before))
		keys, err := p.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// The scheduled fetch gets yesterday's keys, late: a cache between us and the provider.
		op.set(&op.jwks, func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(3 * time.Second)
			_, _ = w.Write(append(optest.KeySet(before), ' '))
		})
		time.Sleep(10*time.Minute + time.Second)
		op.set(&op.jwks, withCacheControl("max-age=600", before, after))
		if keys = p.RenewKeys(t.Context(), keys); !signed(t, keys, optest.Sign(after, nil, nil)) {
			t.Fatal("the forced renewal did not bring the new key")
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if !signed(t, p.KnownKeys(), optest.Sign(after, nil, nil)) {
			t.Error("the new key is gone again")
		}
	})
}
