package session

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A ring that cannot be read is never overwritten: somebody may still be able to.
func TestKeyRingCorrupt(t *testing.T) {
	t.Parallel()
	good := newMemoryStorage()
	logger, _ := observed()
	owner := NewSealer(NewKeyRing(good, logger, testNow))
	sealed := mustSeal(t, owner, PurposeSession, testBinding, "text")
	ring := good.get(ringKey)
	id := readRing(t, good).Keys[0].ID
	tests := map[string]string{
		"empty":           "",
		"not JSON":        "<html>",
		"cut off":         ring[:len(ring)/2],
		"null":            "null",
		"a list":          "[]",
		"without keys":    `{"version": 2}`,
		"keys null":       `{"keys": null}`,
		"keys an object":  `{"keys": {}}`,
		"no usable key":   `{"keys": [{}, 1, null, "x"]}`,
		"another id":      strings.Replace(ring, id, "00000000", 1),
		"short key":       `{"keys": [{"id": "` + id + `", "key": "AAAA", "created": "2026-01-01T00:00:00Z"}]}`,
		"without a date":  strings.Replace(ring, `"created"`, `"made"`, 1),
		"a megabyte":      strings.Repeat(" ", ringMaxSize) + ring,
		"trailing things": ring + "x",
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				storage := newMemoryStorage()
				storage.set(ringKey, text)
				logger, logs := observed()
				_, s := ringOn(storage, logger)
				wantOpen(t, s, mustSeal(t, s, PurposeSession, testBinding, "in memory"), "in memory", true)
				if got := storage.get(ringKey); got != text {
					t.Errorf("overwritten: %s", got)
				}
				wantWarnings(t, logs, 1)
				for _, entry := range logs.All() {
					if reason, _ := entry.ContextMap()["error"].(string); strings.Contains(reason, "html") {
						t.Errorf("the log repeats what the storage has: %v", entry)
					}
				}
				// somebody brings the backup
				storage.set(ringKey, ring)
				time.Sleep(retryAfter)
				mustSeal(t, s, PurposeSession, testBinding, "")
				synctest.Wait()
				wantOpen(t, s, sealed, "text", true)
			})
		})
	}
}

// What is known goes on when the stored ring is damaged or removed.
func TestKeyRingDamagedLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := newMemoryStorage()
		logger, logs := observed()
		_, s := ringOn(storage, logger)
		sealed := mustSeal(t, s, PurposeSession, testBinding, "text")
		foreign := mustSeal(t, NewSealer(secretKeys(t)), PurposeSession, testBinding, "text")
		ring := storage.get(ringKey)
		for _, text := range []string{"damaged", ""} {
			storage.set(ringKey, text)
			time.Sleep(rotateAfter)
			_, _, _ = s.Open(t.Context(), PurposeSession, testBinding, foreign)
			mustSeal(t, s, PurposeSession, testBinding, "")
			synctest.Wait()
			wantOpen(t, s, sealed, "text", true)
			if storage.get(ringKey) != text {
				t.Error("overwritten")
			}
		}
		wantWarnings(t, logs, 1)

		storage.mu.Lock()
		delete(storage.values, ringKey)
		storage.mu.Unlock()
		time.Sleep(retryAfter)
		mustSeal(t, s, PurposeSession, testBinding, "")
		synctest.Wait()
		wantOpen(t, s, sealed, "text", true)
		if got := readRing(t, storage); len(got.Keys) != 2 || !strings.Contains(ring, got.Keys[0].Key) {
			t.Errorf("%+v", got)
		}
	})
}
