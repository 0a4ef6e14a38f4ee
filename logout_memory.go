package openidconnect

import (
	"crypto/sha256"
	"time"
)

// The memory of logins is for one provider and client, so that the names of neither have to be kept apart from others'.

// carriesOut notes that a logout token, by its jti, has been carried out.
func (m *loginMemory) carriesOut(jti string, until, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep(now)
	makeRoomIn(m.carriedOut)
	m.carriedOut[sha256.Sum256([]byte(jti))] = until
}

// hasCarriedOut reports whether a logout token has been carried out before.
func (m *loginMemory) hasCarriedOut(jti string, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	until, ok := m.carriedOut[sha256.Sum256([]byte(jti))]
	return ok && now.Before(until)
}

// maxAsking bounds the questions to the storage, at a time, that strangers can cause.
const maxAsking = 8

// mayAsk reports whether the storage may be asked for what a stranger has named; asked is called afterwards.
func (m *loginMemory) mayAsk() bool {
	if m.asking.Add(1) > maxAsking {
		m.asking.Add(-1)
		return false
	}
	return true
}

func (m *loginMemory) asked() { m.asking.Add(-1) }

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
