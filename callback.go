package openidconnect

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

const (
	maxCallbackBody       = 64 << 10 // bytes of a form_post
	maxCallbackParameters = 100
	maxCodeSize           = 8 << 10
	maxStateSize          = 4 << 10
)

// authorizationResponse is what the provider sends back through the browser (RFC 6749 section 4.1.2). Anybody can send one.
type authorizationResponse struct {
	code, state, issuer          string
	errorCode, errorDescription  string
	hasCode, hasIssuer, hasError bool
	duplicate                    bool // a parameter occurs twice
	excessive                    bool
}

// serveCallback finishes a login, or heals what went wrong on the way: whatever a tab, a Back button or a slow user brings here ends on a
// page of the site, in a new login, or on a page that says what to do.
func (rt *runtime) serveCallback(w http.ResponseWriter, r *http.Request, st *requestState) error {
	l, v := rt.login, &st.visit
	if r.TLS != nil && !r.TLS.HandshakeComplete {
		// early data can be sent twice by anybody (RFC 8470 section 5.2)
		w.WriteHeader(http.StatusTooEarly)
		return nil
	}
	formPost := l.responseMode == responseModeFormPost
	switch {
	case r.Method == http.MethodPost && formPost, r.Method == http.MethodGet && !isPrefetch(r):
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		return rt.refuse(w, r, st, "", refuse(reasonNoCredentials)) // nobody has come, so nothing is redeemed
	default:
		w.Header().Set("Allow", "GET")
		if formPost {
			w.Header().Set("Allow", "GET, POST")
		}
		w.WriteHeader(http.StatusMethodNotAllowed)
		return nil
	}
	response, refused := l.readResponse(r)
	if refused != nil {
		return rt.refuse(w, r, st, "", refused)
	}
	if response.excessive {
		return rt.refuse(w, r, st, "", refuseClaim(reasonProviderError, "an authorization response", "one of excessive size"))
	}
	if response.duplicate {
		return rt.refuse(w, r, st, "", refuseClaim(reasonDuplicateParameter, "each parameter once", "a duplicate"))
	}
	ctx, now := r.Context(), rt.now()
	state := l.openState(ctx, v, response.state)
	var transaction *session.Transaction
	missing := reasonTransactionMissing
	if state != nil {
		transaction, missing = l.openTransaction(ctx, v, state, now)
	}
	if response.hasIssuer {
		switch refused := rt.checkResponseIssuer(ctx, response); {
		case refused == nil:
		case refused.answer().status == http.StatusServiceUnavailable: // the login is not spent: a reload may yet succeed
			refused.action = l.loginURL(returnURLOf(state, transaction), "")
			return rt.refuse(w, r, st, "", refused)
		default:
			return rt.refuseCallback(w, r, st, state, transaction, refused)
		}
	}
	switch {
	case response.hasError && response.hasCode:
		return rt.refuseCallback(w, r, st, state, transaction, refuseClaim(reasonProviderError, "a code or an error", "both"))
	case response.hasError:
		return rt.serveProviderError(w, r, st, response, state, transaction)
	case transaction != nil:
		done, err := rt.finishLogin(w, r, st, response, state, transaction)
		if done {
			return err
		}
		missing = reasonTransactionMissing // it is spent
	}
	return rt.heal(w, r, st, state, missing)
}

// readResponse reads the parameters from where the response mode puts them; elsewhere there are none.
func (l *login) readResponse(r *http.Request) (response authorizationResponse, refused *refusal) {
	query := originalURL(r).RawQuery
	switch {
	case r.Method == http.MethodPost:
		if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/x-www-form-urlencoded" {
			return response, refuseClaim(reasonProviderError, "a form", "another media type")
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, maxCallbackBody+1))
		if err != nil {
			return response, &refusal{reason: reasonProviderError, cause: err}
		}
		if len(body) > maxCallbackBody {
			refused := refuseClaim(reasonProviderError, "a form of at most 64 KiB", "a larger one")
			refused.status = http.StatusRequestEntityTooLarge
			return response, refused
		}
		query = string(body)
	case l.responseMode == responseModeFormPost:
		return response, nil
	}
	if strings.Count(query, "&") > maxCallbackParameters {
		response.excessive = true
		return response, nil
	}
	values, _ := url.ParseQuery(query) // what cannot be read is not there
	for _, name := range []string{"code", "state", "iss", "error", "error_description", "response"} {
		response.duplicate = response.duplicate || len(values[name]) > 1
	}
	response.code, response.hasCode = values.Get("code"), values.Has("code")
	response.state = values.Get("state")
	response.issuer, response.hasIssuer = values.Get("iss"), values.Has("iss")
	response.errorCode, response.hasError = values.Get("error"), values.Has("error")
	response.errorDescription = values.Get("error_description")
	response.excessive = len(response.code) > maxCodeSize || len(response.state) > maxStateSize
	return response, nil
}

// checkResponseIssuer refuses the answer of another provider (RFC 9207 section 2.4), which a mix-up attack would bring here.
func (rt *runtime) checkResponseIssuer(ctx context.Context, response authorizationResponse) *refusal {
	metadata, err := rt.provider.Metadata(ctx)
	if err != nil {
		return rt.providerRefusal(err)
	}
	expected := rt.policy.issuers(metadata)
	if response.hasIssuer && (slices.Contains(expected, response.issuer) || response.issuer == metadata.Issuer) {
		return nil
	}
	return refuseClaim(reasonIssuerMismatch, expected, or(logText(response.issuer), "no iss"))
}

// serveProviderError answers what the provider says instead of a code (RFC 6749 section 4.1.2.1). A login that merely took too long at the
// provider is started once more; everything else is for the user to decide.
func (rt *runtime) serveProviderError(
	w http.ResponseWriter, r *http.Request, st *requestState, response authorizationResponse, state *session.State, transaction *session.Transaction,
) error {
	const temporary, expired = "temporarily_unavailable", "authentication_expired"
	passing := response.errorCode == temporary || strings.Contains(response.errorDescription, expired)
	if passing && state != nil && state.Attempt == 0 && rt.mayStart(r) {
		rt.forget(st, state, transaction)
		return rt.startLogin(w, r, st, loginAttempt{returnURL: returnURLOf(state, transaction), number: 1, prompt: state.Prompt})
	}
	refused := refuseClaim(reasonProviderError, "a code", "error "+printable(response.errorCode))
	refused.warns = transaction != nil && !slices.Contains(userErrors, response.errorCode)
	if response.errorCode == "invalid_scope" {
		refused.hint = "the provider does not know one of the scopes in scope, or this client may not ask for it"
	}
	switch {
	case state == nil:
	case response.errorCode == "access_denied":
		refused.reason = reasonAccessDenied
	case response.errorCode == temporary:
		refused.status = http.StatusServiceUnavailable
	}
	return rt.refuseCallback(w, r, st, state, transaction, refused)
}

// userErrors are what a provider says of its user rather than of our configuration (OpenID Connect Core section 3.1.2.6).
var userErrors = []string{"access_denied", "login_required", "interaction_required", "account_selection_required", "consent_required"}

// printable makes a stranger's word fit for a log line.
func printable(text string) string {
	if len(text) > 64 || strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-' && r != '.'
	}) {
		return "that is not a code"
	}
	return text
}

// mayStart reports whether this request may lead to a new login: a page that a user asks for, or the form that a provider has posted.
func (rt *runtime) mayStart(r *http.Request) bool {
	if r.Method == http.MethodPost {
		return rt.login.responseMode == responseModeFormPost
	}
	return isNavigation(r) || rt.login.framed && navigationOf(r) == framedNavigation
}

// finishLogin redeems the code of a login that this browser has started. Repetitions get what the first one got, for a minute; done is
// false when the login is spent.
func (rt *runtime) finishLogin(
	w http.ResponseWriter, r *http.Request, st *requestState, response authorizationResponse, state *session.State, transaction *session.Transaction,
) (done bool, err error) {
	l, v := rt.login, &st.visit
	metadata, failed := rt.provider.Metadata(r.Context())
	if failed != nil {
		refused := rt.providerRefusal(failed) // the login is not spent: a reload may yet succeed
		refused.action = l.loginURL(returnURLOf(state, transaction), "")
		return true, rt.refuse(w, r, st, "", refused)
	}
	outcome, first := l.memory.claim(state.Random, rt.now())
	if first {
		// The code can be redeemed once, so that goes on even if the browser does not wait.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), loginTimeout)
		defer cancel()
		func() {
			defer func() { l.memory.finish(outcome, rt.now()) }()
			outcome.refused = &refusal{reason: reasonProviderError} // should the following not return
			outcome.refused = rt.redeem(ctx, r, v, metadata, response, state, transaction, outcome)
		}()
	} else {
		select {
		case <-outcome.done:
		case <-r.Context().Done():
			return true, nil // there is nobody to tell
		}
	}
	result, available := l.memory.replay(outcome, rt.now())
	switch {
	case !available:
		return false, nil
	case result.refused != nil:
		repeated := *result.refused
		repeated.warns = first // a reload says nothing new
		return true, rt.refuseCallback(w, r, st, state, transaction, &repeated)
	}
	if first || !l.memory.isSuperseded(result.id) && !l.isRevoked(&session.Session{ID: result.id}, rt.now()) {
		v.reply = append(v.reply, result.cookies...)
	} else {
		rt.forget(st, state, transaction) // the browser has a newer session than this one, or has logged out
	}
	st.setCookies(w.Header(), v.reply)
	rt.goTo(w, r, result.target)
	return true, nil
}

// loginTimeout bounds the calls of one login together.
const loginTimeout = 30 * time.Second

// redeem makes the session and its cookies.
func (rt *runtime) redeem(
	ctx context.Context, r *http.Request, v *visit, metadata *provider.Metadata, response authorizationResponse, state *session.State,
	transaction *session.Transaction, outcome *callbackOutcome,
) *refusal {
	l := rt.login
	if metadata.IssParameterSupported && !response.hasIssuer {
		return refuseClaim(reasonIssuerMismatch, "the iss that the metadata promises", "none")
	}
	if response.code == "" {
		return refuseClaim(reasonProviderError, "a code", "none")
	}
	sess, user, refused := rt.complete(ctx, metadata, transaction, response.code, response.state)
	switch {
	case refused == nil:
	case refused.reason == reasonKeysUnavailable, refused.reason == reasonDiscoveryFailed:
		refused.status = http.StatusBadGateway // the code is spent, so there is nothing to retry
		return refused
	default:
		return refused
	}
	rt.beginAfterLogouts(sess)
	received := v.cookies
	if !received.HasSession() && (l.strict || r.Method == http.MethodPost) {
		received = l.cookies.Unseen() // the browser kept back what it has, as another site sent it here
	}
	cookies, dropped, err := l.keep(ctx, v, &received, sess)
	switch {
	case errors.Is(err, session.ErrTooLarge):
		refused := refuseClaim(reasonSessionTooLarge, "at most "+logText(l.cookies.Budget())+" bytes", biggestClaim(sess))
		return refused
	case err != nil:
		return &refusal{reason: reasonStoreUnavailable, cause: err}
	}
	if dropped {
		rt.logger.Debug("the raw ID token was left out of a session to fit its cookie", zap.String("issuer", rt.issuerName))
	}
	for _, sealed := range v.cookies.Session {
		old, _, _ := rt.openSession(ctx, v, sealed, rt.now())
		if old == nil {
			continue
		}
		if l.store == nil && l.renewals.look(old.Session, rt.now()).kind == standingSpent {
			continue // a copy of a cookie that was replaced long ago: whoever has the newest one may be somebody else, and stays signed in
		}
		l.memory.supersede(old.ID, rt.now().Add(min(l.absolute, 24*time.Hour)))
		rt.forgetSession(ctx, old)
	}
	rt.shareSID(ctx, sess)
	outcome.id = sess.ID
	outcome.target = location(returnURLOf(state, transaction), publicOrigin(r))
	outcome.cookies = append(slices.Clip(cookies),
		l.cookies.DeleteTransaction(v.secure, l.cookies.TransactionName(v.secure, state.Random)),
		l.addToLoop(v, markOf(sess.ID), rt.now()))
	l.memory.makes(markOf(sess.ID), rt.now())
	rt.metrics.login(resultSucceeded)
	rt.logger.Info("login", zap.String("issuer", rt.issuerName), zap.String("user_id", or(user, sess.Subject)), zap.String("host", r.Host),
		zap.String("request_id", requestID(r)))
	rt.emit(r, eventLogin, map[string]any{"user_id": or(user, sess.Subject), "subject": sess.Subject})
	return nil
}

// heal answers a response whose login is not, or no longer, under way in this browser.
func (rt *runtime) heal(w http.ResponseWriter, r *http.Request, st *requestState, state *session.State, missing Reason) error {
	l, v := rt.login, &st.visit
	origin := publicOrigin(r)
	target := nearby(returnURLOf(state, nil), origin)
	opened, dead, refused := rt.sessionOf(r, v, rt.now())
	if refused != nil {
		refused.action = l.loginURL(target, "") // not here again: the URL holds a code
		return rt.refuse(w, r, st, "", refused)
	}
	if opened != nil {
		rt.forget(st, state, nil)
		st.setCookies(w.Header(), v.reply)
		redirect(w, r, location(target, origin))
		return nil
	}
	st.dead = dead
	now := rt.now()
	if state == nil && l.hasLiveTransaction(r.Context(), v, now) {
		return rt.refuse(w, r, st, "", refuseClaim(reasonStateMismatch, "the state of a login under way", "another one, or none"))
	}
	attempts := l.blindRestarts(v, now)
	if state != nil {
		attempts = state.Attempt
	}
	if attempts >= maxAttempts || !rt.mayStart(r) {
		return rt.refuseCallback(w, r, st, state, nil, refuseClaim(missing, "a login that this browser has started here", "none"))
	}
	rt.forget(st, state, nil)
	attempt := loginAttempt{returnURL: target, number: attempts + 1}
	if state == nil {
		v.reply = append(v.reply, l.addToLoop(v, blindRestart, now))
	} else {
		attempt.prompt = state.Prompt
	}
	return rt.startLogin(w, r, st, attempt)
}

// refuseCallback refuses a response and clears its transaction; the page offers to sign in again.
func (rt *runtime) refuseCallback(
	w http.ResponseWriter, r *http.Request, st *requestState, state *session.State, transaction *session.Transaction, refused *refusal,
) error {
	rt.forget(st, state, transaction)
	refused.action = rt.login.loginURL(returnURLOf(state, transaction), "")
	result := refused.reason
	if state == nil {
		result = reasonStateMismatch // nobody knows that it comes from the provider
	}
	rt.metrics.login(string(result))
	return rt.refuse(w, r, st, "", refused)
}

// forget has the browser drop the cookie of a login that is over.
func (rt *runtime) forget(st *requestState, state *session.State, transaction *session.Transaction) {
	v := &st.visit
	if state == nil {
		return
	}
	name := rt.login.cookies.TransactionName(v.secure, state.Random)
	if transaction != nil || slices.ContainsFunc(v.cookies.Transactions, func(value session.Value) bool { return value.Name == name }) {
		v.reply = append(v.reply, rt.login.cookies.DeleteTransaction(v.secure, name))
	}
}

// returnURLOf is where a login leads: all of it is in the transaction, what fits in the state.
func returnURLOf(state *session.State, transaction *session.Transaction) string {
	switch {
	case transaction != nil:
		return transaction.ReturnURL
	case state != nil && state.ReturnURL != "":
		return state.ReturnURL
	default:
		return "/"
	}
}
