package optest

import (
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"
)

// grantFor is a login without its requests.
func grantFor(p *Provider, sub string) *grant {
	return &grant{client: "client", scope: "openid", user: Claims{"sub": sub}, authTime: p.now()}
}

func TestOldTokensAreForgotten(t *testing.T) {
	t.Parallel()
	p := New(t)
	p.SetOpaqueAccessTokens(true)
	p.SetIDTokenSigner(func(Claims) string { return "not signed, to be quick" })
	p.SetIntrospectionClient("client", "secret")
	byHand := p.OpaqueToken(nil)
	const n = 3 * fewest
	for range n {
		p.NewCode(url.Values{})
		p.issue(grantFor(p, "alice"), "")
		p.Advance(time.Second)
	}
	p.mu.Lock()
	codes, granted, tokens := len(p.login.codes), len(p.login.granted), len(p.tokens)
	p.mu.Unlock()
	if codes < 100 || granted < 250 || codes+granted > fewest || tokens != granted+1 {
		t.Errorf("%d codes, %d access tokens, %d tokens", codes, granted, tokens)
	}
	if introspect(t, p, byHand)["active"] != true {
		t.Error("a token made by hand is forgotten")
	}
	issued := p.Issued()
	if len(issued) < keptSecrets || len(issued) > keptSecrets*11/10+1 {
		t.Errorf("%d secrets", len(issued))
	}
	p.MarkSecret("the newest")
	if issued := p.Issued(); !slices.Contains(issued, "the newest") || !slices.Contains(issued, "secret") || slices.Contains(issued, byHand) {
		t.Error("the wrong secrets are forgotten")
	}
}

func TestOldFamiliesAreForgotten(t *testing.T) {
	t.Parallel()
	p := New(t)
	idle, used := p.startFamily(grantFor(p, "idle")), p.startFamily(grantFor(p, "used"))
	redeem := func(token string) (next, refusal string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		_, next, refusal = p.refreshes.redeem(url.Values{"refresh_token": {token}}, "client")
		return next, refusal
	}
	first := used
	for i := range keptFamilies + 100 {
		p.startFamily(grantFor(p, strconv.Itoa(i)))
		if i%100 == 0 {
			next, refusal := redeem(used)
			if refusal != "" {
				t.Fatalf("after %d other logins: %s", i, refusal)
			}
			used = next
		}
	}
	if _, refusal := redeem(idle); refusal == "" {
		t.Error("a family is remembered for ever")
	}
	if n := len(p.refreshes.families); n < keptFamilies || n > keptFamilies+200 {
		t.Errorf("%d refresh tokens", n)
	}
	for range 2 * keptGenerations {
		used, _ = redeem(used)
	}
	if n := len(p.refreshes.families); n > keptFamilies+keptGenerations {
		t.Errorf("%d refresh tokens", n)
	}
	if _, refusal := redeem(first); refusal == "" || p.RefreshReuses() != 0 {
		t.Errorf("a generation is remembered for ever: %q, %d reuses", refusal, p.RefreshReuses())
	}
	if _, refusal := redeem(used); refusal != "" {
		t.Errorf("the newest of many generations: %s", refusal)
	}
	p.RevokeRefreshTokens()
	for i := range 100 {
		p.startFamily(grantFor(p, strconv.Itoa(i)))
	}
	p.RevokeRefreshTokens()
	if p.refreshes.live.Len() != 0 || p.refreshes.dead.Len() != keptFamilies {
		t.Errorf("%d families are good, %d are not", p.refreshes.live.Len(), p.refreshes.dead.Len())
	}
}
