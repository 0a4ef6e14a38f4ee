package optest

import (
	"crypto/rand"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// codeLifetime is how long an authorization code may wait to be redeemed.
const codeLifetime = time.Minute

// login is what the provider keeps for the authorization code flow.
type login struct {
	iss          bool // promised and sent
	public       bool // the client has no secret
	redirectURIs []string
	user         Claims
	codes        map[string]*grant
	granted      map[string]*grant // by access token
	codeReuses   int
	forgetAt     int  // how many codes and access tokens there are at the next clean-up
	opaque       bool // access tokens
	thin         bool // ID tokens
	refresh      bool // tokens even without offline_access
	hooks        hooks

	accessLifetime       time.Duration
	omitExpiresIn        bool
	omitRefreshedIDToken bool
}

func newLogin(iss bool) login {
	return login{
		iss:            iss,
		user:           defaultUser(),
		codes:          make(map[string]*grant),
		granted:        make(map[string]*grant),
		forgetAt:       fewest,
		accessLifetime: accessLifetime,
	}
}

// grant is what a person agreed to: what a code, and then an access token, is for.
type grant struct {
	client      string
	redirectURI string
	scope       string
	nonce       string
	challenge   string
	acr         string
	maxAge      bool // was asked for
	session     string
	user        Claims
	authTime    time.Time
	issued      time.Time // the code
	spent       bool
	refreshed   bool      // not by the login itself
	expires     time.Time // of the access token
}

// SetRedirectURIs lets the client have these redirect URIs and no other. Without
// any, every one at 127.0.0.1, [::1], localhost, example.com and below, or .test
// is good.
func (p *Provider) SetRedirectURIs(uris ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.login.redirectURIs = slices.Clone(uris)
}

// SetPublicClient makes the one client a public one, which names itself at the
// token endpoint and proves nothing. SetIntrospectionClient ends that.
func (p *Provider) SetPublicClient(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clientID, p.clientSecret, p.login.public = id, "", true
}

// AuthorizeRequests returns the parameters of the authorization requests received,
// oldest first.
func (p *Provider) AuthorizeRequests() []url.Values {
	requests := p.Requests(Authorize)
	all := make([]url.Values, 0, len(requests))
	for _, request := range requests {
		all = append(all, authorizeParameters(request))
	}
	return all
}

// NewCode issues a code for an authorization request, as the authorization endpoint
// would, for the user of the moment in a session of its own. Nothing is checked; client_id is the client's
// and scope is openid where the request leaves them out.
func (p *Provider) NewCode(request url.Values) string {
	return p.newCode(request, p.signAnew(p.now()))
}

// newCode issues a code for who is signed in.
func (p *Provider) newCode(request url.Values, who signedIn) string {
	acr, _, _ := strings.Cut(request.Get("acr_values"), " ")
	now, code := p.now(), rand.Text()
	p.mu.Lock()
	defer p.mu.Unlock()
	g := &grant{
		client:      p.clientID,
		redirectURI: request.Get("redirect_uri"),
		scope:       "openid",
		nonce:       request.Get("nonce"),
		challenge:   request.Get("code_challenge"),
		acr:         acr,
		maxAge:      request.Has("max_age"),
		session:     who.sid,
		user:        who.user,
		authTime:    who.authTime,
		issued:      now,
	}
	if request.Has("client_id") {
		g.client = request.Get("client_id")
	}
	if request.Has("scope") {
		g.scope = request.Get("scope")
	}
	p.login.codes[code] = g
	p.forget(now)
	p.mark(code)
	return code
}

// authorizeParameters are in the query of a GET and in the body of a POST.
func authorizeParameters(request RecordedRequest) url.Values {
	if request.Method == http.MethodPost {
		return request.Form
	}
	return request.URL.Query()
}

// authorize signs the current user in without a page of its own. Nothing is ever
// sent to a redirect URI that the client does not have.
func (p *Provider) authorize(request RecordedRequest) response {
	if request.Method != http.MethodGet && request.Method != http.MethodPost {
		return answerPage(http.StatusMethodNotAllowed, "This page is for GET and POST.")
	}
	values := authorizeParameters(request)
	if problem := p.checkAuthorize(values); problem != "" {
		return answerPage(http.StatusBadRequest, "This request is wrong: "+problem+".")
	}
	hooks := p.hooks()
	answer := make(url.Values)
	header := make(http.Header)
	if hooks.authorizeError != "" {
		answer.Set("error", hooks.authorizeError)
		if hooks.authorizeDescription != "" {
			answer.Set("error_description", hooks.authorizeDescription)
		}
	} else if who, refusal := p.signOn(request, values); refusal != "" {
		answer.Set("error", refusal)
		header.Set(silentHeader, "1")
	} else {
		answer.Set("code", p.newCode(values, who))
		p.tellBrowser(header, who)
	}
	if values.Has("state") {
		answer.Set("state", values.Get("state"))
	}
	if promised, _ := p.Metadata()["authorization_response_iss_parameter_supported"].(bool); promised {
		answer.Set("iss", p.Issuer())
	}
	runHook(p, hooks.authorizeResponse, answer)
	if values.Get("response_mode") == "form_post" {
		page := answerFormPost(values.Get("redirect_uri"), answer)
		maps.Copy(page.header, header)
		return page
	}
	target, separator := values.Get("redirect_uri"), "?"
	if strings.Contains(target, "?") {
		separator = "&"
	}
	header.Set("Location", target+separator+answer.Encode())
	header.Set("Cache-Control", "no-store")
	return response{status: http.StatusFound, header: header}
}

// checkAuthorize says what is wrong with an authorization request, if anything.
func (p *Provider) checkAuthorize(values url.Values) string {
	p.mu.Lock()
	client, allowed := p.clientID, p.login.redirectURIs
	p.mu.Unlock()
	for name, all := range values {
		if len(all) > 1 && name != "resource" {
			return "a parameter stands twice"
		}
	}
	redirectURI := values.Get("redirect_uri")
	switch {
	case values.Get("client_id") != client:
		return "client_id is not known"
	case allowed != nil && !slices.Contains(allowed, redirectURI), allowed == nil && !atHome(redirectURI):
		return "redirect_uri is not the client's"
	case values.Get("response_type") != "code":
		return "response_type is not code"
	case !hasScope(values.Get("scope"), "openid"):
		return "scope lacks openid"
	case !slices.Contains([]string{"", "query", "form_post"}, values.Get("response_mode")):
		return "response_mode is neither query nor form_post"
	case values.Has("code_challenge") && (values.Get("code_challenge_method") != "S256" || len(values.Get("code_challenge")) != 43),
		values.Has("code_challenge_method") && !values.Has("code_challenge"):
		return "code_challenge is not one of S256"
	case values.Has("request") || values.Has("request_uri"):
		return "request objects are not supported"
	}
	if maxAge, err := strconv.Atoi(values.Get("max_age")); values.Has("max_age") && (err != nil || maxAge < 0) {
		return "max_age is not a number of seconds"
	}
	return ""
}

// atHome tells whether a redirect URI is one of the hosts that tests use.
func atHome(redirectURI string) bool {
	u, err := url.Parse(redirectURI)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || strings.Contains(redirectURI, "#") {
		return false
	}
	host := strings.ToLower(u.Hostname())
	return slices.Contains([]string{"127.0.0.1", "::1", "localhost", "example.com"}, host) ||
		strings.HasSuffix(host, ".example.com") || strings.HasSuffix(host, ".test")
}

func hasScope(scope, name string) bool { return slices.Contains(strings.Fields(scope), name) }

func answerPage(status int, text string) response {
	body := "<!doctype html>\n<html lang=\"en\"><title>optest</title><p>" + html.EscapeString(text) + "</p></html>\n"
	return response{status: status, header: http.Header{
		"Content-Type":  {"text/html; charset=utf-8"},
		"Cache-Control": {"no-store"},
	}, body: []byte(body)}
}

// submitsItself is how a page of answerFormPost shows that it sends its form by
// a script.
const submitsItself = `<body onload="document.forms[0].submit()">`

// answerFormPost is the page of OAuth 2.0 Form Post Response Mode.
func answerFormPost(target string, values url.Values) response {
	var page strings.Builder
	page.WriteString("<!doctype html>\n<html lang=\"en\"><title>optest</title>\n" + submitsItself + "\n")
	fmt.Fprintf(&page, "<form method=\"post\" action=\"%s\">\n", html.EscapeString(target))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		for _, value := range values[name] {
			fmt.Fprintf(&page, "<input type=\"hidden\" name=\"%s\" value=\"%s\">\n", html.EscapeString(name), html.EscapeString(value))
		}
	}
	page.WriteString("</form>\n</body></html>\n")
	answer := answerPage(http.StatusOK, "")
	answer.body = []byte(page.String())
	return answer
}
