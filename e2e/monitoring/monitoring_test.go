package monitoring

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/cluster"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

const (
	appHost, apiHost = "app.test", "api.test"
	// tokenLifetime has sessions renewed every other second.
	tokenLifetime = 2 * time.Second
	// patience is for what takes seconds; the machine may be busy.
	patience = 3 * time.Minute
)

// The pages that people are given.
var (
	rulesFile     = filepath.Join("..", "..", "docs", "alerts.yml")
	dashboardFile = filepath.Join("..", "..", "docs", "grafana-dashboard.json")
)

// TestRules has promtool read the rules, and try them with series that are made up.
func TestRules(t *testing.T) {
	t.Parallel()
	for _, arguments := range [][]string{
		{"check", "rules", "--lint=all", "--lint-fatal", rulesFile},
		{"test", "rules", filepath.Join("testdata", "alerts_test.yml")},
	} {
		if output, err := exec.CommandContext(t.Context(), "promtool", arguments...).CombinedOutput(); err != nil {
			t.Errorf("promtool, which Debian has in the package prometheus: %v\n%s", err, output)
		}
	}
}

// TestMonitoring lets the provider fail in ways that each alert is for, with the rules in a hurry.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	expressions := w.expressions(t)
	w.waitFor(t, "data for every panel of the dashboard", func() string {
		for _, expression := range expressions {
			if len(w.prometheus.query(t, expression)) == 0 {
				return "nothing for " + expression
			}
		}
		return ""
	})
	w.waitForAlerts(t)

	// The provider takes neither codes nor refresh tokens.
	w.provider.Fail(optest.Token, optest.Fault{Status: http.StatusBadRequest, Body: []byte(`{"error":"invalid_client"}`)})
	if w.waitForAlerts(t, "OpenIDConnectLoginsFailing", "OpenIDConnectRefreshesFailing")["OpenIDConnectProviderDown"] {
		t.Error("a provider that answers is said to be down")
	}
	w.provider.Heal(optest.Token)
	w.waitForAlerts(t)

	// The token endpoint is gone, and the others answer.
	w.provider.Fail(optest.Token, optest.Fault{Drop: true})
	w.waitForAlerts(t, "OpenIDConnectLoginsFailing", "OpenIDConnectProviderDown")
	w.provider.Heal(optest.Token)
	w.waitForAlerts(t)

	// The gateway starts while there is no provider.
	w.provider.Fail(optest.Discovery, optest.Fault{Status: http.StatusServiceUnavailable})
	w.gateway.Kill()
	if err := w.gateway.Start(); err != nil {
		t.Fatal(err)
	}
	w.waitFor(t, "an alert that names the provider", func() string {
		alerts := w.prometheus.alerts(t)
		for _, alert := range alerts {
			if alert.State == "firing" && alert.Labels["alertname"] == "OpenIDConnectProviderDown" &&
				alert.Labels["issuer"] == w.provider.Issuer() {
				return ""
			}
		}
		return fmt.Sprint(alerts)
	})
	w.provider.Heal(optest.Discovery)
	w.waitForAlerts(t)
}

// watched is a gateway with traffic, and a Prometheus that scrapes it.
type watched struct {
	provider   *optest.Provider
	gateway    *cluster.Gateway
	front      *cluster.Front
	prometheus *prometheus
	people     []*cluster.Client // who stay, and whose sessions are renewed
}

func newWatched(t *testing.T) *watched {
	t.Helper()
	program, err := cluster.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	upstream := cluster.StartUpstream()
	t.Cleanup(upstream.Close)
	w := &watched{provider: optest.New(t), front: cluster.NewFront(appHost, apiHost)}
	t.Cleanup(w.front.Close)
	w.provider.SetAccessLifetime(tokenLifetime)
	w.provider.SetIntrospectionClient("client", "secret")
	sites := fmt.Sprintf(`http://%[1]s {
	openid_connect %[3]s {
		client_id client
		client_secret secret
		scope openid offline_access
	}
	reverse_proxy %[4]s
}
http://%[2]s {
	openid_connect %[3]s {
		bearer_only
		audience api
		client_id client
		client_secret secret
		required_scopes read
	}
	reverse_proxy %[4]s
}
http:// {
	metrics /metrics
}`, appHost, apiHost, w.provider.Issuer(), upstream.Address())
	w.gateway, err = cluster.StartGateway(cluster.GatewaySettings{Program: program, Directory: t.TempDir(), Sites: sites})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.gateway.Stop(); err != nil {
			t.Error(err)
		}
	})
	w.front.Use(w.gateway)
	w.prometheus = startPrometheus(t, w.gateway.Address())
	for range 4 {
		w.people = append(w.people, cluster.NewClient(w.front, "http://"+appHost))
	}
	return w
}

// traffic is a moment of what goes on at the sites, whatever comes of it.
func (w *watched) traffic(t *testing.T) {
	t.Helper()
	visitor := cluster.NewClient(w.front, "http://"+appHost)
	for _, client := range append(w.people, visitor) {
		if _, err := client.Navigate(t.Context(), "/"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := visitor.SignOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	known := w.provider.AccessToken(nil)
	for _, token := range []string{
		known, known, w.provider.AccessToken(optest.Claims{"scope": "write"}), w.provider.OpaqueToken(w.provider.AccessClaims(nil)), "nonsense",
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+apiHost+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := w.front.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
}

// waitFor goes on with the traffic until nothing is missing any more.
func (w *watched) waitFor(t *testing.T, what string, missing func() string) {
	t.Helper()
	began := time.Now()
	pause := time.NewTicker(200 * time.Millisecond)
	defer pause.Stop()
	for {
		w.traffic(t)
		lacking := missing()
		if lacking == "" {
			t.Logf("%s after %.1f s", what, time.Since(began).Seconds())
			return
		}
		if time.Since(began) > patience {
			t.Fatalf("%s: not within %s: %s\n%v", what, patience, lacking, w.gateway.Log.Of("warn"))
		}
		<-pause.C
	}
}

// waitForAlerts waits until these alerts fire, or none does and none is about to, and returns all that fire then.
func (w *watched) waitForAlerts(t *testing.T, names ...string) (firing map[string]bool) {
	t.Helper()
	what := "no alert"
	if len(names) > 0 {
		what = strings.Join(names, ", ")
	}
	w.waitFor(t, what, func() string {
		alerts := w.prometheus.alerts(t)
		firing = make(map[string]bool)
		for _, alert := range alerts {
			if alert.State == "firing" {
				firing[alert.Labels["alertname"]] = true
			}
		}
		missing := len(names) == 0 && len(alerts) > 0
		for _, name := range names {
			missing = missing || !firing[name]
		}
		if missing {
			return fmt.Sprint(alerts)
		}
		return ""
	})
	return firing
}

// expressions are those of the dashboard, as Grafana asks them.
func (w *watched) expressions(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	asked := strings.NewReplacer("$__rate_interval", "10s", "$job", ".*", "$instance", ".*")
	var expressions []string
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			expressions = append(expressions, asked.Replace(target.Expr))
		}
	}
	if len(expressions) < 12 {
		t.Fatalf("%d expressions only", len(expressions))
	}
	return expressions
}

// hurried are the rules with seconds in place of minutes.
func hurried(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	rules := regexp.MustCompile(`(?m)^( +for:) \d+m$`).ReplaceAllString(string(text), "$1 2s")
	return regexp.MustCompile(`\[\d+m\]`).ReplaceAllString(rules, "[10s]")
}
