package openidconnect

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// unauthAuth has an unauthenticated navigation log in.
const unauthAuth = "auth"

// How the provider answers an authorization request.
const (
	responseModeQuery    = "query"
	responseModeFormPost = "form_post"
)

// When a login asks the userinfo endpoint.
const (
	userinfoAuto = "auto"
	userinfoOn   = "on"
	userinfoOff  = "off"
)

// Values of prompt besides those that pages of ours ask for.
const (
	promptCreate = "create"
	promptNone   = "none"
)

// scopeOpenID makes an authorization request one of OpenID Connect.
const scopeOpenID = "openid"

// checkLogin judges what is asked of the provider at a login, and of its answer. A handler with bearer_only may have all of it, without
// effect, so there nothing is missing.
func (h *Handler) checkLogin() error {
	scopes := strings.Fields(h.Scope)
	for _, scope := range scopes {
		if !h.unresolved(scope) && !isScopeToken(scope) {
			return fieldError("scope", "%q is not a scope: no quotes or backslashes", scope)
		}
	}
	if h.Scope != "" && !h.BearerOnly && !h.unresolved(h.Scope) && !slices.Contains(scopes, scopeOpenID) {
		return fieldError("scope", "must contain %s: without it the provider sends no ID token%s", scopeOpenID, nearest(scopeOpenID, scopes))
	}
	values := strings.Fields(h.Prompt)
	for _, value := range values {
		if err := h.oneOf("prompt", value, prompts); err != nil {
			return err
		}
	}
	if len(values) > 1 && slices.Contains(values, promptNone) {
		return fieldError("prompt", "%s must stand alone", promptNone)
	}
	if h.MaxAge != nil && time.Duration(*h.MaxAge)%time.Second != 0 {
		return fieldError("max_age", "must be whole seconds")
	}
	for _, text := range []struct{ field, value string }{
		{"prompt", h.Prompt}, {"scope", h.Scope}, {"acr_values", h.ACRValues}, {"ui_locales", h.UILocales},
	} {
		if text.value != "" && strings.TrimSpace(text.value) == "" {
			return fieldError(text.field, "is blank")
		}
		if strings.ContainsFunc(text.value, func(r rune) bool { return r < ' ' || r > '~' }) {
			return fieldError(text.field, "must be printable ASCII")
		}
	}
	for _, resource := range h.Resource {
		if h.unresolved(resource) {
			continue
		}
		if u, err := url.Parse(resource); err != nil || !u.IsAbs() || strings.Contains(resource, "#") {
			return fieldError("resource", "%q is not an absolute URI without a fragment", resource)
		}
	}
	return h.checkIDTokenAlgorithms()
}

// nearest is for the end of an error text about a value that is not there: which one may have been meant for it.
func nearest(missing string, values []string) string {
	for _, value := range values {
		if didYouMean(value, []string{missing}) != "" {
			return "; it has " + value
		}
	}
	return ""
}

func (h *Handler) checkIDTokenAlgorithms() error {
	if h.BearerOnly {
		return nil
	}
	symmetric, err := h.checkAlgorithms("id_token_signed_response_alg", h.IDTokenSignedResponseAlg)
	if err != nil || symmetric != "" {
		return err
	}
	for _, alg := range h.TokenSigningAlgValuesExpected {
		if jose.Symmetric(alg) {
			return fieldError("id_token_signed_response_alg",
				"must be an HMAC algorithm too where token_signing_alg_values_expected is %s: the provider's keys are not fetched then", alg)
		}
	}
	return nil
}

// reservedAuthorizationParams cannot be added by the configuration: what the protocol needs, and what has a setting that also verifies the
// answer.
var reservedAuthorizationParams = []string{
	"client_id", "redirect_uri", "response_type", "scope", "state", "nonce", "code_challenge", "code_challenge_method", "response_mode",
	"request", "request_uri", "max_age", "acr_values",
}

func (h *Handler) checkParameters() error {
	for _, params := range []struct {
		field    string
		values   map[string]StringList
		reserved []string
		set      map[string]bool // by a setting of the same name
	}{
		{"authorization_params", h.AuthorizationParams, reservedAuthorizationParams, map[string]bool{
			"prompt": h.Prompt != "", "resource": len(h.Resource) > 0, "display": h.Display != "", "ui_locales": h.UILocales != "",
		}},
		{"token_params", h.TokenParams, provider.TokenParameters(), map[string]bool{"resource": len(h.Resource) > 0}},
	} {
		for _, name := range sortedKeys(params.values) {
			_, setting := subdirectives[name]
			switch {
			case name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }):
				return fieldError(params.field, "%q is not the name of a parameter", name)
			case slices.Contains(params.reserved, name) && setting:
				return fieldError(params.field, "%s has a setting of its own", name)
			case slices.Contains(params.reserved, name):
				return fieldError(params.field, "%s belongs to the protocol and cannot be set", name)
			case params.set[name]:
				return fieldError(params.field, "%s is set by its own setting already", name)
			case len(params.values[name]) == 0:
				return fieldError(params.field, "%s has no value", name)
			case slices.Contains(params.values[name], ""):
				return fieldError(params.field, "%s has an empty value", name)
			}
		}
	}
	return nil
}
