package cluster

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestReload replaces the configuration twice a second in the middle of a storm.
func TestReload(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		options
	}{
		{"with a secret", inCookies()},
		{"with a key ring", options{handler: []string{"set_access_token_header"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, test.options)
			client := c.signIn(t, "alice")
			s := &storm{duration: 8 * time.Second, clients: fewClients, stuck: fewClients / 4, limit: 5 * time.Second}
			ended := make(chan struct{})
			reloads := 0
			var reloading sync.WaitGroup
			reloading.Go(func() {
				pause := time.NewTicker(500 * time.Millisecond)
				defer pause.Stop()
				for {
					select {
					case <-pause.C:
					case <-ended:
						return
					}
					reloads++
					changed := test.options
					changed.handler = append([]string{fmt.Sprintf("realm version-%d", reloads)}, changed.handler...)
					if err := c.gateways[0].Reload(t.Context(), c.site(changed)); err != nil {
						t.Error(err)
						return
					}
				}
			})
			s.run(t, client, "alice")
			close(ended)
			reloading.Wait()
			s.expectCalm(t, c, 0)
			// Of the clients, a few at most wait for a connection in the moment of a reload.
			if resent := c.front.Resent.Load(); resent > int64(reloads*fewClients/4) {
				t.Errorf("%d of %d requests had to be sent again", resent, s.requests)
			}
			t.Logf("%d reloads", reloads)
			if reloads < 5 {
				t.Errorf("only %d reloads", reloads)
			}
		})
	}
}

// TestRollingRestart restarts each of three gateways in the middle of a storm, as an update does.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, shared(3, inRedis(newRedis(t, false).Port()))...)
	client := c.signIn(t, "alice")
	s := &storm{duration: 10 * time.Second, clients: fewClients, stuck: fewClients / 4, limit: 5 * time.Second}
	var restarting sync.WaitGroup
	restarting.Go(func() {
		for _, g := range c.gateways {
			if err := g.Stop(); err != nil {
				t.Error(err)
			}
			if err := g.Start(); err != nil {
				t.Error(err)
			}
		}
	})
	s.run(t, client, "alice")
	restarting.Wait()
	s.expectCalm(t, c, 0)
}

// TestRestart restarts the only gateway: the cookie alone is enough to go on.
func TestRestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, inCookies())
	client := c.signIn(t, "alice")
	for restart := range 3 {
		grants := c.provider.RefreshGrants()
		until(t, "a renewal", 10*time.Second, func() bool {
			c.expectFetch(t, client, 200)
			return c.provider.RefreshGrants() > grants
		})
		if restart%2 == 0 {
			c.gateways[0].Kill()
		} else if err := c.gateways[0].Stop(); err != nil {
			t.Fatal(err)
		}
		if err := c.gateways[0].Start(); err != nil {
			t.Fatal(err)
		}
		c.expectFetch(t, client, 200)
	}
	c.expectNoReuse(t)
}
