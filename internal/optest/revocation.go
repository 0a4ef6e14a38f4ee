package optest

import (
	"net/http"
	"net/url"
)

// RevocationRequest is a request that the revocation endpoint received.
type RevocationRequest struct {
	Token  string
	Hint   string // token_type_hint
	Form   url.Values
	Header http.Header
}

// WithRevocation adds an endpoint where the client revokes its tokens (RFC 7009): a
// refresh token with all that came of the same login, or an access token.
func WithRevocation() Option { return func(o *options) { o.revocation = true } }

// SetRevocation is WithRevocation for a provider that runs already.
func (p *Provider) SetRevocation(on bool) { p.setLogout(func(l *logout) { l.revocation = on }) }

// Revocations returns the requests that the revocation endpoint received, also those
// it refused or failed, oldest first, at most the last thousand.
func (p *Provider) Revocations() []RevocationRequest {
	requests := p.Requests(Revocation)
	all := make([]RevocationRequest, 0, len(requests))
	for _, r := range requests {
		all = append(all, RevocationRequest{
			Token: r.Form.Get("token"), Hint: r.Form.Get("token_type_hint"), Form: r.Form, Header: r.Header,
		})
	}
	return all
}

// revoke answers the same whether or not there is such a token.
func (p *Provider) revoke(request RecordedRequest) response {
	if refusal := p.authenticate(Revocation, request); refusal != nil {
		return *refusal
	}
	token := request.Form.Get("token")
	if token == "" || repeated(request.Form) {
		return answerError(http.StatusBadRequest, "invalid_request")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.refreshes.families[token]; f != nil && f.grant.client == p.clientID {
		p.refreshes.kill(f)
	}
	delete(p.tokens, token)
	delete(p.login.granted, token)
	return response{status: http.StatusOK, header: make(http.Header)}
}

// spares tells whether a fault that answers a request keeps it from doing anything.
func spares(endpoint string, request RecordedRequest) bool {
	return endpoint == EndSession || endpoint == Revocation || isRefresh(endpoint, request)
}
