package openidconnect

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

const (
	defaultReissueInterval = 5 * time.Minute
	defaultMaxCookieBytes  = 12_000
)

// acquireLogin makes ready what logs browsers in, and gets what is shared for it.
func (h *Handler) acquireLogin(ctx caddy.Context, rt *runtime) error {
	if h.BearerOnly {
		rt.cookies = session.NewStripper()
		return nil
	}
	settings := SessionConfig{}
	if h.Session != nil {
		settings = *h.Session
	}
	l := &login{
		issuer:       or(h.Issuer, h.Discovery),
		clientID:     h.ClientID,
		checks:       h.loginChecks(),
		cookieDomain: settings.CookieDomain,
		scope:        or(h.Scope, scopeOpenID),
		redirectPath: h.callbackPath(),
		prefix:       or(h.PathPrefix, defaultPathPrefix),
		responseMode: or(h.ResponseMode, responseModeQuery),
		parameters:   h.requestParameters(),
		tokenParams:  url.Values{},
		usePKCE:      h.UsePKCE == nil || *h.UsePKCE,
		hasMaxAge:    h.MaxAge != nil,
		maxAge:       h.MaxAge.or(0),
		acrValues:    h.ACRValues,
		strict:       settings.CookieSameSite == sameSiteStrict,
		framed:       settings.CookieSameSite == sameSiteNone,
		idle:         settings.IdlingTimeout.or(0),
		absolute:     settings.AbsoluteTimeout.or(defaultAbsoluteTimeout),
		reissue:      settings.ReissueInterval.or(defaultReissueInterval),

		accessExpiresIn: h.AccessTokenExpiresIn.or(0),

		logoutPath:    h.logoutEndpoint(),
		postLogoutURI: h.PostLogoutRedirectURI,
		backchannel:   h.handlesBackchannel(),
		frontchannel:  h.FrontchannelLogout,
		keepsHint:     h.SessionContents == nil,
		revokesTokens: h.RevokeTokensOnLogout,
	}
	rt.refresh = h.refreshPolicy()
	if l.idle > 0 {
		l.reissue = min(l.reissue, l.idle/2)
	}
	if h.RedirectURI != "" && !strings.HasPrefix(h.RedirectURI, "/") {
		l.redirectURI = h.RedirectURI
	}
	for name, values := range h.TokenParams {
		l.tokenParams[name] = values
	}
	if len(h.Resource) > 0 {
		l.tokenParams["resource"] = h.Resource // at both endpoints (RFC 8707 section 2.2)
	}
	var err error
	if l.client, err = h.clientAuthentication(h.tokenAuthMethod()); err != nil {
		return err
	}
	if l.revocationClient, err = h.clientAuthentication(h.revocationAuthMethod()); err != nil {
		return err
	}
	if l.publicKeys, err = publicKeySet(l.client.Signer); err != nil {
		return fieldError("client_private_key", "%v", err)
	}
	l.idTokens = idTokenPolicy{
		issuer: h.Issuer, tenants: h.Tenants, clientID: h.ClientID, trustedAudiences: h.TrustedAudiences,
		algorithms: h.IDTokenSignedResponseAlg, useNonce: h.UseNonce == nil || *h.UseNonce, skew: rt.policy.skew,
	}
	if len(h.IDTokenSignedResponseAlg) > 0 && jose.Symmetric(h.IDTokenSignedResponseAlg[0]) {
		if l.idTokens.secretKeys, err = jose.SecretKeySet([]byte(h.ClientSecret)); err != nil {
			return fieldError("client_secret", "%v", err)
		}
	}
	l.cookies = session.NewCookies(h.cookieConfig(settings))
	rt.login, rt.cookies = l, l.cookies
	return h.acquireSessions(ctx, rt, settings)
}

// loginChecks is a digest of what logins demand, so that a session of a weaker login does not open here.
func (h *Handler) loginChecks() string {
	return digestOf(fmt.Appendf(nil, "%q %v %q %q", h.ACRValues, h.MaxAge.or(-1), h.Tenants, h.IDTokenSignedResponseAlg))[:16]
}

// requestParameters are the parameters of the authorization request that the configuration adds.
func (h *Handler) requestParameters() []requestParameter {
	var parameters []requestParameter
	add := func(name string, values ...string) {
		if len(values) == 0 || values[0] == "" {
			return
		}
		dynamic := slices.ContainsFunc(values, func(value string) bool { return strings.ContainsAny(value, "{}") && !isInlineJSON(value) })
		parameters = append(parameters, requestParameter{name: name, values: values, dynamic: dynamic})
	}
	for _, name := range sortedKeys(h.AuthorizationParams) {
		add(name, h.AuthorizationParams[name]...)
	}
	for _, own := range []struct{ name, value string }{{"prompt", h.Prompt}, {"display", h.Display}, {"ui_locales", h.UILocales}} {
		if own.value != "" {
			parameters = append(parameters, requestParameter{name: own.name, values: []string{own.value}})
		}
	}
	if len(h.Resource) > 0 {
		parameters = append(parameters, requestParameter{name: "resource", values: h.Resource})
	}
	return parameters
}

// sessionContents is what a session keeps: what is listed, else only what the configuration needs.
func (h *Handler) sessionContents(rt *runtime) sessionContents {
	if h.SessionContents == nil {
		return sessionContents{
			userinfo: true, idTokenClaims: true, idTokenCopy: rt.headers.idToken, rawIDToken: rt.headers.rawIDToken,
			accessToken: rt.headers.accessToken, refreshToken: rt.headers.refreshToken || rt.refresh.enabled,
		}
	}
	return sessionContents{
		userinfo: h.SessionContents.User, idTokenClaims: h.SessionContents.IDToken,
		idTokenCopy: h.SessionContents.IDToken && rt.headers.idToken, rawIDToken: h.SessionContents.EncIDToken,
		accessToken: h.SessionContents.AccessToken, refreshToken: rt.headers.refreshToken || rt.refresh.enabled,
	}
}

// userinfoPolicy collects the claims that the configuration names.
func (h *Handler) userinfoPolicy(rt *runtime) userinfoPolicy {
	policy := userinfoPolicy{mode: or(h.Userinfo, userinfoAuto), wanted: []claimPath{rt.usernameClaim}}
	for _, rules := range [][]claimRule{rt.authorization.required, rt.authorization.denied} {
		for _, rule := range rules {
			policy.wanted = append(policy.wanted, rule.path)
		}
	}
	for _, header := range rt.headers.claims {
		policy.wanted = append(policy.wanted, header.path)
	}
	for _, path := range rt.claimPlaceholders {
		policy.wanted = append(policy.wanted, path)
	}
	if rt.headers.userinfo {
		policy.scopes = strings.Fields(h.Scope)
	}
	return policy
}

func (h *Handler) cookieConfig(settings SessionConfig) session.CookieConfig {
	config := session.CookieConfig{
		Name:          settings.CookieName,
		DefaultName:   session.DefaultName(or(h.Issuer, h.Discovery), h.ClientID),
		Domain:        settings.CookieDomain,
		Path:          or(settings.CookiePath, "/"),
		SameSite:      or(string(settings.CookieSameSite), sameSiteLax),
		Secure:        or(string(settings.CookieSecure), cookieSecureAuto),
		HTTPOnly:      settings.CookieHTTPOnly == nil || *settings.CookieHTTPOnly,
		Partitioned:   settings.CookiePartitioned,
		Persistent:    settings.CookiePersistent == nil || *settings.CookiePersistent,
		MaxBytes:      defaultMaxCookieBytes,
		CrossSitePost: h.ResponseMode == responseModeFormPost,
	}
	if settings.MaxCookieBytes != nil {
		config.MaxBytes = *settings.MaxCookieBytes
	}
	return config
}

// acquireSessions gets the keys, the store and the memory of sessions. Handlers with the same settings share them, and so do successive
// configurations: a reload forgets nothing.
func (h *Handler) acquireSessions(ctx caddy.Context, rt *runtime, settings SessionConfig) error {
	l := rt.login
	storage := ctx.Storage()
	place := fmt.Sprintf("%T", storage)
	if named, ok := storage.(fmt.Stringer); ok {
		place = named.String()
	}
	secrets := digestOf(fmt.Appendf(nil, "%q", []string(settings.Secret)))
	keys, err := h.sessionKeys(rt, settings.Secret, secrets, place, storage)
	if err != nil {
		return err
	}
	l.sealer = session.NewSealer(keys)
	scope := fmt.Sprintf("%q %q %q %q %+v %v %q %v",
		place, l.issuer, l.clientID, l.checks, h.cookieConfig(settings), secrets, settings.Storage, l.absolute)
	needs, needsErr := share(rt, fmt.Sprintf("login needs %s %q %+v", scope, h.Userinfo, h.SessionContents), newSharedNeeds)
	opened, openedErr := share(rt, "opened sessions "+scope, newSessionCache)
	// what is spent, or has been replaced, is so whatever the configuration says of sessions
	memory, memoryErr := share(rt, fmt.Sprintf("logins %q %q", l.issuer, l.clientID), newLoginMemory)
	logouts, logoutsErr := share(rt, fmt.Sprintf("logouts %q %q", l.issuer, l.clientID), newLogoutMemory)
	renewals, renewalsErr := share(rt, fmt.Sprintf("renewals %q %q", l.issuer, l.clientID), newRenewals)
	announced, announcedErr := share(rt, "announcements", newAnnouncements)
	end, endErr := share(rt, "the end of the process", func() *ending { return new(ending) })
	if err := errors.Join(needsErr, openedErr, memoryErr, logoutsErr, renewalsErr, announcedErr, endErr); err != nil {
		return err
	}
	rt.releases = append(rt.releases, needs.add(rt.number, loginNeeds{keeps: h.sessionContents(rt), userinfo: h.userinfoPolicy(rt)}))
	l.needs, l.opened, l.memory, l.logouts, l.renewals, l.announced, l.ending = needs, opened, memory, logouts, renewals, announced, end
	l.logouts.expectLife(l.absolute)
	if err := h.acquireStores(ctx, rt, settings.Storage, place); err != nil {
		return err
	}
	rt.watchRevocations()
	return nil
}

// sessionKeys are the configured secrets, else the ring of generated keys in Caddy's storage.
func (h *Handler) sessionKeys(rt *runtime, texts []string, digest, place string, storage certmagic.Storage) (session.KeySource, error) {
	if len(texts) == 0 {
		ring, err := share(rt, "session keys "+place, func() *session.KeyRing { return session.NewKeyRing(storage, rt.logger, time.Now) })
		if err != nil {
			return nil, err
		}
		rt.login.adoptStorage = append(rt.login.adoptStorage, func() { ring.SetStorage(storage, rt.logger) })
		return ring, nil
	}
	type derived struct {
		keys session.KeySource
		err  error
	}
	secrets, err := share(rt, "session secrets "+digest, func() derived {
		keys, err := session.Secrets(texts) // which takes its time with short ones
		return derived{keys, err}
	})
	if err != nil {
		return nil, err
	}
	if secrets.err != nil {
		return nil, fieldError("session.secret", "%v", secrets.err)
	}
	return secrets.keys, nil
}

// settle has what outlives configurations use the storage of this one. It waits until the configuration runs: that of one which fails to
// load is closed again.
func (rt *runtime) settle() {
	if rt.login == nil {
		return
	}
	for _, adopt := range rt.login.adoptStorage {
		adopt()
	}
	rt.noteLife()
}
