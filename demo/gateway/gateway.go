// Package gateway runs Caddy with the openid_connect handler inside this process. There is one Caddy per process: what is
// loaded replaces what was loaded before.
package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Gateway is the running Caddy.
type Gateway struct {
	storage  string
	logLevel string
}

// New prepares a gateway that logs from this level on, to standard error. Nothing it keeps outlives Close.
func New(logLevel string) (*Gateway, error) {
	dir, err := os.MkdirTemp("", "caddy-openid-connect-*")
	if err != nil {
		return nil, fmt.Errorf("making a storage directory: %w", err)
	}
	return &Gateway{storage: dir, logLevel: logLevel}, nil
}

// LoadCaddyfile runs these sites.
func (g *Gateway) LoadCaddyfile(sites string) error {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(sites), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return fmt.Errorf("adapting the Caddyfile: %w", err)
	}
	return g.LoadJSON(config)
}

// LoadJSON runs this configuration. It gets no admin API, leaves no copy of itself behind, and keeps its storage and its
// log where New says.
func (g *Gateway) LoadJSON(config []byte) error {
	var c caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &c); err != nil {
		return fmt.Errorf("decoding the configuration: %w", err)
	}
	persist := false
	c.Admin = &caddy.AdminConfig{Disabled: true, Config: &caddy.ConfigSettings{Persist: &persist}}
	c.StorageRaw = caddyconfig.JSONModuleObject(map[string]string{"root": g.storage}, "module", "file_system", nil)
	c.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		caddy.DefaultLoggerName: {BaseLog: caddy.BaseLog{Level: g.logLevel}},
	}}
	config, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encoding the configuration: %w", err)
	}
	if err := caddy.Load(config, true); err != nil {
		return fmt.Errorf("loading the configuration: %w", err)
	}
	return nil
}

// Addresses returns where the sites listen, as host:port, sorted.
func (g *Gateway) Addresses() ([]string, error) {
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		return nil, fmt.Errorf("finding the HTTP app: %w", err)
	}
	var addresses []string
	for _, server := range app.(*caddyhttp.App).Servers {
		for _, listener := range server.Listeners() {
			addresses = append(addresses, listener.Addr().String())
		}
	}
	slices.Sort(addresses)
	return addresses, nil
}

// Close stops Caddy and removes its storage.
func (g *Gateway) Close() error {
	err := caddy.Stop()
	removed := os.RemoveAll(g.storage)
	for range 50 { // what is still being written there, after a moment
		if removed == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
		removed = os.RemoveAll(g.storage)
	}
	return errors.Join(err, removed)
}
