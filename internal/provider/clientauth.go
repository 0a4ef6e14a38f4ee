package provider

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
)

// Client authentication methods (RFC 7591 section 2, RFC 8705 section 2).
const (
	ClientSecretBasic       = "client_secret_basic"
	ClientSecretPost        = "client_secret_post"
	ClientSecretJWT         = "client_secret_jwt"
	PrivateKeyJWT           = "private_key_jwt"
	TLSClientAuth           = "tls_client_auth"
	SelfSignedTLSClientAuth = "self_signed_tls_client_auth"
	None                    = "none"
)

// clientAssertionType is the grammar's name for a JWT that authenticates a client (RFC 7523 section 2.2).
const clientAssertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// maxAssertionFile bounds the file that an assertion is read from (bytes).
const maxAssertionFile = 64 << 10

// ClientAuthentication is how we prove to the provider who we are. Exactly one method is used, the configured one; another is
// never tried when it fails. A public client has the method none and only says who it is.
type ClientAuthentication struct {
	Method       string
	ClientID     string
	ClientSecret string
	// Signer makes client assertions, for the two jwt methods.
	Signer *jose.Signer
	// AssertionAudience is the aud of assertions; empty means the issuer.
	AssertionAudience string
	// AssertionLifetime is how long an assertion is valid.
	AssertionLifetime time.Duration
	// AssertionFile holds an assertion that somebody else makes and renews; with private_key_jwt it takes the place of the Signer.
	AssertionFile string
}

func (a *ClientAuthentication) usesAssertion() bool {
	return a.Method == ClientSecretJWT || a.Method == PrivateKeyJWT
}

func (a *ClientAuthentication) usesCertificate() bool {
	return a.Method == TLSClientAuth || a.Method == SelfSignedTLSClientAuth
}

// apply adds the client's authentication to a call.
func (a *ClientAuthentication) apply(c *call, metadata *Metadata, now time.Time) error {
	switch a.Method {
	case ClientSecretBasic:
		// form-encoded before base64 (RFC 6749 section 2.3.1), or a colon or percent sign in the secret would change it
		userinfo := url.QueryEscape(a.ClientID) + ":" + url.QueryEscape(a.ClientSecret)
		c.header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(userinfo)))
		c.secrets = append(c.secrets, a.ClientSecret)
	case ClientSecretPost:
		c.form.Set("client_id", a.ClientID)
		c.form.Set("client_secret", a.ClientSecret)
	case TLSClientAuth, SelfSignedTLSClientAuth, None:
		c.form.Set("client_id", a.ClientID)
	case ClientSecretJWT, PrivateKeyJWT:
		assertion, err := a.assertion(metadata.Issuer, now)
		if err != nil {
			return err
		}
		c.form.Set("client_id", a.ClientID)
		c.form.Set("client_assertion_type", clientAssertionType)
		c.form.Set("client_assertion", assertion)
	default:
		return errors.New("no client authentication is configured")
	}
	return nil
}

// assertion returns what proves the client in one call: what the file holds at this moment, else a fresh JWT (RFC 7523 section 3)
// with the issuer as its one audience.
func (a *ClientAuthentication) assertion(issuer string, now time.Time) (string, error) {
	if a.Method == PrivateKeyJWT && a.AssertionFile != "" {
		return a.readAssertion()
	}
	if a.Signer == nil {
		return "", errors.New("there is no key for client assertions")
	}
	assertion, err := a.Signer.Sign("JWT", map[string]any{
		"iss": a.ClientID,
		"sub": a.ClientID,
		"aud": cmp.Or(a.AssertionAudience, issuer),
		"jti": rand.Text(),
		"iat": now.Unix(),
		"exp": now.Add(a.AssertionLifetime).Unix(),
	})
	if err != nil {
		return "", fmt.Errorf("making a client assertion: %w", err)
	}
	return assertion, nil
}

// readAssertion reads the assertion from its file. Its issuer, audience and lifetime are a matter between its maker and the provider.
func (a *ClientAuthentication) readAssertion() (string, error) {
	file, err := os.Open(a.AssertionFile)
	if err != nil {
		return "", fmt.Errorf("client_assertion_file: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxAssertionFile+1))
	if err != nil {
		return "", fmt.Errorf("client_assertion_file: %w", err)
	}
	assertion := strings.TrimSpace(string(text))
	if len(text) > maxAssertionFile || !jose.LooksLikeJWT(assertion) || strings.Count(assertion, ".") != 2 {
		return "", fmt.Errorf("client_assertion_file: %q does not hold one JWT of at most %d bytes", a.AssertionFile, maxAssertionFile)
	}
	return assertion, nil
}
