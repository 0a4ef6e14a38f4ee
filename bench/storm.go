package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	stormClients = 64
	// stormSlowest is how long an answer may take.
	stormSlowest = 500 * time.Millisecond
	// renewedAfter is when a token of the storm is due: a fifth of its lifetime before its end.
	renewedAfter = shortLifetime - shortLifetime/5

	// A storm has to see a few renewals, and to be over before the grace of the first one (refresh_grace, 2m) is.
	minStorm, maxStorm = 6 * time.Second, 100 * time.Second
)

// storm has many clients use one session, half of them by the cookie of its login, while its access token has to be renewed every other
// second. The same clients do the same with a token that lives on: for half of the time before, and for half of it after.
func (r *run) storm(ctx context.Context, report *strings.Builder) error {
	const name = "storm"
	if !r.cases.MatchString(name) {
		return nil
	}
	var gateways [2]*gateway
	for i, client := range []string{calmClient, stormClient} {
		g, err := r.startGateway(ctx, client, r.site(r.stormDirective(client)))
		if err != nil {
			return fmt.Errorf("case %s: %w", name, err)
		}
		defer g.stop()
		gateways[i] = g
	}
	calm, stormy := gateways[0], gateways[1]
	var legs [3]stormLeg
	var counts refreshCounts
	for i, leg := range []struct {
		g        *gateway
		duration time.Duration
	}{{calm, r.stormLength / 2}, {stormy, r.stormLength}, {calm, r.stormLength / 2}} {
		before := r.provider.refreshes.count()
		var err error
		if legs[i], err = r.rage(ctx, leg.g, leg.duration, stormClients/2); err != nil {
			return fmt.Errorf("case %s: %w", name, err)
		}
		if leg.g == stormy {
			counts = r.provider.refreshes.count().since(before)
		}
	}
	fmt.Fprintf(r.progress, "%s done\n", name)
	return errors.Join(writeStorm(report, legs), writePromises(report, r.promises(legs, counts)))
}

// stormDirective is the handler as anybody would configure it who passes access tokens on.
func (r *run) stormDirective(clientID string) string {
	return fmt.Sprintf(`	openid_connect %s {
		client_id %s
		client_secret secret
		scope openid profile email
		set_access_token_header
		session {
			secret %q
		}
	}
`, r.provider.issuer, clientID, sessionSecret)
}

// stormLeg is a part of the measurement.
type stormLeg struct {
	stormResult
	processor time.Duration // what the gateway used of its core for one request
}

func (l stormLeg) perSecond() float64 { return float64(l.Requests) / l.Took.Seconds() }

// refused is how many requests did not get the page.
func (l stormLeg) refused() int {
	sum := 0
	for _, n := range l.Refused {
		sum += n
	}
	return sum
}

// reasons is what came in place of the page, and how often.
func (l stormLeg) reasons() string {
	reasons := make([]string, 0, len(l.Refused))
	for answer, n := range l.Refused {
		reasons = append(reasons, fmt.Sprintf("%d × %s", n, answer))
	}
	slices.Sort(reasons)
	return strings.Join(reasons, ", ")
}

// judge looks at the access tokens that came to the upstream: the newest generation of them, how many came after their end, and how many
// are of nobody.
func (p *provider) judge(tokens map[string]int64) (newest, expired, unknown int) {
	for mark, arrived := range tokens {
		token, ok := p.refreshes.find(mark)
		if !ok {
			unknown++
			continue
		}
		if time.Unix(0, arrived).After(token.ends) {
			expired++
		}
		newest = max(newest, token.generation)
	}
	return newest, expired, unknown
}

// rage logs in, and has the clients use the session at once: its token does not live long. Some of them may be stuck with the cookie of
// the login.
func (r *run) rage(ctx context.Context, g *gateway, duration time.Duration, stuck int) (leg stormLeg, err error) {
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	cookie, err := g.login(ctx, transport)
	if err != nil {
		return leg, err
	}
	before, err := g.processorTime()
	if err != nil {
		return leg, err
	}
	leg.stormResult, err = startClients(ctx, stormOrder{
		URL: "http://" + g.address + "/token", Cookie: cookie, Clients: stormClients, Stuck: stuck, Duration: duration,
	})
	if err != nil {
		return leg, err
	}
	after, err := g.processorTime()
	if err != nil {
		return leg, err
	}
	if leg.Requests == 0 {
		return leg, errors.New("not one request was answered")
	}
	leg.processor = (after - before) / time.Duration(leg.Requests)
	return leg, nil
}

// promise is what the storm must show.
type promise struct {
	what, got, want string
	kept            bool
}

// promises judges the storm by what its clients saw, and by how often refresh tokens were presented. On a machine that is busy with
// other things answers are slow without any expiry too, which it tells.
func (r *run) promises(legs [3]stormLeg, counts refreshCounts) []promise {
	leg := legs[1]
	generations, expired, unknown := r.provider.judge(leg.Tokens)
	refused := leg.refused()
	least, most := int(leg.Took/shortLifetime)-1, int(leg.Took/renewedAfter)+1
	number := func(n int) string { return fmt.Sprint(n) }
	return []promise{
		{"requests refused", number(refused), "0", refused == 0},
		{"refresh tokens presented twice", number(counts.reuses), "0", counts.reuses == 0},
		{
			fmt.Sprintf("grants, in %s with tokens of %s", leg.Took.Round(time.Second), shortLifetime),
			number(counts.grants), fmt.Sprintf("%d to %d", least, most), least <= counts.grants && counts.grants <= most,
		},
		{"attempts at a grant", number(counts.attempts), "one a grant", counts.attempts == counts.grants},
		{"the newest generation at the upstream", number(generations), "of the last grant", generations == counts.grants},
		{"access tokens at the upstream", number(len(leg.Tokens)), "the login's and one a grant", len(leg.Tokens) == counts.grants+1},
		{"those that were used after their end", number(expired), "0", expired == 0},
		{"those that nobody issued", number(unknown), "0", unknown == 0},
		{
			"slowest answer", short(leg.Slowest),
			fmt.Sprintf("under %s (without expiry %s)", stormSlowest, short(max(legs[0].Slowest, legs[2].Slowest))), leg.Slowest < stormSlowest,
		},
	}
}

// writePromises adds a table, and fails if a promise is broken.
func writePromises(report *strings.Builder, promises []promise) error {
	report.WriteString("\n| promise | got | due | |\n|---|--:|--:|---|\n")
	var broken []error
	for _, p := range promises {
		word := "kept"
		if !p.kept {
			word = "**broken**"
			broken = append(broken, fmt.Errorf("storm: %s: %s, due: %s", p.what, p.got, p.want))
		}
		fmt.Fprintf(report, "| %s | %s | %s | %s |\n", p.what, p.got, p.want, word)
	}
	return errors.Join(broken...)
}

// writeStorm adds what the clients saw. It fails if they were refused anything in the calm: then there is nothing to compare with.
func writeStorm(report *strings.Builder, legs [3]stormLeg) error {
	fmt.Fprintf(report, "\n### Refresh storm: %d clients, one session, half of them with the cookie of its login\n\n", stormClients)
	report.WriteString("| | time | requests | requests/s | processor time a request | p50 | p99 | slowest | refused |\n")
	report.WriteString("|---|--:|--:|--:|--:|--:|--:|--:|---|\n")
	var failed []error
	for i, what := range []string{"a token that lives on", "tokens of " + shortLifetime.String(), "a token that lives on"} {
		leg := legs[i]
		if i != 1 && leg.refused() > 0 {
			failed = append(failed, fmt.Errorf("storm: refused without any expiry: %s", leg.reasons()))
		}
		fmt.Fprintf(report, "| %s | %s | %d | %.0f/s | %s | %s | %s | %s | %s |\n", what, leg.Took.Round(time.Second), leg.Requests, leg.perSecond(),
			short(leg.processor), short(leg.Median), short(leg.P99), short(leg.Slowest), leg.reasons())
	}
	calm := (legs[0].perSecond() + legs[2].perSecond()) / 2
	processor := float64(legs[0].processor+legs[2].processor) / 2
	fmt.Fprintf(report, "\nOf the requests/s without expiry **%.3f** are left, and %.3f of the processor time a request; "+
		"before and after, the same without expiry differ by %.3f and %.3f.\n",
		legs[1].perSecond()/calm, float64(legs[1].processor)/processor,
		legs[2].perSecond()/legs[0].perSecond(), float64(legs[2].processor)/float64(legs[0].processor))
	return errors.Join(failed...)
}
