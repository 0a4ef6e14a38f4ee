package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

const (
	// crashes is how often a gateway is killed.
	crashes = 10
	// lockLease is how long the lock of a gateway that has died is still held.
	lockLease = 3 * time.Second
	// sentGrant is how long others wait for what comes of a grant that was sent.
	sentGrant = 3 * time.Second
	// slack is what all of that may take longer on a busy machine. With it, the time is still less than requests wait at most.
	slack = 2500 * time.Millisecond
)

// crash is a moment in a renewal at which the gateway that makes it is killed.
type crash struct {
	name string
	lost bool // the provider has spent the refresh token, and nobody knows the next one
	kept bool // everything is stored, and nobody has to wait for the lock
	sent bool // others know that the grant was sent, and wait for what may come of it

	// arrange has the renewal stop at that moment. It returns what is closed when it is there, and what lets everything go on.
	arrange func(c *clusterTest, redis *tap) (reached <-chan struct{}, proceed func())
}

var crashMoments = []crash{
	{name: "before the grant is sent", arrange: func(_ *clusterTest, redis *tap) (<-chan struct{}, func()) {
		return redis.hold(true, takesLock), func() { redis.release(true) }
	}},
	{name: "before the provider takes the grant", sent: true, arrange: func(c *clusterTest, _ *tap) (<-chan struct{}, func()) {
		reached := make(chan struct{})
		c.provider.FailRefresh(optest.Fault{Hang: true, Times: 1}) // until the gateway is gone
		attempts := c.provider.RefreshAttempts()
		go func() {
			defer close(reached)
			for c.provider.RefreshAttempts() == attempts {
				time.Sleep(5 * time.Millisecond) // the provider has nothing to wait on
			}
		}()
		return reached, func() {}
	}},
	{name: "while the answer is on its way", lost: true, sent: true, arrange: func(c *clusterTest, _ *tap) (<-chan struct{}, func()) {
		proceed, reached := make(chan struct{}), make(chan struct{})
		c.provider.SetRefreshResponse(func(map[string]any) {
			c.provider.SetRefreshResponse(nil)
			close(reached)
			<-proceed
		})
		return reached, func() { close(proceed) }
	}},
	{name: "between the session and the result", kept: true, arrange: func(_ *clusterTest, redis *tap) (<-chan struct{}, func()) {
		return redis.hold(false, storesResult()), func() { redis.release(true) }
	}},
}

// TestCrash kills the gateway that renews a session, ten times. No session is lost but the one whose grant the provider has answered to
// nobody, and that one heals by a login.
func TestCrash(t *testing.T) {
	t.Parallel()
	redis := newRedis(t, false)
	taps := []*tap{newTap(t, redis), newTap(t, redis), newTap(t, redis)}
	var each []options
	for _, tap := range taps {
		each = append(each, inRedis(tap.port(), "connect_timeout 10s", "send_timeout 10s", "read_timeout 10s")) // as the tap may have to wait
	}
	c := newCluster(t, each...)
	bystanders := make(map[string]*Client)
	for i := range 3 {
		subject := fmt.Sprintf("bystander-%d", i)
		bystanders[subject] = c.signIn(t, subject)
	}
	until(t, "a first renewal, which also teaches Redis the scripts", 10*time.Second, func() bool {
		c.expectFetch(t, bystanders["bystander-0"], 200)
		return c.provider.RefreshGrants() > 0
	})
	reuses := 0
	for round := range crashes {
		moment := crashMoments[round%len(crashMoments)]
		held := c.gateways[round%len(c.gateways)]
		name := fmt.Sprintf("round %d, killed %s", round, moment.name)
		subject := fmt.Sprintf("victim-%d", round)
		victim := c.signIn(t, subject)
		logins := c.provider.Hits(optest.Authorize)

		// The others stay away, so that nobody else reaches the moment.
		reached, proceed := moment.arrange(c, taps[round%len(taps)])
		ctx, abandon := context.WithCancel(Pin(t.Context(), held))
		until(t, name+": reached", 10*time.Second, func() bool {
			go func() { _, _ = victim.Fetch(ctx, "/api") }()
			select {
			case <-reached:
				return true
			default:
				return false
			}
		})
		held.Kill()
		abandon()
		proceed()
		c.front.Use(slices.DeleteFunc(slices.Clone(c.gateways), func(g *Gateway) bool { return g == held })...)

		began := time.Now()
		answer, err := victim.Fetch(t.Context(), "/api")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		took := time.Since(began)
		t.Logf("%s: status %d after %s", name, answer.Status, took.Round(time.Millisecond))
		limit := lockLease + slack
		if moment.sent {
			limit += sentGrant
		}
		if took > limit {
			t.Errorf("%s: the next request took %s, want at most %s", name, took, limit)
		}
		if !moment.kept && took < lockLease-slack {
			t.Errorf("%s: the next request took only %s: the gateway was not killed with the lock in hand", name, took)
		}
		want := 200
		if moment.lost {
			want = 401
			reuses++
		}
		if answer.Status != want {
			t.Errorf("%s: status %d, want %d: %s", name, answer.Status, want, answer.Body)
		}
		if moment.lost {
			c.expectLogin(t, victim, subject)
			logins++
			c.expectFetch(t, victim, 200)
		}
		for subject, bystander := range bystanders {
			if answer := c.expectFetch(t, bystander, 200); answer.Body != subject {
				t.Errorf("%s: %s is taken for %q", name, subject, answer.Body)
			}
		}
		if err := held.Start(); err != nil {
			t.Fatal(err)
		}
		c.front.Use(c.gateways...)
		for range c.gateways {
			c.expectFetch(t, victim, 200)
		}
		if got := c.provider.Hits(optest.Authorize); got != logins {
			t.Errorf("%s: %d logins, want %d", name, got, logins)
		}
		if got := c.provider.RefreshReuses(); got != reuses {
			t.Errorf("%s: %d spent refresh tokens were presented, want %d", name, got, reuses)
			reuses = got
		}
	}
}

// TestSlowProvider has a grant take longer than the lease of the lock, which its holder extends.
func TestSlowProvider(t *testing.T) {
	t.Parallel()
	slow := inRedis(newRedis(t, false).Port())
	slow.handler = append(slow.handler, "timeout 20s") // far more than the grant takes
	c := newCluster(t, shared(3, slow)...)
	c.provider.SetAccessLifetime(10 * time.Second)
	client := c.signIn(t, "alice")
	c.provider.FailRefresh(optest.Fault{Delay: 4500 * time.Millisecond, Times: 1})
	until(t, "the renewal", 20*time.Second, func() bool {
		c.expectFetch(t, client, 200)
		return c.provider.RefreshGrants() > 0
	})
	for range 6 {
		c.expectFetch(t, client, 200)
	}
	if attempts, grants := c.provider.RefreshAttempts(), c.provider.RefreshGrants(); attempts != 1 || grants != 1 {
		t.Errorf("%d grants in %d attempts, want one", grants, attempts)
	}
	c.expectNoReuse(t)
}

// TestSlowHolder pauses a gateway that has the lock until another one has taken it and renewed the session. It must see that when it goes on.
func TestSlowHolder(t *testing.T) {
	t.Parallel()
	redis := newRedis(t, false)
	tap := newTap(t, redis)
	c := newCluster(t, inRedis(tap.port()), inRedis(redis.Port()))
	slow, other := c.gateways[0], c.gateways[1]
	c.tolerate = []string{"store_unavailable"}
	client := c.signIn(t, "alice")
	until(t, "a first renewal, which also teaches Redis the scripts", 10*time.Second, func() bool {
		c.expectFetch(t, client, 200)
		return c.provider.RefreshGrants() == 1
	})

	reached := tap.hold(true, takesLock)
	done := make(chan error, 1)
	until(t, "the lock", 10*time.Second, func() bool {
		go func() {
			answer, err := client.Fetch(Pin(t.Context(), slow), "/api")
			if err == nil && answer.Status != 200 {
				err = fmt.Errorf("status %d: %s", answer.Status, answer.Body)
			}
			select {
			case done <- err:
			default:
			}
		}()
		select {
		case <-reached:
			return true
		default:
			return false
		}
	})
	if err := slow.Pause(); err != nil {
		t.Fatal(err)
	}
	tap.release(false)
	until(t, "the renewal by the other one", 10*time.Second, func() bool {
		answer, err := client.Fetch(Pin(t.Context(), other), "/api")
		if err != nil || answer.Status != 200 {
			t.Fatalf("%v: %+v", err, answer)
		}
		return c.provider.RefreshGrants() == 2
	})
	if err := slow.Resume(); err != nil {
		t.Fatal(err)
	}
	// What was under way when it was paused has timed out; that may cost a short pause, but not the session.
	logins := c.provider.Hits(optest.Authorize)
	if err := <-done; err != nil && !strings.Contains(err.Error(), "status 503") {
		t.Errorf("a request to the slow gateway: %v", err)
	}
	until(t, "200 from the slow gateway", 20*time.Second, func() bool {
		answer, err := client.Fetch(Pin(t.Context(), slow), "/api")
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status != 200 && answer.Status != 503 {
			t.Fatalf("status %d: %s", answer.Status, answer.Body)
		}
		return answer.Status == 200
	})
	for range 20 {
		c.expectFetch(t, client, 200)
	}
	if got := c.provider.Hits(optest.Authorize); got != logins {
		t.Errorf("%d logins, want %d", got, logins)
	}
	c.expectNoReuse(t)
}
