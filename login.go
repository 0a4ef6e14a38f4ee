package openidconnect

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

// maxAttempts is how often a login that went astray is started again by itself.
const maxAttempts = 2

// login is what it takes to log browsers in and to know them again; a handler with bearer_only has none.
type login struct {
	issuer       string // names the provider in seals: the issuer, or the discovery URL where that is all there is
	clientID     string
	checks       string // digest of what logins demand
	cookieDomain string

	client       *provider.ClientAuthentication
	publicKeys   []byte // as a JWK Set
	scope        string
	redirectURI  string // a URL, or empty: the path with the request's origin
	redirectPath string
	prefix       string
	responseMode string
	parameters   []requestParameter
	tokenParams  url.Values
	usePKCE      bool
	maxAge       time.Duration
	hasMaxAge    bool
	acrValues    string
	idTokens     idTokenPolicy
	needs        *sharedNeeds

	logoutPath, postLogoutURI string                         // a path or a URL; empty: the page that says so
	backchannel, frontchannel bool                           // logouts by the provider
	keepsHint                 bool                           // an ID token for the logout
	revokesTokens             bool                           // at the provider, at a logout
	revocationClient          *provider.ClientAuthentication // for that

	strict, framed bool // cookie_same_site strict, none
	cookies        *session.Cookies
	sealer         *session.Sealer
	store          *session.Store    // nil: the cookie holds the session
	storeKey       string            // of the store
	shared         *session.Renewals // nil: renewals are not coordinated with other instances
	revocations    *session.Revocations
	loads          singleflight.Group
	opened         *sessionCache
	memory         *loginMemory
	logouts        *logoutMemory
	renewals       *renewals
	announced      *announcements
	ending         *ending
	adoptStorage   []func()                          // once the configuration runs
	unfit          atomic.Pointer[provider.Metadata] // that was complained of
	compared       atomic.Pointer[provider.Metadata] // with the configuration

	idle, absolute, reissue time.Duration
	accessExpiresIn         time.Duration // of an access token that says nothing; 0: without end
}

// requestParameter is a parameter of the authorization request whose value may hold placeholders of the request.
type requestParameter struct {
	name    string
	values  []string
	dynamic bool
}

// loginAttempt is one journey to the provider.
type loginAttempt struct {
	returnURL string
	number    int    // of earlier attempts that this one repeats
	prompt    string // instead of the configured one
	loginHint string
}

// startLogin sends the browser to the provider (OpenID Connect Core section 3.1.2.1). What it takes to finish the login travels with the
// browser, sealed: a stranger who starts a million logins costs us no memory.
func (rt *runtime) startLogin(w http.ResponseWriter, r *http.Request, st *requestState, attempt loginAttempt) error {
	l, v := rt.login, &st.visit
	origin := publicOrigin(r)
	if origin == "" {
		return rt.refuse(w, r, st, "", refuseClaim(reasonInvalidHost, "a host name", v.host))
	}
	if l.cookieDomain != "" && !underDomain(publicHost(origin), l.cookieDomain) {
		return rt.refuse(w, r, st, "", refuseClaim(reasonInvalidHost, "a host under cookie_domain "+l.cookieDomain, publicHost(origin)))
	}
	metadata, refused := rt.metadataForLogin(r)
	if refused != nil {
		return rt.refuse(w, r, st, "", refused)
	}
	if refused := rt.detectLoop(r, v); refused != nil {
		return rt.refuse(w, r, st, "", refused)
	}
	transaction := &session.Transaction{
		RedirectURI: l.redirectURIFor(origin), ReturnURL: attempt.returnURL, Created: rt.now(), Attempt: attempt.number,
		MaxAge: l.maxAge, HasMaxAge: l.hasMaxAge, ACRValues: l.acrValues,
	}
	if l.cookieDomain != "" && strings.HasPrefix(transaction.ReturnURL, "/") {
		transaction.ReturnURL = origin + transaction.ReturnURL // the callback may be on another host of the domain
	}
	rand.Read(transaction.State[:])
	if l.idTokens.useNonce {
		transaction.Nonce = randomText()
	}
	if l.usePKCE {
		transaction.Verifier = randomText()
	}
	state, err := l.begin(r.Context(), v, transaction, attempt.prompt)
	if err != nil {
		return rt.refuse(w, r, st, "", &refusal{reason: reasonStoreUnavailable, cause: err})
	}
	target, err := l.authorizationURL(r, metadata, transaction, state, attempt)
	if err != nil {
		return rt.refuse(w, r, st, "", &refusal{reason: reasonDiscoveryFailed, cause: err})
	}
	if l.redirectURI != "" && l.cookieDomain == "" {
		if host := publicHost(l.redirectURI); host != publicHost(origin) {
			rt.logger.Debug("the login ends on another host than it begins on", zap.String("host", publicHost(origin)), zap.String("callback_host", host))
		}
	}
	rt.metrics.request(methodNone, resultLogin)
	if entry := rt.logger.Check(zap.DebugLevel, "login started"); entry != nil {
		fields := []zap.Field{
			zap.String("issuer", rt.issuerName), zap.String("host", r.Host), zap.Int("attempt", attempt.number),
			zap.String("request_id", requestID(r)),
		}
		if st.dead != "" {
			fields = append(fields, zap.String("ended_session", string(st.dead)))
		}
		entry.Write(fields...)
	}
	rt.varyBy(w.Header())
	st.setCookies(w.Header(), v.reply)
	redirect(w, r, target)
	return nil
}

// metadataForLogin returns the provider's metadata if it can log users in.
func (rt *runtime) metadataForLogin(r *http.Request) (*provider.Metadata, *refusal) {
	metadata, err := rt.provider.Metadata(r.Context())
	switch {
	case err != nil:
		return nil, rt.providerRefusal(err)
	case metadata.Authorization == "" || metadata.Token == "":
		return nil, rt.unfit(metadata, "authorization_endpoint and token_endpoint in the provider's metadata",
			"none: this issuer does not log users in (put a provider such as Dex or Keycloak in front of it)")
	case metadata.RequiresPAR:
		return nil, rt.unfit(metadata, "a provider that takes plain authorization requests",
			"one that requires pushed authorization requests (RFC 9126)")
	default:
		rt.compareMetadata(metadata)
		return metadata, nil
	}
}

// compareMetadata tells the operator, once for each document, what of the configuration the provider does not offer. It may be wrong
// about that, so the login goes on.
func (rt *runtime) compareMetadata(metadata *provider.Metadata) {
	l := rt.login
	if l.compared.Swap(metadata) == metadata {
		return
	}
	for _, setting := range []struct {
		name, value, metadata string
		offered               []string
	}{
		{"token_endpoint_auth_method", l.client.Method, "token_endpoint_auth_methods_supported", metadata.TokenAuthMethods},
		{"response_mode", l.responseMode, "response_modes_supported", metadata.ResponseModes},
	} {
		if len(setting.offered) > 0 && !slices.Contains(setting.offered, setting.value) {
			rt.logger.Warn("the provider does not offer what is configured", zap.String("setting", setting.name),
				zap.String("expected", "one of "+logText(setting.offered)+" ("+setting.metadata+")"), zap.String("got", setting.value),
				zap.String("issuer", rt.issuerName))
		}
	}
	if l.revokesTokens && metadata.Revocation == "" {
		rt.logger.Warn("the provider does not offer what is configured", zap.String("setting", "revoke_tokens_on_logout"),
			zap.String("expected", "a revocation_endpoint"), zap.String("got", "none"), zap.String("issuer", rt.issuerName))
	}
}

// unfit refuses a login that the provider's metadata rules out. The operator is told once for each document.
func (rt *runtime) unfit(metadata *provider.Metadata, expected, got string) *refusal {
	refused := refuseClaim(reasonDiscoveryFailed, expected, got)
	refused.hint = "the provider was reached, but nobody can log in there in this way: compare expected and got"
	refused.warns = rt.login.unfit.Swap(metadata) != metadata
	return refused
}

func (l *login) redirectURIFor(origin string) string {
	if l.redirectURI != "" {
		return l.redirectURI
	}
	return origin + l.redirectPath
}

// underDomain reports whether host is the domain or lies under it, at the boundary of a dot.
func underDomain(host, domain string) bool {
	return host == domain || strings.HasSuffix(host, "."+domain)
}

// authorizationURL builds the authorization request. Nothing of it comes from the request but where placeholders of the configuration
// say so. No parameter occurs twice, and what the endpoint's own URL carries stays.
func (l *login) authorizationURL(
	r *http.Request, metadata *provider.Metadata, transaction *session.Transaction, state string, attempt loginAttempt,
) (string, error) {
	endpoint, err := url.Parse(metadata.Authorization)
	if err != nil {
		return "", err
	}
	parameters := url.Values{}
	for _, parameter := range l.parameters {
		for _, value := range parameter.values {
			if parameter.dynamic && !isInlineJSON(value) {
				if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
					value = repl.ReplaceAll(value, "")
				}
			}
			if value != "" {
				parameters.Add(parameter.name, value)
			}
		}
	}
	if transaction.HasMaxAge {
		parameters.Set("max_age", strconv.Itoa(int(transaction.MaxAge/time.Second)))
	}
	if transaction.ACRValues != "" {
		parameters.Set("acr_values", transaction.ACRValues)
	}
	if attempt.prompt != "" {
		parameters.Set("prompt", promptFor(metadata, attempt.prompt))
	}
	if attempt.loginHint != "" {
		parameters.Set("login_hint", attempt.loginHint)
	}
	if l.responseMode == responseModeFormPost {
		parameters.Set("response_mode", l.responseMode)
	}
	if transaction.Nonce != "" {
		parameters.Set("nonce", transaction.Nonce)
	}
	if transaction.Verifier != "" {
		parameters.Set("code_challenge", challengeOf(transaction.Verifier))
		parameters.Set("code_challenge_method", "S256")
	}
	for name, value := range map[string]string{
		"response_type": "code", "client_id": l.clientID, "redirect_uri": transaction.RedirectURI, "scope": l.scope, "state": state,
	} {
		parameters.Set(name, value)
	}
	var kept []string
	for pair := range strings.SplitSeq(endpoint.RawQuery, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(name); pair != "" && err == nil && !parameters.Has(decoded) {
			kept = append(kept, pair)
		}
	}
	endpoint.RawQuery = strings.Join(append(kept, parameters.Encode()), "&")
	return endpoint.String(), nil
}

// promptFor asks for another account in the way that the provider knows.
func promptFor(metadata *provider.Metadata, prompt string) string {
	if prompt != promptSelectAccount || slices.Contains(metadata.PromptValues, promptSelectAccount) {
		return prompt
	}
	issuer, err := url.Parse(metadata.Issuer)
	if err == nil && (issuer.Host == "accounts.google.com" || strings.HasPrefix(issuer.Host, "login.microsoftonline.")) {
		return prompt // they know it without saying so
	}
	return promptLogin
}

// Values of prompt that a page of ours asks for.
const (
	promptLogin         = "login"
	promptSelectAccount = "select_account"
	promptConsent       = "consent"
)

// publicKeySet is the JWK Set of the client's public keys, for the provider to verify assertions with.
func publicKeySet(signer *jose.Signer) ([]byte, error) {
	if signer == nil {
		return []byte(`{"keys":[]}`), nil
	}
	return signer.PublicKeySet()
}
