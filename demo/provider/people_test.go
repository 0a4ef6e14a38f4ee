package provider

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/zitadel/oidc/v3/pkg/oidc"
)

func TestUserinfoFollowsScopes(t *testing.T) {
	t.Parallel()
	people := People()
	i := slices.IndexFunc(people, func(p Person) bool { return p.Username == "alice" })
	if i < 0 {
		t.Fatal("alice has no account")
	}
	alice := people[i]
	for _, test := range []struct {
		scopes []string
		want   []string // claims beside sub
	}{
		{nil, nil},
		{[]string{"openid", "orders:read"}, nil},
		{[]string{"profile"}, []string{"name", "preferred_username"}},
		{[]string{"email", "groups"}, []string{"email", "email_verified", "groups"}},
	} {
		info := new(oidc.UserInfo)
		alice.userinfo(info, test.scopes)
		body, err := json.Marshal(info)
		if err != nil {
			t.Fatal(err)
		}
		var claims map[string]any
		if err := json.Unmarshal(body, &claims); err != nil {
			t.Fatal(err)
		}
		if claims["sub"] != alice.Subject {
			t.Errorf("%v: sub = %v, want %q", test.scopes, claims["sub"], alice.Subject)
		}
		delete(claims, "sub")
		got := slices.Sorted(maps.Keys(claims))
		if !slices.Equal(got, test.want) {
			t.Errorf("%v: got the claims %v, want %v", test.scopes, got, test.want)
		}
	}
}
