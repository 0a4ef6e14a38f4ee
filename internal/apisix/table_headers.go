package apisix

func headerTable() []attribute {
	const notInPlugin = "not in the plugin: APISIX passes it on by default, and this line keeps that"
	return []attribute{
		{
			name: "set_userinfo_header", kind: flagType, outcome: Changed, setting: "set_userinfo_header",
			note: "`X-Userinfo` holds the claims of the ID token and those of userinfo together, where APISIX passes userinfo alone.",
			convert: func(c *conversion, name string) {
				if !c.flag(name, true) {
					c.add(name, "off")
					c.translated(name, name, "")
					return
				}
				c.userinfo()
				if c.browser {
					c.changed(name, name, "the default; X-Userinfo holds the claims of the ID token besides those of userinfo")
					return
				}
				c.translated(name, name, "the default")
			},
			absent: func(c *conversion, _ string) { c.userinfo() },
		},
		{
			name: "set_access_token_header", kind: flagType, outcome: Translated, setting: "set_access_token_header",
			note:    "On in APISIX and off here, so it is written unless the plugin says `false`.",
			convert: (*conversion).accessToken,
			absent: func(c *conversion, name string) {
				if !c.flag("access_token_in_authorization_header", false) {
					c.add(name)
					c.changed(name, name, notInPlugin)
				}
			},
		},
		{
			name: "access_token_in_authorization_header", kind: flagType, outcome: Translated, setting: "access_token_in_authorization_header",
			convert: func(c *conversion, name string) {
				switch {
				case !c.flag(name, false):
					c.noOp(name, "off, as here")
				case !c.flag("set_access_token_header", true):
					c.noOp(name, "set_access_token_header is off")
				default:
					c.add(name)
					c.translated(name, name, "")
				}
			},
		},
		{
			name: "set_id_token_header", kind: flagType, outcome: Translated, setting: "set_id_token_header",
			note: "On in APISIX and off here, so it is written unless the plugin says `false`. Sessions alone have an ID token.",
			convert: ofLogins(func(c *conversion, name string) {
				if !c.flag(name, true) {
					c.noOp(name, "off, as here")
					return
				}
				c.add(name)
				c.translated(name, name, "")
			}),
			absent: func(c *conversion, name string) {
				if c.browser {
					c.add(name)
					c.changed(name, name, notInPlugin)
				}
			},
		},
		{
			name: "set_raw_id_token_header", kind: flagType, outcome: Translated, setting: "set_raw_id_token_header",
			convert: ofLogins(switched("set_raw_id_token_header", false)),
		},
		{
			name: "set_refresh_token_header", kind: flagType, outcome: Translated, setting: "set_refresh_token_header",
			note:    "An upstream that uses the token ends the session where refresh tokens are good for one use.",
			convert: ofLogins(switched("set_refresh_token_header", false)),
		},
	}
}

// userinfo has logins ask the userinfo endpoint, as those of APISIX do, so that the upstream does not miss what only that endpoint says.
func (c *conversion) userinfo() {
	if c.browser && !c.has("session_contents") && c.flag("set_userinfo_header", true) || c.browser && c.flag("session_contents.user", false) {
		c.lines["userinfo"] = []string{"on"}
		c.remarks["userinfo"] = "APISIX asks the userinfo endpoint at every login. Without this line only when a claim is missing."
	}
}

func (c *conversion) accessToken(name string) {
	switch {
	case !c.flag(name, true):
		c.noOp(name, "off, as here")
	case c.flag("access_token_in_authorization_header", false):
		c.translated(name, "access_token_in_authorization_header", "")
	default:
		c.add(name)
		c.translated(name, name, "")
	}
}
