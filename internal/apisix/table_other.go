package apisix

import (
	"slices"
	"strings"
)

// passThroughTable has the attributes that APISIX does not know and hands to its library all the same. Nobody checks their types.
func passThroughTable() []attribute {
	row := func(name string, outcome Outcome, setting, note string, convert func(*conversion, string)) attribute {
		return attribute{name: name, kind: anyType, outcome: outcome, setting: setting, note: note, convert: convert}
	}
	refused := func(name, near, note string) attribute {
		r := row(name, Refused, "", capital(note), impossible(note))
		r.near = near
		return r
	}
	needed := func(name, note string) attribute { return row(name, NoOp, "", capital(note), needless(note)) }
	return []attribute{
		row("prompt", Translated, "prompt", "Unless `authorization_params` has one.", ofLogins((*conversion).prompt)),
		row("display", Translated, "display", "Unless `authorization_params` has one.", ofLogins(func(c *conversion, name string) {
			switch text := c.text(name); {
			case c.values["authorization_params"].member(name) != nil:
				c.noOp(name, "authorization_params has it too")
			case !isOneOf(text, "page", "popup", "touch", "wap"):
				c.refused(name, "neither page nor popup nor touch nor wap")
			default:
				c.write(name, name, text)
			}
		})),
		row("response_mode", Translated, "response_mode", "`query` or `form_post`.", ofLogins(func(c *conversion, name string) {
			switch c.text(name) {
			case "query":
				c.translated(name, name, "the default")
			case "form_post":
				c.write(name, name, "form_post")
			default:
				c.refused(name, "neither query nor form_post")
			}
		})),
		refused("redirect_uri_scheme", "redirect_uri", "the scheme is that of the request, or of a proxy in front that trusted_proxies names; or write a whole URL as redirect_uri"),
		refused("local_redirect_uri_path", "redirect_uri", "what the provider is told and what is answered are one, redirect_uri"),
		refused("redirect_after_logout_uri", "post_logout_redirect_uri", "the provider's end_session_endpoint is used; write end_session_endpoint, or post_logout_redirect_uri for where browsers end up"),
		needed("redirect_after_logout_with_id_token_hint", "the hint is sent whenever it was kept"),
		{
			name: "introspection_params", kind: anyType, outcome: Refused, near: "introspection", guards: true,
			note: "Nothing can be added to the question.", convert: ofIntrospection(impossible("nothing can be added to the question")),
		},
		row("introspection_token_param_name", NoOp, "", "The parameter is `token` (RFC 7662).", func(c *conversion, name string) {
			if c.text(name) == "token" {
				c.noOp(name, "as here")
				return
			}
			c.refused(name, "the parameter is token (RFC 7662)")
		}),
		row("introspection_cache_ignore", Translated, "introspection_interval", "As `introspection_interval 0`.", ofIntrospection(func(c *conversion, name string) {
			if !c.flag(name, false) {
				c.noOp(name, "off, as here")
				return
			}
			c.lines["introspection_interval"] = []string{"0"}
			c.translated(name, "introspection_interval 0", "")
			if other := "introspection_interval"; c.has(other) {
				c.noOp(other, "introspection_cache_ignore is set")
			}
		})),
		row("introspection_enable_negative_cache", Refused, "", "Answers that refuse a token are not remembered; parallel requests with it share one call.",
			ofIntrospection(unlessOff("answers that refuse a token are not remembered; parallel requests with it share one call"))),
		needed("discovery_expires_in", "metadata is fetched again by itself"),
		needed("keepalive", "connections are kept as long as the provider keeps them"),
		refused("pass_cookies", "introspection", "cookies of the browser are never sent to the provider"),
		row("auth_accept_token_as", Changed, "bearer_token_from", "`cookie:<name>` becomes a place besides the `Authorization` header.", ofBearers((*conversion).tokenPlace)),
		row("auth_accept_token_as_header_name", Changed, "bearer_token_from", "A place besides the `Authorization` header.", ofBearers((*conversion).tokenPlace)),
		refused("symmetric_key", "token_signing_alg_values_expected", "a shared key of tokens is the client_secret here, and only for algorithms that are named; it is not repeated"),
	}
}

func capital(text string) string { return strings.ToUpper(text[:1]) + text[1:] + "." }

func (c *conversion) prompt(name string) {
	prompts := strings.Fields(c.text(name))
	switch {
	case c.values["authorization_params"].member(name) != nil:
		c.noOp(name, "authorization_params has it too")
	case len(prompts) == 0, len(prompts) > 1 && slices.Contains(prompts, "none"),
		slices.ContainsFunc(prompts, func(prompt string) bool {
			return !isOneOf(prompt, "login", "consent", "select_account", "create", "none")
		}):
		c.refused(name, "not login, consent, select_account or create, nor none alone")
	default:
		c.write(name, name, prompts...)
	}
}

func (c *conversion) tokenPlace(name string) {
	text := c.text(name)
	place := "header"
	if name == "auth_accept_token_as" {
		if text == "header" {
			c.noOp(name, "the header is always read")
			return
		}
		place, text, _ = strings.Cut(text, ":")
	}
	switch {
	case place != "header" && place != "cookie", !headerName.MatchString(text):
		c.refused(name, "neither a header nor a cookie")
	case strings.EqualFold(text, "Authorization"):
		c.noOp(name, "the header is always read")
	default:
		if c.write(name, "bearer_token_from", place, text) {
			c.changed(name, "bearer_token_from", "besides the Authorization header, not in its place")
		}
	}
}
