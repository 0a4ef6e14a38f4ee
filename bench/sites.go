package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// manySites runs a gateway with many sites that share one provider, and the same sites without the handler: once with sites that take
// tokens alone, once with sites that log users in as well.
func (r *run) manySites(ctx context.Context, report *strings.Builder) error {
	for _, kind := range []struct{ name, directive string }{
		{"sites-bearer", r.bearerDirective("")},
		{"sites-login", r.sessionDirective(population{client: loginClient}, "\t\taudience "+audience+"\n")},
	} {
		if !r.cases.MatchString(kind.name) {
			continue
		}
		if err := r.compareSites(ctx, report, kind.name, kind.directive); err != nil {
			return fmt.Errorf("case %s: %w", kind.name, err)
		}
	}
	return nil
}

func (r *run) compareSites(ctx context.Context, report *strings.Builder, name, directive string) error {
	token, err := r.tokens("ES256", 1)
	if err != nil {
		return err
	}
	discoveries, keyFetches := r.provider.discoveries.Load(), r.provider.keyFetches.Load()
	plain, err := r.footprintOfSites(ctx, name+"-plain", "", token)
	if err != nil {
		return fmt.Errorf("plain: %w", err)
	}
	ours, err := r.footprintOfSites(ctx, name, directive, token)
	if err != nil {
		return err
	}
	discoveries, keyFetches = r.provider.discoveries.Load()-discoveries, r.provider.keyFetches.Load()-keyFetches

	fmt.Fprintf(report, "\n### %s: %d of them on one provider, a token sent to each, then a reload\n\n", name, r.sites)
	report.WriteString("| | plain Caddy | with openid_connect | difference | budget |\n|---|--:|--:|--:|--:|\n")
	fmt.Fprintf(report, "| start, to the first accepted connection | %s | %s | %s | under 1s |\n",
		millis(plain.start), millis(ours.start), millis(ours.start-plain.start))
	fmt.Fprintf(report, "| reload through the admin API | %s | %s | %s | under 1s |\n",
		millis(plain.reload), millis(ours.reload), millis(ours.reload-plain.reload))
	fmt.Fprintf(report, "| heap | %s | %s | %.1f KiB a site | 20 KiB |\n",
		mebibytes(plain.heap), mebibytes(ours.heap), float64(ours.heap-plain.heap)/1024/float64(r.sites))
	fmt.Fprintf(report, "| RSS | %s | %s | %.1f KiB a site | |\n",
		mebibytes(plain.resident), mebibytes(ours.resident), float64(ours.resident-plain.resident)/1024/float64(r.sites))
	fmt.Fprintf(report, "| discovery documents fetched | | %d | | 1 |\n", discoveries)
	fmt.Fprintf(report, "| key sets fetched | | %d | | 1 |\n", keyFetches)
	if discoveries != 1 || keyFetches != 1 {
		return fmt.Errorf("%d discoveries and %d key fetches for %d sites; one of each was due",
			discoveries, keyFetches, r.sites)
	}
	return nil
}

// siteFootprint is what many sites cost.
type siteFootprint struct {
	start, reload  time.Duration
	heap, resident int64
}

func siteName(n int) string { return fmt.Sprintf("site-%04d.example.com", n) }

func (r *run) footprintOfSites(ctx context.Context, name, directive string, token credentials) (siteFootprint, error) {
	var config strings.Builder
	config.WriteString("{\n\tadmin $ADMIN\n\tpersist_config off\n\tauto_https off\n}\n")
	for n := range r.sites {
		fmt.Fprintf(&config, "\nhttp://%s:$PORT {\n\tbind 127.0.0.1\n%s\treverse_proxy %s\n}\n", siteName(n), directive, r.upstream.address)
	}
	var cost siteFootprint
	g, err := r.startGateway(ctx, name, config.String())
	if err != nil {
		return cost, err
	}
	defer g.stop()
	cost.start = g.start
	if err := r.visitSites(ctx, g, directive != "", token); err != nil {
		return cost, err
	}
	if cost.heap, err = g.heap(); err != nil {
		return cost, err
	}
	if cost.resident, err = g.resident(); err != nil {
		return cost, err
	}
	if cost.reload, err = r.reload(ctx, g, name); err != nil {
		return cost, err
	}
	fmt.Fprintf(r.progress, "%s done\n", name)
	return cost, r.visitSites(ctx, g, directive != "", token)
}

// visitSites sends a request to each site: with the token it is let in, and without one it is not if it is guarded.
func (r *run) visitSites(ctx context.Context, g *gateway, isGuarded bool, token credentials) error {
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	for n := range r.sites {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.address+"/", http.NoBody)
		if err != nil {
			return err
		}
		request.Host = siteName(n)
		status, body, err := answer(client, request)
		if err != nil {
			return err
		}
		if isGuarded && status != http.StatusUnauthorized {
			return fmt.Errorf("%s without a token answered %d: %s", request.Host, status, body)
		}
		request.Header.Set(token.header, token.values[0])
		if status, body, err = answer(client, request); err != nil {
			return err
		}
		if status != http.StatusOK {
			return fmt.Errorf("%s answered %d: %s", request.Host, status, body)
		}
	}
	return nil
}

// reload loads the same configuration again: everything is provisioned anew while the old one still runs.
func (r *run) reload(ctx context.Context, g *gateway, name string) (time.Duration, error) {
	config, err := os.ReadFile(filepath.Join(r.dir, name+".json"))
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+g.admin+"/load", bytes.NewReader(config))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Cache-Control", "must-revalidate") // also when nothing has changed
	began := time.Now()
	status, body, err := answer(http.DefaultClient, request)
	if err != nil {
		return 0, err
	}
	if status != http.StatusOK {
		return 0, fmt.Errorf("reloading: %d: %s", status, body)
	}
	return time.Since(began), nil
}

func millis(d time.Duration) string { return d.Round(time.Millisecond).String() }
