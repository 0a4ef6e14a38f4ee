package openidconnect

import (
	"encoding/hex"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

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
