package openidconnect

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

const (
	defaultTimeout           = 5 * time.Second
	defaultClockSkew         = 60 * time.Second
	defaultTokenCache        = 10_000
	defaultRealm             = "openid_connect"
	defaultUsernameClaim     = "sub"
	defaultAssertionLifetime = 60 * time.Second
	userAgent                = "caddy-openid-connect"
)

// runtime is a configuration made ready for requests. It never changes; what requests share that does change (keys, caches) is
// behind the provider.
type runtime struct {
	number     uint64 // unlike that of any other runtime of this process
	now        func() time.Time
	logger     *zap.Logger
	metrics    *metrics
	events     emitter
	issuerName string // for logs and metrics

	provider *sharedProvider
	tokens   *tokenCache
	login    *login // nil with bearer_only
	refresh  refreshPolicy
	cookies  *session.Cookies
	pages    *pageSet

	ignoreBearer      bool
	credentials       credentials
	policy            tokenPolicy
	introspection     introspectionPolicy
	authorization     authorization
	demandsBinding    bool // of every token
	proofs            *proofMemory
	usernameClaim     claimPath
	plainIdentity     bool // nothing of a session's claims has to be looked at
	headers           identityHeaders
	claimPlaceholders map[string]claimPath

	resource       *protectedResource // nil: no metadata is published
	unauth         unauth
	allowPreflight bool
	errorResponses string
	realm          string // as a quoted-string
	vary           string // the request headers that an answer depends on

	releases []func() error
}

var runtimes atomic.Uint64

// release gives back what the runtime holds of others, once.
func (rt *runtime) release() error {
	var errs []error
	for _, release := range slices.Backward(rt.releases) {
		errs = append(errs, release())
	}
	rt.releases = nil
	return errors.Join(errs...)
}

// newRuntime compiles a configuration that has passed its checks.
func (h *Handler) newRuntime(ctx caddy.Context) (rt *runtime, err error) {
	rt = &runtime{
		number:         runtimes.Add(1),
		now:            time.Now,
		logger:         ctx.Logger(),
		issuerName:     or(h.Issuer, h.Discovery),
		allowPreflight: h.AllowPreflight,
		ignoreBearer:   h.IgnoreBearer,
		errorResponses: or(h.ErrorResponses, errorResponsesBuiltin),
		realm:          quotedString(or(h.Realm, defaultRealm)),
		vary:           h.varyHeader(),
	}
	// What was acquired before a failure is given back here: Cleanup sees no runtime then.
	defer func() {
		if err != nil {
			err = errors.Join(err, rt.release())
		}
	}()
	for _, warning := range h.warnings() {
		rt.logger.Warn(warning, zap.String("issuer", rt.issuerName))
	}
	rt.pages = builtinPages()
	if h.ErrorTemplate != "" {
		if rt.pages, err = loadPages(h.ErrorTemplate); err != nil {
			return rt, fieldError("error_template", "%v", err)
		}
		rt.pages.failed = func(err error) {
			rt.logger.Error("error_template failed; a built-in page was sent instead", zap.Error(err))
		}
	}
	app, err := ctx.App("events")
	if err != nil {
		return rt, fmt.Errorf("loading the events app: %w", err)
	}
	rt.events.app, rt.events.ctx, rt.events.logger = app.(*caddyevents.App), ctx, rt.logger
	if rt.metrics, err = newMetrics(ctx.GetMetricsRegistry()); err != nil {
		return rt, fmt.Errorf("registering metrics: %w", err)
	}
	if err = h.compile(rt); err != nil {
		return rt, err
	}
	rt.resource = h.compileResource()
	if err = h.compileUnauth(ctx, rt); err != nil {
		return rt, err
	}
	if err = h.acquire(ctx, rt); err != nil {
		return rt, err
	}
	if err = h.acquireLogin(ctx, rt); err != nil {
		return rt, err
	}
	rt.register()
	return rt, h.warmUp(rt)
}

func or[T ~string](value, standard T) T {
	if value == "" {
		return standard
	}
	return value
}

// compile turns rules and names into what requests use.
func (h *Handler) compile(rt *runtime) error {
	audiences := h.Audience
	if len(audiences) == 0 {
		audiences = StringList{h.ClientID}
	}
	algorithms := []string(h.TokenSigningAlgValuesExpected)
	if len(algorithms) == 0 {
		algorithms = jose.AsymmetricAlgorithms()
	}
	skew := h.ClockSkew
	if skew == nil {
		skew = h.IatSlack
	}
	rt.policy = tokenPolicy{
		issuer:          h.Issuer,
		validIssuers:    h.ValidIssuers,
		tenants:         h.Tenants,
		clientID:        h.ClientID,
		audiences:       audiences,
		anyAudience:     len(audiences) == 1 && audiences[0] == audienceAny && len(h.Audience) == 1,
		defaultAudience: len(h.Audience) == 0,
		audienceClaim:   or(h.AudienceClaim, "aud"),
		algorithms:      algorithms,
		profile:         h.TokenType == tokenTypeAccess,
		skew:            skew.or(defaultClockSkew),
		mtlsBound:       or(h.MTLSBound, boundAuto),
		dpopBound:       or(h.DPoPBound, boundAuto),
	}
	rt.demandsBinding = rt.policy.mtlsBound == boundRequired || rt.policy.dpopBound == boundRequired
	rt.credentials.dpop = rt.policy.dpopBound != boundOff
	rt.authorization.requiredScopes = h.RequiredScopes
	for _, rules := range []struct {
		from []ClaimRule
		to   *[]claimRule
	}{{h.RequiredClaims, &rt.authorization.required}, {h.DeniedClaims, &rt.authorization.denied}} {
		for _, rule := range rules.from {
			path, err := parseClaimPath(rule.Claim)
			if err != nil {
				return err
			}
			*rules.to = append(*rules.to, claimRule{path: path, values: rule.Values})
		}
	}
	var err error
	if rt.usernameClaim, err = parseClaimPath(or(h.UsernameClaim, defaultUsernameClaim)); err != nil {
		return err
	}
	rt.claimPlaceholders = make(map[string]claimPath, len(h.ClaimPlaceholders))
	for name, text := range h.ClaimPlaceholders {
		if rt.claimPlaceholders[name], err = parseClaimPath(text); err != nil {
			return err
		}
	}
	if err = h.compileHeaders(rt); err != nil {
		return err
	}
	for _, source := range h.BearerTokenFrom {
		if source.In == inHeader {
			source.Name = http.CanonicalHeaderKey(source.Name)
		}
		rt.credentials.sources = append(rt.credentials.sources, source)
	}
	return nil
}

func (h *Handler) compileHeaders(rt *runtime) error {
	rt.headers = identityHeaders{
		userinfo:              h.SetUserinfoHeader == nil || *h.SetUserinfoHeader,
		accessToken:           h.AccessTokenInAuthorizationHeader,
		accessTokenAuthorizes: h.AccessTokenInAuthorizationHeader,
		stripAuthorization:    h.StripAuthorization,
	}
	for _, header := range []struct {
		to   *bool
		from *bool
	}{
		{&rt.headers.accessToken, h.SetAccessTokenHeader},
		{&rt.headers.idToken, h.SetIDTokenHeader},
		{&rt.headers.rawIDToken, h.SetRawIDTokenHeader},
		{&rt.headers.refreshToken, h.SetRefreshTokenHeader},
	} {
		if header.from != nil {
			*header.to = *header.from
		}
	}
	for _, name := range sortedKeys(h.ClaimHeaders) {
		path, err := parseClaimPath(h.ClaimHeaders[name].Claim)
		if err != nil {
			return err
		}
		rt.headers.claims = append(rt.headers.claims,
			claimHeader{name: http.CanonicalHeaderKey(name), path: path, asJSON: h.ClaimHeaders[name].JSON})
	}
	rt.headers.protect()
	a := &rt.authorization
	rt.plainIdentity = len(a.requiredScopes)+len(a.required)+len(a.denied)+len(rt.headers.claims) == 0 &&
		rt.usernameClaim.text == defaultUsernameClaim && h.Issuer != "" && len(h.Tenants) == 0
	return nil
}

func (h *Handler) compileUnauth(ctx caddy.Context, rt *runtime) error {
	rt.unauth.action = or(h.UnauthAction, unauthAuth)
	if h.BearerOnly && rt.unauth.action == unauthAuth {
		rt.unauth.action = unauthDeny // nobody is logged in
	}
	for i := range h.UnauthRules {
		rule := &h.UnauthRules[i]
		loaded, err := ctx.LoadModule(rule, "MatchRaw")
		if err != nil {
			return fieldError("unauth_rules", "rule %d: %v", i+1, err)
		}
		var sets caddyhttp.MatcherSets
		if err := sets.FromInterface(loaded); err != nil {
			return fieldError("unauth_rules", "rule %d: %v", i+1, err)
		}
		rt.unauth.rules = append(rt.unauth.rules, unauthRule{matchers: sets, action: rule.Action})
		if rule.Action == unauthDeny || rule.Action == unauthAuth && rt.unauth.guarded == "" {
			rt.unauth.guarded = rule.Action
		}
	}
	return nil
}

// warmUp has the provider fetched once Caddy has started, which validation of a configuration never does: the provider may be
// served by this very Caddy.
func (h *Handler) warmUp(rt *runtime) error {
	ctx := rt.events.ctx
	return rt.events.app.On("started", eventHandler{func() {
		rt.events.started.Store(true)
		rt.provider.Warm()
		rt.settle()
		h.announce(ctx, rt)
	}})
}
