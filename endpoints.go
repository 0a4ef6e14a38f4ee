package openidconnect

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

// Names of the module's own endpoints below path_prefix.
const (
	endpointCallback  = "/callback"
	endpointLogin     = "/login"
	endpointLogout    = "/logout"
	endpointLoggedOut = "/logged-out"
	endpointSession   = "/session"
	endpointJWKS      = "/jwks.json"

	endpointBackchannelLogout  = "/backchannel-logout"
	endpointFrontchannelLogout = "/frontchannel-logout"

	defaultPathPrefix = "/oauth2"
)

// endpointPaths are the paths that a handler answers itself.
func (h *Handler) endpointPaths() []string {
	prefix := or(h.PathPrefix, defaultPathPrefix)
	paths := []string{
		h.callbackPath(), prefix + endpointLogin, h.logoutEndpoint(), prefix + endpointLoggedOut, prefix + endpointSession, prefix + endpointJWKS,
	}
	if h.handlesBackchannel() {
		paths = append(paths, prefix+endpointBackchannelLogout)
	}
	if h.FrontchannelLogout {
		paths = append(paths, prefix+endpointFrontchannelLogout)
	}
	return paths
}

// callbackPath is where the provider sends browsers back to.
func (h *Handler) callbackPath() string {
	if h.RedirectURI == "" {
		return or(h.PathPrefix, defaultPathPrefix) + endpointCallback
	}
	u, err := url.Parse(h.RedirectURI)
	if err != nil {
		return h.RedirectURI
	}
	return u.EscapedPath()
}

// ownEndpoint returns the name of the endpoint that a request is for, "" for all other requests: by the path as the client sent it,
// exact and undecoded, whatever rewrites have made of it.
func (l *login) ownEndpoint(path string) string {
	switch path {
	case l.redirectPath:
		return endpointCallback
	case l.logoutPath:
		return endpointLogout
	}
	name, ok := strings.CutPrefix(path, l.prefix)
	if !ok {
		return ""
	}
	switch {
	case name == endpointLogin, name == endpointLoggedOut, name == endpointSession, name == endpointJWKS,
		name == endpointBackchannelLogout && l.backchannel, name == endpointFrontchannelLogout && l.frontchannel:
		return name
	default:
		return ""
	}
}

// serveEndpoint answers a request to one of the module's own endpoints. It returns no error: Caddy would log it with the URI, which holds
// codes.
func (rt *runtime) serveEndpoint(w http.ResponseWriter, r *http.Request, st *requestState, name string) error {
	st.ownEndpoint = true
	w.Header().Set("Cache-Control", "no-store")
	if err := rt.endpoint(w, r, st, name); err != nil {
		rt.logger.Error("answer not written", zap.String("endpoint", name), zap.Error(err), zap.String("request_id", requestID(r)))
		w.WriteHeader(http.StatusInternalServerError)
	}
	return nil
}

func (rt *runtime) endpoint(w http.ResponseWriter, r *http.Request, st *requestState, name string) error {
	switch name {
	case endpointCallback:
		return rt.serveCallback(w, r, st)
	case endpointLogin:
		return rt.serveLogin(w, r, st)
	case endpointLogout:
		return rt.serveLogout(w, r, st)
	case endpointBackchannelLogout:
		return rt.serveBackchannelLogout(w, r, st)
	case endpointFrontchannelLogout:
		return rt.serveFrontchannelLogout(w, r, st)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return nil
	}
	switch name {
	case endpointSession:
		return rt.serveSession(w, r, st)
	case endpointJWKS:
		w.Header().Set("Cache-Control", "public, max-age=3600")
		return writeBody(w, r, http.StatusOK, "application/jwk-set+json", rt.login.publicKeys)
	default:
		return rt.serveLoggedOut(w, r, st)
	}
}

// loginURL is the path that starts a login which returns to target.
func (l *login) loginURL(target, prompt string) string {
	query := url.Values{}
	if target != "" && target != "/" {
		query.Set("return_to", target)
	}
	if prompt != "" {
		query.Set("prompt", prompt)
	}
	if len(query) == 0 {
		return l.prefix + endpointLogin
	}
	return l.prefix + endpointLogin + "?" + query.Encode()
}

// maxLoginHint bounds a login_hint (bytes).
const maxLoginHint = 512

// serveLogin starts a login because somebody asks for it: a link of the site, the way out on one of our pages, or another party by
// OpenID Connect Core section 4, which names the issuer.
func (rt *runtime) serveLogin(w http.ResponseWriter, r *http.Request, st *requestState) error {
	l, v := rt.login, &st.visit
	parameters, err := loginParameters(w, r)
	if err != nil {
		return rt.refuse(w, r, st, "", &refusal{reason: reasonProviderError, cause: err})
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return nil
	}
	issuer, initiated := parameters["iss"]
	if initiated {
		metadata, refused := rt.metadataForLogin(r)
		if refused != nil {
			return rt.refuse(w, r, st, "", refused)
		}
		if len(issuer) != 1 || !slices.Contains(rt.policy.issuers(metadata), issuer[0]) {
			return rt.refuse(w, r, st, "", refuseClaim(reasonIssuerMismatch, rt.policy.issuers(metadata), logText(parameters.Get("iss"))))
		}
	} else if r.Method == http.MethodPost && isCrossSite(r) {
		return rt.refuse(w, r, st, "", refuse(reasonCrossSiteLogin))
	}
	kind := navigationOf(r)
	if kind == notNavigation {
		return rt.refuse(w, r, st, "", refuse(reasonNoCredentials))
	}
	origin := publicOrigin(r)
	target := safeReturnURL(or(parameters.Get("return_to"), parameters.Get("target_link_uri")), origin)
	if l.ownEndpoint(pathOf(target)) != "" {
		target = "/"
	}
	prompt := parameters.Get("prompt")
	if !slices.Contains([]string{promptLogin, promptSelectAccount, promptConsent}, prompt) {
		prompt = ""
	}
	opened, dead, refused := rt.sessionOf(r, v, rt.now())
	switch {
	case refused != nil:
		return rt.refuse(w, r, st, "", refused)
	case opened != nil && !parameters.Has("prompt"):
		redirect(w, r, location(target, origin))
		return nil
	}
	st.dead = dead
	if kind == framedNavigation && !l.framed {
		refused := refuse(reasonNoCredentials)
		refused.page, refused.action = pageFramed, l.loginURL(target, prompt)
		return rt.refuse(w, r, st, "", refused)
	}
	hint := parameters.Get("login_hint")
	if len(hint) > maxLoginHint {
		hint = ""
	}
	return rt.startLogin(w, r, st, loginAttempt{returnURL: target, prompt: prompt, loginHint: hint})
}

// loginParameters are those of the query, or of a form.
func loginParameters(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.Method != http.MethodPost {
		values, _ := url.ParseQuery(originalURL(r).RawQuery) // what cannot be read is not there
		return values, nil
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxCallbackBody)
	if err := r.ParseForm(); err != nil {
		return nil, err
	}
	return r.Form, nil
}

// serveSession tells scripts of the site how the session is doing. It changes nothing.
func (rt *runtime) serveSession(w http.ResponseWriter, r *http.Request, st *requestState) error {
	l, v := rt.login, &st.visit
	opened, _, refused := rt.sessionOf(r, v, rt.now())
	if refused != nil {
		return rt.refuse(w, r, st, "", refused)
	}
	answer := struct {
		Authenticated bool   `json:"authenticated"`
		Subject       string `json:"subject,omitempty"`
		ExpiresIn     int64  `json:"expires_in,omitempty"`
		LoginURL      string `json:"login_url"`
		LogoutURL     string `json:"logout_url"`
	}{LoginURL: l.loginURL("", ""), LogoutURL: l.logoutPath}
	if opened != nil {
		answer.Authenticated, answer.Subject = true, opened.Subject
		answer.ExpiresIn = int64((l.restOf(opened.Session, rt.now()) + time.Second - 1) / time.Second)
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return caddyhttp.Error(http.StatusInternalServerError, err)
	}
	return writeBody(w, r, http.StatusOK, "application/json", append(body, '\n'))
}

// restOf is how long a session has to live by its own clocks.
func (l *login) restOf(sess *session.Session, now time.Time) time.Duration {
	rest := l.endOf(sess).Sub(now)
	if l.idle > 0 {
		rest = min(rest, sess.LastUsed.Add(l.idle).Sub(now))
	}
	return rest
}

func writeBody(w http.ResponseWriter, r *http.Request, status int, contentType string, body []byte) error {
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(body) //nolint:errcheck // the client has gone; there is nobody to tell
	}
	return nil
}
