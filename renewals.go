package openidconnect

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

const (
	// maxRenewals bounds the sessions whose renewals a process remembers.
	maxRenewals = 100_000
	// maxReplaced bounds the older generations of one session that still get the newest.
	maxReplaced = 256
	// renewalSweepInterval is how often what is over is forgotten.
	renewalSweepInterval = 30 * time.Second
	// grantRest is how long a session is left alone after a grant, should its tokens be over when they arrive.
	grantRest = 500 * time.Millisecond
	// staleWait is for how long the newest generation may be on its way into a store that answers.
	staleWait = 10 * time.Second
	// storagePause is for how long a storage that failed is done without.
	storagePause = 10 * time.Second
	// askEvery is how often other instances are asked about the spent generations of a session.
	askEvery = time.Second
	// tellEvery is how often the same trouble is told.
	tellEvery = time.Minute
)

// The life of a renewal. A request brings a session that is due, and look says how that stands: the first one claims the renewal, the others
// wait for its flight, or go on with the token as long as it lives (refresh.go). Whoever has claimed it gets the turn among the instances
// (coordination.go), sends the refresh token once, makes the next generation of the session of the answer (renewed.go), seals and stores it, and
// has it published: to those who wait, to late requests with an older cookie for the length of refresh_grace, to other instances. A provider that
// refuses ends the session; one that does not answer pauses it (outage.go), and so does a storage that fails (unpublished.go).

// renewals is what a process knows of the renewals of sessions. It makes one of many parallel ones, gives the result to those that come
// late with an older cookie, and sees to it that no refresh token is presented twice. Handlers that share sessions share it, and a reload
// forgets nothing.
type renewals struct {
	mu      sync.Mutex
	of      map[[16]byte]*renewalState
	sweepAt time.Time

	version atomic.Uint64 // of all that is known; at first 1

	outage providerOutage

	toldOutage, toldStore, toldRevocations, warnedOfStorage time.Time
	outageTold                                              bool // and not yet that it is over

	busy int // flights, and what has yet to be saved

	storageAt   time.Time // what instances share is tried again
	unpublished unpublished
}

func newRenewals() *renewals {
	s := &renewals{of: make(map[[16]byte]*renewalState)}
	s.version.Store(1)
	return s
}

// look tells how a session stands.
func (s *renewals) look(sess *session.Session, now time.Time) standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.of[sess.ID]
	if st == nil {
		return standing{}
	}
	found := st.standingOf(sess.Generation, now)
	found.passing = st.over != ""
	return found
}

// renewal is what has come of one.
type renewal struct {
	sealed  string // the session
	unsaved bool   // its store does not have it yet
	end     time.Time
	at      time.Time
	grace   time.Duration
}

// claim tells the same as look, and has the caller renew the session if nobody else does.
func (s *renewals) claim(sess *session.Session, end, now time.Time) standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stateOf(sess, end, now)
	if st.over != "" {
		return standing{kind: standingEnded, ended: st.over}
	}
	found := st.standingOf(sess.Generation, now)
	if found.kind != standingCurrent {
		return found
	}
	if retryAt := s.outage.admit(st.failures > 0, now); now.Before(retryAt) {
		return standing{kind: standingPaused, retryAt: retryAt, failing: st.failures > 0, outage: st.outage()}
	}
	st.flight = &flight{done: make(chan struct{}), began: time.Now()}
	s.busy++
	return standing{kind: standingClaimed, flight: st.flight, failing: st.failures > 0 || s.outage.isOn(), outage: st.outage()}
}

// stateOf returns the state of a session, with its generation as the newest if none newer is known. The caller holds the lock.
func (s *renewals) stateOf(sess *session.Session, end, now time.Time) *renewalState {
	s.sweep(now)
	st := s.of[sess.ID]
	if st == nil {
		if len(s.of) >= maxRenewals {
			s.makeRoom(now)
		}
		st = &renewalState{generation: sess.Generation, end: end}
		s.of[sess.ID] = st
	}
	if sess.Generation > st.generation {
		st.advance(sess.Generation)
	}
	return st
}

// endFlight ends a flight, whatever became of it.
func (s *renewals) endFlight(id [16]byte, f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outage.trying--
	s.busy--
	if st := s.of[id]; st != nil && st.flight == f {
		st.flight = nil
		close(f.done)
	}
}

// succeed notes that a session has been renewed, and returns what other instances have to know.
func (s *renewals) succeed(old *session.Session, made renewal) *session.Renewal {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := made.at
	st := s.stateOf(old, made.end, now)
	if st.generation != old.Generation || st.over != "" {
		return nil // something newer has arrived meanwhile, or the session was given up
	}
	s.version.Add(1)
	until := now.Add(made.grace)
	st.advance(old.Generation + 1)
	st.sealed, st.until, st.unsaved, st.restUntil = made.sealed, until, made.unsaved, now.Add(grantRest)
	st.replaced = slices.DeleteFunc(st.replaced, func(r session.Replaced) bool { return !now.Before(r.Until) })
	if len(st.replaced) >= maxReplaced {
		st.replaced = slices.Delete(st.replaced, 0, 1)
	}
	st.replaced = append(st.replaced, session.Replaced{Generation: old.Generation, Until: until})
	return &session.Renewal{Generation: st.generation, Until: until, Replaced: slices.Clone(st.replaced)}
}

// adopt takes over what another instance knows of a session, and reports whether that settles its renewal. Its clock may be wrong, so that it
// can ask for no longer than this instance would. granted is when it has got its tokens.
func (s *renewals) adopt(sess *session.Session, known *session.Renewal, granted, end, now time.Time, grace time.Duration) (settled bool) {
	if known == nil || known.Generation < sess.Generation && !known.Over {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stateOf(sess, end, now)
	s.version.Add(1)
	if known.Over {
		st.over = reasonSessionExpired
		return true
	}
	if known.Generation < st.generation {
		return true // this process knows better
	}
	if known.Generation > st.generation {
		st.advance(known.Generation)
		st.restUntil = earlier(granted, now).Add(grantRest)
	}
	if known.Sealed != "" && now.Before(known.Until) {
		st.sealed, st.until, st.replaced = known.Sealed, earlier(known.Until, now.Add(grace)), nil // theirs have ours, if we have told them
		for _, replaced := range known.Replaced {
			st.replaced = append(st.replaced, session.Replaced{Generation: replaced.Generation, Until: earlier(replaced.Until, st.until)})
		}
	}
	if known.Ended && st.ended == "" {
		st.ended = reasonRefreshRejected
	}
	if known.Failures > 0 && known.RetryAt.Before(now.Add(longestRetryAfter)) {
		st.failures, st.retryAt = known.Failures, earlier(known.RetryAt, now.Add(maxSharedPause))
	}
	return known.Generation > sess.Generation || known.Ended || now.Before(st.retryAt)
}

// saved notes that the store has a generation, or never will.
func (s *renewals) saved(sess *session.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.of[sess.ID]; st != nil && st.generation == sess.Generation {
		st.unsaved = false
	}
}

// postpone notes that a session could not be renewed for want of what instances share. That says nothing about the provider.
func (s *renewals) postpone(sess *session.Session, end, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.stateOf(sess, end, now); st.generation == sess.Generation {
		until := now.Add(firstPause)
		if sess.AccessExpires.After(now) {
			until = earlier(until, sess.AccessExpires) // from then on it can wait no longer
		}
		st.postponed, st.retryAt = true, later(st.retryAt, until)
	}
}

// fail notes that a session could not be renewed for now, and returns what other instances have to know.
func (s *renewals) fail(sess *session.Session, retryAfter time.Duration, end, now time.Time) *session.Renewal {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stateOf(sess, end, now)
	if st.generation != sess.Generation {
		return nil
	}
	st.failures++
	st.postponed = false
	st.retryAt = now.Add(max(backOff(st.failures), retryAfter))
	return &session.Renewal{
		Generation: st.generation, Sealed: st.sealed, Until: st.until, Replaced: slices.Clone(st.replaced), Failures: st.failures, RetryAt: st.retryAt,
	}
}

// unanswered notes the same, and that it was for want of the provider.
func (s *renewals) unanswered(sess *session.Session, retryAfter time.Duration, end, now time.Time) *session.Renewal {
	news := s.fail(sess, retryAfter, end, now)
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.of[sess.ID]; st != nil && news != nil {
		st.unanswered = true
	}
	s.outage.fail(news != nil && news.Failures == 1, retryAfter, now)
	return news
}

// finish notes that a generation is no session any more.
func (s *renewals) finish(sess *session.Session, reason Reason, end, now time.Time) *session.Renewal {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stateOf(sess, end, now)
	if st.generation != sess.Generation {
		return nil
	}
	if st.ended != "" {
		return nil // which has been told
	}
	st.ended = reason
	s.version.Add(1)
	return &session.Renewal{Generation: st.generation, Ended: true}
}

// mayAsk reports whether it is time to ask other instances about a generation that is spent, as far as this one knows.
func (s *renewals) mayAsk(id [16]byte, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.of[id]
	return st != nil && !now.Before(st.askAt)
}

// asked notes that they did not know of any grace.
func (s *renewals) asked(id [16]byte, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.of[id]; st != nil {
		st.askAt = now.Add(askEvery)
	}
}

// isStale notes that the store has an older generation than this process knows of, and reports whether that has been so for longer than it
// takes to write the newer one.
func (s *renewals) isStale(id [16]byte, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.of[id]
	if st == nil {
		return true
	}
	if st.staleSince.IsZero() {
		st.staleSince = now
	}
	return now.Sub(st.staleSince) >= staleWait
}

// isNewerThan reports whether a newer generation of the session is known, so that answers to this one leave the browser's cookie alone.
func (s *renewals) isNewerThan(sess *session.Session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.of[sess.ID]
	return st != nil && st.generation > sess.Generation
}

// stuck tells how long the session's lock could not be had in a row, until unstick says that it could.
func (s *renewals) stuck(id [16]byte, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.of[id]
	if st == nil {
		return 0
	}
	if st.stuckSince.IsZero() {
		st.stuckSince = now
	}
	return now.Sub(st.stuckSince)
}

func (s *renewals) unstick(id [16]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.of[id]; st != nil {
		st.stuckSince = time.Time{}
	}
}

// purge forgets the result of a session that is over, but not that its tokens are spent. Requests that are on their way with it are served
// until from. It reports whether the session was not over before.
func (s *renewals) purge(sess *session.Session, end, now, from time.Time) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stateOf(sess, end, now)
	first = st.over == ""
	st.sealed, st.replaced, st.over, st.overFrom = "", nil, reasonSessionExpired, from
	s.version.Add(1)
	return first
}

// sweep forgets results whose time is over, and sessions that have ended. The caller holds the lock.
func (s *renewals) sweep(now time.Time) {
	if now.Before(s.sweepAt) {
		return
	}
	s.sweepAt = now.Add(renewalSweepInterval)
	for id, st := range s.of {
		switch {
		case st.flight != nil, st.unsaved:
		case !now.Before(st.end):
			delete(s.of, id)
		case !now.Before(st.until):
			st.sealed, st.replaced = "", nil // what remains is that older generations are spent
		}
	}
}

// makeRoom drops a session, if there is one without anything under way or to give out. The caller holds the lock.
func (s *renewals) makeRoom(now time.Time) {
	var other *[16]byte
	looked := 0
	for id, st := range s.of {
		if st.flight == nil && !st.unsaved {
			if !now.Before(st.until) {
				delete(s.of, id)
				return
			}
			other = &id
		}
		if looked++; looked > 100 {
			break
		}
	}
	if other != nil {
		delete(s.of, *other)
	}
}
