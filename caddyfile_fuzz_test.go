package openidconnect

import (
	"encoding/json"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
)

// FuzzCaddyfile: no directive, however broken, makes the parser panic, and one that is accepted means the same as the JSON that it
// becomes.
func FuzzCaddyfile(f *testing.F) {
	paths, err := filepath.Glob(filepath.Join("testdata", "adapt", "*.caddyfiletest"))
	if err != nil {
		f.Fatal(err)
	}
	body := regexp.MustCompile(`(?s)\topenid_connect ([^{]*)\{\n(.*?)\n\t\}\n`)
	seeds := 0
	for _, path := range paths {
		if match := body.FindStringSubmatch(strings.ReplaceAll(readFile(f, path), "\r\n", "\n")); match != nil {
			f.Add(match[1], match[2])
			seeds++
		}
	}
	if seeds < 100 {
		f.Fatalf("%d seeds only", seeds)
	}
	f.Fuzz(func(t *testing.T, arguments, settings string) {
		tokens, err := caddyfile.Tokenize([]byte("openid_connect "+arguments+" {\n"+settings+"\n}"), "Caddyfile")
		if err != nil || len(tokens) == 0 {
			return
		}
		h := new(Handler)
		if err := h.UnmarshalCaddyfile(caddyfile.NewDispenser(tokens)); err != nil {
			if text := err.Error(); strings.TrimSpace(text) == "" {
				t.Errorf("an error without a text: %#v", err)
			}
			return
		}
		written, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		read := new(Handler)
		if err := json.Unmarshal(written, read); err != nil {
			t.Fatalf("%v: %s", err, written)
		}
		if err := read.check(); err != nil {
			t.Errorf("as JSON it is refused: %v: %s", err, written)
		}
		if again := must(json.Marshal(read)); string(again) != string(written) {
			t.Errorf("%s becomes %s", written, again)
		}
	})
}

// FuzzClaimPath: a path is read in one way, and the claims of a token cannot make the search panic or find what is not there.
func FuzzClaimPath(f *testing.F) {
	for _, seed := range [][2]string{
		{"sub", `{"sub":"ada"}`},
		{"realm_access.roles", `{"realm_access":{"roles":["a"]},"realm_access.roles":"b"}`},
		{`my\.app.roles`, `{"my.app":{"roles":{"a":1}},"my":{"app.roles":2}}`},
		{"https://example.com/roles", `{"https://example.com/roles":null}`},
		{`a\\b..`, `{}`},
		{"a.a.a.a.a.a.a.a", `{"a":{"a":{"a.a":{"a":1}}}}`},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, text, payload string) {
		path, err := parseClaimPath(text)
		if err != nil {
			if path.segments != nil {
				t.Errorf("%q: %v and yet %q", text, err, path.segments)
			}
			return
		}
		if len(path.segments) == 0 || slices.Contains(path.segments, "") {
			t.Fatalf("%q has an empty part: %q", text, path.segments)
		}
		var escaped []string
		for _, segment := range path.segments {
			escaped = append(escaped, strings.NewReplacer(`\`, `\\`, ".", `\.`).Replace(segment))
		}
		if again, err := parseClaimPath(strings.Join(escaped, ".")); err != nil || !slices.Equal(again.segments, path.segments) {
			t.Errorf("%q is read as %q, which written again is %q, %v", text, path.segments, again.segments, err)
		}

		// the claim is found where the parts lead, and under the literal name even when they lead elsewhere
		var nested any = "nested"
		for _, segment := range slices.Backward(path.segments) {
			nested = map[string]any{segment: nested}
		}
		claims := nested.(map[string]any)
		if value, ok := path.find(claims); !ok || value != "nested" {
			t.Errorf("%q is not found in %v: %v", text, claims, value)
		}
		claims[strings.Join(path.segments, ".")] = "literal"
		if value, ok := path.find(claims); !ok || value != "literal" {
			t.Errorf("%q does not find the literal name in %v: %v", text, claims, value)
		}
		if value, ok := path.find(nil); ok {
			t.Errorf("%q finds %v in nothing", text, value)
		}

		claims, err = jose.ParseObject(payload)
		if err != nil {
			return
		}
		value, ok := path.find(claims)
		if !ok {
			return
		}
		if value == nil {
			t.Errorf("%q finds null in %s", text, payload)
		}
		path.elements(value)
		emptyClaim(value)
		checkHeaderText(t, value)
	})
}

// FuzzAuthorizationHeader: whatever a client sends, it is one token, no credential of ours, or refused.
func FuzzAuthorizationHeader(f *testing.F) {
	for _, seed := range []string{
		"", "Bearer", "Bearer ", "Bearer abc", "bearer  abc==", "BEARER\tabc", "Bearer abc def", "Bearer abc, Bearer def", "Bearer=abc", "Bearers abc",
		"Bearer-x abc", "Basic YTpi", "Bearer a,b", "Bearer \"abc\"", "Bearer abc ", " Bearer abc", "Bearer =", "Bearer a=b", "Bearer\x00abc", "Bearer é",
		"Bearer eyJhbGciOiJub25lIn0.e30.", "DPoP abc", "bEaReR +/-._~", "B",
	} {
		f.Add(seed)
	}
	type scheme struct{ name, grammar, other *regexp.Regexp }
	schemes := make(map[string]scheme)
	for _, name := range []string{schemeBearer, schemeDPoP} {
		schemes[name] = scheme{
			name:    regexp.MustCompile("^(?i:" + name + ")"),
			grammar: regexp.MustCompile("^(?i:" + name + ") +([A-Za-z0-9._~+/-]+=*)$"),
			other:   regexp.MustCompile("^(?i:" + name + ")[A-Za-z0-9!#$%&'*+.^_`|~-]"),
		}
	}
	f.Fuzz(func(t *testing.T, header string) {
		for name, scheme := range schemes {
			token, refused := schemeToken(header, name)
			match := scheme.grammar.FindStringSubmatch(header)
			ours := scheme.name.MatchString(header) && !scheme.other.MatchString(header)
			switch {
			case match != nil && (token != match[1] || refused != nil):
				t.Errorf("%q: got %q, %+v", header, token, refused)
			case match == nil && token != "":
				t.Errorf("%q: got %q", header, token)
			case ours && match == nil && (refused == nil || refused.reason != reasonMalformedAuthorization):
				t.Errorf("%q is passed over: %+v", header, refused)
			case !ours && refused != nil:
				t.Errorf("%q has another scheme than %s and is refused: %+v", header, name, refused)
			}
		}
	})
}

// FuzzAmbiguousPath: when anybody who decodes a path, once or more often, in whole or as far as it goes, arrives at a dot segment, the
// path is ambiguous; and a path that nobody can read in another way is not.
func FuzzAmbiguousPath(f *testing.F) {
	for _, seed := range []string{
		"/public/../admin", "/public/%2e%2e/admin", "/public/%252e%252e/admin", "/public/..%2fadmin", "/public%2f..%2fadmin", "/public/..;/admin",
		`/public/..\admin`, "/public/..%5cadmin", "//admin", "/./admin", "/%61dmin", "/ADMIN", "/admin%23/public", "/public/%%32e./x", "/a/b.c/d;e=f",
		"/public/%2%65./x", "/%", "/%2", "/%zz/..", "/.%2e;a/b", "/a%25252e/", "/%C0%AE%C0%AE/x", "/a b/ü/%E5%BC%B5",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = "/" + text
		rewritten := &url.URL{Path: text}
		checkAmbiguity(t, rewritten, text)
		if sent, err := url.ParseRequestURI(text); err == nil {
			checkAmbiguity(t, sent, sent.EscapedPath())
			checkAmbiguity(t, sent, sent.Path)
		}
	})
}

var (
	percentEncoding  = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
	encodedSeparator = regexp.MustCompile(`%(2[eEfF]|5[cC])`)
	separators       = regexp.MustCompile(`[/\\?#]`)
	plainPath        = regexp.MustCompile(`^[A-Za-z0-9/._~-]*$`)
	overlong         = strings.NewReplacer("\xc0\xae", ".", "\xe0\x80\xae", ".", "\xc0\xaf", "/", "\xe0\x80\xaf", "/", "\xc1\x9c", `\`)
)

// decodings are ways in which servers decode a path.
var decodings = []func(string) string{
	func(path string) string { return percentEncoding.ReplaceAllStringFunc(path, decodeOne) },
	func(path string) string { // dots and separators only
		return encodedSeparator.ReplaceAllStringFunc(path, decodeOne)
	},
	func(path string) string { // with what is not UTF-8
		return overlong.Replace(percentEncoding.ReplaceAllStringFunc(path, decodeOne))
	},
	func(path string) string { // as one web server does
		return strings.NewReplacer("%u002e", ".", "%u002E", ".", "%u002f", "/", "%u002F", "/", "%u005c", `\`, "%u005C", `\`).Replace(path)
	},
	func(path string) string { // one at a time, from the right
		all := percentEncoding.FindAllStringIndex(path, -1)
		if len(all) == 0 {
			return path
		}
		last := all[len(all)-1]
		return path[:last[0]] + decodeOne(path[last[0]:last[1]]) + path[last[1]:]
	},
}

func decodeOne(encoded string) string {
	decoded, err := url.PathUnescape(encoded)
	if err != nil {
		return encoded
	}
	return decoded
}

func checkAmbiguity(t *testing.T, u *url.URL, path string) {
	t.Helper()
	ambiguous := ambiguousPath(u)
	if !ambiguous {
		for _, decode := range decodings {
			decoded := path
			for range 12 {
				for _, segment := range separators.Split(decoded, -1) {
					if name, _, _ := strings.Cut(segment, ";"); strings.Trim(name, " ") == ".." {
						t.Fatalf("%q is %q to somebody", path, decoded)
					}
				}
				decoded = decode(decoded)
			}
		}
	}
	segments := strings.Split(path, "/")
	if ambiguous && plainPath.MatchString(path) && !slices.Contains(segments, ".") && !slices.Contains(segments, "..") && u.RawPath == "" {
		t.Errorf("%q can only be read in one way", path)
	}
}

// FuzzClaimHeader: no claim can leave its header, or add an element to it.
func FuzzClaimHeader(f *testing.F) {
	for _, seed := range []string{`"Jürgen 張 😀"`, `["CN=Admins,OU=x","a|b","c,admin"]`, `{"a":[1e21,{"b":null}]}`, `[[],{},null,"","%2C",-0.10]`, `"\ud800"`, `"\r\n"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		claims, err := jose.ParseObject(`{"v":` + text + `}`)
		if err != nil || reflect.DeepEqual(claims["v"], nil) {
			return
		}
		checkHeaderText(t, claims["v"])
	})
}
