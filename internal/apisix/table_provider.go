package apisix

import (
	"bytes"
	"net/url"
	"strings"
)

func providerTable() []attribute {
	return []attribute{
		{
			name: "discovery", kind: textType, outcome: Translated, setting: "discovery",
			note:    "With `public_key` it becomes `issuer`, which is compared with the `iss` of every token.",
			convert: (*conversion).discovery,
		},
		{
			name: "timeout", kind: wholeNumber, outcome: Translated, setting: "timeout",
			note:    "Seconds, at most 1m; from 1000 on it is read as milliseconds, as in old configurations. Without it 5s instead of 3s.",
			convert: (*conversion).timeout,
		},
		{
			name: "ssl_verify", kind: verifyType, outcome: Translated, setting: "ssl_verify",
			note:    "Without it certificates are verified, which APISIX before 3.16 did not do.",
			convert: (*conversion).verification,
		},
		holder("proxy_opts", "network_proxy", "One proxy, the one for the scheme of `discovery`."),
		{
			name: "proxy_opts.http_proxy", kind: textType, outcome: Translated, setting: "network_proxy",
			note: "For a `discovery` of plain http; else it is not needed.", convert: later,
		},
		{
			name: "proxy_opts.https_proxy", kind: textType, outcome: Translated, setting: "network_proxy",
			note:    "For a `discovery` of https. With credentials it is not written: set `HTTPS_PROXY` in the environment of Caddy.",
			convert: later,
		},
		{
			name: "proxy_opts.http_proxy_authorization", kind: textType, outcome: Refused, near: "network_proxy",
			note: "Set `HTTP_PROXY=http://user:password@host:port` in the environment of Caddy.", convert: later,
		},
		{
			name: "proxy_opts.https_proxy_authorization", kind: textType, outcome: Refused, near: "network_proxy",
			note: "Set `HTTPS_PROXY=http://user:password@host:port` in the environment of Caddy.", convert: later,
		},
		{
			name: "proxy_opts.no_proxy", kind: textType, outcome: Changed, setting: "network_proxy",
			note:    "`network_proxy none` if the host of `discovery` is in it. Otherwise all endpoints are reached by the proxy.",
			convert: later,
		},
		{
			name: "jwk_expires_in", kind: wholeNumber, outcome: Translated, setting: "jwk_expires_in",
			note: "From 1m to 24h. An unknown key is fetched at once in any case.", convert: spanned("jwk_expires_in", 60, 86400),
		},
	}
}

// usableURL reports whether a text is an absolute URL that can stand in the configuration: without credentials and without a fragment.
func usableURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" && u.Opaque == "" && u.User == nil &&
		u.Fragment == "" && !strings.HasSuffix(text, "#")
}

// address writes a URL that openid_connect accepts.
func (c *conversion) address(name, setting string) bool {
	text := c.text(name)
	if !isReference(text) && !usableURL(text) {
		c.refused(name, "not an absolute URL of http or https, without credentials and fragment")
		return false
	}
	return c.write(name, setting, text)
}

const wellKnown = "/.well-known/openid-configuration"

// issuer is what the issuer has to be if the provider keeps to the specification, "" when that cannot be told.
func (c *conversion) issuer() string {
	issuer, ok := strings.CutSuffix(c.text("discovery"), wellKnown)
	if !ok || !usableURL(issuer) {
		return ""
	}
	return issuer
}

// staticKey reports whether the one key of the plugin replaces those of the provider. Where people log in it does not: their ID tokens are
// signed with the provider's.
func (c *conversion) staticKey() bool {
	return c.bearerOnly && c.has("public_key") && c.publicKey() != ""
}

func (c *conversion) discovery(name string) {
	if !c.staticKey() {
		c.address(name, "discovery")
		return
	}
	issuers := c.texts("claim_validator.issuer.valid_issuers")
	issuer := c.issuer()
	if len(issuers) == 1 && usableURL(issuers[0]) {
		issuer = issuers[0]
	}
	if argument, ok := token(issuer); ok {
		c.add("issuer", argument)
	} else {
		c.variable("OIDC_ISSUER", "the issuer, exactly as in the iss of the tokens")
		c.add("issuer", "{env.OIDC_ISSUER}")
	}
	c.changed(name, "issuer", "with public_key nothing is discovered; compare this with the iss of your tokens")
}

func (c *conversion) timeout(name string) {
	n := c.number(name, 3)
	const most = 60
	switch {
	case n < 1:
		c.refused(name, "at least one second")
	case n >= 1000 && n <= most*1000:
		c.add(name, (map[bool]string{true: duration(n / 1000), false: milliseconds(n)})[n%1000 == 0])
		c.changed(name, name, "read as milliseconds, as in old configurations")
	case n > most:
		c.add(name, duration(most))
		c.changed(name, name, "1m is the most")
	default:
		c.add(name, duration(n))
		c.translated(name, name, "")
	}
}

func (c *conversion) verification(name string) {
	if v := c.values[name]; v.text == "true" || v.text == "yes" {
		c.translated(name, name, "the default")
		return
	}
	c.add(name, "off")
	c.translated(name, name, "development only: it warns at every load; better trust the authority with tls_trust_pool")
}

// proxy chooses what reaches the provider.
func (c *conversion) proxy() {
	scheme, other := "https", "http"
	if strings.HasPrefix(strings.ToLower(c.text("discovery")), "http://") {
		scheme, other = other, scheme
	}
	proxy, authorization := "proxy_opts."+scheme+"_proxy", "proxy_opts."+scheme+"_proxy_authorization"
	for _, name := range []string{"proxy_opts." + other + "_proxy", "proxy_opts." + other + "_proxy_authorization"} {
		if c.has(name) {
			c.noOp(name, "the provider is reached by "+scheme)
		}
	}
	direct := "proxy_opts.no_proxy"
	u, err := url.Parse(c.text("discovery"))
	if err == nil && c.has(direct) && reachedDirectly(u.Hostname(), c.text(direct)) {
		c.add("network_proxy", "none")
		for _, name := range []string{proxy, authorization} {
			if c.has(name) {
				c.noOp(name, "no_proxy says that the provider is reached directly")
			}
		}
		c.translated(direct, "network_proxy none", "")
		return
	}
	if c.has(direct) {
		c.noOp(direct, "the host of discovery is not in it; all endpoints are reached in the same way")
	}
	variable := strings.ToUpper(scheme) + "_PROXY"
	instead := "set " + variable + "=http://user:password@host:port in the environment of Caddy, which is used by default"
	if c.has(authorization) {
		c.refused(authorization, "credentials are not written into the Caddyfile: "+instead)
	}
	if !c.has(proxy) {
		return
	}
	address, err := url.Parse(c.text(proxy))
	switch {
	case isReference(c.text(proxy)), c.has(authorization), err == nil && address.User != nil:
		c.refused(proxy, "not written, because it has credentials or is a reference: "+instead)
	case err != nil, !usableURL(c.text(proxy)), strings.ContainsAny(c.text(proxy), "{}"):
		c.refused(proxy, "not an absolute URL")
	default:
		argument, ok := token(c.text(proxy))
		if !ok {
			c.refused(proxy, "it "+errUnwritable.Error())
			return
		}
		c.add("network_proxy", "url", argument)
		c.translated(proxy, "network_proxy url", "")
	}
}

// reachedDirectly reports whether a host is in a list of those that take no proxy.
func reachedDirectly(host, list string) bool {
	for entry := range strings.SplitSeq(strings.ToLower(list), ",") {
		entry = strings.TrimPrefix(strings.TrimSpace(entry), "*")
		bare := strings.TrimPrefix(entry, ".")
		if host != "" && bare != "" && (strings.EqualFold(host, bare) || strings.HasSuffix(strings.ToLower(host), "."+bare)) {
			return true
		}
	}
	return strings.TrimSpace(list) == "*"
}

// publicKey is public_key as it stands in a Caddyfile, "" when it is not a public key.
func (c *conversion) publicKey() string {
	if argument := reference(c.text("public_key")); argument != "" {
		return argument
	}
	text, _ := firstPublicKey([]byte(c.text("public_key")))
	if text == nil {
		return ""
	}
	const indentation = "\t\t\t"
	return "<<PEM\n" + indentation + strings.ReplaceAll(string(bytes.TrimSpace(text)), "\n", "\n"+indentation) + "\n" + indentation + "PEM"
}
