package openidconnect

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// originalURL is the URL of the request before any rewrite, as the client sent it.
func originalURL(r *http.Request) *url.URL {
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil {
		return original.URL
	}
	return r.URL
}

// originalPath is the path of that URL, byte for byte but for what browsers escape in paths, or would read as something else in a Location
// header.
func originalPath(r *http.Request) string {
	original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	path, _, _ := strings.Cut(original.RequestURI, "?")
	if !ok || !strings.HasPrefix(path, "/") {
		return originalURL(r).EscapedPath()
	}
	return escape(path, "#\\\"<>`{}")
}

// publicOrigin is the scheme and host by which the client reached us, "" when the host is not one.
func publicOrigin(r *http.Request) string {
	secure, host := publicSchemeHost(r)
	switch {
	case !isHost(host):
		return ""
	case secure:
		return "https://" + canonicalHost(host, ":443")
	default:
		return "http://" + canonicalHost(host, ":80")
	}
}

// canonicalHost is a host as browsers write it in origins, and people where they register redirect URIs: in lower case and without the port that
// the scheme has anyway.
func canonicalHost(host, port string) string {
	return strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(host, ":"), port))
}

// originOf is the origin of a URL as publicOrigin writes it.
func originOf(u *url.URL) string {
	switch scheme := strings.ToLower(u.Scheme); scheme {
	case "https":
		return "https://" + canonicalHost(u.Host, ":443")
	case "http":
		return "http://" + canonicalHost(u.Host, ":80")
	default:
		return scheme + "://" + u.Host
	}
}

// publicSchemeHost tells whether the client came by https, and to which host, which has not been looked at. What proxies say of it counts
// only from those that Caddy trusts, and of several the last word, as Caddy's own proxy has it.
func publicSchemeHost(r *http.Request) (secure bool, host string) {
	secure, host = r.TLS != nil, r.Host
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
		if proto := lastValue(r.Header, "X-Forwarded-Proto"); proto == "http" || proto == "https" {
			secure = proto == "https"
		}
		if forwarded := lastValue(r.Header, "X-Forwarded-Host"); forwarded != "" {
			host = forwarded
		}
	}
	return secure, host
}

// lastValue is the last element of a header that is a list.
func lastValue(header http.Header, name string) string {
	values := header.Values(name)
	if len(values) == 0 {
		return ""
	}
	last := values[len(values)-1]
	return strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
}

// isHost reports whether text is a host name or address with an optional port and nothing else.
func isHost(text string) bool {
	u, err := url.Parse("http://" + text)
	return err == nil && text != "" && u.Host == text && u.Hostname() != "" &&
		!strings.ContainsFunc(text, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-_:[]", r)
		})
}

// publicHost is the host of an origin without its port, in lower case: what browsers keep cookies by.
func publicHost(origin string) string {
	_, host, _ := strings.Cut(origin, "://")
	host, _, _ = strings.Cut(host, "/")
	return hostWithoutPort(host)
}

func hostWithoutPort(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.IndexByte(host[i:], ']') < 0 {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
}

// navigation is how a browser asks for a page.
type navigation int

const (
	notNavigation    navigation = iota // a script, an image, a WebSocket, a program, a guess ahead of the user
	topNavigation                      // a page in a window or tab of its own
	framedNavigation                   // a page in somebody's frame
)

// navigationOf tells what kind of navigation a request is (Fetch Metadata; without it, by what the client accepts), whatever its
// method of those that a browser loads pages with.
func navigationOf(r *http.Request) navigation {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		return notNavigation
	}
	if len(r.Header["Upgrade"]) > 0 || isPrefetch(r) {
		return notNavigation
	}
	mode, dest := r.Header.Get("Sec-Fetch-Mode"), r.Header.Get("Sec-Fetch-Dest")
	if mode != "" || dest != "" || r.Header.Get("Sec-Fetch-Site") != "" {
		switch {
		case mode != "navigate":
			return notNavigation
		case dest == "document" || dest == "":
			return topNavigation
		case dest == "iframe" || dest == "frame":
			return framedNavigation
		default: // embed, object
			return notNavigation
		}
	}
	if accepts(r, "text/html") && r.Header.Get("X-Requested-With") != "XMLHttpRequest" {
		return topNavigation
	}
	return notNavigation
}

// accepts reports whether the client names a media type in what it accepts.
func accepts(r *http.Request, mediaType string) bool {
	return strings.Contains(strings.ToLower(strings.Join(r.Header["Accept"], ",")), mediaType)
}

// isNavigation reports whether a browser loads a page with this request.
func isNavigation(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && navigationOf(r) == topNavigation
}

// isPrefetch reports whether a browser asks ahead of its user, who may never come.
func isPrefetch(r *http.Request) bool {
	return strings.Contains(strings.ToLower(r.Header.Get("Sec-Purpose")), "prefetch") ||
		strings.EqualFold(r.Header.Get("Purpose"), "prefetch") || strings.EqualFold(r.Header.Get("X-Moz"), "prefetch")
}

// isCrossSite reports whether the browser says that another site has caused the request.
func isCrossSite(r *http.Request) bool { return r.Header.Get("Sec-Fetch-Site") == "cross-site" }

// isPreflight reports whether r is a CORS preflight, which never carries credentials.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}
