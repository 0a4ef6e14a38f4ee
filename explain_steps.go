package openidconnect

import "slices"

// step is a part of what a bearer token goes through, with the reasons that end it there.
type step struct {
	name    string
	reasons []Reason
}

// stepProof is passed by tokens that are bound to nothing, and by others with the proof that a request brings.
const stepProof = "proof"

var providerReasons = []Reason{reasonProviderUnreachable, reasonDiscoveryFailed, reasonDiscoveryIssuerMismatch}

// steps returns what a token of this handler goes through, in the order of the code. A reason that may end more than one step stands at
// the earliest.
func (rt *runtime) steps(raw string) []step {
	form := step{"form", []Reason{
		reasonMalformedAuthorization, reasonTooLarge, reasonMalformedToken, reasonUnsupportedAlgorithm, reasonUnsupportedCritical,
	}}
	metadata := step{"provider", providerReasons}
	claims := []step{
		{"type", []Reason{reasonWrongTokenType}},
		{"issuer", []Reason{reasonWrongIssuer}},
		{"dates", []Reason{reasonExpired, reasonNotYetValid, reasonMissingClaim}},
		{"audience", []Reason{reasonWrongAudience}},
	}
	rules := []step{
		{stepProof, []Reason{reasonUnbound, reasonProofInvalid, reasonProofReplayed}},
		{"rules", []Reason{reasonInsufficientScope, reasonClaimRequired, reasonClaimDenied}},
	}
	switch {
	case rt.introspection.wants(raw):
		introspected := step{"introspection", []Reason{reasonIntrospectionUnavailable, reasonInactive}}
		return slices.Concat([]step{form, metadata, introspected}, claims, rules)
	case rt.policy.issuer == "" || len(rt.policy.tenants) > 0: // the issuer to expect is in the metadata
		keys := step{"key", []Reason{reasonKeysUnavailable, reasonUnknownKey}}
		return slices.Concat([]step{form, metadata}, claims, []step{keys, {"signature", []Reason{reasonBadSignature}}}, rules)
	default:
		keys := step{"key", slices.Concat(providerReasons, []Reason{reasonKeysUnavailable, reasonUnknownKey})}
		return slices.Concat([]step{form}, claims, []step{keys, {"signature", []Reason{reasonBadSignature}}}, rules)
	}
}

// stepsBefore returns the names of the steps that a token has surely passed, and of the one that a reason has ended.
func stepsBefore(steps []step, ended Reason) (passed []string, failed string) {
	for _, s := range steps {
		if slices.Contains(s.reasons, ended) {
			return passed, s.name
		}
		passed = append(passed, s.name)
	}
	if ended == "" {
		return passed, ""
	}
	return nil, "" // a reason of no step: better nothing than a guess
}
