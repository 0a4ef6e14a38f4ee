package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	// lockWait bounds the waiting for the lock. Whoever cannot have it writes all the same.
	lockWait = 2 * time.Second

	// deadLockWait is the waiting for a lock that could not be had the last time: its holder may have died in a way that it outlives.
	deadLockWait = 100 * time.Millisecond

	// maxUnlocked is how many segments may be begun for want of the lock in an hour.
	maxUnlocked = 500

	// writeWait bounds one attempt.
	writeWait = 15 * time.Second

	// writePause is between two writes: what comes meanwhile is written together.
	writePause = 50 * time.Millisecond

	// checkDelay is how long after a write it is looked whether somebody has overwritten it.
	checkDelay = 250 * time.Millisecond

	// The pauses after attempts that failed.
	firstRetry, lastRetry = 500 * time.Millisecond, 2 * time.Second
)

var (
	errTooManyParts = errors.New("more revocations in an hour than can be written")
	errOverwritten  = errors.New("what was written is not there, again and again")
)

// revocationWriter writes until there is nothing more to be written.
type revocationWriter struct {
	*Revocations
	batch      *revocationBatch
	checks     []revocationCheck
	notBefore  time.Time // of the next attempt
	retry      time.Duration
	losses     int
	lockFailed bool
}

// revocationCheck is what should be in a segment.
type revocationCheck struct {
	at      segment
	entries map[revocationKey]pendingRevocation
	due     time.Time
	again   time.Time // when it is looked at once more; zero is never
}

func (r *Revocations) writeAll() {
	w := &revocationWriter{Revocations: r, retry: firstRetry}
	w.run(true)
}

// run writes and looks after it. What is looked at once more much later need not be waited for by a process that ends: awaited says that this
// is.
func (w *revocationWriter) run(awaited bool) {
	for {
		if w.batch == nil && !w.isCheckDue() {
			w.batch = w.writing.take(len(w.checks) == 0)
		}
		switch {
		case w.batch != nil:
			w.attempt()
		case w.isCheckDue():
			w.check()
		case len(w.checks) > 0 && awaited && time.Until(w.checks[0].due) > time.Second:
			go w.run(false)
			return
		case len(w.checks) > 0:
			w.wait()
		default:
			w.tidy(w.writing.clock())
			return
		}
	}
}

func (w *revocationWriter) isCheckDue() bool {
	return len(w.checks) > 0 && !time.Now().Before(w.checks[0].due)
}

// wait waits for the next check, or for something to write.
func (w *revocationWriter) wait() {
	timer := time.NewTimer(time.Until(w.checks[0].due))
	defer timer.Stop()
	select {
	case <-w.writing.wake:
	case <-timer.C:
	}
}

// attempt writes what there is room for in one segment.
func (w *revocationWriter) attempt() {
	time.Sleep(time.Until(w.notBefore))
	maps.DeleteFunc(w.batch.entries, func(_ revocationKey, entry pendingRevocation) bool { return !time.Now().Before(entry.over) })
	if len(w.batch.entries) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), writeWait)
		written, err := w.writeSegment(ctx, w.writing.clock())
		cancel()
		w.writing.attempted(err)
		if err != nil {
			w.tell(fmt.Errorf("writing revocations: %w", err))
			w.notBefore = time.Now().Add(w.retry)
			w.retry = min(2*w.retry, lastRetry)
			return
		}
		w.tell(nil)
		w.plan(*written)
		w.notBefore, w.retry = time.Now().Add(writePause), firstRetry
	}
	if len(w.batch.entries) == 0 {
		close(w.batch.done)
		w.batch = nil
	}
}

// writeSegment adds to the last segment of the hour. It takes what it has written out of the batch.
func (w *revocationWriter) writeSegment(ctx context.Context, now time.Time) (*revocationCheck, error) {
	hour := hourOf(now)
	unlock := w.lock(ctx, hour)
	defer unlock()
	at, content, err := w.lastSegment(ctx, hour, now, w.lockFailed)
	if err != nil {
		return nil, err
	}
	written := &revocationCheck{at: at, entries: make(map[revocationKey]pendingRevocation)}
	changed := false
	for key, entry := range w.batch.entries {
		known, ok := content[key]
		if !ok && len(content) >= maxSegment {
			continue
		}
		if !known.covers(entry.revocationEntry) {
			content[key] = known.with(entry.revocationEntry)
			changed = true
		}
		written.entries[key] = entry
	}
	if changed {
		end := at.end(lastUntil(content))
		// the name comes first: one that leads to nothing does no harm
		if err := w.patient.add(ctx, revocationSet, at.member(), end); err != nil {
			return nil, err
		}
		if err := w.patient.store(ctx, at.key(), marshalSegment(content), end); err != nil {
			return nil, err
		}
		w.segments.note(at, end)
	}
	for key := range written.entries {
		delete(w.batch.entries, key)
	}
	written.due = time.Now().Add(checkDelay)
	if w.lockFailed {
		written.again = written.due.Add(writeWait) // others without the lock may have begun before, and be slow
	}
	return written, nil
}

// lock takes the lock for writing if it can be had. Its name changes by the hour: Caddy's file storage can keep the lock of a
// process that has died alive as long as another one refreshes a lock of the same name (see [CaddyBackend.Lock]), which blocks writers for an
// hour at the most.
func (w *revocationWriter) lock(ctx context.Context, hour int64) (unlock func()) {
	wait := lockWait
	if w.lockFailed {
		wait = deadLockWait
	}
	unlock, err := w.patient.lock(ctx, "locks/revoked."+segment{hour: hour}.time().Format("2006-01-02.15"), wait)
	w.lockFailed = err != nil
	if err != nil {
		return func() {}
	}
	return unlock
}

// lastSegment returns the last segment of an hour, or the one after that if there is no room in it, and what is in it. It looks from the
// last one that is known on. Who has not got the lock begins a segment, lest it overwrite what the one who has it writes, or be overwritten.
func (w *revocationWriter) lastSegment(
	ctx context.Context, hour int64, now time.Time, unlocked bool,
) (segment, map[revocationKey]revocationEntry, error) {
	first := w.segments.tail(hour)
	var room map[revocationKey]revocationEntry // of the segment before
	for part := first; part <= maxPart; part++ {
		at := segment{hour, part}
		content, state, err := w.load(ctx, at, now)
		switch {
		case err != nil:
			return at, nil, err
		case state == segmentMissing && part == first && first > 0:
			part, first = -1, w.segments.forget(hour) // the backend has lost what there was
		case state == segmentMissing && room != nil && (!unlocked || part > maxUnlocked):
			return segment{hour, part - 1}, room, nil
		case state == segmentMissing:
			return at, make(map[revocationKey]revocationEntry), nil
		case state == segmentOpen:
			room = content
		default:
			room = nil
		}
	}
	if room != nil {
		return segment{hour, maxPart}, room, nil
	}
	return segment{}, nil, errTooManyParts
}

// plan adds a check, in the order of time.
func (w *revocationWriter) plan(check revocationCheck) {
	w.checks = append(w.checks, check)
	slices.SortStableFunc(w.checks, func(a, b revocationCheck) int { return a.due.Compare(b.due) })
}

// check looks whether what was written is still there, and has what is not written again.
func (w *revocationWriter) check() {
	written := w.checks[0]
	w.checks = w.checks[1:]
	content, _, err := w.load(context.Background(), written.at, w.writing.clock())
	lost := maps.Clone(written.entries)
	maps.DeleteFunc(lost, func(key revocationKey, entry pendingRevocation) bool {
		return err == nil && content[key].covers(entry.revocationEntry) || !time.Now().Before(entry.over)
	})
	switch {
	case len(lost) == 0:
		w.losses, w.retry = 0, firstRetry
	case err != nil:
		w.tell(fmt.Errorf("reading what was written of revocations: %w", err))
		written.due = time.Now().Add(w.retry)
		w.retry = min(2*w.retry, lastRetry)
		w.plan(written)
		return
	default:
		w.lost(lost)
	}
	if !written.again.IsZero() {
		written.due, written.again = written.again, time.Time{}
		w.plan(written)
	}
}

// lost has entries written again: the first time at once, then less and less often.
func (w *revocationWriter) lost(entries map[revocationKey]pendingRevocation) {
	w.writing.mu.Lock()
	_, overflow := w.writing.put(entries, w.limit)
	w.writing.mu.Unlock()
	if overflow {
		w.tell(ErrRevocationsFull)
	}
	if w.losses++; w.losses > 3 {
		w.tell(errOverwritten)
	}
	w.notBefore, w.retry = time.Now().Add(min(time.Duration(w.losses-1)*firstRetry, lastRetry)), firstRetry
}
