package openidconnect

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"html/template"
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

// maxDrainedBody is the size of a request body (bytes) up to which a refused client keeps its connection.
const maxDrainedBody = 64 << 10

// refuse answers a request that is not let through: the status and challenge of its reason, and a body for whoever asked, a page for
// a browser and JSON for everybody else. With error_responses handle_errors it returns the error to the site instead.
func (rt *runtime) refuse(w http.ResponseWriter, r *http.Request, st *requestState, scheme string, refused *refusal) error {
	a := refused.answer()
	id := requestID(r)
	rt.logRefusal(r, refused, id)
	if scheme == "" {
		rt.metrics.request(methodNone, resultOf(a.status))
	} else {
		rt.metrics.request(methodBearer, resultOf(a.status))
	}

	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if challenge := rt.challenge(r, scheme, refused); challenge != "" {
		header.Set("Www-Authenticate", challenge)
	}
	if a.status == http.StatusServiceUnavailable {
		seconds := int(max(refused.retryAfter, time.Second).Round(time.Second) / time.Second)
		header.Set("Retry-After", strconv.Itoa(seconds))
	}
	if r.ProtoMajor == 1 && (r.ContentLength < 0 || r.ContentLength > maxDrainedBody || r.Header.Get("Expect") != "") {
		// nobody wants the body: without this the server would read on before it answers
		header.Set("Connection", "close")
	}
	st.refused = &shownRefusal{code: a.code, reason: refused.reason, requestID: id}
	if rt.errorResponses == errorResponsesHandleErrors {
		return caddyhttp.HandlerError{StatusCode: a.status, Err: errors.New(a.text), ID: id}
	}
	if isNavigation(r) {
		return writePage(w, r, a, refused.reason, id)
	}
	return writeJSON(w, r, a, refused.reason, id)
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

func writeJSON(w http.ResponseWriter, r *http.Request, a answer, reason Reason, requestID string) error {
	body, err := json.Marshal(struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		Reason      Reason `json:"reason"`
		RequestID   string `json:"request_id"`
	}{a.code, a.text, reason, requestID})
	if err != nil {
		return caddyhttp.Error(http.StatusInternalServerError, err)
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		w.Write(append(body, '\n')) //nolint:errcheck // the client has gone; there is nobody to tell
	}
	return nil
}

// pageStyle is the page's only style; the policy below names it by its hash, so nothing else is ever applied.
const pageStyle = `:root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;margin:0 auto;max-width:36rem;padding:3rem 1rem}` +
	`h1{font-size:1.5rem}code{overflow-wrap:anywhere}dl{opacity:.75}dt{font-weight:600}dd{margin:0 0 .5rem}`

// contentSecurityPolicy allows the page its style and nothing else.
var contentSecurityPolicy = func() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
}()

var page = template.Must(template.New("refusal").Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{{.Title}}</title>
<style>` + pageStyle + `</style>
</head>
<body>
<main>
<h1>{{.Title}}</h1>
<p>{{.Text}}</p>
<dl>
<dt>Reason</dt><dd><code>{{.Reason}}</code></dd>
<dt>Request</dt><dd><code>{{.RequestID}}</code></dd>
</dl>
</main>
</body>
</html>
`))

func writePage(w http.ResponseWriter, r *http.Request, a answer, reason Reason, requestID string) error {
	var body strings.Builder
	err := page.Execute(&body, struct {
		Title, Text string
		Reason      Reason
		RequestID   string
	}{http.StatusText(a.status), a.text, reason, requestID})
	if err != nil {
		return caddyhttp.Error(http.StatusInternalServerError, err)
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Length", strconv.Itoa(body.Len()))
	header.Set("Content-Security-Policy", contentSecurityPolicy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		w.Write([]byte(body.String())) //nolint:errcheck // the client has gone; there is nobody to tell
	}
	return nil
}
