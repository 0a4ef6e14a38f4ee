package redis

import (
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// UnmarshalCaddyfile reads the storage of a session block; addresses may stand behind its name, and all else has a default:
//
//	storage redis [<host[:port]>...] {
//		host                   <host>|unix//<path>   # 127.0.0.1
//		port                   <port>                # 6379
//		address                <host[:port]>...      # sentinels, or nodes of a Cluster
//		master_name            <name>
//		sentinel_username      <name>
//		sentinel_password      <password>
//		cluster                [on|off]
//		username               <name>
//		password               <password>
//		database               <number>              # 0
//		prefix                 <prefix>              # sessions
//		ssl                    [on|off]
//		ssl_verify             on|off                # on
//		server_name            <name>
//		tls_trust_pool         <module> ...
//		tls_client_certificate <certificate> <key>
//		connect_timeout        <duration>            # 1s
//		send_timeout           <duration>            # 1s
//		read_timeout           <duration>            # 1s
//		keepalive_timeout      <duration>            # 10s
//	}
func (s *Store) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name of the module
	s.Address = append(s.Address, d.RemainingArgs()...)
	p := &parser{Dispenser: d}
	settings := s.settings(p)
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		read, ok := settings[name]
		switch {
		case !ok:
			return d.Errf("unrecognized subdirective %q%s", name, didYouMean(name, keys(settings)))
		case seen[name] && name != "address":
			return d.Errf("%s is set twice", name)
		}
		seen[name] = true
		if err := read(name); err != nil {
			return err
		}
		if d.NextArg() {
			return d.Errf("%s: unexpected argument", name) // which may be a part of a password
		}
	}
	return nil
}

func (s *Store) settings(p *parser) map[string]func(name string) error {
	return map[string]func(string) error{
		"host":                   p.text(&s.Host),
		"port":                   p.number(&s.Port, 1, 65535),
		"address":                p.list(&s.Address),
		"master_name":            p.text(&s.MasterName),
		"sentinel_username":      p.text(&s.SentinelUsername),
		"sentinel_password":      p.text(&s.SentinelPassword),
		"cluster":                p.flag(&s.Cluster),
		"username":               p.text(&s.Username),
		"password":               p.text(&s.Password),
		"database":               p.number(&s.Database, 0, 1<<31-1),
		"prefix":                 p.text(&s.Prefix),
		"ssl":                    p.flag(&s.SSL),
		"ssl_verify":             p.optionalFlag(&s.SSLVerify),
		"server_name":            p.text(&s.ServerName),
		"tls_trust_pool":         p.trustPool(s),
		"tls_client_certificate": p.clientCertificate(s),
		"connect_timeout":        p.timeout(&s.ConnectTimeout),
		"send_timeout":           p.timeout(&s.SendTimeout),
		"read_timeout":           p.timeout(&s.ReadTimeout),
		"keepalive_timeout":      p.timeout(&s.KeepaliveTimeout),
	}
}

// parser makes functions that read the arguments of a setting.
type parser struct{ *caddyfile.Dispenser }

func (p *parser) text(field *string) func(string) error {
	return func(name string) error {
		if !p.NextArg() || p.Val() == "" {
			return p.Errf("%s needs a value", name)
		}
		*field = p.Val()
		return nil
	}
}

func (p *parser) list(field *[]string) func(string) error {
	return func(name string) error {
		values := p.RemainingArgs()
		if len(values) == 0 {
			return p.Errf("%s needs at least one value", name)
		}
		*field = append(*field, values...)
		return nil
	}
}

func (p *parser) number(field *int, lowest, highest int) func(string) error {
	return func(name string) error {
		if !p.NextArg() {
			return p.Errf("%s needs a number", name)
		}
		value, err := strconv.Atoi(p.Val())
		if err != nil || value < lowest || value > highest {
			return p.Errf("%s: %q is not a number from %d to %d", name, p.Val(), lowest, highest)
		}
		*field = value
		return nil
	}
}

// flag reads on, off or nothing, which means on.
func (p *parser) flag(field *bool) func(string) error {
	return func(name string) error {
		if !p.NextArg() {
			*field = true
			return nil
		}
		if p.Val() != "on" && p.Val() != "off" {
			return p.Errf("%s is on or off, not %q", name, p.Val())
		}
		*field = p.Val() == "on"
		return nil
	}
}

// optionalFlag is a flag whose default is not off, so that off is written down.
func (p *parser) optionalFlag(field **bool) func(string) error {
	return func(name string) error {
		*field = new(bool)
		return p.flag(*field)(name)
	}
}

func (p *parser) timeout(field *Timeout) func(string) error {
	return func(name string) error {
		if !p.NextArg() {
			return p.Errf("%s needs a duration", name)
		}
		if err := field.parse(p.Val()); err != nil {
			return p.Errf("%s: %v", name, err)
		}
		return nil
	}
}

func (p *parser) trustPool(s *Store) func(string) error {
	return func(name string) error {
		if !p.NextArg() {
			return p.Errf("%s needs the name of a module", name)
		}
		module := p.Val()
		loaded, err := caddyfile.UnmarshalModule(p.Dispenser, "tls.ca_pool.source."+module)
		if err != nil {
			return err
		}
		s.TLSTrustPoolRaw = caddyconfig.JSONModuleObject(loaded, "provider", module, nil)
		return nil
	}
}

func (p *parser) clientCertificate(s *Store) func(string) error {
	return func(name string) error {
		s.TLSClientCertificate = new(ClientCertificate)
		if !p.Args(&s.TLSClientCertificate.Certificate, &s.TLSClientCertificate.Key) {
			return p.Errf("%s needs the files of a certificate and of its key", name)
		}
		return nil
	}
}
