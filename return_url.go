package openidconnect

import (
	"net/http"
	"net/url"
	"strings"
)

// Bounds of return URLs (bytes): in a transaction, and in the state parameter, which the provider has to carry.
const (
	maxReturnURL      = 1 << 10
	maxStateReturnURL = 512
)

// requestedURL is the path and query of the request as the client sent them, to return to after a login. A URL that is too long
// returns to its path.
func requestedURL(r *http.Request) string {
	u, path := originalURL(r), originalPath(r)
	if !strings.HasPrefix(path, "/") {
		return "/"
	}
	if u.RawQuery != "" || u.ForceQuery {
		if target := path + "?" + escape(u.RawQuery, ""); len(target) <= maxReturnURL {
			return target
		}
	}
	if len(path) > maxReturnURL {
		return "/"
	}
	return path
}

// escape percent-encodes what may not stand in a header field, and further characters; everything else stays as it was.
func escape(text, further string) string {
	const hexDigits = "0123456789ABCDEF"
	if !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(further, r) }) {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c > ' ' && c <= '~' && strings.IndexByte(further, c) < 0 {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + string(hexDigits[c>>4]) + string(hexDigits[c&0xf]))
		}
	}
	return b.String()
}

// safeReturnURL is what a stranger's wish to return somewhere becomes: a path of this origin, or "/". Nobody but us decides where a
// login ends (RFC 9700 section 4.11).
func safeReturnURL(wish, origin string) string {
	wish, _, _ = strings.Cut(wish, "#")
	if origin != "" && len(wish) > len(origin) && strings.EqualFold(wish[:len(origin)], origin) && wish[len(origin)] == '/' {
		wish = wish[len(origin):]
	}
	if len(wish) > maxReturnURL {
		wish = pathOf(wish)
	}
	if len(wish) > maxReturnURL || !strings.HasPrefix(wish, "/") ||
		strings.ContainsFunc(wish, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }) {
		return "/"
	}
	u, err := url.ParseRequestURI(wish)
	if err != nil || u.Host != "" || u.Scheme != "" || u.Opaque != "" {
		return "/"
	}
	path := u.EscapedPath()
	for range maxDecodings {
		if strings.HasPrefix(path, "//") || strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == '\\' }) || hasDotSegment(path) {
			return "/"
		}
		decoded := decodeLeniently(path)
		if decoded == path {
			return wish
		}
		path = decoded
	}
	return "/"
}

func hasDotSegment(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." {
			return true
		}
	}
	return false
}

// location makes of a return URL what a Location header may hold: the path alone where nobody can read another host into it, else
// the same with our origin in front, else the root.
func location(target, origin string) string {
	switch {
	case strings.HasPrefix(target, "http://"), strings.HasPrefix(target, "https://"):
		return target // ours: it was sealed with an origin under cookie_domain
	case !strings.HasPrefix(target, "/"):
		return "/"
	case len(target) > 1 && (target[1] == '/' || target[1] == '\\'), hasDotSegment(pathOf(target)):
		if origin == "" {
			return "/"
		}
		return origin + target
	default:
		return target
	}
}

// nearby is what a return URL without a transaction may be: anybody can have a state sealed by asking for a page, under cookie_domain of
// any host and port that he names. So another host of the domain must be one of the same scheme and port.
func nearby(target, origin string) string {
	if strings.HasPrefix(target, "/") {
		return target
	}
	there, err := url.Parse(target)
	here, hereErr := url.Parse(origin)
	if err != nil || hereErr != nil {
		return "/"
	}
	if there.Scheme == here.Scheme && there.Port() == here.Port() {
		return target
	}
	return requestTarget(there)
}

func requestTarget(u *url.URL) string {
	target := or(u.EscapedPath(), "/")
	if u.RawQuery != "" {
		target += "?" + u.RawQuery
	}
	return target
}

func pathOf(target string) string {
	path, _, _ := strings.Cut(target, "?")
	return path
}

// stateReturnURL is the part of a return URL that fits into the state parameter.
func stateReturnURL(target string) string {
	if len(target) <= maxStateReturnURL {
		return target
	}
	if path := pathOf(target); len(path) <= maxStateReturnURL {
		return path
	}
	return "/"
}

// redirect sends a browser on, never by a method that repeats a body: 303 after a POST, else 302.
func redirect(w http.ResponseWriter, r *http.Request, target string) {
	header := w.Header()
	header["Location"] = []string{target}
	header["Cache-Control"] = []string{"no-store"}
	header["Referrer-Policy"] = []string{"no-referrer"}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		w.WriteHeader(http.StatusFound)
		return
	}
	w.WriteHeader(http.StatusSeeOther)
}
