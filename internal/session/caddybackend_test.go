package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

func TestCaddyBackendValues(t *testing.T) {
	t.Parallel()
	for name, storage := range map[string]certmagic.Storage{
		"folder": &certmagic.FileStorage{Path: t.TempDir()}, "memory": newMemoryStorage(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			backend := testBackend(storage)
			if _, err := backend.Load(ctx, "sessions/2027-01-15/a"); !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
			if err := backend.Delete(ctx, "sessions/2027-01-15/a"); err != nil {
				t.Error("deleting nothing:", err)
			}
			for _, value := range []string{"first", "second"} {
				if err := backend.Store(ctx, "sessions/2027-01-15/a", []byte(value), testNow()); err != nil {
					t.Fatal(err)
				}
				// another instance, or this one after a reload
				if got, err := testBackend(storage).Load(ctx, "sessions/2027-01-15/a"); err != nil || string(got) != value {
					t.Errorf("%q, %v", got, err)
				}
			}
			if got, err := storage.Load(ctx, "openid_connect/sessions/2027-01-15/a"); err != nil || string(got) != "second" {
				t.Errorf("elsewhere: %q, %v", got, err)
			}
			if err := backend.Delete(ctx, "sessions/2027-01-15/a"); err != nil {
				t.Error(err)
			}
			if _, err := backend.Load(ctx, "sessions/2027-01-15/a"); !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		})
	}
}

func TestCaddyBackendSets(t *testing.T) {
	t.Parallel()
	for name, storage := range map[string]certmagic.Storage{
		"folder": &certmagic.FileStorage{Path: t.TempDir()}, "memory": newMemoryStorage(),
		"single keys": &memoryStorage{values: make(map[string][]byte), single: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			now := time.Date(2027, 1, 15, 12, 0, 0, 0, time.UTC)
			backend := NewCaddyBackend(storage, func() time.Time { return now }, zap.NewNop())
			members := func(set string, want ...string) {
				t.Helper()
				if got, err := backend.Members(ctx, set); err != nil || !slices.Equal(got, want) {
					t.Errorf("%s has %q, %v; want %q", set, got, err, want)
				}
			}
			members("sid/a")
			if err := backend.Remove(ctx, "sid/a", "1"); err != nil {
				t.Error("removing nothing:", err)
			}
			for _, entry := range []struct {
				set, member string
				days        int
			}{{"sid/a", "1", 0}, {"sid/a", "2", 1}, {"sid/a", "1", 2}, {"sid/b", "3", 0}, {"sub/a", "4", 0}, {"sid/a", "2", 1}} {
				if err := backend.Add(ctx, entry.set, entry.member, now.AddDate(0, 0, entry.days)); err != nil {
					t.Fatal(err)
				}
			}
			members("sid/a", "1", "2")
			members("sid/b", "3")
			members("sub/a", "4")
			members("sub/b")
			if err := backend.Remove(ctx, "sid/a", "1"); err != nil {
				t.Error(err)
			}
			members("sid/a", "2")
			members("sid/b", "3")
			now = now.AddDate(0, 0, 1)
			members("sid/a", "2")
			members("sid/b")
			now = now.AddDate(0, 0, 1)
			members("sid/a")
		})
	}
}

// A set is listed as a whole while others write to it, in Caddy's file storage too, whose lists end early then.
func TestCaddyBackendSetsChange(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	backend := testBackend(&certmagic.FileStorage{Path: t.TempDir()})
	expires := testNow().Add(time.Hour)
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprintf("stays-%02d", i))
		if err := backend.Add(ctx, "sub/a", want[i], expires); err != nil {
			t.Fatal(err)
		}
	}
	var others sync.WaitGroup
	stop := make(chan struct{})
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			member := fmt.Sprintf("a-%d", i)
			if err := errors.Join(backend.Add(ctx, "sub/a", member, expires), backend.Remove(ctx, "sub/a", member)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 200 {
		got, err := backend.Members(ctx, "sub/a")
		// a set that changes all the time may be too much for the storage, but then it says so
		if err == nil && len(slices.DeleteFunc(got, func(member string) bool { return !slices.Contains(want, member) })) != len(want) {
			t.Errorf("%d of %d members: %q", len(got), len(want), got)
		}
	}
	close(stop)
	others.Wait()
	if got, err := backend.Members(ctx, "sub/a"); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}

// What the list ends with early is not taken for the whole, and one that never ends well is an error.
func TestCaddyBackendListsEndEarly(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	storage := &earlyEnds{memoryStorage: newMemoryStorage()}
	backend := testBackend(storage)
	if err := errors.Join(backend.Add(ctx, "sub/a", "1", testNow()), backend.Add(ctx, "sub/a", "2", testNow())); err != nil {
		t.Fatal(err)
	}
	for times, ok := range map[int]bool{0: true, 1: true, listAttempts - 1: true, listAttempts: false} {
		storage.left = times
		got, err := backend.Members(ctx, "sub/a")
		if (err == nil) != ok || ok && !slices.Equal(got, []string{"1", "2"}) {
			t.Errorf("%d early ends: %q, %v", times, got, err)
		}
	}
}

// earlyEnds is a storage whose next lists end after the first key, as if the second had gone.
type earlyEnds struct {
	*memoryStorage
	left int
}

func (s *earlyEnds) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	keys, err := s.memoryStorage.List(ctx, prefix, recursive)
	if err == nil && s.left > 0 {
		s.left--
		return keys[:1], fs.ErrNotExist
	}
	return keys, err
}

func TestCaddyBackendFails(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	storage := newMemoryStorage()
	storage.fail(errStorage, "Load", "Store", "Delete", "List", "Lock")
	backend := testBackend(storage)
	for name, operation := range map[string]func() error{
		"load":    func() error { _, err := backend.Load(ctx, "a"); return err },
		"store":   func() error { return backend.Store(ctx, "a", nil, testNow()) },
		"delete":  func() error { return backend.Delete(ctx, "a") },
		"add":     func() error { return backend.Add(ctx, "a", "b", testNow()) },
		"remove":  func() error { return backend.Remove(ctx, "a", "b") },
		"members": func() error { _, err := backend.Members(ctx, "a"); return err },
		"lock":    func() error { _, err := backend.Lock(ctx, "a"); return err },
		"sweep":   func() error { return backend.Sweep(ctx) },
	} {
		if err := operation(); !errors.Is(err, errStorage) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
