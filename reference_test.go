package openidconnect

import (
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The reference of all settings is made of what the code says of them: the grammar above the parser has their form and their group, and
// the comments of the fields, which are Caddy's own documentation too, have their meaning and their default.

// referenceGroups are the groups of the grammar by the names of their sections in the page.
var referenceGroups = map[string]string{
	"the provider":                   "provider",
	"our client there":               "client",
	"logins":                         "login",
	"sessions":                       "session",
	"their renewal by refresh token": "refresh",
	"their end":                      "logout",
	"bearer tokens":                  "bearer",
	"who may enter":                  "authorization",
	"what the upstream gets":         "headers",
}

// form is how a setting is written in a Caddyfile.
type form struct{ group, text string }

// grammarForms reads the grammar: the forms of the settings, and of those in blocks with the name of the block and a dot in front.
func grammarForms(t *testing.T) map[string]form {
	t.Helper()
	forms := make(map[string]form)
	group, block := "", ""
	for _, file := range sources(t) {
		if file.path != "caddyfile.go" {
			continue
		}
		for _, declaration := range file.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if !ok || function.Name.Name != "UnmarshalCaddyfile" {
				continue
			}
			for line := range strings.Lines(function.Doc.Text()) {
				fields := strings.Fields(line)
				text := strings.Join(fields, " ")
				switch {
				case len(fields) == 0 || !strings.HasPrefix(line, "\t\t") || fields[0] == "}":
				case fields[0] == "#":
					if group = referenceGroups[strings.TrimPrefix(text, "# ")]; group == "" {
						t.Errorf("the page has no section for %q", text)
					}
				case strings.HasPrefix(line, "\t\t\t"):
					forms[block+"."+fields[0]] = form{group, text}
				default:
					block = fields[0]
					forms[block] = form{group, strings.TrimSuffix(text, " {") + strings.Repeat(" { … }", strings.Count(text, "{"))}
				}
			}
		}
	}
	return forms
}

// field is one of a type of the configuration.
type field struct {
	name    string // in JSON
	kind    string // its type in Go
	guest   string // the namespace of its module and the member that names this
	meaning string
	like    string // the field whose comment is its own too
}

// configFields reads the fields of the types of the configuration.
func configFields(t *testing.T) map[string][]field {
	t.Helper()
	types := make(map[string][]field)
	for _, file := range sources(t) {
		if file.path != "module.go" && !strings.HasPrefix(file.path, "config") || file.test() {
			continue
		}
		ast.Inspect(file.File, func(node ast.Node) bool {
			spec, ok := node.(*ast.TypeSpec)
			if !ok {
				return true
			}
			structure, ok := spec.Type.(*ast.StructType)
			if !ok {
				return false
			}
			for _, declared := range structure.Fields.List {
				if declared.Tag == nil {
					continue
				}
				tag := reflect.StructTag(must(strconv.Unquote(declared.Tag.Value)))
				name, _, _ := strings.Cut(tag.Get("json"), ",")
				next := field{
					name: name, kind: typeText(declared.Type), guest: tag.Get("caddy"),
					meaning: strings.Join(strings.Fields(declared.Doc.Text()), " "),
				}
				if before := types[spec.Name.Name]; next.meaning == "" && len(before) > 0 {
					next.like = or(before[len(before)-1].like, before[len(before)-1].name)
				}
				types[spec.Name.Name] = append(types[spec.Name.Name], next)
			}
			return false
		})
	}
	return types
}

func typeText(expression ast.Expr) string {
	switch e := expression.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return typeText(e.X)
	case *ast.ArrayType:
		return "[]" + typeText(e.Elt)
	case *ast.MapType:
		return "map of " + typeText(e.Value)
	case *ast.SelectorExpr:
		return e.Sel.Name
	default:
		return ""
	}
}

// kinds are the types of fields as somebody who writes JSON knows them.
var kinds = map[string]string{
	"string":             "a string",
	"bool":               "`true` or `false`",
	"int":                "a whole number",
	"Duration":           "a duration",
	"StringList":         "a string or a list of strings",
	"map of StringList":  "an object of names, each with a string or a list of strings",
	"map of ClaimHeader": "an object of names, each with a string or an object",
	"map of string":      "an object of names, each with a string",
	"[]ClaimRule":        "a list of objects",
	"[]UnauthRule":       "a list of objects",
	"[]TokenSource":      "a list of objects",
	"ClientCertificate":  "an object",
	"SessionConfig":      "an object",
	"SessionContents":    "an object",
	"ProtectedResource":  "an object",
	"RuleMatchers":       "a set of matchers, or a list of sets",
	"SameSite":           "a string",
	"CookieSecure":       "a string, `true` or `false`",
	"SessionStorage":     "a string, or an object with `module` and the settings of that module",
}

var guestModule = regexp.MustCompile(`^namespace=(\S+) inline_key=(\S+)$`)

func (f field) jsonType(t *testing.T) string {
	t.Helper()
	if match := guestModule.FindStringSubmatch(f.guest); f.kind == "RawMessage" && match != nil {
		return fmt.Sprintf("a module of `%s`, which its member `%s` names", match[1], match[2])
	}
	if kinds[f.kind] == "" {
		t.Errorf("%s has a type that the page has no words for: %s", f.name, f.kind)
	}
	return kinds[f.kind]
}

// reference writes the sections.
type reference struct {
	t       *testing.T
	forms   map[string]form
	types   map[string][]field
	anchors map[string]string // of names that cannot be words
	text    map[string]*strings.Builder
	group   string
}

// settingName is how a field is called in the page: as in a Caddyfile, unless another field is called that.
func settingName(jsonName string) string {
	if name := otherNames[jsonName]; name != "" && name != "unauth_action" {
		return name
	}
	return jsonName
}

func (r *reference) writeType(name, block string) {
	for _, f := range r.types[name] {
		written, other := otherNames[f.name]
		if !other {
			written = f.name
		}
		if block != "" {
			written = block + "." + f.name
		}
		described, known := r.forms[written]
		switch {
		case known && block == "":
			r.group = described.group
		case !known && written != "":
			r.t.Errorf("the grammar does not have %s", written)
		}
		switch f.name { // one name for two things
		case "unauth_action":
			described.text = strings.TrimSuffix(described.text, " [<matcher>]")
		case "unauth_rules":
			described.text = strings.Replace(described.text, "[<matcher>]", "<matcher>", 1)
		}
		r.writeSetting(f, block, described)
	}
}

func (r *reference) writeSetting(f field, block string, described form) {
	out := r.text[r.group]
	if out == nil {
		out = new(strings.Builder)
		r.text[r.group] = out
	}
	heading, jsonName := "`"+settingName(f.name)+"`", f.name
	if block != "" {
		heading, jsonName = "`"+block+"` "+heading, block+"."+f.name
	}
	fmt.Fprintf(out, "\n### %s\n\n", heading)
	if described.text == "" {
		fmt.Fprintln(out, "- Caddyfile: none")
	} else {
		fmt.Fprintf(out, "- Caddyfile: `%s`%s\n", described.text, map[bool]string{true: ", repeatable"}[r.repeats(settingName(f.name), block)])
	}
	fmt.Fprintf(out, "- JSON: `%s`, %s\n", jsonName, f.jsonType(r.t))
	meaning, standard, _ := strings.Cut(f.meaning, "Default: ")
	meaning = r.marked(strings.TrimSpace(meaning))
	switch {
	case f.like != "":
		meaning = "See " + link(f.like, block) + "."
	case f.kind == "bool":
		standard = map[string]string{"": "off", "false": "off", "true": "on"}[standard]
	}
	if standard != "" {
		if !strings.Contains(standard, " ") {
			standard = "`" + standard + "`"
		}
		out.WriteString(wrapped("- Default: "+r.marked(strings.TrimSuffix(standard, ".")), "  "))
	}
	fmt.Fprintf(out, "\n%s", wrapped(meaning, ""))
	switch inner := strings.TrimPrefix(strings.TrimPrefix(f.kind, "[]"), "map of "); inner {
	case "SessionConfig", "ProtectedResource":
		r.writeType(inner, f.name)
	case "ClaimRule", "ClaimHeader", "UnauthRule", "TokenSource", "ClientCertificate", "SessionContents":
		fmt.Fprint(out, "\n| member | type | meaning |\n|---|---|---|\n")
		for _, member := range r.types[inner] {
			fmt.Fprintf(out, "| `%s` | %s | %s |\n", member.name, member.jsonType(r.t), r.marked(member.meaning))
		}
	}
}

func (r *reference) repeats(name, block string) bool {
	switch {
	case block != "":
		return name == "secret" || name == "scopes_supported"
	case name == "unauth_action":
		return false
	default:
		return name == "unauth_rules" || slices.Contains(repeatable, name)
	}
}

func link(name, block string) string {
	if block != "" {
		return fmt.Sprintf("[`%s`](#%s-%s)", name, block, name)
	}
	return fmt.Sprintf("[`%s`](#%s)", name, name)
}

// marks finds what of a comment is code in the page: objects, placeholders, quoted values, paths, headers, and names of settings.
var marks = regexp.MustCompile(`\{"[^}]*\}|\{[^{}]*\}|"[^"]*"|(?:^| )/[a-z][-\w./]*[a-z]|\bX-[-\w]+|__\w+-|\b[a-z]+(?:[._][a-z]+)*_[a-z]+(?:[._][a-z]+)*\b|[<>]`)

// marked makes Markdown of a comment.
func (r *reference) marked(comment string) string {
	if strings.HasPrefix(comment, "`") {
		return comment
	}
	return marks.ReplaceAllStringFunc(comment, func(found string) string {
		text := strings.TrimPrefix(found, " ")
		space := found[:len(found)-len(text)]
		switch {
		case text == "<":
			return "&lt;"
		case text == ">":
			return "&gt;"
		case r.anchors[text] != "":
			return fmt.Sprintf("[`%s`](#%s)", text, r.anchors[text])
		case strings.HasPrefix(text, `"`):
			return "`" + strings.Trim(text, `"`) + "`"
		default:
			return space + "`" + text + "`"
		}
	})
}

// wrapped breaks a text into lines, those after the first with an indentation.
func wrapped(text, indentation string) string {
	const width = 130
	var b strings.Builder
	column := 0
	for i, word := range strings.Split(text, " ") {
		length := len([]rune(word))
		switch {
		case i == 0:
		case column+1+length > width:
			b.WriteString("\n" + indentation)
			column = len(indentation)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += length
	}
	return b.String() + "\n"
}

// TestReference: the reference says what the code says; -update writes it anew.
func TestReference(t *testing.T) {
	t.Parallel()
	r := &reference{
		t: t, forms: grammarForms(t), types: configFields(t), anchors: make(map[string]string), text: make(map[string]*strings.Builder),
	}
	for name, block := range map[string]string{"Handler": "", "SessionConfig": "session-", "ProtectedResource": "protected_resource-"} {
		for _, f := range r.types[name] {
			if strings.Contains(f.name, "_") {
				r.anchors[f.name], r.anchors[settingName(f.name)] = block+settingName(f.name), block+settingName(f.name)
			}
		}
	}
	r.writeType("Handler", "")
	sections := make(map[string]string)
	for group, text := range r.text {
		sections[group] = text.String()
	}
	for _, group := range referenceGroups {
		if sections[group] == "" {
			t.Errorf("%s has no settings", group)
		}
	}
	checkGenerated(t, filepath.Join("docs", "configuration.md"), "reference", sections)
}

// checkGenerated compares the generated sections of a page with what they should be. They stand between two comments, the first of which
// has their name.
func checkGenerated(t *testing.T, page, kind string, sections map[string]string) {
	t.Helper()
	text := readFile(t, page)
	between := regexp.MustCompile(`(?s)<!-- ` + kind + `: ([a-z]+);[^>]*-->\n(.*?)\n<!-- end -->`)
	seen := make(map[string]bool)
	got := between.ReplaceAllStringFunc(text, func(found string) string {
		name, old := between.FindStringSubmatch(found)[1], between.FindStringSubmatch(found)[2]
		seen[name] = true
		body, ok := sections[name]
		switch {
		case !ok:
			t.Errorf("%s has a section %s that nothing is written for", page, name)
		case body != old && !*update:
			t.Errorf("%s: the section %s is stale, `make golden` writes it: %s", page, name, firstDifference(old, body))
		}
		return strings.Replace(found, old+"\n<!-- end -->", body+"\n<!-- end -->", 1)
	})
	for name := range sections {
		if !seen[name] {
			t.Errorf("%s has no section %s", page, name)
		}
	}
	if *update {
		if err := os.WriteFile(page, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
