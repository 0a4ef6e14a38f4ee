package optest

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// logoutTimeout bounds a request of the provider's to a client.
const logoutTimeout = 30 * time.Second

// BackchannelAnswer is what a client answered to a logout token.
type BackchannelAnswer struct {
	URI    string
	Token  string // empty in what SendLogoutRequest sent
	Status int    // 0 without an answer
	Header http.Header
	Body   string
	Err    error // why there is no answer
}

// SetBackchannelLogoutURI sets where the provider posts a logout token when a single
// sign-on session ends. It waits for the answers before it goes on.
func (p *Provider) SetBackchannelLogoutURI(uris ...string) {
	p.setLogout(func(l *logout) { l.backchannel = slices.Clone(uris) })
}

// SetLogoutTokenClaims lets edit change the claims of the logout tokens that the
// provider posts by itself, which have sid and sub; nil ends that.
func (p *Provider) SetLogoutTokenClaims(edit func(claims Claims)) {
	p.setLogout(func(l *logout) { l.tokenClaims = edit })
}

// Resolve makes all ports of a host name lead to one address, for the requests of the
// provider's own, as [Browser.Resolve] does. It takes any certificate.
func (p *Provider) Resolve(host, address string) {
	p.setLogout(func(l *logout) {
		hosts := map[string]string{strings.ToLower(host): address}
		for known, address := range l.hosts {
			if _, changed := hosts[known]; !changed {
				hosts[known] = address
			}
		}
		l.hosts = hosts
	})
}

// BackchannelAnswers returns the answers to all logout tokens sent, by the provider
// itself and by SendLogout and SendLogoutRequest, oldest first, at most the last
// thousand.
func (p *Provider) BackchannelAnswers() []BackchannelAnswer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.logout.answers)
}

// tellClients posts a logout token for a session that ended.
func (p *Provider) tellClients(ended ssoSession) {
	p.mu.Lock()
	uris, edit := p.logout.backchannel, p.logout.tokenClaims
	p.mu.Unlock()
	for _, uri := range uris {
		claims := BySIDAndSub(ended.sid, subject(ended.user))
		token := p.LogoutToken(claims, func(claims Claims) { runHook(p, edit, claims) })
		p.postLogout(uri, token)
	}
}

// SendLogout posts a logout token as OpenID Connect Back-Channel Logout has it. It
// fails the test when there is no answer.
func (p *Provider) SendLogout(tb testing.TB, uri, token string) BackchannelAnswer {
	tb.Helper()
	return answered(tb, p.postLogout(uri, token))
}

// SendLogoutRequest is SendLogout with a request that is as wrong as one likes, with
// further headers as "Name: value". Without a contentType there is none.
func (p *Provider) SendLogoutRequest(tb testing.TB, method, uri, contentType, body string, headers ...string) BackchannelAnswer {
	tb.Helper()
	header := make(http.Header)
	if contentType != "" {
		header.Set("Content-Type", contentType)
	}
	for _, line := range headers {
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			tb.Errorf("header %q is not of the form \"Name: value\"", line)
			continue
		}
		header.Add(name, value)
	}
	return answered(tb, p.call(method, uri, header, body, ""))
}

func answered(tb testing.TB, answer BackchannelAnswer) BackchannelAnswer {
	tb.Helper()
	if answer.Err != nil {
		tb.Errorf("%s: %v", answer.URI, answer.Err)
	}
	return answer
}

func (p *Provider) postLogout(uri, token string) BackchannelAnswer {
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	return p.call(http.MethodPost, uri, header, url.Values{"logout_token": {token}}.Encode(), token)
}

// call sends a request to a client and records its answer.
func (p *Provider) call(method, uri string, header http.Header, body, token string) BackchannelAnswer {
	ctx, cancel := context.WithTimeout(context.Background(), logoutTimeout)
	defer cancel()
	go func() {
		select {
		case <-p.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	p.mu.Lock()
	hosts := p.logout.hosts
	p.mu.Unlock()
	answer := BackchannelAnswer{URI: uri, Token: token}
	answer.Err = func() error {
		request, err := http.NewRequestWithContext(ctx, method, uri, strings.NewReader(body))
		if err != nil {
			return err
		}
		request.Header = header
		transport := &http.Transport{
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, // only to loopback addresses
			DialContext:       loopback(hosts),
			DisableKeepAlives: true,
		}
		got, err := transport.RoundTrip(request)
		if err != nil {
			return err
		}
		defer got.Body.Close()
		text, err := io.ReadAll(io.LimitReader(got.Body, mostBody))
		answer.Status, answer.Header, answer.Body = got.StatusCode, got.Header, string(text)
		return err
	}()
	p.setLogout(func(l *logout) { l.answers = newest(append(l.answers, answer), recordedRequests) })
	return answer
}
