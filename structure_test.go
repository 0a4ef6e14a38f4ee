package openidconnect

import (
	"go/ast"
	goparser "go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// These tests hold the source to its layout: one place for each danger, and one text for each promise.

const modulePath = "github.com/caddy-openid-connect/caddy-openid-connect"

// sourceFile is a Go file of the root module.
type sourceFile struct {
	*ast.File
	set  *token.FileSet
	path string // from the root, with slashes
}

func (f *sourceFile) dir() string { return path.Dir(f.path) }
func (f *sourceFile) test() bool  { return strings.HasSuffix(f.path, "_test.go") }
func (f *sourceFile) imp(i int) string {
	return must(strconv.Unquote(f.Imports[i].Path.Value))
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// parsedSources parses every Go file of the root module, once: modules nested in it are not part of what users build.
var parsedSources = sync.OnceValues(func() ([]*sourceFile, error) {
	var files []*sourceFile
	set := token.NewFileSet()
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			if nested, _ := filepath.Glob(filepath.Join(name, "go.mod")); name != "." && len(nested) > 0 || entry.Name() == "testdata" {
				return filepath.SkipDir
			}
			return nil
		case filepath.Ext(name) != ".go":
			return nil
		}
		file, err := goparser.ParseFile(set, name, nil, goparser.ParseComments)
		files = append(files, &sourceFile{File: file, set: set, path: filepath.ToSlash(name)})
		return err
	})
	return files, err
})

func sources(t *testing.T) []*sourceFile {
	t.Helper()
	files, err := parsedSources()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 40 {
		t.Fatalf("found %d files only", len(files))
	}
	return files
}

func sourceNamed(t *testing.T, name string) *sourceFile {
	t.Helper()
	for _, file := range sources(t) {
		if file.path == name {
			return file
		}
	}
	t.Fatalf("no file %s", name)
	return nil
}

// TestImports: each of these may be imported in its own place only.
func TestImports(t *testing.T) {
	t.Parallel()
	for _, rule := range []struct {
		name    string
		matches func(imported string) bool
		allowed func(f *sourceFile) bool
		least   int // files that do, so that the rule is about something
	}{
		{
			"the JOSE library",
			func(imported string) bool { return strings.HasPrefix(imported, "github.com/lestrrat-go/jwx/") },
			func(f *sourceFile) bool { return f.dir() == "internal/jose" },
			2,
		},
		{
			"another JOSE library",
			regexp.MustCompile(`jose|jwt|jwk|jws|jwx|paseto`).MatchString,
			func(f *sourceFile) bool { return f.dir() == "internal/jose" },
			1,
		},
		{
			"internal/optest outside tests",
			func(imported string) bool { return imported == modulePath+"/internal/optest" },
			(*sourceFile).test,
			1,
		},
		{
			"testing outside tests",
			func(imported string) bool {
				return imported == "testing" || imported == "net/http/httptest" || strings.HasPrefix(imported, "testing/")
			},
			func(f *sourceFile) bool { return f.test() || f.dir() == "internal/optest" },
			1,
		},
		{
			"unsafe or cgo",
			func(imported string) bool { return imported == "unsafe" || imported == "C" },
			func(*sourceFile) bool { return false },
			0,
		},
		{
			"the root package inside internal",
			func(imported string) bool { return imported == modulePath },
			func(f *sourceFile) bool { return !strings.HasPrefix(f.path, "internal/") },
			0,
		},
		{
			"one internal package by another, against the arrows",
			func(imported string) bool {
				return strings.HasPrefix(imported, modulePath+"/internal/") && imported != modulePath+"/internal/jose"
			},
			func(f *sourceFile) bool { return f.test() || f.dir() == "." },
			1,
		},
	} {
		found := 0
		for _, file := range sources(t) {
			for i := range file.Imports {
				imported := file.imp(i)
				if rule.name == "another JOSE library" && strings.HasPrefix(imported, modulePath) || !rule.matches(imported) {
					continue
				}
				found++
				if !rule.allowed(file) {
					t.Errorf("%s: %s imports %s", rule.name, file.path, imported)
				}
			}
		}
		if found < rule.least {
			t.Errorf("%s: only %d files import it at all", rule.name, found)
		}
	}
}

// TestOptestKeepsItsDistance: a provider for tests that used our code would agree with our mistakes.
func TestOptestKeepsItsDistance(t *testing.T) {
	t.Parallel()
	found := 0
	for _, file := range sources(t) {
		if file.dir() != "internal/optest" || file.test() {
			continue
		}
		found++
		for i := range file.Imports {
			if imported := file.imp(i); strings.Contains(imported, ".") {
				t.Errorf("%s imports %s, which is not of the standard library", file.path, imported)
			}
		}
	}
	if found == 0 {
		t.Error("no files")
	}
}

// connecting are the names of packages that open connections or make what does.
var connecting = map[string][]string{
	"net/http": {
		"Client", "Transport", "DefaultClient", "DefaultTransport", "Get", "Head", "Post", "PostForm", "NewRequest", "NewRequestWithContext",
		"Server", "ListenAndServe", "ListenAndServeTLS", "Serve", "ServeTLS",
	},
	"net": {
		"Dial", "DialTCP", "DialUDP", "DialUnix", "DialTimeout", "Dialer", "Listen", "ListenTCP", "ListenPacket", "ListenConfig",
		"LookupHost", "LookupIP", "LookupAddr", "LookupTXT", "LookupSRV", "LookupCNAME", "Resolver",
	},
	"crypto/tls": {"Dial", "DialWithDialer", "Dialer", "Client", "Listen"},
	"os/exec":    {"Command", "CommandContext"},
}

// TestConnections: only internal/provider opens connections, and nothing else can be made to.
func TestConnections(t *testing.T) {
	t.Parallel()
	found := 0
	for _, file := range sources(t) {
		if file.test() || file.dir() == "internal/optest" {
			continue
		}
		names := make(map[string]string) // local name: import path
		for i, spec := range file.Imports {
			imported := file.imp(i)
			local := path.Base(imported)
			if spec.Name != nil {
				local = spec.Name.Name
			}
			names[local] = imported
		}
		ast.Inspect(file.File, func(node ast.Node) bool {
			selector, ok := node.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := selector.X.(*ast.Ident); ok && slices.Contains(connecting[names[x.Name]], selector.Sel.Name) {
				found++
				if file.dir() != "internal/provider" {
					t.Errorf("%s uses %s.%s", file.set.Position(node.Pos()), x.Name, selector.Sel.Name)
				}
			}
			return true
		})
	}
	if found == 0 {
		t.Error("nothing opens connections at all")
	}
}

// TestStringsInOnePlace: what is dangerous to read or write is named in one file.
func TestStringsInOnePlace(t *testing.T) {
	t.Parallel()
	for _, rule := range []struct {
		pattern, file string
		least         int
	}{
		{`(?i)^"x-forwarded`, "origin.go", 0},
		{`(?i)^"forwarded"$`, "origin.go", 0},
		{`(?i)^"set-cookie"$`, "", 0},
		{`(?i)^"www-authenticate"$`, "challenge.go", 1},
		{`^"X-(Userinfo|Access-Token|Id-Token|Raw-Id-Token|Refresh-Token)"$`, "identity.go", 5},
	} {
		pattern, found := regexp.MustCompile(rule.pattern), 0
		for _, file := range sources(t) {
			if file.test() || file.dir() != "." {
				continue
			}
			ast.Inspect(file.File, func(node ast.Node) bool {
				if literal, ok := node.(*ast.BasicLit); ok && literal.Kind == token.STRING && pattern.MatchString(literal.Value) {
					found++
					if file.path != rule.file {
						t.Errorf("%s: %s belongs into %q", file.set.Position(node.Pos()), literal.Value, rule.file)
					}
				}
				return true
			})
		}
		if found < rule.least {
			t.Errorf("%s is found %d times, not %d", rule.pattern, found, rule.least)
		}
	}
}

// grammar reads the names of all subdirectives out of the comment above UnmarshalCaddyfile, and those of its inner block.
func grammar(t *testing.T) (names, inner []string) {
	t.Helper()
	for _, declaration := range sourceNamed(t, "caddyfile.go").Decls {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok || function.Name.Name != "UnmarshalCaddyfile" {
			continue
		}
		for line := range strings.Lines(function.Doc.Text()) {
			fields := strings.Fields(line)
			switch {
			case len(fields) == 0 || fields[0] == "#" || fields[0] == "}":
			case strings.HasPrefix(line, "\t\t\t"):
				inner = append(inner, fields[0])
			case strings.HasPrefix(line, "\t\t"):
				names = append(names, fields[0])
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
	members := keys(jsonFields(reflect.TypeFor[ProtectedResource]()))
	slices.Sort(members)
	slices.Sort(inner)
	if !slices.Equal(members, inner) {
		t.Errorf("the block of protected_resource is %q in the comment and %q in the code", inner, members)
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
		"ProtectedResource": false,
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

// TestReasons: every reason has an answer and stands in the README with the status that it has.
func TestReasons(t *testing.T) {
	t.Parallel()
	all := reasons(t)
	if len(all) < 20 {
		t.Fatalf("found %q only", all)
	}
	row := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([0-9]{3}) \\| .+ \\|$")
	documented := make(map[Reason]string)
	for _, match := range row.FindAllStringSubmatch(readFile(t, "README.md"), -1) {
		if documented[Reason(match[1])] != "" {
			t.Errorf("%s stands twice in the README", match[1])
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
			t.Errorf("the README has status %q for %s, which is %d", documented[reason], reason, answer.status)
		}
	}
	if len(answers) != len(all) {
		t.Errorf("%d answers for %d reasons", len(answers), len(all))
	}
	for reason := range documented {
		if !slices.Contains(all, reason) {
			t.Errorf("the README has %s, which there is not", reason)
		}
	}
}
