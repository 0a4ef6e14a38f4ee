package provider

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// grantLifetime is how long an application may go on without the person, counted from the login.
const grantLifetime = 12 * time.Hour

var errSpentToken = errors.New("the refresh token is unknown, spent, over or taken back")

// grant is what a person has given to an application by a login with offline_access. Its refresh token is good for one use and replaced by
// the next; one that comes a second time has been stolen, or is used by somebody who has lost count: then the whole grant is over.
type grant struct {
	login   login
	scopes  []string
	secret  string // of the one refresh token that is good
	expires time.Time
}

// grants implements the part of op.Storage that is about refresh tokens, which are the ID of a grant and a secret that changes.
type grants struct {
	mu       sync.Mutex
	byID     map[string]*grant
	renewals int
	reuses   int
}

func newGrants() *grants { return &grants{byID: make(map[string]*grant)} }

// Renewals is how often applications have renewed their tokens, and how often a refresh token came that was spent.
type Renewals struct{ Granted, Reused int }

func (g *grants) count() Renewals {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Renewals{Granted: g.renewals, Reused: g.reuses}
}

// begin makes the grant of a login and returns its first refresh token.
func (g *grants) begin(l login) string {
	now := time.Now()
	id, made := rand.Text(), &grant{login: l, scopes: l.GetScopes(), secret: rand.Text(), expires: now.Add(grantLifetime)}

	g.mu.Lock()
	defer g.mu.Unlock()
	maps.DeleteFunc(g.byID, func(_ string, old *grant) bool { return !now.Before(old.expires) })
	g.byID[id] = made
	return id + "." + made.secret
}

// find returns a grant by the refresh token that is good now. The caller holds the lock.
func (g *grants) find(token string) (*grant, error) {
	id, secret, _ := strings.Cut(token, ".")
	found, ok := g.byID[id]
	if !ok || !time.Now().Before(found.expires) {
		return nil, errSpentToken
	}
	if !sameSecret(found.secret, secret) {
		g.reuses++
		delete(g.byID, id)
		return nil, errSpentToken
	}
	return found, nil
}

// renew spends a refresh token and returns the next.
func (g *grants) renew(token string) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	found, err := g.find(token)
	if err != nil {
		return "", oidc.ErrInvalidGrant().WithParent(err)
	}
	found.secret = rand.Text()
	g.renewals++
	id, _, _ := strings.Cut(token, ".")
	return id + "." + found.secret, nil
}

// TokenRequestByRefreshToken implements op.Storage. The library then asks for the tokens, which is when the refresh token is spent.
func (g *grants) TokenRequestByRefreshToken(_ context.Context, token string) (op.RefreshTokenRequest, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	found, err := g.find(token)
	if err != nil {
		return nil, err
	}
	return &renewal{login: found.login, scopes: found.scopes}, nil
}

// GetRefreshTokenInfo implements op.Storage, for revocation.
func (g *grants) GetRefreshTokenInfo(_ context.Context, _, token string) (subject, id string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	id, _, _ = strings.Cut(token, ".")
	found, ok := g.byID[id]
	if !ok {
		return "", "", op.ErrInvalidRefreshToken
	}
	return found.login.subject, id, nil
}

// revoke ends a grant of that client; ok says that there is one of the ID.
func (g *grants) revoke(id, clientID string) (ok bool, refused *oidc.Error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	found, ok := g.byID[id]
	switch {
	case !ok:
		return false, nil
	case found.login.GetClientID() != clientID:
		return true, oidc.ErrInvalidClient().WithDescription("the token belongs to another client")
	}
	delete(g.byID, id)
	return true, nil
}

// takeBack ends all that a person has granted.
func (g *grants) takeBack(subject string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	maps.DeleteFunc(g.byID, func(_ string, made *grant) bool { return made.login.subject == subject })
}

// renewal is a request for new tokens by a refresh token.
type renewal struct {
	login  login
	scopes []string
}

func (r *renewal) GetAMR() []string                 { return r.login.GetAMR() }
func (r *renewal) GetAudience() []string            { return r.login.GetAudience() }
func (r *renewal) GetAuthTime() time.Time           { return r.login.GetAuthTime() }
func (r *renewal) GetClientID() string              { return r.login.GetClientID() }
func (r *renewal) GetScopes() []string              { return r.scopes }
func (r *renewal) GetSubject() string               { return r.login.GetSubject() }
func (r *renewal) SetCurrentScopes(scopes []string) { r.scopes = scopes }

// Interface guard
var _ op.RefreshTokenRequest = (*renewal)(nil)
