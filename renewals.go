package openidconnect

import (
	"slices"
	"sync"
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
	// tellEvery is how often the same trouble is told.
	tellEvery = time.Minute
)

// renewals is what a process knows of the renewals of sessions. It makes one of many parallel ones, gives the result to those that come
// late with an older cookie, and sees to it that no refresh token is presented twice. Handlers that share sessions share it, and a reload
// forgets nothing.
type renewals struct {
	mu      sync.Mutex
	of      map[[16]byte]*renewalState
	sweepAt time.Time

	outage providerOutage

	toldOutage, toldStore, warnedOfStorage time.Time
}

// renewalState is what is known of one session.
type renewalState struct {
	generation uint64             // the newest
	sealed     string             // the newest session, as long as it is given out; empty when nobody has replaced anything
	until      time.Time          // sealed is given out
	replaced   []session.Replaced // older generations that still get the newest
	ended      Reason             // the newest generation is no session any more
	over       Reason             // and neither is any that may yet come of it
	failures   int
	retryAt    time.Time
	restUntil  time.Time // the newest generation has only just been granted
	flight     *flight
	stuckSince time.Time // other instances seem to hold the lock without end
	end        time.Time // of the session
}

// flight is a renewal under way.
type flight struct{ done chan struct{} }

// standing is how a session that a request brings stands to what is known of its renewals.
type standing struct {
	kind    standingKind
	sealed  string    // replaced: the newest
	flight  *flight   // under way, or claimed
	retryAt time.Time // paused
	failing bool      // under way, or claimed: it has failed before
	ended   Reason
}

type standingKind int

const (
	standingCurrent  standingKind = iota // nothing is known against it
	standingClaimed                      // it is for the caller to renew it
	standingUnderWay                     // somebody renews it
	standingReplaced                     // there is a newer one, which the bearer of this one gets
	standingSpent                        // there is a newer one, and the time for handing it out is over
	standingEnded
	standingPaused // after a failure
)

func newRenewals() *renewals { return &renewals{of: make(map[[16]byte]*renewalState)} }

// look tells how a session stands.
func (s *renewals) look(sess *session.Session, now time.Time) standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.of[sess.ID]
	if st == nil {
		return standing{}
	}
	return st.standingOf(sess.Generation, now)
}

// claim tells the same, and has the caller renew the session if nobody else does.
func (s *renewals) claim(sess *session.Session, end, now time.Time) standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stateOf(sess, end, now)
	found := st.standingOf(sess.Generation, now)
	if found.kind != standingCurrent {
		return found
	}
	if retryAt := s.outage.admit(now); now.Before(retryAt) {
		return standing{kind: standingPaused, retryAt: retryAt}
	}
	st.flight = &flight{done: make(chan struct{})}
	return standing{kind: standingClaimed, flight: st.flight, failing: st.failures > 0 || s.outage.failures > toleratedFailures}
}

func (st *renewalState) standingOf(generation uint64, now time.Time) standing {
	switch {
	case st.over != "":
		return standing{kind: standingEnded, ended: st.over}
	case generation > st.generation:
		return standing{} // renewed where this process did not see it
	case generation < st.generation:
		for _, replaced := range st.replaced {
			if replaced.Generation == generation && now.Before(replaced.Until) && st.sealed != "" {
				if st.ended != "" {
					return standing{kind: standingEnded, ended: st.ended}
				}
				return standing{kind: standingReplaced, sealed: st.sealed}
			}
		}
		return standing{kind: standingSpent}
	case st.ended != "":
		return standing{kind: standingEnded, ended: st.ended}
	case st.flight != nil:
		return standing{kind: standingUnderWay, flight: st.flight, failing: st.failures > 0}
	case now.Before(st.retryAt), now.Before(st.restUntil):
		return standing{kind: standingPaused, retryAt: later(st.retryAt, st.restUntil)}
	default:
		return standing{}
	}
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

// advance moves on to a newer generation. Of a flight for the old one nobody learns anything any more.
func (st *renewalState) advance(generation uint64) {
	flight := st.flight
	*st = renewalState{generation: generation, replaced: st.replaced, over: st.over, end: st.end}
	if flight != nil {
		close(flight.done)
	}
}

// land ends a flight, whatever became of it.
func (s *renewals) land(id [16]byte, f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.of[id]; st != nil && st.flight == f {
		st.flight = nil
		close(f.done)
	}
}

// succeed notes that a session has been renewed, and returns what other instances have to know.
func (s *renewals) succeed(old *session.Session, sealed string, end, now time.Time, grace time.Duration) *session.Renewal {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outage = providerOutage{}
	st := s.stateOf(old, end, now)
	if st.generation != old.Generation || st.over != "" {
		return nil // something newer has arrived meanwhile, or the session was given up
	}
	until := now.Add(grace)
	st.advance(old.Generation + 1)
	st.sealed, st.until, st.restUntil = sealed, until, now.Add(grantRest)
	st.replaced = slices.DeleteFunc(st.replaced, func(r session.Replaced) bool { return !now.Before(r.Until) })
	if len(st.replaced) >= maxReplaced {
		st.replaced = slices.Delete(st.replaced, 0, 1)
	}
	st.replaced = append(st.replaced, session.Replaced{Generation: old.Generation, Until: until})
	return &session.Renewal{Generation: st.generation, Until: until, Replaced: slices.Clone(st.replaced)}
}

// adopt takes over what another instance knows of a session, and reports whether that settles its renewal.
func (s *renewals) adopt(sess *session.Session, known *session.Renewal, end, now time.Time) (settled bool) {
	if known == nil || known.Generation < sess.Generation {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stateOf(sess, end, now)
	if known.Generation < st.generation {
		return true // this process knows better
	}
	if known.Generation > st.generation {
		st.advance(known.Generation)
		st.restUntil = now.Add(grantRest)
	}
	if known.Sealed != "" && now.Before(known.Until) {
		st.sealed, st.until, st.replaced = known.Sealed, known.Until, slices.Clone(known.Replaced) // which has ours, if we have told them
	}
	if known.Ended {
		st.ended = reasonRefreshRejected
	}
	if known.Failures > 0 {
		st.failures, st.retryAt = known.Failures, known.RetryAt
	}
	return known.Generation > sess.Generation || known.Ended || now.Before(known.RetryAt)
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
	st.retryAt = now.Add(max(backOff(st.failures), retryAfter))
	return &session.Renewal{
		Generation: st.generation, Sealed: st.sealed, Until: st.until, Replaced: slices.Clone(st.replaced), Failures: st.failures, RetryAt: st.retryAt,
	}
}

// finish notes that a generation is no session any more.
func (s *renewals) finish(sess *session.Session, reason Reason, end, now time.Time) *session.Renewal {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stateOf(sess, end, now)
	if st.generation != sess.Generation {
		return nil
	}
	st.ended = reason
	return &session.Renewal{Generation: st.generation, Ended: true}
}

// unanswered notes that the provider does not work.
func (s *renewals) unanswered(retryAfter time.Duration, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outage.fail(retryAfter, now)
}

// answered notes that the provider works, and reports whether that is news.
func (s *renewals) answered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	again := s.outage.failures > toleratedFailures
	s.outage = providerOutage{}
	return again
}

// mayTellOutage, mayTellStore and mayWarn report whether it is time to tell of trouble with the provider, with the store of sessions, or with
// what renewals need of a storage.
func (s *renewals) mayTellOutage(now time.Time) bool { return s.mayTell(&s.toldOutage, now) }

func (s *renewals) mayTellStore(now time.Time) bool { return s.mayTell(&s.toldStore, now) }

func (s *renewals) mayWarn(now time.Time) bool { return s.mayTell(&s.warnedOfStorage, now) }

func (s *renewals) mayTell(told *time.Time, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !told.IsZero() && now.Sub(*told) < tellEvery {
		return false
	}
	*told = now
	return true
}

// isNewerThan reports whether a newer generation of the session is known, so that answers to this one leave the browser's cookie alone.
func (s *renewals) isNewerThan(sess *session.Session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.of[sess.ID]
	return st != nil && st.generation > sess.Generation
}

// stuck tells how long the session's lock could not be had in a row.
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

// purge forgets the result of a session that is over, but not that its tokens are spent.
func (s *renewals) purge(sess *session.Session, end, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stateOf(sess, end, now)
	st.sealed, st.replaced, st.over = "", nil, reasonSessionExpired
}

// sweep forgets results whose time is over, and sessions that have ended. The caller holds the lock.
func (s *renewals) sweep(now time.Time) {
	if now.Before(s.sweepAt) {
		return
	}
	s.sweepAt = now.Add(renewalSweepInterval)
	for id, st := range s.of {
		switch {
		case st.flight != nil:
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
		if st.flight == nil {
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

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

const (
	firstPause = time.Second
	maxPause   = 30 * time.Second
)

// backOff is how long to wait after so many failures in a row.
func backOff(failures int) time.Duration {
	return min(firstPause<<min(failures-1, 10), maxPause)
}

// providerOutage keeps all sessions from waiting for a provider that does not answer: after failures in a row one of them tries, now and
// then.
type providerOutage struct {
	failures int
	until    time.Time
}

// toleratedFailures is how many in a row say nothing about the provider.
const toleratedFailures = 2

// admit returns until when to wait, which is over for one caller at a time.
func (o *providerOutage) admit(now time.Time) time.Time {
	until := o.until
	if o.failures > toleratedFailures && !now.Before(until) {
		o.until = now.Add(firstPause) // the caller tries it for all
	}
	return until
}

func (o *providerOutage) fail(retryAfter time.Duration, now time.Time) {
	o.failures++
	switch {
	case retryAfter > 0:
		o.until = now.Add(retryAfter)
	case o.failures > toleratedFailures:
		o.until = now.Add(backOff(o.failures - toleratedFailures))
	}
}
