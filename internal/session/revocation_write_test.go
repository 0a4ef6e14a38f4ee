package session

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Add knows at once, waits for the backend but not beyond its context, and what it could not write is written later.
func TestRevocationsAddFails(t *testing.T) {
	t.Parallel()
	hang := func(context.Context, string, string) error {
		time.Sleep(time.Minute)
		return errDown
	}
	for name, fail := range map[string]func(context.Context, string, string) error{
		"refuses": func(context.Context, string, string) error { return errDown },
		"panics":  func(context.Context, string, string) error { panic("down") },
		"hangs":   hang,
		"cannot be written": func(_ context.Context, call, _ string) error {
			if call == "Store" {
				return errDown
			}
			return nil
		},
		"cannot be listed": func(_ context.Context, call, _ string) error {
			if call == "Add" {
				return errDown
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				backend := newExpiringBackend()
				backend.setBefore(fail)
				r := following(backend)
				told := watch(r)
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				start := time.Now()
				var all sync.WaitGroup
				all.Go(func() {
					err := r.Add(ctx, start, numbered(0, start.Add(time.Hour)))
					if err == nil || name != "hangs" && name != "panics" && !errors.Is(err, errDown) || time.Since(start) != 3*time.Second {
						t.Errorf("%v after %v", err, time.Since(start))
					}
				})
				synctest.Wait()
				wantKnown(t, r, 0, 1)
				all.Wait()
				for n := 1; n < 10; n++ {
					ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
					_ = r.Add(ctx, time.Now(), numbered(n, time.Now().Add(time.Hour)))
					cancel()
				}
				time.Sleep(5 * time.Minute)
				if n := told.failures(); told.count(nil) != 0 || n < 4 || n > int(5*time.Minute/lastRetry)+10 {
					t.Errorf("%d attempts: %v", n, told)
				}
				backend.setBefore(nil)
				time.Sleep(lastRetry + 2*time.Minute) // and the calls that hang
				reader := following(backend)
				refreshed(reader)
				wantKnown(t, reader, 0, 10)
			})
		})
	}
}

// What could not be written while it mattered is given up, by the clock of the process: that of the callers may stand still.
func TestRevocationsGivenUp(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		backend := newExpiringBackend()
		backend.fail(errDown)
		r := following(backend)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		now := time.Now()
		if err := r.Add(ctx, now, numbered(0, now.Add(5*time.Minute))); !errors.Is(err, errDown) {
			t.Error(err)
		}
		time.Sleep(4 * time.Minute)
		before := backend.count("")
		time.Sleep(30 * time.Second)
		if backend.count("") == before {
			t.Error("given up while it matters")
		}
		time.Sleep(time.Minute)
		before = backend.count("")
		time.Sleep(time.Hour)
		if n := backend.count(""); n != before {
			t.Errorf("tried %d times when it does not matter any more", n-before)
		}
	})
}

// What comes while something is being written is written together.
func TestRevocationsTogether(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		backend := newExpiringBackend()
		backend.setBefore(func(_ context.Context, call, _ string) error {
			if call == "Store" {
				time.Sleep(100 * time.Millisecond)
			}
			return nil
		})
		r := following(backend)
		until := time.Now().Add(time.Hour)
		var all sync.WaitGroup
		for n := range 500 {
			all.Go(func() {
				time.Sleep(time.Duration(n) * time.Millisecond)
				start := time.Now()
				mustAdd(t, r, numbered(n, until))
				if took := time.Since(start); took > 350*time.Millisecond {
					t.Errorf("waited %v", took)
				}
			})
		}
		all.Wait()
		time.Sleep(time.Second)
		if n := backend.count("Store"); n > 6 || len(backend.keys()) != 1 {
			t.Errorf("%d writes of %v", n, backend.keys())
		}
		// and what is there is not written again
		before := backend.count("")
		mustAdd(t, r, numberedList(0, 500, until)...)
		if n := backend.count(""); n != before {
			t.Errorf("%d calls for what is known", n-before)
		}
		reader := following(backend)
		refreshed(reader)
		wantKnown(t, reader, 0, 500)
	})
}

// Several instances at once lose nothing, whether they can have the lock or not, and whatever their storage loses of it now and then.
func TestRevocationsWritersAtOnce(t *testing.T) {
	t.Parallel()
	const writers, each = 3, 700 // more than there is room for in two segments
	for name, trouble := range map[string]func(ctx context.Context, call string) error{
		"with the lock": func(context.Context, string) error { return nil },
		"without it": func(_ context.Context, call string) error {
			if call == "Lock" {
				return errDown
			}
			return nil
		},
		"with one that hangs": func(ctx context.Context, call string) error {
			if call == "Lock" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		},
		"with writes that are lost": func(_ context.Context, call string) error {
			if call == "Store" && rand.N(3) == 0 {
				return errLost
			}
			return nil
		},
		"with calls that fail": func(context.Context, string) error {
			if rand.N(10) == 0 {
				return errDown
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				backend := newExpiringBackend()
				backend.setBefore(func(ctx context.Context, call, _ string) error {
					time.Sleep(rand.N(20 * time.Millisecond))
					return trouble(ctx, call)
				})
				var lists []*Revocations
				var all sync.WaitGroup
				until := time.Now().Add(24 * time.Hour)
				for i := range writers {
					r := following(backend)
					lists = append(lists, r)
					all.Go(func() {
						for n := range each / 10 {
							ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
							from := i*each + n*10
							if err := r.Add(ctx, time.Now(), numberedList(from, from+10, until)...); err != nil {
								t.Error(err)
							}
							cancel()
							time.Sleep(rand.N(100 * time.Millisecond))
						}
					})
				}
				all.Wait()
				time.Sleep(2 * time.Minute)
				backend.setBefore(nil)
				time.Sleep(time.Minute)
				for _, r := range append(lists, following(backend)) {
					refreshed(r)
					wantKnown(t, r, 0, writers*each)
				}
				if n := len(backend.keys()); n < 3 || n > 5 && name == "with the lock" { // without it, each write begins a segment
					t.Errorf("%d segments: %v", n, backend.keys())
				}
			})
		})
	}
}

// When the backend has lost everything, what is written next is found by those who know of segments that are gone and by those who do not.
func TestRevocationsFlushed(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		backend := newExpiringBackend()
		old, reader := following(backend), following(backend)
		until := time.Now().Add(24 * time.Hour)
		mustAdd(t, old, numberedList(0, 3500, until)...)
		refreshed(reader)
		time.Sleep(time.Minute)
		backend.mu.Lock()
		clear(backend.values)
		clear(backend.sets)
		backend.mu.Unlock()
		fresh := following(backend)
		refreshed(fresh)
		mustAdd(t, old, numbered(5000, until))
		mustAdd(t, fresh, numbered(5001, until))
		time.Sleep(5 * time.Second)
		for _, r := range []*Revocations{old, fresh, reader, following(backend)} {
			refreshed(r)
			wantKnown(t, r, 5000, 5002)
		}
		wantKnown(t, old, 0, 3500)
		wantKnown(t, reader, 0, 3500)
	})
}

// The hour is that of writing, and what is written at its end is seen by all, their clocks being apart.
func TestRevocationsHours(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		backend := newExpiringBackend()
		lists := []*Revocations{following(backend), following(backend), following(backend)}
		apart := []time.Duration{-4 * time.Minute, 0, 5 * time.Minute}
		until := time.Now().Add(24 * time.Hour)
		time.Sleep(40 * time.Minute)
		n := 0
		for start := time.Now(); time.Since(start) < 40*time.Minute; time.Sleep(41 * time.Second) {
			for i, r := range lists {
				if err := r.Add(t.Context(), time.Now().Add(apart[i]), numbered(n, until)); err != nil {
					t.Error(err)
				}
				n++
			}
			time.Sleep(4 * time.Second)
			for i, r := range lists {
				r.Refresh(t.Context(), time.Now().Add(apart[i]))
				wantKnown(t, r, 0, n)
			}
		}
		if got := backend.keys(); !slices.Equal(got, []string{"revoked/2000-01-01/00.0", "revoked/2000-01-01/01.0"}) {
			t.Error(got)
		}
	})
}
