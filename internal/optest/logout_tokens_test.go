package optest

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLogoutToken(t *testing.T) {
	t.Parallel()
	p := New(t, WithIssuerPath("/realms/demo"))
	p.SetIntrospectionClient("app", "the secret of the app")
	p.Advance(time.Hour)
	before := p.now().Unix()
	tests := map[string]struct {
		edits    []func(Claims)
		sid, sub any
	}{
		"nobody":      {nil, nil, nil},
		"nil":         {[]func(Claims){nil}, nil, nil},
		"sid":         {[]func(Claims){BySID("s")}, "s", nil},
		"sub":         {[]func(Claims){BySub("alice")}, nil, "alice"},
		"both":        {[]func(Claims){BySIDAndSub("s", "alice")}, "s", "alice"},
		"later edits": {[]func(Claims){BySub("alice"), BySID("s"), func(c Claims) { c["sub"], c["iat"] = "bob", nil }}, "s", "bob"},
	}
	seen := make(map[any]bool)
	for name, test := range tests {
		token := p.LogoutToken(test.edits...)
		header, claims := open(t, token, p.Key("rs-1"))
		if header["typ"] != "logout+jwt" || header["alg"] != "RS256" || header["kid"] != "rs-1" {
			t.Errorf("%s: header %v", name, header)
		}
		events, _ := claims["events"].(map[string]any)
		if event, ok := events[LogoutEvent].(map[string]any); !ok || len(event) != 0 || len(events) != 1 {
			t.Errorf("%s: events %v", name, claims["events"])
		}
		if claims["sid"] != test.sid || claims["sub"] != test.sub || claims["iss"] != p.Issuer() || claims["aud"] != "app" || seen[claims["jti"]] {
			t.Errorf("%s: claims %v", name, claims)
		}
		seen[claims["jti"]] = true
		if issued, ok := claims["iat"].(float64); ok && (claims["exp"] != issued+120 || int64(issued) < before) || ok == (name == "later edits") {
			t.Errorf("%s: claims %v", name, claims)
		}
		if !slices.Contains(p.Issued(), token) {
			t.Errorf("%s: not a secret", name)
		}
	}
	header, _ := open(t, p.LogoutTokenWithHeader(Claims{"typ": nil, "kid": "nobody"}, BySID("s")), p.Key("rs-1"))
	if header["typ"] != nil || header["kid"] != "nobody" || len(header) != 2 {
		t.Errorf("header = %v", header)
	}
}

func TestForgedLogoutTokens(t *testing.T) {
	t.Parallel()
	p := New(t)
	forged := p.ForgedLogoutTokens(t, BySID("s"))
	names := slices.Sorted(maps.Keys(forged))
	if len(names) != 18 {
		t.Errorf("%q", names)
	}
	seen := make(map[string]bool)
	key := p.Key("rs-1")
	for name, token := range forged {
		parts := strings.Split(token, ".")
		if len(parts) != 3 || seen[token] || !slices.Contains(p.Issued(), token) {
			t.Fatalf("%s: %q", name, token)
		}
		seen[token] = true
		header, claims := decodeClaims(parts[0]), decodeClaims(parts[1])
		if header["typ"] != "logout+jwt" || claims["sid"] != "s" || claims["iss"] != p.Issuer() || claims["events"] == nil {
			t.Errorf("%s: %v %v", name, header, claims)
		}
		input, signature := split(t, token)
		good := len(signature) > 0 && header["alg"] == "RS256" && verify("RS256", key.Public(), input, signature)
		if good != (name == "crit header") {
			t.Errorf("%s: signed well: %t", name, good)
		}
		// By nothing but its signature does a provider know its own.
		if p.ownIDToken(token) != nil != slices.Contains([]string{"crit header", "HS256 by the client secret"}, name) {
			t.Errorf("%s: passes for a hint", name)
		}
	}
	p.SetSigningKey(p.Key("es-1"))
	if forged := p.ForgedLogoutTokens(t); len(forged) != 16 || forged["RS512"] != "" || forged["another key"] == "" {
		t.Errorf("with an EC key: %d", len(forged))
	}
}

func TestOwnIDToken(t *testing.T) {
	t.Parallel()
	p := New(t)
	for _, alg := range []string{"RS256", "PS384", "ES256", "ES512", "EdDSA"} {
		key := NewKey(t, alg, "k")
		token := Sign(key, nil, p.IDClaims(nil))
		if p.ownIDToken(token) != nil {
			t.Errorf("%s: a stranger's token passes", alg)
		}
		p.SetSigningKey(key)
		if p.ownIDToken(token)["sub"] != "alice" || p.ownIDToken(p.IDToken(nil)) == nil {
			t.Errorf("%s: an own token does not pass", alg)
		}
		input, signature, _ := cutLast(token, ".")
		for _, broken := range []string{input, input + ".", input + ".!", input + "." + changed(signature), "." + signature, "..", ""} {
			if p.ownIDToken(broken) != nil {
				t.Errorf("%s: %q passes", alg, broken)
			}
		}
	}
}
