package openidconnect

import (
	"net/url"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
)

// announce logs the redirect URI of each host, to be registered with the provider.
func (h *Handler) announce(ctx caddy.Context, rt *runtime) {
	if rt.login == nil {
		return
	}
	load := ctx.GetMetricsRegistry()
	sites := rt.login.announced.originsOf(ctx, load, h)
	for _, site := range sites {
		if !site.reached && rt.login.redirectURI == "" {
			rt.logger.Warn("no login can end here: the route around openid_connect does not lead to its callback",
				zap.String("got", rt.login.redirectPath), zap.String("origin", site.origin),
				zap.String("hint", "put path_prefix under the path of the block around the directive, or the directive at site level"))
		}
	}
	h.warnOfHTTP(rt, sites)
	uris := []string{rt.login.redirectURI}
	if rt.login.redirectURI == "" {
		uris = nil
		for _, site := range sites {
			if site.reached {
				uris = append(uris, site.origin+rt.login.redirectPath)
			}
		}
	}
	for _, uri := range uris {
		if rt.login.announced.first(load, h.ClientID+" "+uri) {
			rt.logger.Info("register this redirect URI with the provider", append(rt.login.logoutURIs(uri), zap.String("redirect_uri", uri),
				zap.String("client_id", h.ClientID), zap.String("issuer", rt.issuerName))...)
		}
	}
}

// logoutURIs are what can be registered beside a redirect URI.
func (l *login) logoutURIs(redirectURI string) []zap.Field {
	u, err := url.Parse(redirectURI)
	if err != nil {
		return nil
	}
	origin := u.Scheme + "://" + u.Host
	fields := []zap.Field{zap.String("post_logout_redirect_uri", l.postLogoutRedirectURI(origin))}
	if l.backchannel {
		fields = append(fields, zap.String("backchannel_logout_uri", origin+l.prefix+endpointBackchannelLogout))
	}
	if l.frontchannel {
		fields = append(fields, zap.String("frontchannel_logout_uri", origin+l.prefix+endpointFrontchannelLogout))
	}
	return fields
}

// warnOfHTTP tells when cookies are set up in a way that browsers take over https alone, and a site seems to be on plain http. Behind a
// proxy that ends TLS it is not, so this is no error.
func (h *Handler) warnOfHTTP(rt *runtime, sites []siteOrigin) {
	setting := ""
	switch s := h.Session; {
	case h.ResponseMode == responseModeFormPost:
		setting = "response_mode form_post"
	case s == nil || s.CookieSecure == cookieSecureOn:
	case s.CookieSameSite == sameSiteNone:
		setting = "session.cookie_same_site none"
	case s.CookiePartitioned:
		setting = "session.cookie_partitioned"
	}
	for _, site := range sites {
		if setting != "" && strings.HasPrefix(site.origin, "http://") {
			rt.logger.Warn("browsers drop the cookies of this site unless a trusted proxy in front of it says https", zap.String("setting", setting),
				zap.String("origin", site.origin), zap.String("hint", "serve the site by https, or set trusted_proxies"))
		}
	}
}

// announcements keeps handlers that share a redirect URI from telling it one after the other.
type announcements struct {
	mu      sync.Mutex
	told    map[string]any            // in which configuration load
	load    any                       // that origins are of
	origins map[*Handler][]siteOrigin // of all handlers
}

// originsOf finds where a handler stands, in one walk for all handlers of a load.
func (a *announcements) originsOf(ctx caddy.Context, load any, h *Handler) []siteOrigin {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.load != load {
		a.load, a.origins = load, originsOfHandlers(ctx)
	}
	return a.origins[h]
}

func newAnnouncements() *announcements { return &announcements{told: make(map[string]any)} }

// first reports whether the URI has not been told in this load.
func (a *announcements) first(load any, uri string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.told[uri] == load {
		return false
	}
	a.told[uri] = load
	return true
}
