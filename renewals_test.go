package openidconnect

import (
	"fmt"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

// ledger is what a process knows of renewals, and its time.
type ledger struct {
	*renewals
	t   *testing.T
	now time.Time
	end time.Time // of all sessions
}

func newLedger(t *testing.T) *ledger {
	now := time.Now().Truncate(time.Second)
	return &ledger{newRenewals(), t, now, now.Add(24 * time.Hour)}
}

// generation is a session as some request brings it.
func generation(id [16]byte, n uint64) *session.Session {
	return &session.Session{ID: id, Generation: n}
}

// renew renews a session, which must be due and nobody else's to renew.
func (l *ledger) renew(sess *session.Session, grace time.Duration) {
	l.t.Helper()
	found := l.claim(sess, l.end, l.now)
	if found.kind != standingClaimed {
		l.t.Fatalf("generation %d stands as %d, want it to be claimed", sess.Generation, found.kind)
	}
	sealed := fmt.Sprint("sealed ", sess.Generation+1)
	if news := l.succeed(sess, renewal{sealed: sealed, end: l.end, at: l.now, grace: grace}); news == nil || news.Generation != sess.Generation+1 {
		l.t.Fatalf("others are told %+v", news)
	}
	l.endFlight(sess.ID, found.flight)
	l.now = l.now.Add(grantRest)
}

// wantStanding checks how a session stands, for those who only look and for those who would renew it.
func (l *ledger) wantStanding(sess *session.Session, want standingKind, sealed string) {
	l.t.Helper()
	found := l.look(sess, l.now)
	if found.kind != want || found.sealed != sealed {
		l.t.Errorf("generation %d stands as %d with %q, want %d with %q", sess.Generation, found.kind, found.sealed, want, sealed)
	}
	if want == standingCurrent {
		return
	}
	if found = l.claim(sess, l.end, l.now); found.kind != want || found.sealed != sealed {
		l.t.Errorf("generation %d can be claimed: it stands as %d with %q, want %d with %q", sess.Generation, found.kind, found.sealed, want, sealed)
	}
}

func TestStandingOfGenerations(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	id := session.NewID()
	l.wantStanding(generation(id, 0), standingCurrent, "")
	l.renew(generation(id, 0), time.Minute)
	l.wantStanding(generation(id, 0), standingReplaced, "sealed 1")
	l.wantStanding(generation(id, 1), standingCurrent, "")
	l.now = l.now.Add(30 * time.Second)
	l.renew(generation(id, 1), time.Minute)
	l.wantStanding(generation(id, 0), standingReplaced, "sealed 2")
	l.wantStanding(generation(id, 1), standingReplaced, "sealed 2")
	l.now = l.now.Add(30 * time.Second) // the minute of generation 0 is over
	l.wantStanding(generation(id, 0), standingSpent, "")
	l.wantStanding(generation(id, 1), standingReplaced, "sealed 2")
	l.now = l.now.Add(time.Minute)
	l.wantStanding(generation(id, 1), standingSpent, "")
	l.wantStanding(generation(id, 2), standingCurrent, "")

	t.Run("of another session", func(t *testing.T) {
		other := &ledger{l.renewals, t, l.now, l.end}
		for n := range uint64(3) {
			other.wantStanding(generation(session.NewID(), n), standingCurrent, "")
		}
	})
	t.Run("that were made elsewhere", func(t *testing.T) {
		l := &ledger{l.renewals, t, l.now, l.end}
		l.wantStanding(generation(id, 7), standingCurrent, "")
		l.renew(generation(id, 7), time.Minute)
		l.wantStanding(generation(id, 7), standingReplaced, "sealed 8")
		for n := range uint64(7) {
			l.wantStanding(generation(id, n), standingSpent, "")
		}
	})
}

// Of many that would renew a session one does, and all others wait for it, whatever becomes of it.
func TestFlights(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		outcome func(l *ledger, sess *session.Session)
		want    standingKind
	}{
		"it goes well": {func(l *ledger, sess *session.Session) {
			l.succeed(sess, renewal{sealed: "s", end: l.end, at: l.now, grace: time.Minute})
		}, standingReplaced},
		"it fails":         {func(l *ledger, sess *session.Session) { l.unanswered(sess, 0, l.end, l.now) }, standingPaused},
		"it is refused":    {func(l *ledger, sess *session.Session) { l.finish(sess, reasonRefreshRejected, l.end, l.now) }, standingEnded},
		"nothing comes":    {func(*ledger, *session.Session) {}, standingCurrent},
		"a login replaces": {func(l *ledger, sess *session.Session) { l.purge(sess, l.end, l.now, l.now) }, standingEnded},
		"another instance is quicker": {func(l *ledger, sess *session.Session) {
			until := l.now.Add(time.Minute)
			l.adopt(sess, &session.Renewal{
				Generation: 3, Sealed: "theirs", Until: until, Replaced: []session.Replaced{{Generation: 0, Until: until}},
			}, l.now, l.end, l.now, time.Minute)
		}, standingReplaced},
		"a newer one turns up": {func(l *ledger, sess *session.Session) { l.claim(generation(sess.ID, 5), l.end, l.now) }, standingSpent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(t)
			sess := generation(session.NewID(), 0)
			first := l.claim(sess, l.end, l.now)
			if first.kind != standingClaimed {
				t.Fatalf("it stands as %d", first.kind)
			}
			for range 3 {
				if other := l.claim(sess, l.end, l.now); other.kind != standingUnderWay || other.flight != first.flight {
					t.Errorf("to another it stands as %d", other.kind)
				}
			}
			select {
			case <-first.flight.done:
				t.Fatal("it has landed before anything has come of it")
			default:
			}
			test.outcome(l, sess)
			l.endFlight(sess.ID, first.flight)
			select {
			case <-first.flight.done:
			default:
				t.Error("those that wait are not told")
			}
			if found := l.look(sess, l.now); found.kind != test.want {
				t.Errorf("then it stands as %d, want %d", found.kind, test.want)
			}
			if l.outage.trying > 1 || name != "a newer one turns up" && l.outage.trying != 0 {
				t.Errorf("%d are counted as under way", l.outage.trying)
			}
		})
	}
}

// What comes of a renewal after a login has taken the session's place is of no use to anybody.
func TestNothingComesOfASessionThatIsOver(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	id := session.NewID()
	l.renew(generation(id, 0), time.Minute)
	found := l.claim(generation(id, 1), l.end, l.now)
	l.purge(generation(id, 0), l.end, l.now, l.now)
	if news := l.succeed(generation(id, 1), renewal{sealed: "late", end: l.end, at: l.now, grace: time.Minute}); news != nil {
		t.Errorf("others are told %+v", news)
	}
	l.endFlight(id, found.flight)
	for n := range uint64(4) {
		l.wantStanding(generation(id, n), standingEnded, "")
	}
}

// What another instance tells is taken for what it is worth.
func TestAdoption(t *testing.T) {
	t.Parallel()
	const grace = time.Minute
	now := time.Now().Truncate(time.Second)
	replaced := func(until time.Time, generations ...uint64) (list []session.Replaced) {
		for _, n := range generations {
			list = append(list, session.Replaced{Generation: n, Until: until})
		}
		return list
	}
	for name, test := range map[string]struct {
		known   *session.Renewal
		settled bool
		want    standingKind // of generation 2, which this process has renewed itself
		older   standingKind // of generation 1
	}{
		"nothing":           {nil, false, standingCurrent, standingReplaced},
		"an old generation": {&session.Renewal{Generation: 1, Ended: true}, false, standingCurrent, standingReplaced},
		"the same":          {&session.Renewal{Generation: 2}, false, standingCurrent, standingReplaced},
		"a newer one": {
			&session.Renewal{Generation: 3, Sealed: "3", Until: now.Add(grace), Replaced: replaced(now.Add(grace), 2, 1)}, true, standingReplaced, standingReplaced,
		},
		"a newer one whose time is over": {
			&session.Renewal{Generation: 3, Sealed: "3", Until: now, Replaced: replaced(now, 2, 1)}, true, standingSpent, standingSpent,
		},
		"a newer one, and no more":         {&session.Renewal{Generation: 9}, true, standingSpent, standingSpent},
		"that it has ended":                {&session.Renewal{Generation: 2, Ended: true}, true, standingEnded, standingEnded},
		"that it is over":                  {&session.Renewal{Generation: 2, Over: true}, true, standingEnded, standingEnded},
		"that an older one is over":        {&session.Renewal{Generation: 1, Over: true}, true, standingEnded, standingEnded},
		"a failure":                        {&session.Renewal{Generation: 2, Failures: 1, RetryAt: now.Add(grace)}, true, standingPaused, standingReplaced},
		"a failure of some time ago":       {&session.Renewal{Generation: 2, Failures: 1, RetryAt: now}, false, standingCurrent, standingReplaced},
		"that somebody has asked for it":   {&session.Renewal{Generation: 2, Asked: now}, false, standingCurrent, standingReplaced},
		"an end that a newer one outlived": {&session.Renewal{Generation: 3, Ended: true}, true, standingSpent, standingSpent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(t)
			id := session.NewID()
			l.now = now.Add(-2 * grantRest)
			l.renew(generation(id, 0), grace)
			l.renew(generation(id, 1), grace)
			sess := generation(id, 2)
			if settled := l.adopt(sess, test.known, now, l.end, now, grace); settled != test.settled {
				t.Errorf("settled: %t", settled)
			}
			l.now = l.now.Add(grantRest)
			if found := l.look(sess, l.now); found.kind != test.want {
				t.Errorf("the newest here stands as %d, want %d", found.kind, test.want)
			}
			if found := l.look(generation(id, 1), l.now); found.kind != test.older {
				t.Errorf("the one before stands as %d, want %d", found.kind, test.older)
			}
		})
	}
	t.Run("for no longer than this one would grant it", func(t *testing.T) {
		l := newLedger(t)
		sess := generation(session.NewID(), 0)
		far := l.now.Add(time.Hour) // by a clock that is wrong
		l.adopt(sess, &session.Renewal{Generation: 1, Sealed: "1", Until: far, Replaced: replaced(far, 0)}, l.now, l.end, l.now, grace)
		l.now = l.now.Add(grace - 1)
		l.wantStanding(sess, standingReplaced, "1")
		l.now = l.now.Add(1)
		l.wantStanding(sess, standingSpent, "")
		other := generation(session.NewID(), 0)
		for range 3 {
			if l.adopt(other, &session.Renewal{Failures: 3, RetryAt: far}, l.now, l.end, l.now, grace) {
				t.Error("a pause of an hour settles what becomes of a session")
			}
			l.now = l.now.Add(maxSharedPause)
		}
		if found := l.look(other, l.now.Add(maxSharedPause)); found.kind == standingPaused {
			t.Error("a pause of an hour is believed")
		}
	})
}

// The pauses between attempts grow, and not without end.
func TestBackOff(t *testing.T) {
	t.Parallel()
	for failures, want := range map[int]int{1: 1, 2: 2, 3: 4, 4: 8, 5: 16, 6: 30, 7: 30, 100: 30, 1 << 40: 30} {
		if got := backOff(failures); got != time.Duration(want)*time.Second {
			t.Errorf("after %d failures: %s", failures, got)
		}
	}
	l := newLedger(t)
	sess := generation(session.NewID(), 0)
	l.unanswered(sess, 0, l.end, l.now)
	l.wantStanding(sess, standingPaused, "")
	l.now = l.now.Add(firstPause)
	l.wantStanding(sess, standingCurrent, "")
	l.unanswered(sess, time.Minute, l.end, l.now) // the provider asks for more
	l.now = l.now.Add(time.Minute - 1)
	l.wantStanding(sess, standingPaused, "")
	l.now = l.now.Add(1)
	l.renew(sess, time.Minute)
	next := generation(sess.ID, 1)
	l.unanswered(next, 0, l.end, l.now) // which begins anew
	l.now = l.now.Add(firstPause)
	l.wantStanding(next, standingCurrent, "")
}

// Time frees what is held for late requests, but not the knowledge that a generation is spent; that ends with the session.
func TestRenewalsAreSwept(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	id := session.NewID()
	l.renew(generation(id, 0), time.Minute)
	other := func() { // anybody's request
		sess := generation(session.NewID(), 0)
		l.endFlight(sess.ID, l.claim(sess, l.end, l.now).flight)
	}
	l.now = l.now.Add(time.Minute - grantRest - 1)
	other()
	l.wantStanding(generation(id, 0), standingReplaced, "sealed 1")
	l.now = l.now.Add(renewalSweepInterval)
	other()
	if st := l.of[id]; st == nil || st.sealed != "" || st.replaced != nil {
		t.Errorf("%+v is held after the grace", st)
	}
	l.wantStanding(generation(id, 0), standingSpent, "")
	l.now = l.end.Add(-1)
	other()
	l.wantStanding(generation(id, 0), standingSpent, "")
	l.now = l.end.Add(renewalSweepInterval)
	l.end = l.now.Add(time.Hour)
	other()
	if n := len(l.of); n != 1 {
		t.Errorf("%d sessions are remembered, want the one of now", n)
	}
}

// However many sessions there are, and however often one is renewed, the memory is bounded; those that wait are not forgotten.
func TestRenewalsAreBounded(t *testing.T) {
	t.Parallel()
	t.Run("sessions", func(t *testing.T) {
		l := newLedger(t)
		waiting := generation(session.NewID(), 0)
		flight := l.claim(waiting, l.end, l.now).flight
		unsaved := generation(session.NewID(), 0)
		l.succeed(unsaved, renewal{sealed: "unsaved", unsaved: true, end: l.end, at: l.now, grace: time.Second})
		for range maxRenewals + 1000 {
			l.finish(generation(session.NewID(), 0), reasonRefreshRejected, l.end, l.now)
		}
		if n := len(l.of); n > maxRenewals {
			t.Errorf("%d sessions are remembered", n)
		}
		if found := l.look(waiting, l.now); found.kind != standingUnderWay || found.flight != flight {
			t.Error("one that is being renewed is forgotten")
		}
		if found := l.look(unsaved, l.now.Add(time.Hour)); found.kind != standingReplaced || found.sealed != "unsaved" {
			t.Error("one that is not in its store yet is forgotten")
		}
	})
	t.Run("generations", func(t *testing.T) {
		l := newLedger(t)
		id := session.NewID()
		const n = maxReplaced + 50
		for i := range uint64(n) {
			l.renew(generation(id, i), time.Hour)
		}
		if got := len(l.of[id].replaced); got != maxReplaced {
			t.Errorf("%d generations are remembered", got)
		}
		newest := fmt.Sprint("sealed ", n)
		l.wantStanding(generation(id, 0), standingSpent, "")
		l.wantStanding(generation(id, n-maxReplaced-1), standingSpent, "")
		l.wantStanding(generation(id, n-maxReplaced), standingReplaced, newest)
		l.wantStanding(generation(id, n-1), standingReplaced, newest)
	})
}
