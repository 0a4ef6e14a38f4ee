package apisix

func logoutTable() []attribute {
	return []attribute{
		{
			name: "logout_path", kind: textType, outcome: Translated, setting: "logout_path",
			note: "The default of APISIX, `/logout`, is written where the plugin has none. A GET that is no page navigation, or comes from another " +
				"site, shows a page with a button instead of ending the session.",
			convert: ofLogins(later),
		},
		{
			name: "post_logout_redirect_uri", kind: textType, outcome: Translated, setting: "post_logout_redirect_uri",
			note: "Without it a page of the handler. It must be registered at the provider.", convert: ofLogins(later),
		},
		{
			name: "revoke_tokens_on_logout", kind: flagType, outcome: Translated, setting: "revoke_tokens_on_logout",
			note: "The session ends here even if the provider cannot be reached.", convert: ofLogins(switched("revoke_tokens_on_logout", false)),
		},
	}
}
