package apisix

import (
	"regexp"
	"strings"
	"unicode"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// bare are tokens that nothing in a Caddyfile reads as anything else.
var bare = regexp.MustCompile(`^[A-Za-z0-9/._~+-][A-Za-z0-9/._~+:@%,=&?!*;-]*$`)

// token writes a value of the input as one argument of a Caddyfile, so that Caddy's parser, its placeholders and its formatter leave it
// what it is. Not every text can be written so.
func token(text string) (string, bool) {
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }) {
		return "", false
	}
	escaped := text
	if strings.Contains(text, "{") {
		// a closing brace needs no escape where none is open, and would keep its backslash there
		escaped = strings.NewReplacer("{", `\{`, "}", `\}`).Replace(text)
	}
	if strings.Contains(escaped, "{$") {
		return "", false // replaced in the text of the file, whatever stands around it
	}
	if bare.MatchString(escaped) {
		return escaped, true
	}
	for _, written := range []string{
		`"` + strings.ReplaceAll(escaped, `"`, `\"`) + `"`,
		"`" + escaped + "`",
	} {
		if readsAs(written, escaped) {
			return written, true
		}
	}
	return "", false
}

// readsAs reports whether what is written is one argument with that value, and is left alone by the formatter.
func readsAs(written, want string) bool {
	probe := "site {\n\tname " + written + " end\n\tafter\n}\n"
	if string(caddyfile.Format([]byte(probe))) != probe {
		return false
	}
	tokens, err := caddyfile.Tokenize([]byte(probe), "")
	if err != nil || len(tokens) != 7 {
		return false
	}
	for i, text := range []string{"site", "{", "name", want, "end", "after", "}"} {
		if tokens[i].Text != text {
			return false
		}
	}
	return true
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// reference is what a reference of APISIX to a variable of the environment is in Caddy, "" for any other text.
func reference(text string) string {
	name, ok := cutPrefixFold(text, "$env://")
	if !ok || !variableName.MatchString(name) {
		return ""
	}
	return "{env." + name + "}"
}

// isReference reports whether a text is a reference of APISIX to a value that stands elsewhere.
func isReference(text string) bool {
	_, env := cutPrefixFold(text, "$env://")
	_, secret := cutPrefixFold(text, "$secret://")
	return env || secret
}

func cutPrefixFold(text, prefix string) (string, bool) {
	if len(text) < len(prefix) || !strings.EqualFold(text[:len(prefix)], prefix) {
		return text, false
	}
	return text[len(prefix):], true
}

// comment writes a text as lines of a comment, none of them long.
func comment(text string) []string {
	const most = 110
	var lines []string
	line := "#"
	for word := range strings.FieldsSeq(strings.ReplaceAll(text, "{$", "($")) {
		if len(line)+1+len(word) > most && line != "#" && line != "#  " {
			lines = append(lines, line)
			line = "#  "
		}
		line += " " + word
	}
	return append(lines, line)
}
