package apisix_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-openid-connect/caddy-openid-connect"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/apisix"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

var update = flag.Bool("update", false, "write golden files and the table of the documentation anew")

func init() { caddy.RegisterModule(new(redisStore)) }

// redisStore has the grammar of the storage that is a Go module of its own, and stores nothing.
type redisStore struct {
	Settings map[string]string `json:"settings,omitempty"`

	session.Backend `json:"-"`
}

func (*redisStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.openid_connect.session_stores.redis", New: func() caddy.Module { return new(redisStore) }}
}

var redisSettings = map[string]string{
	"host": `^[^/@ ]+$`, "port": `^[1-9][0-9]*$`, "username": ".", "password": ".", "database": "^[0-9]+$", "prefix": `^\S+$`, "ssl": "^$",
	"ssl_verify": "^off$", "server_name": ".", "connect_timeout": `^[1-9][0-9]*(ms|s|m|h)$`, "send_timeout": `^[1-9][0-9]*(ms|s|m|h)$`,
	"read_timeout": `^[1-9][0-9]*(ms|s|m|h)$`, "keepalive_timeout": `^[1-9][0-9]*(ms|s|m|h)$`,
}

func (s *redisStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	s.Settings = make(map[string]string)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		value := strings.Join(d.RemainingArgs(), "\x00")
		pattern, ok := redisSettings[name]
		switch _, twice := s.Settings[name]; {
		case !ok, twice:
			return d.Errf("unrecognized or repeated subdirective %q", name)
		case !regexp.MustCompile(pattern).MatchString(value), strings.Contains(value, "\x00"):
			return d.Errf("%s: %q", name, value)
		}
		s.Settings[name] = value
	}
	for name, needs := range map[string]string{"username": "password", "server_name": "ssl", "ssl_verify": "ssl"} {
		if _, set := s.Settings[name]; set {
			if _, there := s.Settings[needs]; !there {
				return d.Errf("%s needs %s", name, needs)
			}
		}
	}
	return nil
}

// secretValue is long enough for everything that takes a secret.
const secretValue = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// environment has what the Caddyfiles of these tests ask for.
func environment(t testing.TB) (keyFile string) {
	t.Helper()
	for _, name := range []string{"OIDC_CLIENT_SECRET", "OIDC_SESSION_SECRET", "REDIS_PASSWORD", "SECRET"} {
		t.Setenv(name, secretValue)
	}
	t.Setenv("OIDC_ISSUER", "https://id.example.com")
	t.Setenv("PUBLIC_KEY", publicKey)
	t.Setenv("PRIVATE_KEY", privateKey)
	t.Setenv("NAME", "name")
	keyFile = filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(keyFile, []byte(privateKey), 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.ToSlash(keyFile)
}

// adapt turns a Caddyfile into JSON; a warning, such as that it is not formatted, is an error.
func adapt(text string) ([]byte, error) {
	adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	for _, warning := range warnings {
		err = errors.Join(err, errors.New(warning.String()))
	}
	return adapted, err
}

// load adapts and validates a Caddyfile as "caddy validate" does, and returns the directive as JSON.
func load(t testing.TB, keyFile, text string) map[string]any {
	t.Helper()
	handler, err := tryLoad(t, keyFile, text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return handler
}

func tryLoad(t testing.TB, keyFile, text string) (map[string]any, error) {
	t.Helper()
	adapted, err := adapt(strings.ReplaceAll(text, "/etc/caddy/oidc-client-key.pem", keyFile))
	if err != nil {
		return nil, err
	}
	var config *caddy.Config
	if err := caddy.StrictUnmarshalJSON(adapted, &config); err != nil {
		return nil, err
	}
	config.StorageRaw, _ = json.Marshal(map[string]string{"module": "file_system", "root": filepath.Dir(keyFile)})
	if err := caddy.Validate(config); err != nil {
		return nil, err
	}
	var any map[string]any
	if err := json.Unmarshal(adapted, &any); err != nil {
		return nil, err
	}
	handlers := handlersIn(any)
	if len(handlers) == 0 {
		return nil, errors.New("there is no openid_connect in it")
	}
	return handlers[0], nil
}

// handlersIn finds the directive, wherever it is.
func handlersIn(node any) []map[string]any {
	var found []map[string]any
	switch node := node.(type) {
	case map[string]any:
		if node["handler"] == "openid_connect" {
			return []map[string]any{node}
		}
		for _, inner := range node {
			found = append(found, handlersIn(inner)...)
		}
	case []any:
		for _, inner := range node {
			found = append(found, handlersIn(inner)...)
		}
	}
	return found
}

func convert(t testing.TB, input string) *apisix.Conversion {
	t.Helper()
	conversion, err := apisix.Convert([]byte(input), apisix.Options{})
	if err != nil {
		t.Fatalf("%v\n%s", err, input)
	}
	return conversion
}

// outcomeOf is what has become of an attribute.
func outcomeOf(conversion *apisix.Conversion, name string) apisix.Attribute {
	for _, attribute := range conversion.Attributes {
		if attribute.Name == name {
			return attribute
		}
	}
	return apisix.Attribute{}
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}
