package provider

import (
	"strings"

	"github.com/zitadel/oidc/v3/pkg/oidc"
)

// scopeGroups is the scope of the groups claim, which the library leaves to its users.
const scopeGroups = "groups"

// Person is somebody with an account at the provider.
type Person struct {
	Subject  string
	Username string
	Name     string
	Email    string
	Groups   []string
}

// GivenName is the first of the person's names.
func (p Person) GivenName() string {
	name, _, _ := strings.Cut(p.Name, " ")
	return name
}

// People returns those who have an account.
func People() []Person {
	return []Person{
		{
			Subject:  "b3c1e7a4-alice",
			Username: "alice",
			Name:     "Alice Anders",
			Email:    "alice@demo.localhost",
			Groups:   []string{"staff", "admins"},
		},
		{
			Subject:  "5f09d2c8-bob",
			Username: "bob",
			Name:     "Bob Berger",
			Email:    "bob@demo.localhost",
			Groups:   []string{"staff"},
		},
	}
}

// userinfo fills in what the scopes allow to be told about the person.
func (p Person) userinfo(info *oidc.UserInfo, scopes []string) {
	info.Subject = p.Subject
	for _, scope := range scopes {
		switch scope {
		case oidc.ScopeProfile:
			info.PreferredUsername = p.Username
			info.Name = p.Name
		case oidc.ScopeEmail:
			info.Email = p.Email
			info.EmailVerified = true
		case scopeGroups:
			info.AppendClaims("groups", p.Groups)
		}
	}
}
