package e2e

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"slices"
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
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	issuer := "http://" + listener.Addr().String()
	client := storage.WebClient(webClient, secret, around.get(t).redirectURIs()...)
	store := peopleStorage{storage.NewStorageWithClients(zitadelUsers{}, map[string]*storage.Client{webClient: client})}
	server := &http.Server{
		Handler:           exampleop.SetupServer(issuer, store, slog.New(slog.DiscardHandler), false),
		ReadHeaderTimeout: time.Minute,
	}
	go func() { _ = server.Serve(listener) }() // ends when the server is closed
	t.Cleanup(func() { server.Close() })
	return &loginProvider{
		name:          "zitadel",
		issuer:        issuer,
		origin:        issuer,
		subject:       zitadelSubject,
		adminRule:     "required_claim groups admins",
		nameField:     "#username",
		passwordField: "#password",
		submit:        "button[type=submit]",
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

// peopleStorage is the storage of the example, which knows no groups.
type peopleStorage struct{ *storage.Storage }

func (s peopleStorage) SetUserinfoFromToken(
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
	_ op.CanSetUserinfoFromRequest = peopleStorage{}
	_ exampleop.Storage            = peopleStorage{}
	_ storage.UserStore            = zitadelUsers{}
)
