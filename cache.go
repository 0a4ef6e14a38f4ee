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

// tokenCache keeps what is known of tokens. It is bounded, gives nothing back after its time, and holds facts about a token, never a
// decision for a site: every handler judges the facts by its own policy. One of capacity zero keeps nothing.
type tokenCache struct {
	capacity int64
	count    atomic.Int64
	shards   [cacheShards]cacheShard
}

const cacheShards = 32

// cacheShard is a part of the cache with a lock of its own. It evicts by second chance: a ring of entries, passed over once when
// they were used since the hand last came by. The bound is that of the whole cache, as digests do not fill shards evenly.
type cacheShard struct {
	mu      sync.RWMutex
	entries map[tokenDigest]*cacheEntry
	ring    []*cacheEntry
	hand    int
}

type cacheEntry struct {
	digest tokenDigest
	token  *verifiedToken
	index  int // in the ring
	used   atomic.Bool
}

func newTokenCache(capacity int) *tokenCache {
	return &tokenCache{capacity: int64(capacity)}
}

// get returns the token unless it is unknown or its time in the cache is over.
func (c *tokenCache) get(digest tokenDigest, now time.Time) *verifiedToken {
	s := &c.shards[digest[0]%cacheShards]
	s.mu.RLock()
	entry := s.entries[digest]
	var token *verifiedToken
	if entry != nil {
		token = entry.token
	}
	s.mu.RUnlock()
	if token == nil || !now.Before(token.cachedUntil) {
		return nil
	}
	if !entry.used.Load() {
		entry.used.Store(true)
	}
	return token
}

// put adds or replaces a token.
func (c *tokenCache) put(digest tokenDigest, token *verifiedToken) {
	if c.capacity == 0 {
		return
	}
	own := int(digest[0] % cacheShards)
	s := &c.shards[own]
	s.mu.Lock()
	if entry := s.entries[digest]; entry != nil {
		entry.token = token
		s.mu.Unlock()
		return
	}
	if s.entries == nil {
		s.entries = make(map[tokenDigest]*cacheEntry)
	}
	entry := &cacheEntry{digest: digest, token: token, index: len(s.ring)}
	s.entries[digest] = entry
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

// remove drops a token.
func (c *tokenCache) remove(digest tokenDigest) {
	s := &c.shards[digest[0]%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if entry := s.entries[digest]; entry != nil {
		s.drop(entry)
		c.count.Add(-1)
	}
}

// evict drops one entry, but not the newest, and reports whether there was one. It ends: no entry is passed over twice.
func (s *cacheShard) evict(newest *cacheEntry, now time.Time) bool {
	for range 2 * len(s.ring) {
		s.hand = (s.hand + 1) % len(s.ring)
		entry := s.ring[s.hand]
		if entry == newest || entry.used.Swap(false) && now.Before(entry.token.cachedUntil) {
			continue
		}
		s.drop(entry)
		return true
	}
	return false
}

// drop takes an entry out; the last of the ring takes its place.
func (s *cacheShard) drop(entry *cacheEntry) {
	delete(s.entries, entry.digest)
	last := len(s.ring) - 1
	s.ring[entry.index] = s.ring[last]
	s.ring[entry.index].index = entry.index
	s.ring[last] = nil
	s.ring = s.ring[:last]
}
