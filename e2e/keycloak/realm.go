package keycloak

// Realm is what Keycloak is started with: people, and one confidential client that logs them in with a code.
type Realm struct {
	Name   string
	Client Client
	Users  []User
}

// Client is the confidential client. Its ID tokens name the realm roles and the groups of a person.
type Client struct {
	ID           string
	Secret       string
	RedirectURIs []string
}

// User is somebody with an account.
type User struct {
	ID       string
	Name     string
	Password string
	Roles    []string // of the realm
	Groups   []string
}

type object map[string]any

// representation is the realm as Keycloak imports it.
func (r Realm) representation() object {
	roles, groups := make(map[string]bool), make(map[string]bool)
	var roleObjects, groupObjects []object
	users := make([]object, len(r.Users))
	for i, u := range r.Users {
		var paths []string
		for _, name := range u.Roles {
			if !roles[name] {
				roles[name] = true
				roleObjects = append(roleObjects, object{"name": name})
			}
		}
		for _, name := range u.Groups {
			if !groups[name] {
				groups[name] = true
				groupObjects = append(groupObjects, object{"name": name})
			}
			paths = append(paths, "/"+name)
		}
		users[i] = object{
			"id": u.ID, "username": u.Name, "enabled": true,
			"email": u.Name + "@e2e.localhost", "emailVerified": true, "firstName": u.Name, "lastName": "Example",
			"credentials": []object{{"type": "password", "value": u.Password}},
			"realmRoles":  u.Roles,
			"groups":      paths,
		}
	}
	return object{
		"realm": r.Name, "enabled": true, "sslRequired": "none",
		"roles":  object{"realm": roleObjects},
		"groups": groupObjects,
		"users":  users,
		"clients": []object{{
			"clientId": r.Client.ID, "secret": r.Client.Secret, "redirectUris": r.Client.RedirectURIs,
			"protocolMappers": []object{
				mapper("roles", "oidc-usermodel-realm-role-mapper", object{
					"claim.name": "realm_access.roles", "jsonType.label": "String", "multivalued": "true",
				}),
				mapper("groups", "oidc-group-membership-mapper", object{"claim.name": "groups", "full.path": "false"}),
			},
		}},
	}
}

// mapper puts something into ID tokens, access tokens and the userinfo answer.
func mapper(name, kind string, config object) object {
	for _, where := range []string{"id", "access", "userinfo"} {
		config[where+".token.claim"] = "true"
	}
	return object{"name": name, "protocol": "openid-connect", "protocolMapper": kind, "config": config}
}
