package openidconnect

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
)

// SessionConfig says how logins are remembered: in a cookie that only this handler can read.
type SessionConfig struct {
	// The secrets that seal sessions, at least 16 bytes each: the first seals, all open, so that a new one is put in front of the old.
	// Default: generated keys in Caddy's storage, shared by all instances on it and rotated
	Secret StringList `json:"secret,omitempty"`

	// Where sessions live: "cookie", or "caddy" for Caddy's storage, with a cookie that only names them. {"module": "caddy"} says the
	// same. Default: cookie
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

// SessionStorage is the name of a place for sessions. In JSON an object with the name as its module is accepted as well.
type SessionStorage string

// UnmarshalJSON reads both forms.
func (s *SessionStorage) UnmarshalJSON(text []byte) error {
	var name string
	if text = bytes.TrimSpace(text); len(text) > 0 && text[0] == '{' {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(text, &object); err != nil {
			return err
		}
		if object["module"] == nil {
			return errors.New(`an object needs "module", the name of the storage`)
		}
		for _, member := range sortedKeys(object) {
			if member != "module" {
				return unknownMember("", member, []string{"module"})
			}
		}
		text = object["module"]
	}
	if err := json.Unmarshal(text, &name); err != nil || name == "" {
		return errors.New("expected the name of a storage")
	}
	*s = SessionStorage(name)
	return nil
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
