package openidconnect

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func digestOfNumber(n int) tokenDigest {
	return tokenDigest(sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n))))
}

func TestTokenCacheIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Now()
	token := func(n int) *verifiedToken {
		return &verifiedToken{payload: fmt.Sprint(n), cachedUntil: now.Add(time.Hour)}
	}
	for _, capacity := range []int{0, 1, 2, 31, 33, 100, 1000} {
		c := newTokenCache(capacity)
		for n := range 3000 {
			c.put(digestOfNumber(n), token(n))
			c.put(digestOfNumber(n), token(n)) // again
			if capacity > 0 {
				if got := c.get(digestOfNumber(n), now); got == nil || got.payload != fmt.Sprint(n) {
					t.Fatalf("capacity %d: the newest token %d is not there", capacity, n)
				}
			}
			if c.size() > capacity {
				t.Fatalf("capacity %d: %d tokens", capacity, c.size())
			}
		}
		found := 0
		for n := range 3000 {
			if got := c.get(digestOfNumber(n), now); got != nil {
				found++
				if got.payload != fmt.Sprint(n) {
					t.Fatalf("asked for %d, got %s", n, got.payload)
				}
			}
		}
		if found != c.size() || found != capacity {
			t.Errorf("capacity %d: %d tokens found, size %d", capacity, found, c.size())
		}
	}
}

func TestTokenCacheForgets(t *testing.T) {
	t.Parallel()
	now := time.Now()
	c := newTokenCache(100)
	for n := range 50 {
		c.put(digestOfNumber(n), &verifiedToken{cachedUntil: now.Add(time.Duration(n) * time.Second)})
	}
	for n := range 50 {
		if got := c.get(digestOfNumber(n), now.Add(10*time.Second)); (got != nil) != (n > 10) {
			t.Errorf("token %d: got %v", n, got)
		}
	}
	for n := range 50 {
		c.remove(digestOfNumber(n))
		c.remove(digestOfNumber(n))
		if c.get(digestOfNumber(n), now) != nil {
			t.Errorf("token %d is still there", n)
		}
	}
	if c.size() != 0 {
		t.Errorf("%d tokens are left", c.size())
	}
}

// What is used stays, what is not goes.
func TestTokenCacheKeepsWhatIsUsed(t *testing.T) {
	t.Parallel()
	now := time.Now()
	c := newTokenCache(200)
	const hot = 20
	for n := range 20_000 {
		c.put(digestOfNumber(n), &verifiedToken{cachedUntil: now.Add(time.Hour)})
		for i := range hot {
			c.get(digestOfNumber(i), now)
		}
	}
	kept := 0
	for i := range hot {
		if c.get(digestOfNumber(i), now) != nil {
			kept++
		}
	}
	if kept < hot*3/4 {
		t.Errorf("%d of %d tokens in use were kept", kept, hot)
	}
}

func TestTokenCacheUnderConcurrency(t *testing.T) {
	t.Parallel()
	now := time.Now()
	c := newTokenCache(64)
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 1))
			for range 5000 {
				n := random.IntN(500)
				switch random.IntN(4) {
				case 0:
					c.remove(digestOfNumber(n))
				case 1:
					c.put(digestOfNumber(n), &verifiedToken{payload: fmt.Sprint(n), cachedUntil: now.Add(time.Hour)})
				default:
					if got := c.get(digestOfNumber(n), now); got != nil && got.payload != fmt.Sprint(n) {
						t.Errorf("asked for %d, got %s", n, got.payload)
					}
				}
			}
		})
	}
	group.Wait()
	if n := c.size(); n > 64 {
		t.Errorf("%d tokens, want at most 64", n)
	}
	entries := 0
	for i := range c.shards {
		entries += len(c.shards[i].entries)
	}
	if entries != c.size() {
		t.Errorf("%d entries, size %d", entries, c.size())
	}
}

// size is the number of tokens kept, those included that are out of time and that nobody has asked for since.
func (c *boundedCache[K, V]) size() int { return int(c.count.Load()) }
