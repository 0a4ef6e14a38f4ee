package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// peerRounds are the rounds by default: a run with all peers stays below a quarter of an hour.
const peerRounds = 7

// The gateways that are compared, by what the chart calls them.
const (
	seriesPlain  = "plain Caddy"
	seriesOurs   = "openid_connect"
	seriesApache = "mod_auth_openidc"
	seriesProxy  = "oauth2-proxy"
)

// peerCase is a line of each table: requests with bearer tokens, or with the sessions of users.
type peerCase struct {
	sessions bool
	users    int
}

func (c peerCase) name() string {
	if c.sessions {
		return fmt.Sprintf("session-%d", c.users)
	}
	return fmt.Sprintf("bearer-%d", c.users)
}

// text is what the case is called in tables and in the chart.
func (c peerCase) text() string {
	what := "bearer token"
	if c.sessions {
		what = "session"
	}
	if c.users == 1 {
		return "one " + what
	}
	return fmt.Sprintf("%s %ss", grouped(c.users), what)
}

// grouped writes a number with a comma between thousands.
func grouped(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", grouped(n/1000), n%1000)
}

func peerCases() []peerCase {
	return []peerCase{{users: 1}, {users: 100}, {users: 10_000}, {sessions: true, users: 1}, {sessions: true, users: 1000}}
}

// starter starts a gateway. The name is for its files.
type starter func(ctx context.Context, name string) (*gateway, error)

// entrant is a gateway in a case.
type entrant struct {
	name, series string
	start        starter
	open         bool // it guards nothing
	reissues     bool // sessions of a minute get a new cookie with every answer
}

// entrants are the gateways of a case. The first one is what the others are compared with, the second one the same: how they differ is
// noise.
func (r *run) entrants(c peerCase) []entrant {
	all := []entrant{
		{name: seriesPlain, series: seriesPlain, start: r.caddy(""), open: true},
		{name: seriesPlain + " again: noise", start: r.caddy(""), open: true},
	}
	bearer := func(keys func(surroundings) string) func(surroundings) string {
		return func(at surroundings) string { return apacheBearer(at, keys(at)) }
	}
	if c.users == 1 && !c.sessions {
		all = append(all,
			entrant{name: "plain Apache", start: r.apache(nil), open: true},
			entrant{name: seriesApache + ", keys fetched", series: seriesApache, start: r.apache(bearer(keysFetched))})
	}
	if !c.sessions {
		return append(all,
			entrant{name: seriesOurs, series: seriesOurs, start: r.caddy(r.peerDirective(false))},
			entrant{name: seriesApache + ", key in a file", series: seriesApache, start: r.apache(bearer(keysInFile))},
			entrant{name: seriesProxy, series: seriesProxy, start: r.proxy(loginClient, oauth2ProxyBearer())})
	}
	login := func(sessions string) func(surroundings) string {
		return func(at surroundings) string {
			return apacheLogin(at, loginClient, sessions, apacheRoom(sessions, c.users)+apachePassesNothing)
		}
	}
	return append(all,
		entrant{name: seriesOurs, series: seriesOurs, start: r.caddy(r.peerDirective(true))},
		entrant{name: seriesApache + ", session in the cookie", series: seriesApache, start: r.apache(login(inCookie)), reissues: true},
		entrant{name: seriesApache + ", session in shared memory", series: seriesApache, start: r.apache(login(inMemory))},
		entrant{name: seriesProxy, series: seriesProxy, start: r.proxy(loginClient, oauth2ProxySession())})
}

func (r *run) caddy(directive string) starter {
	return func(ctx context.Context, name string) (*gateway, error) {
		return r.startGateway(ctx, name, r.site(directive))
	}
}

func (r *run) apache(guard func(surroundings) string) starter {
	return func(ctx context.Context, name string) (*gateway, error) { return r.startApache(ctx, name, guard) }
}

func (r *run) proxy(client string, options []string) starter {
	return func(ctx context.Context, name string) (*gateway, error) {
		return r.startOAuth2Proxy(ctx, name, client, options)
	}
}

// peerDirective is this handler in the comparison.
func (r *run) peerDirective(sessions bool) string {
	if sessions {
		return r.directive(benchCase{client: loginClient})
	}
	return r.directive(benchCase{})
}

// surroundings finds a place for a gateway in front of the upstream.
func (r *run) surroundings() (surroundings, error) {
	listen, err := freeAddress()
	if err != nil {
		return surroundings{}, err
	}
	at := surroundings{
		listen: listen, upstream: r.upstream.address, issuer: r.provider.issuer, secure: r.provider.secure,
		certificate: filepath.Join(r.dir, "provider.pem"),
	}
	block := &pem.Block{Type: "CERTIFICATE", Bytes: r.provider.certificate}
	return at, os.WriteFile(at.certificate, pem.EncodeToMemory(block), 0o600)
}

// startPeer runs a gateway that is no Caddy.
func (r *run) startPeer(ctx context.Context, name, listen string, command ...string) (*gateway, error) {
	g := &gateway{process: process{address: listen}}
	g.command = exec.CommandContext(ctx, "taskset", append([]string{"-c", gatewayCore}, command...)...)
	// its children must not outlive it
	g.command.Cancel = func() error { return g.command.Process.Signal(syscall.SIGTERM) }
	g.command.WaitDelay = 10 * time.Second
	g.command.Env = append(os.Environ(), "GOMAXPROCS=1")
	g.command.Stdout, g.command.Stderr = &g.output, &g.output
	began := time.Now()
	if err := g.process.start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	g.start = time.Since(began)
	return g, nil
}

// comparison is what came of the peers.
type comparison struct {
	options
	at     time.Time
	where  machine
	cases  []peerResult
	storms []peerStorm
}

// peerResult is what came of a case.
type peerResult struct {
	peerCase
	contestants []*contestant
}

// sideBySide compares with the peers, and writes the page about it if it should.
func (r *run) sideBySide(ctx context.Context, report *strings.Builder) error {
	if r.write && r.cases.String() != everything {
		return errors.New("the page is written of all cases, or not at all")
	}
	err := r.installPeers(ctx)
	if err != nil {
		return err
	}
	result := comparison{options: r.options, at: time.Now()}
	if result.where, err = r.inspect(ctx); err != nil {
		return err
	}
	err = r.measurePeers(ctx, &result)
	report.WriteString(result.tables())
	if err != nil || !r.write {
		return err
	}
	return result.publish(filepath.Join("..", "docs"))
}

// measurePeers runs the chosen cases.
func (r *run) measurePeers(ctx context.Context, result *comparison) error {
	for _, c := range peerCases() {
		if !r.cases.MatchString(c.name()) {
			continue
		}
		contestants, err := r.comparePeers(ctx, c)
		if err != nil {
			return fmt.Errorf("case %s: %w", c.name(), err)
		}
		result.cases = append(result.cases, peerResult{c, contestants})
	}
	if !r.cases.MatchString("storm") {
		return nil
	}
	var err error
	if result.storms, err = r.peerStorms(ctx); err != nil {
		return fmt.Errorf("case storm: %w", err)
	}
	return nil
}
