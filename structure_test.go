package openidconnect

import (
	"go/ast"
	goparser "go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
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
			func(f *sourceFile) bool {
				// what it writes is tried on the handler
				return !strings.HasPrefix(f.path, "internal/") || f.test() && f.dir() == "internal/apisix"
			},
			0,
		},
		{
			"one internal package by another, against the arrows",
			func(imported string) bool {
				return strings.HasPrefix(imported, modulePath+"/internal/") && imported != modulePath+"/internal/jose" &&
					imported != modulePath+"/internal/suggestion"
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
