package openidconnect

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

const directive = "openid_connect"

func init() {
	httpcaddyfile.RegisterDirective(directive, parseDirective)
	// after rewrites, before everything that can answer or reads {http.auth.user.*}
	httpcaddyfile.RegisterDirectiveOrder(directive, httpcaddyfile.Before, "basic_auth")
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. The whole syntax, where <on|off> may be left out for on:
//
//	openid_connect [<matcher>] [<issuer>] {
//		# the provider
//		issuer                                <url>
//		discovery                             <url>
//		authorization_endpoint                <url>
//		token_endpoint                        <url>
//		userinfo_endpoint                     <url>
//		jwks_uri                              <url>
//		introspection_endpoint                <url>
//		revocation_endpoint                   <url>
//		end_session_endpoint                  <url>
//		pushed_authorization_request_endpoint <url>
//		public_key                            <PEM>
//		jwks                                  <file>
//		valid_issuers                         <issuers...>
//		tenants                               <ids...>
//		timeout                               <duration>
//		tls_trust_pool                        <module> ...
//		tls_client_certificate                <certificate file> <key file>
//		tls_insecure_skip_verify              [<on|off>]
//		ssl_verify                            [<on|off>]
//		network_proxy                         <module> ...
//		jwk_expires_in                        <duration>
//
//		# our client there
//		client_id                             <id>
//		client_secret                         <secret>
//		token_endpoint_auth_method            <method>
//		introspection_endpoint_auth_method    <method>
//		revocation_endpoint_auth_method       <method>
//		client_private_key                    <file, PEM or JWK>
//		client_private_key_id                 <kid>
//		client_jwt_assertion_alg              <algorithm>
//		client_jwt_assertion_expires_in       <duration>
//		client_jwt_assertion_audience         <audience>
//		client_assertion_file                 <file>
//
//		# logins
//		scope                                 <scopes...>
//		redirect_uri                          <path or url>
//		path_prefix                           <path>
//		use_pkce                              [<on|off>]
//		use_nonce                             [<on|off>]
//		authorization_params                  <name> <values...>
//		token_params                          <name> <values...>
//		prompt                                <prompts...>
//		max_age                               <duration or seconds>
//		acr_values                            <classes...>
//		resource                              <uris...>
//		display                               page|popup|touch|wap
//		ui_locales                            <languages...>
//		response_mode                         query|form_post
//		id_token_signed_response_alg          <algorithms...>
//		trusted_audiences                     <audiences...>
//		userinfo                              auto|on|off
//		error_template                        <file>
//
//		# sessions
//		session {
//			secret             <secrets...>
//			storage            cookie|caddy|<module> ...
//			cookie_name        <name>
//			cookie_domain      <domain>
//			cookie_path        <path>
//			cookie_same_site   lax|strict|none
//			cookie_secure      auto|on|off
//			cookie_http_only   [<on|off>]
//			cookie_partitioned [<on|off>]
//			cookie_persistent  [<on|off>]
//			idling_timeout     <duration>
//			reissue_interval   <duration>
//			absolute_timeout   <duration>
//			max_cookie_bytes   <bytes>
//		}
//		session_contents                      access_token|id_token|enc_id_token|user...
//
//		# their renewal by refresh token
//		renew_access_token_on_expiry          [<on|off>]
//		access_token_expires_leeway           <duration>
//		access_token_expires_in               <duration>
//		refresh_session_interval              <duration>
//		refresh_grace                         <duration>
//		refresh_failure                       keep|end
//		refresh_coordination                  auto|local|storage
//
//		# their end
//		logout_path                           <path>
//		post_logout_redirect_uri              <path or url>
//		revoke_tokens_on_logout               [<on|off>]
//		backchannel_logout                    [<on|off>]
//		frontchannel_logout                   [<on|off>]
//
//		# bearer tokens
//		bearer_only                           [<on|off>]
//		ignore_bearer                         [<on|off>]
//		bearer_token_from                     header|cookie|query <name>
//		realm                                 <text>
//		audience                              <audiences...>|any
//		audience_claim                        <claim>
//		required_scopes                       <scopes...>
//		token_type                            at+jwt|any
//		token_signing_alg_values_expected     <algorithms...>
//		clock_skew                            <duration>
//		introspection                         auto|always|off
//		introspection_interval                <duration>
//		introspection_expiry_claim            <claim>
//		introspection_addon_headers           <headers...>
//		token_cache                           <entries>
//		mtls_bound                            auto|required|off
//		dpop_bound                            auto|required|off
//		protected_resource {
//			resource               <path or url>
//			scopes_supported       <scopes...>
//			resource_name          <text>
//			resource_documentation <url>
//			resource_policy_uri    <url>
//			resource_tos_uri       <url>
//		}
//
//		# who may enter
//		unauth_action                         auth|deny|pass [<matcher>]
//		allow_preflight                       [<on|off>]
//		required_claim                        <claim path> [<values...>]
//		denied_claim                          <claim path> <values...>
//		error_responses                       builtin|handle_errors
//
//		# what the upstream gets
//		username_claim                        <claim path>
//		set_userinfo_header                   [<on|off>]
//		set_access_token_header               [<on|off>]
//		access_token_in_authorization_header  [<on|off>]
//		set_id_token_header                   [<on|off>]
//		set_raw_id_token_header               [<on|off>]
//		set_refresh_token_header              [<on|off>]
//		claim_header                          <header> <claim path> [json]
//		claim_placeholder                     <name> <claim path>
//		strip_authorization                   [<on|off>]
//	}
//
// Lists may be repeated to append to them, and so may authorization_params, token_params, bearer_token_from, unauth_action with a
// matcher, required_claim, denied_claim, claim_header and claim_placeholder; everything else stands once.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	return h.unmarshal(d, func() (caddy.ModuleMap, bool, error) {
		if !d.NextArg() {
			return nil, false, nil
		}
		if !strings.HasPrefix(d.Val(), "/") {
			return nil, false, d.Errf("%q is not a path matcher", d.Val())
		}
		return caddy.ModuleMap{"path": caddyconfig.JSON(caddyhttp.MatchPath{d.Val()}, nil)}, true, nil
	})
}

// parser reads the tokens of one directive into a handler.
type parser struct {
	*caddyfile.Dispenser
	handler *Handler
	matcher func() (caddy.ModuleMap, bool, error)
	seen    map[string]caddyfile.Token // where each setting stands, the last one; those of a block with its name and a dot in front
}

func (h *Handler) unmarshal(d *caddyfile.Dispenser, matcher func() (caddy.ModuleMap, bool, error)) error {
	p := &parser{Dispenser: d, handler: h, matcher: matcher, seen: make(map[string]caddyfile.Token)}
	start := d.Token()
	if d.NextArg() {
		h.Issuer = d.Val()
		p.seen["issuer"] = d.Token()
	}
	if d.NextArg() {
		return d.Errf("the directive takes one argument, the issuer; %q is one too many", d.Val())
	}
	for d.NextBlock(0) {
		if err := p.subdirective(d.Val()); err != nil {
			return err
		}
	}
	if err := h.check(); err != nil {
		at := caddyfile.NewDispenser([]caddyfile.Token{p.tokenOf(err, start)})
		at.Next()
		return at.WrapErr(fmt.Errorf("%s: %w", directive, err))
	}
	return nil
}

// tokenOf is the token to point at for an error of the check: the setting that it names where there is one, else the directive.
func (p *parser) tokenOf(err error, standard caddyfile.Token) caddyfile.Token {
	named, ok := errors.AsType[*configError](err)
	if !ok {
		return standard
	}
	field, _, _ := strings.Cut(named.field, ".")
	for _, name := range []string{named.field, field, strings.TrimSuffix(field, "s")} { // required_claims is written required_claim
		if token, ok := p.seen[name]; ok {
			return token
		}
	}
	return standard
}

// subdirectives maps every name of the grammar to how its arguments are read; the handler's check judges the values.
var subdirectives = map[string]func(*parser) error{
	"issuer":                             text(func(h *Handler) *string { return &h.Issuer }),
	"discovery":                          text(func(h *Handler) *string { return &h.Discovery }),
	"authorization_endpoint":             text(func(h *Handler) *string { return &h.AuthorizationEndpoint }),
	"token_endpoint":                     text(func(h *Handler) *string { return &h.TokenEndpoint }),
	"userinfo_endpoint":                  text(func(h *Handler) *string { return &h.UserinfoEndpoint }),
	"jwks_uri":                           text(func(h *Handler) *string { return &h.JWKSURI }),
	"introspection_endpoint":             text(func(h *Handler) *string { return &h.IntrospectionEndpoint }),
	"revocation_endpoint":                text(func(h *Handler) *string { return &h.RevocationEndpoint }),
	"end_session_endpoint":               text(func(h *Handler) *string { return &h.EndSessionEndpoint }),
	"public_key":                         text(func(h *Handler) *string { return &h.PublicKey }),
	"jwks":                               text(func(h *Handler) *string { return &h.JWKS }),
	"valid_issuers":                      list(func(h *Handler) *StringList { return &h.ValidIssuers }),
	"tenants":                            list(func(h *Handler) *StringList { return &h.Tenants }),
	"timeout":                            duration(func(h *Handler) **Duration { return &h.Timeout }),
	"tls_trust_pool":                     module("tls.ca_pool.source", "provider", func(h *Handler) *json.RawMessage { return &h.TLSTrustPoolRaw }),
	"tls_client_certificate":             (*parser).clientCertificate,
	"tls_insecure_skip_verify":           flag(func(h *Handler) *bool { return &h.TLSInsecureSkipVerify }),
	"ssl_verify":                         optionalFlag(func(h *Handler) **bool { return &h.SSLVerify }),
	"network_proxy":                      module("caddy.network_proxy", "from", func(h *Handler) *json.RawMessage { return &h.NetworkProxyRaw }),
	"jwk_expires_in":                     duration(func(h *Handler) **Duration { return &h.JWKExpiresIn }),
	"client_id":                          text(func(h *Handler) *string { return &h.ClientID }),
	"client_secret":                      text(func(h *Handler) *string { return &h.ClientSecret }),
	"token_endpoint_auth_method":         choice(func(h *Handler) *string { return &h.TokenEndpointAuthMethod }, clientAuthentications),
	"introspection_endpoint_auth_method": choice(func(h *Handler) *string { return &h.IntrospectionEndpointAuthMethod }, clientAuthentications),
	"revocation_endpoint_auth_method":    choice(func(h *Handler) *string { return &h.RevocationEndpointAuthMethod }, clientAuthentications),
	"client_private_key":                 text(func(h *Handler) *string { return &h.ClientPrivateKey }),
	"client_private_key_id":              text(func(h *Handler) *string { return &h.ClientPrivateKeyID }),
	"client_jwt_assertion_alg":           text(func(h *Handler) *string { return &h.ClientJWTAssertionAlg }),
	"client_jwt_assertion_expires_in":    duration(func(h *Handler) **Duration { return &h.ClientJWTAssertionExpiresIn }),
	"client_jwt_assertion_audience":      text(func(h *Handler) *string { return &h.ClientJWTAssertionAudience }),
	"client_assertion_file":              text(func(h *Handler) *string { return &h.ClientAssertionFile }),
	"scope":                              words(func(h *Handler) *string { return &h.Scope }),
	"redirect_uri":                       text(func(h *Handler) *string { return &h.RedirectURI }),
	"path_prefix":                        text(func(h *Handler) *string { return &h.PathPrefix }),
	"use_pkce":                           optionalFlag(func(h *Handler) **bool { return &h.UsePKCE }),
	"use_nonce":                          optionalFlag(func(h *Handler) **bool { return &h.UseNonce }),
	"authorization_params":               params(func(h *Handler) *map[string]StringList { return &h.AuthorizationParams }),
	"token_params":                       params(func(h *Handler) *map[string]StringList { return &h.TokenParams }),
	"prompt":                             words(func(h *Handler) *string { return &h.Prompt }),
	"max_age":                            (*parser).maxAge,
	"acr_values":                         words(func(h *Handler) *string { return &h.ACRValues }),
	"resource":                           list(func(h *Handler) *StringList { return &h.Resource }),
	"display":                            choice(func(h *Handler) *string { return &h.Display }, displays),
	"ui_locales":                         words(func(h *Handler) *string { return &h.UILocales }),
	"response_mode":                      choice(func(h *Handler) *string { return &h.ResponseMode }, responseModes),
	"id_token_signed_response_alg":       list(func(h *Handler) *StringList { return &h.IDTokenSignedResponseAlg }),
	"trusted_audiences":                  list(func(h *Handler) *StringList { return &h.TrustedAudiences }),
	"userinfo":                           choice(func(h *Handler) *string { return &h.Userinfo }, userinfoModes),
	"error_template":                     text(func(h *Handler) *string { return &h.ErrorTemplate }),
	"session":                            (*parser).session,
	"session_contents":                   (*parser).sessionContents,
	"renew_access_token_on_expiry":       optionalFlag(func(h *Handler) **bool { return &h.RenewAccessTokenOnExpiry }),
	"access_token_expires_leeway":        duration(func(h *Handler) **Duration { return &h.AccessTokenExpiresLeeway }),
	"access_token_expires_in":            duration(func(h *Handler) **Duration { return &h.AccessTokenExpiresIn }),
	"refresh_session_interval":           duration(func(h *Handler) **Duration { return &h.RefreshSessionInterval }),
	"refresh_grace":                      duration(func(h *Handler) **Duration { return &h.RefreshGrace }),
	"refresh_failure":                    choice(func(h *Handler) *string { return &h.RefreshFailure }, refreshFailures),
	"refresh_coordination":               choice(func(h *Handler) *string { return &h.RefreshCoordination }, refreshCoordinations),
	"logout_path":                        text(func(h *Handler) *string { return &h.LogoutPath }),
	"post_logout_redirect_uri":           text(func(h *Handler) *string { return &h.PostLogoutRedirectURI }),
	"revoke_tokens_on_logout":            flag(func(h *Handler) *bool { return &h.RevokeTokensOnLogout }),
	"backchannel_logout":                 optionalFlag(func(h *Handler) **bool { return &h.BackchannelLogout }),
	"frontchannel_logout":                flag(func(h *Handler) *bool { return &h.FrontchannelLogout }),
	"bearer_only":                        flag(func(h *Handler) *bool { return &h.BearerOnly }),
	"ignore_bearer":                      flag(func(h *Handler) *bool { return &h.IgnoreBearer }),
	"bearer_token_from":                  (*parser).bearerTokenFrom,
	"realm":                              text(func(h *Handler) *string { return &h.Realm }),
	"audience":                           list(func(h *Handler) *StringList { return &h.Audience }),
	"audience_claim":                     text(func(h *Handler) *string { return &h.AudienceClaim }),
	"required_scopes":                    list(func(h *Handler) *StringList { return &h.RequiredScopes }),
	"token_type":                         choice(func(h *Handler) *string { return &h.TokenType }, tokenTypes),
	"token_signing_alg_values_expected":  list(func(h *Handler) *StringList { return &h.TokenSigningAlgValuesExpected }),
	"clock_skew":                         duration(func(h *Handler) **Duration { return &h.ClockSkew }),
	"introspection":                      choice(func(h *Handler) *string { return &h.Introspection }, introspectionModes),
	"introspection_interval":             duration(func(h *Handler) **Duration { return &h.IntrospectionInterval }),
	"introspection_expiry_claim":         text(func(h *Handler) *string { return &h.IntrospectionExpiryClaim }),
	"introspection_addon_headers":        list(func(h *Handler) *StringList { return &h.IntrospectionAddonHeaders }),
	"token_cache":                        number(func(h *Handler) **int { return &h.TokenCache }, "entries"),
	"mtls_bound":                         choice(func(h *Handler) *string { return &h.MTLSBound }, bindings),
	"dpop_bound":                         choice(func(h *Handler) *string { return &h.DPoPBound }, bindings),
	"protected_resource":                 (*parser).protectedResource,
	"unauth_action":                      (*parser).unauthAction,
	"allow_preflight":                    flag(func(h *Handler) *bool { return &h.AllowPreflight }),
	"required_claim":                     claimRules(func(h *Handler) *[]ClaimRule { return &h.RequiredClaims }, 0),
	"denied_claim":                       claimRules(func(h *Handler) *[]ClaimRule { return &h.DeniedClaims }, 1),
	"error_responses":                    choice(func(h *Handler) *string { return &h.ErrorResponses }, errorResponses),
	"username_claim":                     text(func(h *Handler) *string { return &h.UsernameClaim }),
	"set_userinfo_header":                optionalFlag(func(h *Handler) **bool { return &h.SetUserinfoHeader }),
	"set_access_token_header":            optionalFlag(func(h *Handler) **bool { return &h.SetAccessTokenHeader }),
	"access_token_in_authorization_header": flag(func(h *Handler) *bool {
		return &h.AccessTokenInAuthorizationHeader
	}),
	"set_id_token_header":      optionalFlag(func(h *Handler) **bool { return &h.SetIDTokenHeader }),
	"set_raw_id_token_header":  optionalFlag(func(h *Handler) **bool { return &h.SetRawIDTokenHeader }),
	"set_refresh_token_header": optionalFlag(func(h *Handler) **bool { return &h.SetRefreshTokenHeader }),
	"claim_header":             (*parser).claimHeader,
	"claim_placeholder":        (*parser).claimPlaceholder,
	"strip_authorization":      flag(func(h *Handler) *bool { return &h.StripAuthorization }),
	"pushed_authorization_request_endpoint": text(func(h *Handler) *string {
		return &h.PushedAuthorizationRequestEndpoint
	}),
}

// repeatable are the subdirectives that may stand more than once. unauth_action is there for its form with a matcher.
var repeatable = []string{
	"valid_issuers", "tenants", "scope", "audience", "required_scopes", "token_signing_alg_values_expected",
	"introspection_addon_headers", "bearer_token_from", "unauth_action", "required_claim", "denied_claim", "claim_header",
	"claim_placeholder", "authorization_params", "token_params", "prompt", "acr_values", "resource", "ui_locales",
	"id_token_signed_response_alg", "trusted_audiences", "session_contents",
}

func (p *parser) subdirective(name string) error {
	read, ok := subdirectives[name]
	if !ok {
		return p.Errf("unrecognized subdirective %q%s", name, didYouMean(name, keys(subdirectives)))
	}
	if _, seen := p.seen[name]; seen && !slices.Contains(repeatable, name) {
		return p.Errf("%s is set twice", name)
	}
	p.seen[name] = p.Token()
	if err := read(p); err != nil {
		return err
	}
	return p.end(name)
}

// end makes sure that nothing is left of a setting, neither an argument nor a block, be it an empty one.
func (p *parser) end(name string) error {
	if p.NextArg() {
		return p.Errf("%s: unexpected argument %q", name, p.Val())
	}
	last, nesting := p.Token(), p.Nesting()
	if p.NextBlock(nesting) || !reflect.DeepEqual(p.Token(), last) {
		return p.Errf("%s takes no block", name)
	}
	return nil
}
