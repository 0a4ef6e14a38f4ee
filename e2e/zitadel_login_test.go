package e2e

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// newZitadelLogin starts the example server of zitadel/oidc, whose login page this is. It asks for a name and a password
// every time, and tells about a person at its userinfo endpoint alone.
func newZitadelLogin(t *testing.T) *loginProvider {
	t.Helper()
	return newZitadelLoginWith(t, around.get(t).registration())
}

func newZitadelLoginWith(t *testing.T, o loginOptions) *loginProvider {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	issuer := "http://" + listener.Addr().String()
	client := storage.WebClient(webClient, secret, o.redirectURIs...)
	store := &peopleStorage{
		Storage:        storage.NewStorageWithClients(zitadelUsers{}, map[string]*storage.Client{webClient: client}),
		tokenLifetime:  o.tokenLifetime,
		postLogoutURIs: o.postLogoutURIs,
	}
	server := &http.Server{
		Handler:           exampleop.SetupServer(issuer, store, slog.New(slog.DiscardHandler), false),
		ReadHeaderTimeout: time.Minute,
	}
	go func() { _ = server.Serve(listener) }() // ends when the server is closed
	t.Cleanup(func() { server.Close() })
	return &loginProvider{
		name:          "zitadel",
		client:        webClient,
		user:          alice,
		issuer:        issuer,
		origin:        issuer,
		subject:       zitadelSubject,
		adminRule:     "required_claim groups admins",
		nameField:     "#username",
		passwordField: "#password",
		endSession:    "/end_session",
		submit:        "button[type=submit]",
		offlineScope:  "offline_access",
		grants:        func(*testing.T) grants { return grants{int(store.given.Load()), int(store.refused.Load())} },
	}
}

func zitadelSubject(p person) string { return "zitadel-" + p.name }

// zitadelUsers implements storage.UserStore.
type zitadelUsers struct{}

func (zitadelUsers) ExampleClientID() string { return "" }

func (zitadelUsers) GetUserByID(id string) *storage.User {
	return zitadelUser(func(p person) bool { return zitadelSubject(p) == id })
}

func (zitadelUsers) GetUserByUsername(name string) *storage.User {
	return zitadelUser(func(p person) bool { return p.name == name })
}

func zitadelUser(is func(person) bool) *storage.User {
	i := slices.IndexFunc(people, is)
	if i < 0 {
		return nil
	}
	name := people[i].name
	return &storage.User{ID: zitadelSubject(people[i]), Username: name, Password: password, FirstName: name}
}

// peopleStorage is the storage of the example, which knows no groups. Its refresh tokens are good for one use each.
type peopleStorage struct {
	*storage.Storage
	tokenLifetime  time.Duration // of access tokens; zero leaves it to the example
	postLogoutURIs []string
	given, refused atomic.Int64 // refresh tokens
}

// leavingClient is a client of the example, which lets nobody go anywhere after a logout, that does.
type leavingClient struct {
	op.Client
	uris []string
}

// PostLogoutRedirectURIs are where a logout may lead.
func (c leavingClient) PostLogoutRedirectURIs() []string { return c.uris }

func (s *peopleStorage) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	client, err := s.Storage.GetClientByClientID(ctx, id)
	if err != nil {
		return nil, err
	}
	return leavingClient{client, s.postLogoutURIs}, nil
}

// TokenRequestByRefreshToken is asked first when a refresh token is redeemed.
func (s *peopleStorage) TokenRequestByRefreshToken(ctx context.Context, token string) (op.RefreshTokenRequest, error) {
	request, err := s.Storage.TokenRequestByRefreshToken(ctx, token)
	if err != nil {
		s.refused.Add(1)
	}
	return request, err
}

func (s *peopleStorage) CreateAccessAndRefreshTokens(
	ctx context.Context, request op.TokenRequest, current string,
) (accessTokenID, refreshToken string, expiration time.Time, err error) {
	accessTokenID, refreshToken, expiration, err = s.Storage.CreateAccessAndRefreshTokens(ctx, request, current)
	switch {
	case current == "":
	case err != nil:
		s.refused.Add(1)
	default:
		s.given.Add(1)
	}
	if s.tokenLifetime != 0 {
		expiration = time.Now().Add(s.tokenLifetime + time.Second/2) // the library rounds down
	}
	return accessTokenID, refreshToken, expiration, err
}

func (s *peopleStorage) SetUserinfoFromToken(
	ctx context.Context, info *oidc.UserInfo, tokenID, subject, origin string,
) error {
	if err := s.Storage.SetUserinfoFromToken(ctx, info, tokenID, subject, origin); err != nil {
		return err
	}
	for _, p := range people {
		if zitadelSubject(p) == info.Subject {
			info.AppendClaims("groups", p.groups)
		}
	}
	return nil
}

// Interface guards
var (
	_ op.CanSetUserinfoFromRequest = (*peopleStorage)(nil)
	_ exampleop.Storage            = (*peopleStorage)(nil)
	_ storage.UserStore            = zitadelUsers{}
)
