package optest

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestMetadata(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		options []Option
		path    string // of the metadata document
		absent  string
	}{
		"root":         {nil, "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"},
		"path":         {[]Option{WithIssuerPath("/realms/demo")}, "/realms/demo/.well-known/openid-configuration", "/.well-known/openid-configuration"},
		"slash":        {[]Option{WithIssuerPath("/")}, "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"},
		"OAuth":        {[]Option{WithOAuthMetadataOnly()}, "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"},
		"OAuth path":   {[]Option{WithOAuthMetadataOnly(), WithIssuerPath("/t")}, "/.well-known/oauth-authorization-server/t", "/t/.well-known/openid-configuration"},
		"TLS":          {[]Option{WithTLS()}, "/.well-known/openid-configuration", "/nothing"},
		"own TLS cert": {[]Option{WithCertificate(NewCertificate(t, nil))}, "/.well-known/openid-configuration", "/nothing"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := New(t, test.options...)
			status, body := get(t, p, p.URL()+test.path)
			var m map[string]any
			if err := json.Unmarshal(body, &m); err != nil || status != http.StatusOK {
				t.Fatalf("status %d, %v", status, err)
			}
			if m["issuer"] != p.Issuer() || m["jwks_uri"] != p.Endpoint(JWKS) || m["introspection_endpoint"] != p.Endpoint(Introspection) || m["token_endpoint"] != p.Endpoint(Token) {
				t.Errorf("metadata = %v", m)
			}
			if status, _ := get(t, p, p.URL()+test.absent); status != http.StatusNotFound {
				t.Errorf("%s: status %d, want 404", test.absent, status)
			}
			if status, _ := get(t, p, m["jwks_uri"].(string)); status != http.StatusOK || p.Hits(JWKS) != 1 {
				t.Errorf("jwks: status %d, %d hits", status, p.Hits(JWKS))
			}
			p.SetMetadata(func(m map[string]any) { m["issuer"] = "https://evil.example" })
			if _, body := get(t, p, p.URL()+test.path); !strings.Contains(string(body), "https://evil.example") {
				t.Errorf("edited metadata = %s", body)
			}
		})
	}
}

func TestKeySet(t *testing.T) {
	t.Parallel()
	p := New(t)
	if got := published(t, p); !slices.Equal(got, []string{"rs-1", "es-1"}) {
		t.Errorf("keys = %v", got)
	}
	p.AddKey(NewKey(t, "EdDSA", "ed-1"))
	p.RemoveKey("es-1")
	rotated := p.Rotate(t)
	if got := published(t, p); !slices.Equal(got, []string{"ed-1", "rs-2"}) || p.Key("rs-2") != rotated {
		t.Errorf("keys after rotation = %v", got)
	}
	if header, _ := open(t, p.AccessToken(nil), rotated); header["kid"] != "rs-2" {
		t.Errorf("header after rotation = %v", header)
	}
	p.SetCacheControl("max-age=7")
	p.SetJWKS([]byte("<html>"))
	answer, err := p.Client().Get(p.Endpoint(JWKS))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, _ := io.ReadAll(answer.Body); string(body) != "<html>" || answer.Header.Get("Cache-Control") != "max-age=7" {
		t.Errorf("body %q, header %v", body, answer.Header)
	}
	p.SetJWKS(nil)
	if got := published(t, p); len(got) != 2 {
		t.Errorf("keys after SetJWKS(nil) = %v", got)
	}
}

func TestIntrospection(t *testing.T) {
	t.Parallel()
	certificate := NewCertificate(t, nil)
	p := New(t, WithTLS())
	p.SetIntrospectionClient("my client", "a:b+c%&")
	p.SetAssertionChecker(func(assertion string) error {
		if assertion != "good" {
			return errors.New("bad assertion")
		}
		return nil
	})
	p.SetClientCertificate(certificate.Leaf)
	active := p.OpaqueToken(Claims{"sub": "carol"})
	p.Revoke(p.OpaqueToken(nil))
	basic := func(id, secret string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret)) }
	}
	form := func(pairs ...string) url.Values {
		values := url.Values{"token": {active}}
		for i := 0; i < len(pairs); i += 2 {
			values.Set(pairs[i], pairs[i+1])
		}
		return values
	}
	tests := map[string]struct {
		edit        func(*http.Request)
		form        url.Values
		certificate bool
		status      int
		body        string
	}{
		"basic":             {edit: basic("my client", "a:b+c%&"), form: form(), status: 200, body: `{"active":true,"sub":"carol"}`},
		"basic not encoded": {edit: func(r *http.Request) { r.SetBasicAuth("my client", "a:b+c%&") }, form: form(), status: 401},
		"wrong secret":      {edit: basic("my client", "x"), form: form(), status: 401},
		"post":              {form: form("client_id", "my client", "client_secret", "a:b+c%&"), status: 200, body: `{"active":true,"sub":"carol"}`},
		"two methods":       {edit: basic("my client", "a:b+c%&"), form: form("client_secret", "a:b+c%&"), status: 400},
		"assertion":         {form: form("client_assertion", "good", "client_assertion_type", assertionType), status: 200, body: `{"active":true,"sub":"carol"}`},
		"wrong assertion":   {form: form("client_assertion", "bad", "client_assertion_type", assertionType), status: 401},
		"certificate":       {form: form("client_id", "my client"), certificate: true, status: 200, body: `{"active":true,"sub":"carol"}`},
		"no certificate":    {form: form("client_id", "my client"), status: 401},
		"no client":         {form: form(), status: 401},
		"unknown token":     {edit: basic("my client", "a:b+c%&"), form: form("token", "nope"), status: 200, body: `{"active":false}`},
		"no token":          {edit: basic("my client", "a:b+c%&"), form: url.Values{}, status: 400},
		"GET":               {edit: func(r *http.Request) { r.Method = http.MethodGet }, form: form(), status: 405},
	}
	for name, test := range tests {
		client := p.Client()
		if test.certificate {
			transport := client.Transport.(*http.Transport).Clone()
			transport.TLSClientConfig.Certificates = []tls.Certificate{certificate}
			client = &http.Client{Transport: transport}
			t.Cleanup(transport.CloseIdleConnections)
		}
		r, err := http.NewRequest(http.MethodPost, p.Endpoint(Introspection), strings.NewReader(test.form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if test.edit != nil {
			test.edit(r)
		}
		status, body := do(t, client, r)
		if status != test.status || (test.body != "" && string(body) != test.body) {
			t.Errorf("%s: %d %s, want %d %s", name, status, body, test.status, test.body)
		}
	}
	if p.Hits(Introspection) != len(tests) || len(p.Requests(Introspection)) != len(tests) {
		t.Errorf("%d hits, %d requests, want %d", p.Hits(Introspection), len(p.Requests(Introspection)), len(tests))
	}
	if issued := p.Issued(); !slices.Contains(issued, active) || !slices.Contains(issued, "a:b+c%&") || !slices.Contains(p.Assertions(), "bad") {
		t.Errorf("issued = %q, assertions = %q", issued, p.Assertions())
	}
}

func TestTokenEndpoint(t *testing.T) {
	t.Parallel()
	p := New(t)
	for grant, want := range map[string]int{"client_credentials": http.StatusOK, "password": http.StatusBadRequest} {
		form := url.Values{"grant_type": {grant}, "scope": {"orders:read"}, "client_id": {"client"}, "client_secret": {"secret"}}
		r, err := http.NewRequest(http.MethodPost, p.Endpoint(Token), strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		status, body := do(t, p.Client(), r)
		if status != want {
			t.Fatalf("%s: %d %s", grant, status, body)
		}
		if want != http.StatusOK {
			continue
		}
		var answer struct {
			AccessToken string `json:"access_token"`
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			t.Fatal(err)
		}
		if _, claims := open(t, answer.AccessToken, p.Key("rs-1")); claims["scope"] != "orders:read" {
			t.Errorf("claims = %v", claims)
		}
	}
}

func TestStart(t *testing.T) {
	t.Parallel()
	first, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	address := strings.TrimPrefix(first.URL(), "http://")
	if second, err := Start(WithAddress(address)); err == nil {
		second.Close()
		t.Fatal("two providers at one address")
	}
	first.Close()
	if answer, err := first.Client().Get(first.Endpoint(JWKS)); err == nil {
		answer.Body.Close()
		t.Error("answered after Close")
	}
}

func get(t *testing.T, p *Provider, address string) (int, []byte) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, p.Client(), r)
}

func do(t *testing.T, client *http.Client, r *http.Request) (int, []byte) {
	t.Helper()
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, body
}

func published(t *testing.T, p *Provider) []string {
	t.Helper()
	_, body := get(t, p, p.Endpoint(JWKS))
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(body, &set); err != nil {
		t.Fatal(err)
	}
	ids := make([]string, 0, len(set.Keys))
	for _, jwk := range set.Keys {
		ids = append(ids, jwk["kid"])
	}
	return ids
}
