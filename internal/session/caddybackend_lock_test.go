package session

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
)

// One at a time holds a lock, whichever instance it is on; another name is another lock.
func TestCaddyBackendLock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := newMemoryStorage()
		var holding, worst, times atomic.Int64
		var all sync.WaitGroup
		for range 20 {
			backend := testBackend(storage)
			all.Go(func() {
				unlock, err := backend.Lock(t.Context(), "locks/a.1")
				if err != nil {
					t.Error(err)
					return
				}
				worst.Store(max(worst.Load(), holding.Add(1)))
				times.Add(1)
				time.Sleep(time.Second)
				holding.Add(-1)
				unlock()
				unlock() // once is enough
			})
		}
		time.Sleep(time.Millisecond)
		unlock, err := testBackend(storage).Lock(t.Context(), "locks/a.2")
		if err != nil {
			t.Fatal(err)
		}
		unlock()
		all.Wait()
		if worst.Load() != 1 || times.Load() != 20 {
			t.Errorf("%d at once, %d in all", worst.Load(), times.Load())
		}
	})
}

func TestCaddyBackendLockFolder(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	first, second := testBackend(&certmagic.FileStorage{Path: path}), testBackend(&certmagic.FileStorage{Path: path})
	unlock, err := first.Lock(t.Context(), "locks/a.1")
	if err != nil {
		t.Fatal(err)
	}
	var took time.Duration
	for range 2 { // a machine that stands still for a moment does not do so every time
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		start := time.Now()
		_, err := second.Lock(ctx, "locks/a.1")
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if took = time.Since(start); took <= 900*time.Millisecond {
			break
		}
	}
	if took > 900*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	unlock()
	again, err := second.Lock(t.Context(), "locks/a.1")
	if err != nil {
		t.Fatal(err)
	}
	again()
}

// The waiting ends with its context, even where the storage goes on. A lock that comes afterwards is given back.
func TestCaddyBackendLockWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := newMemoryStorage()
		backend := testBackend(storage)
		answers := make(chan error)
		storage.setBefore(func(ctx context.Context, call, _ string) error {
			if call == "Lock" {
				return <-answers
			}
			if ctx.Err() != nil {
				t.Errorf("%s when it cannot be done: %v", call, ctx.Err())
			}
			return nil
		})
		for _, answer := range []error{nil, errStorage} {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			start := time.Now()
			_, err := backend.Lock(ctx, "locks/a.1")
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 3*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			answers <- answer
			synctest.Wait()
		}
		storage.setBefore(nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		unlock, err := backend.Lock(ctx, "locks/a.1")
		if err != nil {
			t.Fatal("the lock that nobody waited for is held:", err)
		}
		unlock()
		if n := backend.strays.Load(); n != 0 || storage.count("Unlock") != 2 {
			t.Errorf("%d strays, %d unlocked", n, storage.count("Unlock"))
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = backend.Lock(ended, "locks/a.1")
		synctest.Wait()
		if !errors.Is(err, context.Canceled) || storage.count("Lock") != 3 {
			t.Errorf("%v, locked %d times", err, storage.count("Lock"))
		}
	})
}

// A lock that comes at the moment when the context ends is either had or given back.
func TestCaddyBackendLockEnds(t *testing.T) {
	t.Parallel()
	storage := newMemoryStorage()
	backend := testBackend(storage)
	for range 5000 {
		ctx, cancel := context.WithCancel(t.Context())
		storage.setBefore(func(_ context.Context, call, _ string) error {
			if call == "Lock" {
				go cancel()
			}
			return nil
		})
		if unlock, err := backend.Lock(ctx, "locks/a.1"); err == nil {
			unlock()
		} else if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	storage.setBefore(nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	unlock, err := backend.Lock(ctx, "locks/a.1")
	if err != nil {
		t.Fatal("a lock was lost:", err)
	}
	unlock()
}

// What keeps a lock fresh goes on for as long as it is held, though the wait for it was bounded, and no longer.
func TestCaddyBackendLockContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := newMemoryStorage()
		var kept context.Context
		storage.setBefore(func(ctx context.Context, call, _ string) error {
			if call == "Lock" {
				kept = ctx
			}
			return ctx.Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		unlock, err := testBackend(storage).Lock(ctx, "locks/a.1")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if kept.Err() != nil {
			t.Error("while it is held:", kept.Err())
		}
		unlock()
		synctest.Wait()
		if kept.Err() == nil {
			t.Error("it goes on")
		}
	})
}

// Giving a lock back holds nobody up, and what hangs is bounded.
func TestCaddyBackendUnlockHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := newMemoryStorage()
		backend := testBackend(storage)
		released := make(chan struct{})
		storage.setBefore(func(_ context.Context, call, key string) error {
			if call == "Unlock" {
				<-released
			}
			if call == "Lock" && key == caddyPrefix+"locks/hangs" {
				<-released
			}
			return nil
		})
		unlock, err := backend.Lock(t.Context(), "locks/a.1")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		unlock()
		if took := time.Since(start); took != unlockWait {
			t.Errorf("it took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var waiting sync.WaitGroup
		for range maxStrays - 1 {
			waiting.Go(func() {
				if _, err := backend.Lock(ctx, "locks/hangs"); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			})
		}
		waiting.Wait()
		if _, err := backend.Lock(t.Context(), "locks/b.1"); !errors.Is(err, errStrays) {
			t.Error(err)
		}
		close(released)
		synctest.Wait()
		if unlock, err = backend.Lock(t.Context(), "locks/b.1"); err != nil {
			t.Fatal("when the storage is back:", err)
		}
		unlock()
	})
}

// A panic in a goroutine of ours would end the process.
func TestCaddyBackendLockPanics(t *testing.T) {
	t.Parallel()
	storage := newMemoryStorage()
	logger, logs := observed()
	backend := NewCaddyBackend(storage, testNow, logger)
	panics := "Lock"
	storage.setBefore(func(_ context.Context, call, _ string) error {
		if call == panics {
			panic(errStorage)
		}
		return nil
	})
	if _, err := backend.Lock(t.Context(), "locks/a.1"); err == nil {
		t.Error("no error")
	}
	panics = "Unlock"
	unlock, err := backend.Lock(t.Context(), "locks/a.1")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if logs.Len() != 1 {
		t.Error(logs.All())
	}
}
