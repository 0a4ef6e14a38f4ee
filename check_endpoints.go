package openidconnect

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// otherEndpoints are those below path_prefix that cannot be the callback as well, whether they are switched on or not.
var otherEndpoints = []string{
	endpointLogin, endpointLogout, endpointLoggedOut, endpointSession, endpointJWKS, endpointBackchannelLogout, endpointFrontchannelLogout,
}

// isPlainPath reports whether a path can be one of our endpoints: everybody reads it alike, byte for byte.
func isPlainPath(path string) bool {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "?#;") {
		return false
	}
	u, err := url.ParseRequestURI(path)
	return err == nil && u.EscapedPath() == path && !strings.Contains(u.Path, "//") && !ambiguousPath(u) && !layeredPath(u)
}

// checkEndpoints judges where our own endpoints are, and whether the cookies get there.
func (h *Handler) checkEndpoints() error {
	if prefix := h.PathPrefix; prefix != "" && !h.unresolved(prefix) && (!isPlainPath(prefix) || strings.HasSuffix(prefix, "/")) {
		return fieldError("path_prefix", "%q is not a plain path such as /oauth2, without a slash at its end", prefix)
	}
	if h.unresolved(h.RedirectURI) || h.unresolved(h.PathPrefix) {
		return nil
	}
	host := ""
	if h.RedirectURI != "" && !strings.HasPrefix(h.RedirectURI, "/") {
		if err := provider.CheckURL(h.RedirectURI); err != nil {
			return fieldError("redirect_uri", "neither a path nor a usable URL: %v", err)
		}
		u, err := url.Parse(h.RedirectURI)
		if err != nil || strings.Contains(h.RedirectURI, "?") {
			return fieldError("redirect_uri", "%q must not have a query", h.RedirectURI)
		}
		host = strings.ToLower(u.Hostname())
	}
	path := h.callbackPath()
	if strings.HasPrefix(h.RedirectURI, "/") {
		path = h.RedirectURI // as it is: two slashes at its beginning would be a host
	}
	if !isPlainPath(path) || path == "/" {
		return fieldError("redirect_uri", "%q does not have a plain path such as /oauth2/callback", h.RedirectURI)
	}
	prefix := or(h.PathPrefix, defaultPathPrefix)
	for _, endpoint := range otherEndpoints {
		if path == prefix+endpoint {
			return fieldError("redirect_uri", "%s is another endpoint of this handler", path)
		}
	}
	if h.BearerOnly || h.Session == nil {
		return nil
	}
	if domain := h.Session.CookieDomain; domain != "" && host != "" && !h.unresolved(domain) && !underDomain(host, domain) {
		return fieldError("redirect_uri", "%s is not under the session's cookie_domain %s, so the cookies would not reach it", host, domain)
	}
	if cookiePath := h.Session.CookiePath; cookiePath != "" && isPlainPath(cookiePath) {
		for _, endpoint := range []struct{ field, path string }{{"path_prefix", prefix + "/"}, {"redirect_uri", path}} {
			if !cookieReaches(cookiePath, endpoint.path) {
				return fieldError("session.cookie_path", "the cookie would not reach %s: set a %s below %s", endpoint.path, endpoint.field,
					cookiePath)
			}
		}
	}
	return nil
}

// cookieReaches reports whether a cookie of that path is sent to a path (RFC 6265 section 5.1.4).
func cookieReaches(cookiePath, path string) bool {
	return path == cookiePath || strings.HasPrefix(path, strings.TrimSuffix(cookiePath, "/")+"/")
}

// domainName does not match what browsers take for an IPv4 address, whose last part is a number.
var domainName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// checkDomain judges a domain that shares cookies with all hosts under it.
func checkDomain(field, domain string) error {
	switch {
	case strings.HasPrefix(domain, "."):
		return fieldError(field, "leave out the dot in front: %s and all hosts under it are meant anyway", strings.TrimLeft(domain, "."))
	case !domainName.MatchString(domain), len(domain) > 253:
		return fieldError(field, "%q is not a domain of at least two parts, such as example.com, in lower case", domain)
	}
	return nil
}
