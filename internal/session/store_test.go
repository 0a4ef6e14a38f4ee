package session

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

func testReference(expires time.Time) *Reference {
	ref := &Reference{ID: NewID(), Expires: expires}
	copy(ref.Key[:], random(len(ref.Key)))
	return ref
}

func TestCaddyStore(t *testing.T) {
	t.Parallel()
	for name, storage := range map[string]certmagic.Storage{
		"folder": &certmagic.FileStorage{Path: t.TempDir()}, "memory": newMemoryStorage(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			store := NewCaddyStore(storage, testNow, zap.NewNop())
			ref, other := testReference(testNow().Add(time.Hour)), testReference(testNow().Add(time.Hour))
			if err := store.Sweep(ctx); err != nil {
				t.Error(err)
			}
			if _, err := store.Load(ctx, ref); !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
			if err := store.Delete(ctx, ref); err != nil {
				t.Error(err)
			}
			for generation := range uint64(3) {
				sess := fullSession()
				sess.Generation = generation
				if err := errors.Join(store.Save(ctx, ref, sess), store.Save(ctx, other, &Session{Subject: "other"})); err != nil {
					t.Fatal(err)
				}
				if got, err := store.Load(ctx, ref); err != nil || !reflect.DeepEqual(got, sess) {
					t.Errorf("%+v, %v", got, err)
				}
			}
			// another instance, or this one after a reload
			if got, err := NewCaddyStore(storage, testNow, zap.NewNop()).Load(ctx, ref); err != nil || got.Subject != "alice" {
				t.Errorf("%+v, %v", got, err)
			}
			if err := store.Delete(ctx, ref); err != nil {
				t.Error(err)
			}
			if _, err := store.Load(ctx, ref); !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
			if got, err := store.Load(ctx, other); err != nil || got.Subject != "other" {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// The store holds nothing that whoever reads it could use, and takes nothing that whoever writes to it made up.
func TestCaddyStoreUntrusted(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	storage := newMemoryStorage()
	store := NewCaddyStore(storage, testNow, zap.NewNop())
	ref, other := testReference(testNow().Add(time.Hour)), testReference(testNow().Add(time.Hour))
	if err := errors.Join(store.Save(ctx, ref, fullSession()), store.Save(ctx, other, fullSession())); err != nil {
		t.Fatal(err)
	}
	record := storage.get(recordKey(ref))
	for _, secret := range []string{"alice", "refresh!", string(ref.Key[:]), string(ref.ID[:]), hex.EncodeToString(ref.ID[:])} {
		if strings.Contains(record, secret) || strings.Contains(recordKey(ref), secret) {
			t.Errorf("the store has %q", secret)
		}
	}
	refused := func(name string, ref *Reference, record string) {
		t.Helper()
		storage.set(recordKey(ref), record)
		if sess, err := store.Load(ctx, ref); !errors.Is(err, ErrNotFound) || sess != nil {
			t.Errorf("%s: %+v, %v", name, sess, err)
		}
	}
	for bit := range 8 * len(record) {
		changed := []byte(record)
		changed[bit/8] ^= 1 << (bit % 8)
		refused("a bit", ref, string(changed))
	}
	for n := range record {
		refused("cut off", ref, record[:n])
	}
	refused("another session's record", ref, storage.get(recordKey(other)))
	storage.set(recordKey(ref), record)
	if _, err := store.Load(ctx, ref); err != nil {
		t.Error("the record itself:", err)
	}
	wrongKey := *ref
	wrongKey.Key[0] ^= 1
	if _, err := store.Load(ctx, &wrongKey); !errors.Is(err, ErrNotFound) {
		t.Error("another key:", err)
	}
	// the same key under another id
	moved := *ref
	moved.ID[0] ^= 1
	refused("another id", &moved, record)
}

func TestCaddyStoreExpires(t *testing.T) {
	t.Parallel()
	now := testNow()
	store := NewCaddyStore(newMemoryStorage(), func() time.Time { return now }, zap.NewNop())
	ref := testReference(now.Add(time.Hour))
	if err := store.Save(t.Context(), ref, fullSession()); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour - time.Second)
	if _, err := store.Load(t.Context(), ref); err != nil {
		t.Error(err)
	}
	now = now.Add(time.Second)
	if _, err := store.Load(t.Context(), ref); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func TestCaddyStoreFailing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		storage := newMemoryStorage()
		store := NewCaddyStore(storage, time.Now, zap.NewNop())
		ref := testReference(time.Now().Add(time.Hour))
		storage.fail(errStorage, "Load", "Store", "Delete", "List")
		operations := map[string]func() error{
			"load":   func() error { _, err := store.Load(ctx, ref); return err },
			"save":   func() error { return store.Save(ctx, ref, fullSession()) },
			"delete": func() error { return store.Delete(ctx, ref) },
			"sweep":  func() error { return store.Sweep(ctx) },
		}
		for name, operation := range operations {
			if err := operation(); !errors.Is(err, errStorage) || errors.Is(err, ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
		delete(operations, "sweep") // which nobody waits for
		storage.setBefore(func(ctx context.Context, _, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		})
		for name, operation := range operations {
			start := time.Now()
			if err := operation(); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != storageWait {
				t.Errorf("%s: %v after %v", name, err, time.Since(start))
			}
		}
		if err := store.Save(ctx, ref, &Session{Claims: strings.Repeat("x", maxWire)}); !errors.Is(err, ErrTooLarge) {
			t.Error(err)
		}
		working := newMemoryStorage()
		store.SetStorage(working, zap.NewNop())
		if err := store.Save(ctx, ref, fullSession()); err != nil || working.count("Store") != 1 {
			t.Error(err)
		}
	})
}

// Days that are past go, with everything below, on storages that remove folders and on those that do not; the rest stays.
func TestCaddyStoreSweep(t *testing.T) {
	t.Parallel()
	storages := map[string]certmagic.Storage{
		"folder":      &certmagic.FileStorage{Path: t.TempDir()},
		"memory":      newMemoryStorage(),
		"single keys": &memoryStorage{values: make(map[string][]byte), single: true},
	}
	for name, storage := range storages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			now := time.Date(2027, 1, 15, 23, 59, 59, 0, time.UTC)
			store := NewCaddyStore(storage, func() time.Time { return now }, zap.NewNop())
			var refs []*Reference
			for day := range 4 {
				for range 3 {
					ref := testReference(now.AddDate(0, 0, day))
					refs = append(refs, ref)
					if err := store.Save(ctx, ref, fullSession()); err != nil {
						t.Fatal(err)
					}
				}
			}
			foreign := []string{
				recordPrefix + "/readme", recordPrefix + "/2020-13-45/x", "openid_connect/session_keys.json", "openid_connect/2020-01-01/x",
			}
			for _, key := range foreign {
				if err := storage.Store(ctx, key, []byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			for _, step := range []struct {
				after time.Duration
				left  int
			}{{0, 12}, {time.Hour, 12}, {time.Second, 9}, {24 * time.Hour, 6}, {1000 * time.Hour, 0}} {
				now = now.Add(step.after)
				if err := store.Sweep(ctx); err != nil {
					t.Fatal(err)
				}
				left := 0
				for _, ref := range refs {
					if storage.Exists(ctx, recordKey(ref)) {
						left++
					}
				}
				if left != step.left {
					t.Errorf("%v: %d left, want %d", now, left, step.left)
				}
			}
			for _, key := range foreign {
				if !storage.Exists(ctx, key) {
					t.Errorf("%s is gone", key)
				}
			}
		})
	}
}

// The folder of a day is gone, not only what was in it, and nobody but the server's user can read the records.
func TestCaddyStoreFolder(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	now := testNow()
	store := NewCaddyStore(&certmagic.FileStorage{Path: path}, func() time.Time { return now }, zap.NewNop())
	ref := testReference(now.Add(time.Hour))
	if err := store.Save(t.Context(), ref, fullSession()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(path, filepath.FromSlash(recordKey(ref))))
	if err != nil || info.Size() == 0 {
		t.Fatal(info, err)
	}
	now = now.Add(72 * time.Hour)
	if err := store.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(path, filepath.FromSlash(recordPrefix), "2027-01-15")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
