package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestStorageUnreachable takes Caddy's storage away from under cookie sessions that are coordinated through it. Each process goes on alone.
func TestStorageUnreachable(t *testing.T) {
	t.Parallel()
	c := newCluster(t, shared(1, inCookies("refresh_coordination storage"))...)
	client := c.signIn(t, "alice")
	until(t, "a renewal, and the end of its lock", 10*time.Second, func() bool {
		c.expectFetch(t, client, 200)
		stored, _ := filepath.Glob(filepath.Join(c.storage, "openid_connect", "renewals", "*", "*"))
		locks, _ := filepath.Glob(filepath.Join(c.storage, "locks", "openid_connect*"))
		return c.provider.RefreshGrants() > 0 && len(stored) > 0 && len(locks) == 0
	})
	before := c.provider.RefreshGrants()

	giveBack := takeStorage(t, c.storage)
	s := &storm{duration: 8 * time.Second, clients: fewClients, stuck: fewClients / 4, limit: 5 * time.Second}
	s.run(t, client, "alice")
	s.expectCalm(t, c, before)
	warned := 0
	for _, n := range c.warnings("as the storage fails") {
		warned += n
	}
	if warned != 1 {
		t.Errorf("%d warnings of the storage, want one: %v", warned, c.warnings(""))
	}

	giveBack()
	before = c.provider.RefreshGrants()
	until(t, "a renewal with the storage again", 10*time.Second, func() bool {
		c.expectFetch(t, client, 200)
		return c.provider.RefreshGrants() > before
	})
	c.expectNoReuse(t)
}

// newStorage makes a directory for Caddy's storage behind a symbolic link. That can be taken away and given back in one step each, between
// which a gateway that tries all the time would make a directory of its own.
func newStorage(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path+".files", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path+".files", path); err != nil {
		t.Fatal(err)
	}
}

// takeStorage puts a file where a storage is, which is what not even root can use, and returns what gives it back.
func takeStorage(t *testing.T, path string) (giveBack func()) {
	t.Helper()
	replace := func(make func(path string) error) {
		t.Helper()
		if err := errors.Join(make(path+".next"), os.Rename(path+".next", path)); err != nil {
			t.Error(err)
		}
	}
	replace(func(path string) error { return os.WriteFile(path, nil, 0o600) })
	return func() {
		replace(func(next string) error { return os.Symlink(path+".files", next) })
	}
}
