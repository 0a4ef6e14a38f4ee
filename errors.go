package openidconnect

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Reason says why a request was refused. Reasons are stable: they stand in logs, metrics and answers, and none is ever renamed.
type Reason string

// Reasons, by what they are about.
const (
	// the request
	reasonNoCredentials          Reason = "no_credentials"
	reasonMalformedAuthorization Reason = "malformed_authorization"
	reasonAmbiguousCredentials   Reason = "ambiguous_credentials"
	reasonTooLarge               Reason = "too_large"

	// the token
	reasonMalformedToken       Reason = "malformed_token"
	reasonUnsupportedAlgorithm Reason = "unsupported_algorithm"
	reasonUnsupportedCritical  Reason = "unsupported_critical"
	reasonUnknownKey           Reason = "unknown_key"
	reasonBadSignature         Reason = "bad_signature"
	reasonWrongIssuer          Reason = "wrong_issuer"
	reasonWrongAudience        Reason = "wrong_audience"
	reasonExpired              Reason = "expired"
	reasonNotYetValid          Reason = "not_yet_valid"
	reasonMissingClaim         Reason = "missing_claim"
	reasonWrongTokenType       Reason = "wrong_token_type"
	reasonInactive             Reason = "inactive"
	reasonUnbound              Reason = "unbound"
	reasonProofInvalid         Reason = "proof_invalid"
	reasonProofReplayed        Reason = "proof_replayed"

	// rules
	reasonInsufficientScope Reason = "insufficient_scope"
	reasonClaimRequired     Reason = "claim_required"
	reasonClaimDenied       Reason = "claim_denied"

	reasonInsufficientAuthentication Reason = "insufficient_authentication"

	// logins
	reasonTransactionMissing Reason = "transaction_missing"
	reasonTransactionExpired Reason = "transaction_expired"
	reasonStateMismatch      Reason = "state_mismatch"
	reasonDuplicateParameter Reason = "duplicate_parameter"
	reasonProviderError      Reason = "provider_error"
	reasonAccessDenied       Reason = "access_denied"
	reasonCodeExchangeFailed Reason = "code_exchange_failed"
	reasonNonceMismatch      Reason = "nonce_mismatch"
	reasonHashMismatch       Reason = "hash_mismatch"
	reasonSubjectMismatch    Reason = "subject_mismatch"
	reasonIssuerMismatch     Reason = "issuer_mismatch"
	reasonUserinfoFailed     Reason = "userinfo_failed"
	reasonSessionTooLarge    Reason = "session_too_large"
	reasonLoginLoop          Reason = "login_loop"
	reasonInvalidHost        Reason = "invalid_host"
	reasonCrossSiteLogin     Reason = "cross_site_login"

	// sessions
	reasonSessionInvalid     Reason = "session_invalid"
	reasonSessionExpired     Reason = "session_expired"
	reasonSessionIdle        Reason = "session_idle"
	reasonSessionRevoked     Reason = "session_revoked"
	reasonRefreshRejected    Reason = "refresh_rejected"
	reasonRefreshUnavailable Reason = "refresh_unavailable"
	reasonStoreUnavailable   Reason = "store_unavailable"

	// the provider
	reasonProviderUnreachable      Reason = "provider_unreachable"
	reasonDiscoveryFailed          Reason = "discovery_failed"
	reasonDiscoveryIssuerMismatch  Reason = "discovery_issuer_mismatch"
	reasonKeysUnavailable          Reason = "keys_unavailable"
	reasonIntrospectionUnavailable Reason = "introspection_unavailable"

	// logouts
	reasonLogoutTokenInvalid Reason = "logout_token_invalid"
	reasonCrossSiteLogout    Reason = "cross_site_logout"
)

// OAuth error codes (RFC 6750 section 3.1) and our own for answers that have none.
const (
	codeLoginRequired     = "login_required"
	codeInvalidRequest    = "invalid_request"
	codeInvalidToken      = "invalid_token"
	codeInvalidProof      = "invalid_dpop_proof"
	codeInsufficientScope = "insufficient_scope"
	codeAccessDenied      = "access_denied"
	codeUnavailable       = "temporarily_unavailable"
	codeInvalidResponse   = "invalid_response"
	codeServerError       = "server_error"
)

// answer is what a reason means to the outside. The text is fixed: nothing of a request, token or provider ever gets into it.
type answer struct {
	status int
	code   string
	text   string
	// hint tells the operator, in the log, where to look.
	hint string
}

// answers is the one table from reasons to what requests get.
var answers = map[Reason]answer{
	reasonNoCredentials: {
		http.StatusUnauthorized, codeLoginRequired, "Authentication is required.",
		"send an access token as Authorization: Bearer",
	},
	reasonMalformedAuthorization: {
		http.StatusBadRequest, codeInvalidRequest, "The Authorization header is malformed.",
		"the header must be Bearer, spaces, and one token",
	},
	reasonAmbiguousCredentials: {
		http.StatusBadRequest, codeInvalidRequest, "The request carries more than one credential.",
		"send one token, in one place",
	},
	reasonTooLarge: {
		http.StatusBadRequest, codeInvalidRequest, "The token is too large.",
		"have the provider put fewer claims into the token",
	},

	reasonMalformedToken: {
		http.StatusUnauthorized, codeInvalidToken, "The token is malformed.",
		"the client must send a JWT of the provider, or introspection must be possible for opaque tokens",
	},
	reasonUnsupportedAlgorithm: {
		http.StatusUnauthorized, codeInvalidToken, "The token is signed with an algorithm that is not accepted.",
		"see token_signing_alg_values_expected",
	},
	reasonUnsupportedCritical: {
		http.StatusUnauthorized, codeInvalidToken, "The token uses an extension that is not supported.",
		"the token's header has crit or b64, which no access token needs",
	},
	reasonUnknownKey: {
		http.StatusUnauthorized, codeInvalidToken, "The token is signed by an unknown key.",
		"the key is not in the provider's key set; is the token from another provider?",
	},
	reasonBadSignature: {
		http.StatusUnauthorized, codeInvalidToken, "The token's signature is not valid.",
		"the token was changed on the way, or another key of the same name signed it",
	},
	reasonWrongIssuer: {
		http.StatusUnauthorized, codeInvalidToken, "The token is from another issuer.",
		"compare expected and got to the letter, a final slash included; see issuer, valid_issuers and tenants",
	},
	reasonWrongAudience: {
		http.StatusUnauthorized, codeInvalidToken, "The token is for another audience.",
		"name the audience of your tokens with audience, or have the provider put yours into them",
	},
	reasonExpired: {
		http.StatusUnauthorized, codeInvalidToken, "The token has expired.",
		"the client must get a new token; if it is new, compare the clocks of this machine and the provider",
	},
	reasonNotYetValid: {
		http.StatusUnauthorized, codeInvalidToken, "The token is not valid yet.",
		"compare the clocks of this machine and the provider; see clock_skew",
	},
	reasonMissingClaim: {
		http.StatusUnauthorized, codeInvalidToken, "The token lacks a required claim.",
		"have the provider put the claim into its access tokens",
	},
	reasonWrongTokenType: {
		http.StatusUnauthorized, codeInvalidToken, "The token is not an access token.",
		"the client must send its access token, not an ID, refresh or logout token",
	},
	reasonInactive: {
		http.StatusUnauthorized, codeInvalidToken, "The token is not active.",
		"the provider says that the token is unknown, revoked or expired",
	},
	reasonUnbound: {
		http.StatusUnauthorized, codeInvalidToken, "The token is bound to a key that the request does not prove.",
		"the token is bound to a key or a certificate (cnf), or must be; see mtls_bound and dpop_bound",
	},
	reasonProofInvalid: {
		http.StatusUnauthorized, codeInvalidProof, "The proof of possession is not valid.",
		"the client must make a fresh DPoP proof for each request, with the key that the token is bound to",
	},
	reasonProofReplayed: {
		http.StatusUnauthorized, codeInvalidProof, "The proof of possession has been used before.",
		"the client must make a fresh DPoP proof for each request",
	},

	reasonInsufficientScope: {
		http.StatusForbidden, codeInsufficientScope, "The token lacks a required scope.",
		"the client must ask the provider for the scopes in required_scopes",
	},
	reasonClaimRequired: {
		http.StatusForbidden, codeAccessDenied, "Access is denied by a rule of this site.",
		"see required_claim and username_claim; a missing claim needs its scope, or the provider to put it into the token or userinfo",
	},
	reasonClaimDenied: {
		http.StatusForbidden, codeAccessDenied, "Access is denied by a rule of this site.",
		"see denied_claim",
	},

	reasonInsufficientAuthentication: {
		http.StatusForbidden, codeAccessDenied, "The login was not as recent or as strong as this site demands.",
		"the ID token does not meet max_age or acr_values; the provider may not support them",
	},

	reasonTransactionMissing: {
		http.StatusBadRequest, codeInvalidResponse, "This login was not started here, or has been finished before. Please sign in again.",
		"the browser brought no cookie for the state: blocked cookies, another host than the one of redirect_uri, or an old page",
	},
	reasonTransactionExpired: {
		http.StatusBadRequest, codeInvalidResponse, "The login took too long. Please sign in again.",
		"a login must be finished within 15 minutes",
	},
	reasonStateMismatch: {
		http.StatusBadRequest, codeInvalidResponse, "The answer does not belong to a login of this browser.",
		"the state parameter was changed or left out on its way through the provider and the browser",
	},
	reasonDuplicateParameter: {
		http.StatusBadRequest, codeInvalidResponse, "The answer of the identity provider is ambiguous.",
		"a parameter of the authorization response occurs twice",
	},
	reasonProviderError: {
		http.StatusBadRequest, codeInvalidResponse, "The identity provider could not log you in.",
		"see the provider's own error code in got, and its log",
	},
	reasonAccessDenied: {
		http.StatusForbidden, codeAccessDenied, "The login was cancelled, or the identity provider refused it.",
		"the user cancelled, or the provider does not let this user use this client",
	},
	reasonCodeExchangeFailed: {
		http.StatusBadGateway, codeServerError, "The identity provider did not complete the login.",
		"invalid_client or unauthorized_client: check client_id, client_secret and token_endpoint_auth_method; " +
			"invalid_grant: the code was used or too old, or redirect_uri differs",
	},
	reasonNonceMismatch: {
		http.StatusBadRequest, codeInvalidResponse, "The answer does not belong to this login.",
		"the nonce in the ID token is not the one that was sent; if the provider cannot return it, see use_nonce",
	},
	reasonHashMismatch: {
		http.StatusBadRequest, codeInvalidResponse, "The answer does not belong to this login.",
		"at_hash, c_hash or s_hash of the ID token does not fit what came with it",
	},
	reasonSubjectMismatch: {
		http.StatusBadRequest, codeInvalidResponse, "The identity provider's answers contradict each other.",
		"the sub of userinfo, or of a renewed ID token, is not that of the login",
	},
	reasonIssuerMismatch: {
		http.StatusBadRequest, codeInvalidResponse, "The answer came from another identity provider.",
		"the iss of the authorization response is not the issuer, or is missing although the metadata promises it; or a renewed ID token has another iss",
	},
	reasonUserinfoFailed: {
		http.StatusBadGateway, codeServerError, "The identity provider did not complete the login.",
		"check userinfo_endpoint; userinfo off does without it",
	},
	reasonSessionTooLarge: {
		http.StatusBadRequest, codeServerError, "The account carries more data than a session can hold.",
		"have the provider send fewer claims (see got for the biggest), or, if it is kept in the cookie, use session { storage caddy }",
	},
	reasonLoginLoop: {
		http.StatusBadRequest, codeServerError, "You were signed in several times, but this site never saw the session.",
		"the session cookie does not come back: see got",
	},
	reasonInvalidHost: {
		http.StatusBadRequest, codeInvalidRequest, "The request names no valid host.",
		"the Host header, or what a trusted proxy forwards as such, is not a host name",
	},
	reasonCrossSiteLogin: {
		http.StatusForbidden, codeAccessDenied, "Another site tried to start a login here.",
		"a POST to the login endpoint must come from this site, or name the issuer",
	},

	// Why a session is no longer one goes to the log; the request is told that it has no credentials.
	reasonSessionInvalid: {
		http.StatusUnauthorized, codeLoginRequired, "Authentication is required.",
		"the session cookie cannot be opened: another secret, host, client or version, or it was changed",
	},
	reasonSessionExpired: {
		http.StatusUnauthorized, codeLoginRequired, "Authentication is required.",
		"the session is older than absolute_timeout, or its access token has expired where one is passed on",
	},
	reasonSessionIdle: {
		http.StatusUnauthorized, codeLoginRequired, "Authentication is required.",
		"the session was not used for idling_timeout",
	},
	reasonSessionRevoked: {
		http.StatusUnauthorized, codeLoginRequired, "Authentication is required.",
		"the user has signed out, or the provider or an operator has ended the session; this is a copy of its cookie, or another tab's",
	},
	reasonRefreshRejected: {
		http.StatusUnauthorized, codeLoginRequired, "Authentication is required.",
		"the provider no longer takes the session's refresh token: see got; the user may have signed out or been disabled there, or the refresh token has expired",
	},
	reasonRefreshUnavailable: {
		http.StatusServiceUnavailable, codeUnavailable, "The session cannot be renewed at the moment.",
		"the token endpoint does not answer, and the access token has expired; see refresh_failure",
	},
	reasonStoreUnavailable: {
		http.StatusServiceUnavailable, codeUnavailable, "Sessions cannot be read at the moment.",
		"the storage of sessions fails; see error",
	},

	reasonProviderUnreachable: {
		http.StatusServiceUnavailable, codeUnavailable, "The identity provider cannot be reached.",
		"too many calls to the provider are under way, or it does not answer",
	},
	reasonDiscoveryFailed: {
		http.StatusServiceUnavailable, codeUnavailable, "The identity provider cannot be reached.",
		"open the discovery URL from this machine",
	},
	reasonDiscoveryIssuerMismatch: {
		http.StatusServiceUnavailable, codeUnavailable, "The identity provider is not set up correctly.",
		"write the issuer exactly as the provider's metadata states it",
	},
	reasonKeysUnavailable: {
		http.StatusServiceUnavailable, codeUnavailable, "The identity provider cannot be reached.",
		"open the provider's jwks_uri from this machine",
	},
	reasonLogoutTokenInvalid: {
		http.StatusBadRequest, codeInvalidRequest, "The logout token is not valid.",
		"see expected, got and error, which begins with the reason code; the provider must know this client_id, and sign as it signs ID tokens",
	},
	reasonCrossSiteLogout: {
		http.StatusForbidden, codeAccessDenied, "Another site tried to sign you out here.",
		"a POST to the logout endpoint must come from this site",
	},
	reasonIntrospectionUnavailable: {
		http.StatusServiceUnavailable, codeUnavailable, "The identity provider cannot be reached.",
		"check introspection_endpoint, client_id and client_secret",
	},
}

// refusal is the decision not to let a request through. expected and got are for the log; they may hold claim values, never a
// token or a secret.
type refusal struct {
	reason   Reason
	expected string
	got      string
	cause    error
	hint     string // for the log, instead of the reason's own

	status     int           // instead of the reason's own
	warns      bool          // the operator should know: a login has failed that was begun here
	retryAfter time.Duration // with status 503
	scope      string        // with insufficient_scope: what is needed

	// for the page that a browser gets
	page    string // another kind than that of the status
	account string // who is signed in
	detail  string // a diagnosis
	action  string // path of the way out that is offered; empty: to sign in
}

func refuse(reason Reason) *refusal { return &refusal{reason: reason} }

func refuseClaim(reason Reason, expected, got any) *refusal {
	return &refusal{reason: reason, expected: logText(expected), got: logText(got)}
}

func (r *refusal) answer() answer {
	a := answers[r.reason]
	if r.status != 0 {
		a.status = r.status
	}
	return a
}

// maxLogText bounds what of a token gets into a log line.
const maxLogText = 200

func logText(value any) string {
	text := fmt.Sprint(value)
	if list, ok := value.([]string); ok {
		text = strings.Join(list, " ")
	}
	if value == nil {
		text = "nothing"
	}
	if len(text) > maxLogText {
		text = strings.ToValidUTF8(text[:maxLogText], "") + "…"
	}
	return text
}
