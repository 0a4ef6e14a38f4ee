package provider

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Two configurations share a provider if their keys are equal, so every field that matters must be in the key. A new field fails
// here until it is: that is the point.
func TestConfigKey(t *testing.T) {
	t.Parallel()
	// These are told apart by a digest beside them, or by SameTrust; a name for logs is no matter of trust.
	elsewhere := []string{"RootCAs", "StaticKeys", "Proxy", "UserAgent"}
	// These matter where there would be no discovery without them; TestSharedDiscovery.
	reasons := []string{"WantDiscovery", "WantLogin", "KeysUnused"}
	certificate := optest.NewCertificate(t, nil)
	full := func() Config {
		return Config{
			Issuer: "https://op.example", Discovery: "https://op.example/d", StaticKeysDigest: "s", Timeout: time.Second, KeysLifetime: time.Minute,
			TrustDigest: "t", Certificates: []tls.Certificate{certificate}, ProxyDigest: "p", UserAgent: "u",
		}
	}
	for _, base := range []func() Config{func() Config { return Config{} }, full} {
		before := base()
		key := before.Key()
		if again := base(); again.Key() != key {
			t.Fatal("equal configurations have different keys")
		}
		if raw, err := hex.DecodeString(key); err != nil || len(raw) != 32 {
			t.Fatalf("the key is %q", key)
		}
		seen := map[string]string{key: "unchanged"}
		check := func(name string, changed *Config) {
			t.Helper()
			got := changed.Key()
			if slices.Contains(elsewhere, name) {
				if got != key {
					t.Errorf("%s changes the key, which depends on it by its digest already", name)
				}
				return
			}
			if other, ok := seen[got]; ok {
				t.Errorf("%s: the key is the one of: %s", name, other)
			}
			seen[got] = name
		}
		var walk func(prefix string, index []int, kind reflect.Type)
		walk = func(prefix string, index []int, kind reflect.Type) {
			for i := range kind.NumField() {
				field := kind.Field(i)
				at := append(slices.Clone(index), i)
				if field.Type.Kind() == reflect.Struct {
					walk(prefix+field.Name+".", at, field.Type)
					continue
				}
				if slices.Contains(reasons, field.Name) {
					continue
				}
				changed := base()
				change(t, reflect.ValueOf(&changed).Elem().FieldByIndex(at))
				check(prefix+field.Name, &changed)
			}
		}
		walk("", nil, reflect.TypeFor[Config]())
	}

	// Values next to each other do not run together.
	for _, pair := range [][2]Config{
		{{Issuer: "a", Discovery: "bc"}, {Issuer: "ab", Discovery: "c"}},
		{{Issuer: "a1:b;"}, {Issuer: "a", Discovery: "b"}},
		{{Endpoints: Endpoints{Token: "x"}}, {Endpoints: Endpoints{Userinfo: "x"}}},
		{{Certificates: []tls.Certificate{{Certificate: [][]byte{{1}, {2}}}}}, {Certificates: []tls.Certificate{{Certificate: [][]byte{{1, 2}}}}}},
		{{Certificates: []tls.Certificate{{Certificate: [][]byte{{1}, {2}}}}}, {Certificates: []tls.Certificate{{Certificate: [][]byte{{1}}}, {Certificate: [][]byte{{2}}}}}},
		{{Certificates: []tls.Certificate{{Certificate: [][]byte{{1}}}}}, {}},
	} {
		if pair[0].Key() == pair[1].Key() {
			t.Errorf("%+v and %+v have one key", pair[0], pair[1])
		}
	}
	// A private key is a secret and says nothing that its certificate does not.
	withKey, withoutKey := full(), full()
	withoutKey.Certificates = []tls.Certificate{{Certificate: certificate.Certificate}}
	if withKey.Key() != withoutKey.Key() {
		t.Error("the private key of a certificate goes into the key")
	}
}

// A handler with logins shares the provider of one without, wherever both discover; where only one does, they know different things.
func TestSharedDiscovery(t *testing.T) {
	t.Parallel()
	wants := map[string]func(c *Config){
		"discovery": func(c *Config) { c.WantDiscovery = true },
		"login":     func(c *Config) { c.WantLogin = true },
	}
	tests := map[string]struct {
		config    Config
		discovers bool
		shared    []string
	}{
		"issuer":     {Config{Issuer: "https://op.example"}, true, []string{"discovery", "login"}},
		"document":   {Config{Discovery: "https://op.example/d", Endpoints: Endpoints{JWKSURI: "https://op.example/k"}}, true, []string{"discovery", "login"}},
		"jwks_uri":   {Config{Issuer: "https://op.example", Endpoints: Endpoints{JWKSURI: "https://op.example/k"}}, false, nil},
		"only token": {Config{Issuer: "https://op.example", Endpoints: Endpoints{JWKSURI: "https://op.example/k", Token: "https://op.example/t"}}, false, nil},
		"only authorization": {
			Config{Issuer: "https://op.example", Endpoints: Endpoints{JWKSURI: "https://op.example/k", Authorization: "https://op.example/a"}}, false, nil,
		},
		"all for a login": {
			Config{Issuer: "https://op.example", Endpoints: Endpoints{
				JWKSURI: "https://op.example/k", Token: "https://op.example/t", Authorization: "https://op.example/a",
			}}, false, []string{"login"},
		},
		"all but keys": {
			Config{Issuer: "https://op.example", Endpoints: Endpoints{Token: "https://op.example/t", Authorization: "https://op.example/a"}},
			true,
			[]string{"discovery", "login"},
		},
	}
	for name, test := range tests {
		if got := test.config.discovers(); got != test.discovers {
			t.Errorf("%s: discovers = %t", name, got)
		}
		for want, edit := range wants {
			changed := test.config
			edit(&changed)
			shared := slices.Contains(test.shared, want)
			if got := changed.Key() == test.config.Key(); got != shared {
				t.Errorf("%s, want %s: one key: %t", name, want, got)
			}
			if discovers := changed.discovers(); discovers != (test.discovers || !shared) {
				t.Errorf("%s, want %s: discovers = %t", name, want, discovers)
			}
		}
	}
}

// change gives a field another value than it has.
func change(t *testing.T, field reflect.Value) {
	t.Helper()
	switch field.Interface().(type) {
	case string:
		field.SetString(field.String() + "x")
	case bool:
		field.SetBool(!field.Bool())
	case time.Duration:
		field.SetInt(field.Int() + 1)
	case []tls.Certificate:
		field.Set(reflect.Append(field, reflect.ValueOf(optest.NewCertificate(t, nil))))
	case *x509.CertPool:
		field.Set(reflect.ValueOf(x509.NewCertPool()))
	case *jose.KeySet:
		field.Set(reflect.ValueOf(new(jose.KeySet)))
	case func(*http.Request) (*url.URL, error):
		field.Set(reflect.ValueOf(func(*http.Request) (*url.URL, error) { return nil, nil }))
	default:
		t.Fatalf("no other value for a %s", field.Type())
	}
}

func TestSameTrust(t *testing.T) {
	t.Parallel()
	a, b := optest.NewCertificate(t, nil).Leaf, optest.NewCertificate(t, nil).Leaf
	for _, test := range []struct {
		name        string
		first, then *x509.CertPool
		want        bool
	}{
		{"system's", nil, nil, true},
		{"system's and own", nil, poolOf(a), false},
		{"own and system's", poolOf(a), nil, false},
		{"empty and system's", poolOf(), nil, false},
		{"equal", poolOf(a), poolOf(a), true},
		{"equal, in another order", poolOf(a, b), poolOf(b, a), true},
		{"other", poolOf(a), poolOf(b), false},
		{"one more", poolOf(a), poolOf(a, b), false},
		{"one less", poolOf(a, b), poolOf(a), false},
		{"empty", poolOf(), poolOf(), true},
	} {
		first, then := Config{RootCAs: test.first}, Config{RootCAs: test.then}
		if got := first.SameTrust(&then); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	for text, good := range map[string]bool{
		"https://op.example":                     true,
		"https://op.example/":                    true,
		"https://op.example:8443/realms/a?b=c":   true,
		"https://OP.example/%20":                 true,
		"HTTPS://op.example":                     true,
		"http://op.example":                      true,
		"http://127.0.0.1:8080/x":                true,
		"https://[2001:db8::1]:443/x":            true,
		"https://xn--bcher-kva.example":          true,
		"":                                       false,
		" ":                                      false,
		"op.example":                             false,
		"//op.example":                           false,
		"/path":                                  false,
		"https:":                                 false,
		"https://":                               false,
		"https:///path":                          false,
		"https://:443/x":                         false,
		"https://?x":                             false,
		"https:op.example":                       false,
		"https://user@op.example":                false,
		"https://user:password@op.example":       false,
		"https://:password@op.example":           false,
		"https://@op.example":                    false,
		"https://op.example/#a":                  false,
		"https://op.example/#":                   false,
		"ftp://op.example":                       false,
		"file:///etc/passwd":                     false,
		"javascript:alert(1)":                    false,
		"mailto:a@op.example":                    false,
		"unix//run/op.sock":                      false,
		"https://op.example/\n":                  false,
		"https://op.example/\x00":                false,
		" https://op.example":                    false,
		"https://op example":                     false,
		"https://op.example:port":                false,
		"https://op.example/%zz":                 false,
		"https://[::1":                           false,
		"{env.ISSUER}":                           false,
		"https://user:hidden@op.example/%zz":     false,
		"https://user:hid%zzden@op.example":      false,
		"ftp://user:hidden@op.example/":          false,
		"https://user:hidden@op.example:port/":   false,
		"https://user:hidden@op.example/x#y":     false,
		"https://user:hidden@op example/":        false,
		"https://user:hidden\x7f@op.example/":    false,
		"//user:hidden@op.example/":              false,
		"https:user:hidden@op.example/":          false,
		"mongodb+srv://user:hidden@op.example/x": false,
	} {
		err := CheckURL(text)
		if (err == nil) != good {
			t.Errorf("CheckURL(%q) = %v", text, err)
		}
		if err != nil && (strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), "password@")) {
			t.Errorf("CheckURL(%q) quotes the password: %v", text, err)
		}
	}
}

func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"https://op.example":          false,
		"HTTPS://op.example":          false,
		"https://127.0.0.1":           false,
		"http://op.example":           true,
		"HTTP://op.example/x":         true,
		"http://10.0.0.1":             true,
		"http://192.168.1.1:8080":     true,
		"http://169.254.169.254":      true,
		"http://0.0.0.0":              true,
		"http://[2001:db8::1]":        true,
		"http://localhost.example":    true,
		"http://notlocalhost":         true,
		"http://127.0.0.1.nip.io":     true,
		"http://op.example/127.0.0.1": true,
		"http://127.0.0.1":            false,
		"http://127.0.0.1:8080/x":     false,
		"http://127.8.9.10":           false,
		"http://[::1]:8080":           false,
		"http://[::ffff:127.0.0.1]":   false,
		"http://localhost":            false,
		"http://localhost:8080/x":     false,
		"http://op.localhost":         false,
		"":                            false,
		"op.example":                  false,
		"http://%zz":                  false,
	} {
		if got := PlainHTTP(text); got != want {
			t.Errorf("PlainHTTP(%q) = %v, want %v", text, got, want)
		}
	}
}
