package redis

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// maxValue bounds what is read of a value (bytes).
const maxValue = 1 << 20

// Load returns the value of a key. The error wraps [io/fs.ErrNotExist] when there is none.
func (s *Store) Load(ctx context.Context, key string) ([]byte, error) {
	bounded, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	// no more than can be a value of ours: somebody else may write here
	value, err := s.client.GetRange(bounded, s.name(key), 0, maxValue-1).Bytes()
	if err == nil && len(value) == 0 { // no value of ours is empty
		return nil, fmt.Errorf("redis: %w", fs.ErrNotExist)
	}
	return value, s.failure(ctx, err)
}

// Store writes a value that Redis drops when it has expired.
func (s *Store) Store(ctx context.Context, key string, value []byte, expires time.Time) error {
	// A span of time instead of the time itself, so that it is this host's clock alone that counts.
	left := remaining(expires)
	if left <= 0 {
		return s.Delete(ctx, key)
	}
	bounded, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	return s.failure(ctx, s.client.Set(bounded, s.name(key), value, left).Err())
}

// Delete removes a value; that there is none is no error.
func (s *Store) Delete(ctx context.Context, key string) error {
	bounded, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	return s.failure(ctx, s.client.Unlink(bounded, s.name(key)).Err())
}

// addMember puts a member with its expiry in milliseconds as score into a sorted set, drops those that have expired and lets the set
// live as long as its last member.
var addMember = goredis.NewScript(`
redis.call('zremrangebyscore', KEYS[1], '-inf', ARGV[1])
redis.call('zadd', KEYS[1], ARGV[2], ARGV[3])
local last = redis.call('zrange', KEYS[1], -1, -1, 'withscores')
redis.call('pexpire', KEYS[1], last[2] - ARGV[1])
return 1`)

// Add puts a member into a set until it expires.
func (s *Store) Add(ctx context.Context, set, member string, expires time.Time) error {
	if remaining(expires) <= 0 {
		return s.Remove(ctx, set, member)
	}
	bounded, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	ends := expires.UnixMilli() + 1 // none is forgotten early
	return s.failure(ctx, addMember.Run(bounded, s.client, []string{s.setName(set)}, time.Now().UnixMilli(), ends, member).Err())
}

// Remove takes a member out of a set.
func (s *Store) Remove(ctx context.Context, set, member string) error {
	bounded, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	return s.failure(ctx, s.client.ZRem(bounded, s.setName(set), member).Err())
}

// Members returns the members of a set that have not expired.
func (s *Store) Members(ctx context.Context, set string) ([]string, error) {
	bounded, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	since := "(" + strconv.FormatInt(time.Now().UnixMilli(), 10)
	members, err := s.client.ZRangeByScore(bounded, s.setName(set), &goredis.ZRangeBy{Min: since, Max: "+inf"}).Result()
	return members, s.failure(ctx, err)
}

// The contract's keys have no colon, so that these never meet.
func (s *Store) name(key string) string     { return s.Prefix + ":" + key }
func (s *Store) setName(key string) string  { return s.Prefix + ":" + key + ":set" }
func (s *Store) lockName(key string) string { return s.Prefix + ":" + key + ":lock" }

// remaining is the time until then in whole milliseconds, rounded up.
func remaining(expires time.Time) time.Duration {
	const almost = time.Millisecond - time.Nanosecond
	return (time.Until(expires) + almost).Truncate(time.Millisecond)
}

// failure says what went wrong without a word of what was sent. What the caller's context ended is the context's error.
func (s *Store) failure(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("redis: %w", ctx.Err())
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("redis: no answer within %v", s.patience())
	}
	text := err.Error()
	switch {
	case withoutArguments(text) != text:
		return errors.New("redis: " + withoutArguments(text))
	case errors.Is(err, goredis.Nil):
		return errors.New("redis: the sentinels know of no master of that name")
	case strings.HasPrefix(text, "redis: "):
		return err
	}
	return fmt.Errorf("redis: %w", err)
}

// withoutArguments cuts what a server that does not know a command repeats of it: the password, for one, in old versions.
func withoutArguments(text string) string {
	text, _, _ = strings.Cut(text, ", with args")
	return text
}
