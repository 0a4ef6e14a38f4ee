package session

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zapcore"
)

var errStorage = errors.New("no such device")

// A storage that fails, in whatever way: a ring in memory, one warning, and the storage's ring once it works.
func TestKeyRingFailingStorage(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"Load", "Lock", "Store"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				storage := newMemoryStorage()
				logger, logs := observed()
				_, s := ringOn(storage, logger)
				storage.fail(errStorage, call)
				sealed := mustSeal(t, s, PurposeSession, testBinding, "in memory")
				for range 10 {
					wantOpen(t, s, mustSeal(t, s, PurposeSession, testBinding, "again"), "again", true)
				}
				tries := storage.count(call)
				if tries != 1 {
					t.Errorf("%d tries", tries)
				}
				for range 5 {
					time.Sleep(retryAfter)
					for range 10 {
						mustSeal(t, s, PurposeSession, testBinding, "")
						synctest.Wait()
					}
				}
				if n := storage.count(call) - tries; n != 5 {
					t.Errorf("%d tries in five minutes", n)
				}
				wantWarnings(t, logs, 1)

				// the key in memory becomes the ring's first, so that everybody can open what it sealed
				storage.fail(nil)
				time.Sleep(retryAfter)
				mustSeal(t, s, PurposeSession, testBinding, "")
				synctest.Wait()
				_, restarted := ringOn(storage, logger)
				wantOpen(t, restarted, sealed, "in memory", true)
				wantOpen(t, s, sealed, "in memory", true)
				wantWarnings(t, logs, 1)
				if n := logs.FilterLevelExact(zapcore.InfoLevel).Len(); n != 1 {
					t.Errorf("%d lines say that it works again", n)
				}
			})
		})
	}
}

// What the storage has by then is adopted; what was sealed in memory still opens, and is sealed again.
func TestKeyRingAdoptsStored(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"Load", "Store"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				storage, theirs := newMemoryStorage(), newMemoryStorage()
				logger, logs := observed()
				_, owner := ringOn(theirs, logger)
				stored := mustSeal(t, owner, PurposeSession, testBinding, "stored")

				_, s := ringOn(storage, logger)
				storage.fail(errStorage, call)
				sealed := mustSeal(t, s, PurposeSession, testBinding, "in memory")
				for range 2 { // the key in memory is offered to the storage, in vain
					time.Sleep(retryAfter)
					mustSeal(t, s, PurposeSession, testBinding, "")
					synctest.Wait()
				}
				storage.set(ringKey, theirs.get(ringKey))
				storage.fail(nil)
				time.Sleep(retryAfter)
				mustSeal(t, s, PurposeSession, testBinding, "")
				synctest.Wait()
				wantOpen(t, s, stored, "stored", true)
				wantOpen(t, s, sealed, "in memory", false)
				wantOpen(t, owner, mustSeal(t, s, PurposeSession, testBinding, "shared"), "shared", true)
				if storage.get(ringKey) != theirs.get(ringKey) {
					t.Error("the stored ring changed")
				}
				wantWarnings(t, logs, 1)
			})
		})
	}
}

// A storage that can be read but not written: its keys go on, past the time of their rotation.
func TestKeyRingReadOnlyStorage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := newMemoryStorage()
		logger, logs := observed()
		_, owner := ringOn(storage, logger)
		mustSeal(t, owner, PurposeSession, testBinding, "")
		storage.fail(errStorage, "Store")
		time.Sleep(2 * rotateAfter)
		_, s := ringOn(storage, logger)
		sealed := mustSeal(t, s, PurposeSession, testBinding, "text")
		wantOpen(t, owner, sealed, "text", true)
		wantWarnings(t, logs, 1)
	})
}

// A storage that hangs holds requests up for a bounded time, once, and never those that need no new key.
func TestKeyRingHangingStorage(t *testing.T) {
	t.Parallel()
	for name, respectsContext := range map[string]bool{"until the context ends": true, "for ever": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				storage := newMemoryStorage()
				logger, logs := observed()
				_, s := ringOn(storage, logger)
				released := make(chan struct{})
				storage.setBefore(func(ctx context.Context, _, _ string) error {
					if !respectsContext {
						<-released
						return errStorage
					}
					select {
					case <-released:
					case <-ctx.Done():
					}
					return ctx.Err()
				})
				start := time.Now()
				sealed := mustSeal(t, s, PurposeSession, testBinding, "text")
				if took := time.Since(start); took != storageWait {
					t.Errorf("the first took %v", took)
				}
				foreign := mustSeal(t, NewSealer(secretKeys(t)), PurposeSession, testBinding, "text")
				start = time.Now()
				for range 100 {
					wantOpen(t, s, mustSeal(t, s, PurposeSession, testBinding, "again"), "again", true)
					_, _, _ = s.Open(t.Context(), PurposeSession, testBinding, foreign)
				}
				if took := time.Since(start); took > storageWait {
					t.Errorf("the others took %v", took)
				}
				if n := storage.count("Load"); n > 2 { // the second one for the foreign key, if the first has given up
					t.Errorf("%d readings at a time", n)
				}
				wantWarnings(t, logs, 1)

				close(released)
				storage.setBefore(nil)
				time.Sleep(retryAfter)
				mustSeal(t, s, PurposeSession, testBinding, "")
				synctest.Wait()
				time.Sleep(retryAfter)
				mustSeal(t, s, PurposeSession, testBinding, "")
				synctest.Wait()
				_, restarted := ringOn(storage, logger)
				wantOpen(t, restarted, sealed, "text", true)
			})
		})
	}
}

// The storage is slow: whoever gives up does not take the others with him.
func TestKeyRingCancelledWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := newMemoryStorage()
		logger, logs := observed()
		_, s := ringOn(storage, logger)
		storage.setBefore(func(_ context.Context, call, _ string) error {
			if call == "Lock" {
				time.Sleep(2 * time.Second)
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Seal(ctx, PurposeSession, testBinding, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		wantOpen(t, s, mustSeal(t, s, PurposeSession, testBinding, "text"), "text", true)
		if n := storage.count("Store"); n != 1 {
			t.Errorf("%d writes", n)
		}
		wantWarnings(t, logs, 0)
	})
}

// The lock comes when nobody waits any longer: by then somebody may have used another key, so nothing is written.
func TestKeyRingLateLock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := newMemoryStorage()
		logger, _ := observed()
		_, s := ringOn(storage, logger)
		storage.setBefore(func(_ context.Context, call, _ string) error {
			if call == "Lock" {
				time.Sleep(2 * storageWait)
			}
			return nil
		})
		sealed := mustSeal(t, s, PurposeSession, testBinding, "text")
		time.Sleep(2 * storageWait)
		if storage.count("Lock") != 1 || storage.count("Unlock") != 1 || storage.count("Store") != 0 {
			t.Errorf("%d locks, %d unlocks, %d writes", storage.count("Lock"), storage.count("Unlock"), storage.count("Store"))
		}
		storage.setBefore(nil)
		time.Sleep(retryAfter)
		mustSeal(t, s, PurposeSession, testBinding, "")
		synctest.Wait()
		_, restarted := ringOn(storage, logger)
		wantOpen(t, restarted, sealed, "text", true)
	})
}

// Somebody else holds the lock, and is gone for good: nothing is written without it.
func TestKeyRingLockTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := newMemoryStorage()
		logger, logs := observed()
		_, s := ringOn(storage, logger)
		if err := storage.Lock(t.Context(), ringLock); err != nil {
			t.Fatal(err)
		}
		sealed := mustSeal(t, s, PurposeSession, testBinding, "text")
		if storage.get(ringKey) != "" {
			t.Error("written without the lock")
		}
		wantWarnings(t, logs, 1)
		if err := storage.Unlock(t.Context(), ringLock); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retryAfter)
		mustSeal(t, s, PurposeSession, testBinding, "")
		synctest.Wait()
		wantOpen(t, s, sealed, "text", true)
		if len(readRing(t, storage).Keys) != 1 {
			t.Error(storage.get(ringKey))
		}
	})
}

// A storage module that panics does not take the server with it.
func TestKeyRingPanickingStorage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := newMemoryStorage()
		logger, logs := observed()
		_, s := ringOn(storage, logger)
		storage.setBefore(func(context.Context, string, string) error { panic("storage") })
		wantOpen(t, s, mustSeal(t, s, PurposeSession, testBinding, "text"), "text", true)
		wantWarnings(t, logs, 1)
	})
}

func TestKeyRingWithoutStorage(t *testing.T) {
	t.Parallel()
	logger, logs := observed()
	s := NewSealer(NewKeyRing(nil, logger, testNow))
	wantOpen(t, s, mustSeal(t, s, PurposeSession, testBinding, "text"), "text", true)
	wantWarnings(t, logs, 1)
}
