package apisix

func refreshTable() []attribute {
	return []attribute{
		{
			name: "renew_access_token_on_expiry", kind: flagType, outcome: Translated, setting: "renew_access_token_on_expiry",
			note: "A refresh token is sent once, however many requests wait for it. Without one, and where no access token is passed on, a session " +
				"outlives its access token, where APISIX has people log in again.",
			convert: ofLogins(switched("renew_access_token_on_expiry", true)),
		},
		{
			name: "access_token_expires_in", kind: wholeNumber, outcome: Translated, setting: "access_token_expires_in",
			note:    "From 1s to 365d. Without it the 1h of APISIX is written, for providers that do not say how long tokens live.",
			convert: ofLogins(spanned("access_token_expires_in", 1, 365*86400)),
			absent: func(c *conversion, name string) {
				if c.browser {
					c.add(name, duration(apisixTokenLifetime))
					c.changed(name, name, "not in the plugin: APISIX assumes an hour where the provider does not say, and this line keeps that")
				}
			},
		},
		{
			name: "access_token_expires_leeway", kind: wholeNumber, outcome: Translated, setting: "access_token_expires_leeway",
			note: "At most 1h. Without it 30s instead of none.", convert: ofLogins(spanned("access_token_expires_leeway", 0, 3600)),
		},
		{
			name: "refresh_session_interval", kind: wholeNumber, outcome: Changed, setting: "refresh_session_interval", guards: true,
			note:    "The claims are renewed by the refresh token, and not by another login with `prompt=none`.",
			convert: ofLogins(later),
		},
	}
}

// interval settles how old the claims of a session get.
func (c *conversion) interval() {
	const name = "refresh_session_interval"
	if !c.has(name) {
		return
	}
	longest := int64(86400)
	for _, lifetime := range []string{"session.absolute_timeout", "session.cookie.lifetime"} {
		if c.has(lifetime) {
			if longest = c.number(lifetime, longest); longest <= 0 {
				longest = maxSession
			}
			longest = between(longest, 60, maxSession)
			break
		}
	}
	switch n := c.number(name, 0); {
	case n <= 0:
		c.noOp(name, "0, as here")
	case !c.flag("renew_access_token_on_expiry", true):
		c.refused(name, "claims are renewed by the refresh token, which renew_access_token_on_expiry forbids")
	case n > longest:
		c.noOp(name, "longer than a session lives")
	default:
		c.add(name, duration(n))
		c.changed(name, name, "claims are renewed by the refresh token, not by a login with prompt=none; without a refresh token they stay")
	}
}

// outlive tells where a session without a refresh token goes on when its access token has expired.
func (c *conversion) outlive() {
	const name = "renew_access_token_on_expiry"
	stored := !c.has("session_contents") || c.flag("session_contents.access_token", false) || len(c.texts("required_scopes")) > 0
	passed := len(c.lines["set_access_token_header"])+len(c.lines["access_token_in_authorization_header"]) > 0
	if !c.flag(name, true) || !stored || passed {
		return
	}
	note := "a session without a refresh token goes on when its access token has expired, as that is not passed on; APISIX has people log in " +
		"again then. Session absolute_timeout limits it"
	if !c.has(name) {
		note = "not in the plugin: " + note
	}
	c.changed(name, name, note)
}
