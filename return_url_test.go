package openidconnect

import (
	"bufio"
	"html"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// hostileReturnURLs are the lines of testdata/return_urls.txt.
func hostileReturnURLs(tb testing.TB, host string) []string {
	tb.Helper()
	file, err := os.Open("testdata/return_urls.txt")
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	var wishes []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		wish := lines.Text()
		if wish == "" || strings.HasPrefix(wish, "# ") {
			continue
		}
		if strings.HasPrefix(wish, `"`) {
			if wish, err = strconv.Unquote(wish); err != nil {
				tb.Fatalf("%s: %v", lines.Text(), err)
			}
		}
		wishes = append(wishes, strings.ReplaceAll(wish, "$HOST", host))
	}
	if err := lines.Err(); err != nil {
		tb.Fatal(err)
	}
	if len(wishes) < 200 {
		tb.Fatalf("only %d return URLs", len(wishes))
	}
	return wishes
}

// harmlessReturnURLs are kept as they are.
var harmlessReturnURLs = []string{
	"/", "/x", "/x/", "/x?a=1&b=%2F&a=2", "/x?", "/a%20b", "/caf%C3%A9", "/x;v=1", "/x/~user/@me", "/docs/v1..v2", "/...",
	"/.well-known/x", "/x?next=//evil.test",
	"/x?next=https://evil.test/", "/a//b", "/x?q=%0d%0a", "/x?" + strings.Repeat("a", 900),
}

// host is the host and port of the site.
func (s *site) host() string { return strings.TrimPrefix(s.server.URL, "http://") }

var refreshTag = regexp.MustCompile(`<meta http-equiv="refresh" content="0; url=([^"]*)">`)

// landing is where a browser goes from the end of a login, by a redirect or by a page that loads the next one.
func (v *visitor) landing(r *optest.Response) string {
	v.t.Helper()
	var location string
	switch tag := refreshTag.FindStringSubmatch(r.Body); {
	case r.Status == http.StatusFound || r.Status == http.StatusSeeOther:
		location = r.Header.Get("Location")
	case r.Status == http.StatusOK && tag != nil:
		location = html.UnescapeString(tag[1])
	default:
		v.t.Fatalf("got %d, want the end of a login: %s", r.Status, shown(r))
	}
	if n := len(r.Header["Location"]); n > 1 {
		v.t.Errorf("%d Location headers", n)
	}
	if strings.ContainsFunc(location, func(r rune) bool { return r <= ' ' || r > '~' }) {
		v.t.Errorf("Location %q", location)
	}
	target, err := optest.ResolveLocation(r.URL, location)
	if err != nil {
		v.t.Fatalf("Location %q: %v", location, err)
	}
	return target
}

// endsAtHome reports whether a login ends on the site, with nothing in the headers that does not belong there.
func (v *visitor) endsAtHome(r *optest.Response) bool {
	v.t.Helper()
	home := true
	if target := v.landing(r); !strings.HasPrefix(target, v.url("/")) {
		v.t.Errorf("the login ends at %s", target)
		home = false
	}
	for _, cookie := range r.Steps[0].SetCookies {
		if !strings.HasPrefix(cookie.Name, "oidc-") {
			v.t.Errorf("the answer sets a cookie %s", cookie.Name)
			home = false
		}
	}
	return home
}

// finish comes back from the provider to where a response has sent the browser.
func (v *visitor) finish(r *optest.Response) *optest.Response {
	v.t.Helper()
	request := v.wantLogin(r)
	return v.arrive(request, v.answerTo(request))
}

// returnEntries are the ways by which strangers bring in a return URL. The first is for a browser without a session, the others are for
// one that is signed in.
var returnEntries = map[string]func(v *visitor, wish string) *optest.Response{
	loginEntry: func(v *visitor, wish string) *optest.Response {
		return v.finish(v.open("/oauth2/login?return_to=" + url.QueryEscape(wish)))
	},
	"return_to": func(v *visitor, wish string) *optest.Response {
		return v.open("/oauth2/login?return_to=" + url.QueryEscape(wish))
	},
	"return_to of a form": func(v *visitor, wish string) *optest.Response {
		return v.Post(v.url("/oauth2/login"), url.Values{"return_to": {wish}}, typed...)
	},
	"target_link_uri": func(v *visitor, wish string) *optest.Response {
		query := url.Values{"iss": {v.provider.Issuer()}, "target_link_uri": {wish}}
		return v.Get(v.url("/oauth2/login?"+query.Encode()), linked...)
	},
	stateEntry: func(v *visitor, wish string) *optest.Response {
		request := v.wantLogin(v.open("/oauth2/login?prompt=login&return_to=" + url.QueryEscape(wish)))
		v.lose(isTransactionName)
		return v.arrive(request, v.answerTo(request))
	},
	refererEntry: func(v *visitor, wish string) *optest.Response {
		if !httpguts.ValidHeaderFieldValue(wish) {
			wish = "//evil.test"
		}
		page := newVisitor(v.t, v.site, v.provider).Post(v.url("/x"), nil, append(slices.Clone(typed), "Referer: "+wish)...)
		v.wantPage(page, http.StatusUnauthorized, "no_credentials")
		link := v.wayOut(page)
		if !strings.HasPrefix(link, v.url("/oauth2/login")) {
			v.t.Errorf("the page leads to %s", link)
		}
		return v.Get(link, typed...)
	},
}

const (
	loginEntry   = "return_to of a login"
	stateEntry   = "the state of a login whose transaction is lost"
	refererEntry = "the Referer of a POST"
)

func TestS202NoReturnURLLeavesTheSite(t *testing.T) {
	t.Parallel()
	p := quickProvider(t)
	s := newLoginSite(t, p, "")
	for entry, end := range returnEntries {
		t.Run(entry, func(t *testing.T) {
			v := newVisitor(t, s, p)
			if entry != loginEntry {
				v.signIn("/")
			}
			for _, wish := range harmlessReturnURLs {
				want := wish
				if entry == stateEntry && len(want) > maxStateReturnURL {
					want = pathOf(want)
				}
				if entry == refererEntry {
					wish = v.url(wish) // as browsers send it to the same origin
				}
				if got := v.clone().landing(end(v.clone(), wish)); got != v.url(want) {
					t.Errorf("%s leads to %s, want %s", wish, got, want)
				}
			}
			for _, wish := range hostileReturnURLs(t, s.host()) {
				if v := v.clone(); !v.endsAtHome(end(v, wish)) {
					t.Errorf("with %q", wish)
				}
			}
		})
	}
}

// quickProvider signs with a key that costs little.
func quickProvider(t *testing.T) *optest.Provider {
	t.Helper()
	p := optest.New(t)
	p.SetSigningKey(p.Key("es-1"))
	p.SetMetadata(func(metadata map[string]any) { metadata["id_token_signing_alg_values_supported"] = []string{"ES256"} })
	return p
}

// Under strict it is a page that leads on.
func TestS202NoReturnURLLeavesTheSiteByAPage(t *testing.T) {
	t.Parallel()
	p := quickProvider(t)
	s := newLoginSite(t, p, "session {\ncookie_same_site strict\n}")
	end := returnEntries[loginEntry]
	for _, wish := range harmlessReturnURLs {
		v := newVisitor(t, s, p)
		if got := v.landing(end(v, wish)); got != v.url(wish) {
			t.Errorf("%s leads to %s", wish, got)
		}
	}
	for _, wish := range hostileReturnURLs(t, s.host()) {
		v := newVisitor(t, s, p)
		r := end(v, wish)
		if r.Status != http.StatusOK || !v.endsAtHome(r) {
			t.Errorf("with %q: status %d", wish, r.Status)
		}
	}
}

// What a client asks for is where it comes back to, byte for byte, even if it looks like another host.
func TestS203OriginalRequestsEndOnTheSite(t *testing.T) {
	t.Parallel()
	p := quickProvider(t)
	s := newLoginSite(t, p, "")
	// end asks for target and goes through the login that this leads to. It is nil for what is no request, or no request to this host.
	end := func(t *testing.T, v *visitor, target string) *optest.Response {
		if strings.ContainsAny(target, "\r\n") {
			return nil // another request
		}
		lines := append([]string{"GET " + target + " HTTP/1.1", "Host: " + s.host(), "Connection: close"}, typed...)
		r := exchange(t, s.server.URL, strings.Join(lines, "\r\n")+"\r\n\r\n")
		if n := s.advance(); n != 0 {
			t.Errorf("%d requests reached the upstream", n)
		}
		if r.StatusCode == http.StatusBadRequest {
			return nil
		}
		u, err := url.Parse(r.Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		if r.StatusCode != http.StatusFound || !strings.HasPrefix(u.String(), p.Endpoint(optest.Authorize)+"?") {
			return nil
		}
		request := u.Query()
		if request.Get("redirect_uri") != v.url("/oauth2/callback") {
			return nil // it was for the host in the request's target
		}
		var cookies []string
		for _, cookie := range r.Cookies() {
			cookies = append(cookies, cookie.Name+"="+cookie.Value)
		}
		return v.arrive(request, v.answerTo(request), "Cookie: "+strings.Join(cookies, "; "))
	}
	for _, target := range append(slices.Clone(harmlessReturnURLs), "/x?a=%zz", "/x?a=b;c", "/%2F", "/a%2Fb/%2E", "/x?#", "/{x}|", "/a|b%2Fc^[d]?{e}|", "/<a>`%22") {
		v := newVisitor(t, s, p)
		r := end(t, v, target)
		if r == nil {
			t.Fatalf("%s is no request", target)
		}
		want := strings.NewReplacer("/{x}|", "/%7Bx%7D|", "<a>`", "%3Ca%3E%60").Replace(target)
		if got := r.Header.Get("Location"); got != want {
			t.Errorf("%s leads to %s, want %s", target, got, want)
		}
	}
	sent := 0
	for _, target := range hostileReturnURLs(t, s.host()) {
		v := newVisitor(t, s, p)
		r := end(t, v, target)
		if r == nil {
			continue
		}
		sent++
		if !v.endsAtHome(r) {
			t.Errorf("with %q", target)
		}
	}
	if sent < 150 {
		t.Errorf("only %d of them were requests to the site", sent)
	}
}
