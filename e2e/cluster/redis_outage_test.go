package cluster

import (
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// TestRedisOutage takes Redis away from under sessions, in several ways, and gives it back.
func TestRedisOutage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		lifetime time.Duration // of access tokens
		begin    func(*Redis) error
		end      func(*Redis) error
	}{
		{"it hangs", time.Hour, func(r *Redis) error { return r.Pause() }, func(r *Redis) error { return r.Resume() }},
		{"it is killed", time.Hour, func(r *Redis) error { r.Kill(); return nil }, (*Redis).Start},
		{"it hangs, and tokens expire", tokenLifetime, func(r *Redis) error { return r.Pause() }, func(r *Redis) error { return r.Resume() }},
		{"it is killed, and tokens expire", tokenLifetime, func(r *Redis) error { r.Kill(); return nil }, (*Redis).Start},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			redis := newRedis(t, true)
			c := newCluster(t, shared(2, inRedis(redis.Port()))...)
			c.tolerate = []string{"store_unavailable"}
			c.provider.SetAccessLifetime(test.lifetime)
			client := c.signIn(t, "alice")
			cookie := client.Cookie()
			for range 4 {
				c.expectFetch(t, client, 200)
			}
			logins := c.provider.Hits(optest.Authorize)

			if err := test.begin(redis); err != nil {
				t.Fatal(err)
			}
			// An opened session is remembered for a few seconds; after that nobody can know.
			inARow, slowest := 0, time.Duration(0)
			until(t, "503 from all gateways", 30*time.Second, func() bool {
				answer, err := client.Fetch(t.Context(), "/api")
				if err != nil {
					t.Fatal(err)
				}
				slowest = max(slowest, answer.Duration)
				switch answer.Status {
				case 200:
					inARow = 0
				case 503:
					inARow++
					expectUnavailable(t, answer)
				default:
					t.Fatalf("status %d without Redis: %s", answer.Status, answer.Body)
				}
				return inARow == 4
			})
			answer, err := client.Navigate(t.Context(), "/page")
			if err != nil {
				t.Fatal(err)
			}
			if answer.Status != 503 || answer.Hops != 0 {
				t.Errorf("a navigation without Redis ends with status %d at %s, want 503 at once", answer.Status, answer.URL)
			}
			expectUnavailable(t, answer)
			if got := client.Cookie(); got != cookie {
				t.Error("the cookie has changed")
			}
			t.Logf("slowest answer without Redis: %s", slowest.Round(time.Millisecond))
			if slowest > 8*time.Second {
				t.Errorf("an answer took %s without Redis", slowest)
			}

			if err := test.end(redis); err != nil {
				t.Fatal(err)
			}
			// Each gateway's Redis client tries again once a second, and not in the same moment: one may know of the return, and the other not.
			inARow = 0
			took := until(t, "200 from all gateways", 20*time.Second, func() bool {
				answer, err := client.FetchWith(t.Context(), "/api", cookie)
				if err != nil {
					t.Fatal(err)
				}
				switch answer.Status {
				case 200:
					inARow++
				case 503:
					inARow = 0
				default:
					t.Fatalf("status %d after the return of Redis: %s", answer.Status, answer.Body)
				}
				return inARow == 4
			})
			t.Logf("200 again after %s", took.Round(time.Millisecond))
			until(t, "two renewals, where tokens expire", 20*time.Second, func() bool {
				c.expectFetch(t, client, 200)
				return test.lifetime > time.Minute || c.provider.RefreshGrants() > 1
			})
			if got := c.provider.Hits(optest.Authorize); got != logins {
				t.Errorf("%d logins, want %d: nothing was lost", got, logins)
			}
			c.expectNoReuse(t)
		})
	}
}

// expectUnavailable inspects a 503.
func expectUnavailable(t *testing.T, answer *Answer) {
	t.Helper()
	if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 60 {
		t.Errorf("Retry-After is %q", answer.Header.Get("Retry-After"))
	}
	if cookies := answer.Header["Set-Cookie"]; len(cookies) != 0 {
		names := make(map[string]bool)
		for _, cookie := range cookies {
			names[cookie[:min(len(cookie), 12)]] = true
		}
		t.Errorf("a 503 sets cookies: %q", slices.Sorted(maps.Keys(names)))
	}
}

// TestForgetfulRedis restarts a Redis that keeps nothing. Sessions are gone then, which ends in one login and nothing worse.
func TestForgetfulRedis(t *testing.T) {
	t.Parallel()
	redis := newRedis(t, false)
	c := newCluster(t, shared(2, inRedis(redis.Port()))...)
	c.tolerate = []string{"store_unavailable"}
	client := c.signIn(t, "alice")
	for range 4 {
		c.expectFetch(t, client, 200)
	}
	redis.Kill()
	if err := redis.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "401 from all gateways", 20*time.Second, func() bool {
		all := true
		for _, g := range c.gateways {
			answer, err := client.Fetch(Pin(t.Context(), g), "/api")
			if err != nil {
				t.Fatal(err)
			}
			if answer.Status != 200 && answer.Status != 401 && answer.Status != 503 {
				t.Fatalf("status %d: %s", answer.Status, answer.Body)
			}
			all = all && answer.Status == 401
		}
		return all
	})
	c.expectLogin(t, client, "alice")
	for range 4 {
		c.expectFetch(t, client, 200)
	}
}
