package session

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// A segment that is broken counts as far as it can be read. Nobody writes there any more, and it is told once.
func TestRevocationsBroken(t *testing.T) {
	t.Parallel()
	good := func(n int) []byte {
		entries := make(map[revocationKey]revocationEntry)
		for n := range n {
			entries[sessionKey(numberedID(n))] = revocationEntry{until: uint32(time.Date(2000, 1, 2, 0, 0, 0, 0, time.UTC).Unix())}
		}
		return marshalSegment(entries)
	}
	for name, test := range map[string]struct {
		value []byte
		known int // of the first ten
	}{
		"nothing":         {nil, 0},
		"something else":  {[]byte("<html>"), 0},
		"another version": {append([]byte{segmentVersion + 1}, good(10)[1:]...), 0},
		"cut off":         {good(10)[:1+9*segmentEntry+5], 9},
		"something after": {append(good(10), 1), 10},
		"far too long":    {slices.Concat(good(10), []byte(strings.Repeat("x", 100_000*segmentEntry))), 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T) {
				backend := newExpiringBackend()
				writer, reader := following(backend), following(backend)
				told := watch(reader)
				until := time.Now().Add(24 * time.Hour)
				mustAdd(t, writer, numbered(100, until))
				refreshed(reader)
				time.Sleep(5 * time.Second)
				backend.put("revoked/2000-01-01/00.0", test.value, until)
				mustAdd(t, writer, numbered(101, until))
				for range 3 {
					time.Sleep(5 * time.Second)
					refreshed(reader)
				}
				if n := told.count(ErrRevocationsBroken); n != 1 || told.count(nil) != 4 {
					t.Errorf("told %v", told)
				}
				restarted := following(backend)
				refreshed(restarted)
				for _, r := range []*Revocations{reader, restarted} {
					wantKnown(t, r, 101, 102)
					if n := missing(r, 0, 10); n != 10-test.known {
						t.Errorf("%d of 10 are known, want %d", 10-n, test.known)
					}
				}
				got, err := backend.Load(t.Context(), "revoked/2000-01-01/00.0")
				if err != nil || !slices.Equal(got, test.value) || len(backend.keys()) != 2 {
					t.Errorf("it has been written over: %v", backend.keys())
				}
			})
		})
	}
}

// What a stranger writes cannot stay for ever, and hours have an end.
func TestRevocationsStrangeSegments(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		backend := newExpiringBackend()
		far := time.Now().AddDate(50, 0, 0)
		entries := map[revocationKey]revocationEntry{sessionKey(numberedID(0)): {until: uint32(far.Unix())}}
		backend.put("revoked/2000-01-01/00.0", marshalSegment(entries), far)
		r := following(backend)
		mustAdd(t, r, numbered(1, time.Now().Add(time.Hour)))
		wantKnown(t, r, 0, 2)
		if r.Touches(Owner{}, &Session{ID: numberedID(0)}, time.Now().Add(longestSession+2*time.Hour)) {
			t.Error("it stays for longer than any session")
		}
		for part := range maxPart + 1 {
			backend.put(segment{hourOf(time.Now()), part}.key(), []byte("x"), far)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Add(ctx, time.Now(), numbered(2, time.Now().Add(3*time.Hour))); !errors.Is(err, errTooManyParts) {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		reader := following(backend)
		reader.Refresh(t.Context(), time.Now())
		time.Sleep(10 * time.Second)
		if err := r.Add(t.Context(), time.Now(), numbered(3, time.Now().Add(time.Hour))); err != nil {
			t.Error(err)
		}
		if err := reader.readHour(t.Context(), hourOf(time.Now()), time.Now()); err != nil {
			t.Error(err)
		}
		wantKnown(t, reader, 2, 4)
	})
}
