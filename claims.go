package openidconnect

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// claimPath is a compiled path to a claim: dot-separated, a backslash escapes a dot. A member that has the rest of the path as its
// literal name wins over splitting, so that names such as https://example.com/roles need no escapes.
type claimPath struct {
	text     string
	segments []string
}

func parseClaimPath(text string) (claimPath, error) {
	path := claimPath{text: text}
	var segment strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text) && (text[i+1] == '.' || text[i+1] == '\\'):
			i++
			segment.WriteByte(text[i])
		case c == '\\':
			return claimPath{}, errors.New(`a backslash in a claim path must be followed by a dot or a backslash`)
		case c == '.':
			path.segments = append(path.segments, segment.String())
			segment.Reset()
		default:
			segment.WriteByte(c)
		}
	}
	path.segments = append(path.segments, segment.String())
	if slices.Contains(path.segments, "") {
		return claimPath{}, errors.New("a claim path must not have an empty part")
	}
	return path, nil
}

// find returns the claim at the path. JSON null counts as absent.
func (p claimPath) find(claims map[string]any) (any, bool) {
	value, ok := findClaim(claims, p.segments)
	return value, ok && value != nil
}

func findClaim(object map[string]any, segments []string) (any, bool) {
	for n := len(segments); n > 0; n-- {
		name := segments[0]
		if n > 1 {
			name = strings.Join(segments[:n], ".")
		}
		value, ok := object[name]
		switch {
		case !ok:
		case n == len(segments):
			return value, true
		default:
			if member, isObject := value.(map[string]any); isObject {
				if found, ok := findClaim(member, segments[n:]); ok {
					return found, true
				}
			}
		}
	}
	return nil, false
}

// isScope reports whether the path names a claim that holds space-separated scopes in a string.
func (p claimPath) isScope() bool {
	return slices.Contains(scopeClaims, p.segments[len(p.segments)-1])
}

// scopeClaims are the names under which providers put scopes.
var scopeClaims = []string{"scope", "scp", "scopes"}

// isPlural reports whether the path names a claim that is a list by what it is called, though some providers make a text of a single element,
// or leave it out where it would be empty.
func (p claimPath) isPlural() bool {
	name := p.segments[len(p.segments)-1]
	return slices.Contains(pluralClaims, name[strings.LastIndexAny(name, ":/")+1:])
}

// pluralClaims are those names, also at the end of one that begins with a namespace.
var pluralClaims = []string{"groups", "roles", "permissions", "entitlements", "amr"}

// elements returns what of a claim can equal a value in a rule: a string or other scalar itself, the elements of a list, the member
// names of an object; a string of scopes counts as a list.
func (p claimPath) elements(value any) []string {
	switch value := value.(type) {
	case string:
		if p.isScope() {
			return splitScope(value)
		}
		return []string{value}
	case []any:
		var elements []string
		for _, element := range value {
			if text, ok := scalarText(element); ok {
				elements = append(elements, text)
			}
		}
		return elements
	case map[string]any:
		return sortedKeys(value)
	default:
		if text, ok := scalarText(value); ok {
			return []string{text}
		}
		return nil
	}
}

// splitScope splits at single spaces only (RFC 6749 section 3.3).
func splitScope(scope string) []string {
	return slices.DeleteFunc(strings.Split(scope, " "), func(s string) bool { return s == "" })
}

// scalarText is the text of a string, number or boolean; numbers keep the digits they were written with.
func scalarText(value any) (string, bool) {
	switch value := value.(type) {
	case string:
		return value, true
	case json.Number:
		return value.String(), true
	case bool:
		return strconv.FormatBool(value), true
	default:
		return "", false
	}
}

// emptyClaim reports whether a claim says nothing: a string without visible text, an empty list or object.
func emptyClaim(value any) bool {
	switch value := value.(type) {
	case nil:
		return true
	case string:
		return strings.TrimSpace(value) == ""
	case []any:
		return len(value) == 0
	case map[string]any:
		return len(value) == 0
	default:
		return false
	}
}

// headerText renders a claim for a header: the elements of a list joined by commas, objects as JSON, everything encoded so that no
// claim can add an element or leave the header.
func headerText(value any) string {
	list, ok := value.([]any)
	if !ok {
		return encodeElement(elementText(value))
	}
	elements := make([]string, 0, len(list))
	for _, element := range list {
		if element != nil {
			elements = append(elements, encodeElement(elementText(element)))
		}
	}
	return strings.Join(elements, ",")
}

func elementText(value any) string {
	if text, ok := scalarText(value); ok {
		return text
	}
	return jsonText(value)
}

// encodeElement percent-encodes "%", "," and every byte outside visible ASCII and space. Spaces at the ends are encoded too: they
// would be trimmed on the way, and " admin" become "admin".
func encodeElement(text string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		outer := c == ' ' && (strings.TrimLeft(text[:i], " ") == "" || strings.TrimLeft(text[i:], " ") == "")
		if c < 0x20 || c > 0x7e || c == '%' || c == ',' || outer {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&0xf])
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// jsonText renders a claim as JSON in ASCII, fit for a header.
func jsonText(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return "" // claims came out of JSON
	}
	var b strings.Builder
	for _, r := range string(text) {
		if r < 0x7f {
			b.WriteByte(byte(r))
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			b.WriteString(`\u`)
			hex := strconv.FormatUint(uint64(unit), 16)
			b.WriteString("0000"[len(hex):] + hex)
		}
	}
	return b.String()
}
