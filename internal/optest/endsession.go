package optest

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// LogoutRequest is a request that the end_session endpoint answered itself.
type LogoutRequest struct {
	Method      string
	Hint        string // id_token_hint
	ClientID    string
	RedirectURI string // post_logout_redirect_uri
	State       string
	Form        url.Values // every parameter
	HintValid   bool
	HintClaims  Claims // of a valid hint
	Refused     string // why; such a request ends nothing and leads nowhere
	SID         string // of the single sign-on session that ended, if any
}

// WithEndSession is WithSSO with an endpoint that ends such sessions by OpenID
// Connect RP-Initiated Logout.
func WithEndSession() Option { return func(o *options) { o.sso, o.endSession = true, true } }

// SetEndSession is WithEndSession for a provider that runs already. Single sign-on
// stays when the endpoint goes.
func (p *Provider) SetEndSession(on bool) {
	p.setLogout(func(l *logout) { l.sso, l.endSession = l.sso || on, on })
}

func (p *Provider) setLogout(edit func(*logout)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	edit(&p.logout)
}

// SetPostLogoutRedirectURIs lets the client have these URIs to return to, and no
// other. Without any, every one is good. Either way the request has to name the
// client, by client_id or a valid hint.
func (p *Provider) SetPostLogoutRedirectURIs(uris ...string) {
	p.setLogout(func(l *logout) { l.redirectURIs = slices.Clone(uris) })
}

// SetLogoutState lets change say which state goes back for the one received, which
// is "" where there was none; "" leaves it out. Nil ends that.
func (p *Provider) SetLogoutState(change func(state string) string) {
	p.setLogout(func(l *logout) { l.state = change })
}

// SetLogoutRedirect says whether a logout comes back to the client; at first it
// does. Otherwise it ends with a page of the provider's.
func (p *Provider) SetLogoutRedirect(on bool) { p.setLogout(func(l *logout) { l.redirect = on }) }

// SetFrontchannelLogoutURI sets what the page of a logout loads in iframes, with iss
// and sid. With it, end_session answers a page that goes on by itself; without any
// it redirects.
func (p *Provider) SetFrontchannelLogoutURI(uris ...string) {
	p.setLogout(func(l *logout) { l.frontchannel = slices.Clone(uris) })
}

// SetFrontchannelParameters lets edit change iss and sid of the iframes; nil ends
// that.
func (p *Provider) SetFrontchannelParameters(edit func(values url.Values)) {
	p.setLogout(func(l *logout) { l.frontchannelSet = edit })
}

// Logouts returns the requests that end_session answered itself, in order or not,
// oldest first, at most the last thousand. Those that a fault answered are only
// among its Requests.
func (p *Provider) Logouts() []LogoutRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.logout.logouts)
}

// offered is the name of an endpoint that not every provider has.
func (p *Provider) offered(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if name == EndSession && p.logout.endSession || name == Revocation && p.logout.revocation {
		return name
	}
	return Other
}

func (p *Provider) endSession(request RecordedRequest) response {
	if request.Method != http.MethodGet && request.Method != http.MethodPost {
		return answerPage(http.StatusMethodNotAllowed, "This page is for GET and POST.")
	}
	asked := p.readLogout(request)
	var ended *ssoSession
	cookie := p.sessionCookie(request)
	if asked.Refused == "" {
		if ended = p.endOne(cookie, asked); ended != nil {
			asked.SID = ended.sid
		}
	}
	p.setLogout(func(l *logout) { l.logouts = newest(append(l.logouts, asked), recordedRequests) })
	if asked.Refused != "" {
		return answerPage(http.StatusBadRequest, "This request is wrong: "+asked.Refused+".")
	}
	if ended != nil {
		p.tellClients(*ended)
	}
	answer := p.afterLogout(asked, ended)
	if asked.HintValid {
		answer.header.Set(silentHeader, "1")
	}
	if ended != nil && ended.cookie == cookie {
		answer.header.Set("Set-Cookie", p.setCookie("", -1).String())
	}
	return answer
}

// readLogout finds out what is asked, and whether it is in order.
func (p *Provider) readLogout(request RecordedRequest) LogoutRequest {
	values := authorizeParameters(request)
	logout := LogoutRequest{
		Method:      request.Method,
		Hint:        values.Get("id_token_hint"),
		ClientID:    values.Get("client_id"),
		RedirectURI: values.Get("post_logout_redirect_uri"),
		State:       values.Get("state"),
		Form:        values,
	}
	if logout.Hint != "" {
		logout.HintClaims = p.ownIDToken(logout.Hint)
		logout.HintValid = logout.HintClaims != nil
	}
	p.mu.Lock()
	client, allowed := p.clientID, p.logout.redirectURIs
	p.mu.Unlock()
	target, err := url.Parse(logout.RedirectURI)
	switch {
	case repeated(values):
		logout.Refused = "a parameter stands twice"
	case logout.Hint != "" && !logout.HintValid:
		logout.Refused = "id_token_hint is not an ID token of the client's"
	case logout.ClientID != "" && logout.ClientID != client:
		logout.Refused = "client_id is not known"
	case logout.RedirectURI == "":
	case logout.ClientID == "" && !logout.HintValid:
		logout.Refused = "neither id_token_hint nor client_id says whose post_logout_redirect_uri it is"
	case allowed != nil && !slices.Contains(allowed, logout.RedirectURI),
		err != nil || target.Scheme != "https" && target.Scheme != "http" || target.Host == "" || target.Fragment != "":
		logout.Refused = "post_logout_redirect_uri is not the client's"
	}
	return logout
}

// endOne ends the session that a logout is about: that of the cookie, unless the
// hint is of another, which then ends instead.
func (p *Provider) endOne(cookie string, logout LogoutRequest) *ssoSession {
	sid, hasSID := logout.HintClaims["sid"].(string)
	p.mu.Lock()
	defer p.mu.Unlock()
	sessions := p.logout.sessions
	about := func(s *ssoSession) bool {
		switch {
		case !logout.HintValid:
			return true
		case hasSID:
			return s.sid == sid
		}
		return subject(s.user) == subject(logout.HintClaims)
	}
	i := slices.IndexFunc(sessions, func(s *ssoSession) bool { return cookie != "" && s.cookie == cookie && about(s) })
	if i < 0 && hasSID {
		i = slices.IndexFunc(sessions, about)
	}
	if i < 0 {
		return nil
	}
	ended := *sessions[i]
	p.logout.sessions = slices.Delete(sessions, i, i+1)
	return &ended
}

// afterLogout leads back to the client, by a page with its iframes if there are any,
// or shows that the person is signed out.
func (p *Provider) afterLogout(logout LogoutRequest, ended *ssoSession) response {
	p.mu.Lock()
	settings := p.logout
	p.mu.Unlock()
	target := ""
	if logout.RedirectURI != "" && settings.redirect {
		state := logout.State
		if settings.state != nil {
			runHook(p, func(state *string) { *state = settings.state(*state) }, &state)
		}
		target = logout.RedirectURI
		if state != "" {
			target = withQuery(target, url.Values{"state": {state}})
		}
	}
	if ended != nil && len(settings.frontchannel) > 0 {
		values := url.Values{"iss": {p.Issuer()}, "sid": {ended.sid}}
		runHook(p, settings.frontchannelSet, values)
		return answerFrames(settings.frontchannel, values, target)
	}
	answer := answerPage(http.StatusOK, "You are signed out.")
	if target != "" {
		answer = response{status: http.StatusFound, header: http.Header{"Location": {target}, "Cache-Control": {"no-store"}}}
	}
	return answer
}

// withQuery adds parameters to a URL that may have some.
func withQuery(target string, values url.Values) string {
	switch {
	case len(values) == 0:
		return target
	case strings.Contains(target, "?"):
		return target + "&" + values.Encode()
	}
	return target + "?" + values.Encode()
}

// loadsFrames is how a page of answerFrames shows that it loads its iframes and then
// goes on.
const loadsFrames = `<body class="frames">`

// answerFrames is the page of OpenID Connect Front-Channel Logout, which goes to
// target when its iframes are loaded, unless that is empty.
func answerFrames(uris []string, values url.Values, target string) response {
	var page strings.Builder
	page.WriteString("<!doctype html>\n<html lang=\"en\"><title>optest</title>\n")
	if target != "" {
		fmt.Fprintf(&page, "<meta http-equiv=\"refresh\" content=\"0; url=%s\">\n", html.EscapeString(target))
	}
	page.WriteString(loadsFrames + "\n<p>You are signed out.</p>\n")
	for _, uri := range uris {
		fmt.Fprintf(&page, "<iframe src=\"%s\"></iframe>\n", html.EscapeString(withQuery(uri, values)))
	}
	page.WriteString("</body></html>\n")
	answer := answerPage(http.StatusOK, "")
	answer.body = []byte(page.String())
	return answer
}
