package main

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestChart compares a chart with its golden file, and makes sure that it is XML.
func TestChart(t *testing.T) {
	t.Parallel()
	got := chart{
		{
			title: "Speed & more", full: 1, fullText: "plain", series: []string{"ours", "theirs"},
			groups: []group{
				{text: "one", bars: []bar{{series: 0, value: 1.25, text: "1.25"}, {series: 1, value: 0.5, text: "0.50"}}},
				{text: "two <many>", bars: []bar{{series: 0, value: 0.9, text: "0.90"}, {series: 1, text: "failed"}}},
			},
		},
		{
			title: "Lost", full: 1, fullText: "all", series: []string{"ours", "theirs"},
			groups: []group{{text: "theirs, in a cookie", bars: []bar{{series: 1, value: 0.25, text: "25 %"}}}},
		},
	}.svg()
	golden := filepath.Join("testdata", "chart.svg")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the chart differs from %s; if that is meant, run the test with -update and look at it", golden)
	}
	decoder := xml.NewDecoder(strings.NewReader(got))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestWidth(t *testing.T) {
	t.Parallel()
	short := panel{full: 1, groups: []group{{bars: []bar{{value: 0.5}}}}}
	long := panel{full: 1, groups: []group{{bars: []bar{{value: 0.5}, {value: 2}}}}}
	for _, test := range []struct {
		name  string
		in    panel
		value float64
		want  int
	}{
		{"a full bar has all the room", short, 1, barsWidth},
		{"half of it", short, 0.5, barsWidth / 2},
		{"nothing", short, 0, 0},
		{"a longer one has all the room", long, 2, barsWidth},
		{"then a full one has less", long, 1, barsWidth / 2},
	} {
		if got := test.in.width(test.value); got != test.want {
			t.Errorf("%s: got %d, want %d", test.name, got, test.want)
		}
	}
}
