package openidconnect

import (
	"slices"
	"strings"
)

// claimRule is a compiled [ClaimRule].
type claimRule struct {
	path   claimPath
	values []string
}

// matches reports whether the claim is there and, where the rule has values, equals one of them.
func (r claimRule) matches(claims map[string]any) bool {
	value, ok := r.path.find(claims)
	if !ok || emptyClaim(value) {
		return false
	}
	if len(r.values) == 0 {
		return true
	}
	return slices.ContainsFunc(r.path.elements(value), func(element string) bool { return slices.Contains(r.values, element) })
}

func (r claimRule) String() string {
	if len(r.values) == 0 {
		return r.path.text
	}
	return r.path.text + " = " + strings.Join(r.values, " or ")
}

// authorization is what a verified identity must satisfy. Everything fails closed: a missing claim refuses.
type authorization struct {
	requiredScopes []string
	required       []claimRule
	denied         []claimRule
}

// check returns the first rule that refuses these claims, or nil.
func (a *authorization) check(claims map[string]any) *refusal {
	if len(a.requiredScopes) > 0 {
		granted := grantedScopes(claims)
		for _, scope := range a.requiredScopes {
			if !slices.Contains(granted, scope) {
				refused := refuseClaim(reasonInsufficientScope, a.requiredScopes, granted)
				refused.scope = strings.Join(a.requiredScopes, " ")
				return refused
			}
		}
	}
	for _, rule := range a.required {
		if !rule.matches(claims) {
			return refuseClaim(reasonClaimRequired, rule, "the claims "+strings.Join(sortedKeys(claims), " "))
		}
	}
	for _, rule := range a.denied {
		if rule.matches(claims) {
			return refuseClaim(reasonClaimDenied, "not "+rule.String(), "a match")
		}
	}
	return nil
}

// grantedScopes are the scopes of a token, under any of the names that providers use, as a string or a list.
func grantedScopes(claims map[string]any) []string {
	var granted []string
	for _, name := range scopeClaims {
		switch value := claims[name].(type) {
		case string:
			granted = append(granted, splitScope(value)...)
		case []any:
			for _, element := range value {
				if scope, ok := element.(string); ok {
					granted = append(granted, scope)
				}
			}
		}
	}
	return granted
}
