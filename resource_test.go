package openidconnect

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

func TestResourceMetadata(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	tests := map[string]struct {
		settings string
		paths    []string // that answer
		resource func(origin string) string
		url      func(origin string) string // in challenges
	}{
		"of the whole origin": {
			settings: "protected_resource",
			paths:    []string{"/.well-known/oauth-protected-resource"},
			resource: func(origin string) string { return origin },
			url:      func(origin string) string { return origin + "/.well-known/oauth-protected-resource" },
		},
		"of a path": {
			settings: "protected_resource {\nresource /mcp\n}",
			paths:    []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"},
			resource: func(origin string) string { return origin + "/mcp" },
			url:      func(origin string) string { return origin + "/.well-known/oauth-protected-resource/mcp" },
		},
		"of a URL": {
			settings: "protected_resource {\nresource https://mcp.example.com/v1/\nscopes_supported read write\nresource_name \"My MCP\"\nresource_documentation https://mcp.example.com/docs#tokens\n}",
			paths:    []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/v1", "/.well-known/oauth-protected-resource/v1/"},
			resource: func(string) string { return "https://mcp.example.com/v1/" },
			url:      func(string) string { return "https://mcp.example.com/.well-known/oauth-protected-resource/v1" },
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newBearerSite(t, p, "audience api\n"+test.settings)
			for _, path := range test.paths {
				answer := s.get(path, "Origin: https://client.example")
				if answer.StatusCode != http.StatusOK || answer.Header.Get("Access-Control-Allow-Origin") != "*" {
					t.Fatalf("%s: got %d %v", path, answer.StatusCode, answer.Header)
				}
				var document struct {
					Resource string   `json:"resource"`
					Servers  []string `json:"authorization_servers"`
					Methods  []string `json:"bearer_methods_supported"`
				}
				if err := json.Unmarshal([]byte(answer.body), &document); err != nil {
					t.Fatal(err)
				}
				if want := test.resource(s.server.URL); document.Resource != want {
					t.Errorf("%s: resource is %q, want %q", path, document.Resource, want)
				}
				if !slices.Equal(document.Servers, []string{p.Issuer()}) || !slices.Equal(document.Methods, []string{"header"}) {
					t.Errorf("%s: got servers %v and methods %v", path, document.Servers, document.Methods)
				}
			}
			for _, refused := range []*reply{s.get("/x"), s.bearer("nonsense")} {
				challenge := refused.Header.Get("WWW-Authenticate")
				if want := `resource_metadata="` + test.url(s.server.URL) + `"`; !strings.Contains(challenge, want) {
					t.Errorf("challenge %q lacks %q", challenge, want)
				}
			}
			for _, path := range []string{
				"/.well-known/oauth-protected-resource/other", "/.well-known/%6fauth-protected-resource",
				"/x/../.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/", "/.well-known/oauth-protected-resource/mcp/",
			} {
				if answer := s.get(path); answer.StatusCode != http.StatusUnauthorized {
					t.Errorf("%s: got %d, want 401 as for any other path", path, answer.StatusCode)
				}
			}
			if s.reached() != 0 {
				t.Errorf("%d requests reached the upstream", s.reached())
			}
		})
	}
}

func TestResourceMetadataMethods(t *testing.T) {
	t.Parallel()
	s := newBearerSite(t, optest.New(t), "audience api\nprotected_resource\nbearer_token_from query access_token")
	const path = "/.well-known/oauth-protected-resource"
	for method, want := range map[string]int{
		http.MethodGet: 200, http.MethodHead: 200, http.MethodOptions: 204, http.MethodPost: 405, http.MethodDelete: 405,
	} {
		request, err := http.NewRequest(method, s.server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if answer := s.do(request); answer.StatusCode != want {
			t.Errorf("%s: got %d, want %d", method, answer.StatusCode, want)
		} else if method == http.MethodGet && !strings.Contains(answer.body, `["header","query"]`) {
			t.Errorf("bearer methods are missing: %s", answer.body)
		}
	}
}

// A client cannot choose what the metadata and the challenges say: forwarded headers count from trusted proxies alone, and a Host
// that is none gets nothing reflected.
func TestResourceMetadataBelievesNoStranger(t *testing.T) {
	t.Parallel()
	s := newBearerSite(t, optest.New(t), "audience api\nprotected_resource")
	for _, headers := range [][]string{
		{"X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https"},
		{"Forwarded: host=evil.example;proto=https"},
	} {
		if answer := s.get("/", headers...); strings.Contains(answer.Header.Get("WWW-Authenticate"), "evil") {
			t.Errorf("%v: challenge is %q", headers, answer.Header.Get("WWW-Authenticate"))
		}
		answer := s.get("/.well-known/oauth-protected-resource", headers...)
		if answer.StatusCode != http.StatusOK || strings.Contains(answer.body, "evil") {
			t.Errorf("%v: got %d %s", headers, answer.StatusCode, answer.body)
		}
	}
	request, err := http.NewRequest(http.MethodGet, s.server.URL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = `a"b`
	if challenge := s.do(request).Header.Get("WWW-Authenticate"); strings.Contains(challenge, "resource_metadata") {
		t.Errorf("challenge reflects a Host that is none: %q", challenge)
	}
}

func TestPublicOrigin(t *testing.T) {
	t.Parallel()
	for host, valid := range map[string]bool{
		"app.example.com": true, "app.example.com:8443": true, "[::1]:80": true, "127.0.0.1": true, "a_b.example": true,
		"": false, "a@b": false, "a/b": false, "a b": false, `a"b`: false, "a\\b": false, "a?b": false, "a#b": false, ":80": false, "a,b": false,
	} {
		if isHost(host) != valid {
			t.Errorf("%q: got %v", host, !valid)
		}
	}
}
