package openidconnect

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// text reads one argument.
func text(field func(*Handler) *string) func(*parser) error {
	return func(p *parser) error {
		name := p.Val()
		if !p.NextArg() {
			return p.Errf("%s needs a value", name)
		}
		if p.Val() == "" {
			return p.Errf("%s is empty", name)
		}
		*field(p.handler) = p.Val()
		return nil
	}
}

// choice reads one argument out of a fixed set.
func choice(field func(*Handler) *string, valid []string) func(*parser) error {
	read := text(field)
	return func(p *parser) error {
		name := p.Val()
		if err := read(p); err != nil {
			return err
		}
		if value := p.Val(); !strings.Contains(value, "{") && !slices.Contains(valid, value) {
			return p.Errf("%s: %q is not one of %s%s", name, value, strings.Join(valid, ", "), didYouMean(value, valid))
		}
		return nil
	}
}

// list reads one or more arguments and appends them.
func list(field func(*Handler) *StringList) func(*parser) error {
	return func(p *parser) error {
		name := p.Val()
		values := p.RemainingArgs()
		if len(values) == 0 {
			return p.Errf("%s needs at least one value", name)
		}
		if slices.Contains(values, "") {
			return p.Errf("%s has an empty value", name)
		}
		*field(p.handler) = append(*field(p.handler), values...)
		return nil
	}
}

// words reads one or more arguments and joins them by spaces.
func words(field func(*Handler) *string) func(*parser) error {
	return func(p *parser) error {
		name := p.Val()
		var values StringList
		if err := list(func(*Handler) *StringList { return &values })(p); err != nil {
			return err
		}
		joined := strings.TrimSpace(strings.Join(values, " "))
		if joined == "" {
			return p.Errf("%s has an empty value", name)
		}
		*field(p.handler) = strings.TrimSpace(*field(p.handler) + " " + joined)
		return nil
	}
}

// params reads the name of a parameter and its values, and appends these.
func params(field func(*Handler) *map[string]StringList) func(*parser) error {
	return func(p *parser) error {
		setting := p.Val()
		args := p.RemainingArgs()
		if len(args) < 2 {
			return p.Errf("%s needs the name of a parameter and its value", setting)
		}
		if slices.Contains(args, "") {
			return p.Errf("%s has an empty value", setting)
		}
		all := field(p.handler)
		if *all == nil {
			*all = make(map[string]StringList)
		}
		(*all)[args[0]] = append((*all)[args[0]], args[1:]...)
		return nil
	}
}

// number reads a whole number that is not negative.
func number(field func(*Handler) **int, of string) func(*parser) error {
	return func(p *parser) error {
		name := p.Val()
		if !p.NextArg() {
			return p.Errf("%s needs a number of %s", name, of)
		}
		value, err := strconv.Atoi(p.Val())
		if err != nil || value < 0 {
			return p.Errf("%s: %q is not a number of %s", name, p.Val(), of)
		}
		*field(p.handler) = &value
		return nil
	}
}

// flag reads on, off or nothing, which means on.
func flag(field func(*Handler) *bool) func(*parser) error {
	return func(p *parser) error {
		name := p.Val()
		*field(p.handler) = true
		if !p.NextArg() {
			return nil
		}
		switch p.Val() {
		case "on":
		case "off":
			*field(p.handler) = false
		default:
			return p.Errf("%s is on or off, not %q", name, p.Val())
		}
		return nil
	}
}

// optionalFlag is a flag whose default is not off, so that off is written down.
func optionalFlag(field func(*Handler) **bool) func(*parser) error {
	return func(p *parser) error {
		value := new(bool)
		if err := flag(func(*Handler) *bool { return value })(p); err != nil {
			return err
		}
		*field(p.handler) = value
		return nil
	}
}

func duration(field func(*Handler) **Duration) func(*parser) error {
	return func(p *parser) error {
		name := p.Val()
		if !p.NextArg() {
			return p.Errf("%s needs a duration such as 90s or 1d", name)
		}
		parsed, err := caddy.ParseDuration(p.Val())
		if err != nil || parsed < 0 {
			return p.Errf("%s: %q is not a duration such as 90s or 1d", name, p.Val())
		}
		value := Duration(parsed)
		*field(p.handler) = &value
		return nil
	}
}

// module reads a guest module of a namespace, with its block.
func module(namespace, inlineKey string, field func(*Handler) *json.RawMessage) func(*parser) error {
	return func(p *parser) error {
		name := p.Val()
		if !p.NextArg() {
			return p.Errf("%s needs the name of a module", name)
		}
		guest := p.Val()
		unmarshaler, err := caddyfile.UnmarshalModule(p.Dispenser, namespace+"."+guest)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		*field(p.handler) = caddyconfig.JSONModuleObject(unmarshaler, inlineKey, guest, nil)
		return nil
	}
}

// maxAge reads a duration, or a number of seconds as OpenID Connect has it.
func (p *parser) maxAge() error {
	if p.NextArg() {
		if seconds, err := strconv.ParseUint(p.Val(), 10, 31); err == nil {
			age := Duration(time.Duration(seconds) * time.Second)
			p.handler.MaxAge = &age
			return nil
		}
		p.Prev()
	}
	return duration(func(h *Handler) **Duration { return &h.MaxAge })(p)
}

func claimRules(field func(*Handler) *[]ClaimRule, least int) func(*parser) error {
	return func(p *parser) error {
		name := p.Val()
		args := p.RemainingArgs()
		if len(args) == 0 {
			return p.Errf("%s needs the path of a claim", name)
		}
		if len(args)-1 < least {
			return p.Errf("%s %s needs at least one value", name, args[0])
		}
		if slices.Contains(args, "") {
			return p.Errf("%s has an empty value", name)
		}
		if _, err := parseClaimPath(args[0]); err != nil && !strings.Contains(args[0], "{") {
			return p.Errf("%s: %q: %v", name, args[0], err)
		}
		rule := ClaimRule{Claim: args[0]}
		if len(args) > 1 {
			rule.Values = args[1:]
		}
		*field(p.handler) = append(*field(p.handler), rule)
		return nil
	}
}

func (p *parser) clientCertificate() error {
	certificate := new(ClientCertificate)
	if !p.AllArgs(&certificate.Certificate, &certificate.Key) {
		return p.Err("tls_client_certificate needs two files, the certificate and its key")
	}
	p.handler.TLSClientCertificate = certificate
	return nil
}

func (p *parser) bearerTokenFrom() error {
	var source TokenSource
	if !p.AllArgs(&source.In, &source.Name) {
		return p.Err("bearer_token_from needs a place (header, cookie or query) and a name")
	}
	if !strings.Contains(source.In, "{") && !slices.Contains(tokenSources, source.In) {
		return p.Errf("bearer_token_from: %q is not one of %s%s", source.In, strings.Join(tokenSources, ", "),
			didYouMean(source.In, tokenSources))
	}
	p.handler.BearerTokenFrom = append(p.handler.BearerTokenFrom, source)
	return nil
}

// unauthAction sets the default, or with a matcher adds an exception.
func (p *parser) unauthAction() error {
	if !p.NextArg() {
		return p.Errf("unauth_action needs one of %s", strings.Join(unauthActions, ", "))
	}
	action := p.Val()
	if !strings.Contains(action, "{") && !slices.Contains(unauthActions, action) {
		return p.Errf("unauth_action: %q is not one of %s%s", action, strings.Join(unauthActions, ", "),
			didYouMean(action, unauthActions))
	}
	if p.CountRemainingArgs() == 0 {
		if p.handler.UnauthAction != "" {
			return p.Err("unauth_action is set twice without a matcher")
		}
		p.handler.UnauthAction = action
		return nil
	}
	set, isMatcher, err := p.matcher()
	switch {
	case err != nil:
		return p.WrapErr(fmt.Errorf("unauth_action: %w", err))
	case !isMatcher:
		return p.Errf("unauth_action: %q is neither a path that begins with a slash nor a named matcher", p.Val())
	case len(set) == 0:
		return p.Errf("unauth_action: %q matches everything; leave it out to set the default", p.Val())
	}
	p.handler.UnauthRules = append(p.handler.UnauthRules, UnauthRule{MatchRaw: RuleMatchers{set}, Action: action})
	return nil
}

func (p *parser) claimHeader() error {
	args := p.RemainingArgs()
	if len(args) != 2 && (len(args) != 3 || args[2] != "json") {
		return p.Err("claim_header needs a header and the path of a claim, and may end in json")
	}
	if _, taken := p.handler.ClaimHeaders[args[0]]; taken {
		return p.Errf("claim_header %s is set twice", args[0])
	}
	if p.handler.ClaimHeaders == nil {
		p.handler.ClaimHeaders = make(map[string]ClaimHeader)
	}
	p.handler.ClaimHeaders[args[0]] = ClaimHeader{Claim: args[1], JSON: len(args) == 3}
	return nil
}

func (p *parser) claimPlaceholder() error {
	var name, path string
	if !p.AllArgs(&name, &path) {
		return p.Err("claim_placeholder needs a name and the path of a claim")
	}
	if _, taken := p.handler.ClaimPlaceholders[name]; taken {
		return p.Errf("claim_placeholder %s is set twice", name)
	}
	if p.handler.ClaimPlaceholders == nil {
		p.handler.ClaimPlaceholders = make(map[string]string)
	}
	p.handler.ClaimPlaceholders[name] = path
	return nil
}
