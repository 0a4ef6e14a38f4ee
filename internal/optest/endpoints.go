package optest

import (
	"encoding/json"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// assertionType is the client_assertion_type of RFC 7523.
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// response is an answer that a fault may still change.
type response struct {
	status int
	header http.Header
	body   []byte
	lost   bool // the connection closes instead
}

func (a response) writeHeader(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
}

func answerJSON(status int, value any) response {
	body := must(json.Marshal(value))
	return response{status: status, header: http.Header{"Content-Type": {"application/json"}}, body: body}
}

func answerError(status int, code string) response {
	return answerJSON(status, map[string]any{"error": code})
}

// ServeHTTP answers a request to the provider.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.down.Load() {
		panic(http.ErrAbortHandler)
	}
	// Reading the body to its end also lets the server notice when the client goes.
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	request := RecordedRequest{Method: r.Method, URL: r.URL, Header: r.Header.Clone(), Body: body}
	if mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mediaType == "application/x-www-form-urlencoded" {
		request.Form, _ = url.ParseQuery(string(body))
	}
	if r.TLS != nil {
		request.PeerCertificates = r.TLS.PeerCertificates
	}

	name := p.route(r.URL.Path)
	faults := p.record(name, request)
	p.markReceived(name, request)
	// The hold comes before the answer, which tells the state of its own moment.
	for _, fault := range faults {
		p.hold(r, fault)
	}
	var answer response
	if spares(name, request) && slices.ContainsFunc(faults, Fault.replaces) {
		answer = answerJSON(http.StatusOK, nil) // so that nothing is spent or ended
	} else {
		answer = p.answer(name, request)
	}
	if answer.lost {
		panic(http.ErrAbortHandler)
	}
	for _, fault := range faults {
		answer = fault.replace(answer)
	}
	switch {
	case slices.ContainsFunc(faults, func(f Fault) bool { return f.Drip }):
		p.drip(w, r, answer)
	case slices.ContainsFunc(faults, func(f Fault) bool { return f.Endless }):
		stream(w, answer)
	default:
		answer.writeHeader(w)
		_, _ = w.Write(answer.body)
	}
}

// Endpoint returns the URL of a named endpoint.
func (p *Provider) Endpoint(name string) string {
	path := strings.TrimSuffix(p.issuerPath, "/")
	switch name {
	case Discovery:
		return p.URL() + path + "/.well-known/openid-configuration"
	case OAuthDiscovery:
		return p.URL() + "/.well-known/oauth-authorization-server" + path
	case JWKS:
		return p.URL() + path + "/jwks"
	case Introspection:
		return p.URL() + path + "/introspect"
	case Authorize:
		return p.URL() + path + "/authorize"
	case Token:
		return p.URL() + path + "/token"
	case Userinfo:
		return p.URL() + path + "/userinfo"
	case EndSession:
		return p.URL() + path + "/end-session"
	case Revocation:
		return p.URL() + path + "/revoke"
	}
	panic("optest: no URL for endpoint " + name)
}

// route names the endpoint at a path. With an issuer path, the metadata is at
// the one place that its specification says, the rest below the path or the root.
func (p *Provider) route(path string) string {
	prefix := strings.TrimSuffix(p.issuerPath, "/")
	switch path {
	case prefix + "/.well-known/openid-configuration":
		return Discovery
	case "/.well-known/oauth-authorization-server" + prefix:
		return OAuthDiscovery
	}
	switch strings.TrimPrefix(path, prefix) {
	case "/jwks":
		return JWKS
	case "/introspect":
		return Introspection
	case "/authorize":
		return Authorize
	case "/token":
		return Token
	case "/userinfo":
		return Userinfo
	case "/end-session":
		return p.offered(EndSession)
	case "/revoke":
		return p.offered(Revocation)
	}
	return Other
}

func (p *Provider) answer(name string, request RecordedRequest) response {
	switch name {
	case Discovery, OAuthDiscovery:
		if p.oauthOnly == (name == OAuthDiscovery) {
			return answerJSON(http.StatusOK, p.Metadata())
		}
	case JWKS:
		return p.keySet()
	case Introspection:
		return p.introspect(request)
	case Authorize:
		return p.authorize(request)
	case Token:
		return p.token(request)
	case Userinfo:
		return p.userinfo(request)
	case EndSession:
		return p.endSession(request)
	case Revocation:
		return p.revoke(request)
	}
	return answerError(http.StatusNotFound, "not_found")
}

func (p *Provider) keySet() response {
	p.mu.Lock()
	defer p.mu.Unlock()
	answer := response{status: http.StatusOK, header: http.Header{"Content-Type": {"application/jwk-set+json"}}, body: p.rawJWKS}
	if p.rawJWKS == nil {
		answer.body = KeySet(p.keys...)
	}
	if p.cacheControl != "" {
		answer.header.Set("Cache-Control", p.cacheControl)
	}
	return answer
}

func (p *Provider) introspect(request RecordedRequest) response {
	if refusal := p.authenticate(Introspection, request); refusal != nil {
		return *refusal
	}
	if len(request.Form["token"]) != 1 {
		return answerError(http.StatusBadRequest, "invalid_request")
	}
	now := p.now()
	p.mu.Lock()
	answer, ok := p.tokens[request.Form.Get("token")]
	g := p.login.granted[request.Form.Get("token")]
	p.mu.Unlock()
	if !ok || g != nil && !now.Before(g.expires) {
		answer = Claims{"active": false}
	}
	return answerJSON(http.StatusOK, answer)
}

// token grants an authorization code, a refresh token or client credentials.
func (p *Provider) token(request RecordedRequest) response {
	if refusal := p.authenticate(Token, request); refusal != nil {
		return *refusal
	}
	switch request.Form.Get("grant_type") {
	case "authorization_code":
		return p.redeem(request.Form)
	case grantRefresh:
		return p.refresh(request.Form)
	case "client_credentials":
		return p.grantClientCredentials(request)
	}
	return answerError(http.StatusBadRequest, "unsupported_grant_type")
}

func (p *Provider) grantClientCredentials(request RecordedRequest) response {
	p.mu.Lock()
	claims, public := Claims{"client_id": p.clientID}, p.login.public
	p.mu.Unlock()
	if public {
		return answerError(http.StatusBadRequest, "unauthorized_client")
	}
	if scope := request.Form.Get("scope"); scope != "" {
		claims["scope"] = scope
	}
	claims = p.AccessClaims(claims)
	answer := answerJSON(http.StatusOK, map[string]any{
		"access_token": p.AccessToken(claims),
		"token_type":   "Bearer",
		"expires_in":   300,
		"scope":        claims["scope"],
	})
	answer.header.Set("Cache-Control", "no-store")
	return answer
}

// authenticate checks the client of a request and returns what to answer when it
// is not the one known. A request must be a POST and use one method only.
func (p *Provider) authenticate(endpoint string, request RecordedRequest) *response {
	refuse := func(status int, code string) *response {
		answer := answerError(status, code)
		if status == http.StatusUnauthorized {
			answer.header.Set("Www-Authenticate", `Basic realm="optest"`)
		}
		return &answer
	}
	if request.Method != http.MethodPost {
		return refuse(http.StatusMethodNotAllowed, "invalid_request")
	}
	form, basic := request.Form, request.Header.Get("Authorization")
	assertion, secret := form.Get("client_assertion"), form.Get("client_secret")

	p.mu.Lock()
	id, wantSecret, certificate, check := p.clientID, p.clientSecret, p.clientCertificate, p.checkAssertion
	public := p.login.public && endpoint != Introspection
	if assertion != "" {
		p.assertions = newest(append(p.assertions, assertion), recordedRequests)
		p.mark(assertion)
	}
	p.mu.Unlock()

	methods := 0
	for _, used := range []bool{basic != "", form.Has("client_secret"), assertion != ""} {
		if used {
			methods++
		}
	}
	known := false
	switch {
	case methods > 1:
		return refuse(http.StatusBadRequest, "invalid_request")
	case assertion != "":
		known = form.Get("client_assertion_type") == assertionType && check != nil && check(assertion) == nil
	case basic != "":
		known = basicMatches(basic, id, wantSecret)
	case form.Has("client_secret"):
		known = form.Get("client_id") == id && secret == wantSecret && wantSecret != ""
	case public:
		known = form.Get("client_id") == id
	case certificate != nil && form.Get("client_id") == id:
		presented := request.PeerCertificates
		known = len(presented) > 0 && slices.Equal(presented[0].Raw, certificate.Raw)
	}
	if !known {
		return refuse(http.StatusUnauthorized, "invalid_client")
	}
	return nil
}

// basicMatches compares client_secret_basic credentials, which are form-encoded
// before they are put together (RFC 6749 section 2.3.1).
func basicMatches(authorization, id, secret string) bool {
	r := http.Request{Header: http.Header{"Authorization": {authorization}}}
	username, password, ok := r.BasicAuth()
	if !ok || secret == "" {
		return false
	}
	username, usernameErr := url.QueryUnescape(username)
	password, passwordErr := url.QueryUnescape(password)
	return usernameErr == nil && passwordErr == nil && username == id && password == secret
}
