package openidconnect

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Who renews authenticates as at the login, by the one method that is configured.

// refreshCredentials are what a token request shows of its client.
type refreshCredentials struct {
	id, secret string // of the form
	basic      bool
	assertion  bool
}

func credentialsOf(request optest.RecordedRequest) refreshCredentials {
	_, _, basic := (&http.Request{Header: request.Header}).BasicAuth()
	return refreshCredentials{request.Form.Get("client_id"), request.Form.Get("client_secret"), basic, request.Form.Has("client_assertion")}
}

func TestRefreshClientSecrets(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings string
		want     func(id, secret string) refreshCredentials
	}{
		"client_secret_basic": {"", func(string, string) refreshCredentials { return refreshCredentials{basic: true} }},
		"client_secret_post": {"token_endpoint_auth_method client_secret_post", func(id, secret string) refreshCredentials {
			return refreshCredentials{id: id, secret: secret}
		}},
		"client_secret_jwt": {"token_endpoint_auth_method client_secret_jwt", func(id, _ string) refreshCredentials {
			return refreshCredentials{id: id, assertion: true}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			const id, secret = "the client: %+&=", "its secret: %+&= of 32 bytes and more"
			p.SetIntrospectionClient(id, secret)
			p.SetAssertionChecker(func(string) error { return nil })
			r := newRenewer(t, p, "client_id `"+id+"`\nclient_secret `"+secret+"`\n"+test.settings)
			assertions := make(map[string]bool)
			for range 3 {
				r.renew()
				request := lastTokenRequest(t, p)
				if got := credentialsOf(request); got != test.want(id, secret) {
					t.Errorf("the client is %+v, want %+v", got, test.want(id, secret))
				}
				if username, password, ok := (&http.Request{Header: request.Header}).BasicAuth(); ok &&
					(username != url.QueryEscape(id) || password != url.QueryEscape(secret)) {
					t.Errorf("Authorization %q", request.Header.Get("Authorization"))
				}
				if assertion := request.Form.Get("client_assertion"); assertion != "" {
					wantAssertion(t, assertion, p.Issuer(), id)
					if assertions[assertion] {
						t.Error("an assertion was used twice")
					}
					assertions[assertion] = true
				}
			}
		})
	}
}

func TestRefreshPublicClient(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetPublicClient("client")
	s := newSite(t, strings.Replace(loginSettingsAt(p, withinProcess), "client_secret secret\n", "", 1))
	r := signedInAt(t, s, p)
	for range 2 {
		r.renew()
		request := lastTokenRequest(t, p)
		if got, want := credentialsOf(request), (refreshCredentials{id: "client"}); got != want || request.Header.Get("Authorization") != "" {
			t.Errorf("the client is %+v", got)
		}
		if request.Form.Has("client_secret") {
			t.Error("there is an empty secret")
		}
	}
}

func TestRefreshPrivateKeyJWT(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	key := optest.NewKey(t, "ES256", "ours")
	used := make(map[string]bool)
	p.SetAssertionChecker(func(assertion string) error {
		header, payload, signature := segments(assertion)
		bytes, err := base64.RawURLEncoding.DecodeString(signature)
		if err != nil || len(bytes) != 64 || used[assertion] {
			return errors.New("no signature, or a used one")
		}
		used[assertion] = true
		digest := sha256.Sum256([]byte(header + "." + payload))
		if !ecdsa.Verify(key.Public().(*ecdsa.PublicKey), digest[:], new(big.Int).SetBytes(bytes[:32]), new(big.Int).SetBytes(bytes[32:])) {
			return errors.New("not by the client's key")
		}
		return nil
	})
	settings := strings.Replace(loginSettingsAt(p, withinProcess+"\nclient_private_key `"+key.PrivatePEM()+
		"`\nclient_private_key_id ours"), "client_secret secret\n", "", 1)
	r := signedInAt(t, newSite(t, settings), p)
	for range 2 {
		r.renew()
		request := lastTokenRequest(t, p)
		if got, want := credentialsOf(request), (refreshCredentials{id: "client", assertion: true}); got != want {
			t.Errorf("the client is %+v, want %+v", got, want)
		}
		wantAssertion(t, request.Form.Get("client_assertion"), p.Issuer(), "client")
	}
	if len(used) != 3 {
		t.Errorf("%d good assertions in 3 token requests", len(used))
	}
}

// A platform renews the assertion in its file; each renewal of a session reads it anew.
func TestRefreshAssertionFile(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	file := filepath.Join(t.TempDir(), "assertion")
	good := ""
	p.SetAssertionChecker(func(assertion string) error {
		if assertion != good {
			return errors.New("of yesterday")
		}
		return nil
	})
	renewFile := func() {
		good = optest.Sign(p.Key("es-1"), nil, p.IDClaims(optest.Claims{"sub": "client", "exp": time.Now().Add(time.Hour).Unix()}))
		p.MarkSecret(good)
		writeFile(t, file, good)
	}
	renewFile()
	settings := strings.Replace(loginSettingsAt(p, withinProcess+"\nclient_assertion_file "+filepath.ToSlash(file)),
		"client_secret secret\n", "", 1)
	r := signedInAt(t, newSite(t, settings), p)
	for range 2 {
		renewFile()
		r.renew()
	}
	t.Run("no file", func(t *testing.T) { // which is nothing that the provider has said
		writeFile(t, file, "")
		r.expire()
		attempts := p.RefreshAttempts()
		for range 3 {
			if response := r.Get(r.url("/")); response.Status != http.StatusOK || r.upstream.advance() != 1 {
				t.Errorf("got %d: %s", response.Status, response.Body)
			}
		}
		if n := p.RefreshAttempts() - attempts; n != 0 {
			t.Errorf("%d requests without the client's assertion", n)
		}
		renewFile()
		r.pass(time.Minute)
		r.renewDue()
	})
}

// RFC 8705: the certificate of the connection is the credential.
func TestRefreshClientCertificate(t *testing.T) {
	t.Parallel()
	certificate := optest.NewCertificate(t, nil)
	certificatePEM, keyPEM := optest.CertificatePEM(t, certificate)
	for _, method := range []string{"tls_client_auth", "self_signed_tls_client_auth"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t, optest.WithTLS())
			p.SetClientCertificate(certificate.Leaf)
			p.SetRefreshTokens(true)
			dir := filepath.ToSlash(t.TempDir())
			writeFile(t, dir+"/provider.pem", p.CertificatePEM())
			writeFile(t, dir+"/certificate.pem", string(certificatePEM))
			writeFile(t, dir+"/key.pem", string(keyPEM))
			settings := strings.Replace(loginSettingsAt(p, withinProcess+"\ntoken_endpoint_auth_method "+method+
				"\ntls_trust_pool file "+dir+"/provider.pem\ntls_client_certificate "+dir+"/certificate.pem "+dir+"/key.pem"),
				"client_secret secret\n", "", 1)
			s := newSite(t, settings)
			r := &renewer{visitor: newVisitor(t, s, p), tokens: recordedTokens(p)}
			r.Trust(p.Certificate())
			r.signIn("/")
			for range 2 {
				r.renew()
				request := lastTokenRequest(t, p)
				if got, want := credentialsOf(request), (refreshCredentials{id: "client"}); got != want {
					t.Errorf("the client is %+v, want %+v", got, want)
				}
				if len(request.PeerCertificates) == 0 || !request.PeerCertificates[0].Equal(certificate.Leaf) {
					t.Error("the client has not shown its certificate")
				}
			}
		})
	}
}

// S-194: a client that the provider no longer knows ends the session by one attempt, and another method is not tried.
func TestRefreshClientIsRefused(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetIntrospectionClient("client", "the secret of the client")
	r := newRenewer(t, p, "client_secret `the secret of the client`")
	r.renew()
	p.SetIntrospectionClient("client", "another secret of the client")
	r.expire()
	attempts := p.RefreshAttempts()
	r.wantRefusal(r.Get(r.url("/data"), "Accept: application/json"), http.StatusUnauthorized, "no_credentials")
	r.begin("/page")
	if n := p.RefreshAttempts() - attempts; n != 1 {
		t.Errorf("%d requests with a refresh token, want 1", n)
	}
	if got, want := credentialsOf(lastTokenRequest(t, p)), (refreshCredentials{basic: true}); got != want {
		t.Errorf("the client is %+v, want %+v", got, want)
	}
	r.site.logged(zapcore.InfoLevel, "session ended", map[string]string{"reason": "refresh_rejected", "got": "invalid_client"})
}
