package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// shownViolations is how many are told in words.
const shownViolations = 12

// tally counts answers, by who got them, and what must not be.
type tally struct {
	mu         sync.Mutex
	names      []string // in the order of their first answer
	of         map[string]*answered
	violations int
	told       []string
	reasons    map[string]int // of refusals
}

type answered struct {
	statuses map[int]int
	count    int
	slowest  time.Duration
}

func newTally() *tally { return &tally{of: make(map[string]*answered), reasons: make(map[string]int)} }

// answer counts one. Status 0 is that there was none.
func (y *tally) answer(who string, status int, took time.Duration) {
	y.mu.Lock()
	defer y.mu.Unlock()
	a := y.of[who]
	if a == nil {
		a = &answered{statuses: make(map[int]int)}
		y.of[who] = a
		y.names = append(y.names, who)
	}
	a.count++
	a.statuses[status]++
	a.slowest = max(a.slowest, took)
}

// reason counts the reason that a refusal gave.
func (y *tally) reason(reason string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.reasons[reason]++
}

// violation is something that must not be.
func (y *tally) violation(format string, arguments ...any) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.violations++
	if len(y.told) < shownViolations {
		y.told = append(y.told, time.Now().Format("15:04:05.000")+" "+fmt.Sprintf(format, arguments...))
	}
}

// first are the first of them.
func (y *tally) first() string {
	y.mu.Lock()
	defer y.mu.Unlock()
	return strings.Join(y.told, "\n")
}

// count is how many answers somebody has got, with that status or with any.
func (y *tally) count(who string, status ...int) (n int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	a := y.of[who]
	switch {
	case a == nil:
		return 0
	case len(status) == 0:
		return a.count
	}
	for _, each := range status {
		n += a.statuses[each]
	}
	return n
}

// lines are the counts, for people.
func (y *tally) lines() []string {
	y.mu.Lock()
	defer y.mu.Unlock()
	lines := make([]string, 0, len(y.names)+1)
	for _, name := range y.names {
		a := y.of[name]
		var statuses []string
		for _, status := range slices.Sorted(maps.Keys(a.statuses)) {
			name := strconv.Itoa(status)
			if status == 0 {
				name = "none"
			}
			statuses = append(statuses, fmt.Sprintf("%s: %d", name, a.statuses[status]))
		}
		lines = append(lines, fmt.Sprintf("%-28s %7d requests   %s   slowest %s",
			name, a.count, strings.Join(statuses, ", "), a.slowest.Round(time.Millisecond)))
	}
	if len(y.reasons) > 0 {
		reasons := make([]string, 0, len(y.reasons))
		for _, reason := range slices.Sorted(maps.Keys(y.reasons)) {
			reasons = append(reasons, fmt.Sprintf("%s %d", reason, y.reasons[reason]))
		}
		lines = append(lines, "reasons: "+strings.Join(reasons, ", "))
	}
	return lines
}
