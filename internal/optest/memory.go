package optest

import (
	"maps"
	"slices"
	"time"
)

const (
	// fewest is how many codes and access tokens are never looked through.
	fewest = 2048
	// keptSecrets is how many of the codes, tokens and other secrets Issued lists.
	keptSecrets = 5000
)

// newest drops the oldest of all when there are more than the limit.
func newest[T any](all []T, limit int) []T {
	return slices.Delete(all, 0, max(0, len(all)-limit))
}

// mark adds secrets, and drops many of the oldest at a time so that it costs little.
// The caller holds mu.
func (p *Provider) mark(values ...string) {
	p.issued = append(p.issued, values...)
	if len(p.issued) > keptSecrets+keptSecrets/10 {
		p.issued = newest(p.issued, keptSecrets)
	}
}

// forget drops the codes and the access tokens of logins and refreshes that nobody
// can use any more, each time there are twice as many as were left. The caller holds mu.
func (p *Provider) forget(now time.Time) {
	if len(p.login.codes)+len(p.login.granted) < p.login.forgetAt {
		return
	}
	// A spent code stays a while, so that a second attempt is found out.
	maps.DeleteFunc(p.login.codes, func(_ string, g *grant) bool { return now.After(g.issued.Add(2 * codeLifetime)) })
	maps.DeleteFunc(p.login.granted, func(token string, g *grant) bool {
		expired := !now.Before(g.expires)
		if expired {
			delete(p.tokens, token)
		}
		return expired
	})
	p.login.forgetAt = max(fewest, 2*(len(p.login.codes)+len(p.login.granted)))
}
