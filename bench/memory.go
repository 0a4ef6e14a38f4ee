package main

import (
	"context"
	"fmt"
	"strings"
)

const memoryUsers = 10_000

// memory tells what the gateways occupy after one user and after 10,000: first with tokens, then with sessions.
func (r *run) memory(ctx context.Context, report *strings.Builder) error {
	for _, c := range []struct {
		name, what string
		benchCase
	}{
		{"memory-tokens", "token", benchCase{alg: "ES256", users: memoryUsers}},
		{"memory-sessions", "session", benchCase{client: loginClient, users: memoryUsers}},
	} {
		if !r.cases.MatchString(c.name) {
			continue
		}
		if err := r.memoryOf(ctx, report, c.name, c.what, c.benchCase); err != nil {
			return fmt.Errorf("case %s: %w", c.name, err)
		}
	}
	return nil
}

func (r *run) memoryOf(ctx context.Context, report *strings.Builder, name, what string, c benchCase) error {
	shown, err := r.credentials(ctx, c)
	if err != nil {
		return err
	}
	one, err := r.newWorkload(name+"-one", shown.first(1))
	if err != nil {
		return err
	}
	all, err := r.newWorkload(name+"-all", shown)
	if err != nil {
		return err
	}
	fmt.Fprintf(report, "\n### Memory, one %s and %d (%s is %d bytes long on average)\n\n", what, memoryUsers, shown.header, shown.size())
	fmt.Fprintf(report, "| gateway | RSS, started | RSS, 1 %[1]s | RSS, 10,000 | RSS, 10,000 again | "+
		"heap, 1 %[1]s | heap, 10,000 | heap a %[1]s |\n", what)
	report.WriteString("|---|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, gate := range []struct{ name, config string }{
		{"plain Caddy", r.site("")},
		{"with openid_connect", r.site(r.directive(c))},
	} {
		if err := r.footprint(ctx, report, gate.name, gate.config, one, all); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) footprint(ctx context.Context, report *strings.Builder, name, config string, one, all workload) error {
	g, err := r.startGateway(ctx, "memory-"+strings.ReplaceAll(name, " ", "-"), config)
	if err != nil {
		return err
	}
	defer g.stop()
	started, err := g.resident()
	if err != nil {
		return err
	}
	var resident [3]int64
	var heap [3]int64
	// the same load three times: only the number of users differs, and from the second to the third nothing does
	for i, load := range []workload{one, all, all} {
		if _, err := g.visit(ctx, "/", load.credentials); err != nil {
			return err
		}
		if _, err := r.load(ctx, g, &load); err != nil {
			return err
		}
		if resident[i], err = g.resident(); err != nil {
			return err
		}
		if heap[i], err = g.heap(); err != nil {
			return err
		}
	}
	fmt.Fprintf(r.progress, "memory: %s done\n", name)
	fmt.Fprintf(report, "| %s | %s | %s | %s | %s | %s | %s | %d B |\n", name,
		mebibytes(started), mebibytes(resident[0]), mebibytes(resident[1]), mebibytes(resident[2]),
		mebibytes(heap[0]), mebibytes(heap[1]), (heap[1]-heap[0])/(memoryUsers-1))
	return nil
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
