package openidconnect

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// sessionSecret keeps the keys of sessions out of the storage.
const sessionSecret = "the session secret of these tests"

// loginSettings of a site that logs browsers in at p.
func loginSettingsAt(p *optest.Provider, settings string) string {
	const block = "session {\n"
	if !strings.Contains(settings, block) {
		settings += "\n" + block + "}"
	}
	settings = strings.Replace(settings, block, block+"secret \""+sessionSecret+"\"\n", 1)
	for _, standard := range []string{"client_id client", "client_secret secret"} {
		if name, _, _ := strings.Cut(standard, " "); !strings.Contains("\n"+settings, "\n"+name+" ") {
			settings = standard + "\n" + settings
		}
	}
	return "issuer " + p.Issuer() + "\n" + settings
}

// newLoginSite starts a site that logs browsers in at p. Whatever the test does there, no secret of it may get into the log.
func newLoginSite(tb testing.TB, p *optest.Provider, settings string) *site {
	tb.Helper()
	s := newSite(tb, loginSettingsAt(p, settings))
	tb.Cleanup(func() { wantSilence(tb, p, s) })
	return s
}

// newSecureLoginSite is newLoginSite with https.
func newSecureLoginSite(tb testing.TB, p *optest.Provider, settings string) *site {
	tb.Helper()
	h, err := parse(loginSettingsAt(p, settings))
	if err != nil {
		tb.Fatal(err)
	}
	s := startTLSSite(tb, h)
	tb.Cleanup(func() { wantSilence(tb, p, s) })
	return s
}

// wantSilence checks that no code, token, state, nonce or verifier has been logged.
func wantSilence(tb testing.TB, p *optest.Provider, s *site) {
	tb.Helper()
	var logs strings.Builder
	for _, entry := range s.logs.All() {
		fmt.Fprintln(&logs, entry.Message, entry.ContextMap())
	}
	text := logs.String()
	for _, secret := range p.Issued() {
		if secret != "" && strings.Contains(text, signaturePart(secret)) {
			tb.Errorf("%.60s… is in the log", secret)
		}
	}
}

// visitor is somebody with a browser at a site.
type visitor struct {
	*optest.Browser
	t        testing.TB
	provider *optest.Provider
	origin   string
	upstream *recorder
	site     *site // nil where it is a whole Caddy
}

func newVisitor(t testing.TB, s *site, p *optest.Provider) *visitor {
	t.Helper()
	v := &visitor{Browser: optest.NewBrowser(t), t: t, provider: p, origin: s.server.URL, upstream: s.recorder, site: s.in(t)}
	if certificate := s.server.Certificate(); certificate != nil {
		v.Trust(certificate)
	}
	return v
}

// newCaddyVisitor is newVisitor for a site of a whole Caddy.
func newCaddyVisitor(t testing.TB, c *caddySite, p *optest.Provider) *visitor {
	t.Helper()
	return &visitor{Browser: optest.NewBrowser(t), t: t, provider: p, origin: c.url(""), upstream: &c.recorder}
}

// clone returns the same person with a copy of the browser.
func (v *visitor) clone() *visitor {
	copied := *v
	copied.Browser = v.Clone()
	return &copied
}

func (v *visitor) url(path string) string { return v.origin + path }

// What browsers say of navigations: that of a typed address, and that by a redirect from another site.
var (
	typed  = []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: none", "Accept: text/html,*/*;q=0.8"}
	linked = []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: cross-site", "Accept: text/html,*/*;q=0.8"}
)

// open opens a page and stays there, whatever it redirects to.
func (v *visitor) open(path string, headers ...string) *optest.Response {
	v.t.Helper()
	return v.Get(v.url(path), append(slices.Clone(typed), headers...)...)
}

// begin opens a page that is for users only, and returns the authorization request that it leads to.
func (v *visitor) begin(path string) url.Values {
	v.t.Helper()
	return v.wantLogin(v.open(path))
}

// answerTo is what the provider answers to an authorization request.
func (v *visitor) answerTo(request url.Values) url.Values {
	return url.Values{"code": {v.provider.NewCode(request)}, "state": {request.Get("state")}}
}

// arrive comes back from the provider with an answer to the request.
func (v *visitor) arrive(request, answer url.Values, headers ...string) *optest.Response {
	v.t.Helper()
	return v.Get(request.Get("redirect_uri")+"?"+answer.Encode(), append(slices.Clone(linked), headers...)...)
}

// signIn logs in on the way to a page.
func (v *visitor) signIn(path string) {
	v.t.Helper()
	landed := v.Navigate(v.url(path))
	if landed.Status != http.StatusOK || landed.URL != v.url(path) {
		v.t.Fatalf("landed on %s with %d: %s", landed.URL, landed.Status, landed.Body)
	}
	if n := v.upstream.advance(); n != 1 {
		v.t.Fatalf("%d requests reached the upstream", n)
	}
}

// wantLogin checks that a response sends the browser to the provider, and returns the authorization request.
func (v *visitor) wantLogin(r *optest.Response) url.Values {
	v.t.Helper()
	status := http.StatusFound
	if method := r.Steps[len(r.Steps)-1].Method; method != http.MethodGet && method != http.MethodHead {
		status = http.StatusSeeOther
	}
	location := r.Location()
	if r.Status != status || !strings.HasPrefix(location, v.provider.Endpoint(optest.Authorize)+"?") {
		v.t.Fatalf("got %d and %q, want %d and the provider: %s", r.Status, location, status, shown(r))
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"} {
		if got := r.Header.Values(name); len(got) != 1 || got[0] != want {
			v.t.Errorf("%s %q, want %q", name, got, want)
		}
	}
	if r.Body != "" {
		v.t.Errorf("the redirect has a body: %s", shown(r))
	}
	if n := v.upstream.advance(); n != 0 {
		v.t.Errorf("%d requests reached the upstream", n)
	}
	if names := transactionsIn(r); len(names) != 1 {
		v.t.Errorf("the answer sets %d transactions", len(names))
	}
	u, err := url.Parse(location)
	if err != nil {
		v.t.Fatal(err)
	}
	return u.Query()
}

// wantRedirect checks that a response leads to a page of the site and nothing is passed on yet.
func (v *visitor) wantRedirect(r *optest.Response, path string) {
	v.t.Helper()
	if (r.Status != http.StatusFound && r.Status != http.StatusSeeOther) || r.Location() != v.url(path) {
		v.t.Fatalf("got %d and %q, want a redirect to %s: %s", r.Status, r.Location(), path, shown(r))
	}
	if got := r.Header.Get("Cache-Control"); got != "no-store" {
		v.t.Errorf("Cache-Control %q", got)
	}
	if n := v.upstream.advance(); n != 0 {
		v.t.Errorf("%d requests reached the upstream", n)
	}
}

// wantPage checks that a response is a page about a refusal, which starts nothing by itself.
func (v *visitor) wantPage(r *optest.Response, status int, reason string) {
	v.t.Helper()
	if r.Status != status || r.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		v.t.Fatalf("got %d and %q %q, want a page with %d (%s): %s", r.Status, r.Header.Get("Content-Type"), r.Location(), status, reason,
			shown(r))
	}
	if !strings.Contains(r.Body, "<dd>"+reason+"</dd>") {
		v.t.Errorf("the page does not tell the reason %s: %s", reason, shown(r))
	}
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Location": "", "Refresh": "",
	} {
		if got := r.Header.Get(name); got != want {
			v.t.Errorf("%s %q, want %q", name, got, want)
		}
	}
	if policy := r.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy,
		"script") {
		v.t.Errorf("Content-Security-Policy %q", policy)
	}
	v.wantNothingGiven(r)
}

// wantRefusal checks that a response tells a program why it was refused.
func (v *visitor) wantRefusal(r *optest.Response, status int, reason string) {
	v.t.Helper()
	if r.Status != status || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Cache-Control") != "no-store" {
		v.t.Fatalf("got %d and %v, want JSON with %d (%s): %s", r.Status, r.Header, status, reason, shown(r))
	}
	if !strings.Contains(r.Body, `"reason":"`+reason+`"`) || !strings.Contains(r.Body, `"request_id":"`) {
		v.t.Errorf("want the reason %s and a request id: %s", reason, shown(r))
	}
	v.wantNothingGiven(r)
}

// shown is what a person sees of a response.
func shown(r *optest.Response) string {
	if _, page, ok := strings.Cut(r.Body, "<h1>"); ok {
		return page
	}
	return r.Body
}

// wantNothingGiven checks that nothing got through to the upstream, and no session or transaction to the browser.
func (v *visitor) wantNothingGiven(r *optest.Response) {
	v.t.Helper()
	if n := v.upstream.advance(); n != 0 {
		v.t.Errorf("%d requests reached the upstream", n)
	}
	if location := r.Header.Get("Location"); location != "" {
		v.t.Errorf("redirected to %q", location)
	}
	if names := transactionsIn(r); len(names) != 0 {
		v.t.Errorf("a login was started: %q", names)
	}
	if names := sessionsIn(r); len(names) != 0 {
		v.t.Errorf("a session was made: %q", names)
	}
	for _, secret := range v.provider.Issued() {
		if strings.Contains(r.Body, secret) {
			v.t.Errorf("the answer shows %.60s", secret)
		}
	}
}

// wantSession checks whether the browser is signed in.
func (v *visitor) wantSession(want bool) {
	v.t.Helper()
	v.upstream.advance()
	r := v.Get(v.url("/who"), "Accept: application/json")
	n := v.upstream.advance()
	if got := r.Status == http.StatusOK && n == 1; got != want {
		v.t.Errorf("signed in: %t, want %t (status %d)", got, want, r.Status)
	}
}

// The three sorts of cookies that answers set, without those that they delete.
func transactionsIn(r *optest.Response) []string { return cookiesIn(r, isTransactionName) }
func sessionsIn(r *optest.Response) []string     { return cookiesIn(r, isSessionName) }

func isTransactionName(name string) bool { return strings.Contains(name, "-t-") }

func isSessionName(name string) bool {
	return strings.Contains(name, "oidc-") && !isTransactionName(name) && !strings.HasSuffix(name, "-loop")
}

func cookiesIn(r *optest.Response, match func(string) bool) (names []string) {
	for _, cookie := range r.Steps[len(r.Steps)-1].SetCookies {
		if match(cookie.Name) && cookie.MaxAge >= 0 && cookie.Value != "" {
			names = append(names, cookie.Name)
		}
	}
	return names
}

// kept returns the cookies of one sort that the browser has for the site.
func (v *visitor) kept(match func(string) bool) []*http.Cookie {
	v.t.Helper()
	return slices.DeleteFunc(v.Cookies(v.url("/")), func(cookie *http.Cookie) bool { return !match(cookie.Name) })
}

// send is roundTrip for goroutines beside the test's own; nil when it has failed.
func send(t testing.TB, transport http.RoundTripper, request *http.Request) *reply {
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
		return nil
	}
	return &reply{Response: response, body: string(body)}
}

// lose makes the browser forget the cookies of one sort.
func (v *visitor) lose(match func(string) bool) {
	v.t.Helper()
	for _, cookie := range v.kept(match) {
		cookie.MaxAge = -1
		v.SetCookie(v.url("/"), cookie)
	}
}

// flipped is the text with another letter at one place.
func flipped(text string, at int) string {
	letter := "a"
	if text[at] == 'a' {
		letter = "b"
	}
	return text[:at] + letter + text[at+1:]
}

// hits counts what the provider was asked for, besides its metadata and keys.
type hits struct{ authorize, token, userinfo int }

func hitsOf(p *optest.Provider) hits {
	return hits{p.Hits(optest.Authorize), p.Hits(optest.Token), p.Hits(optest.Userinfo)}
}

// wantHits checks what the provider was asked for since the earlier count.
func wantHits(t testing.TB, p *optest.Provider, earlier, want hits) {
	t.Helper()
	now := hitsOf(p)
	got := hits{now.authorize - earlier.authorize, now.token - earlier.token, now.userinfo - earlier.userinfo}
	if got != want {
		t.Errorf("the provider was asked %+v, want %+v", got, want)
	}
}

// later moves the clocks of the site and of the browser forward.
func (v *visitor) later(d time.Duration) {
	now := v.site.handler.runtime.now().Add(d)
	v.site.setNow(now)
	v.Now = func() time.Time { return now }
}
