package provider

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

var (
	errUnknownClient = errors.New("unknown client or wrong secret")
	errUnknownPerson = errors.New("unknown person")
	errUnknownToken  = errors.New("unknown, revoked or expired token")
)

// storage implements op.Storage in memory.
type storage struct {
	*logins
	*grants

	issuer    string
	clients   map[string]Client
	resources map[string]Resource
	people    map[string]Person // by subject
	lifetime  time.Duration
	keys      *keyRing

	mu           sync.Mutex
	applications map[string]Application
	tokens       map[string]accessToken // by token ID
}

// accessToken is what the provider remembers of a token that it issued.
type accessToken struct {
	clientID string
	subject  string
	audience []string
	scopes   []string
	issued   time.Time
	expires  time.Time
}

func newStorage(opts Options, keys *keyRing) *storage {
	s := &storage{
		logins:    newLogins(),
		grants:    newGrants(),
		issuer:    opts.Issuer,
		clients:   make(map[string]Client),
		resources: make(map[string]Resource),
		people:    make(map[string]Person),
		lifetime:  opts.Lifetime,
		keys:      keys,

		applications: make(map[string]Application),
		tokens:       make(map[string]accessToken),
	}
	for _, c := range opts.Clients {
		s.clients[c.ID] = c
	}
	for _, r := range opts.Resources {
		s.resources[r.ClientID] = r
	}
	for _, p := range People() {
		s.people[p.Subject] = p
	}
	return s
}

// scopes returns every scope that some client may have.
func (s *storage) scopes() []string {
	scopes := []string{oidc.ScopeOpenID, oidc.ScopeProfile, oidc.ScopeEmail, oidc.ScopeOfflineAccess, scopeGroups}
	for _, c := range s.clients {
		scopes = append(scopes, c.Scopes...)
	}
	slices.Sort(scopes)
	return slices.Compact(scopes)
}

// Clients

// ClientCredentials implements op.ClientCredentialsStorage.
func (s *storage) ClientCredentials(_ context.Context, id, secret string) (op.Client, error) {
	c, ok := s.clients[id]
	if !ok || !sameSecret(c.Secret, secret) {
		return nil, errUnknownClient
	}
	return serviceClient{Client: c}, nil
}

// ClientCredentialsTokenRequest implements op.ClientCredentialsStorage.
func (s *storage) ClientCredentialsTokenRequest(_ context.Context, id string, scopes []string) (op.TokenRequest, error) {
	c, ok := s.clients[id]
	if !ok {
		return nil, errUnknownClient
	}
	return &tokenRequest{client: c, scopes: c.granted(scopes)}, nil
}

func (s *storage) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	if a, ok := s.application(id); ok {
		return webClient{Application: a, issuer: s.issuer}, nil
	}
	if c, ok := s.clients[id]; ok {
		return serviceClient{Client: c}, nil
	}
	return nil, errUnknownClient
}

func (s *storage) register(a Application) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applications[a.ID] = a
}

func (s *storage) application(id string) (Application, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.applications[id]
	return a, ok
}

// AuthorizeClientIDSecret authenticates applications at the token endpoint, and everyone at introspection and revocation.
func (s *storage) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	if r, ok := s.resources[id]; ok && sameSecret(r.Secret, secret) {
		return nil
	}
	if c, ok := s.clients[id]; ok && sameSecret(c.Secret, secret) {
		return nil
	}
	if a, ok := s.application(id); ok && sameSecret(a.Secret, secret) {
		return nil
	}
	return errUnknownClient
}

func sameSecret(want, got string) bool {
	return want != "" && subtle.ConstantTimeCompare([]byte(want), []byte(got)) == 1
}

// Access tokens

func (s *storage) CreateAccessToken(_ context.Context, request op.TokenRequest) (string, time.Time, error) {
	now, lifetime := time.Now(), s.lifetime
	token := accessToken{
		subject:  request.GetSubject(),
		audience: request.GetAudience(),
		scopes:   request.GetScopes(),
		issued:   now,
	}
	if r, ok := request.(interface{ GetClientID() string }); ok {
		token.clientID = r.GetClientID()
	}
	if a, ok := s.application(token.clientID); ok && a.TokenLifetime > 0 {
		lifetime = a.TokenLifetime
	}
	token.expires = now.Add(lifetime)
	id := rand.Text()

	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tokens)%1024 == 0 { // now and then is enough
		maps.DeleteFunc(s.tokens, func(_ string, t accessToken) bool { return t.expires.Before(now) })
	}
	s.tokens[id] = token
	return id, token.expires, nil
}

func (s *storage) token(id string) (accessToken, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token, ok := s.tokens[id]
	if !ok || token.expires.Before(time.Now()) {
		return accessToken{}, errUnknownToken
	}
	return token, nil
}

// GetPrivateClaimsFromScopes adds the scopes to a JWT, which the library does not do by itself.
func (s *storage) GetPrivateClaimsFromScopes(_ context.Context, _, _ string, scopes []string) (map[string]any, error) {
	if len(scopes) == 0 {
		return nil, nil
	}
	return map[string]any{"scope": strings.Join(scopes, " ")}, nil
}

// SetIntrospectionFromToken tells a resource about a token that is meant for it. An error means: not active.
func (s *storage) SetIntrospectionFromToken(
	_ context.Context, answer *oidc.IntrospectionResponse, tokenID, _, callerID string,
) error {
	token, err := s.token(tokenID)
	if err != nil {
		return err
	}
	caller, ok := s.resources[callerID]
	if !ok || !slices.Contains(token.audience, caller.Audience) {
		return errUnknownToken
	}
	if person, ok := s.people[token.subject]; ok {
		info := new(oidc.UserInfo)
		person.userinfo(info, token.scopes)
		answer.SetUserInfo(info)
	}
	answer.Subject = token.subject
	answer.ClientID = token.clientID
	answer.Audience = token.audience
	answer.Scope = token.scopes
	answer.TokenType = oidc.BearerToken
	answer.IssuedAt = oidc.FromTime(token.issued)
	answer.Expiration = oidc.FromTime(token.expires)
	return nil
}

func (s *storage) SetUserinfoFromToken(_ context.Context, info *oidc.UserInfo, tokenID, _, _ string) error {
	token, err := s.token(tokenID)
	if err != nil {
		return err
	}
	person, ok := s.people[token.subject]
	if !ok {
		return errUnknownToken // a service has no user information
	}
	person.userinfo(info, token.scopes)
	return nil
}

// CreateAccessAndRefreshTokens implements op.Storage, for a login with offline_access and each renewal of its tokens.
func (s *storage) CreateAccessAndRefreshTokens(
	ctx context.Context, request op.TokenRequest, spent string,
) (id, refreshToken string, expires time.Time, err error) {
	switch request := request.(type) {
	case login:
		refreshToken = s.begin(request)
	case *renewal:
		if refreshToken, err = s.renew(spent); err != nil {
			return "", "", time.Time{}, err
		}
	default:
		return "", "", time.Time{}, op.ErrInvalidRefreshToken
	}
	id, expires, err = s.CreateAccessToken(ctx, request)
	return id, refreshToken, expires, err
}

// RevokeToken forgets a token of the client that asks. A token that is not known is revoked already.
func (s *storage) RevokeToken(_ context.Context, tokenID, _, clientID string) *oidc.Error {
	if ok, refused := s.revoke(tokenID, clientID); ok {
		return refused
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if token, ok := s.tokens[tokenID]; ok {
		if token.clientID != clientID {
			return oidc.ErrInvalidClient().WithDescription("the token belongs to another client")
		}
		delete(s.tokens, tokenID)
	}
	return nil
}

// Keys

func (s *storage) SigningKey(context.Context) (op.SigningKey, error) {
	return s.keys.current(), nil
}

func (s *storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{signingAlgorithm}, nil
}

func (s *storage) KeySet(context.Context) ([]op.Key, error) {
	return s.keys.published(), nil
}

func (s *storage) Health(context.Context) error { return nil }

func (s *storage) TerminateSession(context.Context, string, string) error { return nil }

// SetUserinfoFromRequest implements op.CanSetUserinfoFromRequest: it adds to an ID token what the library leaves to be added there.
func (s *storage) SetUserinfoFromRequest(
	_ context.Context, info *oidc.UserInfo, request op.IDTokenRequest, scopes []string,
) error {
	person, ok := s.people[request.GetSubject()]
	if !ok {
		return errUnknownPerson
	}
	person.userinfo(info, scopes)
	return nil
}

// SetUserinfoFromScopes does nothing, as the library advises.
func (s *storage) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}

// Client assertions: no client here has registered a key.

func (s *storage) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errUnknownClient
}

func (s *storage) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, errUnknownClient
}

// Interface guards
var (
	_ op.Storage                  = (*storage)(nil)
	_ op.ClientCredentialsStorage = (*storage)(nil)

	_ op.CanSetUserinfoFromRequest = (*storage)(nil)
)
