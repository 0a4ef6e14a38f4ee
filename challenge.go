package openidconnect

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
)

// Who writes the bodies of refusals.
const (
	errorResponsesBuiltin      = "builtin"
	errorResponsesHandleErrors = "handle_errors"
)

// minRefresh is how often (seconds) a page may load itself again while the provider is away.
const minRefresh = 3

// maxDrainedBody is the size of a request body (bytes) up to which a refused client keeps its connection.
const maxDrainedBody = 64 << 10

// refuse answers a request that is not let through: the status and challenge of its reason, and a body for whoever asked, a page for
// a browser and JSON for everybody else. With error_responses handle_errors it returns the error to the site instead, but for the
// module's own endpoints: Caddy logs the URI of an error, and theirs hold codes.
func (rt *runtime) refuse(w http.ResponseWriter, r *http.Request, st *requestState, scheme string, refused *refusal) error {
	a := refused.answer()
	id := requestID(r)
	rt.logRefusal(r, st, refused, id)
	method := methodBearer
	switch {
	case st.signedIn, refused.reason == reasonRefreshUnavailable, refused.reason == reasonStoreUnavailable && !st.ownEndpoint:
		method = methodSession // there is one, even if it serves nobody for now
	case scheme == "":
		method = methodNone
	}
	rt.metrics.request(method, resultOf(a.status))
	if a.status == http.StatusForbidden && (st.signedIn || scheme != "") {
		rt.emit(r, eventDenied, map[string]any{"reason": string(refused.reason), "method": method, "account": refused.account})
	}

	header := w.Header()
	header.Set("Cache-Control", "no-store")
	rt.varyBy(header)
	// what is wrong with the answer of a provider is not what this client has sent as credentials
	ours := st.ownEndpoint && a.status == http.StatusBadRequest
	if challenge := rt.challenge(r, scheme, refused); challenge != "" && !st.signedIn && !ours {
		header.Set("Www-Authenticate", challenge)
	}
	retryAfter := int(max(refused.retryAfter, time.Second).Round(time.Second) / time.Second)
	if a.status == http.StatusServiceUnavailable {
		header.Set("Retry-After", strconv.Itoa(retryAfter))
	}
	if r.ProtoMajor == 1 && (r.ContentLength < 0 || r.ContentLength > maxDrainedBody || r.Header.Get("Expect") != "") {
		// nobody wants the body: without this the server would read on before it answers
		header.Set("Connection", "close")
	}
	st.setCookies(header, st.visit.reply)
	st.refused = &shownRefusal{code: a.code, reason: refused.reason, requestID: id}
	if rt.errorResponses == errorResponsesHandleErrors && !st.ownEndpoint {
		return caddyhttp.HandlerError{StatusCode: a.status, Err: errors.New(a.text), ID: id}
	}
	if !isNavigation(r) && (rt.login == nil || navigationOf(r) == notNavigation) {
		return rt.writeRefusal(w, r, a, refused.reason, id)
	}
	data := pageData{
		Page: refused.page, Status: a.status, Text: a.text, Detail: refused.detail, Reason: string(refused.reason), RequestID: id,
		Account: refused.account, Action: refused.action,
	}
	rt.completePage(r, st, &data, retryAfter)
	return rt.pages.write(w, r, data)
}

// completePage chooses the page of a refusal, and the way out that it offers.
func (rt *runtime) completePage(r *http.Request, st *requestState, data *pageData, retryAfter int) {
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case data.Page == pageFramed:
		data.NewTab, data.Text = true, ""
	case data.Page == pageSessionEnded, data.Page == pageLoop:
		data.Text = ""
	case data.Page != "":
	case data.Status == http.StatusForbidden && st.signedIn:
		data.Page = pageDenied
	case data.Status == http.StatusServiceUnavailable:
		data.Page = pageUnavailable
		data.Refresh, data.RefreshAfter = reads && data.Action == "", max(retryAfter, minRefresh)
	default:
		data.Page = pageError
		switch {
		case data.Status == http.StatusUnauthorized:
			data.Title, data.ActionText = "Sign-in is required", "Sign in"
		case st.ownEndpoint:
			data.Title = "You are not signed in"
		}
	}
	if rt.login == nil || data.Action != "" || rt.unauth.action == unauthDeny && !st.signedIn && !st.ownEndpoint {
		return
	}
	target := "/"
	if reads && !st.ownEndpoint {
		target = requestedURL(r)
	}
	switch {
	case data.Page == pageDenied:
		data.Action = rt.login.loginURL(target, promptSelectAccount)
	case data.Page == pageUnavailable && reads:
		data.Action = location(requestedURL(r), "") // the same again
	default:
		data.Action = rt.login.loginURL(target, "")
	}
}

// challenge is the WWW-Authenticate header (RFC 6750 section 3), empty where none is due. It holds configured and fixed text only.
func (rt *runtime) challenge(r *http.Request, scheme string, refused *refusal) string {
	a := refused.answer()
	if rt.policy.dpopBound == boundRequired {
		scheme = schemeDPoP
	}
	var b strings.Builder
	b.WriteString(or(scheme, schemeBearer) + " realm=" + rt.realm)
	if scheme == schemeDPoP {
		b.WriteString(`, algs="` + strings.Join(jose.AsymmetricAlgorithms(), " ") + `"`)
	}
	if rt.resource != nil && a.status == http.StatusUnauthorized {
		if metadata := rt.resource.metadataURL(r); metadata != "" {
			b.WriteString(", resource_metadata=" + quotedString(metadata))
		}
	}
	switch {
	case refused.reason == reasonNoCredentials:
		// without a token there is no error to tell of (RFC 6750 section 3.1)
		return b.String()
	case a.code == codeInvalidRequest, a.code == codeInvalidToken, a.code == codeInvalidProof, a.code == codeInsufficientScope:
		b.WriteString(`, error="` + a.code + `", error_description="` + a.text + `"`)
		if refused.scope != "" {
			b.WriteString(`, scope="` + refused.scope + `"`)
		}
		return b.String()
	default:
		return ""
	}
}

// quotedString renders configured text as a quoted-string (RFC 9110 section 5.6.4).
func quotedString(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// requestID is the identifier of a request that Caddy's logs know too.
func requestID(r *http.Request) string {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return ""
	}
	id, _ := repl.GetString("http.request.uuid")
	return id
}

// writeRefusal answers a program.
func (rt *runtime) writeRefusal(w http.ResponseWriter, r *http.Request, a answer, reason Reason, requestID string) error {
	body := struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		Reason      Reason `json:"reason"`
		LoginURL    string `json:"login_url,omitempty"`
		RequestID   string `json:"request_id"`
	}{Error: a.code, Description: a.text, Reason: reason, RequestID: requestID}
	if rt.login != nil {
		body.LoginURL = rt.login.loginURL("", "")
	}
	text, err := json.Marshal(body)
	if err != nil {
		return caddyhttp.Error(http.StatusInternalServerError, err)
	}
	return writeBody(w, r, a.status, "application/json", append(text, '\n'))
}
