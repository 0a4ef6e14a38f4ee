package openidconnect

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"
)

// tokenDigest identifies a token in caches: all of it, by a hash that nobody can steer into a collision.
type tokenDigest [sha256.Size]byte

// tokenCache keeps what is known of tokens. It is bounded, drops entries when they expire, and holds facts about a token, never a
// decision for a site: every handler judges the facts by its own policy. The zero capacity keeps nothing.
type tokenCache struct {
	shards [cacheShards]cacheShard

	hits, misses atomic.Uint64
}

const cacheShards = 32

// cacheShard evicts by second chance: a ring of entries, passed over once when they were used since the hand last came by.
type cacheShard struct {
	mu       sync.RWMutex
	capacity int
	entries  map[tokenDigest]*cacheEntry
	ring     []*cacheEntry
	hand     int
}

type cacheEntry struct {
	digest tokenDigest
	token  *verifiedToken
	used   atomic.Bool
}

func newTokenCache(capacity int) *tokenCache {
	c := new(tokenCache)
	for i := range c.shards {
		c.shards[i].capacity = capacity / cacheShards
		if i < capacity%cacheShards {
			c.shards[i].capacity++
		}
	}
	return c
}

func (c *tokenCache) shard(digest tokenDigest) *cacheShard {
	return &c.shards[digest[0]%cacheShards]
}

// get returns the token unless it is unknown or its time in the cache is over.
func (c *tokenCache) get(digest tokenDigest, now time.Time) *verifiedToken {
	s := c.shard(digest)
	s.mu.RLock()
	entry := s.entries[digest]
	s.mu.RUnlock()
	if entry == nil || !now.Before(entry.token.cachedUntil) {
		c.misses.Add(1)
		return nil
	}
	if !entry.used.Load() {
		entry.used.Store(true)
	}
	c.hits.Add(1)
	return entry.token
}

// put adds or replaces a token.
func (c *tokenCache) put(digest tokenDigest, token *verifiedToken) {
	s := c.shard(digest)
	if s.capacity == 0 {
		return
	}
	entry := &cacheEntry{digest: digest, token: token}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.entries[digest]; old != nil {
		for i := range s.ring {
			if s.ring[i] == old {
				s.ring[i] = entry
				break
			}
		}
		s.entries[digest] = entry
		return
	}
	if s.entries == nil {
		s.entries = make(map[tokenDigest]*cacheEntry)
	}
	s.entries[digest] = entry
	if len(s.ring) < s.capacity {
		s.ring = append(s.ring, entry)
		return
	}
	now := time.Now()
	for {
		victim := s.ring[s.hand]
		if victim.used.Swap(false) && now.Before(victim.token.cachedUntil) {
			s.hand = (s.hand + 1) % len(s.ring)
			continue
		}
		delete(s.entries, victim.digest)
		s.ring[s.hand] = entry
		s.hand = (s.hand + 1) % len(s.ring)
		return
	}
}

// remove drops a token.
func (c *tokenCache) remove(digest tokenDigest) {
	s := c.shard(digest)
	s.mu.Lock()
	defer s.mu.Unlock()
	entry := s.entries[digest]
	if entry == nil {
		return
	}
	delete(s.entries, digest)
	for i := range s.ring {
		if s.ring[i] == entry {
			last := len(s.ring) - 1
			s.ring[i] = s.ring[last]
			s.ring[last] = nil
			s.ring = s.ring[:last]
			s.hand = min(s.hand, max(last-1, 0))
			return
		}
	}
}

// size is the number of tokens kept, expired ones that nobody asked for since included.
func (c *tokenCache) size() int {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		n += len(s.entries)
		s.mu.RUnlock()
	}
	return n
}
