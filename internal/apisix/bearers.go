package apisix

import (
	"slices"
	"strings"
)

// bearers settles which tokens are accepted.
func (c *conversion) bearers(authMethod string) {
	always := c.introspects() && authMethod != noneMethod
	if c.bearer {
		c.algorithm(always)
	}
	if c.introspects() && !always {
		delete(c.lines, "introspection_interval")
		for _, name := range []string{
			"introspection_interval", "introspection_cache_ignore", "introspection_expiry_claim", "introspection_addon_headers", "introspection_params",
		} {
			if c.has(name) {
				delete(c.lines, name)
				c.noOp(name, "the plugin cannot authenticate for introspection, so nothing is introspected")
			}
		}
	}
	const only, endpoint, jwks = "bearer_only", "introspection_endpoint", "use_jwks"
	switch {
	case c.bearerOnly:
		c.add(only)
		c.translated(only, only, "")
	case c.has(only):
		c.noOp(only, "off, as here")
	}
	switch {
	case always:
		c.add("introspection", "always")
		if !c.has(endpoint) {
			c.remarks["introspection"] = "APISIX introspects every token, unless public_key or use_jwks is set."
		}
	case c.introspects() && c.bearerOnly:
		c.changed(only, only, "the plugin cannot authenticate for introspection, so JWTs are verified with the provider's keys, and pass until they "+
			"expire even if they are revoked")
		c.opens = true
	case c.local && len(c.lines["client_secret"])+len(c.lines["client_private_key"]) > 0:
		c.add("introspection", "off")
	case !c.bearer:
		c.add("ignore_bearer")
		c.remarks["ignore_bearer"] = "APISIX looks at bearer tokens only with bearer_only, introspection_endpoint, public_key or use_jwks."
	}
	if c.has(jwks) {
		if c.flag(jwks, false) {
			c.translated(jwks, "introspection", "keys of the provider, as by default")
		} else {
			c.noOp(jwks, "off")
		}
	}
	switch {
	case !c.has(endpoint):
	case c.local:
		c.noOp(endpoint, "tokens are verified with keys, and not introspected")
	case !always:
		c.refused(endpoint, "the plugin has nothing to authenticate with there, so JWTs are verified with the provider's keys")
		c.opens = true
	case c.address(endpoint, endpoint):
		c.translated(endpoint, endpoint, "with introspection always, as in APISIX")
	}
}

// algorithm pins the algorithm of tokens that are verified here.
func (c *conversion) algorithm(introspected bool) {
	const name = "token_signing_alg_values_expected"
	if !c.has(name) {
		return
	}
	switch algorithm := c.text(name); {
	case introspected:
		c.noOp(name, "tokens are introspected")
	case isHMAC(algorithm):
		c.refused(name, "the key of such tokens is the client_secret here, and symmetric_key or public_key in APISIX; such tokens are refused "+
			"until you say so by hand, and all algorithms with a public key are accepted")
	case !slices.Contains(asymmetric, algorithm):
		c.refused(name, "not an algorithm that is supported: "+strings.Join(asymmetric, ", ")+"; all of these are accepted")
	default:
		c.write(name, name, algorithm)
	}
}

// keyOfTokens settles whether the one key of the plugin verifies tokens.
func (c *conversion) keyOfTokens(name string) {
	argument := reference(c.text(name))
	switch {
	case c.browser:
		c.changed(name, "", "people log in here too, so bearer tokens are verified with the provider's own keys; for another key write "+
			"a directive with bearer_only for the API")
		c.opens = true
		return
	case !c.staticKey():
		c.refused(name, "not a public key or certificate in PEM (RSA from 2048 bits, P-256, P-384, P-521, Ed25519), or it does not begin with "+
			"one; the provider's keys are taken instead")
		return
	}
	c.add(name, c.publicKey())
	_, more := firstPublicKey([]byte(c.text(name)))
	switch {
	case argument != "":
		c.variable(strings.Trim(argument, "{}")[len("env."):], "as for APISIX, for "+name+", with one key alone")
		c.changed(name, name, "every key in it verifies tokens, where APISIX takes the first alone: leave one in it")
	case more:
		c.changed(name, name, "the first key alone, as in APISIX")
	case c.has("use_jwks"):
		c.translated(name, name, "it wins over use_jwks, as in APISIX")
	default:
		c.translated(name, name, "")
	}
}
