package openidconnect

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

const scopeOfflineAccess = "offline_access"

// clientAdvice is how the client can authenticate.
type clientAdvice struct {
	method string   // for people
	secret bool     // it takes a client_secret
	lines  []string // of the Caddyfile, beside that
}

// clientAuthentication chooses the way that takes the least setting up; nil if there is none.
func (i *inspected) clientAuthentication() *clientAdvice {
	const methodSetting = "token_endpoint_auth_method "
	for _, advice := range []struct {
		offered string
		clientAdvice
	}{
		{provider.ClientSecretBasic, clientAdvice{secret: true}},
		{provider.ClientSecretPost, clientAdvice{secret: true, lines: []string{methodSetting + provider.ClientSecretPost}}},
		{provider.PrivateKeyJWT, clientAdvice{lines: []string{"client_private_key /etc/caddy/client.pem"}}},
		{provider.ClientSecretJWT, clientAdvice{secret: true, lines: []string{methodSetting + provider.ClientSecretJWT}}},
		{provider.None, clientAdvice{method: "PKCE alone, as a public client"}},
		{provider.TLSClientAuth, clientAdvice{lines: []string{certificateSetting, methodSetting + provider.TLSClientAuth}}},
		{provider.SelfSignedTLSClientAuth, clientAdvice{lines: []string{certificateSetting, methodSetting + provider.SelfSignedTLSClientAuth}}},
	} {
		offered := i.metadata.TokenAuthMethods // without the list it is client_secret_basic (OpenID Connect Discovery section 3)
		if slices.Contains(offered, advice.offered) || len(offered) == 0 {
			advice.method = or(advice.method, advice.offered)
			return &advice.clientAdvice
		}
	}
	return nil
}

const certificateSetting = "tls_client_certificate /etc/caddy/client.crt /etc/caddy/client.key"

// stringsOf returns the strings of a list in JSON.
func stringsOf(value any) (list []string) {
	values, _ := value.([]any)
	for _, value := range values {
		if text, ok := value.(string); ok {
			list = append(list, text)
		}
	}
	return list
}

// writeCaddyfile shows what to write for a site, and what to tell the provider of it.
func (i *inspected) writeCaddyfile(site, upstream string) {
	issuer := strings.ReplaceAll(i.Issuer, provider.TenantPlaceholder, "")
	if i.metadata == nil || !plainURL.MatchString(issuer) || !plainURL.MatchString(i.Discovery) || provider.CheckURL(i.Discovery) != nil ||
		issuer == i.Issuer && provider.CheckURL(issuer) != nil {
		return
	}
	var lines []string
	add := func(line string) { lines = append(lines, line) }
	first := i.Issuer
	template := strings.Contains(i.Issuer, provider.TenantPlaceholder)
	switch {
	case template:
		first = ""
		add("discovery " + i.Discovery)
		add("tenants 00000000-0000-0000-0000-000000000000")
	case !i.confirmed:
		add("discovery " + i.Discovery)
	}
	if i.Logins {
		i.addLogin(add)
	} else {
		add("bearer_only")
		add("audience " + originOfSite(site))
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s {\n\topenid_connect %s{\n", site, strings.TrimPrefix(first+" ", " "))
	for _, line := range lines {
		text.WriteString("\t\t" + line + "\n")
	}
	fmt.Fprintf(&text, "\t}\n\treverse_proxy %s\n}\n", upstream)
	i.Caddyfile = text.String()
}

func (i *inspected) addLogin(add func(line string)) {
	add("client_id {env.OIDC_CLIENT_ID}")
	if client := i.clientAuthentication(); client != nil {
		if client.secret {
			add("client_secret {env.OIDC_CLIENT_SECRET}")
		}
		for _, line := range client.lines {
			add(line)
		}
	}
	if modes := i.metadata.ResponseModes; slices.Contains(modes, responseModeFormPost) && !slices.Contains(modes, responseModeQuery) {
		add("response_mode " + responseModeFormPost)
	}
	scopes := []string{scopeOpenID}
	for _, scope := range []string{"profile", "email", scopeOfflineAccess} {
		if slices.Contains(i.Supported["scopes_supported"], scope) && (scope != scopeOfflineAccess || !i.isKeycloak()) {
			scopes = append(scopes, scope)
		}
	}
	if len(scopes) > 1 {
		add("scope " + strings.Join(scopes, " "))
	}
	if u, err := url.Parse(i.Issuer); err == nil && u.Host == "accounts.google.com" {
		add("authorization_params access_type offline") // what Google has in place of the scope offline_access
		add("prompt consent")
	}
}

// isKeycloak recognizes a provider whose offline_access means something else: a session that nobody's logout ends. Its refresh tokens come
// without it.
func (i *inspected) isKeycloak() bool {
	return strings.Contains(i.Endpoints["token_endpoint"], "/protocol/openid-connect/")
}

// register lists what the provider wants to know of a site.
func (i *inspected) register(site string) {
	if !i.Logins {
		return
	}
	origin := originOfSite(site)
	i.Register = append(i.Register, registration{"redirect URI", origin + defaultPathPrefix + endpointCallback})
	if i.Endpoints["end_session_endpoint"] != "" {
		i.Register = append(i.Register, registration{"post-logout redirect URI", origin + defaultPathPrefix + endpointLoggedOut})
	}
	if i.document["backchannel_logout_supported"] == true {
		i.Register = append(i.Register, registration{"back-channel logout URL", origin + defaultPathPrefix + endpointBackchannelLogout})
	}
}

// originOfSite is where browsers find the site of a Caddyfile's address: on https unless it says otherwise.
func originOfSite(site string) string {
	scheme, host, ok := strings.Cut(site, "://")
	if !ok {
		scheme, host = "https", site
	}
	host, _, _ = strings.Cut(host, "/")
	return scheme + "://" + host
}
