package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// benchCase is one line of the table: requests with bearer tokens or, if there is a client, with the sessions of its users.
type benchCase struct {
	alg      string // of tokens
	client   string
	users    int // distinct credentials
	userinfo bool
	cold     bool // every request verifies a signature, or opens a seal
	noise    bool // plain Caddy against itself: how far from 1 a ratio can be by chance
	budget   float64
}

func (c benchCase) name() string {
	if c.noise {
		return "noise"
	}
	kind := strings.ToLower(c.alg)
	switch c.client {
	case loginClient:
		kind = "session"
	case groupsClient:
		kind = "session-groups"
	}
	name := fmt.Sprintf("%s-%d", kind, c.users)
	if c.userinfo {
		name += "-userinfo"
	}
	if c.cold {
		name += "-cold"
	}
	return name
}

// coldSessions is so many that the handler keeps none of them opened until its next request.
const coldSessions = 12_000

// The budgets: 0.97 of plain Caddy with one token, 0.92 with 10,000, and 0.03 less with the userinfo header; 0.95 with sessions of
// about 2 KB. What is cold has none here: what a signature costs is up to the key, and of opening a seal the handler's own benchmarks
// tell. Nor has what is compressed.
func benchCases() []benchCase {
	cases := []benchCase{{alg: "RS256", users: 1, noise: true}}
	for _, alg := range []string{"RS256", "ES256"} {
		for _, size := range []struct {
			users  int
			budget float64
		}{{1, 0.97}, {100, 0.92}, {10_000, 0.92}} {
			cases = append(cases,
				benchCase{alg: alg, users: size.users, budget: size.budget},
				benchCase{alg: alg, users: size.users, budget: size.budget - 0.03, userinfo: true})
		}
		cases = append(cases, benchCase{alg: alg, users: 1, cold: true})
	}
	for _, kind := range []struct {
		client string
		budget float64
	}{{loginClient, 0.95}, {groupsClient, 0}} {
		for _, users := range []int{1, 1000} {
			cases = append(cases,
				benchCase{client: kind.client, users: users, budget: kind.budget},
				benchCase{client: kind.client, users: users, budget: kind.budget, userinfo: true})
		}
	}
	return append(cases, benchCase{client: loginClient, users: coldSessions, cold: true})
}

// site is a Caddyfile of one site in front of the upstream, with the directive if there is one.
func (r *run) site(directive string) string { return r.siteWith("", directive) }

// siteWith is site with further global options.
func (r *run) siteWith(options, directive string) string {
	return fmt.Sprintf(`{
	admin $ADMIN
	persist_config off
%s}

http://127.0.0.1:$PORT {
	bind 127.0.0.1
%s	reverse_proxy %s
}
`, options, directive, r.upstream.address)
}

// bearerDirective lets bearer tokens in.
func (r *run) bearerDirective(block string) string {
	return fmt.Sprintf("\topenid_connect %s {\n\t\tbearer_only\n\t\taudience %s\n%s\t}\n", r.provider.issuer, audience, block)
}

// directive is the handler under test.
func (r *run) directive(c benchCase) string {
	block := "\t\tset_userinfo_header off\n"
	if c.userinfo {
		block = "\t\tset_userinfo_header on\n"
	}
	switch {
	case c.client != "":
		return r.sessionDirective(population{client: c.client}, keepTokens+block)
	case c.cold:
		block += "\t\ttoken_cache 0\n"
	case r.tokenCache >= 0:
		block += fmt.Sprintf("\t\ttoken_cache %d\n", r.tokenCache)
	}
	return r.bearerDirective(block)
}

// credentials are what the requests of a case show.
func (r *run) credentials(ctx context.Context, c benchCase) (credentials, error) {
	if c.client != "" {
		return r.sessions(ctx, population{client: c.client}, c.users)
	}
	return r.tokens(c.alg, c.users)
}

// speed compares requests per second.
func (r *run) speed(ctx context.Context, report *strings.Builder) error {
	var lines strings.Builder
	for _, c := range benchCases() {
		if !r.cases.MatchString(c.name()) {
			continue
		}
		line, err := r.compare(ctx, c)
		if err != nil {
			return fmt.Errorf("case %s: %w", c.name(), err)
		}
		lines.WriteString(line)
	}
	if lines.Len() > 0 {
		fmt.Fprintf(report, "\n### Requests per second, gateway on one core (%d rounds of %s each, %d connections)\n\n",
			r.rounds, r.duration, r.connections)
		report.WriteString("| case | plain Caddy | with openid_connect | ratio of medians | ratio by round: median (least … most) " +
			"| budget | processor time a request | p50 | p99 |\n")
		report.WriteString("|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
		report.WriteString(lines.String())
	}
	return nil
}

// compare runs one case: both gateways at once, driven in turns.
func (r *run) compare(ctx context.Context, c benchCase) (string, error) {
	shown, err := r.credentials(ctx, c)
	if err != nil {
		return "", err
	}
	load, err := r.newWorkload(c.name(), shown)
	if err != nil {
		return "", err
	}
	plain, err := r.startGateway(ctx, c.name()+"-plain", r.site(""))
	if err != nil {
		return "", err
	}
	defer plain.stop()
	directive := ""
	if !c.noise {
		directive = r.directive(c)
	}
	ours, err := r.startGateway(ctx, c.name(), r.site(directive))
	if err != nil {
		return "", err
	}
	defer ours.stop()
	if !c.noise {
		if err := guarded(ctx, ours, c, shown); err != nil {
			return "", err
		}
	}
	if _, err := plain.visit(ctx, "/", shown.first(1)); err != nil {
		return "", err
	}

	rounds, err := r.inTurns(ctx, []driven{{plain, load}, {ours, load}})
	if err != nil {
		return "", err
	}
	fmt.Fprintf(r.progress, "%-22s plain %6.0f/s  with %6.0f/s\n", c.name(), rate(rounds[0]), rate(rounds[1]))
	return tableLine(c, rounds[0], rounds[1]), nil
}

// driven is a gateway and what it is driven with.
type driven struct {
	*gateway
	load workload
}

// inTurns drives gateways one after the other, again and again.
func (r *run) inTurns(ctx context.Context, gateways []driven) ([][]round, error) {
	rounds := make([][]round, len(gateways))
	for n := range r.rounds + 1 {
		for turn := range gateways {
			which := (turn + n) % len(gateways) // the first one changes: none always meets the warmer machine
			result, err := r.load(ctx, gateways[which].gateway, &gateways[which].load)
			if err != nil {
				return nil, err
			}
			if n > 0 { // the first round warms up
				rounds[which] = append(rounds[which], result)
			}
		}
	}
	return rounds, nil
}

// guarded makes sure that the gateway under test does its work: nobody gets in without a credential, everybody with one, and the
// upstream learns who it is exactly if it should.
func guarded(ctx context.Context, g *gateway, c benchCase, shown credentials) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.address+"/", http.NoBody)
	if err != nil {
		return err
	}
	status, body, err := answer(http.DefaultClient, request)
	if err != nil {
		return err
	}
	if status != http.StatusUnauthorized {
		return fmt.Errorf("a request without %s got %d: %s", shown.header, status, body)
	}
	if _, err := g.visit(ctx, "/", shown); err != nil {
		return err
	}
	userinfo, err := g.visit(ctx, "/userinfo", shown.first(1))
	if err != nil {
		return err
	}
	if (userinfo != "") != c.userinfo {
		return fmt.Errorf("the upstream got the userinfo header %q", userinfo)
	}
	return nil
}

// of takes one number of each round.
func of[T any](rounds []round, number func(round) T) []T {
	values := make([]T, len(rounds))
	for i, r := range rounds {
		values[i] = number(r)
	}
	return values
}

func rate(rounds []round) float64 {
	return middle(of(rounds, func(r round) float64 { return r.perSecond }))
}

func tableLine(c benchCase, plain, ours []round) string {
	ratios := make([]float64, len(plain))
	for i := range plain {
		ratios[i] = ours[i].perSecond / plain[i].perSecond
	}
	budget := "–"
	if c.budget > 0 {
		budget = fmt.Sprintf("%.2f", c.budget)
	}
	duration := func(number func(round) time.Duration) string {
		return fmt.Sprintf("%s / %s", short(middle(of(plain, number))), short(middle(of(ours, number))))
	}
	processor := func(r round) time.Duration { return r.processor }
	return fmt.Sprintf("| %s | %.0f/s | %.0f/s | **%.3f** | %.3f (%.3f … %.3f) | %s | %s = %.3f | %s | %s |\n",
		c.name(), rate(plain), rate(ours), rate(ours)/rate(plain), middle(ratios), slices.Min(ratios), slices.Max(ratios), budget,
		duration(processor), float64(middle(of(plain, processor)))/float64(middle(of(ours, processor))),
		duration(func(r round) time.Duration { return r.median }),
		duration(func(r round) time.Duration { return r.p99 }))
}

// short drops the digits that mean nothing.
func short(d time.Duration) string {
	if d < time.Millisecond {
		return d.Round(100 * time.Nanosecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}
