package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	// manyRevocations is how many entries the long list of ended sessions has.
	manyRevocations = 100_000
	// revokersAtOnce is how many of them are made side by side: what comes together is written together.
	revokersAtOnce = 400
	// fillLimit bounds the making of the list.
	fillLimit = 5 * time.Minute
)

// revocationCase compares sessions with and without a list of ended ones.
type revocationCase struct {
	users int
	cold  bool // every request opens a seal, and looks into the list
}

func (c revocationCase) name() string {
	name := fmt.Sprintf("revocations-%d", c.users)
	if c.cold {
		name += "-cold"
	}
	return name
}

func revocationCases() []revocationCase {
	return []revocationCase{{users: 1}, {users: 1000}, {users: coldSessions, cold: true}}
}

// listed is a gateway that is measured, with a storage of its own.
type listed struct {
	driven
	name    string
	guarded bool
	entries int // in its list of ended sessions
	filled  listCost
}

// listCost is what the list costs beside requests.
type listCost struct {
	fill, start                   time.Duration // to make it, and from the start to the first answer with it
	heapBefore, heapAfter         int64
	residentBefore, residentAfter int64
}

// revocations compares requests with sessions to plain Caddy: with an empty list of ended sessions, and with a long one.
func (r *run) revocations(ctx context.Context, report *strings.Builder) error {
	var chosen []revocationCase
	for _, c := range revocationCases() {
		if r.cases.MatchString(c.name()) {
			chosen = append(chosen, c)
		}
	}
	if len(chosen) == 0 {
		return nil
	}
	if err := r.compareRevocations(ctx, report, chosen); err != nil {
		return fmt.Errorf("the cases revocations: %w", err)
	}
	return nil
}

func (r *run) compareRevocations(ctx context.Context, report *strings.Builder, chosen []revocationCase) error {
	// The first two are the same: how they differ is noise.
	all := []*listed{
		{name: "plain Caddy"},
		{name: "plain Caddy again: noise"},
		{name: "sessions, empty list", guarded: true},
		{name: "sessions, long list", guarded: true, entries: manyRevocations},
	}
	for i, l := range all {
		name, directive := fmt.Sprintf("revocations-%d", i), ""
		if l.guarded {
			directive = r.sessionDirective(population{client: loginClient}, keepTokens+"\t\tset_userinfo_header off\n")
		}
		storage := filepath.Join(r.dir, name+"-storage")
		config := r.siteWith(fmt.Sprintf("\tstorage file_system %s\n\tlog {\n\t\tlevel WARN\n\t}\n", storage), directive)
		g, err := r.startListed(ctx, name, config, l)
		if err != nil {
			return err
		}
		defer g.stop()
		l.gateway = g
	}
	fmt.Fprintf(report, "\n### Ended sessions: requests per second, gateway on one core (%d rounds of %s each, %d connections)\n\n",
		r.rounds, r.duration, r.connections)
	report.WriteString("| case | gateway | entries | requests/s | ratio to plain Caddy | ratio to the empty list | processor time a request " +
		"| p50 | p99 |\n|---|---|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, c := range chosen {
		if err := r.revocationRounds(ctx, report, c, all); err != nil {
			return fmt.Errorf("%s: %w", c.name(), err)
		}
	}
	cost := all[len(all)-1].filled
	fmt.Fprintf(report, "\nThe long list: %d entries, made through the admin API in %s.\n\n", manyRevocations, cost.fill.Round(100*time.Millisecond))
	report.WriteString("| | before | with the list | an entry |\n|---|--:|--:|--:|\n")
	for _, line := range []struct {
		what          string
		before, after int64
	}{
		{"heap", cost.heapBefore, cost.heapAfter},
		{"RSS, after all of the requests that made it", cost.residentBefore, cost.residentAfter},
	} {
		fmt.Fprintf(report, "| %s | %s | %s | %d B |\n", line.what, mebibytes(line.before), mebibytes(line.after),
			(line.after-line.before)/manyRevocations)
	}
	fmt.Fprintf(report, "\nFrom the start of a process to the first answer that depends on the list: %s.\n", millis(cost.start))
	return nil
}

// startListed starts a gateway, and makes its list.
func (r *run) startListed(ctx context.Context, name, config string, l *listed) (*gateway, error) {
	g, err := r.startGateway(ctx, name, config)
	if err != nil || !l.guarded {
		return g, err
	}
	if l.entries > 0 {
		l.filled, err = r.fillList(ctx, g, l.entries)
		g.stop()
		if err != nil {
			return nil, err
		}
		// A process that starts has to read what is there.
		began := time.Now()
		if g, err = r.startGateway(ctx, name, config); err != nil {
			return nil, err
		}
		defer func() { l.filled.start = time.Since(began) }()
	}
	if err := r.expectList(ctx, g, l.entries); err != nil {
		g.stop()
		return nil, err
	}
	return g, nil
}

// revocationRounds runs one case: all gateways at once, driven in turns.
func (r *run) revocationRounds(ctx context.Context, report *strings.Builder, c revocationCase, all []*listed) error {
	shown, err := r.sessions(ctx, population{client: loginClient}, c.users)
	if err != nil {
		return err
	}
	gateways := make([]driven, len(all))
	for i, l := range all {
		if l.load, err = r.newWorkload(fmt.Sprintf("%s-%d", c.name(), i), shown); err != nil {
			return err
		}
		gateways[i] = l.driven
		if l.guarded {
			err = guarded(ctx, l.gateway, benchCase{}, shown)
		} else {
			_, err = l.visit(ctx, "/", shown.first(1))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	rounds, err := r.inTurns(ctx, gateways)
	if err != nil {
		return err
	}
	for i, l := range all {
		fmt.Fprintf(report, "| %s | %s | %d | %.0f/s | %s | %s | %s | %s | %s |\n", c.name(), l.name, l.entries, rate(rounds[i]),
			ratios(rounds[i], rounds[0]), ratios(rounds[i], rounds[2]),
			short(middle(of(rounds[i], func(r round) time.Duration { return r.processor }))),
			short(middle(of(rounds[i], func(r round) time.Duration { return r.median }))),
			short(middle(of(rounds[i], func(r round) time.Duration { return r.p99 }))))
	}
	fmt.Fprintf(r.progress, "%-22s plain %6.0f/s  empty list %6.0f/s  long list %6.0f/s\n", c.name(),
		rate(rounds[0]), rate(rounds[2]), rate(rounds[3]))
	return nil
}

// fillList makes so many entries in a gateway's list, the last of which ends a session that is used.
func (r *run) fillList(ctx context.Context, g *gateway, entries int) (cost listCost, err error) {
	ctx, cancel := context.WithTimeout(ctx, fillLimit)
	defer cancel()
	cookies, err := g.logins(ctx, 1)
	if err != nil {
		return cost, err
	}
	subject := uuid(sha256.Sum256(fmt.Append(nil, r.provider.users.Load())))
	victim := credentials{"Cookie", cookies}
	if _, err := g.visit(ctx, "/", victim); err != nil {
		return cost, err
	}
	if cost.heapBefore, err = g.heap(); err != nil {
		return cost, err
	}
	if cost.residentBefore, err = g.resident(); err != nil {
		return cost, err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: revokersAtOnce}, Timeout: 30 * time.Second}
	began := time.Now()
	failures := make([]error, revokersAtOnce)
	var group sync.WaitGroup
	for worker := range revokersAtOnce {
		group.Go(func() {
			for i := worker; i < entries-1 && failures[worker] == nil; i += revokersAtOnce {
				failures[worker] = g.revoke(ctx, client, map[string]string{"sid": fmt.Sprintf("session-%d", i)})
			}
		})
	}
	group.Wait()
	cost.fill = time.Since(began)
	client.CloseIdleConnections()
	if err := cmp.Or(failures...); err != nil {
		return cost, err
	}
	if err := g.revoke(ctx, client, map[string]string{"sub": subject}); err != nil {
		return cost, err
	}
	client.CloseIdleConnections()
	if _, err := g.visit(ctx, "/", victim); err == nil || !strings.Contains(err.Error(), "got 401") {
		return cost, fmt.Errorf("a session that was ended is taken, or worse: %w", cmp.Or(err, errTaken))
	}
	if err := r.expectList(ctx, g, entries); err != nil {
		return cost, err
	}
	if cost.heapAfter, err = g.heap(); err != nil {
		return cost, err
	}
	cost.residentAfter, err = g.resident()
	fmt.Fprintf(r.progress, "%d revocations made in %s\n", entries, cost.fill.Round(100*time.Millisecond))
	return cost, err
}

var errTaken = errors.New("status 200")

// revoke ends sessions by the admin API.
func (g *gateway) revoke(ctx context.Context, client *http.Client, named map[string]string) error {
	body, err := json.Marshal(named)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+g.admin+"/openid_connect/revoke", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	status, text, err := answer(client, request)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("ending sessions got %d: %s", status, text)
	}
	return err
}

// expectList makes a request with a session, and then wants the list to have so many entries.
func (r *run) expectList(ctx context.Context, g *gateway, entries int) error {
	shown, err := r.sessions(ctx, population{client: loginClient}, 1)
	if err != nil {
		return err
	}
	if _, err := g.visit(ctx, "/", shown); err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.admin+"/openid_connect/providers", http.NoBody)
	if err != nil {
		return err
	}
	status, body, err := answer(http.DefaultClient, request)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("the list of providers got %d: %s", status, body)
	}
	var providers []struct {
		Caches struct {
			Revocations int `json:"revocations"`
		} `json:"caches"`
	}
	if err := json.Unmarshal(body, &providers); err != nil {
		return fmt.Errorf("decoding the list of providers: %w", err)
	}
	if len(providers) != 1 {
		return fmt.Errorf("%d providers, want one", len(providers))
	}
	if got := providers[0].Caches.Revocations; got != entries {
		return fmt.Errorf("the list has %d entries, want %d", got, entries)
	}
	return nil
}
