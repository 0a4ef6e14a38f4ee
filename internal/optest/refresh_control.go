package optest

import mathrand "math/rand/v2"

func (p *Provider) setRefreshes(edit func(*refreshes)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	edit(&p.refreshes)
}

// SetRotation says whether each refresh gives a new refresh token and spends the one
// presented; at first it does. To present a spent one makes every refresh token of
// that login invalid. Without rotation the answer has the same refresh token again.
func (p *Provider) SetRotation(on bool) { p.setRefreshes(func(s *refreshes) { s.noRotation = !on }) }

// SetOmitRefreshToken leaves the refresh token out of the answers to refreshes. The
// one presented stays good then, as with no rotation.
func (p *Provider) SetOmitRefreshToken(on bool) {
	p.setRefreshes(func(s *refreshes) { s.omitted = on })
}

// SetRefreshOmitIDToken leaves the ID token out of the answers to refreshes.
func (p *Provider) SetRefreshOmitIDToken(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.login.omitRefreshedIDToken = on
}

// RevokeRefreshTokens makes all refresh tokens issued so far invalid.
func (p *Provider) RevokeRefreshTokens() {
	p.setRefreshes(func(s *refreshes) { s.killAll(func(*family) bool { return true }) })
}

// RevokeSubject makes all refresh tokens of the user with that sub invalid.
func (p *Provider) RevokeSubject(sub string) {
	p.setRefreshes(func(s *refreshes) { s.killAll(func(f *family) bool { return subject(f.grant.user) == sub }) })
}

// FailRefresh makes the token endpoint misbehave, for refreshes alone, in place of an
// earlier such fault. A fault of the endpoint itself (Fail) comes before it. Where the
// fault has an answer of its own, or keeps the request, the refresh token is not spent.
func (p *Provider) FailRefresh(fault Fault) {
	p.setRefreshes(func(s *refreshes) { s.fault = &fault })
}

// HealRefresh ends FailRefresh for requests yet to come.
func (p *Provider) HealRefresh() { p.setRefreshes(func(s *refreshes) { s.fault = nil }) }

// SetRefreshFailureRate answers this part of the refreshes, from 0 to 1, with status
// 503, before the refresh token is spent. The seed decides which; FailRefresh comes
// first.
func (p *Provider) SetRefreshFailureRate(rate float64, seed uint64) {
	p.setRefreshes(func(s *refreshes) {
		s.failureRate, s.random = rate, mathrand.New(mathrand.NewPCG(seed, seed))
	})
}

// LoseRefreshAnswer closes the connection of the next n refreshes that go well,
// after the refresh token is spent, instead of answering.
func (p *Provider) LoseRefreshAnswer(n int) { p.setRefreshes(func(s *refreshes) { s.lose = n }) }

// RefreshAttempts counts the refresh requests received, whatever came of them.
func (p *Provider) RefreshAttempts() int {
	return p.countRefreshes(func(s *refreshes) int { return s.attempts })
}

// RefreshGrants counts the refreshes that went well, also those whose answer was lost.
func (p *Provider) RefreshGrants() int {
	return p.countRefreshes(func(s *refreshes) int { return s.grants })
}

// RefreshGrantsOf counts the refreshes that went well for the user with that sub.
func (p *Provider) RefreshGrantsOf(sub string) int {
	return p.countRefreshes(func(s *refreshes) int { return s.grantsOf[sub] })
}

// RefreshReuses counts the times that a spent refresh token was presented, the first
// time that killed its family and every time after it.
func (p *Provider) RefreshReuses() int {
	return p.countRefreshes(func(s *refreshes) int { return s.reuses })
}

func (p *Provider) countRefreshes(count func(*refreshes) int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return count(&p.refreshes)
}
