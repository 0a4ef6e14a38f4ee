package main

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// reissued is how old a session gets before its user logs in again, at gateways that give every session of a minute a new cookie:
// a browser would keep that, the load generator would be given another one with every request.
const reissued = 40 * time.Second

// contestant is an entrant that runs, and what came of it.
type contestant struct {
	entrant
	gateway  *gateway
	load     workload
	loggedIn time.Time
	rounds   []round
	failure  error // it is not driven any more
}

// comparePeers runs one case: all gateways at once, driven in turns. A gateway that fails drops out, and stays in the table; plain Caddy
// must not.
func (r *run) comparePeers(ctx context.Context, c peerCase) ([]*contestant, error) {
	var all []*contestant
	for i, e := range r.entrants(c) {
		name := fmt.Sprintf("%s-%d", c.name(), i)
		g, err := e.start(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
		defer g.stop()
		all = append(all, &contestant{entrant: e, gateway: g})
	}
	tokens, err := r.tokens("RS256", c.users)
	if err != nil {
		return nil, err
	}
	ours := all[slices.IndexFunc(all, func(one *contestant) bool { return one.series == seriesOurs })]
	if err := r.prepare(ctx, c, ours, tokens); err != nil {
		return nil, fmt.Errorf("%s: %w", ours.name, err)
	}
	for _, one := range all {
		switch {
		case one == ours:
		case one.open: // it is shown the same as this handler
			if err := r.prepare(ctx, c, one, ours.load.credentials); err != nil {
				return nil, fmt.Errorf("%s: %w", one.name, err)
			}
		default:
			one.failure = r.prepare(ctx, c, one, tokens)
		}
	}
	if err := r.drivePeers(ctx, c, all); err != nil {
		return nil, err
	}
	for _, one := range all {
		if one.failure == nil {
			fmt.Fprintf(r.progress, "%-14s %-45s %6.0f/s\n", c.name(), one.name, rate(one.rounds))
		} else {
			fmt.Fprintf(r.progress, "%-14s %-45s %s\n", c.name(), one.name, one.failed())
		}
	}
	return all, nil
}

// prepare gives a gateway its credentials, and makes sure that it does its work: who has one gets in, and nobody else.
func (r *run) prepare(ctx context.Context, c peerCase, one *contestant, shown credentials) error {
	if c.sessions && !one.open {
		cookies, err := one.gateway.logins(ctx, c.users)
		if err != nil {
			return err
		}
		shown, one.loggedIn = credentials{"Cookie", cookies}, time.Now()
	}
	var err error
	if one.load, err = r.newWorkload(fmt.Sprintf("%s-%s", c.name(), fileName(one.name)), shown); err != nil {
		return err
	}
	if one.open {
		_, err = one.gateway.visit(ctx, "/", shown.first(1))
		return err
	}
	if err := refuses(ctx, one.gateway); err != nil {
		return err
	}
	_, err = one.gateway.visit(ctx, "/", shown)
	return err
}

// renew has the users of a gateway log in again.
func (r *run) renew(ctx context.Context, c peerCase, one *contestant) error {
	cookies, err := one.gateway.logins(ctx, c.users)
	if err != nil {
		return err
	}
	sent := one.load.sent
	one.load, err = r.newWorkload(fmt.Sprintf("%s-%s", c.name(), fileName(one.name)), credentials{"Cookie", cookies})
	one.load.sent, one.loggedIn = sent, time.Now()
	return err
}

// fileName makes a name of a file of anything.
func fileName(name string) string { return regexp.MustCompile(`\W+`).ReplaceAllString(name, "-") }

// refuses makes sure that a gateway lets nobody in without a credential.
func refuses(ctx context.Context, g *gateway) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.address+"/", http.NoBody)
	if err != nil {
		return err
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	status, body, err := answer(client, request)
	if err != nil {
		return err
	}
	if status < http.StatusMultipleChoices {
		return fmt.Errorf("a request without a credential got %d: %s", status, body)
	}
	return nil
}

// drivePeers drives them one after the other, again and again.
func (r *run) drivePeers(ctx context.Context, c peerCase, all []*contestant) error {
	for n := range r.rounds + 1 {
		for turn := range all {
			one := all[(turn+n)%len(all)] // the first one changes: none always meets the warmer machine
			if one.failure != nil {
				continue
			}
			if one.reissues && time.Since(one.loggedIn) > reissued {
				one.failure = r.renew(ctx, c, one)
			}
			var result round
			if one.failure == nil {
				result, one.failure = r.load(ctx, one.gateway, &one.load)
			}
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case one.failure != nil && one.open:
				return one.failure
			case one.failure == nil && n > 0: // the first round warms up
				one.rounds = append(one.rounds, result)
			}
		}
	}
	return nil
}

// failed tells in a few words why a gateway dropped out.
func (one *contestant) failed() string {
	text := one.failure.Error()
	for line := range strings.Lines(text) {
		if strings.Contains(line, "Non-2xx") || strings.Contains(line, "Socket errors") {
			return strings.TrimSpace(line)
		}
	}
	text, _, _ = strings.Cut(text, "\n")
	text, _, _ = strings.Cut(text, ": <") // a page about it
	return text
}

// best is the better one of a series, by its requests per second.
func (p peerResult) best(series string) *contestant {
	var best *contestant
	for _, one := range p.contestants {
		switch {
		case one.series != series:
		case best == nil, best.failure != nil, one.failure == nil && rate(one.rounds) > rate(best.rounds):
			best = one
		}
	}
	return best
}
