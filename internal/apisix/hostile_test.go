package apisix_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/apisix"
)

// opening finds braces that the replacer would look behind.
var opening = regexp.MustCompile(`(?:^|[^\\])\{([^{}]*)\}?`)

// checkContained holds a Caddyfile to what it may have: one site with our directive and a proxy, placeholders that are ours, and nothing
// else. It returns the directive as JSON.
func checkContained(t testing.TB, input, text string) (map[string]any, error) {
	t.Helper()
	adapted, err := adapt(text)
	if err != nil {
		return nil, err
	}
	var config struct {
		Apps map[string]struct {
			HTTPPort int `json:"http_port"`
			Servers  map[string]struct {
				Listen []string         `json:"listen"`
				Routes []map[string]any `json:"routes"`
			} `json:"servers"`
		} `json:"apps"`
	}
	decoder := json.NewDecoder(strings.NewReader(string(adapted)))
	if err := decoder.Decode(&config); err != nil {
		return nil, err
	}
	if len(config.Apps) != 1 || len(config.Apps["http"].Servers) != 1 || config.Apps["http"].HTTPPort != 0 {
		return nil, fmt.Errorf("more than a site: %s", adapted)
	}
	var whole any
	if err := json.Unmarshal(adapted, &whole); err != nil {
		return nil, err
	}
	for _, name := range handlerNames(whole) {
		if !slices.Contains([]string{"openid_connect", "reverse_proxy", "subroute"}, name) {
			return nil, fmt.Errorf("a handler %s: %s", name, adapted)
		}
	}
	handlers := handlersIn(whole)
	if len(handlers) == 0 {
		return nil, errors.New("no directive")
	}
	for _, handler := range handlers {
		for _, text := range stringsIn(handler) {
			for _, match := range opening.FindAllStringSubmatch(text, -1) {
				name, ours := strings.CutPrefix(match[1], "env.")
				known := slices.Contains([]string{"OIDC_CLIENT_SECRET", "OIDC_SESSION_SECRET", "REDIS_PASSWORD", "OIDC_ISSUER"}, name)
				if !ours || !known && !strings.Contains(strings.ToLower(input), strings.ToLower("$env://"+name)) {
					return nil, fmt.Errorf("a placeholder in %q", text)
				}
			}
		}
	}
	return handlers[0], nil
}

func handlerNames(node any) (names []string) {
	switch node := node.(type) {
	case map[string]any:
		if name, ok := node["handler"].(string); ok {
			names = append(names, name)
		}
		for _, inner := range node {
			names = append(names, handlerNames(inner)...)
		}
	case []any:
		for _, inner := range node {
			names = append(names, handlerNames(inner)...)
		}
	}
	return names
}

func stringsIn(node any) (texts []string) {
	switch node := node.(type) {
	case string:
		texts = append(texts, node)
	case map[string]any:
		for name, inner := range node {
			texts = append(texts, name)
			texts = append(texts, stringsIn(inner)...)
		}
	case []any:
		for _, inner := range node {
			texts = append(texts, stringsIn(inner)...)
		}
	}
	return texts
}

var hostile = []string{
	"x\n\trespond pwned", "x\r\n}\nrespond pwned", "} respond pwned", "}", "{", "{}", "{http.request.host}", "{host}", "{env.HOME}", "{$HOME}",
	"{$HOME:x\ny}", `\{env.HOME}`, `\\{env.HOME}`, "{env.HOME\\}", `"`, `" respond pwned "`, `\"`, `\`, `a\`, "`", "a`b\"c", "`\"\\", "<<END\nrespond\nEND", "<<END",
	"# comment", "a #b", "import /etc/passwd", "@name", "a b", " ", "\t", "\x00", "\u2028", "\u202e", "\ufeff", "*", "(x)", "&(x)", "${HOME}", "é", "{a{b}c}",
	"{file./etc/passwd}", "$ENV://HOME}{", "$ENV://A B", "$secret://vault/x", "$ENV://", "{args[0]}", "{block}", "{blocks.x}", `{"a":"{env.HOME}"}`, `{\}`, `a\}{`,
}

// TestHostileValues: whatever attributes hold, it stays the value of their setting. The good value comes first.
func TestHostileValues(t *testing.T) {
	keyFile := environment(t)
	good := convert(t, with(t, browser, "client_id", `"app"`))
	if handler := load(t, keyFile, good.Caddyfile); handler["client_id"] != "app" {
		t.Fatalf("client_id is %v", handler["client_id"])
	}
	converted := 0
	try := func(input string) map[string]any {
		conversion, err := apisix.Convert([]byte(input), apisix.Options{})
		if err != nil {
			return nil
		}
		converted++
		handler, err := checkContained(t, input, conversion.Caddyfile)
		if err != nil {
			t.Fatalf("%s: %v\n%s", input, err, conversion.Caddyfile)
		}
		return handler
	}
	shapes := make(map[string]string) // which attribute takes what
	for _, attribute := range apisix.Attributes() {
		for _, shape := range []string{`{"x":%s}`, "[%s]", "%s"} {
			if _, err := apisix.Convert([]byte(with(t, browser, attribute.Name, fmt.Sprintf(shape, `"x"`))), apisix.Options{}); err == nil {
				shapes[attribute.Name] = shape
			}
		}
	}
	shapes["discovery"] = "%s"
	for _, value := range hostile {
		if handler := try(with(t, browser, "client_id", text(value))); handler != nil && !strings.HasPrefix(value, "$") {
			if got := unescaped(handler["client_id"]); got != value {
				t.Errorf("client_id %q is %q", value, got)
			}
		}
		for _, base := range []string{browser, verify, introspect, inRedis} { // all attributes at once
			input := base
			for name, shape := range shapes {
				if name != "client_id" && name != "discovery" && name != "required_scopes" && !strings.HasSuffix(shape, "}") {
					input = with(t, input, name, fmt.Sprintf(shape, text(value)))
				}
			}
			try(input)
		}
	}
	for name, shape := range shapes { // and each alone
		for _, value := range []string{"x\n\t}\nrespond pwned", "{env.HOME}", `{"a":"{env.HOME}"}`, `"} respond pwned`} {
			for _, base := range []string{browser, introspect} {
				try(with(t, base, name, fmt.Sprintf(shape, text(value))))
			}
		}
	}
	if converted < 700 {
		t.Errorf("%d plugins only", converted)
	}
}

// unescaped is what a value is once its placeholders have been replaced, where there are none.
func unescaped(value any) string {
	text, _ := value.(string)
	if !strings.Contains(text, "{") {
		return text
	}
	return strings.NewReplacer(`\{`, "{", `\}`, "}").Replace(text)
}

// TestHostileNames: the same for names of attributes, of parameters and of whatever belongs to the route.
func TestHostileNames(t *testing.T) {
	for _, name := range hostile {
		for _, input := range []string{
			with(t, browser, "authorization_params", fmt.Sprintf("{%s:%s}", text(name), text(name))),
			fmt.Sprintf(`{%s:1,%s`, text(name), browser[1:]),
			fmt.Sprintf(`{"session":{%s:1,"cookie":{%s:1}},%s`, text(name), text(name), browser[1:]),
			fmt.Sprintf(`{"uri":%s,"host":%s,%s:1,"plugins":{%s:{},"openid-connect":%s},"upstream":{"nodes":{%s:1},"type":%s}}`,
				text(name), text(name), text(name), text(name), browser, text(name), text(name)),
		} {
			conversion, err := apisix.Convert([]byte(input), apisix.Options{})
			if err != nil {
				if strings.ContainsAny(err.Error(), "\n\r{}") {
					t.Errorf("%q is in %q", name, err)
				}
				continue
			}
			if _, err := checkContained(t, input, conversion.Caddyfile); err != nil {
				t.Errorf("%s: %v\n%s", input, err, conversion.Caddyfile)
			}
		}
	}
}

// FuzzConvert: whatever the input is, there is an error or a Caddyfile that loads, and holds nothing but what belongs into it.
func FuzzConvert(f *testing.F) {
	keyFile := environment(f)
	for _, base := range []string{browser, introspect, verify, both, inRedis} {
		f.Add(base)
		for _, cases := range [][]attributeCase{providerCases(), bearerCases(), loginCases(), sessionCases(), otherCases()} {
			for i, test := range cases {
				if i%4 == 0 {
					f.Add(with(f, base, test.name, test.value))
				}
			}
		}
	}
	for _, plugin := range goldenNames(f) {
		f.Add(readFile(f, plugin))
	}
	f.Fuzz(func(t *testing.T, input string) {
		conversion, err := apisix.Convert([]byte(input), apisix.Options{})
		if err != nil {
			if strings.TrimSpace(err.Error()) == "" || strings.ContainsAny(err.Error(), "\r\n") {
				t.Errorf("error %q", err)
			}
			return
		}
		if _, err := checkContained(t, input, conversion.Caddyfile); err != nil {
			t.Fatalf("%v\n%s", err, conversion.Caddyfile)
		}
		if strings.Contains(strings.ToLower(conversion.Caddyfile+input), "$env://") {
			return // what is in the environment decides
		}
		if _, err := tryLoad(t, keyFile, conversion.Caddyfile); err != nil {
			t.Fatalf("%v\n%s", err, conversion.Caddyfile)
		}
	})
}
