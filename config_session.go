package openidconnect

import (
	"bytes"
	"encoding/json"
	"strings"
)

// SessionConfig says how logins are remembered: in a cookie that only this handler can read, or in a storage.
type SessionConfig struct {
	// The secrets that seal sessions, at least 16 bytes each: the first seals, all open, so that a new one is put in front of the old.
	// Default: generated keys in Caddy's storage, shared by all instances on it and rotated
	Secret StringList `json:"secret,omitempty"`

	// Where sessions live: "cookie"; "caddy" for Caddy's storage; or the name of a module of http.openid_connect.session_stores, with
	// its settings as an object: {"module": "redis", ...}. All but the first leave a cookie that only names the session. Default: cookie
	Storage SessionStorage `json:"storage,omitempty"`

	// The name of the cookie. Default: oidc- and six digits made of issuer and client_id, with the prefix __Host- or __Secure- where
	// browsers accept it
	CookieName string `json:"cookie_name,omitempty"`

	// The domain whose hosts all share the session. Default: none, the host alone
	CookieDomain string `json:"cookie_domain,omitempty"`

	// The path that the cookie is sent below. Default: /
	CookiePath string `json:"cookie_path,omitempty"`

	// Whether other sites' requests carry the cookie: "lax" for navigation, "strict" never, "none" always. Default: lax
	CookieSameSite SameSite `json:"cookie_same_site,omitempty"`

	// Whether the cookie is sent over https alone: "on", "off", or "auto" where the public scheme is https. Default: auto
	CookieSecure CookieSecure `json:"cookie_secure,omitempty"`

	// Hide the cookie from scripts. Default: true
	CookieHTTPOnly *bool `json:"cookie_http_only,omitempty"`

	// Keep a cookie for each site that embeds this one (CHIPS). Default: false
	CookiePartitioned bool `json:"cookie_partitioned,omitempty"`

	// Let the cookie outlive the browser. Default: true
	CookiePersistent *bool `json:"cookie_persistent,omitempty"`

	// How long a session may go unused; 0 is without limit. Default: 0
	IdlingTimeout *Duration `json:"idling_timeout,omitempty"`

	// How often the cookie of a session in use is written again; at least every half of idling_timeout. Default: 5m
	ReissueInterval *Duration `json:"reissue_interval,omitempty"`

	// How long a session lives at most, from 1m to 400d. Default: 24h
	AbsoluteTimeout *Duration `json:"absolute_timeout,omitempty"`

	// The size of the cookie at most, over all the parts it is split into. A login that would exceed it fails with the name of the
	// biggest claim. Caddy refuses requests with more than 16 KiB of headers by default. Default: 12000
	MaxCookieBytes *int `json:"max_cookie_bytes,omitempty"`
}

// SessionContents are what a session keeps: exactly those that are true.
type SessionContents struct {
	// The access token.
	AccessToken bool `json:"access_token,omitempty"`

	// The claims of the ID token.
	IDToken bool `json:"id_token,omitempty"`

	// The ID token as the provider signed it.
	EncIDToken bool `json:"enc_id_token,omitempty"`

	// The answer of the userinfo endpoint.
	User bool `json:"user,omitempty"`
}

// SameSite is a value of the SameSite attribute, in lower case. In JSON any case is accepted.
type SameSite string

// UnmarshalJSON reads it.
func (s *SameSite) UnmarshalJSON(text []byte) error {
	if err := json.Unmarshal(text, (*string)(s)); err != nil {
		return err
	}
	*s = SameSite(strings.ToLower(string(*s)))
	return nil
}

// CookieSecure says when cookies are for https alone. In JSON true and false are accepted for on and off.
type CookieSecure string

// UnmarshalJSON reads both forms.
func (c *CookieSecure) UnmarshalJSON(text []byte) error {
	switch string(bytes.TrimSpace(text)) {
	case "true":
		*c = cookieSecureOn
		return nil
	case "false":
		*c = cookieSecureOff
		return nil
	}
	return json.Unmarshal(text, (*string)(c))
}
