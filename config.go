package openidconnect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Duration is a span of time in the configuration. In JSON a string is a Caddy duration ("90s", "1d") and a number is seconds; it
// is always written as a string.
type Duration time.Duration

// UnmarshalJSON reads both forms.
func (d *Duration) UnmarshalJSON(text []byte) error {
	text = bytes.TrimSpace(text)
	if len(text) > 0 && text[0] == '"' {
		var s string
		if err := json.Unmarshal(text, &s); err != nil {
			return err
		}
		parsed, err := caddy.ParseDuration(s)
		if err != nil {
			return fmt.Errorf("%q is not a duration such as 90s or 1d", s)
		}
		*d = Duration(parsed)
		return nil
	}
	var seconds float64
	if err := json.Unmarshal(text, &seconds); err != nil {
		return errors.New("a duration is a string such as \"90s\" or a number of seconds")
	}
	if seconds > float64(1<<62)/1e9 || seconds < 0 {
		return errors.New("a number of seconds is out of range")
	}
	*d = Duration(seconds * float64(time.Second))
	return nil
}

// MarshalJSON writes the duration as a string.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

func (d *Duration) or(standard time.Duration) time.Duration {
	if d == nil {
		return standard
	}
	return time.Duration(*d)
}

// StringList is a list of strings. In JSON a single string is accepted for a list of one.
type StringList []string

// UnmarshalJSON reads both forms.
func (l *StringList) UnmarshalJSON(text []byte) error {
	if text = bytes.TrimSpace(text); len(text) > 0 && text[0] == '"' {
		var s string
		if err := json.Unmarshal(text, &s); err != nil {
			return err
		}
		*l = StringList{s}
		return nil
	}
	var list []string
	if err := json.Unmarshal(text, &list); err != nil {
		return errors.New("expected a string or a list of strings")
	}
	*l = list
	return nil
}

// ClientCertificate names the PEM files of a client certificate and its private key.
type ClientCertificate struct {
	// The certificate, with any intermediates after it.
	Certificate string `json:"certificate,omitempty"`

	// The private key.
	Key string `json:"key,omitempty"`
}

// TokenSource is a further place where requests may carry a bearer token.
type TokenSource struct {
	// Where to look: "header", "cookie" or "query".
	In string `json:"in,omitempty"`

	// The name of the header, cookie or query parameter.
	Name string `json:"name,omitempty"`
}

// ClaimRule is a rule about one claim.
type ClaimRule struct {
	// The path of the claim: dot-separated, a backslash escapes a dot; a claim that has the whole name literally wins.
	Claim string `json:"claim,omitempty"`

	// The values, any of which matches. Without values the rule is about the presence of the claim.
	Values StringList `json:"values,omitempty"`
}

// ProtectedResource describes a site to its clients (RFC 9728 section 2). The issuer is published as its authorization server, and
// where tokens are accepted as its bearer methods.
type ProtectedResource struct {
	// The identifier of the resource: a URL, or a path that is completed with the request's public origin. Clients ask the provider
	// for tokens with this audience. Default: the public origin
	Resource string `json:"resource,omitempty"`

	// The scopes that clients may need.
	ScopesSupported StringList `json:"scopes_supported,omitempty"`

	// The name of the resource, for people.
	ResourceName string `json:"resource_name,omitempty"`

	// Pages about the resource: for developers, on how its data is used, and its terms of service.
	ResourceDocumentation string `json:"resource_documentation,omitempty"`
	ResourcePolicyURI     string `json:"resource_policy_uri,omitempty"`
	ResourceTosURI        string `json:"resource_tos_uri,omitempty"`
}

// ClaimHeader says which claim a header carries. In JSON a single string is the path of the claim.
type ClaimHeader struct {
	// The path of the claim.
	Claim string `json:"claim,omitempty"`

	// Write the claim as JSON.
	JSON bool `json:"json,omitempty"`
}

// UnmarshalJSON reads both forms.
func (c *ClaimHeader) UnmarshalJSON(text []byte) error {
	if text = bytes.TrimSpace(text); len(text) > 0 && text[0] == '"' {
		return json.Unmarshal(text, &c.Claim)
	}
	type plain ClaimHeader // without this method
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	return decoder.Decode((*plain)(c))
}

// MarshalJSON writes the shorter form where it says all.
func (c ClaimHeader) MarshalJSON() ([]byte, error) {
	if !c.JSON {
		return json.Marshal(c.Claim)
	}
	type plain ClaimHeader
	return json.Marshal(plain(c))
}

// UnauthRule is an exception to what unauthenticated requests get.
type UnauthRule struct {
	// The requests it applies to: a set of request matchers, or a list of sets of which one must match, as in a route. Path matchers
	// see the path as it is when the handler runs.
	MatchRaw RuleMatchers `json:"match,omitempty" caddy:"namespace=http.matchers"`

	// What they get: "auth", "deny" or "pass".
	Action string `json:"action,omitempty"`
}

// RuleMatchers are sets of request matchers. In JSON a single set is accepted for a list of one.
type RuleMatchers []caddy.ModuleMap

// UnmarshalJSON reads both forms.
func (m *RuleMatchers) UnmarshalJSON(text []byte) error {
	if text = bytes.TrimSpace(text); len(text) > 0 && text[0] == '{' {
		var set caddy.ModuleMap
		if err := json.Unmarshal(text, &set); err != nil {
			return err
		}
		*m = RuleMatchers{set}
		return nil
	}
	var sets []caddy.ModuleMap
	if err := json.Unmarshal(text, &sets); err != nil {
		return errors.New("expected a set of matchers or a list of sets")
	}
	*m = sets
	return nil
}

// MarshalJSON writes the shorter form where it says all.
func (m RuleMatchers) MarshalJSON() ([]byte, error) {
	if len(m) == 1 {
		return json.Marshal(m[0])
	}
	return json.Marshal([]caddy.ModuleMap(m))
}

// configError is a configuration error that names the field it is about.
type configError struct {
	field string
	text  string
}

func (e *configError) Error() string { return e.field + ": " + e.text }

func fieldError(field, format string, args ...any) error {
	return &configError{field: field, text: fmt.Sprintf(format, args...)}
}

// resolvePlaceholders replaces the placeholders in every string of the configuration, once, at provision. A value that starts like
// inline JSON is left alone, and so is what belongs to guest modules. Fields are named in errors as in JSON.
func resolvePlaceholders(config any) error {
	repl := caddy.NewReplacer()
	return resolve(reflect.ValueOf(config).Elem(), "", func(text string) (string, error) {
		return repl.ReplaceOrErr(text, true, true)
	})
}

// atLoad are the placeholders that are resolved when the configuration is loaded even where others wait for the request.
var atLoad = regexp.MustCompile(`\\?\{(?:env|file)\.[^{}]*\}`)

// resolveAtLoad leaves a value that can be replaced again: other placeholders and escapes stay, and what comes out of a placeholder
// has its braces escaped.
func resolveAtLoad(text string) (string, error) {
	repl := caddy.NewReplacer()
	var failure error
	resolved := atLoad.ReplaceAllStringFunc(text, func(placeholder string) string {
		if placeholder[0] == '\\' {
			return placeholder
		}
		value, err := repl.ReplaceOrErr(placeholder, true, true)
		if err != nil && failure == nil {
			failure = err
		}
		return strings.NewReplacer("{", `\{`, "}", `\}`).Replace(value)
	})
	return resolved, failure
}

func resolve(v reflect.Value, field string, replace func(string) (string, error)) error {
	switch v.Kind() {
	case reflect.String:
		text := v.String()
		if !strings.Contains(text, "{") || isInlineJSON(text) {
			return nil
		}
		resolved, err := replace(text)
		switch {
		case err == nil:
		case strings.Contains(err.Error(), "{env.") || strings.Contains(err.Error(), "{file."):
			return fieldError(field, "%v", err)
		default:
			// what stands in braces may be a part of a secret
			return fieldError(field, `has an unrecognized placeholder; only {env.*} and {file.*} are replaced here; write a literal brace as \{`)
		}
		v.SetString(resolved)
	case reflect.Pointer:
		if !v.IsNil() {
			return resolve(v.Elem(), field, replace)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return nil // raw JSON of a guest module
		}
		for i := range v.Len() {
			if err := resolve(v.Index(i), field, replace); err != nil {
				return err
			}
		}
	case reflect.Map:
		if v.Type().Elem() == reflect.TypeFor[json.RawMessage]() {
			return nil // matchers, resolved by Caddy at request time
		}
		for _, key := range v.MapKeys() {
			value := reflect.New(v.Type().Elem()).Elem()
			value.Set(v.MapIndex(key))
			if err := resolve(value, field, replace); err != nil {
				return err
			}
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if name == "" || !v.Field(i).CanSet() {
				continue
			}
			if field != "" {
				name = field + "." + name
			}
			replaceField := replace
			if name == "authorization_params" {
				replaceField = resolveAtLoad
			}
			if err := resolve(v.Field(i), name, replaceField); err != nil {
				return err
			}
		}
	}
	return nil
}

func isInlineJSON(text string) bool {
	text = strings.TrimSpace(text)
	return strings.HasPrefix(text, "{") && json.Valid([]byte(text))
}
