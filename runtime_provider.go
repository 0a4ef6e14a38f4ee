package openidconnect

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// acquire gets the shared provider and what is kept beside it.
func (h *Handler) acquire(ctx caddy.Context, rt *runtime) error {
	config, err := h.providerConfig(ctx)
	if err != nil {
		return err
	}
	shared, release, err := acquireProvider(config)
	if err != nil {
		return fmt.Errorf("sharing the provider: %w", err)
	}
	rt.provider = shared
	rt.releases = append(rt.releases, release)
	registry := ctx.GetMetricsRegistry()
	stop := shared.Observe(registry, &observer{logger: rt.logger, metrics: rt.metrics, events: &rt.events, issuer: rt.issuerName})
	rt.releases = append(rt.releases, func() error { stop(); return nil })

	size := defaultTokenCache
	if h.TokenCache != nil {
		size = *h.TokenCache
	}
	if h.JWTVerificationCacheIgnore {
		size = 0
	}
	cache, giveBack := part(shared, struct {
		of   string
		size int
	}{"verified tokens", size}, func() *tokenCache { return newTokenCache(size) })
	rt.tokens = cache
	rt.releases = append(rt.releases, func() error { giveBack(); return nil })
	lifetime := proofLifetime + 2*rt.policy.skew
	proofs, giveBackProofs := part(shared, struct {
		of       string
		lifetime time.Duration
	}{"used proofs", lifetime}, func() *proofMemory { return newProofMemory(lifetime) })
	rt.proofs = proofs
	rt.releases = append(rt.releases, func() error { giveBackProofs(); return nil })
	return h.acquireIntrospection(rt, size)
}

// acquireIntrospection gets the introspection that is shared by handlers of the same client.
func (h *Handler) acquireIntrospection(rt *runtime, cacheSize int) error {
	rt.introspection = introspectionPolicy{
		mode:        or(h.Introspection, introspectionAuto),
		interval:    h.IntrospectionInterval,
		expiryClaim: or(h.IntrospectionExpiryClaim, "exp"),
	}
	if rt.policy.profile {
		rt.introspection.mode = introspectionOff // the profile is about JWTs, and these say what they are themselves
	}
	for _, name := range h.IntrospectionAddonHeaders {
		rt.introspection.headers = append(rt.introspection.headers, http.CanonicalHeaderKey(name))
	}
	method := h.introspectionAuthMethod()
	if method == provider.None || rt.introspection.mode == introspectionOff {
		return nil
	}
	client, err := h.clientAuthentication(method)
	if err != nil {
		return err
	}
	rt.introspection.configured = true
	shared, giveBack := part(rt.provider, h.introspectionKey(method, cacheSize), func() *introspection {
		return &introspection{introspector: rt.provider.NewIntrospector(client), answers: newTokenCache(cacheSize)}
	})
	rt.introspection.shared = shared
	rt.releases = append(rt.releases, func() error { giveBack(); return nil })
	return nil
}

// introspectionKey identifies who asks; it is a digest, so that no secret is kept in a map.
func (h *Handler) introspectionKey(method string, cacheSize int) string {
	hash := sha256.New()
	for _, value := range []string{
		method, h.ClientID, h.ClientSecret, h.privateKey(), h.ClientPrivateKeyID, h.ClientJWTAssertionAlg,
		h.ClientJWTAssertionExpiresIn.or(defaultAssertionLifetime).String(), h.ClientJWTAssertionAudience, h.ClientAssertionFile,
		strconv.Itoa(cacheSize),
	} {
		fmt.Fprintf(hash, "%d:%s;", len(value), value)
	}
	return "introspection " + hex.EncodeToString(hash.Sum(nil))
}

func (h *Handler) clientAuthentication(method string) (*provider.ClientAuthentication, error) {
	client := &provider.ClientAuthentication{
		Method:            method,
		AssertionFile:     h.ClientAssertionFile,
		ClientID:          h.ClientID,
		ClientSecret:      h.ClientSecret,
		AssertionAudience: h.ClientJWTAssertionAudience,
		AssertionLifetime: h.ClientJWTAssertionExpiresIn.or(defaultAssertionLifetime),
	}
	var err error
	switch method {
	case provider.ClientSecretJWT:
		if client.Signer, err = jose.NewSecretSigner([]byte(h.ClientSecret), h.ClientJWTAssertionAlg); err != nil {
			return nil, fieldError("client_jwt_assertion_alg", "%v", err)
		}
	case provider.PrivateKeyJWT:
		if h.ClientAssertionFile != "" {
			return client, nil
		}
		text, field := h.privateKey(), "client_private_key"
		if h.ClientPrivateKey == "" {
			field = "client_rsa_private_key"
		}
		if !isInlineJSON(text) && !strings.Contains(text, "-----BEGIN") {
			file, err := os.ReadFile(text)
			if err != nil {
				// the system's text would quote what may be a key in a format that we do not know
				return nil, fieldError(field, "neither PEM nor a JWK nor a file that can be read")
			}
			text = string(file)
		}
		client.Signer, err = jose.ParsePrivateKey(text, h.ClientJWTAssertionAlg, h.ClientPrivateKeyID)
		switch {
		case errors.Is(err, jose.ErrAlgorithm):
			return nil, fieldError("client_jwt_assertion_alg", "%v", err)
		case err != nil:
			return nil, fieldError(field, "%v", err)
		}
	}
	return client, nil
}

// providerConfig loads keys, certificates and guest modules.
func (h *Handler) providerConfig(ctx caddy.Context) (provider.Config, error) {
	config := provider.Config{
		Issuer:    h.Issuer,
		Discovery: h.Discovery,
		Endpoints: provider.Endpoints{
			Authorization:              h.AuthorizationEndpoint,
			Token:                      h.TokenEndpoint,
			Userinfo:                   h.UserinfoEndpoint,
			JWKSURI:                    h.JWKSURI,
			Introspection:              h.IntrospectionEndpoint,
			Revocation:                 h.RevocationEndpoint,
			EndSession:                 h.EndSessionEndpoint,
			PushedAuthorizationRequest: h.PushedAuthorizationRequestEndpoint,
		},
		WantDiscovery: h.Introspection == introspectionAlways && h.IntrospectionEndpoint == "" ||
			!h.BearerOnly && h.Userinfo == userinfoOn && h.UserinfoEndpoint == "",
		WantLogin:          !h.BearerOnly,
		KeysUnused:         h.BearerOnly && h.Introspection == introspectionAlways,
		TenantTemplate:     len(h.Tenants) > 0,
		Timeout:            h.Timeout.or(defaultTimeout),
		KeysLifetime:       h.JWKExpiresIn.or(0),
		InsecureSkipVerify: h.insecure(),
		UserAgent:          userAgent,
	}
	if err := h.loadStaticKeys(&config, ctx.Logger()); err != nil {
		return config, err
	}
	if len(h.TLSTrustPoolRaw) > 0 {
		config.TrustDigest = digestOf(h.TLSTrustPoolRaw)
		loaded, err := ctx.LoadModule(h, "TLSTrustPoolRaw")
		if err != nil {
			return config, fieldError("tls_trust_pool", "%v", err)
		}
		pool, ok := loaded.(caddytls.CA)
		if !ok {
			return config, fieldError("tls_trust_pool", "the module is not a source of certificate authorities")
		}
		config.RootCAs = pool.CertPool()
	}
	if c := h.TLSClientCertificate; c != nil {
		certificate, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return config, fieldError("tls_client_certificate", "reading %s and %s: %v", c.Certificate, c.Key, err)
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	if len(h.NetworkProxyRaw) > 0 {
		config.ProxyDigest = digestOf(h.NetworkProxyRaw)
		loaded, err := ctx.LoadModule(h, "NetworkProxyRaw")
		if err != nil {
			return config, fieldError("network_proxy", "%v", err)
		}
		proxy, ok := loaded.(caddy.ProxyFuncProducer)
		if !ok {
			return config, fieldError("network_proxy", "the module does not give a proxy")
		}
		if config.Proxy = proxy.ProxyFunc(); config.Proxy == nil {
			// the module "none" overrides the environment, where no function would leave it in force
			config.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
		}
	}
	return config, nil
}

func (h *Handler) loadStaticKeys(config *provider.Config, logger *zap.Logger) error {
	switch {
	case h.PublicKey != "":
		keys, err := jose.ParsePEM([]byte(h.PublicKey))
		if err != nil {
			return fieldError("public_key", "%v", err)
		}
		config.StaticKeys, config.StaticKeysDigest = keys, digestOf([]byte(h.PublicKey))
	case h.JWKS != "":
		text, err := os.ReadFile(h.JWKS)
		if err != nil {
			return fieldError("jwks", "%v", err)
		}
		keys, skipped, err := jose.ParseKeySet(text)
		if err != nil {
			return fieldError("jwks", "%s: %v", h.JWKS, err)
		}
		for _, key := range skipped {
			logger.Warn("a key of the file cannot be used; the others can",
				zap.String("jwks", h.JWKS), zap.Int("index", key.Index), zap.String("cause", key.Reason.Error()))
		}
		config.StaticKeys, config.StaticKeysDigest = keys, digestOf(text)
	case len(h.TokenSigningAlgValuesExpected) > 0 && jose.Symmetric(h.TokenSigningAlgValuesExpected[0]):
		keys, err := jose.SecretKeySet([]byte(h.ClientSecret))
		if err != nil {
			return fieldError("client_secret", "%v", err)
		}
		config.StaticKeys, config.StaticKeysDigest = keys, digestOf([]byte(h.ClientSecret))
	}
	return nil
}

func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
