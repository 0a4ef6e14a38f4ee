package optest

import (
	"crypto"
	"crypto/sha256"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// accessLifetime is the expires_in of an access token unless SetAccessLifetime says
// otherwise.
const accessLifetime = 5 * time.Minute

// shortestSecret is the length from which a received value counts as a secret: a
// shorter one would be found in logs as part of a word.
const shortestSecret = 16

// now is the provider's time.
func (p *Provider) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Add(p.advanced)
}

// Advance sets the provider's clock forward, or back if d is negative. Codes and
// access tokens age by it, and what it issues from then on tells its time.
func (p *Provider) Advance(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advanced += d
}

// SetOpaqueAccessTokens makes the access tokens of logins random texts, which
// introspection explains.
func (p *Provider) SetOpaqueAccessTokens(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.login.opaque = on
}

// SetAccessLifetime sets expires_in, and exp of the access token, for logins and
// refreshes from now on: whole seconds, and at least one.
func (p *Provider) SetAccessLifetime(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.login.accessLifetime = max(time.Second, d.Truncate(time.Second))
}

// SetOmitExpiresIn leaves expires_in out of the answers to logins and refreshes.
func (p *Provider) SetOmitExpiresIn(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.login.omitExpiresIn = on
}

// SetRefreshTokens adds a refresh token to every login; otherwise there is one
// only if the scope has offline_access.
func (p *Provider) SetRefreshTokens(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.login.refresh = on
}

// CodeReuses counts the attempts to redeem a code that had been presented before.
// A code is spent by the first attempt of an authenticated client, even if that
// fails or a fault keeps its answer back.
func (p *Provider) CodeReuses() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.login.codeReuses
}

// TokenRequests returns the forms that the token endpoint received, oldest first.
func (p *Provider) TokenRequests() []url.Values {
	requests := p.Requests(Token)
	all := make([]url.Values, 0, len(requests))
	for _, request := range requests {
		all = append(all, request.Form)
	}
	return all
}

// markReceived adds the secrets of a client's request to Issued.
func (p *Provider) markReceived(name string, request RecordedRequest) {
	var values url.Values
	var secret []string
	switch name {
	case Authorize:
		values, secret = authorizeParameters(request), []string{"state", "nonce"}
	case Token:
		values, secret = request.Form, []string{"code", "code_verifier"}
	case EndSession:
		values, secret = authorizeParameters(request), []string{"id_token_hint", "state"}
	case Revocation:
		values, secret = request.Form, []string{"token"}
	}
	for _, name := range secret {
		for _, value := range values[name] {
			if len(value) >= shortestSecret {
				p.MarkSecret(value)
			}
		}
	}
}

// redeem answers a token request with an authorization code.
func (p *Provider) redeem(form url.Values) response {
	code := form.Get("code")
	if code == "" || repeated(form) {
		return answerError(http.StatusBadRequest, "invalid_request")
	}
	g := p.spend(code)
	p.mu.Lock()
	client := p.clientID
	p.mu.Unlock()
	if g == nil || g.client != client || g.redirectURI != form.Get("redirect_uri") || !g.verified(form) {
		return answerError(http.StatusBadRequest, "invalid_grant")
	}
	refreshToken := ""
	if p.wantsRefreshToken(g) {
		refreshToken = p.startFamily(g)
	}
	return p.issue(g, refreshToken)
}

// repeated tells whether a parameter stands twice that may not.
func repeated(form url.Values) bool {
	for name, all := range form {
		if len(all) > 1 && name != "resource" {
			return true
		}
	}
	return false
}

// wantsRefreshToken tells whether a login is given one.
func (p *Provider) wantsRefreshToken(g *grant) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.login.refresh || hasScope(g.scope, "offline_access")
}

// spend returns what a code is good for, once.
func (p *Provider) spend(code string) *grant {
	now := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	g, ok := p.login.codes[code]
	switch {
	case !ok:
		return nil
	case g.spent:
		p.login.codeReuses++
		return nil
	}
	g.spent = true
	if !now.Before(g.issued.Add(codeLifetime)) {
		return nil
	}
	return g
}

// verified checks the proof key (RFC 7636). A verifier without a challenge is
// refused too, which is what stops a downgrade.
func (g *grant) verified(form url.Values) bool {
	verifier := form.Get("code_verifier")
	if g.challenge == "" {
		return !form.Has("code_verifier")
	}
	sum := sha256.Sum256([]byte(verifier))
	return len(verifier) >= 43 && len(verifier) <= 128 && encode(sum[:]) == g.challenge
}

// issue answers with the tokens of a grant, with a refresh token unless that is empty.
func (p *Provider) issue(g *grant, refreshToken string) response {
	now := p.now()
	p.mu.Lock()
	settings := p.login
	g.expires = now.Add(settings.accessLifetime)
	p.mu.Unlock()
	claims := p.AccessClaims(Claims{"sub": g.user["sub"], "scope": g.scope, "client_id": g.client, "exp": g.expires.Unix()})
	var access string
	if settings.opaque {
		access = p.OpaqueToken(merge(Claims{"token_type": "Bearer"}, claims))
	} else {
		access = p.AccessToken(claims)
	}
	p.mu.Lock()
	p.login.granted[access] = g
	p.forget(now)
	p.mu.Unlock()
	answer := map[string]any{
		"access_token": access,
		"token_type":   "Bearer",
		"expires_in":   int(settings.accessLifetime / time.Second),
		"scope":        g.scope,
		"id_token":     p.signIDToken(g, access, settings.hooks, settings.thin),
	}
	if settings.omitExpiresIn {
		delete(answer, "expires_in")
	}
	if refreshToken != "" {
		answer["refresh_token"] = refreshToken
	}
	if g.refreshed && settings.omitRefreshedIDToken {
		delete(answer, "id_token")
	}
	runHook(p, settings.hooks.tokenResponse, answer)
	if g.refreshed {
		runHook(p, settings.hooks.refreshResponse, answer)
	}
	for _, name := range []string{"access_token", "id_token", "refresh_token"} {
		if token, ok := answer[name].(string); ok && len(token) >= shortestSecret {
			p.MarkSecret(token)
		}
	}
	result := answerJSON(http.StatusOK, answer)
	result.header.Set("Cache-Control", "no-store")
	return result
}

// signIDToken makes the ID token of a login or a refresh.
func (p *Provider) signIDToken(g *grant, access string, hooks hooks, thin bool) string {
	key := p.signingKey()
	claims := Claims{"sub": g.user["sub"]}
	if !thin {
		claims = g.claims()
	}
	maps.Copy(claims, p.IDClaims(Claims{
		"sub": g.user["sub"], "aud": g.client, "at_hash": halfHash(key.Algorithm, access), "sid": g.session,
	}))
	if g.nonce != "" {
		claims["nonce"] = g.nonce
	}
	if g.maxAge {
		claims["auth_time"] = g.authTime.Unix()
	}
	if g.acr != "" {
		claims["acr"] = g.acr
	}
	runHook(p, hooks.idTokenClaims, claims)
	if g.refreshed {
		runHook(p, hooks.refreshIDTokenClaims, claims)
	}
	if hooks.idTokenSigner == nil {
		return Sign(key, hooks.idTokenHeader, claims)
	}
	var token string
	runHook(p, func(claims Claims) { token = hooks.idTokenSigner(claims) }, claims)
	return token
}

// halfHash is the at_hash of a token, by the hash of the algorithm that signs the
// ID token.
func halfHash(alg, token string) string {
	hash := crypto.SHA512 // of Ed25519
	if !slices.Contains([]string{"EdDSA", "Ed25519"}, alg) {
		hash = hashOf(alg)
	}
	digest := hash.New()
	digest.Write([]byte(token))
	sum := digest.Sum(nil)
	return encode(sum[:len(sum)/2])
}
