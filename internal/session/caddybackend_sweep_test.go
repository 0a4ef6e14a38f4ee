package session

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// Days that are past go, with everything below, on storages that remove folders and on those that do not; the rest stays.
func TestCaddyBackendSweep(t *testing.T) {
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
			backend := NewCaddyBackend(storage, func() time.Time { return now }, zap.NewNop())
			store, renewals := NewStore(backend, testNow), NewRenewals(backend, testNow)
			if err := backend.Sweep(ctx); err != nil {
				t.Error("nothing there:", err)
			}
			var keys []string
			for day := range 4 {
				for range 3 {
					expires := now.AddDate(0, 0, day)
					ref, sess := testReference(expires), fullSession()
					err := errors.Join(store.Create(ctx, testOwner, ref, sess), renewals.Save(ctx, ref.ID, expires, &Renewal{Generation: 1}))
					if err != nil {
						t.Fatal(err)
					}
					index := caddyPrefix + "index/" + expires.Format(time.DateOnly) + "/"
					member := "/" + indexMember(ref, sess)
					name := expires.Format(time.DateOnly) + "/" + renewalName(ref.ID)
					keys = append(keys, stored(ref), caddyPrefix+"renewals/"+name, caddyPrefix+"spent/"+name,
						index+testOwner.sidSet(sess.SID)+member, index+testOwner.subjectSet(sess.Subject)+member)
				}
			}
			foreign := []string{
				"openid_connect/sessions/readme", "openid_connect/sessions/2020-13-45/x", "openid_connect/session_keys.json",
				"openid_connect/2020-01-01/x", "openid_connect/other/2020-01-01/x", "sessions/2020-01-01/x",
			}
			for _, key := range foreign {
				if err := storage.Store(ctx, key, []byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			for _, step := range []struct {
				after time.Duration
				left  int
			}{{0, 60}, {time.Hour, 60}, {time.Second, 45}, {24 * time.Hour, 30}, {1000 * time.Hour, 0}} {
				now = now.Add(step.after)
				if err := backend.Sweep(ctx); err != nil {
					t.Fatal(err)
				}
				left := 0
				for _, key := range keys {
					if storage.Exists(ctx, key) {
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
func TestCaddyBackendFolder(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	now := testNow()
	backend := NewCaddyBackend(&certmagic.FileStorage{Path: path}, func() time.Time { return now }, zap.NewNop())
	ref := testReference(now.Add(time.Hour))
	if err := NewStore(backend, testNow).Save(t.Context(), ref, fullSession()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(path, filepath.FromSlash(stored(ref))))
	if err != nil || info.Size() == 0 {
		t.Fatal(info, err)
	}
	now = now.Add(72 * time.Hour)
	if err := backend.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(path, "openid_connect", "sessions", "2027-01-15")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// One thing that cannot be removed does not keep the others.
func TestCaddyBackendSweepFails(t *testing.T) {
	t.Parallel()
	storage := newMemoryStorage()
	backend := testBackend(storage)
	old := []string{"sessions", "renewals", "spent", "index"}
	for _, folder := range old {
		storage.set(caddyPrefix+folder+"/2020-01-01/x", "x")
	}
	storage.setBefore(func(_ context.Context, call, key string) error {
		if call == "Delete" && strings.Contains(key, "renewals") {
			return errStorage
		}
		return nil
	})
	if err := backend.Sweep(t.Context()); !errors.Is(err, errStorage) {
		t.Error(err)
	}
	for _, folder := range old {
		if left := storage.get(caddyPrefix+folder+"/2020-01-01/x") != ""; left != (folder == "renewals") {
			t.Errorf("%s is left: %v", folder, left)
		}
	}
}
