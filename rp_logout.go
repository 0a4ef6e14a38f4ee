package openidconnect

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

const (
	// logoutStateLifetime is how long the provider may take with a logout.
	logoutStateLifetime = 15 * time.Minute
	// maxLogoutURL is the length (bytes) up to which servers take a URL without further ado. Beyond, the ID token is left out.
	maxLogoutURL = 4000
	// logoutDiscoveryWait bounds the waiting for a provider that is not known yet: its user has gone already, here.
	logoutDiscoveryWait = 3 * time.Second
	// revocationWait bounds how long a logout waits for the revocation of tokens, which goes on by itself.
	revocationWait = 2 * time.Second
)

// What the page after a logout may say beyond that.
const (
	detailSignedOutThere    = "You were sent back by the identity provider, where you have been signed out as well."
	detailUnreachable       = "The identity provider could not be reached. You are signed out of this site, but may still be signed in there."
	detailStillSignedIn     = "You may still be signed in at the identity provider, which offers no way to sign out from here."
	logoutStateBinding      = "logout"
	paramPostLogoutRedirect = "post_logout_redirect_uri"
)

// logoutTarget is where a browser is sent when its session has ended here: to the provider, to end the one there (OpenID Connect
// RP-Initiated Logout 1.0 section 2), or to where a logout leads. Without a target there is something to tell instead.
func (rt *runtime) logoutTarget(r *http.Request, v *visit, sess *session.Session) (target, detail string) {
	l := rt.login
	ctx, cancel := context.WithTimeout(r.Context(), logoutDiscoveryWait)
	defer cancel()
	metadata, err := rt.provider.Metadata(ctx)
	if err != nil {
		rt.logger.Warn("logout without the provider, which is not reached", zap.String("issuer", rt.issuerName), zap.Error(err))
		return "", detailUnreachable
	}
	landing := l.postLogoutRedirectURI(publicOrigin(r))
	if metadata.EndSession == "" {
		if l.postLogoutURI != "" {
			return l.postLogoutURI, ""
		}
		return "", detailStillSignedIn
	}
	query := url.Values{"client_id": {l.clientID}}
	if sess.IDToken != "" {
		query.Set("id_token_hint", sess.IDToken)
	}
	if landing != "" {
		query.Set(paramPostLogoutRedirect, landing)
		if state, err := l.newLogoutState(ctx, v, rt.now()); err == nil {
			query.Set("state", state)
		}
	}
	target = withQuery(metadata.EndSession, query)
	if len(target) > maxLogoutURL && sess.IDToken != "" {
		query.Del("id_token_hint")
		query.Set("logout_hint", or(sess.SID, sess.Subject))
		target = withQuery(metadata.EndSession, query)
	}
	return target, ""
}

// withQuery adds parameters to the URL of an endpoint, which may have some of its own: those stay as they are.
func withQuery(endpoint string, query url.Values) string {
	address, own, _ := strings.Cut(endpoint, "?")
	parsed, _ := url.ParseQuery(own)
	for name := range parsed {
		query.Del(name)
	}
	if own != "" && !strings.HasSuffix(own, "&") {
		own += "&"
	}
	return strings.TrimSuffix(address+"?"+own+query.Encode(), "&")
}

// postLogoutRedirectURI is where the provider is asked to send the browser; empty when the host is none that it could be sent to.
func (l *login) postLogoutRedirectURI(origin string) string {
	path := or(l.postLogoutURI, l.prefix+endpointLoggedOut)
	switch {
	case !strings.HasPrefix(path, "/"):
		return path
	case origin == "":
		return ""
	default:
		return origin + path
	}
}

// newLogoutState makes the state parameter of a logout, by which its return is told from a visit.
func (l *login) newLogoutState(ctx context.Context, v *visit, now time.Time) (string, error) {
	state := &session.State{Created: now, ReturnURL: "/"}
	rand.Read(state.Random[:])
	return l.sealer.Seal(ctx, session.PurposeState, l.binding(v, logoutStateBinding), state.Marshal())
}

// isLogoutState reports whether a state is that of a logout that was begun here a short while ago.
func (rt *runtime) isLogoutState(ctx context.Context, v *visit, text string) bool {
	l := rt.login
	if text == "" || len(text) > maxStateSize {
		return false
	}
	opened, _, err := l.sealer.Open(ctx, session.PurposeState, l.binding(v, logoutStateBinding), text)
	if err != nil {
		return false
	}
	state, err := session.ParseState(opened)
	return err == nil && rt.now().Sub(state.Created) < logoutStateLifetime
}

// revokeTokens has the provider revoke what the session holds (RFC 7009), the refresh token first, as that takes the others with it. The
// user does not wait for long, and never learns of a failure.
func (rt *runtime) revokeTokens(ctx context.Context, sess *session.Session) {
	ctx = context.WithoutCancel(ctx)
	done := make(chan struct{})
	rt.login.renewals.inBackground(func() {
		defer close(done)
		var hints []string
		var failed []error
		for _, token := range []struct{ value, hint string }{
			{sess.RefreshToken, provider.HintRefreshToken}, {sess.AccessToken, provider.HintAccessToken},
		} {
			if token.value == "" {
				continue
			}
			if err := rt.provider.Revoke(ctx, rt.login.revocationClient, token.value, token.hint); err != nil {
				hints, failed = append(hints, token.hint), append(failed, err)
			}
		}
		if len(failed) > 0 {
			rt.tellUnrevoked(hints, errors.Join(failed...))
		}
	})
	timer := time.NewTimer(revocationWait)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// revokeLate has the tokens of a renewal revoked that was under way when its session ended.
func (rt *runtime) revokeLate(ctx context.Context, renewed *session.Session) {
	l, now := rt.login, rt.now()
	if l.revokesTokens && (l.isRevoked(renewed, now) || l.renewals.look(renewed, now).kind == standingEnded) {
		rt.revokeTokens(ctx, renewed)
	}
}

func (rt *runtime) tellUnrevoked(hints []string, err error) {
	rt.logger.Warn("a token of a session that has ended was not revoked", zap.String("token_type_hint", strings.Join(hints, " ")),
		zap.String("issuer", rt.issuerName), zap.Error(err),
		zap.String("hint", "check revocation_endpoint and revocation_endpoint_auth_method; without the endpoint, leave revoke_tokens_on_logout off"))
}
