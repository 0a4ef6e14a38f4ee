package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
)

var testEnd = testNow().Add(24 * time.Hour)

// liveRenewal is one of which nothing is past.
func liveRenewal() *Renewal {
	r := fullRenewal()
	r.Ended, r.Over = false, false
	return r
}

func TestRenewals(t *testing.T) {
	t.Parallel()
	for name, storage := range map[string]certmagic.Storage{
		"folder": &certmagic.FileStorage{Path: t.TempDir()}, "memory": newMemoryStorage(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			renewals := NewRenewals(testBackend(storage), testNow)
			id, other := NewID(), NewID()
			known := func(id [16]byte, want *Renewal) {
				t.Helper()
				// as another instance sees it
				if got, err := NewRenewals(testBackend(storage), testNow).Load(ctx, id, testEnd); err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("%+v, %v; want %+v", got, err, want)
				}
			}
			known(id, nil)
			if err := errors.Join(renewals.Save(ctx, id, testEnd, liveRenewal()), renewals.Save(ctx, other, testEnd, &Renewal{Generation: 1})); err != nil {
				t.Fatal(err)
			}
			known(id, liveRenewal())
			known(other, &Renewal{Generation: 1})
			if err := renewals.Save(ctx, id, testEnd, &Renewal{Generation: 8, Ended: true}); err != nil {
				t.Fatal(err)
			}
			known(id, &Renewal{Generation: 8, Ended: true})
			known(other, &Renewal{Generation: 1})
		})
	}
}

// A later entry does not take away what bearers of older generations were granted, and an earlier one changes nothing.
func TestRenewalsFollow(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	in := func(seconds int) time.Time { return testNow().Add(time.Duration(seconds) * time.Second).UTC() }
	first := &Renewal{Generation: 7, Sealed: "seven", Until: in(20), Replaced: []Replaced{{6, in(20)}, {5, in(10)}}}
	for name, test := range map[string]struct {
		next, want *Renewal
		err        error
	}{
		"a later one": {
			&Renewal{Generation: 8, Sealed: "eight", Until: in(30), Replaced: []Replaced{{7, in(30)}, {6, in(99)}}},
			&Renewal{Generation: 8, Sealed: "eight", Until: in(30), Replaced: []Replaced{{7, in(30)}, {6, in(20)}, {5, in(10)}}}, nil,
		},
		"a later one, kept on the server": {
			&Renewal{Generation: 8}, &Renewal{Generation: 8, Replaced: []Replaced{{6, in(20)}, {5, in(10)}}}, nil,
		},
		"a failure": {
			&Renewal{Generation: 7, Failures: 1, RetryAt: in(5)},
			&Renewal{Generation: 7, Sealed: "seven", Until: in(20), Replaced: first.Replaced, Failures: 1, RetryAt: in(5)}, nil,
		},
		"another result": {
			&Renewal{Generation: 7, Sealed: "again", Until: in(25)},
			&Renewal{Generation: 7, Sealed: "again", Until: in(25), Replaced: first.Replaced}, nil,
		},
		"the end":     {&Renewal{Generation: 7, Ended: true}, &Renewal{Generation: 7, Ended: true}, nil},
		"a late one":  {&Renewal{Generation: 6, Sealed: "six", Until: in(99)}, first, ErrSuperseded},
		"a late end":  {&Renewal{Generation: 6, Ended: true}, first, ErrSuperseded},
		"a late fail": {&Renewal{Generation: 6, Failures: 1, RetryAt: in(5)}, first, ErrSuperseded},
	} {
		renewals := NewRenewals(testBackend(newMemoryStorage()), testNow)
		id := NewID()
		if err := renewals.Save(ctx, id, testEnd, first); err != nil {
			t.Fatal(err)
		}
		if err := renewals.Save(ctx, id, testEnd, test.next); !errors.Is(err, test.err) {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := renewals.Load(ctx, id, testEnd); err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}

	// without a cookie there is none to keep
	onServer := &Renewal{Generation: 7, Until: in(10)}
	if got := (&Renewal{Generation: 7, Until: in(20)}).following(onServer); !got.Until.Equal(in(20)) {
		t.Errorf("%+v", got)
	}
}

// What has ended stays so, also when no more is known of it, until somebody has renewed it after all.
func TestRenewalsEnded(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	storage := newMemoryStorage()
	renewals := NewRenewals(testBackend(storage), testNow)
	id := NewID()
	everything, _, err := entries(id, testEnd)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		next  Renewal
		ended bool
	}{
		{Renewal{Generation: 7, Sealed: "seven", Until: testEnd}, false},
		{Renewal{Generation: 7, Ended: true}, true},
		{Renewal{Generation: 7, Failures: 1, RetryAt: testEnd}, true},
		{Renewal{Generation: 8}, false},
	} {
		if err := renewals.Save(ctx, id, testEnd, &step.next); err != nil {
			t.Fatal(err)
		}
		kept := storage.get(caddyPrefix + everything.key)
		for _, forgotten := range []bool{false, true} {
			if forgotten {
				storage.set(caddyPrefix+everything.key, "")
			}
			if got, err := renewals.Load(ctx, id, testEnd); err != nil || got.Ended != step.ended || got.Generation != step.next.Generation {
				t.Errorf("%+v after %+v, %v", got, step.next, err)
			}
		}
		storage.set(caddyPrefix+everything.key, kept)
		// the cookie of what has ended is not only unread, it is gone
		wire, ok := openRecord(everything.aead, []byte(kept), everything.data)
		if !ok || strings.Contains(string(wire), "seven") == (step.ended || step.next.Generation > 7) {
			t.Errorf("%q is kept after %+v", wire, step.next)
		}
	}
}

func TestRecordSize(t *testing.T) {
	t.Parallel()
	everything, _, err := entries(NewID(), testEnd)
	if err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int]bool{0: true, maxWire: true, maxWire + 1: false} {
		if wire, ok := openRecord(everything.aead, sealRecord(everything.aead, make([]byte, size), nil), nil); ok != want || ok && len(wire) != size {
			t.Errorf("%d bytes: %v", size, ok)
		}
	}
}

// Deadlines hold without a backend that knows expiry, and with one: of what has expired, the spent generation is left.
func TestRenewalsExpire(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	now := testNow()
	storage := newMemoryStorage()
	backend := &recordingBackend{CaddyBackend: testBackend(storage), expires: make(map[string]time.Time)}
	renewals := NewRenewals(backend, func() time.Time { return now })
	id := NewID()
	live := liveRenewal()
	live.Asked = time.Time{}
	if err := renewals.Save(ctx, id, testEnd, live); err != nil {
		t.Fatal(err)
	}
	name := testEnd.UTC().Format(time.DateOnly) + "/" + renewalName(id)
	if got := backend.expires["renewals/"+name]; !got.Equal(liveRenewal().Until.Add(time.Minute)) {
		t.Error(got)
	}
	if got := backend.expires["spent/"+name]; !got.Equal(testEnd) {
		t.Error(got)
	}
	now = liveRenewal().Until.Add(-time.Millisecond)
	if got, err := renewals.Load(ctx, id, testEnd); err != nil || got.Sealed == "" || got.Replaced != nil || got.Failures != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	now = now.Add(time.Millisecond)
	spent := &Renewal{Generation: 7}
	for _, gone := range []bool{false, true} {
		if gone {
			if err := backend.Delete(ctx, "renewals/"+name); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := renewals.Load(ctx, id, testEnd); err != nil || !reflect.DeepEqual(got, spent) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if err := renewals.Save(ctx, id, testEnd, &Renewal{Generation: 6}); !errors.Is(err, ErrSuperseded) {
		t.Error("a spent generation is back:", err)
	}
}

type recordingBackend struct {
	*CaddyBackend
	expires map[string]time.Time
}

func (b *recordingBackend) Store(ctx context.Context, key string, value []byte, expires time.Time) error {
	b.expires[key] = expires
	return b.CaddyBackend.Store(ctx, key, value, expires)
}

// The backend learns nothing, and what somebody made up or put elsewhere there is as if it were not there.
func TestRenewalsUntrusted(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	storage := newMemoryStorage()
	renewals := NewRenewals(testBackend(storage), testNow)
	id, other, later := NewID(), NewID(), testEnd.AddDate(0, 0, 1)
	err := errors.Join(renewals.Save(ctx, id, testEnd, liveRenewal()), renewals.Save(ctx, other, testEnd, liveRenewal()),
		renewals.Save(ctx, id, later, liveRenewal()))
	if err != nil {
		t.Fatal(err)
	}
	key := func(folder string, id [16]byte, end time.Time) string {
		return caddyPrefix + folder + "/" + end.UTC().Format(time.DateOnly) + "/" + renewalName(id)
	}
	everything, spent := key("renewals", id, testEnd), key("spent", id, testEnd)
	good, remembered := storage.get(everything), storage.get(spent)
	for _, secret := range []string{"sealed cookie", string(id[:]), fmt.Sprintf("%x", id)} {
		if strings.Contains(good+remembered+everything+spent, secret) {
			t.Errorf("the backend has %q", secret)
		}
	}
	if everything == caddyPrefix+folderRenewals+"/"+recordKey("x", (&Reference{ID: id}).recordName()) || renewalName(id) == (&Reference{ID: id}).recordName() {
		t.Error("the entries lead to the session's record")
	}
	load := func() *Renewal {
		t.Helper()
		got, err := renewals.Load(ctx, id, testEnd)
		if err != nil {
			t.Error(err)
		}
		return got
	}
	if got := load(); !reflect.DeepEqual(got, liveRenewal()) {
		t.Fatalf("%+v", got)
	}
	made := []string{"", "x", remembered, storage.get(key("renewals", other, testEnd)), storage.get(key("renewals", id, later)), strings.Repeat("\x01", maxRecord+1)}
	for i := range 8 * len(good) {
		changed := []byte(good)
		changed[i/8] ^= 1 << (i % 8)
		made = append(made, string(changed))
	}
	for n := range good {
		made = append(made, good[:n])
	}
	for _, value := range made {
		storage.set(everything, value)
		if got := load(); !reflect.DeepEqual(got, &Renewal{Generation: 7}) {
			t.Errorf("%q: %+v", value, got)
		}
	}
	for _, value := range []string{"", good, storage.get(key("spent", other, testEnd)), storage.get(key("spent", id, later))} {
		storage.set(everything, "")
		storage.set(spent, value)
		if got := load(); got != nil {
			t.Errorf("%q: %+v", value, got)
		}
	}
	// and it does not stay in the way
	if err := renewals.Save(ctx, id, testEnd, liveRenewal()); err != nil {
		t.Error(err)
	}
	if got := load(); !reflect.DeepEqual(got, liveRenewal()) {
		t.Errorf("%+v", got)
	}
}

func TestRenewalsFailing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		id := NewID()
		storage := newMemoryStorage()
		renewals := NewRenewals(testBackend(storage), testNow)
		operations := map[string]func() error{
			"load": func() error { _, err := renewals.Load(ctx, id, testEnd); return err },
			"save": func() error { return renewals.Save(ctx, id, testEnd, liveRenewal()) },
		}
		for _, entry := range []string{"renewals/", "spent/"} {
			for _, failing := range []string{"Load", "Store"} {
				storage.setBefore(func(_ context.Context, call, key string) error {
					if call == failing && strings.Contains(key, entry) {
						return errStorage
					}
					return nil
				})
				for name, operation := range operations {
					err := operation()
					fails := name == strings.ToLower(failing) || name == "save"
					if fails != errors.Is(err, errStorage) || errors.Is(err, fs.ErrNotExist) || !fails && err != nil {
						t.Errorf("%s when %s of %s fails: %v", name, failing, entry, err)
					}
				}
			}
		}
		delete(operations, "delete") // of two entries
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
		storage.setBefore(nil)
		large := &Renewal{Generation: 8, Sealed: strings.Repeat("x", maxWire), Until: testEnd}
		if err := renewals.Save(ctx, id, testEnd, large); !errors.Is(err, ErrTooLarge) {
			t.Error(err)
		}
	})
}

// Whoever dies between the two writes has told the others what they need.
func TestRenewalsCutOff(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	storage := newMemoryStorage()
	renewals := NewRenewals(testBackend(storage), testNow)
	id := NewID()
	if err := renewals.Save(ctx, id, testEnd, &Renewal{Generation: 6}); err != nil {
		t.Fatal(err)
	}
	writes := 0
	storage.setBefore(func(_ context.Context, call, _ string) error {
		if call == "Store" {
			if writes++; writes > 1 {
				return errStorage
			}
		}
		return nil
	})
	if err := renewals.Save(ctx, id, testEnd, liveRenewal()); !errors.Is(err, errStorage) {
		t.Fatal(err)
	}
	if got, err := renewals.Load(ctx, id, testEnd); err != nil || !reflect.DeepEqual(got, liveRenewal()) {
		t.Errorf("%+v, %v", got, err)
	}
}

// Each session has a lock for each of its generations.
func TestRenewalsLock(t *testing.T) {
	t.Parallel()
	storage := newMemoryStorage()
	renewals := NewRenewals(testBackend(storage), testNow)
	id := NewID()
	var unlocks []func()
	for _, lock := range []struct {
		id         [16]byte
		generation uint64
	}{{id, 7}, {id, 8}, {NewID(), 7}} {
		unlock, err := renewals.Lock(t.Context(), lock.id, lock.generation)
		if err != nil {
			t.Fatal(err)
		}
		unlocks = append(unlocks, unlock)
	}
	ctx, cancel := context.WithCancel(t.Context())
	storage.setBefore(func(context.Context, string, string) error { cancel(); return nil })
	if _, err := renewals.Lock(ctx, id, 7); !errors.Is(err, context.Canceled) {
		t.Error("it is held twice:", err)
	}
	storage.setBefore(nil)
	for _, unlock := range unlocks {
		unlock()
	}
	unlock, err := renewals.Lock(t.Context(), id, 7)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if _, ok := storage.locks["openid_connect/locks/"+renewalName(id)+".7"]; !ok {
		t.Errorf("%v", storage.locks)
	}
}
