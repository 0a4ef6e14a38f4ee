package openidconnect

import (
	"encoding/json"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
)

// claimsOf reads claims as they come out of a token.
func claimsOf(t testing.TB, text string) map[string]any {
	t.Helper()
	claims, err := jose.ParseObject(text)
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return claims
}

func TestParseClaimPath(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text     string
		segments []string
	}{
		{"sub", []string{"sub"}},
		{"realm_access.roles", []string{"realm_access", "roles"}},
		{"a.b.c.d", []string{"a", "b", "c", "d"}},
		{`my\.app.roles`, []string{"my.app", "roles"}},
		{`a\\.b`, []string{`a\`, "b"}},
		{`a\\\.b`, []string{`a\.b`}},
		{`\.`, []string{"."}},
		{`\\`, []string{`\`}},
		{"https://example.com/roles", []string{"https://example", "com/roles"}},
		{"cognito:groups", []string{"cognito:groups"}},
		{"größe.張", []string{"größe", "張"}},
		{" a . b ", []string{" a ", " b "}},
		{`{env\.X}`, []string{"{env.X}"}},
		{"", nil},
		{".", nil},
		{"a.", nil},
		{".a", nil},
		{"a..b", nil},
		{`a\`, nil},
		{`a\b`, nil},
		{`\`, nil},
		{`a.\\\`, nil},
	} {
		path, err := parseClaimPath(test.text)
		if (err != nil) != (test.segments == nil) {
			t.Errorf("%q: error %v", test.text, err)
		}
		if !reflect.DeepEqual(path.segments, test.segments) || err == nil && path.text != test.text {
			t.Errorf("%q: got %q", test.text, path.segments)
		}
	}
}

func TestFindClaim(t *testing.T) {
	t.Parallel()
	const claims = `{
		"sub": "ada",
		"empty": "",
		"zero": 0,
		"off": false,
		"nothing": null,
		"none": [],
		"groups": ["a", "b"],
		"a": {"b": {"c": "deep"}, "b.c": "literal", "x": 1, "nothing": null},
		"a.b": {"c": "outer", "only": "here"},
		"k": {"l": {"m": "nested"}, "l.m": null},
		"p": {"q": "in p"},
		"p.q": null,
		"s": "text",
		"s.t": {"u": "beside text"},
		"https://example.com/roles": ["admin"],
		"cognito:groups": ["c"],
		"app": {"https://example.com/x.y": {"z": "url"}},
		"back\\slash": "yes",
		"": "empty name"
	}`
	for path, want := range map[string]string{
		"sub":                           `"ada"`,
		"empty":                         `""`,
		"zero":                          `0`,
		"off":                           `false`,
		"none":                          `[]`,
		"groups":                        `["a","b"]`,
		"nothing":                       "", // null is absent
		"a.nothing":                     "",
		"a.x":                           `1`,
		"missing":                       "",
		"sub.x":                         "",        // a string has no members
		"groups.0":                      "",        // nor has a list
		"a.b.c":                         `"outer"`, // of several readings the one with the longest name first
		`a\.b.c`:                        `"outer"`,
		`a.b\.c`:                        `"literal"`,
		"a.b.only":                      `"here"`,
		"a.b":                           `{"c":"outer","only":"here"}`,
		"k.l.m":                         "", // the literal name wins, and says null
		"k.l":                           `{"m":"nested"}`,
		"p.q":                           "",
		"s.t.u":                         `"beside text"`,
		"https://example.com/roles":     `["admin"]`,
		"cognito:groups":                `["c"]`,
		"app.https://example.com/x.y.z": `"url"`,
		`back\\slash`:                   `"yes"`,
		"Sub":                           "", // case counts
	} {
		compiled, err := parseClaimPath(path)
		if err != nil {
			t.Errorf("%q: %v", path, err)
			continue
		}
		value, ok := compiled.find(claimsOf(t, claims))
		if ok != (want != "") {
			t.Errorf("%q: found %t: %v", path, ok, value)
			continue
		}
		if got := string(must(json.Marshal(value))); ok && got != want {
			t.Errorf("%q: got %s, want %s", path, got, want)
		}
	}
}

func TestClaimElements(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		path, value string
		want        []string
	}{
		{"groups", `"a b"`, []string{"a b"}},
		{"scope", `"a b"`, []string{"a", "b"}},
		{"scp", `"a  b "`, []string{"a", "b"}},
		{"x.scopes", `"a b"`, []string{"a", "b"}},
		{"scope", `"a\tb\nc"`, []string{"a\tb\nc"}}, // spaces only
		{"scope", `["a b", "c"]`, []string{"a b", "c"}},
		{"scope", `""`, []string{}},
		{"scopes_list", `"a b"`, []string{"a b"}},
		{"groups", `["a", 1, true, null, ["b"], {"c": 1}, 1.50]`, []string{"a", "1", "true", "1.50"}},
		{"groups", `[]`, nil},
		{"level", `9007199254740993`, []string{"9007199254740993"}},
		{"level", `1.10`, []string{"1.10"}},
		{"level", `1e21`, []string{"1e21"}},
		{"flag", `true`, []string{"true"}},
		{"flag", `false`, []string{"false"}},
		{"roles", `{"editor": {"1": "x"}, "admin": null}`, []string{"admin", "editor"}},
		{"roles", `{}`, nil},
	} {
		path, err := parseClaimPath(test.path)
		if err != nil {
			t.Fatal(err)
		}
		value := claimsOf(t, `{"v":`+test.value+`}`)["v"]
		if got := path.elements(value); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s of %s: got %q, want %q", test.path, test.value, got, test.want)
		}
	}
}

func TestEmptyClaim(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{
		`null`: true, `""`: true, `" \t\n"`: true, `"\u00a0"`: true, `[]`: true, `{}`: true,
		`"a"`: false, `0`: false, `false`: false, `[""]`: false, `[null]`: false, `{"a":null}`: false,
	} {
		if got := emptyClaim(claimsOf(t, `{"v":`+value+`}`)["v"]); got != want {
			t.Errorf("%s: got %t", value, got)
		}
	}
}

// TestHeaderText: what a claim looks like in a header, and that the upstream can read back exactly what was in the token.
func TestHeaderText(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ value, want, wantJSON string }{
		{`"ada@example.com"`, "ada@example.com", `"ada@example.com"`},
		{`"Jürgen 張 😀"`, "J%C3%BCrgen %E5%BC%B5 %F0%9F%98%80", `"J\u00fcrgen \u5f35 \ud83d\ude00"`},
		{`["CN=Admins,OU=x","a|b","c,admin"]`, "CN=Admins%2COU=x,a|b,c%2Cadmin", `["CN=Admins,OU=x","a|b","c,admin"]`},
		{`["a,b","50%"]`, "a%2Cb,50%25", `["a,b","50%"]`},
		{`" admin "`, "%20admin%20", `" admin "`},
		{`"  "`, "%20%20", `"  "`},
		{`["a"," b","c d"]`, "a,%20b,c d", `["a"," b","c d"]`},
		{`"x,admins"`, "x%2Cadmins", `"x,admins"`},
		{`9007199254740993`, "9007199254740993", "9007199254740993"},
		{`-0`, "-0", "-0"},
		{`1e21`, "1e21", "1e21"},
		{`1.10`, "1.10", "1.10"},
		{`true`, "true", "true"},
		{`[1e21,1.10,true,false,null,"a"]`, "1e21,1.10,true,false,a", `[1e21,1.10,true,false,null,"a"]`},
		{`[]`, "", "[]"},
		{`[null]`, "", "[null]"},
		{`["",""]`, ",", `["",""]`},
		{`"a\r\nX-Admin: 1"`, "a%0D%0AX-Admin: 1", `"a\r\nX-Admin: 1"`},
		{`"a\u0001b\u007fc\u0085"`, "a%01b%7Fc%C2%85", `"a\u0001b\u007fc\u0085"`},
		{`"\u2028<&>"`, "%E2%80%A8<&>", `"\u2028\u003c\u0026\u003e"`},
		{`"%2C"`, "%252C", `"%2C"`},
		{`{"country":"DE","street":"A, B"}`, `{"country":"DE"%2C"street":"A%2C B"}`, `{"country":"DE","street":"A, B"}`},
		{`{"n":1.10,"m":[9007199254740993]}`, `{"m":[9007199254740993]%2C"n":1.10}`, `{"m":[9007199254740993],"n":1.10}`},
		{`[["a","b"],{"c":"d"}]`, `["a"%2C"b"],{"c":"d"}`, `[["a","b"],{"c":"d"}]`},
	} {
		value := claimsOf(t, `{"v":`+test.value+`}`)["v"]
		if got := headerText(value); got != test.want {
			t.Errorf("%s: got %q, want %q", test.value, got, test.want)
		}
		if got := jsonText(value); got != test.wantJSON {
			t.Errorf("%s: got %q, want %q as JSON", test.value, got, test.wantJSON)
		}
		checkHeaderText(t, value)
	}
}

// checkHeaderText reads a header as the documentation says how, and compares with the claim.
func checkHeaderText(t *testing.T, value any) {
	t.Helper()
	text, asJSON := headerText(value), jsonText(value)
	for _, header := range []string{text, asJSON} {
		if strings.ContainsFunc(header, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("not visible ASCII: %q", header)
		}
	}
	var read any
	decoder := json.NewDecoder(strings.NewReader(asJSON))
	decoder.UseNumber()
	if err := decoder.Decode(&read); err != nil || !reflect.DeepEqual(read, value) {
		t.Errorf("%q reads as %#v, %v; want %#v", asJSON, read, err, value)
	}
	list, isList := value.([]any)
	if !isList {
		list = []any{value}
	}
	var want []string
	for _, element := range list {
		if element != nil || !isList {
			want = append(want, elementText(element))
		}
	}
	if len(want) == 0 {
		if text != "" {
			t.Errorf("%q for a list without elements", text)
		}
		return
	}
	elements := strings.Split(text, ",")
	if len(elements) != len(want) {
		t.Fatalf("%q has %d elements, not %d", text, len(elements), len(want))
	}
	for i, element := range elements {
		if got, err := url.PathUnescape(element); err != nil || got != want[i] {
			t.Errorf("%q reads as %q, %v; want %q", element, got, err, want[i])
		}
	}
}
