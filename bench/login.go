package main

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"time"
)

// The clients that log users in. They differ in what the ID token tells of a user, and in how long tokens live.
const (
	loginClient   = "bench"         // who it is, and roles
	groupsClient  = "bench-groups"  // many groups besides
	stormClient   = "bench-storm"   // access tokens of seconds, and a refresh token
	calmClient    = "bench-calm"    // a refresh token that nobody needs
	renewedClient = "bench-renewed" // a refresh token that is needed once
)

// lifetimeOf is how long an access token lives: that of a login, and those that come of its refresh token.
func lifetimeOf(clientID string, generation int) time.Duration {
	switch {
	case clientID == stormClient:
		return shortLifetime
	case clientID == renewedClient && generation == 0:
		return firstLifetime
	default:
		return tokenLifetime
	}
}

// givesRefreshTokens tells which clients get refresh tokens.
func givesRefreshTokens(clientID string) bool {
	return clientID == stormClient || clientID == calmClient || clientID == renewedClient
}

// loginAlgorithm signs the tokens of logins.
const loginAlgorithm = "RS256"

// manyGroups is how many groups a user of groupsClient is in.
const manyGroups = 300

// grant is a code that waits for being redeemed, and then what its refresh tokens are good for.
type grant struct {
	clientID, redirectURI, nonce, challenge string
	sid                                     string
	user                                    int64
	began                                   time.Time
	generation                              int // renewals so far
}

// serveLogins adds the endpoints of the authorization code flow. Whoever comes is signed in already, as the next user.
func (p *provider) serveLogins(mux *http.ServeMux) {
	mux.HandleFunc("GET /authorize", func(w http.ResponseWriter, r *http.Request) {
		asked := r.URL.Query()
		code := rand.Text()
		p.grants.Store(code, grant{
			clientID: asked.Get("client_id"), redirectURI: asked.Get("redirect_uri"), nonce: asked.Get("nonce"),
			challenge: asked.Get("code_challenge"), sid: randomID(), user: p.users.Add(1), began: time.Now(),
		})
		answer := url.Values{"code": {code}, "state": {asked.Get("state")}}
		http.Redirect(w, r, asked.Get("redirect_uri")+"?"+answer.Encode(), http.StatusFound)
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("grant_type") == "refresh_token" {
			p.answerRefresh(w, r)
			return
		}
		found, _ := p.grants.LoadAndDelete(r.PostFormValue("code"))
		granted, ok := found.(grant)
		verifier := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if !ok || granted.redirectURI != r.PostFormValue("redirect_uri") || granted.challenge != encode(verifier[:]) {
			refuseGrant(w)
			return
		}
		p.answerTokens(w, granted, "")
	})
}

func refuseGrant(w http.ResponseWriter) {
	w.WriteHeader(http.StatusBadRequest)
	answerJSON(w, map[string]string{"error": "invalid_grant"})
}

// answerTokens answers with the tokens of a login, or of its renewal. The first refresh token is made here.
func (p *provider) answerTokens(w http.ResponseWriter, granted grant, refreshToken string) {
	tokens, err := p.redeem(granted)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if refreshToken == "" && givesRefreshTokens(granted.clientID) {
		refreshToken = p.refreshes.start(granted)
	}
	if refreshToken != "" {
		tokens["refresh_token"] = refreshToken
	}
	answerJSON(w, tokens)
}

// redeem makes tokens. They have the claims that Keycloak gives by default, and the realm's roles in the ID token too.
func (p *provider) redeem(granted grant) (map[string]any, error) {
	now, lifetime := time.Now(), lifetimeOf(granted.clientID, granted.generation)
	shared := map[string]any{
		"iss": p.issuer, "sub": uuid(sha256.Sum256(fmt.Append(nil, granted.user))), "azp": granted.clientID, "sid": granted.sid, "acr": "1",
		"iat": now.Unix(), "exp": now.Add(lifetime).Unix(), "auth_time": granted.began.Unix(),
		"email_verified": true, "name": "Erika Mustermann", "given_name": "Erika", "family_name": "Mustermann",
		"preferred_username": fmt.Sprintf("erika.mustermann.%d", granted.user),
		"email":              fmt.Sprintf("erika.mustermann.%d@example.com", granted.user),
		"realm_access":       map[string]any{"roles": []string{"default-roles-bench", "offline_access", "uma_authorization", "sales"}},
	}
	access := maps.Clone(shared)
	access["typ"], access["jti"], access["aud"], access["scope"] = "Bearer", randomID(), "account", "openid profile email"
	access["allowed-origins"] = []string{"https://app.example.com"}
	access["resource_access"] = map[string]any{
		"account": map[string]any{"roles": []string{"manage-account", "manage-account-links", "view-profile"}},
	}
	accessToken, err := p.jwt(loginAlgorithm, "JWT", access)
	if err != nil {
		return nil, err
	}
	if granted.clientID == stormClient {
		p.refreshes.note(accessToken, issued{granted.generation, now.Add(lifetime)})
	}
	id := shared
	digest := sha256.Sum256([]byte(accessToken))
	id["typ"], id["jti"], id["aud"] = "ID", randomID(), granted.clientID
	if granted.nonce != "" {
		id["nonce"] = granted.nonce
	}
	id["at_hash"] = encode(digest[:len(digest)/2])
	if granted.clientID == groupsClient {
		id["groups"] = groupsOf(granted.user)
	}
	idToken, err := p.jwt(loginAlgorithm, "JWT", id)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"access_token": accessToken, "token_type": "Bearer", "expires_in": int(lifetime.Seconds()),
		"scope": "openid profile email", "id_token": idToken,
	}, nil
}

func randomID() string { return uuid(sha256.Sum256([]byte(rand.Text()))) }

func uuid(b [sha256.Size]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// groupsOf names the groups of a user as a directory does: paths that are alike, and different for each user.
func groupsOf(user int64) []string {
	groups := make([]string, manyGroups)
	for i := range groups {
		department := []string{"sales", "finance", "engineering", "support", "legal", "research"}[i%6]
		groups[i] = fmt.Sprintf("/example/%s/team-%04d", department, (user*7919+int64(i)*127)%10_000)
	}
	return groups
}
