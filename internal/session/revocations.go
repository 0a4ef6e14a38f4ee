package session

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxRevocations bounds the list.
	maxRevocations = 1_000_000

	// revocationSample is how many entries the one that makes room is chosen from.
	revocationSample = 16

	// revocationGrace is how long entries are kept when they are over, for clocks that are put right.
	revocationGrace = time.Hour
)

// ErrRevocationsFull says that the list of revocations had to forget entries that still matter.
var ErrRevocationsFull = errors.New("more revocations than can be kept: those that end first are forgotten")

// RevocationsConfig says where revocations are kept.
type RevocationsConfig struct {
	// Backend is where instances share them. Without one they are kept in memory alone.
	Backend Backend

	// Follow has what others write read again and again. Without it the backend is read once.
	Follow bool

	// Background runs what should be done before the process ends, without waiting for it. Default: a goroutine
	Background func(func())
}

// Revocations is the list of the sessions that have ended before their time. It is safe for concurrent use.
//
// It is kept in memory, and in the backend in segments: one for each hour in which something was written, and further ones where that is
// a lot. A process that starts reads all of them, and after that those of the current hour.
type Revocations struct {
	backend    bounded
	patient    patient // the same, for what goes on in the background
	shared     bool
	follow     bool
	background func(func())

	version atomic.Uint64
	size    atomic.Int64

	mu      sync.RWMutex
	entries map[revocationKey]revocationEntry
	sweepAt int64 // when entries that are over are looked for, in seconds
	limit   int

	adopting  sync.Mutex
	adopted   map[revocationKey]revocationEntry // from another list, not written yet
	adoptedAt map[*Revocations]uint64           // by its version

	watching sync.Mutex
	watchers map[*func(error)]struct{}
	told     bool
	lastTold error

	lives    sessionLives
	segments revocationSegments
	reading  revocationReading
	writing  revocationWriting
}

// NewRevocations returns an empty list. It does not touch the backend.
func NewRevocations(config RevocationsConfig) *Revocations {
	r := &Revocations{
		backend: bounded{config.Backend}, patient: patient{config.Backend, new(atomic.Int64)},
		shared: config.Backend != nil, follow: config.Follow, background: config.Background,
		entries: make(map[revocationKey]revocationEntry), limit: maxRevocations, watchers: make(map[*func(error)]struct{}),
	}
	r.writing.wake = make(chan struct{}, 1)
	unlike := NewID()
	r.version.Store(binary.BigEndian.Uint64(unlike[:])) // that of any other list, which may have been asked before
	if r.background == nil {
		r.background = func(work func()) { go work() }
	}
	return r
}

// Version changes whenever something has been added. What [Revocations.Touches] says of a session holds for as long as the version
// that was asked for before stays.
func (r *Revocations) Version() uint64 { return r.version.Load() }

// Len is the number of entries.
func (r *Revocations) Len() int { return int(r.size.Load()) }

// Touches reports whether a session is among those that have ended.
func (r *Revocations) Touches(owner Owner, sess *Session, now time.Time) bool {
	if r.size.Load() == 0 {
		return false
	}
	var keys [4]revocationKey
	names := append(keys[:0], sessionKey(sess.ID))
	if sess.SID != "" {
		names = append(names, owner.revocationKey(revokedSID, sess.SID))
	}
	if sess.Subject != "" {
		names = append(names, owner.revocationKey(revokedSubject, sess.Subject))
		if sess.SID == "" {
			names = append(names, owner.revocationKey(revokedUnnamed, sess.Subject))
		}
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	for i, key := range names {
		if entry, ok := r.entries[key]; ok && !entry.over(now) && (i == 0 || entry.touches(sess)) {
			return true
		}
	}
	return false
}

// Add puts revocations into the list, at once, and waits until the backend has them or the context ends. Writing goes on in the
// background until it has succeeded, for as long as they matter.
func (r *Revocations) Add(ctx context.Context, now time.Time, list ...Revocation) error {
	added := make(map[revocationKey]revocationEntry, len(list))
	for i := range list {
		key, named := list[i].key()
		if entry, ok := list[i].entry(now); named && ok {
			added[key] = added[key].with(entry)
		}
	}
	if len(added) == 0 {
		return nil
	}
	if r.shared {
		return r.write(ctx, added, now)
	}
	if _, full := r.merge(added, now); full {
		r.tell(ErrRevocationsFull)
	}
	return nil
}

// merge puts entries into the list and reports whether they say anything new, and whether others were forgotten for them.
func (r *Revocations) merge(added map[revocationKey]revocationEntry, now time.Time) (changed, full bool) {
	if r.covers(added) {
		return false, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(now, false)
	for key, entry := range added {
		known, ok := r.entries[key]
		if ok && known.covers(entry) || entry.over(now.Add(-revocationGrace)) {
			continue
		}
		if !ok && len(r.entries) >= r.limit {
			r.sweep(now, true)
			full = r.makeRoom() || full
		}
		r.entries[key] = known.with(entry)
		changed = true
	}
	r.size.Store(int64(len(r.entries)))
	if changed {
		r.version.Add(1)
	}
	return changed, full
}

// covers says that entries add nothing to the list.
func (r *Revocations) covers(added map[revocationKey]revocationEntry) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for key, entry := range added {
		if known, ok := r.entries[key]; !ok || !known.covers(entry) {
			return false
		}
	}
	return true
}

// makeRoom forgets the entry that ends first of a few, and reports whether it had to.
func (r *Revocations) makeRoom() bool {
	if len(r.entries) < r.limit {
		return false
	}
	var first revocationKey
	seen := 0
	for key, entry := range r.entries { // which starts somewhere each time
		if seen == 0 || entry.until < r.entries[first].until {
			first = key
		}
		if seen++; seen == revocationSample {
			break
		}
	}
	delete(r.entries, first)
	return true
}

// sweep forgets what is over, once in a while or when it is needed.
func (r *Revocations) sweep(now time.Time, needed bool) {
	seconds := now.Unix()
	wait := r.sweepAt - seconds
	every := int64(revocationGrace / time.Second)
	if needed {
		wait -= every - 60 // not for each entry of a list that is full
	}
	if wait > 0 && wait <= every {
		return
	}
	r.sweepAt = seconds + every
	before := len(r.entries)
	maps.DeleteFunc(r.entries, func(_ revocationKey, entry revocationEntry) bool { return entry.over(now.Add(-revocationGrace)) })
	if len(r.entries) < before/2 {
		// a map gives nothing back by itself
		left := make(map[revocationKey]revocationEntry, len(r.entries))
		maps.Copy(left, r.entries)
		r.entries = left
	}
	r.size.Store(int64(len(r.entries)))
}

// Observe has a function told of each attempt to read or to write: its error, nil where it succeeded; of the last one, if there was any, at
// once. It is called by one goroutine or by several, and must not block. Calling stop ends that.
func (r *Revocations) Observe(watch func(error)) (stop func()) {
	r.watching.Lock()
	if r.told {
		watch(r.lastTold) // nothing newer comes in between
	}
	r.watchers[&watch] = struct{}{}
	r.watching.Unlock()
	return func() {
		r.watching.Lock()
		defer r.watching.Unlock()
		delete(r.watchers, &watch)
	}
}

func (r *Revocations) tell(err error) {
	r.watching.Lock()
	r.told, r.lastTold = true, err
	watchers := make([]func(error), 0, len(r.watchers))
	for watch := range r.watchers {
		watchers = append(watchers, *watch)
	}
	r.watching.Unlock()
	for _, watch := range watchers {
		watch(err)
	}
}
