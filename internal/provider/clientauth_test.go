package provider

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// S-173: credentials of any characters arrive as they are (RFC 6749 section 2.3.1), by the one method that is configured.
func TestClientSecret(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]string{
		{"client", "secret"},
		{"client:with:colons", "se:cr:et"},
		{"100%", "%3A%"},
		{"a+b", "c+d e"},
		{"client id", " secret "},
		{"clïent", "gehéimnis😀"},
		{"https://rp.example/?a=b&c=d#e", `"'<>&=/\`},
		{"client", "*-._~!$()"},
		{"client\n", "\x00\x7f"},
	} {
		for _, method := range []string{ClientSecretBasic, ClientSecretPost} {
			t.Run(fmt.Sprintf("%s, %q", method, pair), func(t *testing.T) {
				t.Parallel()
				op := optest.New(t)
				op.SetIntrospectionClient(pair[0], pair[1])
				p := newProvider(t, op, nil)
				ask := func(client ClientAuthentication) error {
					_, _, err := p.NewIntrospector(&client).Introspect(t.Context(), op.OpaqueToken(nil), nil)
					return err
				}
				good := ClientAuthentication{Method: method, ClientID: pair[0], ClientSecret: pair[1]}
				if err := ask(good); err != nil {
					t.Fatal(err)
				}
				request := op.Requests(optest.Introspection)[0]
				_, basicUsed := request.Header["Authorization"]
				if basicUsed != (method == ClientSecretBasic) || request.Form.Has("client_secret") != (method == ClientSecretPost) || request.URL.RawQuery != "" {
					t.Errorf("the request uses other methods too: %v, %v", request.Header, request.Form)
				}
				wrong := good
				wrong.ClientSecret += "x"
				if err := ask(wrong); !errors.Is(err, ErrIntrospection) || len(pair[1]) > 3 && strings.Contains(err.Error(), pair[1]) {
					t.Errorf("with a wrong secret: %v", err)
				}
				wrong = good
				wrong.ClientID += "x"
				if err := ask(wrong); !errors.Is(err, ErrIntrospection) {
					t.Errorf("with a wrong client: %v", err)
				}
				if hits := op.Hits(optest.Introspection); hits != 3 {
					t.Errorf("%d requests: another method was tried", hits)
				}
			})
		}
	}
}

// The very bytes of client_secret_basic, for one case that shows the encoding.
func TestClientSecretBasicBytes(t *testing.T) {
	t.Parallel()
	c := call{header: make(http.Header)}
	client := &ClientAuthentication{Method: ClientSecretBasic, ClientID: "a:b", ClientSecret: "p%q +ü"}
	if err := client.apply(&c, &Metadata{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if want := "Basic " + base64.StdEncoding.EncodeToString([]byte("a%3Ab:p%25q+%2B%C3%BC")); c.header.Get("Authorization") != want {
		t.Errorf("Authorization: %s, want %s", c.header.Get("Authorization"), want)
	}
}

// readAssertion reads an assertion without checking its signature.
func readAssertion(t *testing.T, raw string) (header, claims map[string]any) {
	t.Helper()
	for i, part := range strings.Split(raw, ".")[:2] {
		text, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, []*map[string]any{&header, &claims}[i]); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

// RFC 7523: a fresh assertion for each call, for the issuer and nobody else, good for a minute.
func TestClientAssertion(t *testing.T) {
	t.Parallel()
	secret := strings.Repeat("s", 32)
	for _, alg := range []string{"HS256", "RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			op := optest.New(t, optest.WithIssuerPath("/realms/demo"))
			client := &ClientAuthentication{Method: PrivateKeyJWT, ClientID: "client", ClientSecret: "not to be sent", AssertionLifetime: time.Minute}
			var keys *jose.KeySet
			var err error
			if jose.Symmetric(alg) {
				client.Method = ClientSecretJWT
				client.Signer, err = jose.NewSecretSigner([]byte(secret), alg)
				if err == nil {
					keys, err = jose.SecretKeySet([]byte(secret))
				}
			} else {
				key := optest.NewKey(t, alg, "our-key")
				client.Signer, err = jose.ParsePrivateKey(key.PrivatePEM(), alg, "our-key")
				if err == nil {
					keys, _, err = jose.ParseKeySet(optest.KeySet(key))
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			op.SetAssertionChecker(func(raw string) error {
				if !signed(t, keys, raw) {
					return errors.New("not signed by the client")
				}
				return nil
			})
			p := newProvider(t, op, nil)
			introspector := p.NewIntrospector(client)
			before := time.Now().Unix()
			for range 3 {
				if _, _, err := introspector.Introspect(t.Context(), op.OpaqueToken(nil), nil); err != nil {
					t.Fatal(err)
				}
			}
			seen := map[any]bool{}
			for _, raw := range op.Assertions() {
				header, claims := readAssertion(t, raw)
				if header["alg"] != alg || header["typ"] != "JWT" || !jose.Symmetric(alg) && header["kid"] != "our-key" || len(header) > 3 {
					t.Errorf("header %v", header)
				}
				if claims["iss"] != "client" || claims["sub"] != "client" || claims["aud"] != op.Issuer() || len(claims) != 6 {
					t.Errorf("claims %v", claims)
				}
				issued, expiry := int64(claims["iat"].(float64)), int64(claims["exp"].(float64))
				if issued < before || issued > time.Now().Unix() || expiry-issued != 60 {
					t.Errorf("issued at %d, expires %d", issued, expiry)
				}
				id, _ := claims["jti"].(string)
				if seen[id] || len(id) < 22 {
					t.Errorf("jti %q, of %d", id, len(seen))
				}
				seen[id] = true
			}
			for _, request := range op.Requests(optest.Introspection) {
				form := request.Form
				if request.Header.Get("Authorization") != "" || form.Has("client_secret") || form.Get("client_id") != "client" ||
					form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" || len(form["client_assertion"]) != 1 {
					t.Errorf("request %v, %v", request.Header, form)
				}
			}
			if len(seen) != 3 {
				t.Errorf("%d assertions for 3 calls", len(seen))
			}

			client.AssertionAudience, client.AssertionLifetime = "https://op.example/token", 5*time.Second
			if _, _, err := introspector.Introspect(t.Context(), op.OpaqueToken(nil), nil); err != nil {
				t.Fatal(err)
			}
			assertions := op.Assertions()
			if _, claims := readAssertion(t, assertions[3]); claims["aud"] != "https://op.example/token" || claims["exp"].(float64)-claims["iat"].(float64) != 5 {
				t.Errorf("configured: %v", claims)
			}
			// another key is another client
			op.SetAssertionChecker(func(string) error { return errors.New("unknown key") })
			if _, _, err := introspector.Introspect(t.Context(), op.OpaqueToken(nil), nil); !errors.Is(err, ErrIntrospection) || strings.Contains(err.Error(), assertions[3]) {
				t.Errorf("refused: %v", err)
			}
		})
	}
}

// RFC 8705: the certificate of the connection is the credential.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	certificate, foreign := optest.NewCertificate(t, nil), optest.NewCertificate(t, nil)
	for _, method := range []string{TLSClientAuth, SelfSignedTLSClientAuth} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			op := optest.New(t, optest.WithTLS())
			op.SetClientCertificate(certificate.Leaf)
			client := &ClientAuthentication{Method: method, ClientID: "client", ClientSecret: "not to be sent"}
			ask := func(edit func(c *Config)) error {
				_, _, err := newProvider(t, op, edit).NewIntrospector(client).Introspect(t.Context(), op.OpaqueToken(nil), nil)
				return err
			}
			if err := ask(func(c *Config) { c.Certificates = append(c.Certificates, certificate) }); err != nil {
				t.Errorf("with the certificate: %v", err)
			}
			requests := op.Requests(optest.Introspection)
			form := requests[0].Form
			if len(requests[0].PeerCertificates) != 1 || form.Get("client_id") != "client" || len(form) != 3 || requests[0].Header.Get("Authorization") != "" {
				t.Errorf("request with %d certificates, %v, %v", len(requests[0].PeerCertificates), form, requests[0].Header)
			}
			if err := ask(func(c *Config) { c.Certificates = append(c.Certificates, foreign) }); !errors.Is(err, ErrIntrospection) {
				t.Errorf("with another certificate: %v", err)
			}
			if err := ask(nil); !errors.Is(err, ErrIntrospection) {
				t.Errorf("without a certificate: %v", err)
			}
		})
	}
}

// Without a method, or with a signer that cannot sign, nothing is sent: not even the token.
func TestClientAuthenticationMissing(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	p := newProvider(t, op, nil)
	for _, method := range []string{"", "None", "client_secret", "CLIENT_SECRET_BASIC", ClientSecretJWT, PrivateKeyJWT} {
		client := &ClientAuthentication{Method: method, ClientID: "client", ClientSecret: "secret"}
		if _, _, err := p.NewIntrospector(client).Introspect(t.Context(), "token", nil); !errors.Is(err, ErrIntrospection) {
			t.Errorf("method %q: %v", method, err)
		}
	}
	if hits := op.Hits(optest.Introspection); hits != 0 {
		t.Errorf("%d requests", hits)
	}
	if _, _, err := p.NewIntrospector(basic).Introspect(t.Context(), "token", nil); err != nil {
		t.Errorf("with a method: %v", err)
	}
}

// A certificate for mutual TLS is offered to its own provider alone.
func TestClientCertificateStays(t *testing.T) {
	t.Parallel()
	certificate := optest.NewCertificate(t, nil)
	op, other := optest.New(t, optest.WithTLS()), optest.New(t, optest.WithTLS())
	if _, err := newProvider(t, op, func(c *Config) { c.Certificates = append(c.Certificates, certificate) }).Keys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := newProvider(t, other, func(c *Config) { c.RootCAs = poolOf(op.Certificate(), other.Certificate()) }).Keys(t.Context()); err != nil {
		t.Fatal(err)
	}
	offered := func(op *optest.Provider) (all []*x509.Certificate) {
		for _, request := range op.Requests(optest.JWKS) {
			all = append(all, request.PeerCertificates...)
		}
		return all
	}
	if len(offered(op)) != 1 || len(offered(other)) != 0 {
		t.Errorf("offered %d times to its own, %d times to another", len(offered(op)), len(offered(other)))
	}
}
