package session

import (
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// Two instances on Caddy's own storage, each with one of its own on the same folder.
func TestRevocationsFileStorage(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	var busy sync.WaitGroup
	defer busy.Wait()
	instance := func() *Revocations {
		backend := NewCaddyBackend(&certmagic.FileStorage{Path: path}, time.Now, zap.NewNop())
		return NewRevocations(RevocationsConfig{Backend: backend, Follow: true, Background: func(work func()) { busy.Go(work) }})
	}
	first, second := instance(), instance()
	now := time.Now()
	refresh := func(r *Revocations, after time.Duration) { r.Refresh(t.Context(), now.Add(after)) }
	refresh(first, 0)
	refresh(second, 0)
	until := now.Add(30 * 24 * time.Hour)
	mustAdd(t, first, numberedList(0, 1500, until)...)
	mustAdd(t, second, numberedList(1500, 1600, until)...)
	refresh(first, staleAfter+time.Second)
	refresh(second, staleAfter+time.Second)
	restarted := instance()
	refresh(restarted, staleAfter+time.Second)
	for _, r := range []*Revocations{first, second, restarted} {
		wantKnown(t, r, 0, 1600)
	}
	var names []string
	err := filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && !strings.HasSuffix(name, ".lock") {
			name, err = filepath.Rel(path, name)
			names = append(names, filepath.ToSlash(name))
			if info, err := entry.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
		}
		return err
	})
	if err != nil || len(names) < 4 {
		t.Error(names, err)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "openid_connect/revoked/") && !strings.HasPrefix(name, "openid_connect/index/") {
			t.Error("unexpected:", name)
		}
	}
}

// A storage that knows no expiry is rid of segments that are over, and of their names, by those who use it.
func TestRevocationsTidy(t *testing.T) {
	t.Parallel()
	for name, follow := range map[string]bool{"reader": true, "writer": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				storage := newMemoryStorage()
				backend := NewCaddyBackend(storage, time.Now, zap.NewNop())
				r := NewRevocations(RevocationsConfig{Backend: backend, Follow: follow})
				n := 0
				add := func(life time.Duration) {
					mustAdd(t, r, numbered(n, time.Now().Add(life)))
					time.Sleep(time.Second)
					n++
				}
				kept := func() (segments, members int) {
					storage.mu.Lock()
					defer storage.mu.Unlock()
					for key := range storage.values {
						if strings.Contains(key, "/index/") {
							members++
						} else {
							segments++
						}
					}
					return segments, members
				}
				add(30 * time.Minute) // over before its segment is
				time.Sleep(time.Hour)
				add(5 * time.Hour)
				time.Sleep(time.Hour)
				add(100 * time.Hour)
				pass := func(span time.Duration) {
					for start := time.Now(); time.Since(start) < span; time.Sleep(10 * time.Minute) {
						refreshed(r)
						if !follow {
							mustAdd(t, r, Revocation{ID: numberedID(n), Until: time.Now().Add(100 * time.Hour)})
						}
					}
				}
				extra := 0
				if !follow {
					extra = 1 // for each hour in which it writes
				}
				for i, step := range []struct {
					after    time.Duration
					segments int
				}{
					{time.Hour, 3},           // at 3:00, as each is there for two hours after its own, and one more
					{90 * time.Minute, 2},    // at 4:30 the first is gone
					{90 * time.Minute, 2},    // at 6:00 the second one's entry is over, but only just
					{2 * time.Hour, 1},       // at 8:00 the second is gone
					{102 * time.Hour, extra}, // all, but for those that were written to go on
				} {
					pass(step.after)
					segments, members := kept()
					if follow && (segments != step.segments || members != segments) {
						t.Errorf("step %d, %v: %d segments, %d names, want %d", i, time.Now(), segments, members, step.segments)
					}
				}
				storage.mu.Lock()
				first := storage.values[caddyPrefix+"revoked/2000-01-01/00.0"]
				second := storage.values[caddyPrefix+"revoked/2000-01-01/01.0"]
				storage.mu.Unlock()
				if first != nil || second != nil {
					t.Error("segments that are over are still there")
				}
			})
		})
	}
}

// What has been added to a segment since it was read last keeps it, and so do clocks that jump.
func TestRevocationsTidyLooksAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		storage := newMemoryStorage()
		backend := NewCaddyBackend(storage, time.Now, zap.NewNop())
		once, other := NewRevocations(RevocationsConfig{Backend: backend}), following(backend)
		mustAdd(t, once, numbered(0, time.Now().Add(time.Minute)))
		refreshed(once)
		time.Sleep(time.Second)
		mustAdd(t, other, numbered(1, time.Now().Add(100*time.Hour)))
		for range 10 {
			time.Sleep(time.Hour)
			mustAdd(t, once, numbered(2, time.Now().Add(200*time.Hour)))
		}
		restarted := following(backend)
		refreshed(restarted)
		wantKnown(t, restarted, 1, 3)
		if storage.count("Delete") != 0 {
			t.Error("something was deleted")
		}
		// ten years ahead for a moment
		restarted.Refresh(t.Context(), time.Now().AddDate(10, 0, 0))
		synctest.Wait()
		if storage.count("Delete") != 0 {
			t.Error("something was deleted")
		}
		refreshed(restarted)
		wantKnown(t, restarted, 1, 3)
	})
}

// A segment that cannot be removed is tried again, and told.
func TestRevocationsTidyFails(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		backend := newExpiringBackend()
		r := following(backend)
		told := watch(r)
		until := time.Now().Add(time.Minute)
		mustAdd(t, r, numbered(0, until))
		data, err := backend.Load(t.Context(), "revoked/2000-01-01/00.0")
		if err != nil {
			t.Fatal(err)
		}
		backend.put("revoked/2000-01-01/00.0", data, time.Now().AddDate(1, 0, 0)) // as a backend that knows no expiry
		backend.fail(errDown, "Delete")
		for range 8 {
			refreshed(r)
			time.Sleep(time.Hour)
		}
		if told.count(errDown) < 2 || len(backend.keys()) != 1 {
			t.Errorf("told %v", told)
		}
		backend.setBefore(nil)
		for range 2 {
			refreshed(r)
			time.Sleep(time.Hour)
		}
		if keys := backend.keys(); len(keys) != 0 {
			t.Error(keys)
		}
	})
}

// The sweep of Caddy's storage leaves the days of revocations for as long as a session may live.
func TestRevocationsSweepOfDays(t *testing.T) {
	t.Parallel()
	storage := newMemoryStorage()
	now := testNow()
	backend := NewCaddyBackend(storage, func() time.Time { return now }, zap.NewNop())
	segment := segment{hourOf(now), 0}.key()
	other := "sessions/" + now.Format(time.DateOnly) + "/x"
	for _, key := range []string{segment, other} {
		if err := backend.Store(t.Context(), key, []byte("x"), now); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		days           int
		segment, other bool
	}{{0, true, true}, {2, true, false}, {400, true, false}, {401, true, false}, {403, false, false}} {
		now = testNow().AddDate(0, 0, step.days)
		if err := backend.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if storage.Exists(t.Context(), caddyPrefix+segment) != step.segment || storage.Exists(t.Context(), caddyPrefix+other) != step.other {
			t.Errorf("wrong after %d days", step.days)
		}
	}
}

// Segments of one hour lead to each other also where what is in the first does not live for long, on backends that forget by themselves.
func TestRevocationsShortLives(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		backend := newExpiringBackend()
		writer, reader := following(backend), following(backend)
		refreshed(reader)
		mustAdd(t, writer, numberedList(0, 1000, time.Now().Add(time.Minute))...)
		mustAdd(t, writer, numberedList(1000, 1100, time.Now().Add(10*time.Hour))...)
		time.Sleep(50 * time.Minute)
		refreshed(reader)
		wantKnown(t, reader, 1000, 1100)
		for _, idle := range []time.Duration{70 * time.Minute, 150 * time.Minute, 5 * time.Hour} {
			late := following(backend)
			refreshed(late)
			from := 2000 + int(idle/time.Minute)*1000
			mustAdd(t, writer, numberedList(from, from+1000, time.Now().Add(time.Minute))...)
			mustAdd(t, writer, numbered(from+1000, time.Now().Add(10*time.Hour)))
			time.Sleep(idle)
			refreshed(late)
			wantKnown(t, late, from+1000, from+1001)
		}
		time.Sleep(20 * time.Hour)
		if keys := backend.keys(); len(keys) != 0 {
			t.Error("left:", keys)
		}
	})
}
