package openidconnect

import (
	"crypto/sha256"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// logoutMemory is what a process remembers of the logouts of one provider and client, so that none is carried out twice, and that it is asked
// for little on the word of anonymous clients.
type logoutMemory struct {
	flight singleflight.Group // by logout token
	asking atomic.Int32       // of the storage, because of anonymous clients

	mu         sync.Mutex
	carriedOut map[[32]byte]time.Time // logout tokens and frames, and until when they could come again
	sids       map[[32]byte]time.Time // what the provider calls sessions that have been seen, and until when they can live
	longest    time.Duration          // that a session lives at most
	youngest   time.Time              // when the last session began that had to begin later than it was made
	sweepAt    time.Time
}

func newLogoutMemory() *logoutMemory {
	return &logoutMemory{carriedOut: make(map[[32]byte]time.Time), sids: make(map[[32]byte]time.Time)}
}

// carriesOut notes that a logout has been carried out: of a token, by its jti, or of a frame.
func (m *logoutMemory) carriesOut(name string, until, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep(now)
	makeRoomIn(m.carriedOut)
	m.carriedOut[sha256.Sum256([]byte(name))] = until
}

// hasCarriedOut reports whether a logout of that name has been carried out before.
func (m *logoutMemory) hasCarriedOut(name string, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	until, ok := m.carriedOut[sha256.Sum256([]byte(name))]
	return ok && now.Before(until)
}

// maxAsking bounds the questions to the storage, at a time, that anonymous clients can cause.
const maxAsking = 8

// beginLookup reports whether the storage may be asked for what an anonymous client has named; endLookup is called afterwards.
func (m *logoutMemory) beginLookup() bool {
	if m.asking.Add(1) > maxAsking {
		m.asking.Add(-1)
		return false
	}
	return true
}

func (m *logoutMemory) endLookup() { m.asking.Add(-1) }

// noteSID remembers what the provider calls a session.
func (m *logoutMemory) noteSID(sid string, until, now time.Time) {
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
func (m *logoutMemory) hasSeenSID(sid string, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return now.Before(m.sids[sha256.Sum256([]byte(sid))])
}

// maxAhead is how much later than it was made a session can begin.
const maxAhead = 10 * time.Second

// begins notes a session that begins later than it was made, and momentOf is the moment by which a logout ends it like all others that there are.
func (m *logoutMemory) begins(at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.youngest = later(m.youngest, at)
}

func (m *logoutMemory) momentOf(now time.Time) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.youngest.After(now.Add(maxAhead)) {
		return now // the clock was set back
	}
	return later(now, m.youngest)
}

// expectLife notes how long sessions of a handler live at most.
func (m *logoutMemory) expectLife(absolute time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.longest = max(m.longest, absolute)
}

// longestLife is how long any session can live.
func (m *logoutMemory) longestLife() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.longest
}

// sweep forgets what is over, now and then. The caller holds the lock.
func (m *logoutMemory) sweep(now time.Time) {
	if now.Before(m.sweepAt) {
		return
	}
	m.sweepAt = now.Add(time.Minute)
	maps.DeleteFunc(m.carriedOut, func(_ [32]byte, until time.Time) bool { return !now.Before(until) })
	maps.DeleteFunc(m.sids, func(_ [32]byte, until time.Time) bool { return !now.Before(until) })
}
