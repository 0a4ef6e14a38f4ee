package openidconnect

import (
	"encoding/json"
	"fmt"
	"strings"
)

// blockOf reads the block of a setting, whose own settings are fields. A check's error about one of them is told by its name with the
// setting's in front.
func (p *parser) blockOf(setting string, fields map[string]func(*parser) error, repeatable string) error {
	if p.NextArg() {
		return p.Errf("%s: unexpected argument %q", setting, p.Val())
	}
	for nesting := p.Nesting(); p.NextBlock(nesting); {
		name := p.Val()
		read, ok := fields[name]
		if !ok {
			return p.Errf("%s: unrecognized subdirective %q%s", setting, name, didYouMean(name, keys(fields)))
		}
		if _, seen := p.seen[setting+"."+name]; seen && name != repeatable {
			return p.Errf("%s: %s is set twice", setting, name)
		}
		p.seen[setting+"."+name] = p.Token()
		if err := read(p); err != nil {
			return err
		}
		if err := p.end(name); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) protectedResource() error {
	resource := new(ProtectedResource)
	p.handler.ProtectedResource = resource
	return p.blockOf("protected_resource", map[string]func(*parser) error{
		"resource":               text(func(*Handler) *string { return &resource.Resource }),
		"scopes_supported":       list(func(*Handler) *StringList { return &resource.ScopesSupported }),
		"resource_name":          text(func(*Handler) *string { return &resource.ResourceName }),
		"resource_documentation": text(func(*Handler) *string { return &resource.ResourceDocumentation }),
		"resource_policy_uri":    text(func(*Handler) *string { return &resource.ResourcePolicyURI }),
		"resource_tos_uri":       text(func(*Handler) *string { return &resource.ResourceTosURI }),
	}, "scopes_supported")
}

func (p *parser) session() error {
	s := new(SessionConfig)
	p.handler.Session = s
	start := len(p.seen)
	err := p.blockOf("session", map[string]func(*parser) error{
		"secret":             list(func(*Handler) *StringList { return &s.Secret }),
		"storage":            storage(&s.Storage),
		"cookie_name":        text(func(*Handler) *string { return &s.CookieName }),
		"cookie_domain":      text(func(*Handler) *string { return &s.CookieDomain }),
		"cookie_path":        text(func(*Handler) *string { return &s.CookiePath }),
		"cookie_same_site":   choice(func(*Handler) *string { return (*string)(&s.CookieSameSite) }, sameSites),
		"cookie_secure":      choice(func(*Handler) *string { return (*string)(&s.CookieSecure) }, cookieSecures),
		"cookie_http_only":   optionalFlag(func(*Handler) **bool { return &s.CookieHTTPOnly }),
		"cookie_partitioned": flag(func(*Handler) *bool { return &s.CookiePartitioned }),
		"cookie_persistent":  optionalFlag(func(*Handler) **bool { return &s.CookiePersistent }),
		"idling_timeout":     duration(func(*Handler) **Duration { return &s.IdlingTimeout }),
		"reissue_interval":   duration(func(*Handler) **Duration { return &s.ReissueInterval }),
		"absolute_timeout":   duration(func(*Handler) **Duration { return &s.AbsoluteTimeout }),
		"max_cookie_bytes":   number(func(*Handler) **int { return &s.MaxCookieBytes }, "bytes"),
	}, "secret")
	if err == nil && len(p.seen) == start {
		return p.Err("session is empty")
	}
	return err
}

// storage reads the name of a storage, and for a guest module what belongs to that.
func storage(field *SessionStorage) func(*parser) error {
	return func(p *parser) error {
		var name string
		if err := text(func(*Handler) *string { return &name })(p); err != nil {
			return err
		}
		switch {
		case isInlineJSON(name):
			return p.Err("storage is a name, with the settings of its module in a block")
		case strings.Contains(name, "{"), name == storageCookie, name == storageCaddy:
			*field = SessionStorage(name)
			return nil
		}
		if err := checkStorageName(name); err != nil {
			return p.Errf("storage: %v", err)
		}
		p.Prev() // to what module begins with
		var object json.RawMessage
		if err := module(storageNamespace, storageKey, func(*Handler) *json.RawMessage { return &object })(p); err != nil {
			return err
		}
		if err := field.UnmarshalJSON(object); err != nil {
			return p.WrapErr(fmt.Errorf("storage: %w", err))
		}
		return nil
	}
}

func (p *parser) sessionContents() error {
	contents := p.handler.SessionContents
	if contents == nil {
		contents = new(SessionContents)
	}
	members := map[string]*bool{
		"access_token": &contents.AccessToken, "id_token": &contents.IDToken, "enc_id_token": &contents.EncIDToken, "user": &contents.User,
	}
	args := p.RemainingArgs()
	if len(args) == 0 {
		return p.Err("session_contents needs at least one value")
	}
	for _, name := range args {
		member, ok := members[name]
		if !ok {
			return p.Errf("session_contents: %q is not one of access_token, id_token, enc_id_token, user%s", name,
				didYouMean(name, keys(members)))
		}
		*member = true
	}
	p.handler.SessionContents = contents
	return nil
}
