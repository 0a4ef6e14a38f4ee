package openidconnect

import (
	"maps"
	"sync"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

const (
	// callbackGrace is how long the outcome of a callback stays available to repetitions of it.
	callbackGrace = time.Minute
	// deletionMemory is for how long a request may be on its way that was sent before a cookie was deleted.
	deletionMemory = 5 * time.Minute
	// maxRemembered bounds each list of the memory; where one is full, any entry makes room.
	maxRemembered = 100_000
	// maxLoginLines bounds the lines about failed logins of one kind in a minute, above Debug: anybody can make logins fail, with an error or a
	// code of his own.
	maxLoginLines = 30
)

// loginMemory is what a process remembers of logins, so that none is finished twice, and of sessions, so that no late answer undoes a
// newer one. It is small, bounded and forgets; nothing in it is needed for a login to succeed.
type loginMemory struct {
	mu         sync.Mutex
	outcomes   map[[32]byte]*callbackOutcome // by the random part of the state
	superseded map[[16]byte]time.Time        // sessions that a newer login has replaced in its browser, and until when to know
	deleted    map[[16]byte]time.Time        // dead sessions whose cookie a browser was told to drop, and until when to know
	returned   map[string]time.Time          // marks of young sessions whose cookie has come back, and until when to know
	made       map[string]time.Time          // marks of sessions that were made here and count for a loop, and until when to know
	lines      map[string]*lineBudget        // about failed logins, by their kind
	sweepAt    time.Time
}

// lineBudget counts lines of the log since a time.
type lineBudget struct {
	count int
	since time.Time
}

// callbackOutcome is what became of a login. The fields are set before done is closed.
type callbackOutcome struct {
	done    chan struct{}
	until   time.Time // it is given out
	spent   time.Time // it is remembered, so that the code is never sent again
	target  string
	cookies []string
	id      [16]byte // of the session
	refused *refusal
}

func newLoginMemory() *loginMemory {
	return &loginMemory{
		outcomes:   make(map[[32]byte]*callbackOutcome),
		superseded: make(map[[16]byte]time.Time),
		deleted:    make(map[[16]byte]time.Time),
		returned:   make(map[string]time.Time),
		made:       make(map[string]time.Time),
		lines:      make(map[string]*lineBudget),
	}
}

// claim consumes a login: the first caller has to fill in the outcome, all others get the same one.
func (m *loginMemory) claim(state [32]byte, now time.Time) (outcome *callbackOutcome, first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep(now)
	if outcome := m.outcomes[state]; outcome != nil {
		return outcome, false
	}
	outcome = &callbackOutcome{done: make(chan struct{}), spent: now.Add(2 * transactionLifetime)}
	if len(m.outcomes) >= maxRemembered {
		m.dropFinished()
	}
	m.outcomes[state] = outcome
	return outcome, true
}

// dropFinished makes room, not at the cost of a login whose code is being redeemed. The caller holds the lock.
func (m *loginMemory) dropFinished() {
	for state, outcome := range m.outcomes {
		select {
		case <-outcome.done:
			delete(m.outcomes, state)
			return
		default:
		}
	}
}

// finish gives the outcome to all that wait for it, and for a while to those that come later.
func (m *loginMemory) finish(outcome *callbackOutcome, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	outcome.until = now.Add(callbackGrace)
	close(outcome.done)
}

// replay returns a finished outcome while it is given out; later all that is known of it is that the login is spent.
func (m *loginMemory) replay(outcome *callbackOutcome, now time.Time) (_ callbackOutcome, available bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return *outcome, now.Before(outcome.until)
}

// supersede notes that a browser has a newer session than this one.
func (m *loginMemory) supersede(id [16]byte, until time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	makeRoomIn(m.superseded)
	m.superseded[id] = until
}

// isSuperseded reports whether the browser is known to have a newer session; answers to this one leave its cookies alone.
func (m *loginMemory) isSuperseded(id [16]byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.superseded[id]
	return ok
}

// firstDeletion reports whether the browser has not been told yet to drop this dead session, and notes that it is now.
func (m *loginMemory) firstDeletion(id [16]byte, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep(now)
	if _, ok := m.deleted[id]; ok {
		return false
	}
	makeRoomIn(m.deleted)
	m.deleted[id] = now.Add(deletionMemory)
	return true
}

// comesBack notes that the cookie of a young session has come back.
func (m *loginMemory) comesBack(sess *session.Session, now time.Time) {
	if now.Sub(sess.Created) >= loopWindow {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	makeRoomIn(m.returned)
	m.returned[markOf(sess.ID)] = sess.Created.Add(2 * loopWindow)
}

// hasComeBack reports whether the cookie of the session with this mark has come back.
func (m *loginMemory) hasComeBack(mark string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.returned[mark]
	return ok
}

// makes notes that a login has made the session with this mark.
func (m *loginMemory) makes(mark string, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	makeRoomIn(m.made)
	m.made[mark] = now.Add(2 * loopWindow)
}

// takeMade reports whether any of these marks is of a login that has ended here, and forgets those: each loop takes logins of its own.
func (m *loginMemory) takeMade(marks []string) (found bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, mark := range marks {
		if _, ok := m.made[mark]; ok {
			delete(m.made, mark)
			found = true
		}
	}
	return found
}

// mayTell reports whether the log may be told of one more failed login of a kind. There are as many kinds as there are reasons, about.
func (m *loginMemory) mayTell(kind string, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	budget := m.lines[kind]
	if budget == nil {
		budget = new(lineBudget)
		m.lines[kind] = budget
	}
	if now.Sub(budget.since) >= time.Minute {
		budget.count, budget.since = 0, now
	}
	budget.count++
	return budget.count <= maxLoginLines
}

// sweep forgets what is over, now and then. The caller holds the lock.
func (m *loginMemory) sweep(now time.Time) {
	if now.Before(m.sweepAt) {
		return
	}
	m.sweepAt = now.Add(callbackGrace)
	for state, outcome := range m.outcomes {
		if !now.Before(outcome.spent) {
			delete(m.outcomes, state)
			continue
		}
		select {
		case <-outcome.done:
			if now.After(outcome.until) {
				outcome.cookies, outcome.refused, outcome.target = nil, nil, "" // only that it is spent
			}
		default:
		}
	}
	maps.DeleteFunc(m.superseded, func(_ [16]byte, until time.Time) bool { return !now.Before(until) })
	maps.DeleteFunc(m.deleted, func(_ [16]byte, until time.Time) bool { return !now.Before(until) })
	maps.DeleteFunc(m.returned, func(_ string, until time.Time) bool { return !now.Before(until) })
	maps.DeleteFunc(m.made, func(_ string, until time.Time) bool { return !now.Before(until) })
}

// makeRoomIn drops any entry of a full map.
func makeRoomIn[K comparable, V any](entries map[K]V) {
	if len(entries) < maxRemembered {
		return
	}
	for key := range entries {
		delete(entries, key)
		return
	}
}
