package apisix

import (
	"regexp"
	"slices"
	"strings"
)

const (
	maxSession = 400 * 86400 // seconds; browsers keep no cookie for longer

	// What lua-resty-session does by default, in seconds.
	apisixIdling  = 900
	apisixRolling = 3600

	// What lua-resty-openidc does by default, in seconds.
	apisixTokenLifetime = 3600
)

func sessionTable() []attribute {
	return []attribute{
		holder("session", "session", ""),
		{
			name: "session.secret", kind: textType, outcome: Translated, setting: "session secret",
			note: "Never repeated: a placeholder stands for it. It may be left out: keys are then generated, kept in Caddy's storage and rotated. " +
				"Sessions of APISIX are not taken over, so everybody logs in once.",
			convert: ofLogins(func(c *conversion, name string) {
				c.secret(name, "session.secret", "OIDC_SESSION_SECRET", "as a placeholder; without it keys are generated and rotated")
			}),
		},
		{
			name: "session.cookie_name", kind: textType, outcome: Translated, setting: "session cookie_name",
			note:    "Without it a name of its own for each provider and client, with the prefix `__Host-` on https.",
			convert: ofLogins((*conversion).cookieName),
		},
		{
			name: "session.cookie_path", kind: textType, outcome: Translated, setting: "session cookie_path",
			note:    "With `path_prefix` below it, so that the cookie reaches the handler's own endpoints.",
			convert: ofLogins(later),
		},
		{
			name: "session.cookie_domain", kind: textType, outcome: Translated, setting: "session cookie_domain",
			note:    "Without the dot in front. A `redirect_uri` with a host must lie under it.",
			convert: ofLogins((*conversion).cookieDomain),
		},
		{
			name: "session.cookie_secure", kind: flagType, outcome: Translated, setting: "session cookie_secure",
			note: "Without it Secure wherever the site is https. `false` is not carried over.",
			convert: ofLogins(func(c *conversion, name string) {
				if c.flag(name, true) {
					c.add("session.cookie_secure", "on")
					c.translated(name, "session cookie_secure", "")
					return
				}
				c.changed(name, "session cookie_secure", "Secure where the site is https, as by default")
			}),
		},
		{
			name: "session.cookie_http_only", kind: flagType, outcome: Translated, setting: "session cookie_http_only",
			note: "On by default; `false` is not carried over: scripts have nothing to read in a sealed cookie.",
			convert: ofLogins(func(c *conversion, name string) {
				if c.flag(name, true) {
					c.translated(name, "session cookie_http_only", "the default")
					return
				}
				c.changed(name, "session cookie_http_only", "it stays on: scripts have nothing to read in a sealed cookie")
			}),
		},
		{
			name: "session.cookie_same_site", kind: textType, outcome: Translated, setting: "session cookie_same_site",
			note: "`Default` becomes `lax`, which is what browsers make of it.",
			convert: ofLogins(func(c *conversion, name string) {
				switch same := c.text(name); same {
				case "Lax":
					c.translated(name, "session cookie_same_site", "the default")
				case "Strict", "None":
					c.add("session.cookie_same_site", strings.ToLower(same))
					c.translated(name, "session cookie_same_site", "")
				case "Default":
					c.changed(name, "session cookie_same_site", "lax, which is what browsers make of it")
				default:
					c.refused(name, "neither Lax nor Strict nor None nor Default")
				}
			}),
		},
		{
			name: "session.idling_timeout", kind: wholeNumber, outcome: Translated, setting: "session idling_timeout",
			note:    "The shorter one of it and `session.rolling_timeout`; without both the 15m of APISIX are written, as here there is no such limit.",
			convert: ofLogins(later),
			absent: func(c *conversion, name string) {
				if c.browser && (!c.has("session.rolling_timeout") || c.number("session.rolling_timeout", 0) > apisixIdling) {
					c.changed(name, "session idling_timeout", "not in the plugin: APISIX ends sessions that go unused for 15 minutes, and this line keeps that")
				}
			},
		},
		{
			name: "session.rolling_timeout", kind: wholeNumber, outcome: Changed, setting: "session idling_timeout",
			note:    "A cookie is renewed while it is in use, so what is left of it is a limit for sessions that are not.",
			convert: ofLogins(later),
		},
		{
			name: "session.absolute_timeout", kind: wholeNumber, outcome: Translated, setting: "session absolute_timeout",
			note: "From 1m to 400d. The default is 24h in both.", convert: ofLogins(later),
		},
		{
			name: "session.cookie.lifetime", kind: wholeNumber, outcome: Translated, setting: "session absolute_timeout",
			note: "Unless `session.absolute_timeout` is set.", convert: ofLogins(later),
		},
		{
			name: "session.storage", kind: textType, outcome: Translated, setting: "session storage",
			note:    "`redis` takes a build with the module of that name, [docs/instances.md](instances.md#redis).",
			convert: ofLogins(later),
		},
		holder("session_contents", "session_contents", "Members that are true are kept, and nothing else. What a header needs stays in any case."),
		{name: "session_contents.access_token", kind: flagType, outcome: Translated, setting: "session_contents", convert: ofLogins(later)},
		{name: "session_contents.id_token", kind: flagType, outcome: Translated, setting: "session_contents", convert: ofLogins(later)},
		{name: "session_contents.enc_id_token", kind: flagType, outcome: Translated, setting: "session_contents", convert: ofLogins(later)},
		{
			name: "session_contents.user", kind: flagType, outcome: Translated, setting: "session_contents",
			note: "Without it the userinfo endpoint is not asked, `userinfo off`.", convert: ofLogins(later),
		},
	}
}

var (
	cookieNamePattern   = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,60}$")
	cookieChunkPattern  = regexp.MustCompile(`\.[0-9]+$`)
	cookiePrefixPattern = regexp.MustCompile(`(?i)^__(host|secure)-`)
	domainPattern       = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

func (c *conversion) cookieName(name string) {
	switch text := c.text(name); {
	case text == "":
		c.noOp(name, "it is empty")
	case !cookieNamePattern.MatchString(text), cookieChunkPattern.MatchString(text), cookiePrefixPattern.MatchString(text):
		c.refused(name, "not a name that a session can have here: up to 60 characters, no number behind a dot at its end; the prefixes __Host- and "+
			"__Secure- are given by default where browsers accept them")
	default:
		if c.write(name, "session.cookie_name", text) {
			c.translated(name, "session cookie_name", "")
		}
	}
}

func (c *conversion) cookieDomain(name string) {
	domain := strings.ToLower(strings.TrimPrefix(c.text(name), "."))
	switch {
	case domain == "":
		c.noOp(name, "it is empty")
	case len(domain) > 253 || !domainPattern.MatchString(domain):
		c.refused(name, "not a domain of at least two parts, such as example.com")
	default:
		c.add("session.cookie_domain", domain)
		c.translated(name, "session cookie_domain", "")
	}
}

// clocks settles how long sessions live.
func (c *conversion) clocks() {
	const idling, rolling, absolute, lifetime = "session.idling_timeout", "session.rolling_timeout", "session.absolute_timeout", "session.cookie.lifetime"
	const setting, unused = "session absolute_timeout", "session idling_timeout"
	longest := int64(86400)
	for _, name := range []string{absolute, lifetime} {
		switch {
		case !c.has(name):
		case name == lifetime && c.has(absolute):
			c.noOp(name, "absolute_timeout is set")
		default:
			longest = c.number(name, longest)
			if longest <= 0 {
				longest = maxSession
			}
			fitting := between(longest, 60, maxSession)
			if fitting == c.number(name, 0) {
				c.translated(name, setting, "")
			} else {
				c.changed(name, setting, "it is from 1m to 400d here")
			}
			longest = fitting
			c.add(absolute, duration(longest))
		}
	}
	idle, renewal := c.number(idling, apisixIdling), c.number(rolling, apisixRolling)
	shortest := int64(0)
	for _, n := range []int64{idle, renewal} {
		if n > 0 && (shortest == 0 || n < shortest) {
			shortest = n
		}
	}
	if c.has(rolling) {
		c.changed(rolling, unused, "cookies are renewed while they are in use; the shorter one of this and idling_timeout ends unused sessions")
	}
	switch {
	case shortest == 0:
		if c.has(idling) {
			c.translated(idling, unused, "none, as by default")
		}
	case shortest > longest:
		if c.has(idling) {
			c.noOp(idling, "longer than a session lives")
		}
	default:
		c.add(idling, duration(shortest))
		switch {
		case !c.has(idling):
		case shortest == idle:
			c.translated(idling, unused, "")
		case idle <= 0:
			c.changed(idling, unused, "0 is without limit, but rolling_timeout has one, by default or as it says")
		default:
			c.changed(idling, unused, "rolling_timeout is shorter")
		}
	}
}

// contents settles what sessions keep.
func (c *conversion) contents() {
	const name = "session_contents"
	if !c.has(name) {
		return
	}
	keeps := make(map[string]bool)
	var kept []string
	for _, part := range []string{"access_token", "id_token", "enc_id_token", "user"} {
		member := name + "." + part
		keeps[part] = c.flag(member, false)
		forced := part == "enc_id_token" && c.flag("set_raw_id_token_header", false)
		if keeps[part] || forced {
			kept = append(kept, part)
		}
		switch {
		case forced && !keeps[part] && c.has(member):
			c.changed(member, name, "kept all the same, as set_raw_id_token_header needs it")
		case c.has(member):
			c.translated(member, name, "")
		}
	}
	if !keeps["user"] {
		c.add("userinfo", "off")
	}
	if len(kept) == 0 {
		c.changed(name, name, "sessions keep what the configuration needs; a list of nothing cannot be written")
		return
	}
	c.add(name, strings.Join(kept, " "))
	for _, header := range []struct{ setting, part string }{
		{"set_access_token_header", "access_token"}, {"access_token_in_authorization_header", "access_token"}, {"set_id_token_header", "id_token"},
	} {
		if !slices.Contains(kept, header.part) && len(c.lines[header.setting]) > 0 {
			delete(c.lines, header.setting)
			if c.has(header.setting) {
				c.changed(header.setting, "", "session_contents leaves the "+header.part+" out of sessions, so there is none to pass on")
			} else {
				c.forget(header.setting)
			}
		}
	}
}
