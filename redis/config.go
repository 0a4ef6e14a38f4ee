package redis

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Timeout is a span of time that is never zero where it is set. In JSON a number is milliseconds and a string a Caddy duration ("1s");
// it is always written as a string.
type Timeout time.Duration

// UnmarshalJSON reads both forms.
func (t *Timeout) UnmarshalJSON(text []byte) error {
	if text = bytes.TrimSpace(text); len(text) > 0 && text[0] == '"' {
		var s string
		if err := json.Unmarshal(text, &s); err != nil {
			return err
		}
		return t.parse(s)
	}
	var milliseconds float64
	if err := json.Unmarshal(text, &milliseconds); err != nil {
		return errors.New(`a duration is a string such as "1s" or a number of milliseconds`)
	}
	if milliseconds < 1 || milliseconds > float64(maxTimeout.Milliseconds()) {
		return fmt.Errorf("%v is not a number of milliseconds from 1 to %d", milliseconds, maxTimeout.Milliseconds())
	}
	*t = Timeout(milliseconds * float64(time.Millisecond))
	return nil
}

// MarshalJSON writes the timeout as a string.
func (t Timeout) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(t).String()) }

// maxTimeout is far beyond what a request can wait for.
const maxTimeout = time.Hour

func (t *Timeout) parse(text string) error {
	d, err := caddy.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 500ms or 2s", text)
	}
	if d < time.Millisecond || d > maxTimeout {
		return fmt.Errorf("%q is not from 1ms to %v", text, maxTimeout)
	}
	*t = Timeout(d)
	return nil
}

// resolvePlaceholders replaces the placeholders in every string.
func (s *Store) resolvePlaceholders() error {
	repl := caddy.NewReplacer()
	resolve := func(name string, text *string) error {
		if !strings.Contains(*text, "{") {
			return nil
		}
		resolved, err := repl.ReplaceOrErr(*text, true, true)
		switch {
		case err == nil && resolved != "":
			*text = resolved
			return nil
		case err == nil:
			return fmt.Errorf("%s: is empty", name)
		case strings.Contains(err.Error(), "{env.") || strings.Contains(err.Error(), "{file."):
			return fmt.Errorf("%s: %w", name, err)
		default:
			// what stands in braces may be a part of a password
			return fmt.Errorf(`%s: has an unrecognized placeholder; write a literal brace as \{`, name)
		}
	}
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if name == "" {
			continue
		}
		switch field := v.Field(i).Addr().Interface().(type) {
		case *string:
			if err := resolve(name, field); err != nil {
				return err
			}
		case *[]string:
			for i := range *field {
				if err := resolve(name, &(*field)[i]); err != nil {
					return err
				}
			}
		case **ClientCertificate:
			if c := *field; c != nil {
				if err := errors.Join(resolve(name, &c.Certificate), resolve(name, &c.Key)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

var errPort = errors.New("port: must be from 1 to 65535")

// check refuses what cannot work, and what would be silently without effect.
func (s *Store) check() error {
	switch {
	case s.Port < 0 || s.Port > 65535:
		return errPort
	case len(s.Address) > 0 && (s.Host != "" || s.Port != 0):
		return errors.New("address: stands in place of host and port; leave those out")
	case s.MasterName != "" && s.Cluster:
		return errors.New("cluster: with master_name the servers are sentinels, not a Cluster")
	case s.MasterName == "" && (s.SentinelUsername != "" || s.SentinelPassword != ""):
		return errors.New("sentinel_username and sentinel_password: only sentinels take them, which need master_name")
	case s.SentinelUsername != "" && s.SentinelPassword == "":
		return errors.New("sentinel_username: needs sentinel_password")
	case s.Username != "" && s.Password == "":
		return errors.New("username: needs password")
	case s.Database < 0:
		return errors.New("database: must not be negative")
	case s.Database != 0 && s.isCluster():
		return errors.New("database: a Cluster has database 0 alone; leave it out, or name the master of the sentinels in master_name")
	case s.KeepaliveTimeout != 0 && s.KeepaliveTimeout < Timeout(time.Second):
		return errors.New("keepalive_timeout: must be at least 1s")
	case strings.ContainsFunc(s.Prefix, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return errors.New("prefix: must have no spaces")
	}
	if c := s.TLSClientCertificate; c != nil && (c.Certificate == "" || c.Key == "") {
		return errors.New("tls_client_certificate: needs certificate and key")
	}
	if err := s.checkTLS(); err != nil {
		return err
	}
	for _, server := range s.servers() {
		if server.err != nil {
			return server.err
		}
		if server.network == "unix" && (s.SSL || s.MasterName != "" || s.isCluster()) {
			return fmt.Errorf("%s: a Unix socket goes with neither ssl nor sentinels nor a Cluster", server.field)
		}
	}
	return nil
}

// checkTLS demands ssl of whoever sets something about it, who would believe to have it otherwise.
func (s *Store) checkTLS() error {
	if s.SSL {
		return nil
	}
	switch {
	case s.ServerName != "":
		return errors.New("server_name: has no effect without ssl")
	case len(s.TLSTrustPoolRaw) > 0:
		return errors.New("tls_trust_pool: has no effect without ssl")
	case s.TLSClientCertificate != nil:
		return errors.New("tls_client_certificate: has no effect without ssl")
	}
	return nil
}

func (s *Store) setDefaults() {
	if s.Prefix == "" {
		s.Prefix = "sessions"
	}
	for _, timeout := range []*Timeout{&s.ConnectTimeout, &s.SendTimeout, &s.ReadTimeout} {
		if *timeout == 0 {
			*timeout = Timeout(time.Second)
		}
	}
	if s.KeepaliveTimeout == 0 {
		s.KeepaliveTimeout = Timeout(10 * time.Second)
	}
}

func (s *Store) isCluster() bool { return s.Cluster || s.MasterName == "" && len(s.Address) > 1 }
