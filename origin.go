package openidconnect

import (
	"encoding/hex"
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

// isNavigation reports whether a browser loads a page with this request, rather than a script, an image, a WebSocket or a program
// something else (Fetch Metadata; without it, by what the client accepts).
func isNavigation(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || r.Header.Get("Upgrade") != "" {
		return false
	}
	if strings.Contains(strings.ToLower(r.Header.Get("Sec-Purpose")), "prefetch") {
		return false
	}
	mode, dest := r.Header.Get("Sec-Fetch-Mode"), r.Header.Get("Sec-Fetch-Dest")
	if mode != "" || dest != "" || r.Header.Get("Sec-Fetch-Site") != "" {
		return mode == "navigate" && (dest == "document" || dest == "")
	}
	return strings.Contains(r.Header.Get("Accept"), "text/html") && r.Header.Get("X-Requested-With") != "XMLHttpRequest"
}

// isPreflight reports whether r is a CORS preflight, which never carries credentials.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}

// maxDecodings is how often a path may be percent-encoded in layers before it is taken for an attack.
const maxDecodings = 5

// ambiguousPath reports whether somebody behind us may read another path than we do: when the path, decoded until it no longer
// changes, holds a dot segment, a backslash, an encoded separator, a control character, or a semicolon next to dots. No exception
// for public paths applies to such a path.
func ambiguousPath(u *url.URL) bool {
	path := u.EscapedPath()
	for range maxDecodings {
		if ambiguousForm(path) {
			return true
		}
		decoded := decodeLeniently(path)
		if decoded == path {
			return false
		}
		path = decoded
	}
	return true
}

// decodeLeniently decodes the percent-encodings that are well-formed and leaves the rest, as the most obliging upstream would.
func decodeLeniently(path string) string {
	if !strings.Contains(path, "%") {
		return path
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) {
			if decoded, err := hex.DecodeString(path[i+1 : i+3]); err == nil {
				b.Write(decoded)
				i += 2
				continue
			}
		}
		b.WriteByte(path[i])
	}
	return b.String()
}

func ambiguousForm(path string) bool {
	lower := strings.ToLower(path)
	if strings.Contains(path, `\`) || strings.Contains(lower, "%2f") || strings.Contains(lower, "%5c") ||
		strings.Contains(path, ".;") || strings.Contains(path, ";.") {
		return true
	}
	for i := range len(path) {
		if path[i] < 0x20 || path[i] == 0x7f {
			return true
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}
