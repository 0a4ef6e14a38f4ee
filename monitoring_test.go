package openidconnect

import (
	"encoding/json"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// These tests hold docs/grafana-dashboard.json, docs/alerts.yml and docs/monitoring.md to the metrics that there are: a name or a label
// that is renamed or misspelt shows an empty panel, and makes an alert that never fires.

// dashboard is what these tests look at of docs/grafana-dashboard.json.
type dashboard struct {
	SchemaVersion int `json:"schemaVersion"`
	Templating    struct {
		List []struct {
			Name       string `json:"name"`
			Type       string `json:"type"`
			Definition string `json:"definition"`
			Datasource dashboardSource
		} `json:"list"`
	} `json:"templating"`
	Panels []struct {
		ID         int             `json:"id"`
		Type       string          `json:"type"`
		Title      string          `json:"title"`
		Datasource dashboardSource `json:"datasource"`
		Targets    []struct {
			Expr         string          `json:"expr"`
			LegendFormat string          `json:"legendFormat"`
			Datasource   dashboardSource `json:"datasource"`
		} `json:"targets"`
	} `json:"panels"`
}

type dashboardSource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// chosenSource is the data source that whoever looks at the dashboard chooses.
var chosenSource = dashboardSource{Type: "prometheus", UID: "${DS_PROMETHEUS}"}

// Labels in the texts of the dashboard and of the rules.
var (
	labelInLegend = regexp.MustCompile(`\{\{\s*([a-z_]+)\s*\}\}`)
	labelInRule   = regexp.MustCompile(`\$labels\.([a-z_]+)`)
)

// TestDashboard: every panel asks for what there is, and all that there is can be seen.
func TestDashboard(t *testing.T) {
	t.Parallel()
	text := readFile(t, filepath.Join("docs", "grafana-dashboard.json"))
	var d dashboard
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	if d.SchemaVersion < 39 {
		t.Errorf("the version of its schema is %d", d.SchemaVersion)
	}
	variables := map[string]bool{"__rate_interval": true}
	for _, variable := range d.Templating.List {
		variables[variable.Name] = true
		if variable.Type != "query" {
			continue
		}
		match := regexp.MustCompile(`^label_values\((.+), ([a-z_]+)\)$`).FindStringSubmatch(variable.Definition)
		if match == nil {
			t.Fatalf("the variable %s is %s", variable.Name, variable.Definition)
		}
		if labels, err := checkPromQL(match[1]); err != nil || !slices.Contains(labels, match[2]) {
			t.Errorf("the variable %s: %s of %v, %v", variable.Name, match[2], labels, err)
		}
	}
	if !variables["DS_PROMETHEUS"] {
		t.Error("nobody can choose the data source")
	}
	for _, match := range regexp.MustCompile(`\$\{?([A-Za-z_]+)`).FindAllStringSubmatch(text, -1) {
		if !variables[match[1]] && match[1] != "__all" {
			t.Errorf("there is no variable %s", match[1])
		}
	}
	ids := make(map[int]bool)
	for _, panel := range d.Panels {
		if ids[panel.ID] {
			t.Errorf("two panels have the number %d", panel.ID)
		}
		ids[panel.ID] = true
		if panel.Type != "row" && (len(panel.Targets) == 0 || panel.Datasource != chosenSource) {
			t.Errorf("%s asks %v %d questions", panel.Title, panel.Datasource, len(panel.Targets))
		}
		for _, target := range panel.Targets {
			labels, err := checkPromQL(target.Expr)
			if err != nil {
				t.Errorf("%s: %v", panel.Title, err)
			}
			for _, match := range labelInLegend.FindAllStringSubmatch(target.LegendFormat, -1) {
				if !slices.Contains(labels, match[1]) {
					t.Errorf("%s: the legend has %s", panel.Title, match[1])
				}
			}
			if target.Datasource != chosenSource {
				t.Errorf("%s asks %v", panel.Title, target.Datasource)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(must(knownMetrics()))) {
		if !strings.Contains(text, name) {
			t.Errorf("%s is not to be seen", name)
		}
	}
	checkOwnLinks(t, text)
}

// alertExpr is the expression of a rule: the lines that are indented deeper.
var alertExpr = regexp.MustCompile(`(?m)^( +)expr: \|\n((?: +.*\n)+?) +for: (\d+)m$`)

// TestAlerts: three rules that ask for what there is, and lead to pages that say what to do.
func TestAlerts(t *testing.T) {
	t.Parallel()
	text := readFile(t, filepath.Join("docs", "alerts.yml"))
	rules := strings.Split(text, "- alert: ")[1:]
	if len(rules) != 3 {
		t.Fatalf("%d rules", len(rules))
	}
	for _, rule := range rules {
		name, _, _ := strings.Cut(rule, "\n")
		match := alertExpr.FindStringSubmatch(rule)
		if match == nil {
			t.Fatalf("%s has no expression and minutes that it must hold", name)
		}
		if minutes := must(strconv.Atoi(match[3])); minutes < 5 {
			t.Errorf("%s wakes people after %d minutes", name, minutes)
		}
		labels, err := checkPromQL(match[2])
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, match := range labelInRule.FindAllStringSubmatch(rule, -1) {
			if !slices.Contains(labels, match[1]) {
				t.Errorf("%s tells of the label %s", name, match[1])
			}
		}
		runbook := "runbook_url: " + ownPages + "docs/monitoring.md#" + strings.ToLower(name) + "\n"
		for _, part := range []string{"severity: ", runbook, "docs/troubleshooting.md#"} {
			if !strings.Contains(rule, part) {
				t.Errorf("%s has no %q", name, part)
			}
		}
	}
	checkOwnLinks(t, text)
}

const ownPages = "https://" + modulePath + "/blob/main/"

// checkOwnLinks looks whether what a file links to on our pages is there.
func checkOwnLinks(t *testing.T, text string) {
	t.Helper()
	links := regexp.MustCompile(regexp.QuoteMeta(ownPages)+`([a-zA-Z0-9_./-]+)(?:#([a-z0-9_-]+))?`).FindAllStringSubmatch(text, -1)
	if len(links) == 0 {
		t.Error("it leads nowhere")
	}
	for _, link := range links {
		page := filepath.FromSlash(path.Clean(link[1]))
		if link[2] != "" && !slices.Contains(anchors(t, page), link[2]) {
			t.Errorf("%s has no heading for #%s", page, link[2])
		}
	}
}

// TestMetricsAreDocumented: the page has every metric with its labels, their help where it says what they count, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	table := section(t, readFile(t, filepath.Join("docs", "monitoring.md")), "## Metrics")
	known := must(knownMetrics())
	rows := regexp.MustCompile("(?m)^\\| ((?:`[a-z_]+`(?:, )?)+) \\| ([^|]*) \\|").FindAllStringSubmatch(table, -1)
	documented := make(map[string]bool)
	for _, row := range rows {
		for _, name := range quotedWords(row[1]) {
			metric := known["caddy_openid_connect_"+name]
			if metric == nil {
				t.Errorf("there is no metric %s", name)
				continue
			}
			documented["caddy_openid_connect_"+name] = true
			var labels []string
			for part := range strings.SplitSeq(row[2], ";") {
				label, values, _ := strings.Cut(part, ":")
				labels = append(labels, quotedWords(label)...)
				for _, value := range quotedWords(values) {
					for _, label := range quotedWords(label) {
						if !metric.labels[label][value] {
							t.Errorf("%s of %s is never %q", label, name, value)
						}
					}
				}
			}
			if want := slices.Sorted(maps.Keys(metric.labels)); !slices.Equal(slices.Sorted(slices.Values(labels)), want) {
				t.Errorf("%s is documented with the labels %v, and has %v", name, labels, want)
			}
		}
	}
	for name := range known {
		if !documented[name] {
			t.Errorf("nobody learns of %s", name)
		}
	}
	// what requests and tokens come to is a short list, which is there in full
	for metric, label := range map[string]string{"requests_total": "result", "token_validations_total": "result"} {
		for value := range known["caddy_openid_connect_"+metric].labels[label] {
			if !strings.Contains(table, "`"+value+"`") {
				t.Errorf("nobody learns of %s %s", label, value)
			}
		}
	}
}

func quotedWords(text string) (words []string) {
	for _, match := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(text, -1) {
		words = append(words, match[1])
	}
	return words
}
