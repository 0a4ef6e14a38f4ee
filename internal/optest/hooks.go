package optest

import "net/url"

// hooks make a login or a refresh wrong, each in one way.
type hooks struct {
	authorizeError       string
	authorizeDescription string
	authorizeResponse    func(url.Values)
	idTokenClaims        func(Claims)
	idTokenHeader        Claims
	idTokenSigner        func(Claims) string
	tokenResponse        func(map[string]any)
	refreshIDTokenClaims func(Claims)
	refreshResponse      func(map[string]any)
	userinfo             func(Claims)
	userinfoJWT          func(Claims) string
}

func (p *Provider) hooks() hooks {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.login.hooks
}

func (p *Provider) setHooks(edit func(*hooks)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	edit(&p.login.hooks)
}

// runHook lets a hook change a value. Hooks run one at a time, outside of mu, so
// that they may call the provider and need no lock for what they note.
func runHook[T any](p *Provider, hook func(T), value T) {
	if hook == nil {
		return
	}
	p.hookMu.Lock()
	defer p.hookMu.Unlock()
	hook(value)
}

// FailAuthorize answers every authorization request that is in order with this
// error, and with the description unless that is empty; an empty code ends that.
func (p *Provider) FailAuthorize(code, description string) {
	p.setHooks(func(h *hooks) { h.authorizeError, h.authorizeDescription = code, description })
}

// SetAuthorizeResponse lets edit change the parameters that go back to the client:
// code or error, state and perhaps iss. Nil ends that.
func (p *Provider) SetAuthorizeResponse(edit func(values url.Values)) {
	p.setHooks(func(h *hooks) { h.authorizeResponse = edit })
}

// SetIDTokenClaims lets edit change the claims of ID tokens before they are signed,
// at logins and at refreshes; nil ends that.
func (p *Provider) SetIDTokenClaims(edit func(claims Claims)) {
	p.setHooks(func(h *hooks) { h.idTokenClaims = edit })
}

// SetIDTokenHeader changes the header of ID tokens, at logins and at refreshes,
// whatever their signature says; nil ends that.
func (p *Provider) SetIDTokenHeader(header Claims) {
	p.setHooks(func(h *hooks) { h.idTokenHeader = header })
}

// SetIDTokenSigner lets sign turn the claims into the ID token, by another key, by
// HMAC or Unsigned, or not at all, at logins and at refreshes; nil ends that.
func (p *Provider) SetIDTokenSigner(sign func(claims Claims) string) {
	p.setHooks(func(h *hooks) { h.idTokenSigner = sign })
}

// SetTokenResponse lets edit change the answer to the redemption of a code and to a
// refresh; nil ends that.
func (p *Provider) SetTokenResponse(edit func(answer map[string]any)) {
	p.setHooks(func(h *hooks) { h.tokenResponse = edit })
}

// SetRefreshIDTokenClaims lets edit change the claims of the ID tokens of refreshes,
// after SetIDTokenClaims; nil ends that. The signer and the header are those of all.
func (p *Provider) SetRefreshIDTokenClaims(edit func(claims Claims)) {
	p.setHooks(func(h *hooks) { h.refreshIDTokenClaims = edit })
}

// SetRefreshResponse lets edit change the answer to a refresh, after
// SetTokenResponse; nil ends that.
func (p *Provider) SetRefreshResponse(edit func(answer map[string]any)) {
	p.setHooks(func(h *hooks) { h.refreshResponse = edit })
}

// SetUserinfo lets edit change the claims that userinfo answers; nil ends that.
func (p *Provider) SetUserinfo(edit func(claims Claims)) {
	p.setHooks(func(h *hooks) { h.userinfo = edit })
}

// SetUserinfoJWT makes userinfo answer what sign makes of the claims, as
// application/jwt; nil ends that.
func (p *Provider) SetUserinfoJWT(sign func(claims Claims) string) {
	p.setHooks(func(h *hooks) { h.userinfoJWT = sign })
}
