package optest

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// callback is where codes go in these tests. Nothing listens there.
const callback = "https://app.example.com/callback?keep=1"

// authorization is a good authorization request, changed by pairs of names and
// values; a value of "" leaves the parameter out.
func authorization(pairs ...string) url.Values {
	values := url.Values{
		"client_id": {"client"}, "response_type": {"code"}, "redirect_uri": {callback}, "scope": {"openid profile email"},
		"state": {"the-state-of-the-request"}, "nonce": {"the-nonce-of-the-request"},
	}
	for i := 0; i < len(pairs); i += 2 {
		if values.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
			values.Del(pairs[i])
		}
	}
	return values
}

func newTestBrowser(t *testing.T, p *Provider) *Browser {
	t.Helper()
	b := NewBrowser(t)
	if certificate := p.Certificate(); certificate != nil {
		b.Trust(certificate)
	}
	return b
}

// redirected returns the parameters that an authorization request is answered with.
func redirected(t *testing.T, p *Provider, request url.Values) url.Values {
	t.Helper()
	r := newTestBrowser(t, p).Get(p.Endpoint(Authorize) + "?" + request.Encode())
	target, err := url.Parse(r.Location())
	if err != nil || r.Status != http.StatusFound || !strings.HasPrefix(r.Location(), callback+"&") {
		t.Fatalf("status %d, Location %q, %v: %s", r.Status, r.Location(), err, r.Body)
	}
	values := target.Query()
	values.Del("keep")
	return values
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]Option{
		"root": nil, "path": {WithIssuerPath("/realms/demo")}, "TLS": {WithTLS()}, "iss": {WithIssParameter()},
		"slash": {WithIssuerPath("/"), WithIssParameter()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := New(t, options...)
			metadata := p.Metadata()
			if metadata["authorization_endpoint"] != p.Endpoint(Authorize) || metadata["userinfo_endpoint"] != p.Endpoint(Userinfo) {
				t.Errorf("metadata = %v", metadata)
			}
			want := url.Values{"state": {"the-state-of-the-request"}}
			if metadata["authorization_response_iss_parameter_supported"] == true {
				want.Set("iss", p.Issuer())
			} else if strings.Contains(name, "iss") {
				t.Error("the parameter is not promised")
			}
			got := redirected(t, p, authorization())
			want.Set("code", got.Get("code"))
			if got.Encode() != want.Encode() || len(got.Get("code")) < shortestSecret {
				t.Errorf("answered %v, want %v", got, want)
			}

			post := newTestBrowser(t, p).Post(p.Endpoint(Authorize), authorization("redirect_uri", "http://127.0.0.1/cb", "state", ""))
			location, err := url.Parse(post.Location())
			if err != nil || location.Path != "/cb" || location.Query().Get("code") == got.Get("code") || location.Query().Has("state") {
				t.Errorf("POST: %d, %q, %v", post.Status, post.Location(), err)
			}
			requests := p.AuthorizeRequests()
			if len(requests) != 2 || requests[0].Get("nonce") != "the-nonce-of-the-request" ||
				requests[1].Get("redirect_uri") != "http://127.0.0.1/cb" {
				t.Errorf("requests = %v", requests)
			}
			secrets := []string{got.Get("code"), location.Query().Get("code"), "the-state-of-the-request", "the-nonce-of-the-request"}
			for _, secret := range secrets {
				if !slices.Contains(p.Issued(), secret) {
					t.Errorf("%q is not a secret", secret)
				}
			}
		})
	}
}

// A request that is wrong gets a page; going to an unchecked address would be an
// open redirect of the provider's.
func TestAuthorizeRefuses(t *testing.T) {
	t.Parallel()
	p := New(t)
	b := NewBrowser(t)
	if r := b.Get(p.Endpoint(Authorize) + "?" + authorization().Encode()); r.Status != http.StatusFound {
		t.Fatalf("good request: status %d: %s", r.Status, r.Body)
	}
	twice := authorization()
	twice.Add("state", "another")
	tests := map[string]url.Values{
		"client":            authorization("client_id", "other"),
		"no client":         authorization("client_id", ""),
		"response type":     authorization("response_type", "code id_token"),
		"no scope":          authorization("scope", ""),
		"scope":             authorization("scope", "openidx profile"),
		"redirect_uri":      authorization("redirect_uri", "https://evil.example/callback"),
		"no redirect_uri":   authorization("redirect_uri", ""),
		"response mode":     authorization("response_mode", "fragment"),
		"plain challenge":   authorization("code_challenge", strings.Repeat("a", 43), "code_challenge_method", "plain"),
		"default challenge": authorization("code_challenge", strings.Repeat("a", 43)),
		"short challenge":   authorization("code_challenge", "a", "code_challenge_method", "S256"),
		"no challenge":      authorization("code_challenge_method", "S256"),
		"max_age":           authorization("max_age", "soon"),
		"request object":    authorization("request", "e30.e30."),
		"state twice":       twice,
	}
	for name, request := range tests {
		r := b.Get(p.Endpoint(Authorize) + "?" + request.Encode())
		if r.Status != http.StatusBadRequest || r.Header.Get("Location") != "" {
			t.Errorf("%s: status %d, Location %q", name, r.Status, r.Header.Get("Location"))
		}
	}
	if r := b.Do(http.MethodPut, p.Endpoint(Authorize)+"?"+authorization().Encode(), ""); r.Status != http.StatusMethodNotAllowed {
		t.Errorf("PUT: status %d", r.Status)
	}
}

func TestRedirectURIs(t *testing.T) {
	t.Parallel()
	p := New(t)
	status := func(uri string) int {
		return NewBrowser(t).Get(p.Endpoint(Authorize) + "?" + authorization("redirect_uri", uri).Encode()).Status
	}
	for uri, want := range map[string]int{
		"http://127.0.0.1:8080/cb":         http.StatusFound,
		"http://[::1]:8080/cb":             http.StatusFound,
		"http://localhost/cb":              http.StatusFound,
		"https://example.com/cb":           http.StatusFound,
		"https://A.example.com/cb":         http.StatusFound,
		"https://app.test":                 http.StatusFound,
		"https://notexample.com/cb":        http.StatusBadRequest,
		"https://example.com.evil.org/cb":  http.StatusBadRequest,
		"https://example.com@evil.org/cb":  http.StatusBadRequest,
		"https://user@example.com/cb":      http.StatusBadRequest,
		"https://example.com/cb#":          http.StatusBadRequest,
		"javascript://example.com/%0aa":    http.StatusBadRequest,
		"/cb":                              http.StatusBadRequest,
		"https://evil.org/?x=.example.com": http.StatusBadRequest,
	} {
		if got := status(uri); got != want {
			t.Errorf("%s: status %d, want %d", uri, got, want)
		}
	}
	p.SetRedirectURIs("https://app.example.org/cb")
	if got := status("https://app.example.org/cb"); got != http.StatusFound {
		t.Errorf("registered: status %d", got)
	}
	for _, uri := range []string{"https://app.example.org/cb/", "https://app.example.org/cb?x=1", "https://example.com/cb"} {
		if got := status(uri); got != http.StatusBadRequest {
			t.Errorf("%s: status %d though it is not registered", uri, got)
		}
	}
}

func TestAuthorizeHooks(t *testing.T) {
	t.Parallel()
	p := New(t, WithIssParameter())
	if got := redirected(t, p, authorization()); !got.Has("code") || got.Has("error") || got.Get("iss") != p.Issuer() {
		t.Fatalf("without a hook: %v", got)
	}
	p.FailAuthorize("access_denied", "not today")
	want := url.Values{
		"error": {"access_denied"}, "error_description": {"not today"}, "state": {"the-state-of-the-request"}, "iss": {p.Issuer()},
	}
	if got := redirected(t, p, authorization()); got.Encode() != want.Encode() {
		t.Errorf("failing: %v, want %v", got, want)
	}
	p.FailAuthorize("", "ignored")
	p.SetAuthorizeResponse(func(values url.Values) {
		values.Add("code", "second")
		values.Del("state")
		values.Set("iss", "https://evil.example")
	})
	if got := redirected(t, p, authorization()); len(got["code"]) != 2 || got.Has("state") || got.Get("iss") != "https://evil.example" {
		t.Errorf("edited: %v", got)
	}
	p.SetAuthorizeResponse(nil)
	p.SetMetadata(func(m map[string]any) { delete(m, "authorization_response_iss_parameter_supported") })
	if got := redirected(t, p, authorization()); len(got["code"]) != 1 || got.Has("iss") || !got.Has("state") {
		t.Errorf("not promising iss: %v", got)
	}
	p.SetMetadata(nil)
	p.Fail(Authorize, Fault{Status: http.StatusServiceUnavailable})
	if r := NewBrowser(t).Get(p.Endpoint(Authorize) + "?" + authorization().Encode()); r.Status != http.StatusServiceUnavailable {
		t.Errorf("fault: status %d", r.Status)
	}
	if p.Hits(Authorize) != 5 {
		t.Errorf("%d hits", p.Hits(Authorize))
	}
}

func TestFormPost(t *testing.T) {
	t.Parallel()
	p := New(t)
	state := `"><script>alert('&amp;')</script>`
	p.SetAuthorizeResponse(func(values url.Values) { values.Add("code", "two") })
	target := "https://app.example.com/cb?a=1&b=2"
	request := authorization("response_mode", "form_post", "state", state, "redirect_uri", target)
	r := NewBrowser(t).Get(p.Endpoint(Authorize) + "?" + request.Encode())
	if r.Status != http.StatusOK || r.Header.Get("Location") != "" || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") {
		t.Fatalf("status %d, header %v", r.Status, r.Header)
	}
	if strings.Contains(r.Body, "<script>") || !regexp.MustCompile(`(?s)<form method="post".*</form>`).MatchString(r.Body) {
		t.Errorf("page = %s", r.Body)
	}
	next, method, body := follow(r, http.MethodGet, "")
	if next == nil || next.String() != target || method != http.MethodPost {
		t.Fatalf("submits by %s to %v", method, next)
	}
	values, err := url.ParseQuery(body)
	if err != nil || values.Get("state") != state || len(values["code"]) != 2 || values["code"][1] != "two" {
		t.Errorf("submits %v, %v", values, err)
	}
}
