package optest

import (
	"maps"
	"net/http"
	"strings"
)

// scopeOf is the scope that asks for a claim (OpenID Connect Core section 5.4).
var scopeOf = map[string]string{
	"name": "profile", "family_name": "profile", "given_name": "profile", "middle_name": "profile", "nickname": "profile",
	"preferred_username": "profile", "profile": "profile", "picture": "profile", "website": "profile", "gender": "profile",
	"birthdate": "profile", "zoneinfo": "profile", "locale": "profile", "updated_at": "profile",
	"email": "email", "email_verified": "email",
	"address":      "address",
	"phone_number": "phone", "phone_number_verified": "phone",
}

func defaultUser() Claims {
	return Claims{"sub": "alice", "name": "Alice", "email": "alice@example.com", "preferred_username": "alice"}
}

// SetUser replaces the person who is signed in by authorization requests yet to
// come. The claims are all there is to know; sub is "alice" where they do not say
// it. Claims of the scopes profile, email, address and phone are told to those who
// ask for the scope, others to everybody. Nil brings the first user back: "alice",
// with name "Alice", email "alice@example.com" and preferred_username "alice".
// Of those who have that sub and are signed in already, the new claims are told from
// their next refresh on.
func (p *Provider) SetUser(claims Claims) {
	user := defaultUser()
	if claims != nil {
		user = merge(Claims{"sub": "alice"}, claims)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.login.user = user
	p.refreshes.users[subject(user)] = user
}

// SetThinIDTokens keeps what is known of the user, apart from sub, out of ID
// tokens: only userinfo tells it.
func (p *Provider) SetThinIDTokens(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.login.thin = on
}

// claims returns what the client may know of the user.
func (g *grant) claims() Claims {
	claims := maps.Clone(g.user)
	maps.DeleteFunc(claims, func(name string, _ any) bool {
		scope, ok := scopeOf[name]
		return ok && !hasScope(g.scope, scope)
	})
	return claims
}

// userinfo answers what the access token of a login may know. For one that
// AccessToken or OpaqueToken made that is no more than its sub.
func (p *Provider) userinfo(request RecordedRequest) response {
	if request.Method != http.MethodGet && request.Method != http.MethodPost {
		return answerError(http.StatusMethodNotAllowed, "invalid_request")
	}
	token, _ := strings.CutPrefix(request.Header.Get("Authorization"), "Bearer ")
	now := p.now()
	p.mu.Lock()
	known, active := p.tokens[token]
	g := p.login.granted[token]
	p.mu.Unlock()
	if !active || g != nil && !now.Before(g.expires) {
		return refuseBearer(http.StatusUnauthorized, "invalid_token")
	}
	if scope, _ := known["scope"].(string); !hasScope(scope, "openid") {
		return refuseBearer(http.StatusForbidden, "insufficient_scope")
	}
	claims := Claims{"sub": known["sub"]}
	if g != nil {
		claims = g.claims()
	}
	hooks := p.hooks()
	runHook(p, hooks.userinfo, claims)
	if hooks.userinfoJWT == nil {
		return answerJSON(http.StatusOK, claims)
	}
	answer := response{status: http.StatusOK, header: http.Header{"Content-Type": {"application/jwt"}}}
	runHook(p, func(claims Claims) { answer.body = []byte(hooks.userinfoJWT(claims)) }, claims)
	p.MarkSecret(string(answer.body))
	return answer
}

func refuseBearer(status int, code string) response {
	answer := answerError(status, code)
	answer.header.Set("Www-Authenticate", `Bearer error="`+code+`"`)
	return answer
}
