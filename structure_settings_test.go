package openidconnect

import (
	"go/ast"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// grammar reads the names of all subdirectives out of the comment above UnmarshalCaddyfile, and those of its inner blocks.
func grammar(t *testing.T) (names []string, inner map[string][]string) {
	t.Helper()
	inner = make(map[string][]string)
	for _, file := range sources(t) {
		for _, declaration := range file.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if !ok || function.Name.Name != "UnmarshalCaddyfile" {
				continue
			}
			for line := range strings.Lines(function.Doc.Text()) {
				fields := strings.Fields(line)
				switch {
				case len(fields) == 0 || fields[0] == "#" || fields[0] == "}":
				case strings.HasPrefix(line, "\t\t\t"):
					block := names[len(names)-1]
					inner[block] = append(inner[block], fields[0])
				case strings.HasPrefix(line, "\t\t"):
					names = append(names, fields[0])
				}
			}
		}
	}
	return names, inner
}

// TestGrammar: the comment is the syntax that users read, and the table is the one that counts.
func TestGrammar(t *testing.T) {
	t.Parallel()
	names, inner := grammar(t)
	if sorted := slices.Compact(slices.Sorted(slices.Values(names))); len(sorted) != len(names) {
		t.Error("a name stands twice in the comment")
	}
	for _, name := range names {
		if _, ok := subdirectives[name]; !ok {
			t.Errorf("%s is in the comment and not in subdirectives", name)
		}
	}
	for name := range subdirectives {
		if !slices.Contains(names, name) {
			t.Errorf("%s is in subdirectives and not in the comment", name)
		}
	}
	for _, name := range repeatable {
		if _, ok := subdirectives[name]; !ok {
			t.Errorf("%s may be repeated and does not exist", name)
		}
	}
	blocks := map[string]reflect.Type{
		"protected_resource": reflect.TypeFor[ProtectedResource](),
		"session":            reflect.TypeFor[SessionConfig](),
	}
	for name, block := range blocks {
		members := keys(jsonFields(block))
		slices.Sort(members)
		slices.Sort(inner[name])
		if !slices.Equal(members, inner[name]) {
			t.Errorf("the block of %s is %q in the comment and %q in the code", name, inner[name], members)
		}
		for _, member := range members {
			_, err := parse(name + " {\n" + member + " {\n}\n}")
			if err == nil || strings.Contains(err.Error(), "unrecognized") {
				t.Errorf("the block of %s does not know %s: %v", name, member, err)
			}
		}
	}
	for name := range inner {
		if blocks[name] == nil {
			t.Errorf("%s has a block in the comment", name)
		}
	}
}

// otherNames are the JSON fields that are written otherwise in a Caddyfile; with "" there is another setting for the same.
var otherNames = map[string]string{
	"required_claims":               "required_claim",
	"denied_claims":                 "denied_claim",
	"unauth_rules":                  "unauth_action",
	"claim_headers":                 "claim_header",
	"claim_placeholders":            "claim_placeholder",
	"iat_slack":                     "",
	"client_rsa_private_key":        "",
	"jwt_verification_cache_ignore": "",
}

// TestNames: a setting has the same name in both languages, but for those that are listed.
func TestNames(t *testing.T) {
	t.Parallel()
	fields := jsonFields(reflect.TypeFor[Handler]())
	written := make(map[string]bool)
	for field := range fields {
		name, other := otherNames[field]
		if !other {
			name = field
		}
		written[name] = true
		if _, ok := subdirectives[name]; !ok && name != "" {
			t.Errorf("the field %s has no subdirective", field)
		}
	}
	for name := range subdirectives {
		if !written[name] {
			t.Errorf("the subdirective %s has no field", name)
		}
	}
	for field := range otherNames {
		if _, ok := fields[field]; !ok {
			t.Errorf("there is no field %s", field)
		}
	}
}

// TestFieldsAreDocumented: Caddy's own documentation is made of these comments. Fields on adjacent lines share one.
func TestFieldsAreDocumented(t *testing.T) {
	t.Parallel()
	types := map[string]bool{
		"Handler": false, "ClientCertificate": false, "TokenSource": false, "ClaimRule": false, "ClaimHeader": false, "UnauthRule": false,
		"ProtectedResource": false, "SessionConfig": false, "SessionContents": false,
	}
	for _, file := range sources(t) {
		if file.dir() != "." || file.test() {
			continue
		}
		ast.Inspect(file.File, func(node ast.Node) bool {
			spec, ok := node.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if _, wanted := types[spec.Name.Name]; wanted {
				types[spec.Name.Name] = true
				checkFields(t, file, spec)
			}
			return false
		})
	}
	for name, seen := range types {
		if !seen {
			t.Errorf("there is no type %s", name)
		}
	}
}

func checkFields(t *testing.T, file *sourceFile, spec *ast.TypeSpec) {
	t.Helper()
	documented, last := false, 0
	for _, field := range spec.Type.(*ast.StructType).Fields.List {
		line := file.set.Position(field.Pos()).Line
		if line != last+1 || field.Doc != nil {
			comment := strings.TrimSpace(field.Doc.Text())
			documented = strings.HasSuffix(comment, ".") || strings.Contains(comment, "Default: ")
		}
		last = file.set.Position(field.End()).Line
		for _, name := range field.Names {
			if !name.IsExported() {
				continue
			}
			if !documented {
				t.Errorf("%s.%s has no comment that ends as a sentence or with its default", spec.Name.Name, name.Name)
			}
			if field.Tag == nil {
				t.Errorf("%s.%s has no tag", spec.Name.Name, name.Name)
				continue
			}
			tag := reflect.StructTag(must(strconv.Unquote(field.Tag.Value))).Get("json")
			if key, options, _ := strings.Cut(tag, ","); options != "omitempty" || !regexp.MustCompile(`^[a-z0-9_]+$`).MatchString(key) {
				t.Errorf("%s.%s has the JSON tag %q", spec.Name.Name, name.Name, tag)
			}
		}
	}
}

// reasons reads the constants of type Reason out of the source.
func reasons(t *testing.T) []Reason {
	t.Helper()
	var all []Reason
	for _, file := range sources(t) {
		if file.dir() != "." || file.test() {
			continue
		}
		ast.Inspect(file.File, func(node ast.Node) bool {
			spec, ok := node.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Reason" {
				for _, value := range spec.Values {
					all = append(all, Reason(must(strconv.Unquote(value.(*ast.BasicLit).Value))))
				}
			}
			return true
		})
	}
	return all
}

// TestReasons: every reason has an answer and stands in the table of the page, once, with the status that it has.
func TestReasons(t *testing.T) {
	t.Parallel()
	all := reasons(t)
	if len(all) < 20 {
		t.Fatalf("found %q only", all)
	}
	row := regexp.MustCompile("(?m)^\\| \\[`([a-z_]+)`\\]\\(#[a-z_]+\\) \\| ([0-9]{3}) \\| .+ \\|$")
	documented := make(map[Reason]string)
	for _, match := range row.FindAllStringSubmatch(readFile(t, troubleshooting), -1) {
		if documented[Reason(match[1])] != "" {
			t.Errorf("%s stands twice in the page", match[1])
		}
		documented[Reason(match[1])] = match[2]
	}
	for _, reason := range all {
		answer, ok := answers[reason]
		switch {
		case !ok:
			t.Errorf("%s has no answer", reason)
		case answer.code == "" || answer.text == "" || answer.hint == "":
			t.Errorf("%s has no code, text or hint: %+v", reason, answer)
		case strings.ContainsAny(answer.text, "\"\\\r\n"):
			t.Errorf("the text of %s cannot stand in a header: %q", reason, answer.text)
		case documented[reason] != strconv.Itoa(answer.status):
			t.Errorf("the page has status %q for %s, which is %d", documented[reason], reason, answer.status)
		}
	}
	if len(answers) != len(all) {
		t.Errorf("%d answers for %d reasons", len(answers), len(all))
	}
	for reason := range documented {
		if !slices.Contains(all, reason) {
			t.Errorf("the page has %s, which there is not", reason)
		}
	}
}
