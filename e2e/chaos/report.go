package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// othersComplaints are lines that are not about this: CertMagic's, where a lock is taken and given back in a row, and that a Caddyfile is
// not formatted.
var othersComplaints = []string{"Keeping lock file fresh", "Caddyfile input is not formatted"}

// readLogs makes panics and errors that nobody expects violations.
func (t *site) readLogs() {
	warnings := make(map[string]int)
	for _, g := range t.gateways {
		for _, entry := range g.Log.Of("warn") {
			if !containsAny(entry.Text, othersComplaints) {
				warnings[entry.Message]++
			}
		}
		for _, entry := range append(g.Log.Of("panic"), g.Log.Of("error")...) {
			if !containsAny(entry.Text, othersComplaints) && !containsAny(entry.Text, t.expected) {
				t.tally.violation("logged: %.600s", entry.Text)
			}
		}
	}
	told := make([]string, 0, len(warnings))
	for _, message := range slices.Sorted(maps.Keys(warnings)) {
		told = append(told, fmt.Sprintf("%q %d", message, warnings[message]))
	}
	t.noteDone("warnings in the log: %s", strings.Join(told, ", "))
}

func containsAny(text string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// report prints what came of a scenario, and reports whether all was well.
func (t *site) report(took time.Duration) (fine bool) {
	for _, line := range append(t.did, t.tally.lines()...) {
		fmt.Println("  ", line)
	}
	fmt.Println("   before:", t.before)
	fmt.Println("   after: ", t.after)
	t.tally.mu.Lock()
	defer t.tally.mu.Unlock()
	for _, line := range t.tally.told {
		fmt.Println("   VIOLATION", line)
	}
	if t.tally.violations > 0 {
		fmt.Printf("   verdict: FAILED, %d violations, after %s\n", t.tally.violations, took.Round(time.Second))
		return false
	}
	fmt.Printf("   verdict: as promised, after %s\n", took.Round(time.Second))
	return true
}
