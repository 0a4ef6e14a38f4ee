package session

import (
	"context"
	"sync"
	"testing"
	"time"
)

// An attempt to read everything goes on where the one before has failed.
func TestRevocationsReadResumes(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		backend := newExpiringBackend()
		writer := following(backend)
		const hours = 100
		for n := range hours {
			mustAdd(t, writer, numbered(n, time.Now().Add(300*time.Hour)))
			time.Sleep(time.Hour)
		}
		if n := len(backend.keys()); n != hours {
			t.Fatalf("%d segments", n)
		}
		loads := 0
		var mu sync.Mutex
		backend.setBefore(func(_ context.Context, call, _ string) error {
			mu.Lock()
			defer mu.Unlock()
			if call == "Load" {
				loads++
			}
			if call == "Load" && loads%40 == 0 {
				return errDown
			}
			return nil
		})
		r := following(backend)
		told := watch(r)
		attempts := 0
		for told.count(nil) == 0 && attempts < 10 {
			refreshed(r)
			attempts++
			time.Sleep(retryPause)
		}
		wantKnown(t, r, 0, hours)
		if attempts < 2 || loads > hours+5*readers || told.count(errDown) != attempts-1 {
			t.Errorf("%d attempts, %d segments read: %v", attempts, loads, told)
		}
	})
}

// What others may put among the names is passed over, and so is more than can be.
func TestRevocationsStrangeNames(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		backend := newExpiringBackend()
		writer := following(backend)
		mustAdd(t, writer, numbered(0, time.Now().Add(time.Hour)))
		names := []string{
			"", "x", "2000-01-01.00", "2000-01-01.00.", "2000-01-01.00.-1", "2000-01-01.00.00", "2000-01-01.00.10000", "2000-01-01.24.0",
			"2000-01-01.00.0.tmp", "2000-13-01.00.0", "../../x", "2000-01-01.00..0", "2000-01-01.00.0x1",
		}
		for _, name := range names {
			if _, ok := parseSegmentMember(name); ok {
				t.Errorf("%q is a name", name)
			}
			if err := backend.Add(t.Context(), revocationSet, name, time.Now().Add(time.Hour)); err != nil {
				t.Error(err)
			}
		}
		r := following(backend)
		before := backend.count("Load")
		refreshed(r)
		wantKnown(t, r, 0, 1)
		if n := backend.count("Load") - before; n != 1 {
			t.Errorf("%d segments read", n)
		}
		day := time.Now().AddDate(-3, 0, 0)
		for n := range maxSegments + 100 {
			at := segment{hourOf(day.Add(time.Duration(n) * time.Hour)), 0}
			if err := backend.Add(t.Context(), revocationSet, at.member(), time.Now().Add(time.Hour)); err != nil {
				t.Error(err)
			}
		}
		r, before = following(backend), backend.count("Load")
		told := watch(r)
		refreshed(r)
		wantKnown(t, r, 0, 1)
		if n := backend.count("Load") - before; n != maxSegments || told.count(errTooManySegments) != 1 {
			t.Errorf("%d segments read", n)
		}
	})
}
