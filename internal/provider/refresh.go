package provider

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// RefreshGrant is a refresh token and what belongs to it.
type RefreshGrant struct {
	RefreshToken string
	// Params are further parameters; those of the protocol itself cannot be set here.
	Params url.Values
}

// Refresh redeems a refresh token (RFC 6749 section 6). It sends one request, whatever happens: a provider that sees a refresh token
// twice may revoke all that it gave for it. For the same reason ctx counts only until the request is sent, as an answer that nobody
// waits for may take the one good refresh token with it; from then on the timeout of a call is the bound. And for the same reason
// members that need not be there are passed over when they cannot be used. Errors wrap ErrToken, or are
// what stopped discovery; [RefreshRefused] tells them apart.
func (p *Provider) Refresh(ctx context.Context, client *ClientAuthentication, grant RefreshGrant) (*Tokens, error) {
	metadata, err := p.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	release, err := waitFor(ctx, p.refreshes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	defer release()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	form := tokenForm("refresh_token", grant.Params)
	form.Set("refresh_token", grant.RefreshToken)
	return p.requestTokens(context.WithoutCancel(ctx), metadata, client, form)
}

// RefreshRefused reports whether the error of a refresh says that the provider will not take this refresh token, now or ever. All
// others may pass: nothing was sent, no answer came, it came from something in between, or the provider has trouble of its own.
func RefreshRefused(err error) bool {
	if !errors.Is(err, ErrToken) {
		return false
	}
	if answer, ok := errors.AsType[*OAuthError](err); ok {
		return refusesRefresh(answer.Status, answer.Code, answer.deadGrant)
	}
	failed, ok := errors.AsType[*callError](err)
	return ok && refusesRefresh(failed.status, "", failed.deadGrant)
}

// passingErrors are error codes that ask to try again (RFC 6749 section 4.1.2.1, RFC 8628 section 3.5), even with a status that does not.
var passingErrors = []string{"temporarily_unavailable", "server_error", "slow_down", "authorization_pending"}

// lastingErrors are error codes that another attempt would meet again. A code that is not among them decides nothing: it may be one
// of a gateway in between.
var lastingErrors = []string{
	// RFC 6749 section 5.2
	"invalid_grant", "invalid_client", "invalid_request", "unauthorized_client", "unsupported_grant_type", "invalid_scope",
	// RFC 6749 section 4.1.2.1, RFC 8707, OpenID Connect Core section 3.1.2.6 and its extensions
	"access_denied", "invalid_target", "interaction_required", "login_required", "account_selection_required", "consent_required",
	"unmet_authentication_requirements",
	// of single providers, for what interaction_required says
	"mfa_required", "incorrect_client_credentials",
}

// refusesRefresh judges an answer by its status, its error code and whether its text speaks of a dead grant.
func refusesRefresh(status int, code string, deadGrant bool) bool {
	switch status {
	case http.StatusProxyAuthRequired, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	switch {
	case slices.Contains(passingErrors, code), status != http.StatusOK && status/100 != 4:
		return false
	case status == http.StatusUnauthorized, slices.Contains(lastingErrors, code):
		return true
	}
	return deadGrant && (status == http.StatusOK || status == http.StatusBadRequest || status == http.StatusForbidden)
}

// Not every provider says invalid_grant: some say it in a sentence, in a member of another name, or in plain text. What is matched are
// lower-case words, of so many bytes at most.
const maxErrorText = 1 << 10

var (
	errorTexts = []string{"error", "error_description", "error_code", "message", "msg", "detail", "title", "hint"}

	deadGrantText = regexp.MustCompile(`\b(` +
		`(refreshtoken|tokens?|grant|session)( [a-z0-9]+){0,5}? (` + deadState + `|(is|was) unknown|` +
		`(not|doesnt|isnt|wasnt) (be )?(found|active|valid|exist|recogni[sz]ed)|no longer (active|valid|exists)|already (been )?(used|redeemed)|` +
		`reused|reuse detected)|` +
		`(` + deadState + `|unknown|bad|already used)( (` + deadState + `|or|and|missing|the|oauth|oauth2|offline|access|refresh|user))* ` +
		`(refreshtoken|token|grant|session)` +
		`)\b`)

	// otherTrouble marks texts about something else than the grant, although its name comes up.
	otherTrouble = regexp.MustCompile(
		`\b(csrf|xsrf|captcha|too many|rate limit(ed)?|temporar(y|ily)|unavailable|overloaded|maintenance)\b|\bgrant type\b`)
)

const deadState = `invalid|invalidated|expired|revoked|inactive|incorrect|malformed`

// saysDeadGrant reports whether an error document says in its own words that the grant is dead.
func saysDeadGrant(document map[string]any) bool {
	if nested, ok := document["error"].(map[string]any); ok && saysDeadGrant(map[string]any{
		"message": nested["message"], "detail": nested["detail"], "error_code": nested["code"],
	}) {
		return true
	}
	return slices.ContainsFunc(errorTexts, func(name string) bool {
		text, _ := document[name].(string)
		return namesDeadGrant(text)
	})
}

// textSaysDeadGrant does the same for an answer that is no JSON object. A page or a broken object is not the provider's word.
func textSaysDeadGrant(body []byte) bool {
	body = bytes.TrimSpace(body)
	return len(body) > 0 && body[0] != '<' && body[0] != '{' && namesDeadGrant(string(body[:min(len(body), maxErrorText)]))
}

func namesDeadGrant(text string) bool {
	text = words(text)
	return deadGrantText.MatchString(text) && !otherTrouble.MatchString(text)
}

// words returns the words of a text in lower case with a space between them, taking InvalidGrant and invalid_grant apart too.
func words(text string) string {
	var b strings.Builder
	separated, lower := true, false
	for _, c := range []byte(text[:min(len(text), maxErrorText)]) {
		isUpper, isLower := c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z'
		switch {
		case c == '\'':
			continue // as in doesn't
		case isUpper || isLower || c >= '0' && c <= '9':
			if isUpper && lower {
				b.WriteByte(' ')
			}
			b.WriteByte(c)
			separated = false
		case !separated:
			b.WriteByte(' ')
			separated = true
		}
		lower = isLower
	}
	return strings.ToLower(b.String())
}
