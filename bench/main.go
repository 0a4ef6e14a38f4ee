// Command bench measures what the openid_connect handler costs. In one run it puts plain Caddy and Caddy with the
// handler in front of the same upstream, sends both the same requests, and prints the ratio:
//
//	go run .                              # everything, a little less than an hour
//	go run . -cases 'rs256-1$|session-1$' # some of it
//	go run . -cases session               # all with sessions
//	go run . -cases stores                # sessions in cookies, in Caddy's storage and in Redis
//	go run . -cases revocations           # sessions with 100,000 others ended before their time, and with none
//	go run . -cases storm -storm 60s      # one session renewed again and again under many clients
//	go run . -cases memory
//	go run . -cases sites
//	go run . -peers                       # the same load at mod_auth_openidc and oauth2-proxy, which it installs: eleven minutes
//	go run . -peers -write                # and write the page about it
//
// The storm makes promises besides: how often the provider is asked, that nobody is refused anything. If one is broken, the program
// fails. The cases named stores need redis-server.
//
// The gateway under test has one core to itself; the load generator (wrk), the upstream and the identity provider
// share the others. Many short rounds alternate between the two gateways, so that whatever else happens on the machine
// meets both alike; the case named noise compares plain Caddy with itself and tells how far to trust the rest. The
// processor time a request suffers least from a busy machine. Everything listens on 127.0.0.1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// everything is the expression for all cases.
const everything = "."

// defaultRounds are what is enough where gateways differ by a few parts in a hundred.
const defaultRounds = 10

// options are the command line.
type options struct {
	duration    time.Duration
	rounds      int
	connections int
	sites       int
	cases       *regexp.Regexp
	gateway     string
	tokenCache  int
	stormLength time.Duration
	peers       bool
	write       bool
}

// run is what the measurements share.
type run struct {
	options
	dir         string // temporary files: configurations, scripts, the gateway binary
	oauth2Proxy string // its program
	provider    *provider
	upstream    *process
	minted      map[string][]string     // bearer tokens, by algorithm
	loggedIn    map[population][]string // the cookies of users
	progress    io.Writer
}

func main() {
	switch {
	case len(os.Args) == 3 && os.Args[1] == "upstream":
		fail(serveUpstream(os.Args[2]))
		return
	case len(os.Args) == 2 && os.Args[1] == "clients":
		fail(serveClients(os.Stdin, os.Stdout))
		return
	}
	var opts options
	cases := flag.String("cases", everything, "regular expression: the cases to run, by name")
	flag.DurationVar(&opts.duration, "duration", 2*time.Second, "length of one round, in whole seconds")
	flag.IntVar(&opts.rounds, "rounds", 0, fmt.Sprintf("rounds for each gateway and case; %d if 0, %d with -peers", defaultRounds, peerRounds))
	flag.IntVar(&opts.connections, "connections", 32, "open connections of the load generator")
	flag.IntVar(&opts.sites, "sites", 1000, "sites in the cases named so")
	flag.IntVar(&opts.tokenCache, "token-cache", -1, "token_cache of the handler; its default if negative")
	flag.DurationVar(&opts.stormLength, "storm", 20*time.Second, "length of the refresh storm")
	flag.BoolVar(&opts.peers, "peers", false, "compare with mod_auth_openidc and oauth2-proxy, which are installed, and do nothing else")
	flag.BoolVar(&opts.write, "write", false, "write what came of the peers into ../docs")
	flag.StringVar(&opts.gateway, "gateway", "", "a Caddy binary that has the handler; built from ../cmd/caddy if empty")
	flag.Parse()
	var err error
	if opts.cases, err = regexp.Compile(*cases); err != nil {
		fail(fmt.Errorf("parsing -cases: %w", err))
	}
	if opts.rounds == 0 {
		opts.rounds = defaultRounds
		if opts.peers {
			opts.rounds = peerRounds
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fail(measure(ctx, opts))
}

// fail ends the program if there is an error.
func fail(err error) {
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

// measure runs the chosen cases and prints their tables.
func measure(ctx context.Context, opts options) error {
	if runtime.NumCPU() < 2 {
		return errors.New("two cores are needed: one for the gateway, one for the load")
	}
	for _, name := range []string{"wrk", "taskset"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%s is needed (Debian packages wrk and util-linux): %w", name, err)
		}
	}
	if opts.rounds < 1 || opts.duration < time.Second || opts.duration%time.Second != 0 {
		return errors.New("at least one round of whole seconds is needed")
	}
	if opts.stormLength < minStorm || opts.stormLength > maxStorm {
		return fmt.Errorf("a storm lasts from %s to %s", minStorm, maxStorm)
	}
	dir, err := os.MkdirTemp("", "openid-connect-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	r := &run{options: opts, dir: dir, progress: os.Stderr, minted: map[string][]string{}, loggedIn: map[population][]string{}}
	if err := r.buildGateway(ctx); err != nil {
		return err
	}
	// the provider is a part of this program
	if output, err := exec.CommandContext(ctx, "taskset", "-a", "-p", "-c", otherCores(), strconv.Itoa(os.Getpid())).CombinedOutput(); err != nil {
		return fmt.Errorf("leaving the gateway's core: %w: %s", err, output)
	}
	if r.provider, err = startProvider(); err != nil {
		return err
	}
	defer r.provider.close()
	if r.upstream, err = startUpstream(ctx); err != nil {
		return err
	}
	defer r.upstream.stop()

	var report strings.Builder
	if r.peers {
		err = r.sideBySide(ctx, &report)
		fmt.Print(report.String())
		return err
	}
	err = errors.Join(r.cookieSizes(ctx, &report), r.speed(ctx, &report), r.stores(ctx, &report), r.revocations(ctx, &report), r.storm(ctx, &report),
		r.memory(ctx, &report), r.renewed(ctx, &report), r.manySites(ctx, &report))
	fmt.Print(report.String())
	return err
}

// buildGateway builds Caddy with the handler, unless there is one. The sessions of some cases live in Redis, which needs a module more.
func (r *run) buildGateway(ctx context.Context) error {
	if r.gateway != "" {
		return nil
	}
	module, program := "..", "./cmd/caddy"
	if !r.peers && slices.ContainsFunc(storeCases(), func(c storeCase) bool { return r.cases.MatchString(c.name()) }) {
		module, program = "../e2e", "./cluster/caddy"
	}
	r.gateway = filepath.Join(r.dir, "caddy")
	fmt.Fprintf(r.progress, "building %s in %s\n", program, module)
	build := exec.CommandContext(ctx, "go", "build", "-C", module, "-o", r.gateway, program)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building the gateway: %w", err)
	}
	return nil
}
