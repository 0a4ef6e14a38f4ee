package openidconnect

import (
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

// renewalState is what is known of one session.
type renewalState struct {
	generation uint64             // the newest
	sealed     string             // the newest session, as long as it is given out; empty when nobody has replaced anything
	until      time.Time          // sealed is given out
	unsaved    bool               // and longer, as the store does not have it
	replaced   []session.Replaced // older generations that still get the newest
	ended      Reason             // the provider refused the newest generation, or it could not be kept; other instances may have a newer one
	over       Reason             // the session was given up for good: no generation of it is taken any more
	overFrom   time.Time          // but those under way are served until then
	failures   int
	unanswered bool // the last attempt was, by the provider
	postponed  bool // the last attempt, for want of the storage
	retryAt    time.Time
	staleSince time.Time // the store has had an older generation
	restUntil  time.Time // the newest generation has only just been granted
	askAt      time.Time // other instances may be asked about older generations
	flight     *flight
	stuckSince time.Time // other instances seem to hold the lock without end
	end        time.Time // of the session
}

// flight is a renewal under way.
type flight struct {
	done  chan struct{}
	began time.Time
}

// standing is how a session that a request brings stands to what is known of its renewals.
type standing struct {
	kind    standingKind
	passing bool      // it changes by itself: the session has been given up, and goes on for a moment
	sealed  string    // replaced: the newest
	flight  *flight   // under way, or claimed
	retryAt time.Time // paused
	failing bool      // under way, or claimed: it has failed before
	outage  trouble   // what was in the way the last time
	ended   Reason
}

// trouble is what keeps a session from being renewed.
type trouble struct {
	provider bool // it was asked about this session, and gave no answer
	storage  bool
}

type standingKind int

const (
	standingCurrent  standingKind = iota // nothing is known against it
	standingClaimed                      // it is for the caller to renew it
	standingUnderWay                     // somebody renews it
	standingReplaced                     // there is a newer one, which requests with this one get
	standingSpent                        // there is a newer one, and the time for handing it out is over
	standingEnded
	standingPaused // after a failure
)

// standingOf tells how a generation stands, whose bearer may have come late with it.
func (st *renewalState) standingOf(generation uint64, now time.Time) standing {
	switch {
	case st.over != "" && !now.Before(st.overFrom):
		return standing{kind: standingEnded, ended: st.over}
	case generation > st.generation:
		return standing{} // renewed where this process did not see it
	case generation < st.generation && st.unsaved:
		return standing{kind: standingReplaced, sealed: st.sealed}
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
		return standing{kind: standingUnderWay, flight: st.flight, failing: st.failures > 0, outage: st.outage()}
	case now.Before(st.retryAt), now.Before(st.restUntil):
		return standing{kind: standingPaused, retryAt: later(st.retryAt, st.restUntil), failing: st.failures > 0, outage: st.outage()}
	default:
		return standing{}
	}
}

func (st *renewalState) outage() trouble {
	return trouble{provider: st.unanswered, storage: st.postponed}
}

// advance moves on to a newer generation. Of a flight for the old one nobody learns anything any more.
func (st *renewalState) advance(generation uint64) {
	flight := st.flight
	*st = renewalState{generation: generation, replaced: st.replaced, over: st.over, overFrom: st.overFrom, end: st.end}
	if flight != nil {
		close(flight.done)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
