package provider

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
)

// Config says which provider is meant and how to talk to it.
type Config struct {
	// Issuer is the exact issuer identifier; empty takes the one that the discovery document states.
	Issuer string
	// Discovery is the URL of the metadata document; empty derives it from the issuer.
	Discovery string
	// Endpoints override single values of the metadata.
	Endpoints Endpoints
	// WantDiscovery asks for discovery even where the endpoints seem to be enough.
	WantDiscovery bool
	// WantLogin asks for discovery unless the endpoints that a login needs are configured too.
	WantLogin bool
	// KeysUnused says that nothing is verified with the provider's keys, so that nobody has to find them.
	KeysUnused bool
	// TenantTemplate permits a discovered issuer with a {tenantid} in it; the caller then checks the tenant.
	TenantTemplate bool
	// StaticKeys replace the provider's key set; StaticKeysDigest identifies them in Key.
	StaticKeys       *jose.KeySet
	StaticKeysDigest string
	// Timeout bounds one call.
	Timeout time.Duration
	// KeysLifetime is the age at which the key set is fetched again; 0 follows the response's cache headers.
	KeysLifetime time.Duration
	// RootCAs are trusted for the provider's certificate; nil means the system's. TrustDigest identifies where they come from.
	RootCAs     *x509.CertPool
	TrustDigest string
	// Certificates are offered as client certificates.
	Certificates []tls.Certificate
	// InsecureSkipVerify switches verification of the provider's certificate off. For development only.
	InsecureSkipVerify bool
	// Proxy finds the proxy for a call; ProxyDigest identifies it in Key.
	Proxy       func(*http.Request) (*url.URL, error)
	ProxyDigest string
	// UserAgent names us.
	UserAgent string
}

// Endpoints are the provider's URLs, named as in its metadata; empty where unknown.
type Endpoints struct {
	Authorization              string
	Token                      string
	Userinfo                   string
	JWKSURI                    string
	Introspection              string
	Revocation                 string
	EndSession                 string
	PushedAuthorizationRequest string
}

// discovers reports whether metadata has to be fetched: unless the issuer, the place of its keys where they are used and, for logins, the
// endpoints that every login uses are configured.
func (c *Config) discovers() bool {
	return c.WantDiscovery || c.Discovery != "" || c.Issuer == "" ||
		!c.KeysUnused && c.StaticKeys == nil && c.Endpoints.JWKSURI == "" ||
		c.WantLogin && (c.Endpoints.Authorization == "" || c.Endpoints.Token == "")
}

// metadata is what is known without discovery.
func (c *Config) metadata() *Metadata {
	return &Metadata{Issuer: c.Issuer, Endpoints: c.Endpoints, mutualTLS: c.Endpoints}
}

// Key identifies everything that affects trust in, or the way to, the provider: handlers whose keys are equal, and whose RootCAs
// are, can share a [Provider]. It holds no secret.
func (c *Config) Key() string {
	hash := sha256.New()
	field := func(values ...any) {
		for _, value := range values {
			text := fmt.Sprint(value)
			fmt.Fprintf(hash, "%d:%s;", len(text), text)
		}
	}
	e := c.Endpoints
	// why there is a discovery does not matter: a handler with logins and one without share what it finds
	field(c.Issuer, c.Discovery, c.discovers(), c.TenantTemplate, c.StaticKeysDigest, c.Timeout, c.KeysLifetime, c.TrustDigest,
		c.InsecureSkipVerify, c.ProxyDigest)
	field(e.Authorization, e.Token, e.Userinfo, e.JWKSURI, e.Introspection, e.Revocation, e.EndSession, e.PushedAuthorizationRequest)
	for _, certificate := range c.Certificates {
		field(len(certificate.Certificate))
		for _, der := range certificate.Certificate {
			field(hex.EncodeToString(der))
		}
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// SameTrust reports whether two configurations of the same Key also trust the same authorities; a key cannot tell, as the file
// behind a trust pool may have changed.
func (c *Config) SameTrust(other *Config) bool {
	if c.RootCAs == nil || other.RootCAs == nil {
		return c.RootCAs == other.RootCAs
	}
	return c.RootCAs.Equal(other.RootCAs)
}

// CheckURL reports what is wrong with text as the URL of a provider's endpoint: it must be absolute, http or https, without user
// information and fragment.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case (err != nil || u.Opaque != "") && strings.Contains(text, "@"):
		return errors.New("it is not a URL") // what stands before the @ may be a password
	case err != nil:
		return fmt.Errorf("%q is not a URL", text)
	case u.User != nil:
		return fmt.Errorf("the URL of host %q must not hold a user name or password", u.Host)
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Opaque != "":
		return fmt.Errorf("%q is not an absolute https URL", text)
	case u.Fragment != "" || strings.HasSuffix(text, "#"):
		return fmt.Errorf("%q must not have a fragment", text)
	}
	return nil
}

// PlainHTTP reports whether the URL is neither https nor on this machine, so that what is sent there can be read on the way.
func PlainHTTP(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" {
		return false
	}
	host := u.Hostname()
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return false
	}
	ip := net.ParseIP(host)
	return ip == nil || !ip.IsLoopback()
}
