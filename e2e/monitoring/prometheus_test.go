package monitoring

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/subprocess"
)

// prometheus is a server that scrapes and judges twice a second.
type prometheus struct{ address string }

func startPrometheus(t *testing.T, target string) *prometheus {
	t.Helper()
	directory := t.TempDir()
	config := fmt.Sprintf(`global:
  scrape_interval: 500ms
  scrape_timeout: 500ms
  evaluation_interval: 500ms
rule_files: [alerts.yml]
scrape_configs:
  - job_name: caddy
    static_configs:
      - targets: [%q]
`, target)
	for name, text := range map[string]string{"prometheus.yml": config, "alerts.yml": hurried(t)} {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	port, err := subprocess.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	p := &prometheus{fmt.Sprintf("127.0.0.1:%d", port)}
	process, err := subprocess.Start("prometheus", "--config.file="+filepath.Join(directory, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(directory, "data"), "--web.listen-address="+p.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := process.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := process.Wait("http://"+p.address+"/-/ready", 3*time.Minute); err != nil {
		t.Fatalf("prometheus, which Debian has in the package of that name: %v", err)
	}
	return p
}

// get asks the HTTP API.
func (p *prometheus) get(t *testing.T, path string, data any) {
	t.Helper()
	response, err := http.Get("http://" + p.address + "/api/v1/" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer := struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   any    `json:"data"`
	}{Data: data}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	if answer.Status != "success" {
		t.Fatalf("%s: %s", path, answer.Error)
	}
}

// query returns the series of an expression.
func (p *prometheus) query(t *testing.T, expression string) []json.RawMessage {
	t.Helper()
	var data struct {
		Result []json.RawMessage `json:"result"`
	}
	p.get(t, "query?query="+url.QueryEscape(expression), &data)
	return data.Result
}

// alert is one that is pending or fires.
type alert struct {
	Labels map[string]string `json:"labels"`
	State  string            `json:"state"`
}

func (p *prometheus) alerts(t *testing.T) []alert {
	t.Helper()
	var data struct {
		Alerts []alert `json:"alerts"`
	}
	p.get(t, "alerts", &data)
	return data.Alerts
}
