package openidconnect

import (
	"slices"
	"strings"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// logoutEndpoint is where the session ends.
func (h *Handler) logoutEndpoint() string {
	return or(h.LogoutPath, or(h.PathPrefix, defaultPathPrefix)+endpointLogout)
}

// checkLogout judges where logouts begin and end.
func (h *Handler) checkLogout() error {
	if h.unresolved(h.LogoutPath) || h.unresolved(h.PathPrefix) || h.unresolved(h.RedirectURI) {
		return nil
	}
	path, prefix := h.logoutEndpoint(), or(h.PathPrefix, defaultPathPrefix)
	if h.LogoutPath != "" {
		if !isPlainPath(path) || path == "/" {
			return fieldError("logout_path", "%q is not a plain path such as /logout", path)
		}
		for _, endpoint := range otherEndpoints {
			if path == prefix+endpoint && endpoint != endpointLogout || path == h.callbackPath() {
				return fieldError("logout_path", "%s is another endpoint of this handler", path)
			}
		}
	}
	if h.Session != nil && !h.BearerOnly && !h.unresolved(h.Session.CookiePath) {
		if cookiePath := h.Session.CookiePath; isPlainPath(cookiePath) && !cookieReaches(cookiePath, path) {
			return fieldError("session.cookie_path", "the cookie would not reach %s: set a logout_path below %s", path, cookiePath)
		}
	}
	return h.checkLanding(path)
}

// checkLanding judges where browsers are sent after a logout.
func (h *Handler) checkLanding(logout string) error {
	const field = "post_logout_redirect_uri"
	landing := h.PostLogoutRedirectURI
	if landing == "" || h.unresolved(landing) {
		return nil
	}
	path := pathOf(landing)
	switch {
	case !strings.HasPrefix(landing, "/"):
		if err := provider.CheckURL(landing); err != nil {
			return fieldError(field, "neither a path nor a usable URL: %v", err)
		}
		return nil
	case path != "/" && !isPlainPath(path), strings.ContainsAny(landing, "#\\ "):
		return fieldError(field, "%q is not a plain path such as /goodbye", landing)
	}
	prefix := or(h.PathPrefix, defaultPathPrefix)
	starting := []string{
		h.callbackPath(), logout, prefix + endpointLogin, prefix + endpointBackchannelLogout, prefix + endpointFrontchannelLogout,
	}
	if slices.Contains(starting, path) {
		return fieldError(field, "%s is an endpoint of this handler that a logout cannot end at", path)
	}
	return nil
}

// handlesBackchannel reports whether the provider may end sessions by itself.
func (h *Handler) handlesBackchannel() bool {
	return h.BackchannelLogout == nil || *h.BackchannelLogout
}

// revocationAuthMethod is how the client authenticates for the revocation of tokens.
func (h *Handler) revocationAuthMethod() string {
	return or(h.RevocationEndpointAuthMethod, h.tokenAuthMethod())
}
