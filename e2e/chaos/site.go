package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/cluster"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

const (
	host   = "app.test"
	origin = "http://" + host

	// tokenLifetime is that of access tokens which are renewed all the time.
	tokenLifetime = 4 * time.Second
	// providerTimeout is how long the gateway waits for the provider.
	providerTimeout = 2 * time.Second
	// warmUp is how long a site is used before anything is measured.
	warmUp = 6 * time.Second
)

// site is a gateway with everything around it.
type site struct {
	settings
	directory   string
	random      *rand.Rand // of the scenario itself
	provider    *optest.Provider
	application *application
	front       *cluster.Front
	gateways    []*cluster.Gateway
	tally       *tally
	did         []string // what was done, for the report
	expected    []string // parts of lines that the log may have at the level ERROR
	loads       int      // configurations

	before, after usage
	room          room
	closers       []func()
}

func newSite(s settings, directory string, random *rand.Rand) (*site, error) {
	t := &site{settings: s, directory: directory, random: random, tally: newTally(), front: cluster.NewFront(host)}
	t.closers = append(t.closers, t.front.Close)
	var err error
	if t.provider, err = optest.Start(); err != nil {
		return nil, err
	}
	t.closers = append(t.closers, t.provider.Close)
	t.application = startApplication(t.tally)
	t.closers = append(t.closers, t.application.close)
	t.provider.SetAccessLifetime(tokenLifetime)
	t.provider.SetTokenResponse(t.application.tokens.Issued)
	return t, nil
}

func (t *site) close() {
	for _, closer := range slices.Backward(t.closers) {
		closer()
	}
}

// start runs so many gateways.
func (t *site) start(sites string, gateways int) error {
	for range gateways {
		own := filepath.Join(t.directory, fmt.Sprint("gateway-", len(t.gateways)))
		if err := os.Mkdir(own, 0o700); err != nil {
			return err
		}
		g, err := cluster.StartGateway(cluster.GatewaySettings{
			Program: t.program, Directory: own, Storage: filepath.Join(t.directory, "storage"), Level: "WARN", Sites: sites,
		})
		if err != nil {
			return err
		}
		t.gateways = append(t.gateways, g)
		t.closers = append(t.closers, func() { _ = g.Stop() })
	}
	t.front.Use(t.gateways...)
	return nil
}

// options are what differs between the sites of the scenarios.
type options struct {
	address  string        // app.test by default
	timeout  time.Duration // providerTimeout by default
	handler  string        // further lines
	storage  string        // of sessions; cookie by default
	absolute string        // absolute_timeout; 24h by default
	upstream string        // the application by default
}

// caddyfile is the site. Its connections to the application end soon, so that they do not count when the site is at rest.
func (t *site) caddyfile(o options) string {
	or := func(value, otherwise string) string {
		if value == "" {
			return otherwise
		}
		return value
	}
	if o.timeout == 0 {
		o.timeout = providerTimeout
	}
	return fmt.Sprintf(`%s {
	openid_connect %s {
		client_id client
		client_secret secret
		scope openid offline_access
		audience api
		timeout %s
		set_access_token_header
		claim_header X-Subject sub
		unauth_action pass /open/*
		session {
			secret "a secret of the robustness runs, longer than 32 bytes"
			storage %s
			absolute_timeout %s
		}
		%s
	}
	reverse_proxy %s {
		transport http {
			keepalive 1s
		}
	}
}
`, or(o.address, origin), t.provider.Issuer(), o.timeout, or(o.storage, "cookie"), or(o.absolute, "24h"), o.handler,
		or(o.upstream, t.application.address()))
}

// noteDone adds a line to the report.
func (t *site) noteDone(format string, arguments ...any) {
	t.did = append(t.did, fmt.Sprintf(format, arguments...))
}

// pause waits, and reports whether there is still time.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
