package openidconnect

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// credentials says where requests may carry a token.
type credentials struct {
	sources []TokenSource // besides Authorization; header names are canonical
	dpop    bool          // the DPoP scheme is ours too
}

// Authentication schemes.
const (
	schemeBearer = "Bearer"
	schemeDPoP   = "DPoP"
)

// Places of a [TokenSource].
const (
	inHeader = "header"
	inCookie = "cookie"
	inQuery  = "query"
)

// take returns the one token of the request and the scheme it came with, or "" when there is none. A token in the query is removed from it, so
// that it is not passed on; taken has those that the handlers around this one have removed. More than one credential is refused, never ranked.
func (c *credentials) take(r *http.Request, taken *takenTokens) (token, scheme string, refused *refusal) {
	scheme = schemeBearer
	if len(r.Header["Authorization"]) > 1 {
		refused = refuseClaim(reasonAmbiguousCredentials, "one Authorization header", len(r.Header["Authorization"]))
	} else if values := r.Header["Authorization"]; len(values) == 1 {
		token, refused = schemeToken(values[0], schemeBearer)
		if c.dpop && token == "" && refused == nil {
			if token, refused = schemeToken(values[0], schemeDPoP); token != "" || refused != nil {
				scheme = schemeDPoP
			}
		}
	}
	found := 0
	if token != "" {
		found = 1
	}
	for i := range c.sources {
		values, bad := c.sources[i].values(r, taken)
		if bad && refused == nil {
			refused = refuseClaim(reasonMalformedAuthorization, "one token", "something else in the "+c.sources[i].In)
		}
		if len(values) > 0 {
			token = values[0]
			found += len(values)
		}
	}
	switch {
	case refused != nil:
		return "", scheme, refused
	case found > 1:
		return "", scheme, refuseClaim(reasonAmbiguousCredentials, "one token", found)
	default:
		return token, scheme, nil
	}
}

// takenTokens are what was taken out of the request, by its place, and may hold tokens. A handler within the one that took them decides anew.
type takenTokens map[TokenSource][]string

func (t *takenTokens) remember(source TokenSource, values []string) {
	if *t == nil {
		*t = make(takenTokens)
	}
	(*t)[source] = slices.Clone(values)
}

// schemeToken returns the token of an Authorization header (RFC 6750 section 2.1), "" when the header has another scheme. The scheme
// is read in any case (RFC 9110 section 11.1), and only spaces may follow it.
func schemeToken(header, scheme string) (string, *refusal) {
	if len(header) < len(scheme) || !strings.EqualFold(header[:len(scheme)], scheme) {
		return "", nil
	}
	rest := header[len(scheme):]
	if rest != "" && isTokenChar(rest[0]) {
		return "", nil // another scheme that merely begins so
	}
	token := strings.TrimLeft(rest, " ")
	if len(token) == len(rest) || !isB64Token(token) {
		return "", refuseClaim(reasonMalformedAuthorization, scheme+", a space and a token", "something else")
	}
	return token, nil
}

// isTokenChar reports whether c may stand in the name of an authentication scheme (RFC 9110 section 5.6.2).
func isTokenChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// isB64Token reports whether text is a b64token (RFC 6750 section 2.1).
func isB64Token(text string) bool {
	body := strings.TrimRight(text, "=")
	var foreign byte
	for i := range len(body) {
		foreign |= foreignToB64Token[body[i]] // without a branch: this runs over every token of every request
	}
	return body != "" && foreign == 0
}

// foreignToB64Token is 1 for every byte that may not stand in a b64token.
var foreignToB64Token = func() (foreign [256]byte) {
	for c := range foreign {
		if strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/", byte(c)) < 0 {
			foreign[c] = 1
		}
	}
	return foreign
}()

// values returns what the request has at this place; bad tells that something there is no token.
func (s *TokenSource) values(r *http.Request, taken *takenTokens) (values []string, bad bool) {
	switch s.In {
	case inHeader:
		lines := r.Header[s.Name]
		if len(lines) == 0 {
			lines = (*taken)[*s]
		}
		for _, value := range lines {
			if token, refused := schemeToken(value, schemeBearer); refused != nil {
				bad = true
			} else if token != "" {
				value = token
			}
			values = append(values, value)
		}
	case inCookie:
		for _, cookie := range r.CookiesNamed(s.Name) {
			values = append(values, cookie.Value)
		}
	case inQuery:
		if values = takeQuery(r, s.Name); len(values) > 0 {
			taken.remember(*s, values)
		} else {
			values = slices.Clone((*taken)[*s])
		}
	}
	kept := values[:0]
	for _, value := range values {
		switch {
		case value == "":
		case isB64Token(value):
			kept = append(kept, value)
		default:
			bad = true
		}
	}
	return kept, bad
}

// takeQuery removes a parameter from the query and returns its values; the rest of the query stays as it was, byte for byte.
func takeQuery(r *http.Request, name string) []string {
	isParameter := func(pair string) bool {
		key, _, _ := strings.Cut(pair, "=")
		decoded, err := url.QueryUnescape(key)
		return err == nil && decoded == name
	}
	var values []string
	var kept []string
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		if !isParameter(pair) {
			kept = append(kept, pair)
			continue
		}
		_, value, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(value); err == nil {
			value = decoded
		}
		values = append(values, value)
	}
	if values == nil {
		return nil
	}
	r.URL.RawQuery = strings.Join(kept, "&")
	r.RequestURI = r.URL.RequestURI()
	if original := originalURL(r); original.RawQuery != r.URL.RawQuery {
		// error routes get the URL back as it was
		original.RawQuery = strings.Join(slices.DeleteFunc(strings.Split(original.RawQuery, "&"), isParameter), "&")
	}
	return values
}

// varyHeader names the headers that requests have credentials in.
func (h *Handler) varyHeader() string {
	var names []string
	if !h.IgnoreBearer {
		names = append(names, "Authorization")
	}
	for _, source := range h.BearerTokenFrom {
		if source.In == inHeader {
			names = append(names, http.CanonicalHeaderKey(source.Name))
		}
	}
	if !h.BearerOnly || slices.ContainsFunc(h.BearerTokenFrom, func(source TokenSource) bool { return source.In == inCookie }) {
		names = append(names, "Cookie")
	}
	return strings.Join(names, ", ")
}

// varyBy tells caches that another request for the same URL may get another answer (RFC 9110 section 12.5.5).
func (rt *runtime) varyBy(header http.Header) {
	known := header["Vary"]
	if slices.Contains(known, "*") || slices.Contains(known, rt.vary) {
		return
	}
	header["Vary"] = append(slices.Clip(known), rt.vary)
}
