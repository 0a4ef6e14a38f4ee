package session

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// storedLogin is a session in a store.
type storedLogin struct {
	ref  *Reference
	sess *Session
}

func newLogin(t *testing.T, store *Store, owner Owner, sub, sid string, issued int64) storedLogin {
	t.Helper()
	l := storedLogin{testReference(testNow().Add(30 * time.Hour)), fullSession()}
	l.sess.Subject, l.sess.SID, l.sess.IDTokenIssued = sub, sid, time.Unix(issued, 0)
	if err := store.Create(t.Context(), owner, l.ref, l.sess); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l storedLogin) alive(t *testing.T, store *Store) bool {
	t.Helper()
	_, err := store.Load(t.Context(), l.ref)
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	return err == nil
}

// A logout ends the sessions that it names, and no others.
func TestStoreEnd(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	other := Owner{testOwner.Issuer, "other"}
	end := map[string]func(*Store) (int, error){
		"sid":          func(s *Store) (int, error) { return s.EndBySID(ctx, testOwner, "s1") },
		"unknown sid":  func(s *Store) (int, error) { return s.EndBySID(ctx, testOwner, "alice") },
		"no sid":       func(s *Store) (int, error) { return s.EndBySID(ctx, testOwner, "") },
		"other client": func(s *Store) (int, error) { return s.EndBySID(ctx, other, "s1") },
		"subject":      func(s *Store) (int, error) { return s.EndBySubject(ctx, testOwner, "alice", time.Unix(100, 999)) },
		"earlier":      func(s *Store) (int, error) { return s.EndBySubject(ctx, testOwner, "alice", time.Unix(99, 0)) },
		"much later":   func(s *Store) (int, error) { return s.EndBySubject(ctx, testOwner, "alice", time.Unix(1000, 0)) },
		"no subject":   func(s *Store) (int, error) { return s.EndBySubject(ctx, testOwner, "", time.Unix(1000, 0)) },
	}
	for name, want := range map[string][]string{
		"sid": {"s1 a", "s1 b"}, "unknown sid": nil, "no sid": nil, "other client": {"other client"},
		"subject": {"s1 a"}, "earlier": nil, "much later": {"s1 a", "no sid"}, "no subject": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := NewStore(testBackend(newMemoryStorage()), testNow)
			logins := map[string]storedLogin{
				"s1 a":         newLogin(t, store, testOwner, "alice", "s1", 100),
				"s1 b":         newLogin(t, store, testOwner, "bob", "s1", 100),
				"no sid":       newLogin(t, store, testOwner, "alice", "", 101),
				"other client": newLogin(t, store, other, "alice", "s1", 100),
			}
			for login, l := range logins {
				if !l.alive(t, store) {
					t.Fatalf("%s was not created", login)
				}
			}
			ended, err := end[name](store)
			if err != nil || ended != len(want) {
				t.Errorf("%d ended, %v", ended, err)
			}
			for login, l := range logins {
				if gone := slices.Contains(want, login); l.alive(t, store) == gone {
					t.Errorf("%s is alive: %v", login, !gone)
				}
			}
			if again, err := end[name](store); err != nil || again != 0 {
				t.Errorf("once more: %d, %v", again, err)
			}
		})
	}
}

// A session whose ID token has no time is ended by every logout of its user.
func TestStoreEndWithoutTime(t *testing.T) {
	t.Parallel()
	store := NewStore(testBackend(newMemoryStorage()), testNow)
	ref, sess := testReference(testNow().Add(time.Hour)), &Session{Subject: "alice"}
	if err := store.Create(t.Context(), testOwner, ref, sess); err != nil {
		t.Fatal(err)
	}
	if ended, err := store.EndBySubject(t.Context(), testOwner, "alice", time.Unix(1, 0)); err != nil || ended != 1 {
		t.Errorf("%d, %v", ended, err)
	}
}

// Whoever reads the index learns nothing, and finds nothing in the sets of a session that was deleted.
func TestStoreIndexEntries(t *testing.T) {
	t.Parallel()
	storage := newMemoryStorage()
	store := NewStore(testBackend(storage), testNow)
	l := newLogin(t, store, testOwner, "alice@example.com", "sid-1", 100)
	keys, err := storage.List(t.Context(), "openid_connect", true)
	if err != nil || len(keys) != 3 {
		t.Fatalf("%q, %v", keys, err)
	}
	for _, secret := range []string{"alice", "sid-1", testOwner.Issuer, string(l.ref.ID[:])} {
		for _, key := range keys {
			if strings.Contains(key+storage.get(key), secret) {
				t.Errorf("%s is readable in %s", secret, key)
			}
		}
	}
	for _, pair := range [][2]string{
		{testOwner.hash("a"), Owner{testOwner.Issuer + testOwner.ClientID, ""}.hash("a")},
		{testOwner.hash("a"), Owner{testOwner.Issuer, testOwner.ClientID + "a"}.hash("")},
		{testOwner.sidSet("a"), testOwner.subjectSet("a")},
	} {
		if pair[0] == pair[1] {
			t.Error("two sets have one name")
		}
	}
	if err := store.Delete(t.Context(), testOwner, l.ref, l.sess); err != nil {
		t.Fatal(err)
	}
	if keys, _ := storage.List(t.Context(), "openid_connect", true); len(keys) != 0 {
		t.Errorf("left: %q", keys)
	}
}

// There is no session that no logout finds.
func TestStoreCreateFails(t *testing.T) {
	t.Parallel()
	for _, failing := range []string{"index/2027-01-16/sid", "index/2027-01-16/sub", "sessions/"} {
		storage := newMemoryStorage()
		store := NewStore(testBackend(storage), testNow)
		storage.setBefore(func(_ context.Context, call, key string) error {
			if call == "Store" && strings.HasPrefix(key, caddyPrefix+failing) {
				return errStorage
			}
			return nil
		})
		ref := testReference(testNow().Add(30 * time.Hour))
		if err := store.Create(t.Context(), testOwner, ref, fullSession()); !errors.Is(err, errStorage) {
			t.Errorf("%s: %v", failing, err)
		}
		if len(storage.values) != 0 {
			t.Errorf("%s: left %v", failing, storage.values)
		}
	}
}

// One session that cannot be deleted does not save the others, and is not forgotten.
func TestStoreEndFails(t *testing.T) {
	t.Parallel()
	storage := newMemoryStorage()
	store := NewStore(testBackend(storage), testNow)
	stuck, other := newLogin(t, store, testOwner, "alice", "s1", 100), newLogin(t, store, testOwner, "alice", "s1", 100)
	storage.setBefore(func(_ context.Context, call, key string) error {
		if call == "Delete" && key == stored(stuck.ref) {
			return errStorage
		}
		return nil
	})
	if ended, err := store.EndBySID(t.Context(), testOwner, "s1"); ended != 1 || !errors.Is(err, errStorage) {
		t.Errorf("%d, %v", ended, err)
	}
	if other.alive(t, store) || !stuck.alive(t, store) {
		t.Error("the wrong one is alive")
	}
	// not even where the local logout fails
	if err := store.Delete(t.Context(), testOwner, stuck.ref, stuck.sess); !errors.Is(err, errStorage) {
		t.Error(err)
	}
	storage.setBefore(nil)
	if ended, err := store.EndBySID(t.Context(), testOwner, "s1"); ended != 1 || err != nil {
		t.Errorf("%d, %v", ended, err)
	}
}

// Members that were not written by this module lead nowhere.
func TestParseMember(t *testing.T) {
	t.Parallel()
	good := indexMember(fullReference(), fullSession())
	if key, issued, ok := parseMember(good); !ok || key != fullReference().recordKey() || issued != 1_799_999_999 {
		t.Errorf("%q: %q, %d, %v", good, key, issued, ok)
	}
	for _, member := range []string{
		"", "123456789", "2027-01-16", good + "0.", good + ".1", strings.Replace(good, "2027-01-16", "2027-13-16", 1), strings.ToUpper(good) + "x",
		strings.Replace(good, ".1799", ".+1799", 1), strings.Replace(good, ".1799", ".01799", 1), "2027-01-16.." + strings.Repeat("/", 63) + ".1",
		"2027-01-16." + strings.Repeat("g", 64) + ".1", "2027-01-16." + strings.Repeat("a", 63) + ".1", good + "99999999999999",
	} {
		if key, _, ok := parseMember(member); ok {
			t.Errorf("%q names %q", member, key)
		}
	}
}
