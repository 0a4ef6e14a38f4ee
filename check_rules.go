package openidconnect

import (
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

func (h *Handler) checkRules() error {
	for _, rules := range []struct {
		field      string
		rules      []ClaimRule
		needValues bool
	}{
		{"required_claims", h.RequiredClaims, false},
		{"denied_claims", h.DeniedClaims, true},
	} {
		for _, rule := range rules.rules {
			if !h.unresolved(rule.Claim) {
				if _, err := parseClaimPath(rule.Claim); err != nil {
					return fieldError(rules.field, "%q: %v", rule.Claim, err)
				}
			}
			if rule.Values != nil && len(rule.Values) == 0 || rules.needValues && len(rule.Values) == 0 {
				return fieldError(rules.field, "the rule for %q has no value", rule.Claim)
			}
			if slices.Contains(rule.Values, "") {
				return fieldError(rules.field, "the rule for %q has an empty value", rule.Claim)
			}
		}
	}
	for i, rule := range h.UnauthRules {
		if rule.Action == "" {
			return fieldError("unauth_rules", "rule %d has no action", i+1)
		}
		if err := h.oneOf("unauth_rules", rule.Action, unauthActions); err != nil {
			return err
		}
		if len(rule.MatchRaw) == 0 {
			return fieldError("unauth_rules", "rule %d has no matcher; unauth_action is the default for all requests", i+1)
		}
		for _, set := range rule.MatchRaw {
			if len(set) == 0 {
				return fieldError("unauth_rules", "rule %d has an empty set of matchers, which would match every request", i+1)
			}
			for _, name := range sortedKeys(set) {
				if text := strings.TrimSpace(string(set[name])); text == "{}" || text == "[]" || text == "null" {
					return fieldError("unauth_rules", "the %s matcher of rule %d is empty and would match every request", name, i+1)
				}
			}
		}
	}
	return nil
}

// reservedHeaders cannot carry a claim: they mean something to HTTP itself or belong to the client.
var reservedHeaders = []string{
	"Authorization", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Cookie", "Expect", "Host", "Keep-Alive",
	"Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

func (h *Handler) checkHeaders() error {
	if h.UsernameClaim != "" && !h.unresolved(h.UsernameClaim) {
		if _, err := parseClaimPath(h.UsernameClaim); err != nil {
			return fieldError("username_claim", "%q: %v", h.UsernameClaim, err)
		}
	}
	names := make(map[string]string, len(tokenHeaders)) // folded name: who has it
	for _, name := range tokenHeaders {
		names[foldHeaderName(name)] = "a header that this handler sets itself"
	}
	for _, name := range sortedKeys(h.ClaimHeaders) {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch other, taken := names[foldHeaderName(name)]; {
		case !httpguts.ValidHeaderFieldName(name):
			return fieldError("claim_headers", "%q is not the name of a header", name)
		case slices.Contains(reservedHeaders, canonical):
			return fieldError("claim_headers", "%s cannot carry a claim", canonical)
		case taken:
			return fieldError("claim_headers", "%s and %s are the same header to some upstreams", name, other)
		}
		names[foldHeaderName(name)] = name
		if path := h.ClaimHeaders[name].Claim; !h.unresolved(path) {
			if _, err := parseClaimPath(path); err != nil {
				return fieldError("claim_headers", "%s: %q: %v", name, path, err)
			}
		}
	}
	for _, name := range sortedKeys(h.ClaimPlaceholders) {
		if name == "" || name == "id" || name == "access_token" || strings.ContainsAny(name, "{} ") {
			return fieldError("claim_placeholders", "%q cannot be the name of a placeholder", name)
		}
		if path := h.ClaimPlaceholders[name]; !h.unresolved(path) {
			if _, err := parseClaimPath(path); err != nil {
				return fieldError("claim_placeholders", "%s: %q: %v", name, path, err)
			}
		}
	}
	return nil
}

func (h *Handler) checkResource() error {
	resource := h.ProtectedResource
	if resource == nil {
		return nil
	}
	if resource.ScopesSupported != nil && len(resource.ScopesSupported) == 0 {
		return fieldError("protected_resource.scopes_supported", "the list is empty; leave it out or name a value")
	}
	for _, address := range []struct{ field, value string }{
		{"resource", resource.Resource},
		{"resource_documentation", resource.ResourceDocumentation},
		{"resource_policy_uri", resource.ResourcePolicyURI},
		{"resource_tos_uri", resource.ResourceTosURI},
	} {
		if address.value == "" || h.unresolved(address.value) {
			continue
		}
		if address.field == "resource" && strings.HasPrefix(address.value, "/") {
			if u, err := url.Parse(address.value); err != nil || u.Host != "" || u.RawQuery != "" || u.Fragment != "" || ambiguousPath(u) {
				return fieldError("protected_resource.resource", "%q is not a plain path", address.value)
			}
			continue
		}
		text := address.value
		if address.field != "resource" {
			text, _, _ = strings.Cut(text, "#") // a page may be meant from a heading on
		}
		if err := provider.CheckURL(text); err != nil {
			return fieldError("protected_resource."+address.field, "%v", err)
		}
	}
	return nil
}
