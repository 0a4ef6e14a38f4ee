// Package redis keeps the sessions of Caddy's handler openid_connect in Redis, where all instances find them, and what the instances
// tell each other of renewals.
//
// It is a guest module of the handler and knows nothing of sessions: it moves sealed bytes. The handler has no code of Redis, so this
// is a Go module of its own. See [Store] for the settings and the README for what Redis has to allow.
package redis

import (
	"encoding/json"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func init() {
	caddy.RegisterModule(Store{})
}

// Store keeps sessions in Redis 5 or later, in Valkey, or in what else speaks their protocol and runs their scripts: on a single
// server, behind Sentinel, or in a Cluster. No connection is opened before the first session needs one.
//
// Each value is one key, the prefix, a colon and a path, such as `sessions:sessions/2026-11-24/…`, which Redis drops by itself when it has
// expired. Locks and sets have `:lock` and `:set` behind their path. No operation touches more than one key.
//
// Placeholders in strings are replaced once, when the configuration is loaded; use {env.*} or {file.*} for the password.
type Store struct {
	// The host, or a Unix socket as "unix//run/redis/redis.sock". Default: 127.0.0.1
	Host string `json:"host,omitempty"`

	// The port. Default: 6379, for a sentinel 26379
	Port int `json:"port,omitempty"`

	// In place of host and port, "host:port" of one or more servers: with master_name sentinels, else, if there are several, nodes of a
	// Cluster, which then name the others.
	Address []string `json:"address,omitempty"`

	// The name that the sentinels know the master by.
	MasterName string `json:"master_name,omitempty"`

	// The user name and the password that the sentinels themselves demand.
	SentinelUsername string `json:"sentinel_username,omitempty"`
	SentinelPassword string `json:"sentinel_password,omitempty"`

	// Whether a single address is a node of a Cluster. Default: false
	Cluster bool `json:"cluster,omitempty"`

	// The user, for servers with access control lists.
	Username string `json:"username,omitempty"`

	// The password.
	Password string `json:"password,omitempty"`

	// The number of the database; a Cluster has 0 alone. Default: 0
	Database int `json:"database,omitempty"`

	// What all keys begin with, before a colon. Sites with the same server and prefix share what is stored. Default: sessions
	Prefix string `json:"prefix,omitempty"`

	// Speak TLS. Default: false
	SSL bool `json:"ssl,omitempty"`

	// Check the server's certificate. Default: true
	SSLVerify *bool `json:"ssl_verify,omitempty"`

	// The name that the certificate must have. Default: the host that is connected to
	ServerName string `json:"server_name,omitempty"`

	// The authorities that the server's certificate may come from. Default: the system's
	TLSTrustPoolRaw json.RawMessage `json:"tls_trust_pool,omitempty" caddy:"namespace=tls.ca_pool.source inline_key=provider"`

	// The certificate to present to the server, read when the configuration is loaded.
	TLSClientCertificate *ClientCertificate `json:"tls_client_certificate,omitempty"`

	// How long connecting, sending and reading may each take. Together they bound every operation, retries included. In JSON a number
	// is milliseconds. Default: 1s
	ConnectTimeout Timeout `json:"connect_timeout,omitempty"`
	SendTimeout    Timeout `json:"send_timeout,omitempty"`
	ReadTimeout    Timeout `json:"read_timeout,omitempty"`

	// How long a connection may go unused before it is not used any more; at least 1s. In JSON a number is milliseconds. Default: 10s
	KeepaliveTimeout Timeout `json:"keepalive_timeout,omitempty"`

	client  *client
	release func() error
	lease   lease
}

// ClientCertificate names the PEM files of a client certificate and its private key.
type ClientCertificate struct {
	// The certificate, with any intermediates after it.
	Certificate string `json:"certificate,omitempty"`

	// The private key.
	Key string `json:"key,omitempty"`
}

// CaddyModule says what the module is called.
func (Store) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.openid_connect.session_stores.redis",
		New: func() caddy.Module { return new(Store) },
	}
}

// Provision checks the configuration and makes the store ready for use; it opens no connection.
func (s *Store) Provision(ctx caddy.Context) error {
	if err := s.resolvePlaceholders(); err != nil {
		return err
	}
	if err := s.check(); err != nil {
		return err
	}
	s.setDefaults()
	options, err := s.options(ctx)
	if err != nil {
		return err
	}
	s.warn(ctx.Logger())
	s.lease = standardLease
	s.client, s.release, err = acquireClient(s, options)
	return err
}

// Cleanup gives the connections back, which are closed when nobody uses them any more.
func (s *Store) Cleanup() error {
	if s.release == nil {
		return nil
	}
	return s.release()
}

// patience is how long an operation takes at most.
func (s *Store) patience() time.Duration {
	return time.Duration(s.ConnectTimeout + max(s.SendTimeout, s.ReadTimeout))
}

// Interface guards.
var (
	_ caddy.Provisioner     = (*Store)(nil)
	_ caddy.CleanerUpper    = (*Store)(nil)
	_ caddyfile.Unmarshaler = (*Store)(nil)
	_ json.Unmarshaler      = (*Store)(nil)
)
