package apisix

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// grammar are the settings that may be written, in the order of the directive's own documentation. Those of a block have its name and a
// dot in front.
var grammar = []string{
	"issuer", "discovery", "introspection_endpoint", "public_key", "valid_issuers", "timeout", "ssl_verify", "network_proxy", "jwk_expires_in",

	"client_id", "client_secret", "token_endpoint_auth_method", "introspection_endpoint_auth_method", "client_private_key",
	"client_private_key_id", "client_jwt_assertion_alg", "client_jwt_assertion_expires_in", "client_jwt_assertion_audience",

	"scope", "redirect_uri", "path_prefix", "use_pkce", "use_nonce", "authorization_params", "prompt", "max_age", "acr_values", "display",
	"response_mode", "id_token_signed_response_alg", "userinfo",

	"session", "session.secret", "session.storage", "session.storage.host", "session.storage.port", "session.storage.username",
	"session.storage.password", "session.storage.database", "session.storage.prefix", "session.storage.ssl", "session.storage.ssl_verify",
	"session.storage.server_name", "session.storage.connect_timeout", "session.storage.send_timeout", "session.storage.read_timeout",
	"session.storage.keepalive_timeout", "session.cookie_name", "session.cookie_domain", "session.cookie_path", "session.cookie_same_site",
	"session.cookie_secure", "session.cookie_http_only", "session.idling_timeout", "session.absolute_timeout", "session_contents",

	"renew_access_token_on_expiry", "access_token_expires_leeway", "access_token_expires_in", "refresh_session_interval",

	"logout_path", "post_logout_redirect_uri", "revoke_tokens_on_logout",

	"bearer_only", "ignore_bearer", "bearer_token_from", "realm", "audience", "audience_claim", "required_scopes",
	"token_signing_alg_values_expected", "clock_skew", "introspection", "introspection_interval", "introspection_expiry_claim",
	"introspection_addon_headers", "token_cache",

	"unauth_action", "required_claim",

	"set_userinfo_header", "set_access_token_header", "access_token_in_authorization_header", "set_id_token_header",
	"set_raw_id_token_header", "set_refresh_token_header",
}

// groups begin a paragraph each.
var groups = []string{"client_id", "scope", "session", "renew_access_token_on_expiry", "logout_path", "bearer_only", "unauth_action", "set_userinfo_header"}

// render writes the Caddyfile as "caddy fmt" would.
func (c *conversion) render() string {
	var b strings.Builder
	for _, line := range c.summary() {
		b.WriteString(line + "\n")
	}
	b.WriteString("\n" + c.site + " {\n")
	c.writeRemarks(&b, "site", "upstream")
	if len(c.paths) > 1 {
		b.WriteString(namedMatcher + " path " + strings.Join(c.paths, " ") + "\n\n")
	}
	b.WriteString(strings.TrimRight("openid_connect "+c.matcher(), " ") + " {\n")
	first, pending := true, false
	for _, setting := range grammar {
		block, name := "", setting
		if at := strings.LastIndexByte(setting, '.'); at >= 0 {
			block, name = setting[:at], setting[at+1:]
		}
		pending = pending || slices.Contains(groups, setting)
		if block != "" {
			continue // written with its block
		}
		text := c.paragraph(setting, name)
		if text == "" {
			continue
		}
		if pending && !first {
			b.WriteString("\n")
		}
		first, pending = false, false
		b.WriteString(text)
	}
	var last strings.Builder
	c.writeRemarks(&last, "")
	if last.Len() > 0 && !first {
		b.WriteString("\n")
	}
	b.WriteString(last.String() + "}\n")
	b.WriteString("\n" + strings.TrimRight("reverse_proxy "+c.matcher(), " ") + " " + c.upstream + "\n}\n")
	return string(caddyfile.Format([]byte(b.String())))
}

// paragraph is a setting with the remarks about it, "" when there is neither.
func (c *conversion) paragraph(setting, name string) string {
	var b strings.Builder
	c.writeRemarks(&b, setting)
	if remark := c.remarks[setting]; remark != "" {
		for _, line := range comment(remark) {
			b.WriteString(line + "\n")
		}
	}
	if inner := c.block(setting); inner != "" {
		c.writeBlock(&b, setting, name, inner)
		return b.String()
	}
	for _, arguments := range c.lines[setting] {
		b.WriteString(strings.TrimRight(name+" "+arguments, " ") + "\n")
	}
	return b.String()
}

// block is what stands in the block of a setting.
func (c *conversion) block(setting string) string {
	var b strings.Builder
	for _, inner := range grammar {
		name, ok := strings.CutPrefix(inner, setting+".")
		if ok && !strings.Contains(name, ".") {
			b.WriteString(c.paragraph(inner, name))
		}
	}
	return b.String()
}

// writeBlock writes a block, which must not be empty of settings: then its remarks stand alone.
func (c *conversion) writeBlock(b *strings.Builder, setting, name, inner string) {
	settings := false
	for line := range strings.Lines(inner) {
		settings = settings || !strings.HasPrefix(line, "#")
	}
	arguments := strings.Join(c.lines[setting], " ")
	switch {
	case !settings && arguments == "":
		b.WriteString(inner)
	case !settings:
		b.WriteString(inner + name + " " + arguments + "\n")
	default:
		b.WriteString(strings.TrimRight(name+" "+arguments, " ") + " {\n" + inner + "}\n")
	}
}

// writeRemarks writes what has changed or is refused near a setting.
func (c *conversion) writeRemarks(b *strings.Builder, settings ...string) {
	for _, a := range c.attributes() {
		if a.Outcome != Changed && a.Outcome != Refused || !slices.Contains(settings, c.near(a)) {
			continue
		}
		for _, line := range comment(fmt.Sprintf("%s: %s: %s", a.Outcome, a.Name, a.Note)) {
			b.WriteString(line + "\n")
		}
	}
}

// near is the setting that a remark about an attribute stands at, "" for the end.
func (c *conversion) near(a Attribute) string {
	if strings.HasPrefix(a.Name, routePrefix) {
		return "site"
	}
	candidates := []string{a.Setting}
	if row := rows()[a.Name]; row != nil {
		candidates = []string{row.near, a.Setting, row.setting}
	}
	for _, candidate := range candidates {
		first, _, _ := strings.Cut(candidate, " ")
		for _, name := range []string{strings.ReplaceAll(candidate, " ", "."), first} {
			if slices.Contains(grammar, name) {
				return name
			}
		}
	}
	return ""
}

// isMoreOpen reports whether the Caddyfile lets in whom the plugin may have kept out.
func (c *conversion) isMoreOpen() bool {
	return c.opens || slices.ContainsFunc(c.attributes(), func(a Attribute) bool {
		row := rows()[a.Name]
		return a.Outcome == Refused && row != nil && row.guards
	})
}

// summary is what a reader needs to know before the first start.
func (c *conversion) summary() []string {
	counts := make(map[Outcome]int)
	for _, a := range c.attributes() {
		counts[a.Outcome]++
	}
	lines := comment(fmt.Sprintf("Translated from an openid-connect plugin of APISIX: %d attributes translated, %d changed, %d refused, %d needed no more.",
		counts[Translated], counts[Changed], counts[Refused], counts[NoOp]))
	if counts[Changed]+counts[Refused] > 0 {
		lines = append(lines, comment("Read the lines that begin with changed or refused before anybody uses this.")...)
	}
	if c.isMoreOpen() {
		lines = append(lines, comment("CAUTION: what is refused or changed may have kept people out; without rules for it, more people get in.")...)
	}
	for _, name := range c.variableOrder {
		lines = append(lines, comment(fmt.Sprintf("Set %s in the environment of Caddy: %s.", name, c.variables[name]))...)
	}
	return append(lines, c.steps...)
}
