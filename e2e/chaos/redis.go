package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/cluster"
)

const (
	// pooledConnections is how many connections to Redis a gateway may keep for each core.
	pooledConnections = 10
	// remembered is how long a gateway goes on with a session that it has read; one outage in three is longer than that.
	remembered = 5 * time.Second
)

// playRedis has a Redis that hangs, or is killed and comes back, for a second or two, and now and then for longer. It keeps what it has
// written.
func playRedis(ctx context.Context, t *site) error {
	directory := filepath.Join(t.directory, "redis")
	if err := os.Mkdir(directory, 0o700); err != nil {
		return err
	}
	redis, err := cluster.StartRedis(directory, true)
	if err != nil {
		return err
	}
	t.closers = append(t.closers, func() { _ = redis.Stop() })
	if err := t.start(t.caddyfile(options{storage: fmt.Sprintf("redis 127.0.0.1:%d", redis.Port())}), 1); err != nil {
		return err
	}
	c, err := t.newCrowd(ctx)
	if err != nil {
		return err
	}
	c.use(ctx, warmUp)
	if t.before, err = t.atRest(ctx, nil); err != nil {
		return err
	}
	// Who brings a token, or nothing, does not notice.
	c.allowed[withSession] = []int{http.StatusServiceUnavailable}
	c.allowed[newLogin] = []int{http.StatusServiceUnavailable}
	t.expected = []string{"store_unavailable"}
	over, cancel := context.WithTimeout(ctx, t.duration)
	defer cancel()
	type flaps struct {
		hung, killed int
		err          error
	}
	ended := make(chan flaps)
	go func() {
		var f flaps
		f.hung, f.killed, f.err = t.flapRedis(over, redis)
		ended <- f
	}()
	c.use(ctx, t.duration)
	f := <-ended
	if f.err != nil {
		return f.err
	}
	t.noteDone("Redis hung %d times, and was killed %d times; %d renewals", f.hung, f.killed, t.provider.RefreshGrants())
	c.lastLook(ctx)
	t.room = c.kept()
	t.room.descriptors = pooledConnections * runtime.NumCPU()
	return t.compare(ctx)
}

// flapRedis returns once the time is over and Redis is well again.
func (t *site) flapRedis(ctx context.Context, redis *cluster.Redis) (hung, killed int, err error) {
	bad := func() time.Duration {
		d := time.Second + time.Duration(t.random.Int64N(int64(time.Second)))
		if (hung+killed)%3 == 0 {
			d += remembered
		}
		return d
	}
	for pause(ctx, time.Second) {
		if hung <= killed {
			hung++
			if err := redis.Pause(); err != nil {
				return hung, killed, err
			}
			_ = pause(ctx, bad())
			if err := redis.Resume(); err != nil {
				return hung, killed, err
			}
			continue
		}
		killed++
		redis.Kill()
		_ = pause(ctx, bad())
		if err := redis.Start(); err != nil {
			return hung, killed, err
		}
	}
	return hung, killed, nil
}
