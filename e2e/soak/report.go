package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

const (
	// moreGoroutines and moreDescriptors are how many of each may come and go.
	moreGoroutines, moreDescriptors = 6, 6
	// pooledConnections is how many connections to Redis a gateway keeps for each core.
	pooledConnections = 10
	// moreHeap is by how much the memory in use may grow where nothing is kept.
	moreHeap = 3 << 20
	// sessionHeap is what a login or a renewal may take in memory for as long as the site is there.
	sessionHeap = 16 << 10
)

// usage is what the gateways take, all together.
type usage struct {
	goroutines, descriptors int
	heap, resident          int64
	room                    int64 // for what else may be in use later
}

// plus returns the usage with so many more descriptors, and room for so much more memory.
func (u usage) plus(descriptors int, room int64) usage {
	u.descriptors += descriptors
	u.room += room
	return u
}

// result is what became of one kind of site.
type result struct {
	name                    string
	empty, warm, used, gone usage
	kept                    usage  // what may be left of people
	stacks                  string // of a gateway that takes more

	refreshes, attempts, reuses, resent int64
	counts                              *counts
	panics                              []string
}

func (t *site) measure(ctx context.Context) (usage, error) {
	var sum usage
	for _, g := range t.gateways {
		heap, err := g.Heap(ctx)
		if err != nil {
			return usage{}, err
		}
		goroutines, err := g.Goroutines(ctx)
		if err != nil {
			return usage{}, err
		}
		descriptors, err := g.Descriptors()
		if err != nil {
			return usage{}, err
		}
		resident, err := g.ResidentSize()
		if err != nil {
			return usage{}, err
		}
		sum.heap += heap
		sum.goroutines += goroutines
		sum.descriptors += descriptors
		sum.resident += resident
	}
	return sum, nil
}

// atRest measures once the gateways have come to rest: as soon as they take no more than before, or else after a while.
func (t *site) atRest(ctx context.Context, before *usage) (usage, error) {
	t.front.Close()
	t.provider.Down() // closes the connections that are not in use
	t.provider.Up()
	limit := time.NewTimer(settle)
	defer limit.Stop()
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for last := (usage{}); ; {
		now, err := t.measure(ctx)
		if err != nil {
			return usage{}, err
		}
		if before != nil && now.fits(*before) || before == nil && last.goroutines == now.goroutines && last.descriptors == now.descriptors {
			return now, nil
		}
		last = now
		select {
		case <-again.C:
		case <-limit.C:
			return now, nil
		case <-ctx.Done():
			return now, ctx.Err()
		}
	}
}

// fits reports whether there are as few goroutines and descriptors as before, and no more memory than that.
func (u usage) fits(before usage) bool {
	return u.goroutines <= before.goroutines+moreGoroutines && u.descriptors <= before.descriptors+moreDescriptors && u.heap <= before.heap+before.room
}

func (r *result) collect(t *site) {
	r.refreshes, r.attempts = int64(t.provider.RefreshGrants()), int64(t.provider.RefreshAttempts())
	r.reuses = int64(t.provider.RefreshReuses())
	r.counts = &t.counts
	for _, g := range t.gateways {
		for _, level := range []string{"panic", "error"} {
			for _, entry := range g.Log.Of(level) {
				// CertMagic's own complaint, where a lock is taken and given back in a row
				if !strings.Contains(entry.Text, "Keeping lock file fresh") {
					r.panics = append(r.panics, entry.Text)
				}
			}
		}
	}
}

// violations says what must not be.
func (r *result) violations() []string {
	var found []string
	expect := func(ok bool, format string, arguments ...any) {
		if !ok {
			found = append(found, r.name+": "+fmt.Sprintf(format, arguments...))
		}
	}
	c := r.counts
	expect(c.lost.Load() == 0, "%d sessions lost", c.lost.Load())
	expect(c.wrong.Load() == 0, "%d answers that nobody expects", c.wrong.Load())
	expect(r.reuses == 0, "%d refresh tokens presented twice", r.reuses)
	expect(r.resent == 0, "%d requests without an answer", r.resent)
	expect(c.expired.Load() == 0, "%d requests were passed on with an expired access token", c.expired.Load())
	expect(c.revived.Load() == 0, "%d times a session was taken that had been logged out", c.revived.Load())
	expect(c.logins.Load() > 0 && r.refreshes > 0 && c.late.Load() > 0, "nothing happened")
	expect(c.logouts.Load() > 0 && c.toldLogouts.Load() > 0 && c.dead.Load() > 0, "nobody was logged out")
	expect(c.unavailable.Load() <= c.requests.Load()/20, "%d of %d requests were answered with 503", c.unavailable.Load(), c.requests.Load())
	expect(r.used.fits(r.kept), "goroutines, descriptors or memory are left over from people")
	expect(r.gone.fits(r.empty), "goroutines, descriptors or memory are left over from the site")
	for _, line := range r.panics {
		expect(false, "logged: %s", line)
	}
	return append(found, c.first...)
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/(1<<20)) }

// report prints the table, and what must not be.
func report(results []*result) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	row := func(name string, value func(*result) string) {
		fmt.Fprint(w, name)
		for _, r := range results {
			fmt.Fprint(w, "\t", value(r))
		}
		fmt.Fprintln(w)
	}
	number := func(name string, value func(*result) int64) {
		row(name, func(r *result) string { return fmt.Sprint(value(r)) })
	}
	row("", func(r *result) string { return r.name })
	number("logins", func(r *result) int64 { return r.counts.logins.Load() })
	number("logins that the provider failed", func(r *result) int64 { return r.counts.failedLogins.Load() })
	number("requests", func(r *result) int64 { return r.counts.requests.Load() })
	number("of them with an old cookie", func(r *result) int64 { return r.counts.late.Load() })
	number("renewals", func(r *result) int64 { return r.refreshes })
	number("renewals that failed", func(r *result) int64 { return r.attempts - r.refreshes })
	number("changes of the provider's key", func(r *result) int64 { return r.counts.rotations.Load() })
	number("logouts", func(r *result) int64 { return r.counts.logouts.Load() })
	number("logouts by the provider", func(r *result) int64 { return r.counts.toldLogouts.Load() })
	number("logout tokens refused at first, for their key", func(r *result) int64 { return r.counts.repeatedTokens.Load() })
	number("requests with the cookie of a session logged out", func(r *result) int64 { return r.counts.dead.Load() })
	number("of them taken", func(r *result) int64 { return r.counts.revived.Load() })
	number("cookies forgotten", func(r *result) int64 { return r.counts.forgotten.Load() })
	number("sessions revoked at the provider", func(r *result) int64 { return r.counts.revoked.Load() })
	number("503 while a renewal had to wait", func(r *result) int64 { return r.counts.unavailable.Load() })
	number("sessions lost", func(r *result) int64 { return r.counts.lost.Load() })
	number("refresh tokens presented twice", func(r *result) int64 { return r.reuses })
	number("expired access tokens passed on", func(r *result) int64 { return r.counts.expired.Load() })
	for _, moment := range []struct {
		name string
		of   func(*result) usage
	}{
		{"without the site", func(r *result) usage { return r.empty }},
		{"after the first seconds", func(r *result) usage { return r.warm }},
		{"after all", func(r *result) usage { return r.used }},
		{"without the site again", func(r *result) usage { return r.gone }},
	} {
		row(moment.name, func(r *result) string {
			u := moment.of(r)
			return fmt.Sprintf("%d goroutines, %d descriptors, %s in use, %s resident", u.goroutines, u.descriptors, megabytes(u.heap), megabytes(u.resident))
		})
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var failed bool
	for _, r := range results {
		for _, line := range r.violations() {
			failed = true
			fmt.Println("VIOLATION", line)
		}
		if r.stacks != "" {
			fmt.Printf("what runs in a gateway of %s:\n%s\n", r.name, r.stacks)
		}
	}
	if failed {
		return errViolations
	}
	return nil
}
