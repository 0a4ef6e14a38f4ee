package openidconnect

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// strangers send logout tokens that are signed by keys of their own, each with another name, at once.
func (b *backchannel) strangers(n int) {
	b.t.Helper()
	key := optest.NewKey(b.t, "ES256", "x")
	if b.p.Key("rs-1") != nil {
		key = optest.NewKey(b.t, "RS256", "x")
	}
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			header := optest.Claims{"typ": "logout+jwt", "kid": fmt.Sprintf("unknown-%d", i)}
			answer := b.p.SendLogout(b.t, b.uri, optest.Sign(key, header, b.p.LogoutClaims(optest.BySID("s"))))
			if answer.Status != http.StatusBadRequest {
				b.t.Errorf("a stranger got %d", answer.Status)
			}
		})
	}
	group.Wait()
}

// A token of a new key is good, as soon as the provider has published that, and it is asked for that once.
func TestLogoutTokensOfANewKey(t *testing.T) {
	t.Parallel()
	b := newBackchannel(t, "")
	victim, other := b.signIn("alice", "s"), b.signIn("bob", "t")
	before := b.p.Hits(optest.JWKS)
	b.p.Rotate(t)
	b.wantDone(b.p.LogoutToken(optest.BySID("s")))
	wantEnded(t, victim)
	b.wantDone(b.p.LogoutToken(optest.BySID("unknown")))
	if n := b.p.Hits(optest.JWKS) - before; n != 1 {
		t.Errorf("%d fetches of the keys, want one", n)
	}
	// a key that the provider has not published is none
	b.p.Rotate(t)
	unpublished := b.p.LogoutToken(optest.BySID("t"))
	b.p.SetJWKS([]byte(`{"keys":[]}`))
	b.wantUntouched(func() { b.wantRefused(unpublished, "unknown_key") }, other)
}

// Strangers with keys of their own do not have the provider called again and again, and nobody else suffers from them (S-225).
func TestS225StrangersWithUnknownKeys(t *testing.T) {
	t.Parallel()
	b := newBackchannel(t, "audience api")
	victims := []*visitor{b.signIn("alice", "1"), b.signIn("alice", "2"), b.signIn("alice", "3")}
	before := b.p.Hits(optest.JWKS)
	b.wantUntouched(func() {
		b.strangers(100)
		b.strangers(100)
	}, victims...)
	if n := b.p.Hits(optest.JWKS) - before; n != 1 {
		t.Errorf("%d fetches of the keys, want one", n)
	}
	if hits := b.p.Hits(optest.Discovery); hits != 1 {
		t.Errorf("%d discoveries", hits)
	}
	b.wantDone(b.p.LogoutToken(optest.BySID("1"))) // by a key that is known
	// somebody who logs in makes a new key known at once, for logout tokens too
	b.p.Rotate(t)
	b.signIn("bob", "4")
	b.wantDone(b.p.LogoutToken(optest.BySID("2")))
	wantEnded(t, victims[:2]...)
	wantAlive(t, victims[2])

	t.Run("bearer tokens", func(t *testing.T) {
		b := newBackchannel(t, "audience api").in(t)
		victim := b.signIn("alice", "s")
		stranger := optest.NewKey(t, "RS256", "x")
		for i := range 20 {
			token := optest.Sign(stranger, optest.Claims{"kid": fmt.Sprint(i)}, b.p.AccessClaims(nil))
			b.site.refuses(token, http.StatusUnauthorized, "unknown_key")
		}
		b.p.Rotate(t)
		b.wantDone(b.p.LogoutToken(optest.BySID("s"))) // they have spent another budget
		wantEnded(t, victim)
	})
}

// While the provider cannot be reached what is known of it stays in use; where nothing is known nothing is ended.
func TestLogoutTokensWhileTheProviderIsAway(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	storage := newFolderStorage(t)
	b := newBackchannelAt(t, p, newSiteOn(t, storage, p, sealedWithSecret("")))
	victim, other := b.signIn("alice", "s"), b.signIn("bob", "t")
	p.Down()
	b.wantDone(p.LogoutToken(optest.BySID("s")))
	wantEnded(t, victim)

	// another process, which has never reached it; a provider of its own is what other settings make
	cold := b.at(newSiteOn(t, storage, p, sealedWithSecret("timeout 4s")))
	cold.wantUntouched(func() {
		cold.wantRefused(p.LogoutToken(optest.BySID("t")), "discovery_failed")
		cold.wantRefused(p.LogoutToken(optest.BySub("bob")), "discovery_failed")
	}, other.at(cold.site))
	cold.wantRefused("rubbish", "malformed_token") // as ever
	p.Up()
	p.Fail(optest.JWKS, optest.Fault{Status: http.StatusServiceUnavailable})
	token := p.LogoutToken(optest.BySID("t"))
	waitUntil(t, func() bool { return p.Hits(optest.JWKS) >= 2 })
	cold.wantUntouched(func() { cold.wantRefused(token, "") }, other.at(cold.site))
	p.Heal(optest.JWKS)
	waitUntil(t, func() bool { return cold.send(token).Status == http.StatusOK })
	wantEnded(t, other.at(cold.site))
}
