package keycloak

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Realm has people, and confidential clients that log them in with a code. Its refresh tokens are good for one use; if one is used
// again, the session of the client ends. It records the events that [Admin.Grants] counts.
type Realm struct {
	Name    string
	Clients []Client
	Users   []User

	// SessionMax is how long somebody stays signed in, in whole seconds. Zero leaves it to Keycloak.
	SessionMax time.Duration
}

// Client is a confidential client. Its ID tokens name the realm roles and the groups of a person.
type Client struct {
	ID           string
	Secret       string
	RedirectURIs []string

	// AccessTokenLifetime is in whole seconds. Zero leaves it to Keycloak.
	AccessTokenLifetime time.Duration

	Logout Logout

	// ServiceAccount lets the client have tokens for itself. Audience goes into all of its access tokens, beside the client.
	ServiceAccount bool
	Audience       string
}

// Logout is what Keycloak knows of the logouts of a client.
type Logout struct {
	PostLogoutRedirectURIs []string

	// Keycloak uses one of them at most, the front channel first.
	BackchannelURI, FrontchannelURI string
	// SessionRequired has Keycloak name the session that has ended, and not the person alone.
	SessionRequired bool
}

// User is somebody with an account.
type User struct {
	ID       string // if empty, Keycloak chooses
	Name     string
	Password string
	Roles    []string // of the realm
	Groups   []string
}

// The types of events that a realm records.
const (
	refreshed  = "REFRESH_TOKEN"
	notRenewed = "REFRESH_TOKEN_ERROR"
)

type object map[string]any

// representation is the realm as Keycloak imports it.
func (r Realm) representation() object {
	roles, groups := make(map[string]bool), make(map[string]bool)
	for _, u := range r.Users {
		for _, name := range u.Roles {
			roles[name] = true
		}
		for _, name := range u.Groups {
			groups[name] = true
		}
	}
	realm := object{
		"realm": r.Name, "enabled": true, "sslRequired": "none",
		"revokeRefreshToken": true, "refreshTokenMaxReuse": 0,
		"eventsEnabled": true, "enabledEventTypes": []string{refreshed, notRenewed},
		"roles":   object{"realm": all(slices.Sorted(maps.Keys(roles)), name)},
		"groups":  all(slices.Sorted(maps.Keys(groups)), name),
		"users":   all(r.Users, User.representation),
		"clients": all(r.Clients, Client.representation),
	}
	if r.SessionMax != 0 {
		realm["ssoSessionMaxLifespan"], realm["ssoSessionIdleTimeout"] = int(r.SessionMax.Seconds()), int(r.SessionMax.Seconds())
	}
	return realm
}

func (u User) representation() object {
	user := object{
		"username": u.Name, "enabled": true,
		"email": u.Name + "@e2e.localhost", "emailVerified": true, "firstName": u.Name, "lastName": "Example",
		"credentials": []object{{"type": "password", "value": u.Password}},
		"realmRoles":  u.Roles,
		"groups":      all(u.Groups, func(name string) string { return "/" + name }),
	}
	if u.ID != "" {
		user["id"] = u.ID
	}
	return user
}

func (c Client) representation() object {
	attributes := make(object)
	if c.AccessTokenLifetime != 0 {
		attributes["access.token.lifespan"] = strconv.Itoa(int(c.AccessTokenLifetime.Seconds()))
	}
	c.Logout.describe(attributes)
	mappers := []object{
		mapper("roles", "oidc-usermodel-realm-role-mapper", object{
			"claim.name": "realm_access.roles", "jsonType.label": "String", "multivalued": "true",
		}),
		mapper("groups", "oidc-group-membership-mapper", object{"claim.name": "groups", "full.path": "false"}),
	}
	if c.Audience != "" {
		// Who asks about a token has to be in its audience as well.
		for kind, audience := range map[string]string{"custom": c.Audience, "client": c.ID} {
			mappers = append(mappers, object{
				"name": kind + " audience", "protocol": "openid-connect", "protocolMapper": "oidc-audience-mapper",
				"config": object{"included." + kind + ".audience": audience, "access.token.claim": "true"},
			})
		}
	}
	return object{
		"clientId": c.ID, "secret": c.Secret, "redirectUris": c.RedirectURIs, "attributes": attributes,
		"frontchannelLogout": c.Logout.FrontchannelURI != "", "serviceAccountsEnabled": c.ServiceAccount,
		"protocolMappers": mappers,
	}
}

// describe adds to the attributes of a client.
func (l Logout) describe(attributes object) {
	if len(l.PostLogoutRedirectURIs) != 0 {
		attributes["post.logout.redirect.uris"] = strings.Join(l.PostLogoutRedirectURIs, "##")
	}
	for channel, uri := range map[string]string{"backchannel": l.BackchannelURI, "frontchannel": l.FrontchannelURI} {
		if uri != "" {
			attributes[channel+".logout.url"] = uri
			attributes[channel+".logout.session.required"] = strconv.FormatBool(l.SessionRequired)
		}
	}
}

// mapper puts something into ID tokens, access tokens and the userinfo answer.
func mapper(name, kind string, config object) object {
	for _, where := range []string{"id", "access", "userinfo"} {
		config[where+".token.claim"] = "true"
	}
	return object{"name": name, "protocol": "openid-connect", "protocolMapper": kind, "config": config}
}

func name(of string) object { return object{"name": of} }

func all[S ~[]E, E, T any](list S, represent func(E) T) []T {
	represented := make([]T, len(list))
	for i, element := range list {
		represented[i] = represent(element)
	}
	return represented
}
