package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// afterOutage is how long it may take until a provider is asked again that is back: the longest pause, and an attempt that ends in a timeout.
const afterOutage = 45 * time.Second

// TestProviderOutage takes the provider away for a while. Who needs no live access token does not notice; who does gets 503 until it is
// back. Nobody is sent to log in. Then the provider revokes everything, and everybody logs in once.
func TestProviderOutage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		begin func(*optest.Provider)
		end   func(*optest.Provider)
	}{
		{"connections refused", (*optest.Provider).Down, (*optest.Provider).Up},
		{"status 503", func(p *optest.Provider) { p.FailRefresh(optest.Fault{Status: 503}) }, (*optest.Provider).HealRefresh},
		{"no answer", func(p *optest.Provider) { p.FailRefresh(optest.Fault{Hang: true}) }, (*optest.Provider).HealRefresh},
	} {
		for _, passesToken := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, token passed on: %t", test.name, passesToken), func(t *testing.T) {
				t.Parallel()
				o := inCookies()
				if !passesToken {
					o.handler = nil
				}
				c := newCluster(t, o)
				client := c.signIn(t, "alice")
				until(t, "a renewal", 10*time.Second, func() bool {
					c.expectFetch(t, client, 200)
					return c.provider.RefreshGrants() > 0
				})
				c.outage(t, client, passesToken, test.begin, test.end)
				c.revoked(t, client)
			})
		}
	}
}

// outage has no provider for a while.
func (c *clusterTest) outage(t *testing.T, client *Client, passesToken bool, begin, end func(*optest.Provider)) {
	t.Helper()
	logins := c.provider.Hits(optest.Authorize)
	statuses, slowest := make(map[int]int), time.Duration(0)
	asked := c.provider.RefreshAttempts() + c.provider.Refused()
	begin(c.provider)
	began := time.Now()
	// On a busy machine it takes longer until the provider is asked once more.
	until(t, "the end of the outage, and two attempts", outageLength+20*time.Second, func() bool {
		navigation, err := client.Navigate(t.Context(), "/page")
		if err != nil {
			t.Fatal(err)
		}
		script, err := client.Fetch(t.Context(), "/api")
		if err != nil {
			t.Fatal(err)
		}
		for _, answer := range []*Answer{navigation, script} {
			statuses[answer.Status]++
			slowest = max(slowest, answer.Duration)
			switch {
			case answer.Status == 200 && answer.Body == "alice" && answer.Hops == 0:
				if passesToken && statuses[503] > 0 {
					t.Errorf("200 after a 503 while the provider is away")
				}
			case answer.Status == 503 && passesToken:
				expectUnavailable(t, answer)
			default:
				t.Fatalf("status %d without the provider, after %d redirects: %s", answer.Status, answer.Hops, answer.Body)
			}
		}
		return time.Since(began) > outageLength && c.provider.RefreshAttempts()+c.provider.Refused()-asked >= 2
	})
	asked, lasted := c.provider.RefreshAttempts()+c.provider.Refused()-asked, time.Since(began)
	if most := int(lasted/time.Second) + 2; asked > most {
		t.Errorf("the provider was asked %d times while it was away, want 2 to %d", asked, most)
	}
	if passesToken && statuses[503] == 0 {
		t.Error("every request was answered with 200: the token did not expire")
	}
	end(c.provider)
	back := until(t, "200 again", afterOutage, func() bool {
		answer, err := client.Fetch(t.Context(), "/api")
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status != 200 && (answer.Status != 503 || !passesToken) {
			t.Fatalf("status %d after the return of the provider: %s", answer.Status, answer.Body)
		}
		return answer.Status == 200
	})
	grants := c.provider.RefreshGrants()
	until(t, "a renewal again", afterOutage, func() bool {
		c.expectFetch(t, client, 200)
		return c.provider.RefreshGrants() > grants || passesToken
	})
	t.Logf("%s without the provider, asked %d times: %v, the slowest %s; 200 again after %s",
		lasted.Round(time.Second), asked, statuses, slowest.Round(time.Millisecond), back.Round(time.Millisecond))
	if got := c.provider.Hits(optest.Authorize); got != logins {
		t.Errorf("%d logins, want %d", got, logins)
	}
	c.expectNoReuse(t)
	warned := 0
	for message, n := range c.warnings("refresh_unavailable") {
		if strings.Contains(message, "renewed") {
			warned += n
		}
	}
	if warned != 1 {
		t.Errorf("%d warnings of the outage, want one: %v", warned, c.warnings(""))
	}
}

// revoked has the provider take back what it has granted.
func (c *clusterTest) revoked(t *testing.T, client *Client) {
	t.Helper()
	c.provider.RevokeRefreshTokens()
	attempts := c.provider.RefreshAttempts()
	until(t, "401", 10*time.Second, func() bool {
		answer, err := client.Fetch(t.Context(), "/api")
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status != 200 && answer.Status != 401 {
			t.Fatalf("status %d after the revocation: %s", answer.Status, answer.Body)
		}
		return answer.Status == 401
	})
	c.expectFetch(t, client, 401)
	if tries := c.provider.RefreshAttempts() - attempts; tries != 1 {
		t.Errorf("the revoked refresh token was presented %d times, want once", tries)
	}
	c.expectLogin(t, client, "alice")
	c.expectFetch(t, client, 200)
}
