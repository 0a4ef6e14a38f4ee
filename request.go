package openidconnect

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

// requestState is what one request knows of its identity. Placeholders read it, so that of several handlers in a row the last one
// that decided is the one that is seen.
type requestState struct {
	rt       *runtime
	identity *identity      // nil while anonymous
	claims   map[string]any // of the identity, parsed when a placeholder first asks for one
	token    string
	refused  *shownRefusal
	proof    tokenDigest // of possession, that was admitted in this request

	visit             visit
	cookieHeader      []string // as it came, for the handlers within this one
	cookieLine        [1]string
	cookiesTaken      bool // out of the request, by this handler or one around it
	keptAuthorization bool // authorization has what the client sent; the request has something else, or nothing
	signedIn          bool // there is a session, which a rule refuses
	ownEndpoint       bool
	dead              Reason   // why a session cookie that was sent is none
	ownCookies        []string // that handlers of ours have set on the answer

	authorization []string
	taken         takenTokens

	writer responseWriter
}

// shownRefusal is what a site's own error page may show of a refusal.
type shownRefusal struct {
	code      string
	reason    Reason
	requestID string
}

// String keeps the state out of {http.vars.*}.
func (*requestState) String() string { return "" }

const stateVar = "openid_connect"

// stateOf returns the request's state, anonymous again, and makes it known to placeholders the first time.
func stateOf(r *http.Request, rt *runtime) *requestState {
	ctx := r.Context()
	repl, _ := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	st, ok := caddyhttp.GetVar(ctx, stateVar).(*requestState)
	if ok {
		// what an outer handler has set is void when this one decides, and what it took away is back
		st.rt.headers.strip(r, nil)
		if st.keptAuthorization {
			delete(r.Header, "Authorization")
			if len(st.authorization) > 0 {
				r.Header["Authorization"] = st.authorization
			}
		}
		*st = requestState{
			rt: rt, cookiesTaken: st.cookiesTaken, cookieHeader: slices.Clone(st.cookieHeader), proof: st.proof,
			ownCookies: st.ownCookies, taken: st.taken, writer: st.writer,
		}
	} else {
		st = &requestState{rt: rt}
		caddyhttp.SetVar(ctx, stateVar, st)
		if repl != nil {
			repl.Map(st.placeholder)
		}
	}
	if repl != nil {
		// fixed values that an earlier authentication handler may have set would hide ours
		repl.DeleteByPrefix(placeholderUser)
	}
	return st
}

func (st *requestState) identify(id *identity, token string) {
	st.identity, st.claims, st.token = id, nil, token
}

// keepAuthorization remembers the client's Authorization header where this handler puts another in its place, or none: a handler within this
// one decides anew.
func (st *requestState) keepAuthorization(r *http.Request) {
	if h := &st.rt.headers; h.stripAuthorization || h.accessTokenAuthorizes {
		st.keptAuthorization, st.authorization = true, r.Header["Authorization"]
	}
}

// Placeholders.
const (
	placeholderUser   = "http.auth.user."
	placeholderModule = "http.openid_connect."
)

// placeholder gives the values of all placeholders of this module. Each is always defined; for anonymous requests they are empty.
// The values are inserted by Caddy as they are, and never expanded a second time.
func (st *requestState) placeholder(key string) (any, bool) {
	if name, ok := strings.CutPrefix(key, placeholderUser); ok {
		return st.userPlaceholder(name), true
	}
	name, ok := strings.CutPrefix(key, placeholderModule)
	if !ok {
		return nil, false
	}
	switch {
	case name == "method" && st.identity != nil:
		return st.identity.method, true
	case name == "issuer" && st.identity != nil:
		return st.identity.issuer, true
	case name == "error" && st.refused != nil:
		return st.refused.code, true
	case name == "reason" && st.refused != nil:
		return string(st.refused.reason), true
	case name == "request_id" && st.refused != nil:
		return st.refused.requestID, true
	default:
		return "", true
	}
}

func (st *requestState) userPlaceholder(name string) any {
	id := st.identity
	switch {
	case name == "id" && id != nil:
		return id.user
	case name == "id":
		return ""
	case name == "access_token":
		if st.rt.headers.accessToken && id != nil {
			return st.token
		}
		return ""
	}
	path, ok := st.rt.claimPlaceholders[name]
	if !ok {
		var err error
		if path, err = parseClaimPath(name); err != nil {
			return ""
		}
	}
	if st.claims == nil && id != nil {
		if st.claims = (&verifiedToken{payload: id.payload}).claims(); st.claims != nil {
			addScope(st.claims, id.scope)
		}
	}
	value, _ := path.find(st.claims)
	if path.isPlural() {
		switch value := value.(type) {
		case nil:
			return claimList{}
		case string:
			return soleElement{value}
		}
	}
	return placeholderValue(value)
}

// claimList is a list in expressions, and text with commas elsewhere.
type claimList []any

func (l claimList) String() string { return headerText([]any(l)) }

// soleElement is a list in expressions of what is a text in the token, and elsewhere too.
type soleElement []any

func (l soleElement) String() string { return l[0].(string) }

// claimObject is a map in expressions, and JSON elsewhere.
type claimObject map[string]any

func (o claimObject) String() string { return jsonText(map[string]any(o)) }

// placeholderValue gives a claim the type that expressions can work with; its text is what was in the token.
func placeholderValue(value any) any {
	switch value := value.(type) {
	case nil:
		return ""
	case json.Number:
		if number, err := strconv.ParseInt(value.String(), 10, 64); err == nil && value != "-0" {
			return number
		}
		// Caddy writes a float64 in this way; where that is not what was in the token the text is kept
		number, err := strconv.ParseFloat(value.String(), 64)
		if err == nil && strconv.FormatFloat(number, 'f', -1, 64) == value.String() {
			return number
		}
		return value.String()
	case []any:
		list := make(claimList, len(value))
		for i := range value {
			list[i] = placeholderValue(value[i])
		}
		return list
	case map[string]any:
		return claimObject(value)
	default:
		return value
	}
}

// pass hands the request on. private says that the answer is for one user.
func (st *requestState) pass(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, private bool) error {
	writer := st.response(w, private)
	err := next.ServeHTTP(writer, r)
	writer.decide() // where nobody has answered, the server does, or the site's handle_errors: headers that are set stay
	return err
}

// response wraps w for the next handler: no shared cache keeps what one user was shown, nobody behind us sets our cookies, and ours
// are added. private says that the answer is for one user.
func (st *requestState) response(w http.ResponseWriter, private bool) *responseWriter {
	writer := &st.writer
	if writer.ResponseWriter != nil {
		writer = new(responseWriter) // a second handler in the same request
	}
	*writer = responseWriter{
		ResponseWriter: w, st: st, rt: st.rt, private: private, cookies: st.visit.reply, carried: st.visit.carried, alive: st.dead == "",
	}
	return writer
}

// setCookies adds cookies of ours to an answer.
func (st *requestState) setCookies(header http.Header, cookies []string) {
	if len(cookies) == 0 {
		return
	}
	session.Write(header, cookies)
	st.ownCookies = append(slices.Clip(st.ownCookies), cookies...)
}

// responseWriter completes the headers of a response when they are written. It passes on everything else; http.ResponseController finds
// the rest through Unwrap.
type responseWriter struct {
	http.ResponseWriter
	st      *requestState
	rt      *runtime // of the handler that answers with it: a handler within this one puts its own into st
	private bool
	cookies []string
	carried *session.Session // that they are of: a handler within this one has a visit of its own
	alive   bool             // it was, so that the cookies are not those that delete it
	decided bool
}

func (w *responseWriter) decide() {
	if w.decided {
		return
	}
	w.decided = true
	header := w.Header()
	l := w.rt.login
	if l != nil {
		l.cookies.FilterResponse(header)
		session.Write(header, w.st.ownCookies) // those of a handler within this one
	}
	if w.carried != nil && len(w.cookies) > 0 && (l.isOutdated(w.carried) || w.alive && l.isRevoked(w.carried, w.rt.now())) {
		w.cookies = nil // the upstream has taken its time, and the browser has something newer, or has logged out
	}
	w.rt.varyBy(header)
	switch {
	case len(w.cookies) > 0:
		header["Cache-Control"] = []string{"private, no-store"}
		w.st.setCookies(header, w.cookies)
	case w.private && len(header["Cache-Control"]) == 0:
		header["Cache-Control"] = []string{"private"}
	}
}

func (w *responseWriter) WriteHeader(status int) {
	// informational answers have headers of their own, except for the one that ends the exchange
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.decide()
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) Write(p []byte) (int, error) {
	w.decide()
	return w.ResponseWriter.Write(p)
}

func (w *responseWriter) ReadFrom(r io.Reader) (int64, error) {
	w.decide()
	if target, ok := w.ResponseWriter.(io.ReaderFrom); ok {
		return target.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{w.ResponseWriter}, r)
}

// FlushError is how http.ResponseController flushes; a flush writes the headers.
func (w *responseWriter) FlushError() error {
	w.decide()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *responseWriter) Push(target string, opts *http.PushOptions) error {
	if pusher, ok := w.ResponseWriter.(http.Pusher); ok {
		return pusher.Push(target, opts)
	}
	return http.ErrNotSupported
}

func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
