package cluster

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestStorageUnreachable takes Caddy's storage away from under cookie sessions that are coordinated through it. Each process goes on alone.
func TestStorageUnreachable(t *testing.T) {
	t.Parallel()
	c := newCluster(t, shared(1, inCookies("refresh_coordination storage"))...)
	c.tolerate = []string{"Keeping lock file fresh"} // CertMagic's own complaint
	client := c.signIn(t, "alice")
	until(t, "a renewal, and the end of its lock", 10*time.Second, func() bool {
		c.expectFetch(t, client, 200)
		stored, _ := filepath.Glob(filepath.Join(c.storage, "openid_connect", "renewals", "*", "*"))
		locks, _ := filepath.Glob(filepath.Join(c.storage, "locks", "openid_connect*"))
		return c.provider.RefreshGrants() > 0 && len(stored) > 0 && len(locks) == 0
	})
	before := c.provider.RefreshGrants()

	repairs := []func(){replaceByFile(t, filepath.Join(c.storage, "locks")), replaceByFile(t, filepath.Join(c.storage, "openid_connect"))}
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

	for _, repair := range repairs {
		repair()
	}
	before = c.provider.RefreshGrants()
	until(t, "a renewal with the storage again", 10*time.Second, func() bool {
		c.expectFetch(t, client, 200)
		return c.provider.RefreshGrants() > before
	})
	c.expectNoReuse(t)
}

// replaceByFile puts a file where a directory is, which is what not even root can use, and returns what puts the directory back.
func replaceByFile(t *testing.T, directory string) (repair func()) {
	t.Helper()
	aside := directory + ".aside"
	if err := os.Rename(directory, aside); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(directory, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(directory); err != nil {
			t.Error(err)
		}
		if err := os.Rename(aside, directory); err != nil {
			t.Error(err)
		}
	}
}
