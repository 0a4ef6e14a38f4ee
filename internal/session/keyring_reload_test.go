package session

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A reload with the same storage changes nothing, one with another storage takes the keys along.
func TestKeyRingSetStorage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage, empty, taken := newMemoryStorage(), newMemoryStorage(), newMemoryStorage()
		logger, logs := observed()
		r, s := ringOn(storage, logger)
		sealed := mustSeal(t, s, PurposeSession, testBinding, "text")

		before := storage.get(ringKey)
		r.SetStorage(storage, logger)
		wantOpen(t, s, sealed, "text", true)
		mustSeal(t, s, PurposeSession, testBinding, "")
		synctest.Wait()
		if storage.get(ringKey) != before {
			t.Error("the ring changed")
		}

		r.SetStorage(empty, logger)
		wantOpen(t, s, sealed, "text", true)
		mustSeal(t, s, PurposeSession, testBinding, "")
		synctest.Wait()
		_, other := ringOn(empty, logger)
		wantOpen(t, other, sealed, "text", true)

		_, owner := ringOn(taken, logger)
		theirs := mustSeal(t, owner, PurposeSession, testBinding, "theirs")
		r.SetStorage(taken, logger)
		mustSeal(t, s, PurposeSession, testBinding, "")
		synctest.Wait()
		wantOpen(t, s, theirs, "theirs", true)
		wantOpen(t, s, sealed, "text", false)
		wantOpen(t, owner, mustSeal(t, s, PurposeSession, testBinding, "ours"), "ours", true)
		if n := len(readRing(t, taken).Keys); n != 1 {
			t.Errorf("%d keys", n)
		}
		wantWarnings(t, logs, 0)
	})
}

// A reload while the first key is being made: whoever waits gets the key of the new storage.
func TestKeyRingSetStorageMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hanging, storage := newMemoryStorage(), newMemoryStorage()
		logger, logs := observed()
		r, s := ringOn(hanging, logger)
		hanging.setBefore(func(context.Context, string, string) error {
			time.Sleep(time.Second) // until the reload below
			r.SetStorage(storage, logger)
			return errors.New("closed")
		})
		sealed := mustSeal(t, s, PurposeSession, testBinding, "text")
		_, other := ringOn(storage, logger)
		wantOpen(t, other, sealed, "text", true)
		wantWarnings(t, logs, 0)
	})
}

// A key that somebody removed from the storage is forgotten with the next reading.
func TestKeyRingRemovedKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage, replacement := newMemoryStorage(), newMemoryStorage()
		logger, _ := observed()
		_, s := ringOn(storage, logger)
		sealed := mustSeal(t, s, PurposeSession, testBinding, "text")
		wantOpen(t, s, sealed, "text", true)

		_, other := ringOn(replacement, logger)
		renewed := mustSeal(t, other, PurposeSession, testBinding, "renewed")
		storage.set(ringKey, replacement.get(ringKey))
		wantOpen(t, s, renewed, "renewed", true)
		if _, _, err := s.Open(t.Context(), PurposeSession, testBinding, sealed); !isErrSeal(err) {
			t.Error("a key that was removed opens:", err)
		}
	})
}

// However often the storage is replaced, no more than so many keys of the earlier ones are kept.
func TestKeyRingManyStorages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		logger, _ := observed()
		r, s := ringOn(newMemoryStorage(), logger)
		sealed := []string{mustSeal(t, s, PurposeSession, testBinding, "text")}
		for range maxRetained + 5 {
			storage := newMemoryStorage()
			_, owner := ringOn(storage, logger)
			sealed = append(sealed, mustSeal(t, owner, PurposeSession, testBinding, "text"))
			r.SetStorage(storage, logger)
			mustSeal(t, s, PurposeSession, testBinding, "")
			synctest.Wait()
		}
		for i, text := range sealed {
			_, _, err := s.Open(t.Context(), PurposeSession, testBinding, text)
			if kept := len(sealed)-i <= maxRetained+1; kept != (err == nil) {
				t.Errorf("storage %d of %d: %v", i, len(sealed), err)
			}
		}
	})
}
