package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"sync"
	"time"
)

// segmentState is what there is of a segment.
type segmentState int

const (
	segmentMissing segmentState = iota
	segmentOpen                 // there is room in it
	segmentFull                 // nobody writes there any more: the next one goes on
)

// revocationSegments is what is known of the segments in the backend.
type revocationSegments struct {
	mu     sync.Mutex
	tails  map[int64]int         // the last segment of an hour
	ends   map[segment]time.Time // until when a segment is needed
	broken map[segment]struct{}  // those that the observers have been told of
	tidied time.Time             // by the clock of the process
}

// tail is the last segment of an hour that is known, the first if none is.
func (s *revocationSegments) tail(hour int64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tails[hour]
}

// forget gives up what is known of an hour.
func (s *revocationSegments) forget(hour int64) (tail int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tails, hour)
	return 0
}

// note remembers a segment that is there.
func (s *revocationSegments) note(at segment, end time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tails == nil {
		s.tails, s.ends, s.broken = make(map[int64]int), make(map[segment]time.Time), make(map[segment]struct{})
	}
	s.tails[at.hour] = max(s.tails[at.hour], at.part)
	if _, ok := s.ends[at]; ok || len(s.ends) < maxSegments {
		s.ends[at] = end
	}
}

// noteBroken remembers that a segment is broken, and reports whether that is new.
func (s *revocationSegments) noteBroken(at segment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.broken[at]; ok || len(s.broken) >= maxSegments {
		return false
	}
	s.broken[at] = struct{}{}
	return true
}

// gone forgets a segment that is no more.
func (s *revocationSegments) gone(at segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ends, at)
	delete(s.broken, at)
}

// load reads a segment into the list.
func (r *Revocations) load(ctx context.Context, at segment, now time.Time) (map[revocationKey]revocationEntry, segmentState, error) {
	data, err := r.patient.load(ctx, at.key())
	if errors.Is(err, fs.ErrNotExist) {
		r.segments.gone(at)
		return nil, segmentMissing, nil
	}
	if err != nil {
		return nil, segmentMissing, err
	}
	entries, broken := parseSegment(data)
	last := wholeSeconds(now.Add(longestSession + time.Hour)) // clocks differ
	for key, entry := range entries {
		if entry.until > last {
			entry.until = last
			entries[key] = entry
		}
	}
	r.segments.note(at, at.end(lastUntil(entries)))
	if _, full := r.merge(entries, now); full {
		r.tell(ErrRevocationsFull)
	}
	if broken != nil {
		if r.segments.noteBroken(at) {
			r.tell(fmt.Errorf("%w: %s", broken, at.key()))
		}
		return entries, segmentFull, nil
	}
	if len(entries) >= maxSegment {
		return entries, segmentFull, nil
	}
	return entries, segmentOpen, nil
}

const (
	// tidyEvery is how often segments that are over are looked for.
	tidyEvery = time.Hour

	// tidyAtMost bounds how many are removed then.
	tidyAtMost = 1000

	tidyWait = time.Minute
)

// tidy removes the segments that are over, now and then, for backends where nothing expires by itself. The time is not that of the
// callers' clock: one that jumps must not have this done again and again, nor before it may have been put right.
func (r *Revocations) tidy(now time.Time) {
	s := &r.segments
	s.mu.Lock()
	first := s.tidied.IsZero()
	if !first && time.Since(s.tidied) < tidyEvery {
		s.mu.Unlock()
		return
	}
	s.tidied = time.Now()
	maps.DeleteFunc(s.tails, func(hour int64, _ int) bool { return hour < hourOf(now.Add(-forgottenAfter)) })
	var over []segment
	for at, end := range s.ends {
		if end.Add(revocationGrace).Before(now) && len(over) < tidyAtMost {
			over = append(over, at)
		}
	}
	s.mu.Unlock()
	if first {
		return
	}
	r.mu.Lock()
	r.sweep(now, false)
	r.mu.Unlock()
	if len(over) == 0 {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), tidyWait)
		defer cancel()
		if err := inParallel(ctx, over, func(ctx context.Context, at segment) error { return r.removeSegment(ctx, at, now) }); err != nil {
			r.tell(fmt.Errorf("removing old revocations: %w", err))
		}
	}()
}

// removeSegment removes a segment if it is still the way it was.
func (r *Revocations) removeSegment(ctx context.Context, at segment, now time.Time) error {
	entries, state, err := r.load(ctx, at, now)
	if err != nil {
		return err
	}
	if state != segmentMissing {
		if !at.end(lastUntil(entries)).Add(revocationGrace).Before(now) {
			return nil
		}
		if err := r.patient.delete(ctx, at.key()); err != nil {
			return err
		}
	}
	r.segments.gone(at)
	return r.patient.remove(ctx, revocationSet, at.member())
}
