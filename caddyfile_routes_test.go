package openidconnect

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// handlerGroups returns the route group of every openid_connect handler in a configuration, by its first audience.
func handlerGroups(t *testing.T, config []byte) map[string]string {
	t.Helper()
	type route struct {
		Group  string            `json:"group"`
		Handle []json.RawMessage `json:"handle"`
	}
	groups := make(map[string]string)
	var walk func([]route)
	walk = func(routes []route) {
		for _, r := range routes {
			for _, raw := range r.Handle {
				var handler struct {
					Handler  string     `json:"handler"`
					Audience StringList `json:"audience"`
					Routes   []route    `json:"routes"`
				}
				if err := json.Unmarshal(raw, &handler); err != nil {
					t.Fatal(err)
				}
				if handler.Handler == directive {
					groups[handler.Audience[0]] = r.Group
				}
				walk(handler.Routes)
			}
		}
	}
	var document struct {
		Apps struct {
			HTTP struct {
				Servers map[string]struct {
					Routes []route `json:"routes"`
					Errors struct {
						Routes []route `json:"routes"`
					} `json:"errors"`
					NamedRoutes map[string]route `json:"named_routes"`
				} `json:"servers"`
			} `json:"http"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(config, &document); err != nil {
		t.Fatal(err)
	}
	for _, server := range document.Apps.HTTP.Servers {
		walk(server.Routes)
		walk(server.Errors.Routes)
		walk(slices.Collect(maps.Values(server.NamedRoutes)))
	}
	return groups
}

// TestGroups: the directives of one block exclude each other, and those of a nested block or an invoked route must not be skipped
// because one of the block around it has run.
func TestGroups(t *testing.T) {
	t.Parallel()
	const guard = "openid_connect %matcher https://id.example.com {\n\tbearer_only\n\taudience %audience\n}\n"
	block := func(audience, matcher string) string {
		return strings.NewReplacer("%matcher", matcher, "%audience", audience).Replace(guard)
	}
	config := "&(named) {\n" + block("eight", "/x/*") + "respond ok\n}\n\n&(other) {\nhandle /a/* {\n" + block("nine", "*") + "respond ok\n}\nhandle {\n" +
		block("ten", "/x/*") + "respond ok\n}\n}\n\n" +
		":8080 {\n" + block("one", "/one/*") + block("two", "*") +
		"handle /a/* {\n" + block("three", "/a/b/*") + block("four", "*") + "route {\n" + block("five", "*") + "}\n}\n" +
		"handle {\n" + block("six", "*") + "invoke named\ninvoke other\n}\nhandle_errors {\n" + block("seven", "*") + "}\n}\n"
	adapted, err := adaptStrictly(t, string(caddyfile.Format([]byte(config))))
	if err != nil {
		t.Fatal(err)
	}
	groups := handlerGroups(t, adapted)
	if len(groups) != 10 {
		t.Fatalf("found %v", groups)
	}
	for _, same := range [][2]string{{"one", "two"}, {"three", "four"}} {
		if groups[same[0]] == "" || groups[same[0]] != groups[same[1]] {
			t.Errorf("%s and %s do not exclude each other: %v", same[0], same[1], groups)
		}
	}
	apart := []string{"one", "three", "five", "six", "seven"}
	for i, a := range apart {
		for _, b := range apart[i+1:] {
			if groups[a] == groups[b] {
				t.Errorf("%s and %s exclude each other: %v", a, b, groups)
			}
		}
	}
	for _, named := range []string{"eight", "nine", "ten"} {
		if groups[named] != "" { // a route that may be invoked more than once
			t.Errorf("%s is skipped the second time: %v", named, groups)
		}
	}
}

// TestDirectiveOrder: without any order option the directive runs after what changes the request's address and before everything
// that answers or reads who it was.
func TestDirectiveOrder(t *testing.T) {
	t.Parallel()
	adapted, err := adaptStrictly(t, readGoldenInput(t, "order"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(adapted)
	position := func(handler string) int {
		at := strings.Index(text, `"handler":"`+handler+`"`)
		if at < 0 {
			t.Fatalf("no handler %s in %s", handler, text)
		}
		return at
	}
	var positions []int
	for _, handler := range []string{"rewrite", directive, "authentication", "encode", "templates"} {
		positions = append(positions, position(handler))
	}
	if !slices.IsSorted(positions) {
		t.Errorf("wrong order: %s", text)
	}
	if strings.Index(text, "http.auth.user.id") < position(directive) {
		t.Errorf("request_header runs before the directive: %s", text)
	}
}

func readGoldenInput(t *testing.T, name string) string {
	t.Helper()
	for _, g := range goldens(t) {
		if g.name == name {
			return g.input
		}
	}
	t.Fatalf("no golden file %s", name)
	return ""
}
