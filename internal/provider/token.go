package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
)

// Tokens is the answer of the token endpoint (RFC 6749 section 5.1, OpenID Connect Core section 3.1.3.3). Nothing in it is verified.
type Tokens struct {
	AccessToken  string
	TokenType    string
	RefreshToken string // empty: none
	IDToken      string // empty: none; whether there must be one is for the caller to say
	Scope        string // empty: not stated, and so as requested
	// ExpiresIn is how long the access token lives; 0 where the answer does not say, or says nonsense.
	ExpiresIn time.Duration
	// Unusable is what is wrong with members that need not be there. They are empty, then.
	Unusable []error
}

// CodeGrant is an authorization code and what belongs to it.
type CodeGrant struct {
	Code        string
	RedirectURI string // the very one of the authorization request
	Verifier    string // of PKCE (RFC 7636); empty: none
	// Params are further parameters; those of the protocol itself cannot be set here.
	Params url.Values
}

const (
	// maxExpiresIn is the longest lifetime of an access token that is believed.
	maxExpiresIn = 10 * 365 * 24 * time.Hour
	// unclearLifetime is that of a token whose answer states one that makes no sense.
	unclearLifetime = 5 * time.Minute
)

// TokenParameters belong to the protocol or to the client's authentication, whichever method that uses: further parameters of a token request
// cannot have these names.
func TokenParameters() []string {
	return []string{
		"grant_type", "code", "redirect_uri", "code_verifier", "refresh_token",
		"client_id", "client_secret", "client_assertion", "client_assertion_type",
	}
}

// Exchange redeems an authorization code. It sends one request, whatever happens: a provider that sees a code twice may revoke what
// it gave for it (RFC 6749 section 4.1.2). Errors wrap ErrToken, with an [*OAuthError] where the provider gives its reason, or are
// what stopped discovery.
func (p *Provider) Exchange(ctx context.Context, client *ClientAuthentication, grant CodeGrant) (*Tokens, error) {
	metadata, err := p.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	release, err := p.acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	defer release()
	form := tokenForm("authorization_code", grant.Params)
	form.Set("code", grant.Code)
	form.Set("redirect_uri", grant.RedirectURI)
	if grant.Verifier != "" {
		form.Set("code_verifier", grant.Verifier)
	}
	tokens, err := p.requestTokens(ctx, metadata, client, form)
	if err == nil && len(tokens.Unusable) > 0 {
		return nil, fmt.Errorf("%w: %w", ErrToken, tokens.Unusable[0])
	}
	return tokens, err
}

// tokenForm begins the form of a token request with the configured parameters.
func tokenForm(grantType string, params url.Values) url.Values {
	form := maps.Clone(params)
	if form == nil {
		form = make(url.Values)
	}
	for _, name := range TokenParameters() {
		form.Del(name)
	}
	form.Set("grant_type", grantType)
	return form
}

// requestTokens makes one token request. The caller holds a slot for it.
func (p *Provider) requestTokens(ctx context.Context, metadata *Metadata, client *ClientAuthentication, form url.Values) (*Tokens, error) {
	c := call{endpoint: "token", url: metadata.endpointsFor(client).Token, form: form, header: make(http.Header), once: true}
	if c.url == "" {
		return nil, fmt.Errorf("%w: %w token_endpoint", ErrToken, ErrNoEndpoint)
	}
	if err := client.apply(&c, metadata, p.now()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	status, header, body, err := p.do(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	tokens, err := parseTokens(status, header, body, p.now())
	if err != nil {
		if answer, ok := errors.AsType[*OAuthError](err); ok {
			answer.secret = c.echoes(answer.Code)
		}
		return nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	return tokens, nil
}

// parseTokens reads an answer of the token endpoint. Its errors never quote the answer.
func parseTokens(status int, header http.Header, body []byte, now time.Time) (*Tokens, error) {
	document, err := jose.ParseObject(string(body))
	if err == nil {
		if refusal := oauthErrorOf("token", status, document); refusal != nil {
			refusal.retryAfter = retryAfter(status, header, now)
			refusal.deadGrant = saysDeadGrant(document)
			return nil, refusal
		}
	}
	switch {
	case status != http.StatusOK:
		failed := statusError("token", status, header, body, now)
		failed.deadGrant = saysDeadGrant(document) || err != nil && !isHTML(header) && textSaysDeadGrant(body)
		return nil, failed
	case isHTML(header):
		return nil, errors.New("the answer is an HTML page")
	case err != nil:
		return nil, errors.New("the answer is not a JSON object without duplicate members")
	}
	if list, ok := document["scope"].([]any); ok {
		document["scope"] = joined(list)
	}
	tokens := &Tokens{ExpiresIn: expiresIn(document["expires_in"])}
	for _, member := range []struct {
		name     string
		target   *string
		required bool
	}{
		{"access_token", &tokens.AccessToken, true},
		{"token_type", &tokens.TokenType, true},
		{"refresh_token", &tokens.RefreshToken, false},
		{"id_token", &tokens.IDToken, false},
		{"scope", &tokens.Scope, false},
	} {
		text, err := tokenText(document, member.name)
		switch {
		case err != nil && member.required:
			return nil, err
		case err != nil:
			tokens.Unusable = append(tokens.Unusable, err)
			continue
		case text == "" && member.required:
			return nil, fmt.Errorf("the answer has no %s", member.name)
		}
		*member.target = text
	}
	if !strings.EqualFold(tokens.TokenType, "Bearer") {
		// a token of another type means nothing without a proof that we do not have (RFC 6749 section 7.1)
		return nil, errors.New("token_type is not Bearer")
	}
	return tokens, nil
}

// tokenText reads a member that must be a string if it is there.
func tokenText(document map[string]any, name string) (string, error) {
	text, ok := document[name].(string)
	switch {
	case !ok && document[name] != nil:
		return "", fmt.Errorf("%s is not a string", name)
	case len(text) > jose.MaxProviderToken:
		return "", fmt.Errorf("%s is larger than %d bytes", name, jose.MaxProviderToken)
	case !isVisible(text):
		return "", fmt.Errorf("%s has characters that it must not have", name)
	default:
		return text, nil
	}
}

// joined makes one string of a list of scopes, as some providers send them; another list stays one.
func joined(list []any) any {
	scopes := make([]string, len(list))
	for i, value := range list {
		scope, ok := value.(string)
		if !ok {
			return list
		}
		scopes[i] = scope
	}
	return strings.Join(scopes, " ")
}

// isVisible reports whether text holds visible ASCII characters and spaces alone, as all of these values do (RFC 6749 appendix A).
func isVisible(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// expiresIn reads a lifetime in seconds, also from a string, as some providers write it. None is not known; what makes no sense is
// taken for a short one.
func expiresIn(value any) time.Duration {
	var number string
	switch value := value.(type) {
	case nil:
		return 0
	case json.Number:
		number = value.String()
	case string:
		if strings.Trim(value, "0123456789") != "" {
			return unclearLifetime
		}
		number = value
	}
	seconds, err := strconv.ParseFloat(number, 64)
	if err != nil || seconds < 1 || seconds > maxExpiresIn.Seconds() {
		return unclearLifetime
	}
	return time.Duration(seconds * float64(time.Second))
}

// OAuthError is an error answer of the token endpoint (RFC 6749 section 5.2) or of another that answers like it.
type OAuthError struct {
	Status      int
	Code        string
	Description string // the provider's text, which may hold anything: for nobody's eyes

	endpoint   string
	retryAfter time.Duration
	deadGrant  bool // a text in the answer says that the grant is of no use any more
	secret     bool // Code holds something that nobody may read
}

// Error shows the code only where it looks like one, and the description never: either could hold what the request has brought.
func (e *OAuthError) Error() string {
	if e.secret || !isErrorCode(e.Code) {
		return fmt.Sprintf("the %s endpoint answered with status %d and an error", e.endpoint, e.Status)
	}
	return fmt.Sprintf("the %s endpoint answered with status %d and error %s", e.endpoint, e.Status, e.Code)
}

// Refused reports whether the provider refused this grant itself, rather than failing or refusing our client.
func (e *OAuthError) Refused() bool {
	return e.Status < http.StatusInternalServerError && e.Status != http.StatusTooManyRequests && e.Code == "invalid_grant"
}

// oauthErrorOf returns the error that an answer tells of, which some providers send with status 200; nil if it tells of none.
func oauthErrorOf(endpoint string, status int, document map[string]any) *OAuthError {
	if document["error"] == nil || document["error"] == "" {
		return nil
	}
	code, _ := document["error"].(string)
	description, _ := document["error_description"].(string)
	return &OAuthError{Status: status, Code: code, Description: description, endpoint: endpoint}
}

func isErrorCode(code string) bool {
	for i := range len(code) {
		switch c := code[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return code != "" && len(code) <= 64
}
