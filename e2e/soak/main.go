// Command soak lets people use a site for minutes, at random, while the provider fails one call in twenty and changes its keys: they sign
// in, use their sessions, come late with old cookies, forget their cookies, are revoked at the provider, sign out, or are signed out by the
// provider. First one gateway keeps the sessions in cookies, then two do, and then two keep them in Redis.
//
//	go run ./soak -duration 2m
//
// At the end no session may be lost, none may have come back after a logout, at any gateway, the provider may not have seen a refresh token
// twice, and goroutines, descriptors and memory of the gateways must be what they were at the start. Otherwise it exits with status 1. It
// needs redis-server.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/cluster"
)

// settings are what the command line says.
type settings struct {
	duration time.Duration
	people   int
	seed     uint64
	program  string
}

func main() {
	var s settings
	flag.DurationVar(&s.duration, "duration", 2*time.Minute, "how long people use the sites, in all")
	flag.IntVar(&s.people, "people", 24, "how many people there are")
	flag.Uint64Var(&s.seed, "seed", uint64(time.Now().UnixNano()), "what the chances are drawn from")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1) //nolint:gocritic // there is nothing left to stop
	}
}

// place is where sessions live.
type place struct {
	name     string
	gateways int
	redis    bool // in cookies otherwise
}

// places are used one after the other, for the same time each.
var places = []place{
	{"cookies, one gateway", 1, false},
	{"cookies, two gateways", 2, false},
	{"Redis, two gateways", 2, true},
}

// errViolations says that the table has something that must not be.
var errViolations = errors.New("this must not be")

func run(ctx context.Context, s settings) error {
	directory, err := os.MkdirTemp("", "soak-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(directory)
	if s.program, err = cluster.Build(ctx, directory); err != nil {
		return err
	}
	fmt.Printf("seed %d, %d people, %s\n", s.seed, s.people, s.duration)
	var results []*result
	for _, where := range places {
		inside := filepath.Join(directory, fmt.Sprint(len(results)))
		if err := os.Mkdir(inside, 0o700); err != nil {
			return err
		}
		r, err := soak(ctx, s, inside, where)
		if err != nil {
			return fmt.Errorf("%s: %w", where.name, err)
		}
		results = append(results, r)
	}
	return report(results)
}
