package openidconnect

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// knownMetric is what can be asked of a metric.
type knownMetric struct {
	histogram bool
	labels    map[string]map[string]bool // and the values that they take
}

// scraped are the labels that Prometheus adds, with values that are not ours.
var scraped = []string{"job", "instance"}

// endpointLiteral finds the names by which the provider package counts its calls.
var endpointLiteral = regexp.MustCompile(`endpoint: +"([a-z_]+)"|p\.get\(ctx, "([a-z_]+)"`)

// knownMetrics has all metrics count everything that the code can tell them, and looks at what comes of it.
var knownMetrics = sync.OnceValues(func() (map[string]*knownMetric, error) {
	registry := prometheus.NewRegistry()
	m, err := newMetrics(registry)
	if err != nil {
		return nil, err
	}
	for _, method := range []string{methodBearer, methodSession, methodNone} {
		for _, result := range []string{resultAllowed, resultPassed, resultPreflight, resultLogin} {
			m.request(method, result)
		}
		for _, a := range answers {
			m.request(method, resultOf(a.status))
		}
	}
	m.login(resultSucceeded)
	for _, result := range []string{
		resultSucceeded, resultRejected, resultUnavailable, string(reasonSessionTooLarge), string(reasonStoreUnavailable),
	} {
		m.refresh(result)
	}
	for _, by := range []string{logoutByUser, logoutByBackchannel, logoutByFrontchannel, logoutByOperator} {
		m.sessionsEnded(reasonLogoutPrefix+by, 1)
	}
	for reason := range answers {
		m.login(string(reason))
		m.sessionsEnded(string(reason), 1)
		m.refusedToken(reason)
	}
	m.revocationList(true)
	m.providerUp.WithLabelValues("https://id.example.com").Set(1)
	files, err := filepath.Glob(filepath.Join("internal", "provider", "*.go"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, match := range endpointLiteral.FindAllStringSubmatch(string(text), -1) {
			m.providerCall(match[1]+match[2], 0, 0)
		}
	}
	for status := http.StatusContinue; status < 600; status++ {
		m.providerCall("token", status, 0)
	}
	families, err := registry.Gather()
	if err != nil {
		return nil, err
	}
	known := make(map[string]*knownMetric)
	for _, family := range families {
		metric := &knownMetric{histogram: family.GetType().String() == "HISTOGRAM", labels: make(map[string]map[string]bool)}
		for _, series := range family.GetMetric() {
			for _, label := range series.GetLabel() {
				if metric.labels[label.GetName()] == nil {
					metric.labels[label.GetName()] = make(map[string]bool)
				}
				metric.labels[label.GetName()][label.GetValue()] = true
			}
		}
		known[family.GetName()] = metric
	}
	return known, nil
})

// findMetric looks up a name, a histogram by those of its three series.
func findMetric(name string) (*knownMetric, error) {
	known, err := knownMetrics()
	if err != nil {
		return nil, err
	}
	if metric := known[name]; metric != nil && !metric.histogram {
		return metric, nil
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if metric := known[strings.TrimSuffix(name, suffix)]; metric != nil && metric.histogram && strings.HasSuffix(name, suffix) {
			if suffix == "_bucket" {
				metric = &knownMetric{labels: maps.Clone(metric.labels)}
				metric.labels["le"] = nil
			}
			return metric, nil
		}
	}
	return nil, fmt.Errorf("there is no metric %s", name)
}

// What an expression of PromQL consists of, as far as these tests look.
var (
	promSelector  = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\s*\{([^}]*)\}`)
	promMatcher   = regexp.MustCompile(`^\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"([^"\\]*)"\s*$`)
	promGrouping  = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	promRange     = regexp.MustCompile(`\[[^\]]*\]`)
	promWord      = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*\s*\(?`)
	promOperators = []string{"and", "or", "unless", "bool", "offset"}
)

// checkPromQL reports what in an expression there is not, and returns the labels that its series can have.
func checkPromQL(expression string) (labels []string, err error) {
	var problems []error
	metrics := make(map[string]*knownMetric)
	use := func(name string) *knownMetric {
		metric, err := findMetric(name)
		if err != nil {
			problems = append(problems, err)
			return nil
		}
		metrics[name] = metric
		return metric
	}
	rest := promSelector.ReplaceAllStringFunc(expression, func(found string) string {
		match := promSelector.FindStringSubmatch(found)
		if metric := use(match[1]); metric != nil {
			for text := range strings.SplitSeq(match[2], ",") {
				problems = append(problems, metric.checkMatcher(match[1], text))
			}
		}
		return "1"
	})
	var grouped []string
	rest = promGrouping.ReplaceAllStringFunc(rest, func(found string) string {
		for name := range strings.SplitSeq(promGrouping.FindStringSubmatch(found)[1], ",") {
			grouped = append(grouped, strings.TrimSpace(name))
		}
		return ""
	})
	for _, word := range promWord.FindAllString(promRange.ReplaceAllString(rest, ""), -1) {
		if !strings.HasSuffix(word, "(") && !slices.Contains(promOperators, strings.TrimSpace(word)) {
			use(strings.TrimSpace(word))
		}
	}
	if len(metrics) == 0 {
		problems = append(problems, errors.New("it asks for no metric"))
	}
	labels = slices.Clone(scraped)
	for _, metric := range metrics {
		labels = append(labels, slices.Collect(maps.Keys(metric.labels))...)
	}
	for _, name := range grouped {
		if !slices.Contains(labels, name) {
			problems = append(problems, fmt.Errorf("there is no label %s to group by", name))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("%s: %w", expression, err)
	}
	return labels, nil
}

// checkMatcher looks at one condition of a selector: each value that it names must be one that the label takes.
func (m *knownMetric) checkMatcher(name, text string) error {
	match := promMatcher.FindStringSubmatch(text)
	if match == nil {
		return fmt.Errorf("%s has the matcher %q", name, text)
	}
	label, operator, value := match[1], match[2], match[3]
	if slices.Contains(scraped, label) {
		return nil
	}
	values, ok := m.labels[label]
	if !ok {
		return fmt.Errorf("%s has no label %s", name, label)
	}
	alternatives := []string{value}
	if strings.HasSuffix(operator, "~") {
		alternatives = strings.Split(value, "|")
	}
	for _, alternative := range alternatives {
		pattern, err := regexp.Compile("^(?:" + alternative + ")$")
		if !strings.HasSuffix(operator, "~") {
			pattern = regexp.MustCompile("^" + regexp.QuoteMeta(alternative) + "$")
		} else if err != nil {
			return err
		}
		if !slices.ContainsFunc(slices.Collect(maps.Keys(values)), pattern.MatchString) {
			return fmt.Errorf("%s of %s is never %q", label, name, alternative)
		}
	}
	return nil
}

// TestPromQLIsChecked: what is right passes, and each way to be wrong is found.
func TestPromQLIsChecked(t *testing.T) {
	t.Parallel()
	const ours = "caddy_openid_connect_"
	const duration = ours + "provider_request_duration_seconds"
	for _, right := range []string{
		ours + `provider_up == 0`,
		ours + `provider_up{issuer="https://id.example.com",instance=~"$instance"}`,
		`sum by (job, result) (rate(` + ours + `requests_total{method!="none",result=~"unavailable|bad_.*"}[5m])) / 3 > 0.5`,
		`histogram_quantile(0.9, sum by (le, endpoint) (rate(` + duration + `_bucket{endpoint="token"}[$__rate_interval])))`,
		`rate(` + duration + `_sum[5m]) / on (endpoint) rate(` + duration + `_count[5m])`,
		ours + `token_validations_total{result="refused",reason="wrong_audience"} or ` + ours + `logins_total{result="code_exchange_failed"}`,
		ours + `sessions_ended_total{reason=~"logout_.*|session_expired"} unless ` + ours + `provider_requests_total{code=~"0|429|5.."}`,
	} {
		if _, err := checkPromQL(right); err != nil {
			t.Error(err)
		}
	}
	for _, wrong := range []string{
		`rate(` + ours + `request_total[5m])`, `rate(caddy_oidc_requests_total{result="allowed"}[5m])`, `requests_total`, `up`, `1 > 0`,
		`rate(` + ours + `requests_total{status="allowed"}[5m])`,
		`rate(` + ours + `requests_total{result="accepted"}[5m])`,
		`rate(` + ours + `requests_total{result=~"allowed|succeeded"}[5m])`,
		`rate(` + ours + `requests_total{result=~"allowed|session_too_large"}[5m])`,
		`rate(` + ours + `requests_total{method="cookie"}[5m])`,
		`rate(` + ours + `requests_total{result!~"forbidden|unauthorised"}[5m])`,
		`rate(` + ours + `requests_total{result="allow.*"}[5m])`,
		`rate(` + ours + `requests_total{result=allowed}[5m])`,
		`sum by (reason) (rate(` + ours + `requests_total[5m]))`,
		`sum(rate(` + ours + `requests_total[5m])) / on (issuer) rate(` + ours + `requests_total[5m])`,
		`rate(` + ours + `logins_total{result="code_exchange_fail"}[5m])`,
		`rate(` + ours + `logins_total{result="logout_user"}[5m])`,
		`rate(` + ours + `refreshes_total{result="failed"}[5m])`,
		`rate(` + ours + `sessions_ended_total{reason="logout"}[5m])`,
		`rate(` + ours + `token_validations_total{result="invalid"}[5m])`,
		`rate(` + ours + `provider_requests_total{endpoint="keys"}[5m])`,
		`rate(` + ours + `provider_requests_total{code="ok"}[5m])`,
		`rate(` + ours + `provider_requests_total{code=~"6.."}[5m])`,
		duration, ours + `provider_up_bucket`, ours + `requests_total_count`,
		`sum by (le) (` + duration + `_sum)`,
		ours + `provider_up or ` + ours + `provider_down`,
	} {
		if _, err := checkPromQL(wrong); err == nil {
			t.Errorf("nobody notices %s", wrong)
		}
	}
}
