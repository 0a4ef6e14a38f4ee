package session

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Who does not get the lock of one that is slow overwrites nothing and is not overwritten, and all is seen by a reader that has seen what
// was written by the quick one first.
func TestRevocationsSlowHolder(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		backend := newExpiringBackend()
		quick, slow, reader := following(backend), following(backend), following(backend)
		until := time.Now().Add(24 * time.Hour)
		mustAdd(t, quick, numberedList(0, 990, until)...)
		mustAdd(t, slow, numbered(990, until))
		time.Sleep(time.Second)

		var first atomic.Bool
		backend.setBefore(func(_ context.Context, call, _ string) error {
			if call == "Store" && first.CompareAndSwap(false, true) {
				time.Sleep(lockWait + time.Second)
			}
			return nil
		})
		var all sync.WaitGroup
		all.Go(func() { mustAdd(t, slow, numbered(2000, until)) })
		time.Sleep(100 * time.Millisecond)
		mustAdd(t, quick, numberedList(1000, 1200, until)...)
		refreshed(reader)
		wantKnown(t, reader, 1000, 1200)
		wantUnknown(t, reader, 2000, 2001)
		all.Wait()
		restarted := following(backend)
		time.Sleep(staleAfter + time.Second)
		for _, r := range []*Revocations{reader, restarted} {
			refreshed(r)
			wantKnown(t, r, 0, 991)
			wantKnown(t, r, 1000, 1200)
			wantKnown(t, r, 2000, 2001)
		}
	})
}

// Where nobody gets the lock, one that is slow may overwrite what another has written, which looks again when that must be over.
func TestRevocationsSlowWithoutLock(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		backend := newExpiringBackend()
		quick, slow := following(backend), following(backend)
		until := time.Now().Add(24 * time.Hour)
		var first atomic.Bool
		backend.setBefore(func(_ context.Context, call, _ string) error {
			if call == "Lock" {
				return errDown
			}
			if call == "Store" && first.CompareAndSwap(false, true) {
				time.Sleep(3 * time.Second)
			}
			return nil
		})
		var all sync.WaitGroup
		all.Go(func() { mustAdd(t, slow, numbered(0, until)) })
		time.Sleep(100 * time.Millisecond)
		mustAdd(t, quick, numbered(1, until))
		all.Wait()
		time.Sleep(2 * writeWait)
		reader := following(backend)
		refreshed(reader)
		wantKnown(t, reader, 0, 2)
	})
}

// What is left of an hour when the backend has dropped some of it is read.
func TestRevocationsEvicted(t *testing.T) {
	t.Parallel()
	for _, parts := range []int{1, 2, 3} {
		inBubble(t, func(t *testing.T) {
			backend := newExpiringBackend()
			writer, reader := following(backend), following(backend)
			until := time.Now().Add(24 * time.Hour)
			mustAdd(t, writer, numberedList(0, parts*maxSegment, until)...)
			mustAdd(t, writer, numbered(8000, until))
			refreshed(reader)
			time.Sleep(time.Minute)
			for part := range parts {
				if err := backend.Delete(t.Context(), segment{hourOf(time.Now()), part}.key()); err != nil {
					t.Error(err)
				}
			}
			mustAdd(t, writer, numbered(8001, until))
			refreshed(reader)
			wantKnown(t, reader, 8000, 8002)
		})
	}
}

// What is lost is noticed also while there is always something more to write.
func TestRevocationsLostMeanwhile(t *testing.T) {
	t.Parallel()
	for name, lock := range map[string]error{"with the lock": nil, "without it": errDown} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				backend := newExpiringBackend()
				var lost atomic.Bool
				backend.setBefore(func(_ context.Context, call, _ string) error {
					if call == "Lock" {
						return lock
					}
					if call == "Store" && lost.CompareAndSwap(false, true) {
						return errLost
					}
					return nil
				})
				r, reader := following(backend), following(backend)
				until := time.Now().Add(time.Hour)
				mustAdd(t, r, numbered(0, until))
				for n := range 100 {
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
					_ = r.Add(ctx, time.Now(), numbered(n+1, until))
					<-ctx.Done()
					cancel()
				}
				refreshed(reader)
				wantKnown(t, reader, 0, 1)
				time.Sleep(10 * time.Second)
				refreshed(reader)
				wantKnown(t, reader, 0, 101)
			})
		})
	}
}

// What the process has to do before it ends is done when the function given for that has returned.
func TestRevocationsBackground(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		backend := newExpiringBackend()
		var busy sync.WaitGroup
		r := NewRevocations(RevocationsConfig{Backend: backend, Background: func(work func()) { busy.Go(work) }})
		backend.fail(errDown)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Add(ctx, time.Now(), numbered(0, time.Now().Add(time.Hour))); err == nil {
			t.Error("written by a backend that is down")
		}
		time.Sleep(time.Minute)
		backend.setBefore(nil)
		busy.Wait()
		reader := following(backend)
		refreshed(reader)
		wantKnown(t, reader, 0, 1)
	})
}

// A backend that loses all that is written is not asked at full speed for ever, and it is told.
func TestRevocationsLostAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		backend := newExpiringBackend()
		backend.fail(errLost, "Store")
		r := following(backend)
		told := watch(r)
		mustAdd(t, r, numbered(0, time.Now().Add(20*time.Minute)))
		time.Sleep(10 * time.Minute)
		if n := backend.count("Store"); n < 20 || n > int(10*time.Minute/lastRetry)+20 || told.count(errOverwritten) == 0 {
			t.Errorf("written %d times: %v", n, told)
		}
		backend.setBefore(nil)
		time.Sleep(2 * lastRetry)
		reader := following(backend)
		refreshed(reader)
		wantKnown(t, reader, 0, 1)
	})
}
