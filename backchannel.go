package openidconnect

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

// maxLogoutBody is the size of a back-channel logout request (bytes).
const maxLogoutBody = 64 << 10

// backchannelEvent is what makes a token one of a logout (OpenID Connect Back-Channel Logout 1.0 section 2.4).
const backchannelEvent = "http://schemas.openid.net/event/backchannel-logout"

// logoutToken is a logout token that has passed everything.
type logoutToken struct {
	sid, subject, id string
	*jose.Token
}

// serveBackchannelLogout ends the sessions that the provider names (OpenID Connect Back-Channel Logout 1.0). No browser has a part in it:
// cookies are neither read nor set. Whether there was such a session the answer does not tell.
func (rt *runtime) serveBackchannelLogout(w http.ResponseWriter, r *http.Request, st *requestState) error {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return nil
	}
	token, refused := rt.logoutTokenOf(r)
	if refused != nil {
		return rt.refuseLogoutToken(w, r, st, refused)
	}
	l, now := rt.login, rt.now()
	if l.logouts.hasCarriedOut(token.id, now) {
		w.WriteHeader(http.StatusOK) // it has been carried out; sessions of the same name may have begun since
		return nil
	}
	ended := session.Revocation{Owner: l.owner(), SID: token.sid, Issued: token.IssuedAt}
	if token.sid != "" {
		ended.Created = l.logouts.momentOf(now)
	} else {
		ended.Subject = token.subject
	}
	all := []session.Revocation{ended}
	if token.sid != "" && token.subject != "" {
		// sessions that the provider has given no sid when they began can only be meant by their user
		all = append(all, session.Revocation{Owner: l.owner(), Subject: token.subject, WithoutSID: true, Issued: token.IssuedAt})
	}
	// one that is repeated meanwhile gets what the first one gets
	_, err, _ := l.logouts.flight.Do(token.id, func() (any, error) {
		if l.logouts.hasCarriedOut(token.id, now) {
			return nil, nil
		}
		count, err := rt.endAll(r.Context(), all...)
		if err == nil {
			l.logouts.carriesOut(token.id, token.Expiry.Add(rt.policy.skew), now)
			rt.tellBackchannelLogout(r, token, count)
		}
		return nil, err
	})
	if err != nil {
		return rt.refuseLogoutToken(w, r, st, &refusal{reason: reasonStoreUnavailable, cause: err})
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// logoutTokenOf reads the one parameter that counts, from the body alone, and verifies it.
func (rt *runtime) logoutTokenOf(r *http.Request) (*logoutToken, *refusal) {
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/x-www-form-urlencoded" {
		return nil, refuseClaim(reasonLogoutTokenInvalid, "a form", "another media type")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxLogoutBody+1))
	switch {
	case err != nil:
		return nil, &refusal{reason: reasonLogoutTokenInvalid, cause: err}
	case len(body) > maxLogoutBody:
		refused := refuseClaim(reasonLogoutTokenInvalid, "a form of at most 64 KiB", "a larger one")
		refused.status = http.StatusRequestEntityTooLarge
		return nil, refused
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || len(form["logout_token"]) != 1 {
		return nil, refuseClaim(reasonLogoutTokenInvalid, "one logout_token", len(form["logout_token"]))
	}
	token, refused := rt.verifyLogoutToken(r.Context(), form.Get("logout_token"))
	if refused != nil && refused.reason != reasonLogoutTokenInvalid {
		// of what is wrong with it the log tells more
		return nil, &refusal{
			reason: reasonLogoutTokenInvalid, expected: refused.expected, got: or(refused.got, string(refused.reason)),
			cause: errors.Join(errors.New(string(refused.reason)), refused.cause), retryAfter: refused.retryAfter,
		}
	}
	return token, refused
}

// verifyLogoutToken decides on a logout token (OpenID Connect Back-Channel Logout 1.0 section 2.6): like an ID token, but it must be what
// it is, and nothing else. Cheap checks come first, as strangers may send any.
func (rt *runtime) verifyLogoutToken(ctx context.Context, raw string) (*logoutToken, *refusal) {
	policy := &rt.login.idTokens
	parsed, err := jose.Parse(raw, jose.MaxProviderToken)
	if err != nil {
		return nil, refusalOfGate(err)
	}
	metadata, err := rt.provider.Metadata(ctx)
	if err != nil {
		return nil, rt.providerRefusal(err)
	}
	if accepted := policy.acceptedAlgorithms(metadata); !slices.Contains(accepted, parsed.Algorithm) {
		return nil, refuseClaim(reasonUnsupportedAlgorithm, accepted, parsed.Algorithm)
	}
	switch strings.TrimPrefix(strings.ToLower(parsed.Type), "application/") {
	case "jwt", "logout+jwt":
	default:
		if parsed.Type != "" {
			return nil, refuseClaim(reasonWrongTokenType, "typ logout+jwt", "typ "+parsed.Type)
		}
	}
	token := &logoutToken{Token: parsed}
	if refused := token.readClaims(); refused != nil {
		return nil, refused
	}
	if refused := policy.checkParties(parsed, metadata, rt.now()); refused != nil {
		return nil, refused
	}
	return token, rt.verifySignatureOf(ctx, parsed, policy.secretKeys, rt.provider.RenewKeysForLogout)
}

// readClaims judges what makes the token one of a logout.
func (t *logoutToken) readClaims() *refusal {
	claims := t.Claims
	events, _ := claims["events"].(map[string]any)
	if _, ok := events[backchannelEvent].(map[string]any); !ok {
		return refuseClaim(reasonWrongTokenType, "events with "+backchannelEvent, claims["events"])
	}
	if _, present := claims["nonce"]; present {
		return refuseClaim(reasonWrongTokenType, "no nonce", "one")
	}
	for _, claim := range []struct {
		name     string
		target   *string
		required bool
	}{{"jti", &t.id, true}, {"sid", &t.sid, false}, {"sub", &t.subject, false}} {
		value := claims[claim.name]
		if value == nil && !claim.required {
			continue // some providers write null
		}
		text, ok := value.(string)
		if !ok || strings.TrimSpace(text) == "" {
			return refuseClaim(reasonMissingClaim, claim.name, value)
		}
		*claim.target = text
	}
	if t.sid == "" && t.subject == "" {
		return refuseClaim(reasonMissingClaim, "sid or sub", "neither")
	}
	return nil
}

// refuseLogoutToken answers the provider; the specification knows one status for all that can be wrong.
func (rt *runtime) refuseLogoutToken(w http.ResponseWriter, r *http.Request, st *requestState, refused *refusal) error {
	status := http.StatusBadRequest
	if refused.status != 0 {
		status = refused.status
	}
	id := requestID(r)
	rt.logRefusal(r, st, refused, id)
	rt.metrics.request(methodNone, resultBadRequest)
	a := refused.answer()
	if r.ProtoMajor == 1 && status == http.StatusRequestEntityTooLarge {
		w.Header().Set("Connection", "close") // the rest of the body is not read
	}
	body, err := json.Marshal(struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		Reason      Reason `json:"reason"`
		RequestID   string `json:"request_id"`
	}{a.code, a.text, refused.reason, id})
	if err != nil {
		return caddyhttp.Error(http.StatusInternalServerError, err)
	}
	return writeBody(w, r, status, "application/json", append(body, '\n'))
}

// tellBackchannelLogout tells of what the provider has ended.
func (rt *runtime) tellBackchannelLogout(r *http.Request, token *logoutToken, count int) {
	rt.logger.Info("logout", zap.String("by", logoutByBackchannel), zap.String("issuer", rt.issuerName), zap.String("user_id", token.subject),
		zap.Bool("single_session", token.sid != ""), zap.Int("count", count), zap.String("host", r.Host), zap.String("request_id", requestID(r)))
	rt.metrics.sessionsEnded(reasonLogoutPrefix+logoutByBackchannel, count)
	rt.emit(r, eventLogout, map[string]any{"by": logoutByBackchannel, "subject": token.subject, "sid": token.sid, "count": count})
}
