package openidconnect

import (
	"encoding/base64"
	"io"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"
)

// The headers that this module may set and removes from every request, whether they are switched on or not.
const (
	headerUserinfo     = "X-Userinfo"
	headerAccessToken  = "X-Access-Token"
	headerIDToken      = "X-Id-Token"
	headerRawIDToken   = "X-Raw-Id-Token"
	headerRefreshToken = "X-Refresh-Token"
)

var tokenHeaders = []string{headerUserinfo, headerAccessToken, headerIDToken, headerRawIDToken, headerRefreshToken}

// maxHeaderValue bounds one identity header (bytes); a larger value is left out with a warning, as upstreams refuse the whole
// request otherwise.
const maxHeaderValue = 16 << 10

// identity is who a request is from, as one handler sees it: immutable, and shared by all requests with the same token.
type identity struct {
	method  string // "bearer" or "session"
	issuer  string
	user    string
	payload string // the JSON of its claims
	scope   string // granted to a session, beside its claims

	headers []identityHeader
}

type identityHeader struct{ name, value string }

// claimHeader is a compiled claim_header.
type claimHeader struct {
	name   string
	path   claimPath
	asJSON bool
}

// identityHeaders says which headers an upstream gets, and keeps everybody else from setting them.
type identityHeaders struct {
	userinfo              bool
	accessToken           bool
	accessTokenAuthorizes bool // in Authorization instead of X-Access-Token
	idToken, rawIDToken   bool // of a session
	refreshToken          bool
	stripAuthorization    bool
	claims                []claimHeader

	protected []string // folded names of all headers that could be set
}

// protect compiles the set of names to be removed from requests.
func (h *identityHeaders) protect() {
	names := slices.Clone(tokenHeaders)
	for _, claim := range h.claims {
		names = append(names, claim.name)
	}
	for _, name := range names {
		h.protected = append(h.protected, foldHeaderName(name))
	}
}

// foldHeaderName maps all spellings of a header that some upstream may take for the same to one: in lower case, and with "-" for whatever is
// neither a letter nor a digit, as CGI-like interfaces do not tell "_", "." and "-" apart.
func foldHeaderName(name string) string {
	folded := []byte(name)
	for i, c := range folded {
		folded[i] = foldedHeaderByte[c]
	}
	return string(folded)
}

var foldedHeaderByte = func() (folded [256]byte) {
	for c := range folded {
		switch {
		case c >= 'A' && c <= 'Z':
			folded[c] = byte(c) + 'a' - 'A'
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			folded[c] = byte(c)
		default:
			folded[c] = '-'
		}
	}
	return folded
}()

// isProtected reports whether the name is one of ours in any spelling. It runs for every header of every request.
func (h *identityHeaders) isProtected(name string) bool {
	for _, protected := range h.protected {
		if len(name) == len(protected) && foldsTo(name, protected) {
			return true
		}
	}
	return false
}

func foldsTo(name, folded string) bool {
	for i := len(name) - 1; i >= 0; i-- { // the ends differ sooner than the beginnings
		if foldedHeaderByte[name[i]] != folded[i] {
			return false
		}
	}
	return true
}

// strip removes from the request whatever could be taken for ours: the headers in all their spellings, their names in Connection,
// which would make a proxy delete what we set, and the trailers, which arrive after the body. taken keeps headers of the client, in which a
// handler within this one may look for a token; nil where they are those of a handler.
func (h *identityHeaders) strip(r *http.Request, taken *takenTokens) {
	for name, values := range r.Header {
		if h.isProtected(name) {
			if taken != nil {
				taken.remember(TokenSource{In: inHeader, Name: name}, values)
			}
			delete(r.Header, name)
		}
	}
	if len(r.Header["Connection"]) > 0 {
		stripConnection(r.Header)
	}
	if h.mayHaveTrailers(r) {
		h.stripTrailers(r)
		r.Body = &trailerStripper{ReadCloser: r.Body, request: r, headers: h}
	}
}

// connectionOptions are what Connection may hold besides names of headers, and the headers that HTTP itself puts there.
var connectionOptions = []string{"close", "keep-alive", "upgrade", "te", "trailer", "http2-settings"}

// stripConnection keeps the options that are about the connection. All others name headers that end with this hop (RFC 9110 section
// 7.6.1); they are removed here and now, and their names with them: a proxy would delete them after our headers, and what later
// directives make of our placeholders, have been set. Nobody can have ours deleted, nor the credentials.
func stripConnection(header http.Header) {
	var kept []string
	for _, line := range header["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.TrimSpace(name)
			switch {
			case slices.Contains(connectionOptions, strings.ToLower(name)):
				kept = append(kept, name)
			case strings.EqualFold(name, "Authorization"), strings.EqualFold(name, "Cookie"):
			default:
				header.Del(name)
			}
		}
	}
	if len(kept) == 0 {
		delete(header, "Connection")
		return
	}
	header["Connection"] = []string{strings.Join(kept, ", ")}
}

func (h *identityHeaders) mayHaveTrailers(r *http.Request) bool {
	return r.Body != nil && r.Body != http.NoBody && (len(r.Trailer) > 0 || r.ContentLength < 0)
}

func (h *identityHeaders) stripTrailers(r *http.Request) {
	for name := range r.Trailer {
		if h.isProtected(name) {
			delete(r.Trailer, name)
		}
	}
}

// trailerStripper removes protected trailers in the very Read that makes them visible, before anybody copies them.
type trailerStripper struct {
	io.ReadCloser
	request *http.Request
	headers *identityHeaders
}

func (b *trailerStripper) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.headers.stripTrailers(b.request)
	}
	return n, err
}

// identify makes the identity that this handler sees in a token.
func (rt *runtime) identify(token *verifiedToken, claims map[string]any) (*identity, *refusal) {
	user, refused := rt.userOf(token, claims)
	if refused != nil {
		return nil, refused
	}
	id := &identity{method: methodBearer, issuer: rt.issuerOf(claims), user: user, payload: token.payload}
	if rt.headers.userinfo {
		rt.addHeader(id, headerUserinfo, base64.StdEncoding.EncodeToString([]byte(token.payload)))
	}
	for _, header := range rt.headers.claims {
		value, ok := header.path.find(claims)
		switch {
		case !ok:
		case header.asJSON:
			rt.addHeader(id, header.name, jsonText(value))
		default:
			rt.addHeader(id, header.name, headerText(value))
		}
	}
	return id, nil
}

func (rt *runtime) addHeader(id *identity, name, value string) {
	if len(value) > maxHeaderValue {
		rt.logger.Warn("identity header left out, too large for upstreams",
			zap.String("header", name), zap.Int("bytes", len(value)), zap.Int("limit", maxHeaderValue), zap.String("issuer", rt.issuerName))
		return
	}
	id.headers = append(id.headers, identityHeader{name: name, value: value})
}

// userOf returns what identifies the user. A token without it is genuine but says nothing about who sends it, so it opens nothing.
func (rt *runtime) userOf(token *verifiedToken, claims map[string]any) (string, *refusal) {
	value, ok := rt.usernameClaim.find(claims)
	if _, present := claims[rt.usernameClaim.text]; !present && token.introspected && rt.usernameClaim.text == "sub" {
		// RFC 7662 leaves sub out for tokens without a user; then the client is who it is from
		value, ok = claims["client_id"]
	}
	user, scalar := scalarText(value)
	if rt.usernameClaim.text == "sub" {
		user, scalar = value.(string) // a number would be taken for the string of its digits
	}
	if !ok || !scalar || strings.TrimSpace(user) == "" {
		return "", refuseClaim(reasonClaimRequired, rt.usernameClaim.text+" (who the token is from)",
			"the claims "+strings.Join(sortedKeys(claims), " "))
	}
	return user, nil
}

func (rt *runtime) issuerOf(claims map[string]any) string {
	if issuer, ok := claims["iss"].(string); ok {
		return issuer
	}
	if rt.policy.issuer != "" {
		return rt.policy.issuer
	}
	if metadata := rt.provider.KnownMetadata(); metadata != nil {
		return metadata.Issuer
	}
	return ""
}

// setNone readies a request that goes on without an identity.
func (h *identityHeaders) setNone(r *http.Request) {
	if h.stripAuthorization {
		delete(r.Header, "Authorization")
	}
}

// set writes the identity to a request that has been stripped before. The slices are the request's own: later directives may edit
// them in place.
func (h *identityHeaders) set(r *http.Request, id *identity, token string) {
	for i := range id.headers {
		r.Header[id.headers[i].name] = []string{id.headers[i].value}
	}
	h.setNone(r)
	switch {
	case h.accessToken && h.accessTokenAuthorizes:
		r.Header["Authorization"] = []string{"Bearer " + token}
	case h.accessToken:
		r.Header[headerAccessToken] = []string{token}
	}
}
