package main

import (
	"crypto/rand"
	"net/http"
	"sync"
	"time"
)

// stormLatency is how long the provider takes to renew a session in the storm.
const stormLatency = 50 * time.Millisecond

// refreshes is what the provider knows of refresh tokens. Each is good for one grant, which gives the next one. Whoever presents one
// again loses all that came of the login, as with the providers that are strict about it.
type refreshes struct {
	mu       sync.Mutex
	families map[string]*family // by refresh token, also by those that are spent
	issued   map[string]issued  // access tokens of the storm, by their mark

	counts refreshCounts
}

// family is a login and its newest refresh token.
type family struct {
	grant
	newest string
	dead   bool
}

// issued is what the provider knows of an access token.
type issued struct {
	generation int
	ends       time.Time
}

// refreshCounts is how often refresh tokens were presented, and what came of it.
type refreshCounts struct {
	attempts, grants, reuses int
}

func (c refreshCounts) since(before refreshCounts) refreshCounts {
	return refreshCounts{c.attempts - before.attempts, c.grants - before.grants, c.reuses - before.reuses}
}

// answerRefresh redeems a refresh token.
func (p *provider) answerRefresh(w http.ResponseWriter, r *http.Request) {
	granted, next, ok := p.refreshes.redeem(r.PostFormValue("refresh_token"))
	if granted.clientID == stormClient {
		time.Sleep(stormLatency)
	}
	if !ok {
		refuseGrant(w)
		return
	}
	p.answerTokens(w, granted, next)
}

// start returns the first refresh token of a login.
func (s *refreshes) start(granted grant) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	granted.nonce = "" // renewed ID tokens have none
	return s.next(&family{grant: granted})
}

// next makes a family's next refresh token. The caller holds the lock.
func (s *refreshes) next(f *family) string {
	f.newest = rand.Text()
	if s.families == nil {
		s.families = make(map[string]*family)
	}
	s.families[f.newest] = f
	return f.newest
}

// redeem returns what a refresh token is good for, and the next one.
func (s *refreshes) redeem(token string) (granted grant, next string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.attempts++
	f := s.families[token]
	if f == nil {
		return grant{}, "", false
	}
	if token != f.newest {
		s.counts.reuses++
		f.dead = true
	}
	if f.dead {
		return f.grant, "", false
	}
	s.counts.grants++
	f.generation++
	return f.grant, s.next(f), true
}

// count returns the counts so far.
func (s *refreshes) count() refreshCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// markLength is how much of an access token's end tells it from others.
const markLength = 24

func markOf(token string) string { return token[max(0, len(token)-markLength):] }

func (s *refreshes) note(accessToken string, what issued) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.issued == nil {
		s.issued = make(map[string]issued)
	}
	s.issued[markOf(accessToken)] = what
}

// find returns the access token with a mark.
func (s *refreshes) find(mark string) (what issued, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	what, ok = s.issued[mark]
	return what, ok
}
