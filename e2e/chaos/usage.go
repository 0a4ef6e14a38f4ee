package main

import (
	"context"
	"fmt"
	"time"
)

const (
	// moreGoroutines and moreDescriptors are how many of each may come and go.
	moreGoroutines, moreDescriptors = 4, 4
	// moreHeap is by how much the memory in use may grow where nothing is kept, and moreResident the memory of the process, of which the
	// runtime gives back what it does not use when it sees fit.
	moreHeap, moreResident = 4 << 20, 48 << 20
	// settle is how long a gateway may take to come to rest: timers of connections to a provider that is replaced run for 90 s,
	// and the runtime gives memory back at its leisure.
	settle = 3 * time.Minute

	// sessionHeap is what a login or a renewal may leave in memory, since opened sessions and spent generations are remembered; tokenHeap is
	// what a token may.
	sessionHeap, tokenHeap = 8 << 10, 3 << 10
)

// usage is what the gateways take, all together.
type usage struct {
	goroutines, descriptors int
	heap, resident          int64
}

// room is what may be left of what was done.
type room struct {
	descriptors    int
	heap, resident int64
}

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %.1f MB in use, %.1f MB resident",
		u.goroutines, u.descriptors, megabytes(u.heap), megabytes(u.resident))
}

func megabytes(n int64) float64 { return float64(n) / (1 << 20) }

// fits reports whether the gateways take no more than before.
func (u usage) fits(before usage, more room) bool {
	return u.goroutines <= before.goroutines+moreGoroutines && u.descriptors <= before.descriptors+moreDescriptors+more.descriptors &&
		u.heap <= before.heap+moreHeap+more.heap && u.resident <= before.resident+moreResident+2*more.heap+more.resident
}

func (t *site) measure(ctx context.Context) (sum usage, err error) {
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

// atRest measures once the gateways have come to rest: when they take no more than before, or, without that, when nothing ends any more.
func (t *site) atRest(ctx context.Context, before *usage) (now usage, err error) {
	t.front.Close()
	t.provider.Down() // closes the connections that are not in use
	t.provider.Up()
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	calm := 0
	for last := (usage{}); ; last = now {
		if now, err = t.measure(context.WithoutCancel(ctx)); err != nil {
			return usage{}, err
		}
		if last.goroutines == now.goroutines && last.descriptors == now.descriptors {
			calm++
		} else {
			calm = 0
		}
		if before != nil && now.fits(*before, t.room) || before == nil && calm >= 3 {
			return now, nil
		}
		if !pause(ctx, time.Second) {
			return now, nil
		}
	}
}

// compare measures for the second time, says so, and makes what is left over a violation.
func (t *site) compare(ctx context.Context) error {
	var err error
	if t.after, err = t.atRest(ctx, &t.before); err != nil {
		return err
	}
	if t.after.fits(t.before, t.room) {
		return nil
	}
	t.tally.violation("goroutines, descriptors or memory have grown: %s before, %s after", t.before, t.after)
	stacks, err := t.gateways[0].Stacks(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("what runs in a gateway:\n%.12000s\n", stacks)
	return nil
}
