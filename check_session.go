package openidconnect

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

// The values of the SameSite attribute.
const (
	sameSiteLax    = "lax"
	sameSiteStrict = "strict"
	sameSiteNone   = "none"
)

// Whether cookies are sent over https alone.
const (
	cookieSecureAuto = "auto"
	cookieSecureOn   = "on"
	cookieSecureOff  = "off"
)

const (
	maxCookieName          = 60
	minCookieBytes         = 200
	maxCookieBytes         = 15_000 // Caddy refuses request headers over 16 KiB
	minSessionLifetime     = time.Minute
	maxSessionLifetime     = 400 * 24 * time.Hour // browsers keep no cookie for longer
	defaultAbsoluteTimeout = 24 * time.Hour
)

// chunkName is what the parts of a session are named like that is split over several cookies.
var chunkName = regexp.MustCompile(`\.[0-9]+$`)

func (h *Handler) checkSession() error {
	s := h.Session
	if s == nil {
		return h.checkCookieTransport(new(SessionConfig))
	}
	if s.Secret != nil && len(s.Secret) == 0 {
		return fieldError("session.secret", "the list is empty; leave it out or name a value")
	}
	for _, secret := range s.Secret {
		if !h.unresolved(secret) && len(secret) < session.MinSecret {
			return fieldError("session.secret", "too short: at least %d bytes, better %d random ones", session.MinSecret, session.FullSecret)
		}
	}
	for _, choice := range []struct {
		field, value string
		valid        []string
	}{
		{"session.cookie_same_site", string(s.CookieSameSite), sameSites},
		{"session.cookie_secure", string(s.CookieSecure), cookieSecures},
	} {
		if err := h.oneOf(choice.field, choice.value, choice.valid); err != nil {
			return err
		}
	}
	if err := h.checkStorage(s.Storage); err != nil {
		return err
	}
	if s.CookieDomain != "" && !h.unresolved(s.CookieDomain) {
		if err := checkDomain("session.cookie_domain", s.CookieDomain); err != nil {
			return err
		}
	}
	if s.CookiePath != "" && !h.unresolved(s.CookiePath) && !isPlainPath(s.CookiePath) {
		return fieldError("session.cookie_path", "%q is not a plain path", s.CookiePath)
	}
	if n := s.MaxCookieBytes; n != nil && (*n < minCookieBytes || *n > maxCookieBytes) {
		return fieldError("session.max_cookie_bytes", "%d is not between %d and %d", *n, minCookieBytes, maxCookieBytes)
	}
	for _, check := range []func(*SessionConfig) error{h.checkCookieName, h.checkClocks, h.checkCookieTransport} {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

// checkCookieName judges an explicit name. Browsers drop a cookie that does not have what the prefix of its name promises, whatever the
// case of its letters.
func (h *Handler) checkCookieName(s *SessionConfig) error {
	const field = "session.cookie_name"
	if s.CookieName == "" || h.unresolved(s.CookieName) {
		return nil
	}
	lower := strings.ToLower(s.CookieName)
	host, secure := strings.HasPrefix(lower, "__host-"), strings.HasPrefix(lower, "__secure-")
	switch {
	case !httpguts.ValidHeaderFieldName(s.CookieName):
		return fieldError(field, "%q cannot be the name of a cookie", s.CookieName)
	case len(s.CookieName) > maxCookieName:
		return fieldError(field, "has more than %d characters", maxCookieName)
	case chunkName.MatchString(s.CookieName):
		return fieldError(field, "%q ends like the names of the parts that a long session is split into", s.CookieName)
	case lower == "__host-" || lower == "__secure-":
		return fieldError(field, "%q is nothing but a prefix", s.CookieName)
	case host && s.CookieDomain != "":
		return fieldError(field, "browsers refuse the prefix __Host- together with cookie_domain")
	case host && s.CookiePath != "" && s.CookiePath != "/":
		return fieldError(field, "browsers refuse the prefix __Host- together with a cookie_path other than /")
	}
	if cause := h.insecureCookies(s); cause != "" && (host || secure) && !h.BearerOnly {
		return fieldError(field, "browsers refuse the prefix of %s together with %s", s.CookieName, cause)
	}
	return nil
}

func (h *Handler) checkClocks(s *SessionConfig) error {
	absolute := s.AbsoluteTimeout.or(defaultAbsoluteTimeout)
	if absolute < minSessionLifetime || absolute > maxSessionLifetime {
		return fieldError("session.absolute_timeout", "%s is not between 1m and 400d", absolute)
	}
	if idle := s.IdlingTimeout.or(0); idle != 0 && (idle < time.Second || idle > absolute) {
		return fieldError("session.idling_timeout", "%s is neither 0 nor between 1s and the absolute_timeout of %s", idle, absolute)
	}
	if reissue := s.ReissueInterval.or(time.Second); reissue < time.Second || reissue > absolute {
		return fieldError("session.reissue_interval", "%s is not between 1s and the absolute_timeout of %s", reissue, absolute)
	}
	return nil
}

// insecureCookies is why cookies will not be Secure, "" when they may be.
func (h *Handler) insecureCookies(s *SessionConfig) string {
	switch {
	case s.CookieSecure == cookieSecureOff:
		return "cookie_secure off"
	case s.CookieSecure != cookieSecureOn && h.redirectsToHTTP():
		return "a redirect_uri of plain http"
	default:
		return ""
	}
}

func (h *Handler) redirectsToHTTP() bool {
	return strings.HasPrefix(strings.ToLower(h.RedirectURI), "http://")
}

// checkCookieTransport refuses cookies that are dropped by browsers, because they go to and from other sites without being Secure.
func (h *Handler) checkCookieTransport(s *SessionConfig) error {
	cause := h.insecureCookies(s)
	const refused = "browsers take such cookies only with Secure, which %s rules out"
	switch {
	case h.BearerOnly:
		return nil
	case cause != "" && s.CookieSameSite == sameSiteNone:
		return fieldError("session.cookie_same_site", "none: "+refused, cause)
	case cause != "" && s.CookiePartitioned:
		return fieldError("session.cookie_partitioned", refused, cause)
	case h.ResponseMode == responseModeFormPost && (cause != "" || h.redirectsToHTTP()):
		return fieldError("response_mode", "form_post takes cookies that other sites send: "+refused, or(cause, "a redirect_uri of plain http"))
	}
	return nil
}

// checkSessionContents makes sure that sessions keep what they are asked for.
func (h *Handler) checkSessionContents() error {
	contents := h.SessionContents
	if contents == nil || h.BearerOnly {
		return nil
	}
	claims := contents.IDToken || contents.User
	for _, need := range []struct {
		setting string
		set     bool
		kept    bool
		member  string
	}{
		{"set_access_token_header", isOn(h.SetAccessTokenHeader), contents.AccessToken, "access_token"},
		{
			"access_token_in_authorization_header", h.SetAccessTokenHeader == nil && h.AccessTokenInAuthorizationHeader,
			contents.AccessToken, "access_token",
		},
		{"set_id_token_header", isOn(h.SetIDTokenHeader), contents.IDToken, "id_token"},
		{"set_raw_id_token_header", isOn(h.SetRawIDTokenHeader), contents.EncIDToken, "enc_id_token"},
		{"set_userinfo_header", isOn(h.SetUserinfoHeader), claims, "user or id_token"},
		{"username_claim", h.UsernameClaim != "" && h.UsernameClaim != defaultUsernameClaim, claims, "user or id_token"},
		{"required_claims", len(h.RequiredClaims) > 0, claims, "user or id_token"},
		{"denied_claims", len(h.DeniedClaims) > 0, claims, "user or id_token"},
		{"claim_headers", len(h.ClaimHeaders) > 0, claims, "user or id_token"},
		{"claim_placeholders", len(h.ClaimPlaceholders) > 0, claims, "user or id_token"},
	} {
		if need.set && !need.kept {
			return fieldError("session_contents", "contradicts %s, which needs %s", need.setting, need.member)
		}
	}
	return nil
}

func isOn(flag *bool) bool { return flag != nil && *flag }

// sessionWarnings are about logins and sessions.
func (h *Handler) sessionWarnings() []string {
	var warnings []string
	pkce, nonce := h.UsePKCE == nil || *h.UsePKCE, h.UseNonce == nil || *h.UseNonce
	switch {
	case !pkce && h.tokenAuthMethod() == provider.None:
		warnings = append(warnings, "use_pkce off without client authentication: whoever gets hold of a code can use it")
	case !pkce && !nonce:
		warnings = append(warnings, "use_pkce off and use_nonce off: a stolen code can be slipped into somebody's login")
	}
	if isOn(h.SetRefreshTokenHeader) && h.renews() {
		warnings = append(warnings, "set_refresh_token_header beside renew_access_token_on_expiry: where refresh tokens are good for one use, "+
			"an upstream that uses one ends the session")
	}
	s := h.Session
	if s == nil {
		return warnings
	}
	if slices.ContainsFunc(s.Secret, func(secret string) bool { return len(secret) < session.FullSecret }) {
		warnings = append(warnings, fmt.Sprintf("session.secret: under %d bytes, which makes guessing easier", session.FullSecret))
	}
	if s.CookieSecure == cookieSecureOff {
		warnings = append(warnings, "session.cookie_secure off: whoever is on the way to a browser can take over its session")
	}
	if s.CookieHTTPOnly != nil && !*s.CookieHTTPOnly {
		warnings = append(warnings, "session.cookie_http_only off: scripts can read the session's cookie")
	}
	return warnings
}
