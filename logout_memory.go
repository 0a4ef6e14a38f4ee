package openidconnect

import (
	"crypto/sha256"
	"time"
)

// The memory of logins is for one provider and client, so that the names of neither have to be kept apart from others'.

// claimLogoutToken notes a logout token by its jti, and reports whether it has not been carried out before.
func (m *loginMemory) claimLogoutToken(jti string, until, now time.Time) (first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep(now)
	key := sha256.Sum256([]byte(jti))
	if _, ok := m.carriedOut[key]; ok {
		return false
	}
	makeRoomIn(m.carriedOut)
	m.carriedOut[key] = until
	return true
}

// releaseLogoutToken takes a token that could not be carried out again when it is repeated.
func (m *loginMemory) releaseLogoutToken(jti string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.carriedOut, sha256.Sum256([]byte(jti)))
}

// noteSID remembers what the provider calls a session.
func (m *loginMemory) noteSID(sid string, until, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep(now)
	key := sha256.Sum256([]byte(sid))
	if _, ok := m.sids[key]; !ok {
		makeRoomIn(m.sids)
	}
	m.sids[key] = later(m.sids[key], until)
}

// hasSeenSID reports whether there has been a session that the provider calls by that name.
func (m *loginMemory) hasSeenSID(sid string, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return now.Before(m.sids[sha256.Sum256([]byte(sid))])
}

// expectLife notes how long sessions of a handler live at most.
func (m *loginMemory) expectLife(absolute time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.longest = max(m.longest, absolute)
}

// longestLife is how long any session can live.
func (m *loginMemory) longestLife() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.longest
}
