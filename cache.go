package openidconnect

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"
)

// tokenDigest identifies a token in caches: all of it, by a hash that nobody can steer into a collision.
type tokenDigest [sha256.Size]byte

// digestToken runs for every request with a token. A copy of the token on the heap would be the largest allocation of all, so tokens
// of the usual size are copied to the stack.
func digestToken(raw string) tokenDigest {
	var buffer [2048]byte
	if len(raw) > len(buffer) {
		return sha256.Sum256([]byte(raw))
	}
	return sha256.Sum256(buffer[:copy(buffer[:], raw)])
}

// tokenCache keeps what is known of tokens. It holds facts about a token, never a decision for a site: every handler judges the facts
// by its own policy.
type tokenCache = boundedCache[tokenDigest, *verifiedToken]

func newTokenCache(capacity int) *tokenCache {
	return newBoundedCache[tokenDigest, *verifiedToken](capacity, func(digest tokenDigest) int { return int(digest[0]) })
}

// cached is what a [boundedCache] can keep.
type cached interface {
	comparable
	// until is the end of its time in the cache.
	until() time.Time
}

// boundedCache is a cache of so many entries that gives nothing back after its time. One of capacity zero keeps nothing.
type boundedCache[K comparable, V cached] struct {
	capacity int64
	count    atomic.Int64
	spread   func(K) int // over the shards
	shards   [cacheShards]cacheShard[K, V]
}

const cacheShards = 32

// cacheShard is a part of the cache with a lock of its own. It evicts by second chance: a ring of entries, passed over once when
// they were used since the hand last came by. The bound is that of the whole cache, as keys do not fill shards evenly.
type cacheShard[K comparable, V cached] struct {
	mu      sync.RWMutex
	entries map[K]*cacheEntry[K, V]
	ring    []*cacheEntry[K, V]
	hand    int
}

type cacheEntry[K comparable, V cached] struct {
	key   K
	value V
	index int // in the ring
	used  atomic.Bool
}

func newBoundedCache[K comparable, V cached](capacity int, spread func(K) int) *boundedCache[K, V] {
	return &boundedCache[K, V]{capacity: int64(capacity), spread: spread}
}

func (c *boundedCache[K, V]) shardOf(key K) int { return c.spread(key) % cacheShards }

// get returns the value, or none when it is unknown or its time in the cache is over.
func (c *boundedCache[K, V]) get(key K, now time.Time) V {
	var value, none V
	s := &c.shards[c.shardOf(key)]
	s.mu.RLock()
	entry := s.entries[key]
	if entry != nil {
		value = entry.value
	}
	s.mu.RUnlock()
	if value == none || !now.Before(value.until()) {
		return none
	}
	if !entry.used.Load() {
		entry.used.Store(true)
	}
	return value
}

// put adds or replaces a value.
func (c *boundedCache[K, V]) put(key K, value V) {
	if c.capacity == 0 {
		return
	}
	own := c.shardOf(key)
	s := &c.shards[own]
	s.mu.Lock()
	if entry := s.entries[key]; entry != nil {
		entry.value = value
		s.mu.Unlock()
		return
	}
	if s.entries == nil {
		s.entries = make(map[K]*cacheEntry[K, V])
	}
	entry := &cacheEntry[K, V]{key: key, value: value, index: len(s.ring)}
	s.entries[key] = entry
	s.ring = append(s.ring, entry)
	over := c.count.Add(1) > c.capacity
	s.mu.Unlock()
	for i := 0; over && i <= cacheShards; i++ {
		victim := &c.shards[(own+i)%cacheShards]
		victim.mu.Lock()
		if victim.evict(entry, time.Now()) {
			c.count.Add(-1)
			over = false
		}
		victim.mu.Unlock()
	}
}

// remove drops a value.
func (c *boundedCache[K, V]) remove(key K) {
	s := &c.shards[c.shardOf(key)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if entry := s.entries[key]; entry != nil {
		s.drop(entry)
		c.count.Add(-1)
	}
}

// evict drops one entry, but not the newest, and reports whether there was one. It ends: no entry is passed over twice.
func (s *cacheShard[K, V]) evict(newest *cacheEntry[K, V], now time.Time) bool {
	for range 2 * len(s.ring) {
		s.hand = (s.hand + 1) % len(s.ring)
		entry := s.ring[s.hand]
		if entry == newest || entry.used.Swap(false) && now.Before(entry.value.until()) {
			continue
		}
		s.drop(entry)
		return true
	}
	return false
}

// drop takes an entry out; the last of the ring takes its place.
func (s *cacheShard[K, V]) drop(entry *cacheEntry[K, V]) {
	delete(s.entries, entry.key)
	last := len(s.ring) - 1
	s.ring[entry.index] = s.ring[last]
	s.ring[entry.index].index = entry.index
	s.ring[last] = nil
	s.ring = s.ring[:last]
}
