package session

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

const (
	// storageWait bounds what is waited for the storage, once for all requests.
	storageWait = 5 * time.Second

	// retryAfter is the pause after a storage failed, rereadAfter the least time between two readings for unknown ids.
	retryAfter  = time.Minute
	rereadAfter = 30 * time.Second

	// maxRetained bounds the keys that are known without being in the storage.
	maxRetained = 32
)

// KeyRing is a [KeySource] of random keys that it makes itself, keeps in a storage, shares with everybody who uses the same
// storage, and rotates. Nothing is read or made before it is needed. While the storage cannot be used, the keys that are known
// go on, or one that is known to this process only. It is safe for concurrent use.
type KeyRing struct {
	now  func() time.Time
	keys atomic.Pointer[knownKeys]

	mu       sync.Mutex // for what follows, and for changing keys
	storage  certmagic.Storage
	logger   *zap.Logger
	running  *storageOperation
	rereadAt time.Time // unknown ids are looked for again from then on
	failing  bool      // the storage failed the last time, and the log says so
}

// knownKeys is what a ring knows at a moment. It never changes.
type knownKeys struct {
	stored   []*generatedKey // as the storage has them, oldest first
	retained []*generatedKey // made without a storage, or from one that a reload took away; they seal only while nothing is stored
	foreign  bool            // stored is from a storage that a reload took away, the new one has not been looked at
	lookAt   time.Time       // when to turn to the storage: to make a key, to rotate, to try again
}

// NewKeyRing returns the ring that lives in this storage. It does not touch the storage.
func NewKeyRing(storage certmagic.Storage, logger *zap.Logger, now func() time.Time) *KeyRing {
	r := &KeyRing{now: now, storage: storage, logger: logger}
	r.keys.Store(new(knownKeys))
	return r
}

// SetStorage replaces the storage, as a new configuration may. The known keys stay: if the new storage has a ring of its own,
// they open, else they become its ring.
func (r *KeyRing) SetStorage(storage certmagic.Storage, logger *zap.Logger) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.storage, r.logger = storage, logger
	r.running, r.rereadAt, r.failing = nil, time.Time{}, false
	known := *r.keys.Load()
	known.foreign, known.lookAt = true, time.Time{}
	r.keys.Store(&known)
}

func (r *KeyRing) sealing(ctx context.Context) (*key, error) {
	known, now := r.keys.Load(), r.now()
	seals := known.seals(now)
	if seals != nil {
		if !now.Before(known.lookAt) {
			r.turnToStorage(true) // in the background
		}
		return seals.key, nil
	}
	// an operation that was under way already may end well without having made a key
	for range 3 {
		if !r.wait(ctx, r.turnToStorage(true)) {
			break
		}
		if seals := r.keys.Load().seals(now); seals != nil {
			return seals.key, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("waiting for a session key: %w", err)
	}
	return r.withoutStorage()
}

func (r *KeyRing) opening(ctx context.Context, id keyID) *key {
	if k := r.keys.Load().find(id); k != nil {
		return k.key
	}
	operation := r.turnToStorage(false)
	if operation == nil {
		return nil
	}
	r.wait(ctx, operation)
	if k := r.keys.Load().find(id); k != nil {
		return k.key
	}
	return nil
}

func (r *KeyRing) current(k *key) bool {
	known := r.keys.Load()
	seals := known.seals(r.now())
	if seals == nil || seals.id == k.id {
		return true
	}
	// another instance may have begun to seal with a newer key
	i := slices.IndexFunc(known.stored, func(other *generatedKey) bool { return other.id == k.id })
	return i > slices.Index(known.stored, seals)
}

// seals returns the newest key that others have had the time to read. The first key of a ring seals at once.
func (k *knownKeys) seals(now time.Time) *generatedKey {
	for _, stored := range slices.Backward(k.stored) {
		if !now.Before(stored.created.Add(publishDelay)) {
			return stored
		}
	}
	if len(k.stored) > 0 {
		return k.stored[0]
	}
	if len(k.retained) > 0 {
		return k.retained[len(k.retained)-1]
	}
	return nil
}

func (k *knownKeys) find(id keyID) *generatedKey {
	for _, keys := range [...][]*generatedKey{k.stored, k.retained} {
		for _, known := range keys {
			if known.id == id {
				return known
			}
		}
	}
	return nil
}
