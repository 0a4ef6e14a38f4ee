package apisix

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const notBuilt = "not built"

func loginTable() []attribute {
	const par, dpop = "pushed authorization requests are " + notBuilt, "proof of possession by the client is " + notBuilt
	unlessEnabled := func(flag, note string) func(*conversion, string) {
		return func(c *conversion, name string) {
			if !c.flag(flag, false) {
				c.noOp(name, flag+" is off")
				return
			}
			c.refused(name, note)
		}
	}
	return []attribute{
		{
			name: "scope", kind: textType, outcome: Translated, setting: "scope",
			note:    "`openid` is added where it is missing: without it there is no ID token.",
			convert: ofLogins((*conversion).scope),
		},
		{
			name: "redirect_uri", kind: textType, outcome: Translated, setting: "redirect_uri",
			note: "Without it `/oauth2/callback`, where APISIX takes the path of the request and `/.apisix/redirect`: register that. A path is " +
				"completed with the origin of the request, for which `X-Forwarded-*` counts only from `trusted_proxies`.",
			convert: ofLogins((*conversion).redirectURI),
			absent: func(c *conversion, name string) {
				if c.browser {
					c.changed(name, name, "not in the plugin: the callback is /oauth2/callback here, which the provider must know; in APISIX it is "+
						".apisix/redirect below the path of the request")
				}
			},
		},
		{
			name: "use_pkce", kind: flagType, outcome: Translated, setting: "use_pkce",
			note:    "On by default; off is not carried over.",
			convert: ofLogins(keptOn("use_pkce", "a provider that does not know PKCE ignores it; use_pkce off switches it off")),
		},
		{
			name: "use_nonce", kind: flagType, outcome: Translated, setting: "use_nonce",
			note:    "On by default; off is not carried over.",
			convert: ofLogins(keptOn("use_nonce", "for a provider that returns no nonce there is use_nonce off")),
		},
		{
			name: "authorization_params", kind: freeObject, outcome: Translated, setting: "authorization_params",
			note: "`max_age` and `acr_values` become the settings of that name, which also verify the answer. Parameters of the protocol " +
				"itself are refused.",
			convert: ofLogins((*conversion).authorizationParams),
		},
		{
			name: "unauth_action", kind: textType, outcome: Translated, setting: "unauth_action",
			note: "With `auth`, only page navigations are sent to the provider; everything else gets 401. Not carried over with `bearer_only`, where " +
				"APISIX answers 401 whatever it says.",
			convert: ofLogins(func(c *conversion, name string) {
				switch action := c.text(name); action {
				case "auth":
					c.translated(name, name, "the default; what is not a page navigation gets 401 instead of a redirect")
				case "deny", "pass":
					c.add(name, action)
					c.translated(name, name, "")
				default:
					c.refused(name, "neither auth nor deny nor pass")
				}
			}),
		},
		{
			name: "accept_none_alg", kind: flagType, outcome: Refused, near: "id_token_signed_response_alg",
			note:    "Unsigned ID tokens are never accepted.",
			convert: unlessOff("unsigned ID tokens are never accepted"),
		},
		{
			name: "accept_unsupported_alg", kind: flagType, outcome: Refused, near: "id_token_signed_response_alg",
			note:    "The default of APISIX. Here an ID token whose signature cannot be verified is refused.",
			convert: unlessOff("every ID token is verified; RSA, ECDSA and EdDSA are supported"),
		},
		{
			name: "force_reauthorize", kind: flagType, outcome: Refused, near: "prompt", guards: true,
			note:    "To have people authenticate anew at every login, write `prompt login` or `max_age 0`.",
			convert: ofLogins(unlessOff("a session is used until it ends; prompt login or max_age 0 has people authenticate anew at each login")),
		},
		holder("par", "", "Pushed authorization requests are "+notBuilt+"."),
		{
			name: "par.enabled", kind: flagType, outcome: Refused, near: "scope", note: "Not built.",
			convert: ofLogins(unlessOff(par + ", so the parameters of a login travel in the browser's URL")),
		},
		{name: "par.endpoint", kind: textType, outcome: Refused, near: "scope", note: "Not built.", convert: ofLogins(unlessEnabled("par.enabled", par))},
		{
			name: "par.endpoint_auth_method", kind: textType, outcome: Refused, near: "scope", note: "Not built.",
			convert: ofLogins(unlessEnabled("par.enabled", par)),
		},
		holder("dpop", "", "Proof of possession by the client is "+notBuilt+". Bearer tokens that are bound to a key are verified."),
		{
			name: "dpop.enabled", kind: flagType, outcome: Refused, near: "scope", note: "Not built.",
			convert: ofLogins(unlessOff(dpop + ", so the provider issues plain bearer tokens, if it does at all")),
		},
		{name: "dpop.signing_alg", kind: textType, outcome: Refused, near: "scope", note: "Not built.", convert: ofLogins(unlessEnabled("dpop.enabled", dpop))},
		{
			name: "dpop.private_key", kind: textType, outcome: Refused, near: "scope", note: "Not built. Never repeated.",
			convert: ofLogins(unlessEnabled("dpop.enabled", dpop)),
		},
		{name: "dpop.public_jwk", kind: freeObject, outcome: Refused, near: "scope", note: "Not built.", convert: ofLogins(unlessEnabled("dpop.enabled", dpop))},
	}
}

// keptOn is for a protection that stays on although the plugin has it off, as it is by default in APISIX.
func keptOn(setting, hint string) func(*conversion, string) {
	return func(c *conversion, name string) {
		if c.flag(name, false) {
			c.translated(name, setting, "the default")
			return
		}
		c.changed(name, setting, "it stays on; "+hint)
	}
}

// isScope reports whether text is a scope-token (RFC 6749 section 3.3).
func isScope(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' })
}

func (c *conversion) scope(name string) {
	text := c.text(name)
	if reference(text) != "" {
		c.write(name, name, text)
		return
	}
	scopes := strings.Fields(text)
	switch {
	case len(scopes) == 0:
		c.noOp(name, "it is empty")
		return
	case slices.ContainsFunc(scopes, func(scope string) bool { return !isScope(scope) }):
		c.refused(name, "has what cannot be a scope")
		return
	}
	missing := !slices.Contains(scopes, "openid")
	if missing {
		scopes = append([]string{"openid"}, scopes...)
	}
	if c.write(name, name, scopes...) && missing {
		c.changed(name, name, "openid is added: without it the provider sends no ID token")
	}
}

// reservedParams are the parameters that the protocol needs for itself.
var reservedParams = []string{
	"client_id", "redirect_uri", "response_type", "scope", "state", "nonce", "code_challenge", "code_challenge_method", "response_mode",
	"request", "request_uri",
}

func (c *conversion) authorizationParams(name string) {
	var left []string
	lines := 0
	for _, m := range c.values[name].members {
		if c.authorizationParam(m) {
			lines++
			continue
		}
		left = append(left, shown(m.name))
		c.opens = c.opens || !slices.Contains(reservedParams, m.name) // it may have asked for a stronger login
	}
	switch {
	case len(left) > 0:
		c.refused(name, fmt.Sprintf("cannot be set here: %s", strings.Join(left[:min(len(left), 8)], ", ")))
	case lines == 0:
		c.noOp(name, "it is empty")
	default:
		c.translated(name, name, "")
	}
}

// authorizationParam writes one parameter.
func (c *conversion) authorizationParam(m member) bool {
	text := m.value.text
	if m.value.kind != kindText && m.value.kind != kindNumber && m.value.kind != kindFlag || text == "" || isReference(text) && reference(text) == "" {
		return false
	}
	argument, ok := token(text)
	if placeholder := reference(text); placeholder != "" {
		argument, ok = placeholder, true
		c.variable(strings.TrimSuffix(strings.TrimPrefix(placeholder, "{env."), "}"), "as for APISIX, for authorization_params")
	}
	parameter, named := token(m.name)
	switch {
	case !ok, !named, strings.ContainsAny(m.name, "{}"), strings.ContainsFunc(m.name, func(r rune) bool { return r <= ' ' || r > '~' }):
		return false
	case slices.Contains(reservedParams, m.name):
		return false
	case m.name == "max_age":
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil || seconds < 0 || seconds > 400*86400 {
			return false
		}
		c.add("max_age", strconv.FormatInt(seconds, 10))
	case m.name == "acr_values":
		if strings.TrimSpace(text) == "" || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			return false
		}
		c.add("acr_values", argument)
	default:
		c.add("authorization_params", parameter, argument)
	}
	return true
}
