package apisix

import "slices"

func clientTable() []attribute {
	return []attribute{
		{
			name: "client_id", kind: textType, outcome: Translated, setting: "client_id",
			note: "It is the audience that bearer tokens must have, unless `audience` says otherwise.", convert: copied("client_id"),
		},
		{
			name: "client_secret", kind: textType, outcome: Translated, setting: "client_secret",
			note:    "Never repeated: a placeholder stands for it. `$ENV://NAME` becomes `{env.NAME}`.",
			convert: (*conversion).clientSecret,
		},
		{
			name: "token_endpoint_auth_method", kind: textType, outcome: Translated, setting: "token_endpoint_auth_method",
			note: "Exactly this one is used; there is no falling back to what the provider lists first.", convert: later,
		},
		{
			name: "introspection_endpoint_auth_method", kind: textType, outcome: Translated, setting: "introspection_endpoint_auth_method",
			note: "Without it as at the token endpoint; the default of APISIX is written where that differs.", convert: later,
		},
		{
			name: "client_rsa_private_key", kind: textType, outcome: Translated, setting: "client_private_key",
			note: "Never repeated: put the PEM into the file that the line names. RSA from 2048 bits, P-256, P-384, P-521 or Ed25519.", convert: later,
		},
		{name: "client_rsa_private_key_id", kind: textType, outcome: Translated, setting: "client_private_key_id", convert: later},
		{
			name: "client_jwt_assertion_alg", kind: textType, outcome: Translated, setting: "client_jwt_assertion_alg",
			note: "Without it the usual one for the key, else HS256.", convert: later,
		},
		{
			name: "client_jwt_assertion_expires_in", kind: wholeNumber, outcome: Translated, setting: "client_jwt_assertion_expires_in",
			note: "From 1s to 1h.", convert: later,
		},
		{
			name: "client_jwt_assertion_audience", kind: textType, outcome: Translated, setting: "client_jwt_assertion_audience",
			note: "Without it the issuer, where APISIX takes the URL of the endpoint.", convert: later,
		},
	}
}

const (
	basic      = "client_secret_basic"
	secretJWT  = "client_secret_jwt"
	keyJWT     = "private_key_jwt"
	noneMethod = "none"
)

var authMethods = []string{basic, "client_secret_post", secretJWT, keyJWT}

// keyFile is where the private key is expected.
const keyFile = "/etc/caddy/oidc-client-key.pem"

// identifies reports whether the client has to authenticate at all.
func (c *conversion) identifies() bool { return c.browser || c.introspects() }

func (c *conversion) introspects() bool { return c.bearer && !c.local }

func (c *conversion) clientSecret(name string) {
	switch {
	case c.text(name) == "":
		c.noOp(name, "it is empty")
	case !c.identifies():
		c.noOp(name, "tokens are verified with keys, so nobody has to authenticate at the provider")
	default:
		c.secret(name, "client_secret", "OIDC_CLIENT_SECRET", "as a placeholder")
	}
}

// standardMethod is how our client authenticates when nothing is said.
func (c *conversion) standardMethod() string {
	switch {
	case len(c.lines["client_secret"]) > 0:
		return basic
	case c.privateKey != "" && c.identifies():
		return keyJWT
	default:
		return noneMethod
	}
}

// usableMethod reports whether the client has what a method takes.
func (c *conversion) usableMethod(method string) bool {
	if method == keyJWT {
		return c.privateKey != ""
	}
	return slices.Contains(authMethods, method) && len(c.lines["client_secret"]) > 0
}

// method writes how the client authenticates somewhere, and returns what is in force then.
func (c *conversion) method(name, standard, ours string) string {
	wanted := c.text(name)
	switch {
	case wanted == "" && standard != ours && c.usableMethod(standard):
		c.add(name, standard)
		return standard
	case wanted == "":
		return ours
	case !slices.Contains(authMethods, wanted):
		c.refused(name, "not one of the methods that APISIX has")
		return ours
	case !c.usableMethod(wanted):
		c.refused(name, "the plugin does not have the secret or key for it")
		return ours
	case wanted == ours:
		c.translated(name, name, "the default")
		return ours
	default:
		c.add(name, wanted)
		c.translated(name, name, "")
		return wanted
	}
}

// authenticate settles how the client authenticates, and drops what is about other methods.
func (c *conversion) authenticate() (introspection string) {
	const (
		atToken         = "token_endpoint_auth_method"
		atIntrospection = "introspection_endpoint_auth_method"
	)
	used := map[string]bool{}
	ofToken := c.standardMethod()
	switch {
	case c.browser:
		ofToken = c.method(atToken, basic, ofToken)
		used[ofToken] = true
	case c.has(atToken):
		c.noOp(atToken, "bearer_only: nobody logs in")
	}
	introspection = ofToken
	switch {
	case c.introspects():
		introspection = c.method(atIntrospection, basic, ofToken)
		used[introspection] = true
	case c.has(atIntrospection):
		c.noOp(atIntrospection, "nothing is introspected")
	}
	c.clientKey(used[keyJWT])
	c.assertions(used)
	return introspection
}

func (c *conversion) clientKey(used bool) {
	const name, id = "client_rsa_private_key", "client_rsa_private_key_id"
	switch {
	case !c.has(name):
	case c.text(name) == "":
		c.noOp(name, "it is empty")
	case c.privateKey == "":
		c.refused(name, "neither RSA from 2048 bits nor P-256, P-384, P-521 or Ed25519 in PEM without a password")
	case !used:
		c.noOp(name, "no method of authentication takes it")
	default:
		if argument := reference(c.text(name)); argument != "" {
			c.secret(name, "client_private_key", "", "as a placeholder")
			break
		}
		c.add("client_private_key", keyFile)
		c.steps = append(c.steps, comment("Put the client_rsa_private_key of the plugin into "+keyFile+", readable for Caddy alone.")...)
		c.translated(name, "client_private_key", "in a file of its own, "+keyFile)
	}
	if c.has(id) {
		if used {
			copied("client_private_key_id")(c, id)
			return
		}
		c.noOp(id, "no key is used")
	}
}

func (c *conversion) assertions(used map[string]bool) {
	const algorithm, lifetime, audience = "client_jwt_assertion_alg", "client_jwt_assertion_expires_in", "client_jwt_assertion_audience"
	if !used[keyJWT] && !used[secretJWT] {
		for _, name := range []string{algorithm, lifetime, audience} {
			if c.has(name) {
				c.noOp(name, "no method of authentication makes assertions")
			}
		}
		return
	}
	if c.has(algorithm) {
		switch wanted := c.text(algorithm); {
		case used[keyJWT] && !signs(c.privateKey, wanted), used[secretJWT] && !isOneOf(wanted, "HS256", "HS384", "HS512"):
			c.refused(algorithm, "it does not fit the key or the secret that signs; the usual algorithm for that is taken")
		default:
			c.write(algorithm, algorithm, wanted)
		}
	}
	if c.has(lifetime) {
		c.span(lifetime, lifetime, 1, 3600)
	}
	switch {
	case c.has(audience):
		copied(audience)(c, audience)
	default:
		c.remarks[audience] = "Assertions are made for the issuer here, not for the URL of each endpoint; client_jwt_assertion_audience says otherwise."
	}
}
