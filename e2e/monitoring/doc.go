// Package monitoring tests docs/alerts.yml and docs/grafana-dashboard.json with the real thing: a Prometheus scrapes a Caddy whose
// provider is made to fail, and the alerts fire. It needs prometheus and promtool, which Debian has in the package prometheus.
package monitoring
