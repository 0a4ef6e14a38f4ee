package main

import (
	"fmt"
	"strings"
)

// mainSite is the site that the demo shows: pages for people who log in, and an API for services. It has its port from address.
func (s *stack) mainSite(address string) string {
	return strings.NewReplacer(
		"ADDRESS", address,
		"ISSUER", s.issuer,
		"SECRET", s.secret,
		"APPLICATION", webApplication,
		"AUDIENCE", apiAudience,
		"SCOPE", ordersScope,
		"UPSTREAM", s.upstreamAddress,
	).Replace(`# How people log in: the same wherever this is imported, so that one login is enough for all of the site.
(login) {
	client_id APPLICATION
	client_secret SECRET
	scope openid profile email groups offline_access
	username_claim preferred_username
	set_access_token_header
	claim_header X-User-Email email
	claim_header X-User-Groups groups
}

http://ADDRESS {
	bind 127.0.0.1

	# Whoever has an account may enter, and the start page is open to everyone.
	openid_connect ISSUER {
		import login
		unauth_action pass /
	}

	# For one group only.
	openid_connect /admin* ISSUER {
		import login
		required_claim groups admins
	}

	# Services bring an access token. They get no login.
	openid_connect /orders* ISSUER {
		bearer_only
		audience AUDIENCE
		required_scopes SCOPE
		claim_header X-Client-Id client_id
	}

	reverse_proxy UPSTREAM
}
`)
}

// opaqueSite takes opaque tokens as well: it asks the provider about them, as the client named here.
func (s *stack) opaqueSite(address string) string {
	return fmt.Sprintf(`http://%s {
	bind 127.0.0.1
	openid_connect %s {
		client_id %s
		client_secret %s
		bearer_only
		audience %s
		required_scopes %s
		claim_header X-Client-Id client_id
	}
	reverse_proxy %s
}
`, address, s.issuer, apiClient, s.secret, apiAudience, ordersScope, s.upstreamAddress)
}
