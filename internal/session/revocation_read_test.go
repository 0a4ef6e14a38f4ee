package session

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// refreshed returns how long a request waits for the list.
func refreshed(r *Revocations) time.Duration {
	start := time.Now()
	r.Refresh(context.Background(), start)
	took := time.Since(start)
	synctest.Wait() // what goes on in the background
	return took
}

// What was written by one is known to the others, when it was told and after a restart.
func TestRevocationsShared(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		backend := newExpiringBackend()
		first, second, third := following(backend), following(backend), following(backend)
		until := time.Now().Add(30 * 24 * time.Hour)
		issued := time.Now()
		mustAdd(t, first, numbered(1, until))
		mustAdd(t, second, Revocation{Owner: testOwner, SID: "one", Created: time.Now(), Until: until})
		mustAdd(t, third, Revocation{Owner: testOwner, Subject: "alice", Issued: issued, Until: until})
		check := func(when string, lists ...*Revocations) {
			t.Helper()
			for i, r := range lists {
				refreshed(r)
				for sess, want := range map[*Session]bool{
					{ID: numberedID(1)}: true, {ID: numberedID(2)}: false,
					{SID: "one", Created: issued}: true, {SID: "one", Created: issued.Add(time.Hour)}: false,
					{Subject: "alice", IDTokenIssued: issued}: true, {Subject: "alice", IDTokenIssued: issued.Add(time.Second)}: false,
				} {
					if got := r.Touches(testOwner, sess, time.Now()); got != want {
						t.Errorf("%s: list %d says %v of %+v", when, i, got, sess)
					}
				}
			}
		}
		check("at once", first, second, third)
		time.Sleep(10 * time.Minute)
		check("later", first, second, third)
		check("after a restart", following(backend), NewRevocations(RevocationsConfig{Backend: backend}))
		time.Sleep(10 * 24 * time.Hour)
		check("after a long time", following(backend), first)
	})
}

// Within four seconds everybody knows, whether anything else happens meanwhile or not.
func TestRevocationsFollow(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]time.Duration{
		"idle": 4001 * time.Millisecond, "now and then": 1500 * time.Millisecond, "busy": 50 * time.Millisecond,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				backend := newExpiringBackend()
				writer, reader := following(backend), following(backend)
				refreshed(reader)
				for n := range 200 {
					mustAdd(t, writer, numbered(n, time.Now().Add(time.Hour)))
					for start := time.Now(); time.Since(start) <= 4*time.Second; {
						time.Sleep(between)
						refreshed(reader)
					}
					wantKnown(t, reader, 0, n+1)
				}
			})
		})
	}
}

// Refresh waits only when it has to.
func TestRevocationsRefresh(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		const slow = 300 * time.Millisecond
		backend := newExpiringBackend()
		backend.setBefore(func(context.Context, string, string) error {
			time.Sleep(slow)
			return nil
		})
		r := following(backend)
		told := watch(r)
		start := time.Now()
		for _, step := range []struct {
			at, wait time.Duration
			reads    int // that have ended
		}{
			{0, slow, 1},
			{time.Second, 0, 1},
			{2 * time.Second, 0, 1},
			{2001 * time.Millisecond, 0, 1}, // in the background
			{2100 * time.Millisecond, 0, 1}, // which is under way
			{2400 * time.Millisecond, 0, 2},
			{4001 * time.Millisecond, 0, 2},
			{6001 * time.Millisecond, 0, 2}, // four seconds old
			{6400 * time.Millisecond, 0, 3},
			{10002 * time.Millisecond, slow, 4},
			{20 * time.Minute, slow, 5},
			{2 * time.Hour, slow, 6},
			{72 * time.Hour, slow, 7},
		} {
			time.Sleep(time.Until(start.Add(step.at)))
			if wait := refreshed(r); wait != step.wait || told.count(nil) != step.reads {
				t.Errorf("%v: waited %v, want %v; %d readings, want %d", step.at, wait, step.wait, told.count(nil), step.reads)
			}
		}
	})
}

// Many requests at once are content with one reading, and each goes when its own context ends.
func TestRevocationsRefreshAtOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		backend := newExpiringBackend()
		backend.setBefore(func(ctx context.Context, _, _ string) error {
			select {
			case <-time.After(500 * time.Millisecond):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		r := following(backend)
		told := watch(r)
		var all sync.WaitGroup
		for n := range 100 {
			all.Go(func() {
				patience := time.Duration(n+1) * 10 * time.Millisecond
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				start := time.Now()
				r.Refresh(ctx, start)
				if took := time.Since(start); took != min(patience, 500*time.Millisecond) {
					t.Errorf("waited %v with patience for %v", took, patience)
				}
			})
		}
		all.Wait()
		if n := backend.count("Members"); n != 1 || told.count(nil) != 1 {
			t.Errorf("asked %d times: %v", n, told)
		}
	})
}

// A backend that fails keeps nobody waiting for long, nor often, and is asked again until it answers.
func TestRevocationsRefreshFails(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context, _, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	}
	stuck := func(context.Context, string, string) error {
		time.Sleep(7 * time.Minute)
		return errDown
	}
	refuse := func(context.Context, string, string) error { return errDown }
	panics := func(context.Context, string, string) error { panic("down") }
	for name, test := range map[string]struct {
		fail        func(context.Context, string, string) error
		first, next time.Duration // the longest that a request waits
	}{
		"refuses": {refuse, 0, 0},
		"panics":  {panics, 0, 0},
		"hangs":   {hang, firstWait, readWait},
		"stuck":   {stuck, firstWait, readWait},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				backend := newExpiringBackend()
				writer := following(backend)
				mustAdd(t, writer, numbered(0, time.Now().Add(time.Hour)))
				backend.setBefore(test.fail)
				r := following(backend)
				// busy is what requests at short intervals wait, all in all
				busy := func(span time.Duration) (waited time.Duration, waits int) {
					for start := time.Now(); time.Since(start) < span; time.Sleep(100 * time.Millisecond) {
						if took := refreshed(r); took > 0 {
							waited += took
							waits++
						}
					}
					return waited, waits
				}
				told := watch(r)
				if took := refreshed(r); took != test.first {
					t.Errorf("the first one waited %v", took)
				}
				if waited, _ := busy(4 * time.Second); waited != 0 {
					t.Errorf("waited %v right after that", waited)
				}
				wantUnknown(t, r, 0, 1)
				backend.setBefore(nil)
				time.Sleep(10 * time.Minute) // also of those who are stuck
				refreshed(r)
				wantKnown(t, r, 0, 1)
				failures := told.failures()
				if failures == 0 {
					t.Error("nobody was told")
				}

				// once there is a list, it is that which holds
				backend.setBefore(test.fail)
				before := backend.count("Load")
				waited, waits := busy(time.Minute)
				if most := test.next * time.Duration(waits); waited > most || waits > 12 {
					t.Errorf("waited %v in %d requests", waited, waits)
				}
				if n := backend.count("Load") - before; n > 35 || n < 5 {
					t.Errorf("asked %d times in a minute", n)
				}
				if told.failures() <= failures {
					t.Error("nobody was told")
				}
				wantKnown(t, r, 0, 1)
				backend.setBefore(nil)
				time.Sleep(10 * time.Minute)
			})
		})
	}
}

// Without Follow the backend is read once, when it can be.
func TestRevocationsReadOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		backend := newExpiringBackend()
		writer, r := following(backend), NewRevocations(RevocationsConfig{Backend: backend})
		mustAdd(t, writer, numbered(0, time.Now().Add(time.Hour)))
		synctest.Wait()
		time.Sleep(time.Second)
		backend.fail(errDown)
		refreshed(r)
		backend.setBefore(nil)
		time.Sleep(retryPause)
		refreshed(r)
		wantKnown(t, r, 0, 1)
		before := backend.count("")
		mustAdd(t, writer, numbered(1, time.Now().Add(100*time.Hour)))
		time.Sleep(time.Second)
		written := backend.count("")
		for range 10 {
			time.Sleep(time.Hour)
			if took := refreshed(r); took != 0 {
				t.Error("waited", took)
			}
		}
		if n := backend.count(""); n != written || written == before {
			t.Errorf("asked %d times", n-written)
		}
		// it writes all the same
		mustAdd(t, r, numbered(2, time.Now().Add(time.Hour)))
		refreshed(writer)
		wantKnown(t, writer, 1, 3)
	})
}

// A clock that stands still or jumps keeps nobody waiting, and nothing is forgotten for good.
func TestRevocationsClock(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		backend := newExpiringBackend()
		writer, r := following(backend), following(backend)
		start := time.Now()
		until := start.Add(10 * 24 * time.Hour)
		written := 0
		add := func() {
			mustAdd(t, writer, numbered(written, until))
			written++
		}
		at := func(now time.Time) {
			t.Helper()
			began := time.Now()
			r.Refresh(t.Context(), now)
			if took := time.Since(began); took != 0 {
				t.Errorf("%v: waited %v", now, took)
			}
			synctest.Wait()
		}
		add()
		at(start)
		add()
		for range 100 {
			at(start) // stands still
		}
		wantKnown(t, r, 0, 1)
		wantUnknown(t, r, 1, 2)
		at(start.Add(time.Hour))
		wantKnown(t, r, 0, written)
		add()
		at(start.Add(-time.Hour))
		wantKnown(t, r, 0, written)
		add()
		at(start.AddDate(10, 0, 0)) // all is over by that
		at(start.AddDate(10, 0, 0).Add(time.Hour))
		mustAdd(t, r)
		at(start)
		wantKnown(t, r, 0, written)
		at(start.Add(47 * time.Hour))
		at(start.AddDate(-10, 0, 0))
		add()
		at(start)
		wantKnown(t, r, 0, written)
	})
}

// What seemed to be over while the clock was ahead is known again when it has been put right.
func TestRevocationsClockPutBack(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		backend := newExpiringBackend()
		r := following(backend)
		mustAdd(t, r, numbered(0, time.Now().Add(20*time.Hour)))
		time.Sleep(5 * time.Hour)
		refreshed(r)
		r.Refresh(t.Context(), time.Now().Add(24*time.Hour))
		if err := r.Add(t.Context(), time.Now().Add(24*time.Hour), numbered(1, time.Now().Add(48*time.Hour))); err != nil {
			t.Error(err)
		}
		wantUnknown(t, r, 0, 1)
		refreshed(r)
		wantKnown(t, r, 0, 2)
	})
}

// A backend that never answers has a few calls waiting, not one more with each attempt.
func TestRevocationsUnanswered(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		backend := newExpiringBackend()
		over := make(chan struct{})
		backend.setBefore(func(context.Context, string, string) error {
			<-over
			return errDown
		})
		r := following(backend)
		told := watch(r)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Add(ctx, time.Now(), numbered(0, time.Now().Add(10*time.Hour))); err == nil {
			t.Error("written")
		}
		for range 600 {
			refreshed(r)
			time.Sleep(time.Second)
		}
		if n := backend.count(""); n != maxUnanswered || told.count(errUnanswered) == 0 {
			t.Errorf("%d calls", n)
		}
		backend.setBefore(nil)
		close(over)
		time.Sleep(time.Minute)
		refreshed(r)
		reader := following(backend)
		refreshed(reader)
		wantKnown(t, reader, 0, 1)
	})
}
