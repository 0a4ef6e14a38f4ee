package apisix

func refreshTable() []attribute {
	return []attribute{
		{
			name: "renew_access_token_on_expiry", kind: flagType, outcome: Translated, setting: "renew_access_token_on_expiry",
			note:    "A refresh token is sent once, however many requests wait for it.",
			convert: ofLogins(switched("renew_access_token_on_expiry", true)),
		},
		{
			name: "access_token_expires_in", kind: wholeNumber, outcome: Translated, setting: "access_token_expires_in",
			note: "From 1s to 365d. Without it the `exp` of a JWT counts, where APISIX assumes 1h.", convert: ofLogins(spanned("access_token_expires_in", 1, 365*86400)),
		},
		{
			name: "access_token_expires_leeway", kind: wholeNumber, outcome: Translated, setting: "access_token_expires_leeway",
			note: "At most 1h. Without it 30s instead of none.", convert: ofLogins(spanned("access_token_expires_leeway", 0, 3600)),
		},
		{
			name: "refresh_session_interval", kind: wholeNumber, outcome: Changed, setting: "refresh_session_interval",
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
