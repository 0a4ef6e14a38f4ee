package redis

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestValues(t *testing.T) {
	t.Parallel()
	s := newStore(t, at(t, shared))
	ctx := t.Context()
	value := []byte("sealed\x00\r\n\xff")

	if _, err := s.Load(ctx, "a/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a value that nobody stored: %v", err)
	}
	if err := s.Store(ctx, "a/b", value, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Load(ctx, "a/b"); err != nil || !slices.Equal(got, value) {
		t.Fatalf("got %q, %v", got, err)
	}
	if _, err := s.Load(ctx, "a/c"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another key: %v", err)
	}

	raw := shared.client(t)
	if got, err := raw.Get(ctx, t.Name()+":a/b").Result(); err != nil || got != string(value) {
		t.Errorf("Redis has %q, %v under the prefix and the key", got, err)
	}
	if left, err := raw.PTTL(ctx, t.Name()+":a/b").Result(); err != nil || left > time.Minute || left < 50*time.Second {
		t.Errorf("Redis keeps the value for %v, %v", left, err)
	}

	for range 2 { // the second time there is none
		if err := s.Delete(ctx, "a/b"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Load(ctx, "a/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a deleted value: %v", err)
	}
}

func TestValuesExpire(t *testing.T) {
	t.Parallel()
	s := newStore(t, at(t, shared))
	ctx := t.Context()
	expires := time.Now().Add(300 * time.Millisecond)
	if err := s.Store(ctx, "short", []byte("value"), expires); err != nil {
		t.Fatal(err)
	}
	var err error
	eventually(time.Minute, func() bool { _, err = s.Load(ctx, "short"); return err != nil })
	if !errors.Is(err, fs.ErrNotExist) || time.Now().Before(expires) {
		t.Errorf("%v before its end: %v", time.Until(expires), err)
	}

	if err := s.Store(ctx, "ended", []byte("value"), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := s.Store(ctx, "ended", []byte("newer"), time.Now().Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Load(ctx, "ended"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a value that was stored when it had expired: %q, %v", got, err)
	}
}

func TestSets(t *testing.T) {
	t.Parallel()
	s := newStore(t, at(t, shared))
	ctx := t.Context()
	want := func(members ...string) {
		t.Helper()
		got, err := s.Members(ctx, "set")
		if slices.Sort(got); err != nil || !slices.Equal(got, members) {
			t.Errorf("members %q, %v, want %q", got, err, members)
		}
	}
	add := func(member string, left time.Duration) {
		t.Helper()
		if err := s.Add(ctx, "set", member, time.Now().Add(left)); err != nil {
			t.Fatal(err)
		}
	}

	want()
	add("long", time.Hour)
	add("longer", 2*time.Hour)
	add("short", 3*time.Second)
	want("long", "longer", "short")
	if left := shared.client(t).PTTL(ctx, t.Name()+":set:set").Val(); left > 2*time.Hour+time.Second || left < 2*time.Hour-time.Minute {
		t.Errorf("the set is kept for %v, not as long as its last member", left)
	}

	if !eventually(time.Minute, func() bool { got, err := s.Members(ctx, "set"); return err == nil && len(got) == 2 }) {
		t.Error("an expired member is still there")
	}
	want("long", "longer")
	add("new", time.Hour)
	if count := shared.client(t).ZCard(ctx, t.Name()+":set:set").Val(); count != 3 {
		t.Errorf("Redis has %d members, with those that have expired", count)
	}

	add("new", -time.Second)
	want("long", "longer")
	for range 2 {
		if err := s.Remove(ctx, "set", "longer"); err != nil {
			t.Fatal(err)
		}
	}
	want("long")

	// values, sets and locks of the same name are different things
	if err := s.Store(ctx, "set", []byte("value"), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	unlock, err := s.Lock(ctx, "set")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	want("long")
}

func TestSetsEndWithTheirLastMember(t *testing.T) {
	t.Parallel()
	s := newStore(t, at(t, shared))
	if err := s.Add(t.Context(), "set", "member", time.Now().Add(3*time.Second)); err != nil {
		t.Fatal(err)
	}
	raw := shared.client(t)
	if exists := raw.Exists(t.Context(), t.Name()+":set:set").Val(); exists != 1 {
		t.Fatal("there is no set")
	}
	if !eventually(time.Minute, func() bool { return raw.Exists(t.Context(), t.Name()+":set:set").Val() == 0 }) {
		t.Error("an empty set stays for ever")
	}
}

func TestPlacesAreSeparate(t *testing.T) {
	t.Parallel()
	one := newStore(t, at(t, shared))
	if err := one.Store(t.Context(), "key", []byte("value"), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := newStore(t, at(t, shared)).Load(t.Context(), "key"); err != nil {
		t.Errorf("another instance: %v", err)
	}
	for name, other := range map[string]settings{
		"prefix":   {"prefix": "another"},
		"database": {"database": 7},
	} {
		if _, err := newStore(t, at(t, shared).with(other)).Load(t.Context(), "key"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	for name, place := range map[string]settings{
		"host":    {"host": "unix/" + shared.socket},
		"address": {"address": "unix/" + shared.socket},
	} {
		s := newStore(t, place.with(settings{"prefix": t.Name() + name}))
		if err := s.Store(t.Context(), "key", []byte("value"), time.Now().Add(time.Minute)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// leastRights are the commands that the README asks for.
const leastRights = "resetkeys ~sessions:* nocommands " +
	"+get +getrange +set +unlink +del +pexpire +eval +evalsha +zadd +zrem +zrange +zrangebyscore +zremrangebyscore"

// user makes a user and bars the one without a name.
func (s *redisServer) user(t *testing.T, rules string) {
	t.Helper()
	for _, rules := range []string{rules, "default off"} {
		words := []any{"ACL", "SETUSER"}
		for word := range strings.FieldsSeq(rules) {
			words = append(words, word)
		}
		if err := s.client(t).Do(t.Context(), words...).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// exercise does one of everything.
func exercise(ctx context.Context, s *Store) error {
	ends := time.Now().Add(time.Minute)
	if err := s.Store(ctx, "key", []byte("value"), ends); err != nil {
		return err
	}
	if _, err := s.Load(ctx, "key"); err != nil {
		return err
	}
	unlock, err := s.Lock(ctx, "key")
	if err != nil {
		return err
	}
	unlock()
	again, err := s.Lock(ctx, "key")
	if err != nil {
		return err
	}
	again()
	if err := s.Add(ctx, "key", "member", ends); err != nil {
		return err
	}
	if members, err := s.Members(ctx, "key"); err != nil || len(members) != 1 {
		return errors.Join(errors.New("members: "+strings.Join(members, " ")), err)
	}
	return errors.Join(s.Remove(ctx, "key", "member"), s.Delete(ctx, "key"))
}

func TestLeastRights(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	server.user(t, "gateway on >s3cret{7} "+leastRights)
	gateway := patient(settings{"port": server.port, "username": "gateway", "password": `s3cret\{7}`})
	s := newStore(t, gateway)
	s.lease.extend = 10 * time.Millisecond
	if err := exercise(within(t, time.Minute), s); err != nil {
		t.Fatalf("with the rights that the README asks for: %v", err)
	}
	err := newStore(t, gateway.with(settings{"prefix": "other"})).Delete(t.Context(), "key")
	if err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("another prefix: %v", err)
	}

	for name, wrong := range map[string]settings{
		"password": {"password": "s3cret-wrong"},
		"user":     {"username": "nobody"},
		"no user":  {"username": "default"},
		"database": {"database": 3}, // SELECT is not among the rights
	} {
		config := gateway.with(wrong)
		_, err := newStore(t, config).Load(t.Context(), "key")
		if err == nil || errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("wrong %s: %v", name, err)
		}
	}
}

func TestOldServersRepeatWhatTheyDoNotKnow(t *testing.T) {
	t.Parallel()
	s := newStore(t, at(t, shared))
	unknown := errors.New("ERR unknown command `AUTH`, with args beginning with: `gateway`, `s3cret`, ")
	if got := s.failure(t.Context(), unknown).Error(); got != "redis: ERR unknown command `AUTH`" {
		t.Errorf("got %q", got)
	}
}
