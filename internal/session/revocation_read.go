package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// How old the list may get.
const (
	// freshFor is how long it is taken as it is.
	freshFor = 2 * time.Second

	// staleAfter is when requests wait for it to be read again. In between it is read in the background.
	staleAfter = 2 * freshFor

	// readWait and firstWait bound the waiting. What the list says without a first reading is little.
	readWait  = time.Second
	firstWait = 3 * time.Second

	// failedPause is how long no request waits after an attempt that failed, and retryPause how far attempts are apart then.
	failedPause = 5 * time.Second
	retryPause  = 2 * time.Second
)

const (
	// skew is how far the clocks of instances may be apart.
	skew = 10 * time.Minute

	// listedAfter is how long ago the last reading may be for the segments to be found without asking for their names: those of that
	// time are still there, and each leads to the next.
	listedAfter = time.Hour

	// forgottenAfter is how long ago the last reading may be for what was read then to count, clocks having been right.
	forgottenAfter = 48 * time.Hour

	// fullReadWait bounds the reading of everything.
	fullReadWait = time.Minute

	// readers is how many segments are read at once.
	readers = 8

	// maxSegments bounds those that are read when a process starts: more than there are in the longest time, each hour having one.
	maxSegments = 20_000
)

var errTooManySegments = errors.New("more segments of revocations than can be read: the oldest are passed over")

// revocationReading is the state of the reading. Its times are in milliseconds by the clock of those who call, which may stand still or
// jump; zero is never.
type revocationReading struct {
	last atomic.Int64 // when the last one that succeeded began

	mu            sync.Mutex
	flight        chan struct{} // closed when the one that is under way ends; nil when none is
	attempts      int           // so far
	tried, failed int64
	done          map[segment]struct{} // what an attempt at everything has already read
}

// Refresh sees to it that the list is not old: it may start to read, and wait a little for that.
func (r *Revocations) Refresh(ctx context.Context, now time.Time) {
	if !r.isOld(now) {
		return
	}
	flight, wait := r.read(ctx, now)
	if flight == nil || wait == 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-flight:
	case <-ctx.Done():
	case <-timer.C:
		r.reading.mu.Lock()
		if r.reading.flight == flight {
			r.reading.failed = now.Add(wait).UnixMilli()
		}
		r.reading.mu.Unlock()
	}
}

// Recheck starts to read the list if it is old, and waits for nothing: for requests that fail anyway, as their storage does. That the list cannot
// be read has to come out then too.
func (r *Revocations) Recheck(ctx context.Context, now time.Time) {
	if r.isOld(now) {
		r.read(ctx, now)
	}
}

func (r *Revocations) isOld(now time.Time) bool {
	if !r.shared {
		return false
	}
	last := r.reading.last.Load()
	return last == 0 || r.follow && apart(now.UnixMilli(), last) > freshFor
}

// apart is the time between two times, whichever is earlier.
func apart(a, b int64) time.Duration {
	return time.Duration(min(max(a-b, b-a), int64(forgottenAfter/time.Millisecond)+1)) * time.Millisecond
}

// read starts to read unless that is under way or has failed just now. It returns what is closed at the end, nil if there is nothing to
// wait for, and how long to wait.
func (r *Revocations) read(ctx context.Context, now time.Time) (flight chan struct{}, wait time.Duration) {
	s := &r.reading
	at := now.UnixMilli()
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.last.Load()
	switch {
	case s.failed != 0 && apart(at, s.failed) < failedPause:
	case s.attempts == 0, s.attempts == 1 && s.flight != nil:
		wait = firstWait
	case last == 0 || apart(at, last) > staleAfter:
		wait = readWait
	}
	if s.flight == nil && (s.failed == 0 || apart(at, s.tried) >= retryPause) {
		s.flight, s.tried = make(chan struct{}), at
		s.attempts++
		r.writing.setClock(now)
		go r.readOnce(context.WithoutCancel(ctx), now, last, s.flight)
	}
	return s.flight, wait
}

func (r *Revocations) readOnce(ctx context.Context, now time.Time, last int64, flight chan struct{}) {
	began := time.Now()
	var err error
	switch {
	case last == 0, apart(now.UnixMilli(), last) > forgottenAfter, time.UnixMilli(last).Sub(now) > skew:
		// after a clock was put back, too: what seemed to be over may have been forgotten
		err = r.readListed(ctx, now, time.Time{})
	case apart(now.UnixMilli(), last) > listedAfter:
		err = r.readListed(ctx, now, earliest(time.UnixMilli(last), now).Add(-skew))
	default:
		err = r.readHours(ctx, now, earliest(time.UnixMilli(last), now).Add(-skew), latest(time.UnixMilli(last), now).Add(skew))
	}
	s := &r.reading
	s.mu.Lock()
	if err == nil {
		s.failed, s.done = 0, nil
		s.last.Store(max(now.UnixMilli(), 1))
	} else {
		s.failed = now.Add(time.Since(began)).UnixMilli()
	}
	s.flight = nil
	s.mu.Unlock()
	close(flight)
	if err != nil {
		err = fmt.Errorf("reading revocations: %w", err)
	}
	r.tell(err)
	if err == nil {
		r.tidy(now)
	}
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// readListed reads the segments that the set names, but for those of earlier hours. What an attempt that failed has read is not read
// again.
func (r *Revocations) readListed(ctx context.Context, now, since time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, fullReadWait)
	defer cancel()
	members, err := r.patient.members(ctx, revocationSet)
	if err != nil {
		return err
	}
	s := &r.reading
	s.mu.Lock()
	if s.done == nil {
		s.done = make(map[segment]struct{})
	}
	done := s.done
	s.mu.Unlock()
	var list []segment
	for _, member := range members {
		segment, ok := parseSegmentMember(member)
		if _, read := done[segment]; ok && !read && (since.IsZero() || segment.hour >= hourOf(since)) {
			list = append(list, segment)
		}
	}
	slices.SortFunc(list, func(a, b segment) int { return b.compare(a) })
	if len(list) > maxSegments {
		list = list[:maxSegments]
		r.tell(errTooManySegments)
	}
	recent := hourOf(now.Add(-skew))
	return inParallel(ctx, list, func(ctx context.Context, segment segment) error {
		_, _, err := r.load(ctx, segment, now)
		if err == nil && segment.hour < recent { // later ones are still written
			s.mu.Lock()
			done[segment] = struct{}{}
			s.mu.Unlock()
		}
		return err
	})
}

// readHours reads what was written in some hours, from the last segments that are known.
func (r *Revocations) readHours(ctx context.Context, now, from, to time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 2*storageWait)
	defer cancel()
	var hours []int64
	for hour := hourOf(from); hour <= hourOf(to); hour++ {
		hours = append(hours, hour)
	}
	return inParallel(ctx, hours, func(ctx context.Context, hour int64) error { return r.readHour(ctx, hour, now) })
}

// readHour starts with the segment before the last one that is known, as whoever could not have the lock may have written there, and goes
// on until there is none. That one has room left does not mean that it is the last: it may have been overwritten.
func (r *Revocations) readHour(ctx context.Context, hour int64, now time.Time) error {
	tail := r.segments.tail(hour)
	for part := max(tail-1, 0); part <= maxPart; part++ {
		_, state, err := r.load(ctx, segment{hour, part}, now)
		switch {
		case err != nil:
			return err
		case state != segmentMissing || part < tail:
		case part == tail && tail > 0:
			part, tail = -1, r.segments.forget(hour) // the backend has lost what there was
		default:
			return nil
		}
	}
	return nil
}

// inParallel does something with each of a list, a few at a time, until one fails.
func inParallel[T any](ctx context.Context, list []T, do func(context.Context, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(readers, len(list)) {
		all.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(list) {
					return
				}
				if err := do(ctx, list[i]); err != nil {
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}
