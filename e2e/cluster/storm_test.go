package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

const (
	// stormClients is how many requests a storm has under way at a time, at most.
	stormClients = 64
	// fewClients is that for storms beside other tests.
	fewClients = 16
)

// storm is one session used by many clients at once.
type storm struct {
	duration time.Duration
	clients  int
	stuck    int           // so many of the clients keep sending the cookie of the beginning
	limit    time.Duration // for the slowest answer

	mu         sync.Mutex
	requests   int
	failures   map[string]int
	slowest    time.Duration
	spent      time.Duration // waiting, by all clients together
	standstill time.Duration // of this machine, which no gateway is to blame for
}

// run uses the session of a client until the time is over.
func (s *storm) run(t *testing.T, client *Client, subject string) {
	t.Helper()
	s.failures = make(map[string]int)
	first := client.Cookie()
	over, cancel := context.WithTimeout(t.Context(), s.duration)
	defer cancel()
	var clients, watching sync.WaitGroup
	answered := make(chan struct{})
	watching.Go(func() { s.standstill = longestStandstill(answered) })
	for i := range s.clients {
		fetch := func() (*Answer, error) { return client.Fetch(t.Context(), "/api") }
		if i < s.stuck {
			fetch = func() (*Answer, error) { return client.FetchWith(t.Context(), "/api", first) }
		}
		clients.Go(func() {
			pause := time.NewTicker(50 * time.Millisecond)
			defer pause.Stop()
			for {
				answer, err := fetch()
				s.note(answer, err, subject)
				select {
				case <-pause.C:
				case <-over.Done():
					return
				}
			}
		})
	}
	clients.Wait()
	close(answered)
	watching.Wait()
}

// longestStandstill is the longest time, until done, for which the machine did not run who only waits for a clock.
func longestStandstill(done <-chan struct{}) (longest time.Duration) {
	const beat = 10 * time.Millisecond
	pause := time.NewTicker(beat)
	defer pause.Stop()
	for last := time.Now(); ; {
		select {
		case <-pause.C:
		case <-done:
			return longest
		}
		longest, last = max(longest, time.Since(last)-beat), time.Now()
	}
}

func (s *storm) note(answer *Answer, err error, subject string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	s.spent += answer.Duration
	switch {
	case err != nil:
		s.failures[err.Error()]++
	case answer.Status != 200:
		s.failures[fmt.Sprintf("status %d: %.300s", answer.Status, answer.Body)]++
	case answer.Body != subject:
		s.failures[fmt.Sprintf("the upstream was told of %q", answer.Body)]++
	default:
		s.slowest = max(s.slowest, answer.Duration)
	}
}

// expectCalm compares what came of a storm with what should, after so many grants before it.
func (s *storm) expectCalm(t *testing.T, c *clusterTest, before int) {
	t.Helper()
	all, attempts, seen := c.provider.RefreshGrants(), c.provider.RefreshAttempts(), c.upstream.Counts()
	grants := all - before
	t.Logf("%s: %d requests, %d grants in %d attempts, %d tokens at the upstream (latest %s after its end), slowest answer %s, %d sent again, "+
		"longest standstill %s", s.duration, s.requests, all, attempts, seen.Tokens, seen.Latest.Round(time.Millisecond),
		s.slowest.Round(time.Millisecond), c.front.Resent.Load(), s.standstill.Round(time.Millisecond))
	for _, failure := range slices.Sorted(maps.Keys(s.failures)) {
		t.Errorf("%d of %d requests failed: %s", s.failures[failure], s.requests, failure)
	}
	c.expectNoReuse(t)
	if seen.Latest > transit+s.standstill || seen.Unknown != 0 {
		t.Errorf("the upstream got %d requests with an expired access token, the latest %s after its end, and %d with one nobody issued",
			seen.Expired, seen.Latest, seen.Unknown)
	}
	// The login's token is the first. A grant that nobody saw the result of was one too many.
	if seen.Tokens != all+1 || attempts != all {
		t.Errorf("%d grants in %d attempts made %d tokens that the upstream saw, want one more than grants", all, attempts, seen.Tokens)
	}
	if most := int(s.duration/renewedAfter) + 1; grants > most {
		t.Errorf("%d grants in %s, want at most %d", grants, s.duration, most)
	}
	if least := int(s.duration/(2*tokenLifetime)) - 1; grants < least {
		t.Errorf("%d grants in %s, want at least %d: sessions were not renewed", grants, s.duration, least)
	}
	usual := s.spent / time.Duration(s.requests)
	if limit := s.limit + s.standstill + 10*usual; s.slowest > limit {
		t.Errorf("the slowest answer took %s, want at most %s where they usually take %s", s.slowest, limit, usual)
	}
}

// TestStorm has 64 clients use one session with tokens of two seconds. They run one after another, since they measure.
func TestStorm(t *testing.T) {
	redis := newRedis(t, false)
	coordinated := inCookies("refresh_coordination storage")
	stored := inCookies()
	stored.session = append(stored.session, "storage caddy")
	for _, test := range []struct {
		name     string
		gateways []options
		stuck    int
	}{
		{name: "one gateway", gateways: []options{inCookies()}},
		{name: "one gateway, half with the cookie of the login", gateways: []options{inCookies()}, stuck: stormClients / 2},
		{name: "three gateways, sessions in Redis", gateways: shared(3, inRedis(redis.Port())), stuck: stormClients / 4},
		{name: "two gateways, coordinated through Caddy's storage", gateways: shared(2, coordinated), stuck: stormClients / 4},
		{name: "two gateways, sessions in Caddy's storage", gateways: shared(2, stored), stuck: stormClients / 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t, test.gateways...)
			s := &storm{duration: stormLength, clients: stormClients, stuck: test.stuck, limit: 2 * time.Second}
			s.run(t, c.signIn(t, "alice"), "alice")
			s.expectCalm(t, c, 0)
		})
	}
}
