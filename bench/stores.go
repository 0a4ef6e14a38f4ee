package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// storeCase compares the places where sessions can live.
type storeCase struct {
	users int
	cold  bool // no request finds its session in the memory of the gateway
}

func (c storeCase) name() string {
	name := fmt.Sprintf("stores-%d", c.users)
	if c.cold {
		name += "-cold"
	}
	return name
}

func storeCases() []storeCase {
	return []storeCase{{users: 1}, {users: 1000}, {users: coldSessions, cold: true}}
}

// place is where sessions live.
type place struct {
	name    string
	guarded bool // by the handler
	storage string
}

// The lines of the table. The first two are the same: how they differ is noise.
const (
	placePlain = iota
	placeNoise
	placeCookies
	placeCaddy
	placeRedis
)

func places(redis string) []place {
	return []place{
		placePlain:   {name: "plain Caddy"},
		placeNoise:   {name: "plain Caddy again: noise"},
		placeCookies: {name: "in cookies", guarded: true},
		placeCaddy:   {name: "in Caddy's storage, files", guarded: true, storage: "caddy"},
		placeRedis:   {name: "in Redis", guarded: true, storage: "redis " + redis},
	}
}

// stores compares sessions in cookies with those in stores, and with none.
func (r *run) stores(ctx context.Context, report *strings.Builder) error {
	var chosen []storeCase
	for _, c := range storeCases() {
		if r.cases.MatchString(c.name()) {
			chosen = append(chosen, c)
		}
	}
	if len(chosen) == 0 {
		return nil
	}
	redis, err := startRedis(ctx, r.dir)
	if err != nil {
		return err
	}
	defer redis.stop()
	fmt.Fprintf(report, "\n### Where sessions live: requests per second, gateway on one core (%d rounds of %s each, %d connections)\n\n",
		r.rounds, r.duration, r.connections)
	report.WriteString("| case | sessions | Cookie | requests/s | ratio to plain Caddy | ratio to cookies | processor time a request " +
		"| p50 | p99 | reads of Redis a request |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, c := range chosen {
		if err := r.compareStores(ctx, report, c, redis.address); err != nil {
			return fmt.Errorf("case %s: %w", c.name(), err)
		}
	}
	return nil
}

// compareStores runs one case: all gateways at once, driven in turns.
func (r *run) compareStores(ctx context.Context, report *strings.Builder, c storeCase, redis string) error {
	all := places(redis)
	gateways := make([]driven, len(all))
	for i, where := range all {
		who := population{client: loginClient, storage: where.storage}
		shown, err := r.sessions(ctx, who, c.users)
		if err != nil {
			return fmt.Errorf("%s: %w", where.name, err)
		}
		name := fmt.Sprintf("%s-%d", c.name(), i)
		if gateways[i].load, err = r.newWorkload(name, shown); err != nil {
			return err
		}
		directive := ""
		if where.guarded {
			directive = r.sessionDirective(who, keepTokens+"\t\tset_userinfo_header off\n")
		}
		if gateways[i].gateway, err = r.startGateway(ctx, name, r.site(directive)); err != nil {
			return err
		}
		defer gateways[i].stop()
		if where.guarded {
			err = guarded(ctx, gateways[i].gateway, benchCase{}, shown)
		} else {
			_, err = gateways[i].visit(ctx, "/", shown.first(1))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", where.name, err)
		}
	}
	before, err := readsOfRedis(redis)
	if err != nil {
		return err
	}
	rounds, err := r.inTurns(ctx, gateways)
	if err != nil {
		return err
	}
	after, err := readsOfRedis(redis)
	if err != nil {
		return err
	}
	for i, where := range all {
		reads := ""
		if i == placeRedis {
			share := float64(after-before) / float64(gateways[i].load.sent)
			if reads = fmt.Sprintf("%.3f", share); c.cold && share < 0.99 {
				return errors.New("not every session was read from Redis: too few of them")
			}
		}
		fmt.Fprintf(report, "| %s | %s | %d B | %.0f/s | %s | %s | %s | %s | %s | %s |\n", c.name(), where.name, gateways[i].load.size(), rate(rounds[i]),
			ratios(rounds[i], rounds[placePlain]), ratios(rounds[i], rounds[placeCookies]),
			short(middle(of(rounds[i], func(r round) time.Duration { return r.processor }))),
			short(middle(of(rounds[i], func(r round) time.Duration { return r.median }))),
			short(middle(of(rounds[i], func(r round) time.Duration { return r.p99 }))), reads)
	}
	fmt.Fprintf(r.progress, "%-22s cookies %6.0f/s  Redis %6.0f/s\n", c.name(), rate(rounds[placeCookies]), rate(rounds[placeRedis]))
	return nil
}

// ratios compares the requests per second of two gateways round by round: median, least and most.
func ratios(these, those []round) string {
	values := make([]float64, len(these))
	for i := range these {
		values[i] = these[i].perSecond / those[i].perSecond
	}
	return fmt.Sprintf("**%.3f** (%.3f … %.3f)", middle(values), slices.Min(values), slices.Max(values))
}
