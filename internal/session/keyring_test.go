package session

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

func testNow() time.Time { return time.Unix(1_800_000_000, 0) }

// ringOn returns a ring and its sealer, with the clock of the synctest bubble.
func ringOn(storage certmagic.Storage, logger *zap.Logger) (*KeyRing, *Sealer) {
	r := NewKeyRing(storage, logger, time.Now)
	return r, NewSealer(r)
}

// storedRing is the document as another program would read it.
type storedRing struct {
	Keys []struct {
		ID      string    `json:"id"`
		Key     string    `json:"key"`
		Created time.Time `json:"created"`
		Note    string    `json:"note"`
	} `json:"keys"`
	Later string `json:"later"`
}

func readRing(t *testing.T, storage *memoryStorage) storedRing {
	t.Helper()
	var ring storedRing
	if err := json.Unmarshal([]byte(storage.get(ringKey)), &ring); err != nil {
		t.Fatal(err)
	}
	return ring
}

// The ring is made at its first use, once, and a restart finds it again.
func TestKeyRingFirstUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := newMemoryStorage()
		logger, logs := observed()
		_, s := ringOn(storage, logger)
		storage.setBefore(func(context.Context, string, string) error {
			time.Sleep(time.Millisecond) // so that all of them come meanwhile
			return nil
		})
		foreign := mustSeal(t, NewSealer(secretKeys(t)), PurposeSession, testBinding, "text")
		if _, _, err := s.Open(t.Context(), PurposeSession, testBinding, foreign); !isErrSeal(err) || storage.get(ringKey) != "" {
			t.Fatalf("%v; the ring after opening: %s", err, storage.get(ringKey))
		}
		var sealed [50]string
		var wg sync.WaitGroup
		for i := range sealed {
			wg.Go(func() { sealed[i] = mustSeal(t, s, PurposeSession, testBinding, fmt.Sprint(i)) })
		}
		wg.Wait()
		if stores := storage.count("Store"); stores != 1 || len(readRing(t, storage).Keys) != 1 {
			t.Errorf("%d writes, %s", stores, storage.get(ringKey))
		}
		if loads := storage.count("Load"); loads != 3 { // for the foreign key, before the lock and under it
			t.Errorf("%d readings", loads)
		}
		_, restarted := ringOn(storage, logger)
		for i, text := range sealed {
			wantOpen(t, s, text, fmt.Sprint(i), true)
			wantOpen(t, restarted, text, fmt.Sprint(i), true)
		}
		wantWarnings(t, logs, 0)
	})
}

// A key that was made later seals only when everybody has had the time to read it; all of them open.
func TestKeyRingRotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := newMemoryStorage()
		logger, logs := observed()
		_, s := ringOn(storage, logger)
		_, other := ringOn(storage, logger)
		first := mustSeal(t, s, PurposeSession, testBinding, "first")
		wantOpen(t, other, first, "first", true)

		time.Sleep(rotateAfter - time.Second)
		mustSeal(t, s, PurposeSession, testBinding, "")
		synctest.Wait()
		if n := len(readRing(t, storage).Keys); n != 1 {
			t.Fatalf("%d keys before it is time", n)
		}
		time.Sleep(time.Second)
		pending := mustSeal(t, s, PurposeSession, testBinding, "pending")
		synctest.Wait()
		if n := len(readRing(t, storage).Keys); n != 2 {
			t.Fatalf("%d keys when it is time", n)
		}
		time.Sleep(publishDelay - time.Second)
		for _, sealed := range []string{pending, mustSeal(t, s, PurposeSession, testBinding, "pending")} {
			wantOpen(t, s, sealed, "pending", true)
			wantOpen(t, other, sealed, "pending", true)
		}

		time.Sleep(time.Second)
		second := mustSeal(t, s, PurposeSession, testBinding, "second")
		wantOpen(t, s, second, "second", true)
		wantOpen(t, s, first, "first", false)
		// the other one learns of the key by what is sealed under it, and does not make another
		wantOpen(t, other, second, "second", true)
		mustSeal(t, other, PurposeSession, testBinding, "")
		synctest.Wait()
		if n := len(readRing(t, storage).Keys); n != 2 {
			t.Errorf("%d keys", n)
		}
		wantWarnings(t, logs, 0)
	})
}

// Where clocks differ, a key that the other one seals with already is no reason to seal again.
func TestKeyRingNewerKeyIsCurrent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := newMemoryStorage()
		logger, _ := observed()
		_, behind := ringOn(storage, logger)
		mustSeal(t, behind, PurposeSession, testBinding, "")
		ahead := NewSealer(NewKeyRing(storage, logger, func() time.Time { return time.Now().Add(publishDelay) }))
		time.Sleep(rotateAfter)
		mustSeal(t, behind, PurposeSession, testBinding, "")
		synctest.Wait()
		sealed := mustSeal(t, ahead, PurposeSession, testBinding, "ahead")
		wantOpen(t, behind, sealed, "ahead", true)
		wantOpen(t, ahead, mustSeal(t, behind, PurposeSession, testBinding, "behind"), "behind", false)
	})
}

// A key stays for as long as a session that it sealed may live, and not for ever.
func TestKeyRingForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := newMemoryStorage()
		logger, _ := observed()
		_, s := ringOn(storage, logger)
		step := rotateAfter + publishDelay
		var sealed []string
		for range 40 {
			sealed = append(sealed, mustSeal(t, s, PurposeSession, testBinding, "text"))
			synctest.Wait()
			time.Sleep(step)
		}
		_, restarted := ringOn(storage, logger)
		opening := 0
		for i, text := range sealed {
			_, _, err := restarted.Open(t.Context(), PurposeSession, testBinding, text)
			age := time.Duration(len(sealed)-i) * step
			if err == nil {
				opening++
			} else if age < 400*24*time.Hour {
				t.Errorf("sealed %v ago: %v", age, err)
			}
		}
		if keys := len(readRing(t, storage).Keys); keys > 16 || opening > 16 || opening < 13 {
			t.Errorf("%d keys, %d values open", keys, opening)
		}
	})
}

// After a year without a rotation, because nobody came, what was sealed last still opens for its time.
func TestKeyRingRotationAfterLongQuiet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := newMemoryStorage()
		logger, _ := observed()
		_, s := ringOn(storage, logger)
		sealed := mustSeal(t, s, PurposeSession, testBinding, "text")
		time.Sleep(500 * 24 * time.Hour)
		mustSeal(t, s, PurposeSession, testBinding, "")
		synctest.Wait()
		time.Sleep(399 * 24 * time.Hour)
		mustSeal(t, s, PurposeSession, testBinding, "")
		synctest.Wait()
		_, restarted := ringOn(storage, logger)
		wantOpen(t, restarted, sealed, "text", false)
	})
}

// An unknown key id makes one reading, and the next one half a minute later, however many ask.
func TestKeyRingUnknownKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := newMemoryStorage()
		logger, logs := observed()
		_, s := ringOn(storage, logger)
		mustSeal(t, s, PurposeSession, testBinding, "")
		foreign := mustSeal(t, NewSealer(secretKeys(t)), PurposeSession, testBinding, "text")
		loads := storage.count("Load")
		for range 3 {
			for range 100 {
				if _, _, err := s.Open(t.Context(), PurposeSession, testBinding, foreign); !isErrSeal(err) {
					t.Fatal(err)
				}
			}
			time.Sleep(rereadAfter)
		}
		if n := storage.count("Load") - loads; n != 3 {
			t.Errorf("%d readings", n)
		}
		wantWarnings(t, logs, 0)
	})
}

// Two processes on one folder, many requests at a time: one ring, and each opens what the other sealed.
func TestKeyRingSharedFolder(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	logger, logs := observed()
	sealers := make([]*Sealer, 4)
	sealed := make([]string, len(sealers)*8)
	var wg sync.WaitGroup
	for i := range sealers {
		ring := NewKeyRing(&certmagic.FileStorage{Path: path}, logger, time.Now)
		sealers[i] = NewSealer(ring)
	}
	for i := range sealed {
		wg.Go(func() { sealed[i] = mustSeal(t, sealers[i%len(sealers)], PurposeSession, testBinding, fmt.Sprint(i)) })
	}
	wg.Wait()
	for _, s := range append(sealers, NewSealer(NewKeyRing(&certmagic.FileStorage{Path: path}, logger, time.Now))) {
		for i, text := range sealed {
			wantOpen(t, s, text, fmt.Sprint(i), true)
		}
	}
	wantWarnings(t, logs, 0)
}

// The newest key is the one that was made last, wherever the document has it.
func TestKeyRingOrder(t *testing.T) {
	t.Parallel()
	logger, _ := observed()
	var rings []storedRing
	for _, age := range []time.Duration{48 * time.Hour, 24 * time.Hour, time.Hour} {
		storage := newMemoryStorage()
		mustSeal(t, NewSealer(NewKeyRing(storage, logger, func() time.Time { return testNow().Add(-age) })), PurposeSession, testBinding, "")
		rings = append(rings, readRing(t, storage))
	}
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}} {
		var all storedRing
		for _, i := range order {
			all.Keys = append(all.Keys, rings[i].Keys...)
		}
		text, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		storage := newMemoryStorage()
		storage.set(ringKey, string(text))
		k, err := NewKeyRing(storage, logger, testNow).sealing(t.Context())
		if err != nil || hex.EncodeToString(k.id[:]) != rings[2].Keys[0].ID {
			t.Errorf("order %v: sealed with another key, %v", order, err)
		}
	}
}

// What a later version put into the document is still there after this one rotated.
func TestKeyRingKeepsUnknownMembers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := newMemoryStorage()
		logger, logs := observed()
		_, s := ringOn(storage, logger)
		sealed := mustSeal(t, s, PurposeSession, testBinding, "text")
		text := storage.get(ringKey)
		text = strings.Replace(text, `"keys": [`, `"later": "member", "keys": [{"id": "post-quantum", "note": "unusable"},`, 1)
		text = strings.Replace(text, `"created"`, `"note": "usable", "created"`, 1)
		storage.set(ringKey, text)

		time.Sleep(rotateAfter)
		_, later := ringOn(storage, logger)
		wantOpen(t, later, sealed, "text", true)
		mustSeal(t, later, PurposeSession, testBinding, "")
		synctest.Wait()
		ring := readRing(t, storage)
		if ring.Later != "member" || len(ring.Keys) != 3 || ring.Keys[0].ID != "post-quantum" ||
			ring.Keys[0].Note != "unusable" || ring.Keys[1].Note != "usable" {
			t.Errorf("%+v", ring)
		}
		wantWarnings(t, logs, 0)
	})
}
