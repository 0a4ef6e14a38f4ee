// Command chaos treats running Caddys badly, one way after the other, and looks at every answer: the provider and Redis come and go, the
// configuration is replaced every second, thousands of WebSockets are open while their sessions end, and requests are garbage.
//
//	go run ./chaos -duration 30s -only garbage
//
// Each scenario prints what was done, what was answered, what the gateway took before and after, and its verdict. It fails if an answer is
// not one that the documentation promises, if the log has a panic or an error that nobody expects, or if goroutines, descriptors or memory
// do not come back to what they were. Then the command exits with status 1. It needs redis-server.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/cluster"
)

// settings are what the command line says.
type settings struct {
	duration time.Duration
	only     string
	sockets  int
	rate     int
	seed     uint64
	program  string
}

// scenario is one way to treat a gateway badly.
type scenario struct {
	name, about string
	play        func(ctx context.Context, t *site) error
}

var scenarios = []scenario{
	{"provider", "the provider comes and goes", playProvider},
	{"redis", "Redis comes and goes, with all sessions in it", playRedis},
	{"reload", "the configuration is replaced every second", playReload},
	{"sockets", "WebSockets are open while their sessions end", playSockets},
	{"garbage", "requests are garbage", playGarbage},
}

func main() {
	var s settings
	flag.DurationVar(&s.duration, "duration", 30*time.Second, "how long a scenario goes on (reload: twice that; sockets: a session's life)")
	flag.StringVar(&s.only, "only", "", "the name of one scenario: provider, redis, reload, sockets or garbage")
	flag.IntVar(&s.sockets, "sockets", 10_000, "how many WebSockets are open at the same time")
	flag.IntVar(&s.rate, "rate", 1000, "how many requests a second are garbage")
	flag.Uint64Var(&s.seed, "seed", uint64(time.Now().UnixNano()), "what the chances are drawn from")
	serve := flag.Bool("application", false, "be the application at the other end of the WebSockets; for the command itself")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	work := func() error { return run(ctx, s) }
	if *serve {
		work = func() error { return serveSockets(ctx) }
	}
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1) //nolint:gocritic // there is nothing left to stop
	}
}

func run(ctx context.Context, s settings) error {
	directory, err := os.MkdirTemp("", "chaos-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(directory)
	if s.program, err = cluster.Build(ctx, directory); err != nil {
		return err
	}
	fmt.Printf("seed %d\n", s.seed)
	began := time.Now()
	var played, failed []string
	for _, each := range scenarios {
		if s.only != "" && s.only != each.name {
			continue
		}
		fine, err := s.play(ctx, filepath.Join(directory, each.name), each)
		if err != nil {
			return fmt.Errorf("%s: %w", each.name, err)
		}
		played = append(played, each.name)
		if !fine {
			failed = append(failed, each.name)
		}
	}
	switch {
	case len(played) == 0:
		return fmt.Errorf("there is no scenario %q", s.only)
	case len(failed) > 0:
		return errors.New("failed: " + strings.Join(failed, ", "))
	}
	fmt.Printf("\n%d scenarios in %s: all as promised\n", len(played), time.Since(began).Round(time.Second))
	return nil
}

// play runs one scenario and reports whether all was well.
func (s settings) play(ctx context.Context, directory string, each scenario) (fine bool, err error) {
	if err := os.Mkdir(directory, 0o700); err != nil {
		return false, err
	}
	fmt.Printf("\n== %s: %s\n", each.name, each.about)
	t, err := newSite(s, directory, rand.New(rand.NewPCG(s.seed, s.seed)))
	if err != nil {
		return false, err
	}
	defer t.close()
	began := time.Now()
	if err := each.play(ctx, t); err != nil {
		return false, fmt.Errorf("%w\n%s", err, t.tally.first())
	}
	t.readLogs()
	return t.report(time.Since(began)), ctx.Err()
}
