package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	// apacheProgram and apacheModules are where Debian's packages put them.
	apacheProgram = "/usr/sbin/apache2"
	apacheModules = "/usr/lib/apache2/modules"

	// inCookie and inMemory are where mod_auth_openidc keeps sessions.
	inCookie = "client-cookie"
	inMemory = "server-cache"
)

// surroundings are what a gateway stands between.
type surroundings struct {
	listen, upstream, issuer string
	secure                   string // where the provider is by TLS
	certificate              string // a file, with the provider's RSA key in it
}

// apacheServer is Apache as a reverse proxy. One process with more threads than there are connections is what suits one core; they stay
// open, also those to the upstream; nothing is logged but errors.
func apacheServer(at surroundings) string {
	return fmt.Sprintf(`Listen %s
ServerName 127.0.0.1
LoadModule mpm_event_module modules/mod_mpm_event.so
LoadModule authn_core_module modules/mod_authn_core.so
LoadModule authz_core_module modules/mod_authz_core.so
LoadModule authz_user_module modules/mod_authz_user.so
LoadModule proxy_module modules/mod_proxy.so
LoadModule proxy_http_module modules/mod_proxy_http.so
ServerLimit 1
StartServers 1
ThreadsPerChild 128
ThreadLimit 128
MaxRequestWorkers 128
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 60
HostnameLookups Off
LogLevel error
ProxyPreserveHost On
ProxyPass "/oauth2/" "!"
ProxyPass "/" "http://%s/"
`, at.listen, at.upstream)
}

// keysInFile gives mod_auth_openidc the provider's key by its identifier. keysFetched has it fetch the keys, as the other gateways do; it
// looks into them with every request.
func keysInFile(at surroundings) string {
	return fmt.Sprintf("OIDCOAuthVerifyCertFiles rsa#%s\n", at.certificate)
}

func keysFetched(at surroundings) string {
	return fmt.Sprintf("OIDCOAuthVerifyJwksUri %s/jwks\nOIDCOAuthSSLValidateServer Off\n", at.secure)
}

// apacheBearer lets bearer tokens in: signature and times are checked by the module, issuer and audience as its documentation has it.
func apacheBearer(at surroundings, keys string) string {
	return fmt.Sprintf(`LoadModule auth_openidc_module modules/mod_auth_openidc.so
OIDCCacheType shm
%[3]sOIDCOAuthRemoteUserClaim sub
<Location "/">
	AuthType oauth20
	OIDCPassClaimsAs none
	<RequireAll>
		Require claim iss:%[1]s
		Require claim aud:%[2]s
	</RequireAll>
</Location>
`, at.issuer, audience, keys)
}

// apacheRoom makes the shared memory large enough for sessions, each of which takes three places: its own, its sid's, and that of the
// login's nonce. By default it has 500.
func apacheRoom(sessions string, users int) string {
	if sessions != inMemory || users < 200 {
		return ""
	}
	return fmt.Sprintf("OIDCCacheShmMax %d\n", 3*users+500)
}

// apacheLogin lets users log in.
func apacheLogin(at surroundings, client, sessions, more string) string {
	return fmt.Sprintf(`LoadModule auth_openidc_module modules/mod_auth_openidc.so
OIDCCacheType shm
OIDCProviderMetadataURL %s/.well-known/openid-configuration
OIDCClientID %s
OIDCClientSecret secret
OIDCScope "openid profile email"
OIDCPKCEMethod S256
OIDCRedirectURI http://%s/oauth2/callback
OIDCCryptoPassphrase "%s"
OIDCSessionType %s
OIDCSessionInactivityTimeout 43200
%s<Location "/">
	AuthType openid-connect
	Require valid-user
</Location>
`, at.issuer, client, at.listen, sessionSecret, sessions, more)
}

// The last lines of apacheLogin: what goes on to the upstream.
const (
	apachePassesNothing = "OIDCPassClaimsAs none\n"
	apachePassesTokens  = "OIDCPassIDTokenAs payload\nOIDCPassClaimsAs headers\nOIDCRefreshAccessTokenBeforeExpiry 1\n"
)

// startApache runs Apache with the lines that tell what it guards, if it does.
func (r *run) startApache(ctx context.Context, name string, guard func(surroundings) string) (*gateway, error) {
	at, err := r.surroundings()
	if err != nil {
		return nil, err
	}
	var config strings.Builder
	fmt.Fprintf(&config, "ServerRoot %q\nDefaultRuntimeDir %q\nPidFile %q\nErrorLog %q\n", filepath.Dir(apacheModules), r.dir,
		filepath.Join(r.dir, name+".pid"), filepath.Join(r.dir, name+".log"))
	if os.Geteuid() == 0 {
		config.WriteString("User www-data\nGroup www-data\n")
	}
	config.WriteString(apacheServer(at))
	if guard != nil {
		config.WriteString(guard(at))
	}
	file := filepath.Join(r.dir, name+".conf")
	if err := os.WriteFile(file, []byte(config.String()), 0o600); err != nil {
		return nil, err
	}
	return r.startPeer(ctx, name, at.listen, apacheProgram, "-D", "FOREGROUND", "-f", file)
}
