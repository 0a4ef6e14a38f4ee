package openidconnect

import (
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// originalURL is the URL of the request before any rewrite, as the client sent it.
func originalURL(r *http.Request) *url.URL {
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil {
		return original.URL
	}
	return r.URL
}

// publicOrigin is the scheme and host by which the client reached us, "" when the host is not one. What proxies say of it counts
// only from those that Caddy trusts, and of several the last word, as Caddy's own proxy has it.
func publicOrigin(r *http.Request) string {
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
		if proto := lastValue(r.Header, "X-Forwarded-Proto"); proto == "http" || proto == "https" {
			scheme = proto
		}
		if forwarded := lastValue(r.Header, "X-Forwarded-Host"); forwarded != "" {
			host = forwarded
		}
	}
	if !isHost(host) {
		return ""
	}
	return scheme + "://" + host
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

// layeredPath reports whether the path says something that decoders and servlet containers take away: a second layer of encoding, or
// parameters behind a semicolon.
func layeredPath(u *url.URL) bool { return strings.ContainsAny(u.Path, "%;") }

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

// lookalikes are characters that some file systems and normalisations take for a dot or a separator.
const lookalikes = "\u2024\u2025\u2026\uff0e\u2044\u2215\u29f8\uff0f\u29f5\ufe68\uff3c"

func ambiguousForm(path string) bool {
	lower := strings.ToLower(path)
	for _, part := range []string{`\`, "%2f", "%5c", "%u", ".;", ";."} {
		if strings.Contains(lower, part) {
			return true
		}
	}
	if strings.ContainsFunc(path, unicode.IsControl) || strings.ContainsAny(path, lookalikes) {
		return true
	}
	// Invalid UTF-8 includes the overlong forms that lenient decoders read as dots and slashes. An escaped path is ASCII before.
	if !utf8.ValidString(path) {
		return true
	}
	// A decoded "?" or "#" ends the path for an upstream that decodes before it splits; spaces and dots at the end of a name are dropped
	// by some file systems.
	for _, segment := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == '?' || r == '#' }) {
		switch strings.Trim(segment, " \u00a0") {
		case ".", "..":
			return true
		}
	}
	return false
}
