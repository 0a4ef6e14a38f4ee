package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// renewedGrace is how long gateways hand out the result of a renewal here.
const renewedGrace = 90 * time.Second

// renewed tells what it takes to have renewed 10,000 sessions: as long as late requests get the result, and after that. Both is compared
// with a gateway that has the same sessions open and renews none. Both keep as many opened, which after renewals are old and new ones, of
// different size: small differences say nothing.
func (r *run) renewed(ctx context.Context, report *strings.Builder) error {
	const name = "memory-renewed"
	if !r.cases.MatchString(name) {
		return nil
	}
	if err := r.compareRenewed(ctx, report); err != nil {
		return fmt.Errorf("case %s: %w", name, err)
	}
	return nil
}

func (r *run) compareRenewed(ctx context.Context, report *strings.Builder) error {
	counted := r.provider.refreshes.count()
	who := population{client: renewedClient}
	shown, err := r.sessions(ctx, who, memoryUsers+1)
	if err != nil {
		return err
	}
	due := time.Now().Add(firstLifetime)
	some, last := shown.first(memoryUsers), credentials{shown.header, shown.values[memoryUsers:]}

	off, err := r.startGateway(ctx, "renewed-off", r.site(r.sessionDirective(who, keepTokens+"\t\trenew_access_token_on_expiry off\n")))
	if err != nil {
		return err
	}
	defer off.stop()
	before, err := off.heap()
	if err != nil {
		return err
	}
	if err := off.visitTogether(ctx, some); err != nil {
		return err
	}
	opened, err := off.heap()
	if err != nil {
		return err
	}
	if err := waitUntil(ctx, due); err != nil {
		return err
	}

	directive := r.sessionDirective(who, keepTokens+fmt.Sprintf("\t\trefresh_grace %s\n", renewedGrace))
	on, err := r.startGateway(ctx, "renewed-on", r.site(directive))
	if err != nil {
		return err
	}
	defer on.stop()
	began := time.Now()
	if err := on.visitTogether(ctx, some); err != nil {
		return err
	}
	finished := time.Now()
	during, err := on.heap()
	if err != nil {
		return err
	}
	if took := time.Since(began); took > renewedGrace {
		return fmt.Errorf("the renewals took %s, longer than the grace of the first ones", took.Round(time.Second))
	}
	if counts := r.provider.refreshes.count().since(counted); counts != (refreshCounts{attempts: memoryUsers, grants: memoryUsers}) {
		return fmt.Errorf("the provider counted %+v, where each of %d sessions was due once", counts, memoryUsers)
	}
	// what is over is forgotten when another session is renewed
	if err := waitUntil(ctx, finished.Add(renewedGrace+time.Second)); err != nil {
		return err
	}
	if _, err := on.visit(ctx, "/", last); err != nil {
		return err
	}
	after, err := on.heap()
	if err != nil {
		return err
	}
	fmt.Fprintf(r.progress, "memory: renewed done\n")
	fmt.Fprintf(report, "\n### Memory, %d sessions that were renewed once (Cookie is %d bytes long on average)\n\n", memoryUsers, some.size())
	report.WriteString("| | heap | heap a session | more than opened |\n|---|--:|--:|--:|\n")
	fmt.Fprintf(report, "| started | %s | | |\n", mebibytes(before))
	for _, line := range []struct {
		what string
		heap int64
	}{
		{"opened, renew_access_token_on_expiry off", opened},
		{"renewed, within refresh_grace", during},
		{"renewed, after it", after},
	} {
		fmt.Fprintf(report, "| %s | %s | %d B | %d B |\n", line.what, mebibytes(line.heap),
			(line.heap-before)/memoryUsers, (line.heap-opened)/memoryUsers)
	}
	return nil
}

// visitTogether is visit by a few at once.
func (g *gateway) visitTogether(ctx context.Context, shown credentials) error {
	failures := make([]error, loginsAtOnce)
	part := (len(shown.values) + loginsAtOnce - 1) / loginsAtOnce
	var group sync.WaitGroup
	for worker := range loginsAtOnce {
		from, to := min(worker*part, len(shown.values)), min((worker+1)*part, len(shown.values))
		group.Go(func() { _, failures[worker] = g.visit(ctx, "/", credentials{shown.header, shown.values[from:to]}) })
	}
	group.Wait()
	return cmp.Or(failures...)
}

func waitUntil(ctx context.Context, when time.Time) error {
	select {
	case <-time.After(time.Until(when)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
