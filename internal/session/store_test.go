package session

import (
	"context"
	"encoding/hex"
	"errors"
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

var testOwner = Owner{Issuer: "https://id.example.com", ClientID: "app"}

func testBackend(storage certmagic.Storage) *CaddyBackend {
	return NewCaddyBackend(storage, testNow, zap.NewNop())
}

// stored is where the storage has a session.
func stored(ref *Reference) string { return caddyPrefix + ref.recordKey() }

func TestStore(t *testing.T) {
	t.Parallel()
	for name, storage := range map[string]certmagic.Storage{
		"folder": &certmagic.FileStorage{Path: t.TempDir()}, "memory": newMemoryStorage(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			store := NewStore(testBackend(storage), testNow)
			ref, other := testReference(testNow().Add(time.Hour)), testReference(testNow().Add(time.Hour))
			if _, err := store.Load(ctx, ref); !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
			if err := store.Delete(ctx, testOwner, ref, nil); err != nil {
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
			if got, err := NewStore(testBackend(storage), testNow).Load(ctx, ref); err != nil || got.Subject != "alice" {
				t.Errorf("%+v, %v", got, err)
			}
			if err := store.Delete(ctx, testOwner, ref, nil); err != nil {
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
func TestStoreUntrusted(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	storage := newMemoryStorage()
	store := NewStore(testBackend(storage), testNow)
	ref, other := testReference(testNow().Add(time.Hour)), testReference(testNow().Add(time.Hour))
	if err := errors.Join(store.Save(ctx, ref, fullSession()), store.Save(ctx, other, fullSession())); err != nil {
		t.Fatal(err)
	}
	record := storage.get(stored(ref))
	for _, secret := range []string{"alice", "refresh!", string(ref.Key[:]), string(ref.ID[:]), hex.EncodeToString(ref.ID[:])} {
		if strings.Contains(record, secret) || strings.Contains(stored(ref), secret) {
			t.Errorf("the store has %q", secret)
		}
	}
	refused := func(name string, ref *Reference, record string) {
		t.Helper()
		storage.set(stored(ref), record)
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
	refused("another session's record", ref, storage.get(stored(other)))
	storage.set(stored(ref), record)
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

func TestStoreExpires(t *testing.T) {
	t.Parallel()
	now := testNow()
	store := NewStore(testBackend(newMemoryStorage()), func() time.Time { return now })
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

func TestStoreFailing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		storage := newMemoryStorage()
		store := NewStore(testBackend(storage), time.Now)
		ref := testReference(time.Now().Add(time.Hour))
		storage.fail(errStorage, "Load", "Store", "Delete", "List")
		operations := map[string]func() error{
			"load":    func() error { _, err := store.Load(ctx, ref); return err },
			"save":    func() error { return store.Save(ctx, ref, fullSession()) },
			"delete":  func() error { return store.Delete(ctx, testOwner, ref, nil) },
			"replace": func() error { return store.Replace(ctx, ref, fullSession()) },
			"create":  func() error { return store.Create(ctx, testOwner, ref, fullSession()) },
			"by sid":  func() error { _, err := store.EndBySID(ctx, testOwner, "sid"); return err },
		}
		for name, operation := range operations {
			if err := operation(); !errors.Is(err, errStorage) || errors.Is(err, ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
		delete(operations, "create") // which waits once more, to clean up
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
		storage.setBefore(nil)
		if err := store.Save(ctx, ref, fullSession()); err != nil {
			t.Error(err)
		}
	})
}

// A renewal takes the place of the session that it began with, and of nothing else.
func TestStoreReplace(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store := NewStore(testBackend(newMemoryStorage()), testNow)
	ref := testReference(testNow().Add(time.Hour))
	generation := func(n uint64) *Session {
		sess := fullSession()
		sess.Generation = n
		return sess
	}
	if err := store.Replace(ctx, ref, generation(1)); !errors.Is(err, ErrNotFound) {
		t.Error("what has never been:", err)
	}
	if err := store.Save(ctx, ref, generation(1)); err != nil {
		t.Fatal(err)
	}
	for n, want := range []error{ErrSuperseded, nil, nil, nil} {
		if err := store.Replace(ctx, ref, generation(uint64(n))); !errors.Is(err, want) {
			t.Errorf("generation %d: %v", n, err)
		}
	}
	if err := store.Replace(ctx, ref, generation(2)); !errors.Is(err, ErrSuperseded) {
		t.Error("a late one:", err)
	}
	if got, err := store.Load(ctx, ref); err != nil || got.Generation != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := store.Delete(ctx, testOwner, ref, nil); err != nil {
		t.Fatal(err)
	}
	if err := store.Replace(ctx, ref, generation(4)); !errors.Is(err, ErrNotFound) {
		t.Error("what has ended:", err)
	}
	if got, err := store.Load(ctx, ref); !errors.Is(err, ErrNotFound) {
		t.Errorf("an ended session is back: %+v, %v", got, err)
	}
}
