package main

import (
	"context"
	"fmt"
	"time"
)

// peerStorm is what came of a refresh storm at one gateway.
type peerStorm struct {
	name, series string
	stormLeg
	counts  refreshCounts
	late    int // requests that came to the upstream with an access token after its end
	failure error
}

// stormEntrants are the gateways in the storm.
func (r *run) stormEntrants(redis string) []entrant {
	apache := func(sessions string) starter {
		return r.apache(func(at surroundings) string { return apacheLogin(at, stormClient, sessions, apachePassesTokens) })
	}
	proxy := func(redis string) starter { return r.proxy(stormClient, oauth2ProxyStorm(redis)) }
	return []entrant{
		{name: seriesOurs, series: seriesOurs, start: r.caddy(r.stormDirective(stormClient))},
		{name: seriesApache + ", session in the cookie", series: seriesApache, start: apache(inCookie)},
		{name: seriesApache + ", session in shared memory", series: seriesApache, start: apache(inMemory)},
		{name: seriesProxy + ", session in the cookie", series: seriesProxy, start: proxy("")},
		{name: seriesProxy + ", session in Redis", series: seriesProxy, start: proxy(redis)},
	}
}

// peerStorms has the same clients use one session at each gateway, one after the other. All share the cookies of one browser, and take
// each new one at once: the kindest case for gateways that renew the cookie.
func (r *run) peerStorms(ctx context.Context) ([]peerStorm, error) {
	redis, err := startRedis(ctx, r.dir)
	if err != nil {
		return nil, err
	}
	defer redis.stop()
	var storms []peerStorm
	for i, e := range r.stormEntrants(redis.address) {
		storm := peerStorm{name: e.name, series: e.series}
		if storm.failure = r.peerStorm(ctx, fmt.Sprintf("storm-%d", i), e, &storm); ctx.Err() != nil {
			return nil, ctx.Err()
		}
		storms = append(storms, storm)
		fmt.Fprintf(r.progress, "%-14s %-45s %d of %d refused, %d late, %+v %v\n", "storm", e.name, storm.refused(), storm.Requests,
			storm.late, storm.counts, storm.failure)
	}
	return storms, nil
}

func (r *run) peerStorm(ctx context.Context, name string, e entrant, storm *peerStorm) error {
	g, err := e.start(ctx, name)
	if err != nil {
		return err
	}
	defer g.stop()
	if err := refuses(ctx, g); err != nil {
		return err
	}
	before := r.provider.refreshes.count()
	if storm.stormLeg, err = r.rage(ctx, g, r.stormLength, 0); err != nil {
		return err
	}
	time.Sleep(2 * stormLatency) // for grants that are on their way
	storm.counts = r.provider.refreshes.count().since(before)
	storm.late = r.provider.late(storm.Arrivals)
	return nil
}

// lost is how much of the requests was of no use: refused, or passed on with an access token after its end, which an API refuses.
func (s peerStorm) lost() float64 { return float64(s.refused()+s.late) / float64(max(1, s.Requests)) }

// late counts what came to the upstream with an access token after its end.
func (p *provider) late(arrivals map[string][]int64) int {
	late := 0
	for mark, times := range arrivals {
		token, ok := p.refreshes.find(mark)
		for _, arrived := range times {
			if ok && time.Unix(0, arrived).After(token.ends) {
				late++
			}
		}
	}
	return late
}
