// Package openidconnect is a Caddy HTTP handler that puts an OpenID Connect or OAuth 2.0 provider in front of a site.
//
// It logs browsers in by the authorization code flow and keeps their sessions in encrypted cookies, and it validates bearer tokens: JWTs
// against the provider's keys, opaque tokens by introspection. It authorizes both by scopes and claims, and hands whatever comes next,
// usually reverse_proxy, identity headers that nobody else can set.
//
// # Where what is
//
// [Handler] is the configuration and the manual. The request goes through handler.go; every danger has one file beside it or one
// package below internal.
package openidconnect

import "encoding/json"

// Handler logs people in at an OpenID Connect or OAuth 2.0 provider, and validates its bearer tokens, ahead of the next handler.
//
// A request with a valid session or token goes on, with the claims in the X-Userinfo header and in placeholders. A page that needs
// a login is answered with the way there. A request with a token that is not valid is answered with 401 and never goes on, whatever
// else it carries. What could be taken for this handler's own word (identity headers in any spelling, their names in Connection,
// trailers) is removed from every request.
//
// Every string may hold placeholders such as {env.NAME} and {file./path}, which are resolved once when the configuration is loaded;
// one that resolves to nothing is an error. Durations are strings such as "90s" or "1d", or numbers of seconds.
//
// # Placeholders
//
//	Placeholder                     | Description
//	--------------------------------|------------------------------------------------------------
//	{http.auth.user.id}             | the sub claim, or the one that username_claim names
//	{http.auth.user.<claim path>}   | any claim; lists are lists in expressions, else joined by commas. Claims that are called
//	                                | groups, roles, permissions, entitlements or amr are lists in any case, empty ones if need be
//	{http.auth.user.access_token}   | the token, only when access tokens are passed on
//	{http.openid_connect.method}    | "session" or "bearer"
//	{http.openid_connect.issuer}    | the issuer that has said who it is
//	{http.openid_connect.error}     | after a refusal: the OAuth error code
//	{http.openid_connect.reason}    | after a refusal: the reason code
//	{http.openid_connect.request_id} | after a refusal: the request's identifier in the logs
//
// They are always defined, and empty for anonymous requests.
type Handler struct {
	// The exact issuer identifier of the provider, as in the iss claim of its tokens. Required unless discovery is set.
	Issuer string `json:"issuer,omitempty"`

	// The URL of the provider's metadata document. With an issuer the document must state exactly that issuer; without one the
	// issuer is what the document states. Default: the issuer with /.well-known/openid-configuration after it, then the location
	// of RFC 8414.
	Discovery string `json:"discovery,omitempty"`

	// Endpoints that override the discovered ones, one by one. With an issuer and either jwks_uri, public_key or jwks there is no
	// discovery, as long as nobody logs in; logins need authorization_endpoint and token_endpoint as well. Bearer tokens alone, with
	// introspection always, need introspection_endpoint and no keys.
	AuthorizationEndpoint string `json:"authorization_endpoint,omitempty"`

	// The token endpoint, where codes and refresh tokens are redeemed, in place of what the metadata says.
	TokenEndpoint string `json:"token_endpoint,omitempty"`

	// The userinfo endpoint, in place of what the metadata says.
	UserinfoEndpoint string `json:"userinfo_endpoint,omitempty"`

	// Where the provider publishes its keys, in place of what the metadata says.
	JWKSURI string `json:"jwks_uri,omitempty"`

	// The introspection endpoint (RFC 7662), in place of what the metadata says.
	IntrospectionEndpoint string `json:"introspection_endpoint,omitempty"`

	// The revocation endpoint (RFC 7009), in place of what the metadata says.
	RevocationEndpoint string `json:"revocation_endpoint,omitempty"`

	// Where browsers are sent at a logout, in place of what the metadata says.
	EndSessionEndpoint string `json:"end_session_endpoint,omitempty"`

	// The endpoint for pushed authorization requests (RFC 9126). It is checked, and not used yet.
	PushedAuthorizationRequestEndpoint string `json:"pushed_authorization_request_endpoint,omitempty"`

	// A public key or certificate in PEM that signs the tokens, instead of a fetched key set.
	PublicKey string `json:"public_key,omitempty"`

	// A file with a JWK Set, instead of a fetched one.
	JWKS string `json:"jwks,omitempty"`

	// Further values of iss that are accepted; the same keys must have signed.
	ValidIssuers StringList `json:"valid_issuers,omitempty"`

	// The allowed values of the tid claim. Required when the discovered issuer has {tenantid} in it (Microsoft Entra ID), as anybody
	// with an account there could enter otherwise.
	Tenants StringList `json:"tenants,omitempty"`

	// The time limit of one call to the provider. Default: 5s
	Timeout *Duration `json:"timeout,omitempty"`

	// The authorities trusted for the provider's certificate. Default: those of the system.
	TLSTrustPoolRaw json.RawMessage `json:"tls_trust_pool,omitempty" caddy:"namespace=tls.ca_pool.source inline_key=provider"`

	// A client certificate for mutual TLS with the provider.
	TLSClientCertificate *ClientCertificate `json:"tls_client_certificate,omitempty"`

	// Do not verify the provider's certificate. For development only: whoever is between us and the provider can then make tokens.
	// Warns at every load.
	TLSInsecureSkipVerify bool `json:"tls_insecure_skip_verify,omitempty"`

	// Verify the provider's certificate; false is tls_insecure_skip_verify by the name it has in APISIX. Default: true
	SSLVerify *bool `json:"ssl_verify,omitempty"`

	// The proxy to reach the provider by. Default: what the environment says (HTTPS_PROXY, NO_PROXY).
	NetworkProxyRaw json.RawMessage `json:"network_proxy,omitempty" caddy:"namespace=caddy.network_proxy inline_key=from"`

	// The age at which the key set is fetched again in the background, from 1m to 24h. Default: the response's cache headers within
	// these bounds, or 24h
	JWKExpiresIn *Duration `json:"jwk_expires_in,omitempty"`

	// Our client identifier at the provider: the audience of tokens unless audience says otherwise, and who asks for introspection.
	// Required, except with bearer_only and an audience.
	ClientID string `json:"client_id,omitempty"`

	// The client secret. Use a placeholder, so that it does not stand in the configuration.
	ClientSecret string `json:"client_secret,omitempty"`

	// How the client authenticates: client_secret_basic, client_secret_post, client_secret_jwt, private_key_jwt, tls_client_auth,
	// self_signed_tls_client_auth or none. Exactly this is used, nothing is tried out. Default: private_key_jwt with an assertion file,
	// else client_secret_basic with a secret, private_key_jwt with a key, or none
	TokenEndpointAuthMethod string `json:"token_endpoint_auth_method,omitempty"`

	// How the client authenticates for introspection: one of the same methods. Default: as token_endpoint_auth_method
	IntrospectionEndpointAuthMethod string `json:"introspection_endpoint_auth_method,omitempty"`

	// How the client authenticates for the revocation of tokens: one of the same methods. Default: as token_endpoint_auth_method
	RevocationEndpointAuthMethod string `json:"revocation_endpoint_auth_method,omitempty"`

	// The key that signs client assertions: a file, PEM or a JWK; RSA, P-256, P-384, P-521 or Ed25519.
	ClientPrivateKey string `json:"client_private_key,omitempty"`

	// Another name of client_private_key, as APISIX has it; set one of them.
	ClientRSAPrivateKey string `json:"client_rsa_private_key,omitempty"`

	// The kid in client assertions. Default: the key's own, else its RFC 7638 thumbprint
	ClientPrivateKeyID string `json:"client_private_key_id,omitempty"`

	// The algorithm of client assertions. Default: the usual one for the key; HS256 for client_secret_jwt
	ClientJWTAssertionAlg string `json:"client_jwt_assertion_alg,omitempty"`

	// The lifetime of client assertions. Default: 60s
	ClientJWTAssertionExpiresIn *Duration `json:"client_jwt_assertion_expires_in,omitempty"`

	// The audience of client assertions. Default: the issuer
	ClientJWTAssertionAudience string `json:"client_jwt_assertion_audience,omitempty"`

	// A file with a client assertion (RFC 7523), read anew for each call, as platforms with workload identity renew it. It takes the
	// place of client_private_key.
	ClientAssertionFile string `json:"client_assertion_file,omitempty"`

	// The scopes asked for at login, separated by spaces and sent exactly as written; openid must be one of them. What bearer tokens
	// must have is required_scopes. Default: openid
	Scope string `json:"scope,omitempty"`

	// Where the provider sends browsers back to, as registered there. A path is completed with the request's public origin.
	// Default: /callback below path_prefix
	RedirectURI string `json:"redirect_uri,omitempty"`

	// The path that this handler's own endpoints live below. Default: /oauth2
	PathPrefix string `json:"path_prefix,omitempty"`

	// Prove at the token endpoint that the login was begun here (RFC 7636, S256). Default: true
	UsePKCE *bool `json:"use_pkce,omitempty"`

	// Bind the ID token to the login by a nonce. Default: true
	UseNonce *bool `json:"use_nonce,omitempty"`

	// Further parameters of the authorization request: name to value or values. They may hold placeholders of the request, which are
	// resolved at each login.
	AuthorizationParams map[string]StringList `json:"authorization_params,omitempty"`

	// Further parameters of the token request: name to value or values.
	TokenParams map[string]StringList `json:"token_params,omitempty"`

	// What the provider shall ask the user for: login, consent, select_account or create, or several of them; or none alone.
	Prompt string `json:"prompt,omitempty"`

	// How long ago the user may have entered credentials at the provider; its word for it in the ID token is verified.
	MaxAge *Duration `json:"max_age,omitempty"`

	// The authentication context classes asked for, separated by spaces; the ID token must state one of them.
	ACRValues string `json:"acr_values,omitempty"`

	// The resources that the access token is meant for (RFC 8707): absolute URIs.
	Resource StringList `json:"resource,omitempty"`

	// How the provider shall show itself: page, popup, touch or wap.
	Display string `json:"display,omitempty"`

	// The languages that the provider shall speak, in order of preference, separated by spaces.
	UILocales string `json:"ui_locales,omitempty"`

	// How the provider answers: "query", or "form_post" to keep the code out of URLs, which takes https. Default: query
	ResponseMode string `json:"response_mode,omitempty"`

	// The signature algorithms accepted in ID tokens. HS256, HS384 and HS512 are accepted only when named here, and then with the client
	// secret as the key. Default: RS256 where the provider offers it, else the asymmetric ones that it offers
	IDTokenSignedResponseAlg StringList `json:"id_token_signed_response_alg,omitempty"`

	// Further audiences that an ID token may have beside the client_id. With any other it is refused.
	TrustedAudiences StringList `json:"trusted_audiences,omitempty"`

	// When a login asks the userinfo endpoint: "auto" where a claim that the configuration names is not in the ID token, "on" or "off".
	// Default: auto
	Userinfo string `json:"userinfo,omitempty"`

	// The claim that names the user. A token without it is refused with 403, except that an introspection answer without sub is about a
	// client, which is then named by client_id. Default: sub
	UsernameClaim string `json:"username_claim,omitempty"`

	// The signature algorithms accepted in tokens. HS256, HS384 and HS512 are accepted only when named here, and then with the
	// client secret as the key. Default: RS, PS and ES with 256, 384 and 512, EdDSA and Ed25519
	TokenSigningAlgValuesExpected StringList `json:"token_signing_alg_values_expected,omitempty"`

	// What requests without credentials get: "auth" (a login for pages, 401 for anything else), "deny" (401) or "pass" (they go on,
	// without identity headers). A token that fails is 401 in any case. With bearer_only "auth" is "deny".
	// Default: auth; deny with bearer_only
	UnauthAction string `json:"unauth_action,omitempty"`

	// Exceptions to unauth_action; the first that matches wins. One that passes does not apply to paths that could be read in two
	// ways: with dot segments, backslashes, encoded separators, or semicolons next to dots, in any depth of encoding. Where the
	// default is to pass and an exception does not, such paths get what the strictest exception says, and so do those with any
	// semicolon or a second layer of encoding: they may be what the exception means.
	UnauthRules []UnauthRule `json:"unauth_rules,omitempty"`

	// Let CORS preflights (OPTIONS with Access-Control-Request-Method) without credentials go on. Default: false
	AllowPreflight bool `json:"allow_preflight,omitempty"`

	// A file with a template for the pages that people see, instead of the built-in ones.
	ErrorTemplate string `json:"error_template,omitempty"`

	// Who writes the bodies of refusals: "builtin", or "handle_errors" to return them as errors to the site's error routes, with
	// the headers set. Default: builtin
	ErrorResponses string `json:"error_responses,omitempty"`

	// Accept bearer tokens only: no sessions, no redirects, no cookies. The settings of logins and sessions then have no effect.
	// Default: false
	BearerOnly bool `json:"bearer_only,omitempty"`

	// Leave Authorization: Bearer to the upstream, unread: sessions only. Default: false
	IgnoreBearer bool `json:"ignore_bearer,omitempty"`

	// Further places than the Authorization header where requests may carry their token. A token in the query ends up in logs and
	// histories; it is removed before the upstream, and the option warns at every load.
	BearerTokenFrom []TokenSource `json:"bearer_token_from,omitempty"`

	// The realm in WWW-Authenticate. Default: openid_connect
	Realm string `json:"realm,omitempty"`

	// The audiences, one of which must be in the token. "any" alone switches the check off and warns at every load: then every token
	// of the provider is accepted, whoever it was made for. Default: the client_id
	Audience StringList `json:"audience,omitempty"`

	// The claim that holds the audience, for providers without aud in access tokens (client_id or azp). Default: aud
	AudienceClaim string `json:"audience_claim,omitempty"`

	// The scopes that a token must all have, in scope, scp or scopes; else 403.
	RequiredScopes StringList `json:"required_scopes,omitempty"`

	// The kind of tokens accepted: "at+jwt" enforces the JWT profile of RFC 9068; "any" also takes tokens without that type, unless
	// they show that they are ID, refresh or logout tokens. Default: any
	TokenType string `json:"token_type,omitempty"`

	// The tolerance for exp, nbf and iat, at most 10m. Default: 60s
	ClockSkew *Duration `json:"clock_skew,omitempty"`

	// Another name of clock_skew, as APISIX has it; set one of them.
	IatSlack *Duration `json:"iat_slack,omitempty"`

	// When the provider is asked about tokens (RFC 7662): "auto" for those that are not JWTs, where the client can authenticate and
	// the provider has an introspection endpoint; "always"; or "off". With a token_type of at+jwt never. Default: auto
	Introspection string `json:"introspection,omitempty"`

	// How long the provider's answer is believed at most; 0 asks with every request. Default: until the token expires, at most 5m,
	// or 1m where the answer does not say
	IntrospectionInterval *Duration `json:"introspection_interval,omitempty"`

	// The member of the answer that says until when it may be believed. Default: exp
	IntrospectionExpiryClaim string `json:"introspection_expiry_claim,omitempty"`

	// Headers of the request that are sent along with introspection.
	IntrospectionAddonHeaders StringList `json:"introspection_addon_headers,omitempty"`

	// How many verified tokens are remembered; 0 verifies each time. A token is forgotten when it expires or its key is withdrawn.
	// Handlers of the same provider and number share one cache; it holds facts about tokens, never a decision. Default: 10000
	TokenCache *int `json:"token_cache,omitempty"`

	// Another name for a token_cache of 0, as APISIX has it. Default: false
	JWTVerificationCacheIgnore bool `json:"jwt_verification_cache_ignore,omitempty"`

	// Tokens bound to a client certificate (RFC 8705): "auto" demands the certificate for tokens that are bound, "required" refuses
	// all others, "off" accepts them unproven and warns at every load. The certificate is the one of the TLS connection to Caddy.
	// Default: auto
	MTLSBound string `json:"mtls_bound,omitempty"`

	// Tokens bound to a DPoP key (RFC 9449): "auto", "required" or "off", as with mtls_bound. They come with the DPoP scheme instead of Bearer and a fresh proof in the
	// DPoP header, which is good for this one request. A token bound in a way that is not known is refused. Default: auto
	DPoPBound string `json:"dpop_bound,omitempty"`

	// Metadata about this site as a protected resource (RFC 9728), by which clients find the provider: published for anybody at
	// /.well-known/oauth-protected-resource, with the path of the resource after it where it has one, and named in every 401.
	// Default: off
	ProtectedResource *ProtectedResource `json:"protected_resource,omitempty"`

	// Claims that must be there, or equal one of the listed values; all rules must hold. A missing claim refuses (403).
	RequiredClaims []ClaimRule `json:"required_claims,omitempty"`

	// Claims that refuse when they equal one of the listed values.
	DeniedClaims []ClaimRule `json:"denied_claims,omitempty"`

	// Set X-Userinfo: the claims as JSON in standard base64. Default: true
	SetUserinfoHeader *bool `json:"set_userinfo_header,omitempty"`

	// Set X-Access-Token. Default: false
	SetAccessTokenHeader *bool `json:"set_access_token_header,omitempty"`

	// Pass the access token as Authorization: Bearer instead of X-Access-Token, wherever it came from. Default: false
	AccessTokenInAuthorizationHeader bool `json:"access_token_in_authorization_header,omitempty"`

	// Set X-ID-Token: the claims of the ID token as JSON in standard base64. Sessions alone have one; the header is removed from requests
	// in any case. Default: false
	SetIDTokenHeader *bool `json:"set_id_token_header,omitempty"`

	// Set X-Raw-ID-Token: the signed ID token. Sessions alone have one; the header is removed from requests in any case. Default: false
	SetRawIDTokenHeader *bool `json:"set_raw_id_token_header,omitempty"`

	// Set X-Refresh-Token. Sessions alone have one; the header is removed from requests in any case. Default: false
	SetRefreshTokenHeader *bool `json:"set_refresh_token_header,omitempty"`

	// Headers that carry single claims: header name to claim path. The elements of a list are joined by commas; within an element "%",
	// "," and everything outside visible ASCII and space are percent-encoded. Instead of the path,
	// {"claim": path, "json": true} writes the claim as JSON. A claim that is missing sets no header.
	ClaimHeaders map[string]ClaimHeader `json:"claim_headers,omitempty"`

	// Names for claims in placeholders, {http.auth.user.<name>}: name to claim path.
	ClaimPlaceholders map[string]string `json:"claim_placeholders,omitempty"`

	// Remove the Authorization header before the upstream. Default: false
	StripAuthorization bool `json:"strip_authorization,omitempty"`

	// How logins are remembered.
	Session *SessionConfig `json:"session,omitempty"`

	// What a session keeps. Default: what the configuration needs
	SessionContents *SessionContents `json:"session_contents,omitempty"`

	// Exchange the refresh token for new tokens when the access token is about to expire, so that the session goes on with it. Providers
	// give a refresh token for the scope offline_access, or by their own settings. Default: true
	RenewAccessTokenOnExpiry *bool `json:"renew_access_token_on_expiry,omitempty"`

	// How long before its expiry the access token is renewed, up to 1h. A token is used for at least half of its lifetime, however
	// long this is. Default: 30s, at most a fifth of the lifetime
	AccessTokenExpiresLeeway *Duration `json:"access_token_expires_leeway,omitempty"`

	// The lifetime of access tokens where the provider does not state one, from 1s to 365d. Default: the exp of the token if it is a
	// JWT, else such a token does not expire
	AccessTokenExpiresIn *Duration `json:"access_token_expires_in,omitempty"`

	// How old the claims of a session may get before they are renewed by the refresh token, although the access token lives: from 1s
	// to absolute_timeout; 0 leaves them until then. Default: 0
	RefreshSessionInterval *Duration `json:"refresh_session_interval,omitempty"`

	// How long after a renewal requests with the cookie from before it still get the renewed session: those that were under way, or
	// come from a tab that has slept. Afterwards such a cookie is worth nothing. From 1s to 1h. Default: 2m
	RefreshGrace *Duration `json:"refresh_grace,omitempty"`

	// What becomes of a session whose renewal fails for want of the provider: "keep" until absolute_timeout or 10m past the expiry of
	// the access token, whichever is first, where requests whose upstream needs a live access token get 503 with Retry-After meanwhile;
	// or "end" with that token. A refresh token that the provider refuses ends the session in either case. Default: keep
	RefreshFailure string `json:"refresh_failure,omitempty"`

	// How instances keep from spending a refresh token twice: "storage" by a lock and the result in what they share, which is the
	// session's storage unless that is the cookie, else Caddy's; "local" not at all, for a single instance, whose memory does it; or
	// "auto", which is "storage" where sessions live in a storage or Caddy's is another than the default file storage, else "local".
	// Default: auto
	RefreshCoordination string `json:"refresh_coordination,omitempty"`

	// The path that ends the session, here and at the provider. A link to it, or a form that posts to it, is all that a site needs.
	// Default: /logout below path_prefix
	LogoutPath string `json:"logout_path,omitempty"`

	// Where the provider sends browsers to after a logout, as registered there: a URL, or a path that is completed with the request's
	// public origin. Default: /logged-out below path_prefix, a page that starts no login
	PostLogoutRedirectURI string `json:"post_logout_redirect_uri,omitempty"`

	// Have the provider revoke the session's refresh token, and then its access token if that is kept, when its user logs out (RFC 7009).
	// Default: false
	RevokeTokensOnLogout bool `json:"revoke_tokens_on_logout,omitempty"`

	// Let the provider end sessions (OpenID Connect Back-Channel Logout), at /backchannel-logout below path_prefix. Default: true
	BackchannelLogout *bool `json:"backchannel_logout,omitempty"`

	// Let a page of the provider end sessions (OpenID Connect Front-Channel Logout), at /frontchannel-logout below path_prefix; register
	// it there with frontchannel_logout_session_required. Default: false
	FrontchannelLogout bool `json:"frontchannel_logout,omitempty"`

	resolved bool // placeholders have been replaced
	runtime  *runtime
}
