package session

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"
)

// revocationWriting is what has to be written. One goroutine at a time does it, with all that has come meanwhile.
type revocationWriting struct {
	mu     sync.Mutex
	next   *revocationBatch
	active bool
	wake   chan struct{}
	err    error // of the last attempt

	// the callers' clock, and when it was looked at by that of the process
	now, looked time.Time
}

// revocationBatch is written as a whole.
type revocationBatch struct {
	entries map[revocationKey]pendingRevocation
	done    chan struct{}
}

// pendingRevocation is an entry with the time when it does not matter any more, by the clock of the process.
type pendingRevocation struct {
	revocationEntry
	over time.Time
}

// setClock remembers the callers' clock, for what is done later.
func (w *revocationWriting) setClock(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now, w.looked = now, time.Now()
}

// clock is what the callers' clock should say by now.
func (w *revocationWriting) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now.Add(time.Since(w.looked))
}

// write puts entries into the list, has them written, and waits for that. What was in the list before, with nothing being written, is in
// the backend.
func (r *Revocations) write(ctx context.Context, added map[revocationKey]revocationEntry, now time.Time) error {
	return r.writeIf(ctx, added, now, false)
}

// writeIf is write, or has them written in any case.
func (r *Revocations) writeIf(ctx context.Context, added map[revocationKey]revocationEntry, now time.Time, anyhow bool) error {
	w := &r.writing
	w.setClock(now)
	pending := make(map[revocationKey]pendingRevocation, len(added))
	for key, entry := range added {
		pending[key] = pendingRevocation{entry, time.Now().Add(time.Unix(int64(entry.until), 0).Sub(now))}
	}
	w.mu.Lock()
	changed, full := r.merge(added, now)
	if !changed && !w.active && !anyhow {
		w.mu.Unlock()
		return nil
	}
	batch, overflow := w.put(pending, r.limit)
	start := !w.active
	w.active = true
	w.mu.Unlock()
	if full || overflow {
		r.tell(ErrRevocationsFull)
	}
	if start {
		r.background(r.writeAll)
	}
	select {
	case <-batch.done:
		return nil
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Errorf("writing revocations: %w", cmp.Or(w.err, ctx.Err()))
}

// put adds to the next batch what there is room for. The caller holds the mutex.
func (w *revocationWriting) put(pending map[revocationKey]pendingRevocation, limit int) (batch *revocationBatch, overflow bool) {
	if w.next == nil {
		w.next = &revocationBatch{entries: make(map[revocationKey]pendingRevocation, len(pending)), done: make(chan struct{})}
	}
	for key, entry := range pending {
		if known, ok := w.next.entries[key]; ok || len(w.next.entries) < limit {
			w.next.entries[key] = pendingRevocation{known.with(entry.revocationEntry), latest(known.over, entry.over)}
		} else {
			overflow = true
		}
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return w.next, overflow
}

// take returns the next batch, nil if nothing has to be written. If done, the writing ends then.
func (w *revocationWriting) take(done bool) *revocationBatch {
	w.mu.Lock()
	defer w.mu.Unlock()
	batch := w.next
	w.next = nil
	if batch == nil && done {
		w.active = false
	}
	return batch
}

// attempted remembers how the last attempt ended, for those who cannot wait for the next.
func (w *revocationWriting) attempted(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}
