package cluster

import (
	"testing"
	"time"
)

// TestAfterGrace has a client that keeps the cookie of its login for longer than that is good for. Its spent refresh token is never
// presented again, and the session of the others goes on.
func TestAfterGrace(t *testing.T) {
	t.Parallel()
	redis := newRedis(t, false)
	inRedisShort, inCookiesShort := inRedis(redis.Port()), inCookies("refresh_coordination storage", "refresh_grace 3s")
	inRedisShort.handler = append(inRedisShort.handler, "refresh_grace 3s")
	for _, test := range []struct {
		name     string
		gateways []options
		late     int // what the old cookie gets then
	}{
		{"one gateway, cookies", []options{inCookies("refresh_grace 3s")}, 401},
		{"two gateways, cookies", shared(2, inCookiesShort), 401},
		// The cookie only names the session, so that it does not grow old.
		{"three gateways, Redis", shared(3, inRedisShort), 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, test.gateways...)
			client := c.signIn(t, "alice")
			old := client.Cookie()
			var before time.Time // the renewal
			until(t, "a renewal", 10*time.Second, func() bool {
				before = time.Now()
				c.expectFetch(t, client, 200)
				return c.provider.RefreshGrants() == 1
			})
			renewed := time.Now()
			until(t, "the end of the grace", 10*time.Second, func() bool {
				answer, err := client.FetchWith(t.Context(), "/api", old)
				if err != nil {
					t.Fatal(err)
				}
				if early := time.Since(before) < 2500*time.Millisecond; early && answer.Status != 200 || answer.Status != 200 && answer.Status != test.late {
					t.Fatalf("the old cookie gets status %d after %s: %s", answer.Status, time.Since(renewed), answer.Body)
				}
				c.expectFetch(t, client, 200)
				return time.Since(renewed) > 5*time.Second
			})
			for range 2 * len(c.gateways) {
				answer, err := client.FetchWith(t.Context(), "/api", old)
				if err != nil {
					t.Fatal(err)
				}
				if answer.Status != test.late {
					t.Errorf("the old cookie gets status %d after its time, want %d: %s", answer.Status, test.late, answer.Body)
				}
				c.expectFetch(t, client, 200)
			}
			c.expectNoReuse(t)
		})
	}
}

// TestLateAtAnotherGateway has the login's cookie come to a gateway that has not heard of the renewal elsewhere, whose token has expired
// meanwhile, too. The session is renewed once more, and that is all.
func TestLateAtAnotherGateway(t *testing.T) {
	t.Parallel()
	redis := newRedis(t, false)
	stored := inCookies()
	stored.session = append(stored.session, "storage caddy")
	for _, test := range []struct {
		name     string
		gateways []options
	}{
		{"cookies", shared(2, inCookies("refresh_coordination storage"))},
		{"Caddy's storage", shared(2, stored)},
		{"Redis", shared(2, inRedis(redis.Port()))},
		{"Redis, ended by failures", shared(2, options{
			handler: append(inRedis(redis.Port()).handler, "refresh_failure end"), session: inRedis(redis.Port()).session,
		})},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, test.gateways...)
			client := c.signIn(t, "alice")
			first := client.Cookie()
			for _, g := range c.gateways {
				answer, err := client.FetchWith(Pin(t.Context(), g), "/api", first)
				if err != nil || answer.Status != 200 {
					t.Fatalf("%v: %+v", err, answer)
				}
			}
			var renewed time.Time
			until(t, "a renewal by the first gateway", 10*time.Second, func() bool {
				answer, err := client.Fetch(Pin(t.Context(), c.gateways[0]), "/api")
				if err != nil || answer.Status != 200 {
					t.Fatalf("%v: %+v", err, answer)
				}
				renewed = time.Now()
				return c.provider.RefreshGrants() == 1
			})
			until(t, "the end of the token", 10*time.Second, func() bool { return time.Since(renewed) > tokenLifetime })
			answer, err := client.FetchWith(Pin(t.Context(), c.gateways[1]), "/api", first)
			if err != nil {
				t.Fatal(err)
			}
			if answer.Status != 200 || answer.Body != "alice" {
				t.Errorf("status %d, want 200: %s", answer.Status, answer.Body)
			}
			if grants := c.provider.RefreshGrants(); grants != 2 {
				t.Errorf("%d grants, want 2", grants)
			}
			c.expectNoReuse(t)
			c.expectFetch(t, client, 200)
		})
	}
}
