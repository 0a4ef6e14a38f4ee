package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	pageName  = "performance.md"
	chartName = "performance.svg"

	// What stands between these lines of the page is written by the program.
	measuredBegin = "<!-- measured: begin -->"
	measuredEnd   = "<!-- measured: end -->"
)

// publish writes the page's tables and the chart.
func (c comparison) publish(dir string) error {
	name := filepath.Join(dir, pageName)
	page, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	text, err := between(string(page), c.conditions()+c.tables()+c.settings())
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return errors.Join(
		os.WriteFile(name, []byte(text), 0o644),
		os.WriteFile(filepath.Join(dir, chartName), []byte(c.chart().svg()), 0o644))
}

// between replaces what stands between the markers.
func between(page, text string) (string, error) {
	before, rest, begins := strings.Cut(page, measuredBegin)
	_, after, ends := strings.Cut(rest, measuredEnd)
	if !begins || !ends {
		return "", errors.New("there is no place between markers")
	}
	return before + measuredBegin + "\n\n" + strings.TrimSpace(text) + "\n\n" + measuredEnd + after, nil
}

// conditions tell when and where it was measured, how, and with what.
func (c comparison) conditions() string {
	var text strings.Builder
	fmt.Fprintf(&text, "Measured on %s, on a machine with %d cores (%s; %s): one core for the gateway, the rest for everything else. "+
		"Each gateway was driven %d times for %s in each case, with %d connections.\n\n",
		c.at.Format("2 January 2006"), c.where.cores, c.where.processor, c.where.system, c.rounds, c.duration, c.connections)
	if worst := c.noise(); worst > quiet {
		fmt.Fprintf(&text, "**The machine was busy:** plain Caddy differed from itself by up to %.0f %% in these cases, and so may everything else.\n\n",
			worst*100)
	}
	text.WriteString("| | version |\n|---|---|\n")
	for _, v := range c.where.versions {
		fmt.Fprintf(&text, "| %s | %s |\n", v.what, v.number)
	}
	return text.String()
}

// quiet is how much plain Caddy may differ from itself before the page warns of it.
const quiet = 0.1

// noise is how much it did at most.
func (c comparison) noise() float64 {
	worst := 0.0
	for _, p := range c.cases {
		worst = max(worst, math.Abs(p.ratio(p.contestants[1])-1))
	}
	return worst
}

// tables are what was measured: a summary, everything, and the storm.
func (c comparison) tables() string {
	var text strings.Builder
	if len(c.cases) > 0 {
		c.summary(&text)
		c.details(&text)
	}
	if len(c.storms) > 0 {
		c.storm(&text)
	}
	return text.String()
}

// summary has a line for each case, with the better of two settings.
func (c comparison) summary(text *strings.Builder) {
	text.WriteString("\n### Requests per second as a share of plain Caddy's, and processor time a request\n\n")
	fmt.Fprintf(text, "| | %s | %s | %s | %s | noise |\n|---|--:|--:|--:|--:|--:|\n", seriesPlain, seriesOurs, seriesApache, seriesProxy)
	for _, p := range c.cases {
		plain := p.contestants[0]
		fmt.Fprintf(text, "| %s | %.0f/s, %s ", p.text(), rate(plain.rounds), short(processorOf(plain)))
		for _, series := range []string{seriesOurs, seriesApache, seriesProxy} {
			one := p.best(series)
			if one.failure != nil {
				text.WriteString("| failed ")
				continue
			}
			fmt.Fprintf(text, "| **%.2f**, %s ", p.ratio(one), short(processorOf(one)))
		}
		fmt.Fprintf(text, "| %.2f |\n", p.ratio(p.contestants[1]))
	}
}

// details has a line for each gateway in each case.
func (c comparison) details(text *strings.Builder) {
	text.WriteString("\n### Every gateway in every case\n\n")
	text.WriteString("| case | gateway | header of a request | requests/s | ratio to plain Caddy by round: median (least … most) | processor time a request | p50 | p99 |\n")
	text.WriteString("|---|---|--:|--:|--:|--:|--:|--:|\n")
	for _, p := range c.cases {
		plain := p.contestants[0]
		for _, one := range p.contestants {
			if one.failure != nil {
				fmt.Fprintf(text, "| %s | %s | | failed: %s | | | | |\n", p.text(), one.name, cell(one.failed()))
				continue
			}
			fmt.Fprintf(text, "| %s | %s | %d B | %.0f/s | %s | %s | %s | %s |\n", p.text(), one.name, one.load.size(), rate(one.rounds), ratios(one.rounds, plain.rounds),
				short(processorOf(one)),
				short(middle(of(one.rounds, func(r round) time.Duration { return r.median }))),
				short(middle(of(one.rounds, func(r round) time.Duration { return r.p99 }))))
		}
	}
}

// storm has a line for each gateway in the refresh storm.
func (c comparison) storm(text *strings.Builder) {
	fmt.Fprintf(text, "\n### Refresh storm: %d clients, one session, access tokens of %s, %s for a renewal\n\n", stormClients, shortLifetime, stormLatency)
	text.WriteString("| gateway | time | requests | refused | answers in place of the page | passed on with an access token after its end " +
		"| grants | attempts at a grant | refresh tokens presented twice | p50 | p99 | slowest |\n")
	text.WriteString("|---|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, s := range c.storms {
		if s.failure != nil {
			line, _, _ := strings.Cut(s.failure.Error(), "\n")
			fmt.Fprintf(text, "| %s | failed: %s | | | | | | | | | | |\n", s.name, cell(line))
			continue
		}
		fmt.Fprintf(text, "| %s | %s | %d | %s | %s | %s | %d | %d | %d | %s | %s | %s |\n", s.name, s.Took.Round(time.Second), s.Requests,
			counted(s.refused(), s.Requests), cell(s.reasons()), counted(s.late, s.Requests),
			s.counts.grants, s.counts.attempts, s.counts.reuses,
			short(s.Median), short(s.P99), short(s.Slowest))
	}
}

// counted is a number, and how much of all it is.
func counted(part, all int) string {
	if part == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", part, percent(part, all))
}

// percent never says that there is nothing where there is something, nor that it is all where it is not.
func percent(part, all int) string {
	share := float64(part) / float64(max(1, all))
	switch {
	case part > 0 && share < 0.001:
		return "under 0.1 %"
	case part < all && share > 0.999:
		return "over 99.9 %"
	case part == 0 || part == all:
		return fmt.Sprintf("%.0f %%", share*100)
	default:
		return fmt.Sprintf("%.1f %%", share*100)
	}
}

// cell is text that a table can hold.
func cell(text string) string { return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text) }

func processorOf(one *contestant) time.Duration {
	return middle(of(one.rounds, func(r round) time.Duration { return r.processor }))
}

// ratio is the median of a gateway's rounds, each compared with plain Caddy's.
func (p peerResult) ratio(one *contestant) float64 {
	plain := p.contestants[0].rounds
	values := make([]float64, len(one.rounds))
	for i, r := range one.rounds {
		values[i] = r.perSecond / plain[i].perSecond
	}
	return middle(values)
}

// chart draws the summary, and how much each gateway lost in the storm.
func (c comparison) chart() chart {
	speed := panel{
		title: "Requests per second, as a share of plain Caddy's (more is better)", full: 1, fullText: "plain Caddy",
		series: []string{seriesOurs, seriesApache, seriesProxy},
	}
	for _, p := range c.cases {
		g := group{text: p.text()}
		for i, series := range speed.series {
			b := bar{series: i, text: "failed"}
			if one := p.best(series); one.failure == nil {
				b.value = p.ratio(one)
				b.text = fmt.Sprintf("%.2f", b.value)
			}
			g.bars = append(g.bars, b)
		}
		speed.groups = append(speed.groups, g)
	}
	lost := panel{
		title: "Refresh storm: requests refused, or passed on with an expired access token (less is better)",
		full:  1, fullText: "all", series: speed.series,
	}
	for _, s := range c.storms {
		b := bar{series: slices.Index(speed.series, s.series), text: "failed"}
		if s.failure == nil {
			b.value, b.text = s.lost(), percent(s.refused()+s.late, s.Requests)
		}
		lost.groups = append(lost.groups, group{text: s.name, bars: []bar{b}})
	}
	return chart{speed, lost}
}
