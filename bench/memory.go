package main

import (
	"context"
	"fmt"
	"strings"
)

const memoryTokens = 10_000

// memory tells what the gateways occupy after one token and after 10,000.
func (r *run) memory(ctx context.Context, report *strings.Builder) error {
	if !r.cases.MatchString("memory") {
		return nil
	}
	tokens, err := r.provider.tokens("ES256", memoryTokens)
	if err != nil {
		return err
	}
	one, err := r.newWorkload("memory-one", tokens[:1])
	if err != nil {
		return err
	}
	all, err := r.newWorkload("memory-all", tokens)
	if err != nil {
		return err
	}
	size := 0
	for _, token := range tokens {
		size += len(token)
	}
	fmt.Fprintf(report, "\n### Memory, one token and %d (a token is %d bytes long on average)\n\n", memoryTokens, size/memoryTokens)
	report.WriteString("| gateway | RSS, 1 token | RSS, 10,000 | RSS, 10,000 again | heap, 1 token | heap, 10,000 | heap a token |\n")
	report.WriteString("|---|--:|--:|--:|--:|--:|--:|\n")
	for _, gate := range []struct{ name, config string }{
		{"plain Caddy", r.site("")},
		{"with openid_connect", r.site(r.block(benchCase{}))},
	} {
		if err := r.footprint(ctx, report, gate.name, gate.config, one, all); err != nil {
			return fmt.Errorf("case memory: %w", err)
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
	var resident [3]int64
	var heap [3]int64
	// the same load three times: only the number of tokens differs, and from the second to the third nothing does
	for i, load := range []workload{one, all, all} {
		if _, err := g.visit(ctx, "/", load.tokens); err != nil {
			return err
		}
		if _, err := r.load(ctx, g, load); err != nil {
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
	fmt.Fprintf(report, "| %s | %s | %s | %s | %s | %s | %d B |\n", name,
		mebibytes(resident[0]), mebibytes(resident[1]), mebibytes(resident[2]),
		mebibytes(heap[0]), mebibytes(heap[1]), (heap[1]-heap[0])/(memoryTokens-1))
	return nil
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
