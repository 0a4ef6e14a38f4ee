package provider

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// loginLifetime is how long a login may take, from the authorization request to the exchange of the code.
const loginLifetime = 10 * time.Minute

var errUnknownLogin = errors.New("the login is not known, over, or took too long")

// login is an authorization request and, once somebody has answered it, who that is. It implements op.AuthRequest.
type login struct {
	id      string
	request *oidc.AuthRequest
	created time.Time

	subject  string
	authTime time.Time
}

func (l login) GetID() string                         { return l.id }
func (l login) GetACR() string                        { return "" }
func (l login) GetAMR() []string                      { return nil }
func (l login) GetAudience() []string                 { return []string{l.request.ClientID} }
func (l login) GetAuthTime() time.Time                { return l.authTime }
func (l login) GetClientID() string                   { return l.request.ClientID }
func (l login) GetNonce() string                      { return l.request.Nonce }
func (l login) GetRedirectURI() string                { return l.request.RedirectURI }
func (l login) GetResponseType() oidc.ResponseType    { return l.request.ResponseType }
func (l login) GetResponseMode() oidc.ResponseMode    { return l.request.ResponseMode }
func (l login) GetScopes() []string                   { return l.request.Scopes }
func (l login) GetState() string                      { return l.request.State }
func (l login) GetSubject() string                    { return l.subject }
func (l login) Done() bool                            { return l.subject != "" }
func (l login) GetCodeChallenge() *oidc.CodeChallenge { return codeChallenge(l.request) }

func codeChallenge(request *oidc.AuthRequest) *oidc.CodeChallenge {
	if request.CodeChallenge == "" {
		return nil
	}
	return &oidc.CodeChallenge{Challenge: request.CodeChallenge, Method: request.CodeChallengeMethod}
}

// logins are those under way. It implements the part of op.Storage that is about them. The library reads what it is given without a
// lock, so it gets copies.
type logins struct {
	mu    sync.Mutex
	byID  map[string]login
	codes map[string]string // code to login ID
}

func newLogins() *logins {
	return &logins{byID: make(map[string]login), codes: make(map[string]string)}
}

// CreateAuthRequest begins a login. Nobody stays logged in here, so an application that wants no page to be shown is refused.
func (s *logins) CreateAuthRequest(_ context.Context, request *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	if slices.Contains(request.Prompt, oidc.PromptNone) {
		return nil, oidc.ErrLoginRequired()
	}
	l := login{id: rand.Text(), request: request, created: time.Now()}

	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.byID, func(_ string, old login) bool { return time.Since(old.created) > loginLifetime })
	maps.DeleteFunc(s.codes, func(_, id string) bool { return s.byID[id].id == "" })
	s.byID[l.id] = l
	return l, nil
}

// AuthRequestByID finds a login.
func (s *logins) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	l, err := s.find(id)
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (s *logins) find(id string) (login, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.findLocked(id)
}

func (s *logins) findLocked(id string) (login, error) {
	l, ok := s.byID[id]
	if !ok || time.Since(l.created) > loginLifetime {
		return login{}, errUnknownLogin
	}
	return l, nil
}

// answer records who is logging in.
func (s *logins) answer(id, subject string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.findLocked(id)
	if err != nil {
		return err
	}
	l.subject, l.authTime = subject, time.Now()
	s.byID[id] = l
	return nil
}

// SaveAuthCode remembers the code of a login.
func (s *logins) SaveAuthCode(_ context.Context, id, code string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes[code] = id
	return nil
}

// AuthRequestByCode finds a login by its code, once: a code is spent even if the request that brings it is refused.
func (s *logins) AuthRequestByCode(_ context.Context, code string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.codes[code]
	if !ok {
		return nil, errUnknownLogin
	}
	delete(s.codes, code)
	l, err := s.findLocked(id)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// DeleteAuthRequest ends a login.
func (s *logins) DeleteAuthRequest(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, id)
	return nil
}

// Interface guard
var _ op.AuthRequest = login{}
