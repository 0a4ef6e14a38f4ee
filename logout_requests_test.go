package openidconnect

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Which requests end a session, and which do not (S-212, S-230).

// What becomes of a request to the logout.
const (
	endsSession = "the provider"
	tellsScript = "a URL for a script"
	asks        = "a question"
	forbidden   = "403"
	notAllowed  = "405"
)

// metadata are the Fetch Metadata headers of a request.
func metadata(site, mode, dest string, more ...string) []string {
	return append([]string{"Sec-Fetch-Site: " + site, "Sec-Fetch-Mode: " + mode, "Sec-Fetch-Dest: " + dest}, more...)
}

const (
	acceptsPage = "Accept: text/html,*/*;q=0.8"
	evilOrigin  = "Origin: https://evil.example"
)

func TestS212RequestsThatEndASession(t *testing.T) {
	t.Parallel()
	p := optest.New(t, optest.WithEndSession())
	s := newLoginSite(t, p, "")
	own := s.server.URL
	for name, test := range map[string]struct {
		method  string
		headers []string
		want    string
	}{
		"typed":                          {http.MethodGet, metadata("none", "navigate", "document"), endsSession},
		"a link of the site":             {http.MethodGet, metadata("same-origin", "navigate", "document"), endsSession},
		"a link of a sibling":            {http.MethodGet, metadata("same-site", "navigate", "document"), endsSession},
		"without a destination":          {http.MethodGet, []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: same-origin"}, endsSession},
		"an older browser":               {http.MethodGet, []string{acceptsPage}, endsSession},
		"an older browser, from here":    {http.MethodGet, []string{acceptsPage, "Referer: " + own + "/page?x=y"}, endsSession},
		"an older browser, from the top": {http.MethodGet, []string{acceptsPage, "Referer: " + own}, endsSession},
		"in capitals":                    {http.MethodGet, []string{acceptsPage, "Referer: " + strings.ToUpper(own) + "/page"}, endsSession},
		"a form":                         {http.MethodPost, metadata("same-origin", "navigate", "document", "Origin: "+own), endsSession},
		"a form of a sibling":            {http.MethodPost, metadata("same-site", "navigate", "document", "Origin: https://sibling.example"), endsSession},
		"a form of an older browser":     {http.MethodPost, []string{acceptsPage, "Origin: " + own}, endsSession},
		"a form without an origin":       {http.MethodPost, []string{acceptsPage, "Referer: " + own + "/page"}, endsSession},
		"a program":                      {http.MethodPost, nil, endsSession},
		"a program that wants JSON":      {http.MethodPost, []string{"Accept: application/json"}, tellsScript},
		"a script":                       {http.MethodPost, metadata("same-origin", "cors", "empty", "Origin: "+own), tellsScript},
		"a script that says no-cors":     {http.MethodPost, metadata("same-origin", "no-cors", "empty", "Origin: "+own), tellsScript},
		"a script of same-origin mode":   {http.MethodPost, metadata("same-origin", "same-origin", "empty", "Origin: "+own), tellsScript},
		"a beacon":                       {http.MethodPost, metadata("same-origin", "no-cors", "empty", "Content-Type: text/plain"), tellsScript},

		"a link elsewhere":                  {http.MethodGet, metadata("cross-site", "navigate", "document"), asks},
		"a link elsewhere, of this referer": {http.MethodGet, metadata("cross-site", "navigate", "document", "Referer: "+own+"/"), asks},
		"a redirect from elsewhere":         {http.MethodGet, metadata("cross-site", "navigate", "document", "Sec-Fetch-User: ?1"), asks},
		"an image":                          {http.MethodGet, metadata("same-origin", "no-cors", "image", "Accept: image/*"), asks},
		"an image elsewhere":                {http.MethodGet, metadata("cross-site", "no-cors", "image"), asks},
		"a script tag":                      {http.MethodGet, metadata("same-origin", "no-cors", "script"), asks},
		"a style sheet":                     {http.MethodGet, metadata("same-origin", "no-cors", "style"), asks},
		"a frame":                           {http.MethodGet, metadata("same-origin", "navigate", "iframe"), asks},
		"a frame elsewhere":                 {http.MethodGet, metadata("cross-site", "navigate", "iframe"), asks},
		"an object":                         {http.MethodGet, metadata("same-origin", "navigate", "object"), asks},
		"an embed":                          {http.MethodGet, metadata("same-origin", "navigate", "embed"), asks},
		"a fetch":                           {http.MethodGet, metadata("same-origin", "cors", "empty", acceptsPage), asks},
		"a fetch elsewhere":                 {http.MethodGet, metadata("cross-site", "cors", "empty", evilOrigin), asks},
		"a WebSocket":                       {http.MethodGet, metadata("same-origin", "websocket", "websocket", "Upgrade: websocket", "Connection: Upgrade"), asks},
		"an upgrade":                        {http.MethodGet, append([]string{"Upgrade: websocket", "Connection: Upgrade"}, clicked...), asks},
		"half of the metadata":              {http.MethodGet, []string{"Sec-Fetch-Site: same-origin", acceptsPage}, asks},
		"prefetch":                          {http.MethodGet, append([]string{"Sec-Purpose: prefetch"}, clicked...), asks},
		"prerender":                         {http.MethodGet, append([]string{"Sec-Purpose: prefetch;prerender"}, clicked...), asks},
		"prefetch in capitals":              {http.MethodGet, append([]string{"Sec-Purpose: Prefetch"}, clicked...), asks},
		"Purpose: prefetch":                 {http.MethodGet, append([]string{"Purpose: prefetch"}, clicked...), asks},
		"X-Moz: prefetch":                   {http.MethodGet, append([]string{"X-Moz: prefetch"}, clicked...), asks},
		"prefetch of an older browser":      {http.MethodGet, []string{acceptsPage, "X-Moz: prefetch"}, asks},
		"a program's GET":                   {http.MethodGet, []string{"Accept: */*"}, asks},
		"a GET that says nothing":           {http.MethodGet, nil, asks},
		"XMLHttpRequest":                    {http.MethodGet, []string{acceptsPage, "X-Requested-With: XMLHttpRequest"}, asks},
		"an older browser, from elsewhere":  {http.MethodGet, []string{acceptsPage, "Referer: https://evil.example/"}, asks},
		"a host that begins like this one":  {http.MethodGet, []string{acceptsPage, "Referer: " + own + ".evil.example/"}, asks},
		"a port that begins like this one":  {http.MethodGet, []string{acceptsPage, "Referer: " + own + "0/"}, asks},
		"this one as a user name":           {http.MethodGet, []string{acceptsPage, "Referer: " + own + "@evil.example/"}, asks},
		"by https":                          {http.MethodGet, []string{acceptsPage, "Referer: " + strings.Replace(own, "http:", "https:", 1) + "/"}, asks},
		"an older browser's null":           {http.MethodGet, []string{acceptsPage, "Origin: null"}, asks},
		"HEAD":                              {http.MethodHead, clicked, asks},
		"HEAD from elsewhere":               {http.MethodHead, metadata("cross-site", "navigate", "document"), asks},
		"a prefetched form":                 {http.MethodPost, append([]string{"Sec-Purpose: prefetch"}, clicked...), asks},

		"a form elsewhere":                    {http.MethodPost, metadata("cross-site", "navigate", "document", evilOrigin, acceptsPage), forbidden},
		"a form elsewhere, of this origin":    {http.MethodPost, metadata("cross-site", "navigate", "document", "Origin: "+own), forbidden},
		"a form in a frame":                   {http.MethodPost, metadata("cross-site", "navigate", "iframe", evilOrigin), forbidden},
		"a fetch by POST":                     {http.MethodPost, metadata("cross-site", "cors", "empty", evilOrigin), forbidden},
		"a beacon elsewhere":                  {http.MethodPost, metadata("cross-site", "no-cors", "empty", evilOrigin), forbidden},
		"an older browser's form":             {http.MethodPost, []string{acceptsPage, evilOrigin}, forbidden},
		"an older browser's, of this referer": {http.MethodPost, []string{acceptsPage, evilOrigin, "Referer: " + own + "/"}, forbidden},
		"a form of null":                      {http.MethodPost, []string{acceptsPage, "Origin: null"}, forbidden},
		"a form by its referer":               {http.MethodPost, []string{acceptsPage, "Referer: https://evil.example/" + own + "/"}, forbidden},
		"another port":                        {http.MethodPost, []string{acceptsPage, "Origin: " + own + "1"}, forbidden},
		"the origin by https":                 {http.MethodPost, []string{acceptsPage, "Origin: " + strings.Replace(own, "http:", "https:", 1)}, forbidden},
		"a prefetched form elsewhere":         {http.MethodPost, append([]string{"Purpose: prefetch"}, linked...), forbidden},

		"PUT": {http.MethodPut, clicked, notAllowed}, "DELETE": {http.MethodDelete, clicked, notAllowed}, "PATCH": {http.MethodPatch, nil, notAllowed},
		"a preflight": {http.MethodOptions, metadata("cross-site", "cors", "empty", evilOrigin, "Access-Control-Request-Method: POST"), notAllowed},
		"OPTIONS":     {http.MethodOptions, nil, notAllowed}, "TRACE": {http.MethodTrace, nil, notAllowed}, "QUERY": {"QUERY", clicked, notAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVisitor(t, s, p)
			v.signIn("/")
			kept := cookieHeader(v)
			logouts := s.lines("logout")
			cookies := "Cookie: " + kept // whatever a browser would make of the request
			r := v.Do(test.method, v.url("/oauth2/logout"), "", append([]string{cookies}, test.headers...)...)
			switch test.want {
			case endsSession:
				v.wantLogout(r)
			case tellsScript:
				v.wantLogoutURL(r)
			case asks:
				if test.method != http.MethodHead {
					v.wantQuestion(r)
				} else if r.Status != http.StatusOK || r.Body != "" || r.Header.Get("Set-Cookie") != "" {
					t.Errorf("got %d, %v: %s", r.Status, r.Header, r.Body)
				}
			case forbidden:
				v.wantCrossSite(r)
			case notAllowed:
				if r.Status != http.StatusMethodNotAllowed || r.Header.Get("Allow") != "GET, HEAD, POST" || r.Header.Get("Set-Cookie") != "" {
					t.Errorf("got %d, %v", r.Status, r.Header)
				}
			}
			for name := range r.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s: %q", name, r.Header.Values(name))
				}
			}
			ended := test.want == endsSession || test.want == tellsScript
			if told := s.lines("logout") - logouts; told != map[bool]int{true: 1}[ended] {
				t.Errorf("%d logouts are in the log", told)
			}
			if ended {
				v.wantDead(kept)
			} else {
				v.wantAlive(kept)
			}
		})
	}
}

// wantLogoutURL checks that a script is told where to send the browser, which has no session any more, and returns that.
func (v *visitor) wantLogoutURL(r *optest.Response) string {
	v.t.Helper()
	var members map[string]string
	if r.Status != http.StatusOK || r.Header.Get("Content-Type") != "application/json" || json.Unmarshal([]byte(r.Body), &members) != nil {
		v.t.Fatalf("got %d, %v: %s", r.Status, r.Header, r.Body)
	}
	target := members["logout_url"]
	if len(members) != 1 || target == "" || r.Header.Get("Location") != "" || r.Header.Get("X-Content-Type-Options") != "nosniff" {
		v.t.Errorf("got %v: %s", r.Header, r.Body)
	}
	v.wantEndOf(r)
	return target
}

// wantCrossSite checks that a request of another site is refused, as a page or to a program.
func (v *visitor) wantCrossSite(r *optest.Response) {
	v.t.Helper()
	if strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") {
		v.wantPage(r, http.StatusForbidden, "cross_site_logout")
	} else {
		v.wantRefusal(r, http.StatusForbidden, "cross_site_logout")
	}
	if got := r.Header.Values("Set-Cookie"); got != nil {
		v.t.Errorf("Set-Cookie %q", got)
	}
}

// A script gets what it needs to finish the logout: the address of the provider, or that of the page that says so.
func TestLogoutByAScript(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		endpoint bool
		settings string
		want     string // else the provider
	}{
		"at the provider":               {true, "", ""},
		"at one that cannot":            {false, "", "/oauth2/logged-out"},
		"at one that cannot, elsewhere": {false, "post_logout_redirect_uri https://www.example.com/bye", "https://www.example.com/bye"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, p := newSignedIn(t, test.settings)
			if p.SetEndSession(test.endpoint); !test.endpoint {
				v = newVisitor(t, newLoginSite(t, p, "timeout 4s\n"+test.settings), p)
				v.signIn("/")
			}
			script := []string{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Accept: application/json"}
			kept := cookieHeader(v)
			target := v.wantLogoutURL(v.Do(http.MethodPost, v.url("/oauth2/logout"), "", script...))
			if test.want != "" {
				if target != test.want {
					t.Errorf("the script is sent to %s", target)
				}
				v.wantDead(kept)
				return
			}
			landed := v.NavigateFrom(v.url("/"), target)
			v.wantSignedOut(landed, detailSignedOutThere)
			if logouts := p.Logouts(); len(logouts) != 1 || !logouts[0].HintValid || logouts[0].Refused != "" {
				t.Errorf("at the provider: %+v", logouts)
			}
			v.wantDead(kept)
		})
	}
}

// Early data can be sent again by anybody who has seen it.
func TestLogoutInEarlyData(t *testing.T) {
	t.Parallel()
	v, _ := newSignedIn(t, "")
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		r := httptest.NewRequest(method, v.url("/oauth2/logout"), nil)
		r.Header = http.Header{"Cookie": {cookieHeader(v)}, "Accept": {"text/html"}}
		r.TLS = &tls.ConnectionState{HandshakeComplete: false}
		w := httptest.NewRecorder()
		v.site.ServeHTTP(w, r)
		if w.Code != http.StatusTooEarly || w.Header().Get("Set-Cookie") != "" || w.Header().Get("Location") != "" {
			t.Errorf("%s: got %d, %v", method, w.Code, w.Header())
		}
	}
	v.wantSession(true)
	v.wantLogout(v.signOut())
}
