package optest

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// keptSSO is how many single sign-on sessions are remembered, the newest.
const keptSSO = 10_000

// silentHeader is in answers that show the person no page of the provider's, so that
// a browser goes on without a button.
const silentHeader = "Optest-Silent"

// logout is what the provider keeps for single sign-on and its end.
type logout struct {
	sso, endSession, revocation bool

	sids     func() string
	prompts  int
	sessions []*ssoSession // oldest first

	redirectURIs []string
	redirect     bool
	state        func(string) string
	logouts      []LogoutRequest

	backchannel     []string
	tokenClaims     func(Claims)
	hosts           map[string]string
	answers         []BackchannelAnswer
	frontchannel    []string
	frontchannelSet func(url.Values)
}

// ssoSession is a browser that is signed in at the provider.
type ssoSession struct {
	cookie   string
	sid      string
	user     Claims
	logins   int
	authTime time.Time
}

// SSOSession is a single sign-on session that goes on.
type SSOSession struct {
	SID      string
	Subject  string
	Logins   int // silent ones too
	AuthTime time.Time
}

// signedIn is who an authorization request signs in.
type signedIn struct {
	sid      string
	user     Claims
	authTime time.Time
	cookie   string // empty without single sign-on
	silent   bool
}

// WithSSO keeps browsers signed in: the authorization endpoint sets a cookie, and
// asks nobody who brings it back, unless prompt or max_age says so. What logs in by
// it has one sid, and the user of that session, whoever SetUser names by then. With
// prompt=none and nobody signed in, it answers login_required.
func WithSSO() Option { return func(o *options) { o.sso = true } }

// SetSIDs makes next say the sid of sessions yet to come, of any text; nil makes
// them random again.
func (p *Provider) SetSIDs(next func() string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.logout.sids = next
}

// Prompts counts the authorization requests that needed credentials, with single
// sign-on: those without a session, and those that prompt=login or max_age was in.
func (p *Provider) Prompts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.logout.prompts
}

// SSOSessions returns the single sign-on sessions that go on, oldest first.
func (p *Provider) SSOSessions() []SSOSession {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]SSOSession, 0, len(p.logout.sessions))
	for _, s := range p.logout.sessions {
		all = append(all, SSOSession{SID: s.sid, Subject: subject(s.user), Logins: s.logins, AuthTime: s.authTime})
	}
	return all
}

// EndSSO ends the single sign-on sessions that have this sid or are of the user with
// this sub, as an administrator would, and returns how many those are. The client is
// told by the back-channel before it returns. Refresh tokens stay good.
func (p *Provider) EndSSO(name string) int {
	ended := p.endSessions(func(s *ssoSession) bool { return s.sid == name || subject(s.user) == name })
	for _, session := range ended {
		p.tellClients(session)
	}
	return len(ended)
}

// endSessions removes the sessions that match and returns copies of them.
func (p *Provider) endSessions(matches func(*ssoSession) bool) []ssoSession {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ended []ssoSession
	p.logout.sessions = slices.DeleteFunc(p.logout.sessions, func(s *ssoSession) bool {
		matched := matches(s)
		if matched {
			ended = append(ended, *s)
		}
		return matched
	})
	return ended
}

// nextSID names a new session.
func (p *Provider) nextSID() string {
	p.mu.Lock()
	next := p.logout.sids
	p.mu.Unlock()
	sid := rand.Text()
	if next != nil {
		runHook(p, func(sid *string) { *sid = next() }, &sid)
	}
	return sid
}

// signAnew signs the user of the moment in, in a session of its own.
func (p *Provider) signAnew(now time.Time) signedIn {
	sid := p.nextSID()
	p.mu.Lock()
	defer p.mu.Unlock()
	who := signedIn{sid: sid, user: p.login.user, authTime: now}
	if p.logout.sso {
		who.cookie = rand.Text()
		p.mark(who.cookie)
		session := &ssoSession{cookie: who.cookie, sid: sid, user: who.user, logins: 1, authTime: now}
		p.logout.sessions = newest(append(p.logout.sessions, session), keptSSO)
	}
	return who
}

// signOn finds out who makes an authorization request, or the error code to refuse
// it with.
func (p *Provider) signOn(request RecordedRequest, values url.Values) (who signedIn, refusal string) {
	now, cookie := p.now(), p.sessionCookie(request)
	prompt := strings.Fields(values.Get("prompt"))
	p.mu.Lock()
	if !p.logout.sso {
		p.mu.Unlock()
		return p.signAnew(now), ""
	}
	session := p.logout.session(cookie)
	silent := session != nil && !slices.Contains(prompt, "login") && !session.tooOld(values.Get("max_age"), now)
	if !silent && slices.Contains(prompt, "none") {
		p.mu.Unlock()
		return signedIn{}, "login_required"
	}
	if !silent {
		p.logout.prompts++
	}
	// Who signs in again stays in the session; anybody else starts another.
	if session == nil || !silent && subject(session.user) != subject(p.login.user) {
		p.mu.Unlock()
		return p.signAnew(now), ""
	}
	defer p.mu.Unlock()
	session.logins++
	if !silent {
		session.user, session.authTime = p.login.user, now
	} else if user, ok := p.refreshes.users[subject(session.user)]; ok {
		session.user = user
	}
	return signedIn{sid: session.sid, user: session.user, authTime: session.authTime, cookie: session.cookie, silent: silent}, ""
}

// session returns the session of a cookie, or nil. The caller holds mu.
func (l *logout) session(cookie string) *ssoSession {
	i := slices.IndexFunc(l.sessions, func(s *ssoSession) bool { return s.cookie == cookie && cookie != "" })
	if i < 0 {
		return nil
	}
	return l.sessions[i]
}

func (s *ssoSession) tooOld(maxAge string, now time.Time) bool {
	seconds, err := strconv.Atoi(maxAge)
	return err == nil && now.Sub(s.authTime) >= time.Duration(seconds)*time.Second
}

// cookieName is another for each provider, since ports share their cookies.
func (p *Provider) cookieName() string {
	return "optest-sso-" + p.URL()[strings.LastIndexByte(p.URL(), ':')+1:]
}

// sessionCookie is what a request brings of an earlier login.
func (p *Provider) sessionCookie(request RecordedRequest) string {
	cookie, err := (&http.Request{Header: request.Header}).Cookie(p.cookieName())
	if err != nil {
		return ""
	}
	return cookie.Value
}

// tellBrowser adds to an answer what the browser must know of who is signed in.
func (p *Provider) tellBrowser(header http.Header, who signedIn) {
	if who.cookie == "" {
		return
	}
	if who.silent {
		header.Set(silentHeader, "1")
	}
	header.Set("Set-Cookie", p.setCookie(who.cookie, 0).String())
}

// setCookie is the cookie of single sign-on. Sites that embed the provider or post
// to it bring it along, where there is TLS for that.
func (p *Provider) setCookie(value string, maxAge int) *http.Cookie {
	cookie := &http.Cookie{Name: p.cookieName(), Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if p.Certificate() != nil {
		cookie.Secure, cookie.SameSite = true, http.SameSiteNoneMode
	}
	return cookie
}

// know remembers a key for the hints of logouts. The caller holds mu.
func (p *Provider) know(key *Key) {
	if !slices.Contains(p.known, key) {
		p.known = append(p.known, key)
	}
}
