package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

const (
	// quietReloads is how often the configuration is replaced with hardly anybody there, and quietHeap what that may leave in memory.
	quietReloads = 80
	quietHeap    = 512 << 10
)

// configuration is the next one to load. Two in four have a provider timeout that no other has had, so that all that is shared of a
// provider is made anew, and has to be given back.
func (t *site) configuration() string {
	t.loads++
	fresh := providerTimeout + time.Duration(t.loads)*time.Millisecond
	return t.caddyfile([]options{
		{handler: "realm first"},
		{handler: "realm second", timeout: fresh},
		{handler: "claim_header X-Name name"},
		{handler: "token_cache 5000", timeout: fresh},
	}[t.loads%4])
}

// reload replaces the configuration.
func (t *site) reload(ctx context.Context) error { return t.gateways[0].Reload(ctx, t.configuration()) }

// playReload replaces the configuration every second, by another one each time.
func playReload(ctx context.Context, t *site) error {
	if err := t.start(t.configuration(), 1); err != nil {
		return err
	}
	c, err := t.newCrowd(ctx)
	if err != nil {
		return err
	}
	// the first loads are part of the warm-up
	for range 4 {
		if err := t.reload(ctx); err != nil {
			return err
		}
	}
	c.use(ctx, warmUp)
	if t.before, err = t.atRest(ctx, nil); err != nil {
		return err
	}
	duration := 2 * t.duration
	over, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	type reloads struct {
		count int
		most  time.Duration
		err   error
	}
	ended := make(chan reloads)
	go func() {
		var r reloads
		defer func() { ended <- r }()
		every := time.NewTicker(time.Second)
		defer every.Stop()
		for {
			select {
			case <-every.C:
			case <-over.Done():
				return
			}
			began := time.Now()
			if r.err = t.reload(ctx); r.err != nil {
				return
			}
			r.count++
			r.most = max(r.most, time.Since(began))
		}
	}()
	c.use(ctx, duration)
	r := <-ended
	if r.err != nil {
		return r.err
	}
	c.lastLook(ctx)
	resent := t.front.Resent.Load()
	t.noteDone("%d reloads in %s, the slowest %s; %d renewals; %d requests sent again, since their connection was reset", r.count, duration,
		r.most.Round(time.Millisecond), t.provider.RefreshGrants(), resent)
	// A Caddy that reloads, this or a plain one, resets connections that it has not accepted yet.
	if requests := c.site.tally.count(withSession); resent > int64(requests/50) {
		t.tally.violation("%d requests had to be sent again", resent)
	}
	if err := t.expectProviders(ctx, 1); err != nil {
		return err
	}
	t.room = c.kept()
	if err := t.compare(ctx); err != nil {
		return err
	}
	return t.reloadAlone(ctx)
}

// reloadAlone replaces the configuration again and again with hardly anybody there, so that whatever grows has grown by that.
func (t *site) reloadAlone(ctx context.Context) error {
	before := t.after
	for range quietReloads {
		if err := t.reload(ctx); err != nil {
			return err
		}
		// a provider is asked for nothing before somebody needs it
		if a, err := t.newBrowser().ask(ctx, newLogin, origin+"/", page(), false); err != nil || a.status != http.StatusFound {
			t.tally.violation("no login begins after a reload")
		}
	}
	t.room = room{}
	after, err := t.atRest(ctx, &before)
	if err != nil {
		return err
	}
	t.noteDone("%d more reloads with hardly anybody there: %s", quietReloads, after)
	if !after.fits(before, t.room) || after.heap > before.heap+quietHeap {
		t.tally.violation("reloads alone: %s before, %s after", before, after)
	}
	return nil
}

var adminLine = regexp.MustCompile(`(?m)^\tadmin (\S+)$`)

// expectProviders asks the admin API of a gateway how many providers it talks to.
func (t *site) expectProviders(ctx context.Context, want int) error {
	config, err := os.ReadFile(filepath.Join(t.directory, "gateway-0", "Caddyfile"))
	if err != nil {
		return err
	}
	match := adminLine.FindSubmatch(config)
	if match == nil {
		return fmt.Errorf("the configuration does not say where the admin API is:\n%s", config)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+string(match[1])+"/openid_connect/providers", nil)
	if err != nil {
		return err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	var providers []struct {
		State  string         `json:"state"`
		Caches map[string]int `json:"caches"`
	}
	if err := json.Unmarshal(text, &providers); err != nil {
		return fmt.Errorf("the admin API says %.300s: %w", text, err)
	}
	if len(providers) != want || providers[0].State != "up" {
		t.tally.violation("the gateway knows %d providers, want %d that are up: %.300s", len(providers), want, text)
		return nil
	}
	t.noteDone("the gateway knows %d provider, caches: %v", len(providers), providers[0].Caches)
	return nil
}
