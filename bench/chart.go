package main

import (
	"fmt"
	"html"
	"strings"
)

// chart is panels of horizontal bars, one below the other.
type chart []panel

// panel is groups of bars. Where a bar is full there is a line.
type panel struct {
	title, fullText string
	full            float64
	series          []string
	groups          []group
}

type group struct {
	text string
	bars []bar
}

// bar has a text beside it: the value, or that there is none.
type bar struct {
	series int
	value  float64
	text   string
}

// The measures of a chart.
const (
	chartWidth  = 820
	barsLeft    = 330 // the texts of groups are left of it
	barsWidth   = 380 // of the longest bar; the texts of bars are right of it
	barHeight   = 16
	barGap      = 3
	groupGap    = 14
	panelGap    = 26
	titleHeight = 30
	fullHeight  = 22
)

// chartStyle follows the reader's choice of light or dark. The background is the page's.
const chartStyle = `
	text { font: 13px system-ui, sans-serif; fill: #1f2328; }
	.title { font-weight: 600; font-size: 15px; }
	.full { stroke: #59636e; stroke-dasharray: 3 3; }
	.note { fill: #59636e; font-size: 12px; }
	.s0 { fill: #1f6feb; }
	.s1 { fill: #bc6c00; }
	.s2 { fill: #8250df; }
	@media (prefers-color-scheme: dark) {
		text { fill: #e6edf3; }
		.full { stroke: #9198a1; }
		.note { fill: #9198a1; }
		.s0 { fill: #58a6ff; }
		.s1 { fill: #e3912d; }
		.s2 { fill: #bc8cff; }
	}
`

// svg draws the chart. Each bar also says what it is where the colours are not seen.
func (c chart) svg() string {
	var body strings.Builder
	y := 0
	for i, p := range c {
		if i > 0 {
			y += panelGap
		}
		y = p.draw(&body, y, i == 0)
	}
	height := y + groupGap
	titles := make([]string, 0, len(c))
	for _, p := range c {
		titles = append(titles, p.title)
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img" aria-label="%[3]s">
<style>%[4]s</style>
%[5]s</svg>
`, chartWidth, height, html.EscapeString(strings.Join(titles, "; ")), chartStyle, body.String())
}

// draw adds a panel and returns where it ends.
func (p panel) draw(body *strings.Builder, y int, legend bool) int {
	y += titleHeight
	label(body, 0, y-10, "start", "title", p.title)
	if legend {
		x := 0
		for i, series := range p.series {
			fmt.Fprintf(body, "<rect class=\"s%d\" x=\"%d\" y=\"%d\" width=\"12\" height=\"12\" rx=\"2\"/>\n", i, x, y+2)
			label(body, x+18, y+13, "start", "", series)
			x += 180
		}
		y += titleHeight
	}
	full := barsLeft + p.width(p.full)
	label(body, full, y+fullHeight-9, "middle", "note", p.fullText)
	y += fullHeight
	top := y
	for _, g := range p.groups {
		height := len(g.bars)*(barHeight+barGap) - barGap
		label(body, barsLeft-10, y+height/2+5, "end", "", g.text)
		for i, b := range g.bars {
			at := y + i*(barHeight+barGap)
			what := g.text + ", " + p.series[b.series] + ": " + b.text
			if strings.HasPrefix(g.text, p.series[b.series]) {
				what = g.text + ": " + b.text
			}
			fmt.Fprintf(body, "<rect class=\"s%d\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"2\"><title>%s</title></rect>\n",
				b.series, barsLeft, at, p.width(b.value), barHeight, html.EscapeString(what))
			label(body, barsLeft+barsWidth+12, at+barHeight-4, "start", "", b.text)
		}
		y += height + groupGap
	}
	fmt.Fprintf(body, "<line class=\"full\" x1=\"%d\" x2=\"%[1]d\" y1=\"%d\" y2=\"%d\"/>\n", full, top-4, y-groupGap+4)
	return y - groupGap
}

// width is how long a bar is: the longest one, or a full one, has all the room.
func (p panel) width(value float64) int {
	longest := p.full
	for _, g := range p.groups {
		for _, b := range g.bars {
			longest = max(longest, b.value)
		}
	}
	return int(value/longest*barsWidth + 0.5)
}

func label(body *strings.Builder, x, y int, anchor, class, text string) {
	attributes := ""
	if class != "" {
		attributes = fmt.Sprintf(" class=%q", class)
	}
	fmt.Fprintf(body, "<text%s x=\"%d\" y=\"%d\" text-anchor=%q>%s</text>\n", attributes, x, y, anchor, html.EscapeString(text))
}
