package session

import (
	"errors"
	"testing"
	"time"
)

// A full list forgets what ends first, more or less, and says so.
func TestRevocationsBound(t *testing.T) {
	t.Parallel()
	now := testNow()
	r := NewRevocations(RevocationsConfig{})
	r.limit = 1000
	told := watch(r)
	short, long := now.Add(time.Hour), now.Add(48*time.Hour)
	add := func(list []Revocation) {
		t.Helper()
		if err := r.Add(t.Context(), now, list...); err != nil {
			t.Fatal(err)
		}
	}
	known := func(from, to int) (count int) {
		for n := from; n < to; n++ {
			if r.Touches(Owner{}, &Session{ID: numberedID(n)}, now) {
				count++
			}
		}
		return count
	}
	add(numberedList(0, 500, short))
	add(numberedList(500, 1000, long))
	if told.count(ErrRevocationsFull) != 0 || known(0, 1000) != 1000 {
		t.Fatal("full too early:", known(0, 1000))
	}
	add(numberedList(1000, 1300, long))
	if r.Len() != 1000 || told.count(ErrRevocationsFull) != 1 {
		t.Errorf("%d entries, told %d times", r.Len(), told.count(ErrRevocationsFull))
	}
	if n := known(500, 1300); n < 740 { // by chance it would be some 600
		t.Errorf("%d of the 800 that end late are left", n)
	}
	// what is over makes room before anything else, though it was looked for not an hour ago
	now = now.Add(110 * time.Minute)
	add([]Revocation{numbered(1300, long)})
	before := told.count(ErrRevocationsFull)
	now = now.Add(15 * time.Minute)
	add(numberedList(1301, 1400, long))
	if n := known(1300, 1400); n != 100 || told.count(ErrRevocationsFull) != before {
		t.Errorf("%d of 100 are known, told %d times, then %d times", n, before, told.count(ErrRevocationsFull))
	}
	add([]Revocation{numbered(1300, long.Add(time.Hour))})
	if told.count(ErrRevocationsFull) != before {
		t.Error("what is known already needs no room")
	}
}

// What is over goes, and a clock that was wrong for a moment does no harm.
func TestRevocationsSweep(t *testing.T) {
	t.Parallel()
	now := testNow()
	r := NewRevocations(RevocationsConfig{})
	add := func(n int, until time.Time) {
		t.Helper()
		if err := r.Add(t.Context(), now, numbered(n, until)); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 100 {
		add(n, now.Add(time.Duration(n+1)*time.Minute))
	}
	for _, step := range []struct {
		after time.Duration
		left  int
	}{
		{30 * time.Minute, 101},   // over, but only just
		{50 * time.Minute, 102},   // looked at not an hour ago
		{91 * time.Minute, 72},    // 31 have been over for an hour
		{-2 * time.Hour, 73},      // the clock is put back
		{99 * time.Minute, 66},    // and right again: another 8
		{160 * time.Minute, 6},    // all but what was added on the way
		{100 * 24 * time.Hour, 1}, // gone by far
	} {
		now = testNow().Add(step.after)
		add(1000+r.Len(), testNow().Add(48*time.Hour+max(step.after, 0)))
		if r.Len() != step.left {
			t.Errorf("%v: %d left, want %d", step.after, r.Len(), step.left)
		}
	}
}

func TestRevocationsObserve(t *testing.T) {
	t.Parallel()
	r := NewRevocations(RevocationsConfig{})
	var first, second, late []error
	stopFirst := r.Observe(func(err error) { first = append(first, err) })
	stopSecond := r.Observe(func(err error) { second = append(second, err) })
	r.tell(errDown)
	stopFirst()
	stopFirst()
	r.Observe(func(err error) { late = append(late, err) })
	r.tell(nil)
	stopSecond()
	r.tell(errDown)
	if len(first) != 1 || !errors.Is(first[0], errDown) || len(second) != 2 || second[1] != nil {
		t.Errorf("told %v and %v", first, second)
	}
	if len(late) != 3 || !errors.Is(late[0], errDown) { // a configuration that is loaded during an outage
		t.Errorf("who comes later is told %v", late)
	}
}

// Without a backend nothing is read or written.
func TestRevocationsMemory(t *testing.T) {
	t.Parallel()
	r := NewRevocations(RevocationsConfig{Follow: true, Background: func(func()) { t.Error("something is done in the background") }})
	told := watch(r)
	r.Refresh(t.Context(), testNow())
	if err := r.Add(t.Context(), testNow(), numbered(1, testNow().Add(time.Hour))); err != nil {
		t.Error(err)
	}
	r.Refresh(t.Context(), testNow().Add(time.Hour))
	if r.Len() != 1 || told.count(nil) != 0 {
		t.Error(r.Len(), told)
	}
}
