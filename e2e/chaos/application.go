package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/cluster"
)

const (
	// markHeader and subjectHeader are on what only those get who are let in.
	markHeader    = "X-Protected-Mark"
	subjectHeader = "X-Protected-Subject"
	// transit is how much later than its end an access token may arrive on a busy machine: it was alive when the gateway sent it.
	transit = 500 * time.Millisecond
	// forged is in every header by which a client claims to be somebody.
	forged = "forged"
)

// application is what the gateway protects. It tells who it takes a request to be from, and looks at how it knows.
type application struct {
	server   *httptest.Server
	tally    *tally
	tokens   *cluster.Tokens // of sessions
	machines sync.Map        // subjects of other tokens
	mark     string          // of what is protected
	served   atomic.Int64
	open     atomic.Int64 // requests for what is not
}

func startApplication(tally *tally) *application {
	a := &application{tally: tally, tokens: cluster.NewTokens(), mark: "protected-" + rand.Text()}
	a.server = httptest.NewServer(a)
	return a
}

func (a *application) close() {
	a.server.CloseClientConnections()
	a.server.Close()
}

func (a *application) address() string { return a.server.Listener.Addr().(*net.TCPAddr).String() }

// ServeHTTP answers with the mark and the subject, unless the path is below /open/ however it is read.
func (a *application) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 1<<20)) // trailers come after it
	a.expectNoCookie(r)
	open := isOpen(r.URL.Path)
	var subject string
	if !open || !isFromNobody(r) {
		var problem string
		if subject, problem = a.identify(r); problem != "" {
			a.tally.violation("the application got %s for %.100q", problem, r.RequestURI)
		}
	}
	if open {
		a.open.Add(1)
		fmt.Fprintln(w, "open")
		return
	}
	a.served.Add(1)
	w.Header().Set(markHeader, a.mark)
	w.Header().Set(subjectHeader, subject)
	fmt.Fprintf(w, "%s %s", a.mark, subject)
}

// isOpen reports whether a path is below /open/ to everybody, also to those who take other characters for separators. To Caddy's matchers
// small and capital letters are the same.
func isOpen(p string) bool {
	p = strings.ReplaceAll(strings.ToLower(p), `\`, "/")
	parts := strings.Split(p, "/")
	for i, part := range parts {
		parts[i], _, _ = strings.Cut(part, ";")
	}
	return strings.HasPrefix(path.Clean(strings.Join(parts, "/"))+"/", "/open/")
}

// The headers by which the gateway could tell who somebody is, and those of them that it is configured to send.
var (
	identityHeaders = []string{"x-userinfo", "x-access-token", "x-id-token", "x-raw-id-token", "x-refresh-token", "x-subject"}
	sentHeaders     = []string{"X-Userinfo", "X-Access-Token", "X-Subject"}
)

// claimsIdentity reports whether a header is one of them, to an application that does not tell "_" and "." from "-".
func claimsIdentity(name string) bool {
	return slices.Contains(identityHeaders, strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name)))
}

// ownCookie matches the names of the gateway's cookies.
var ownCookie = regexp.MustCompile(`^(__Host-|__Secure-)?oidc-[0-9a-f]{6}(\.[0-9]{1,2}|-t-[a-z2-7]{10}|-loop)?$`)

func (a *application) expectNoCookie(r *http.Request) {
	for _, line := range r.Header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			if name, _, _ := strings.Cut(strings.TrimSpace(pair), "="); ownCookie.MatchString(name) {
				a.tally.violation("the application got the cookie %s", name)
			}
		}
	}
}

// isFromNobody reports whether a request says nothing of who it is from.
func isFromNobody(r *http.Request) bool {
	for _, headers := range []http.Header{r.Header, r.Trailer} {
		for name := range headers {
			if claimsIdentity(name) {
				return false
			}
		}
	}
	return true
}

// identify returns who a request is from, and what is wrong with how it says so.
func (a *application) identify(r *http.Request) (subject, problem string) {
	for name := range r.Trailer {
		if claimsIdentity(name) {
			return "", "the trailer " + name
		}
	}
	for name, values := range r.Header {
		switch {
		case !claimsIdentity(name):
		case !slices.Contains(sentHeaders, name):
			return "", "the header " + name
		case len(values) != 1 || values[0] == "" || strings.Contains(values[0], forged):
			return "", fmt.Sprintf("%d values of %s, or a forged one", len(values), name)
		}
	}
	var claims struct {
		Subject string `json:"sub"`
	}
	text, err := base64.StdEncoding.DecodeString(r.Header.Get("X-Userinfo"))
	if err == nil {
		err = json.Unmarshal(text, &claims)
	}
	subject = r.Header.Get("X-Subject")
	if err != nil || subject == "" || claims.Subject != subject {
		return subject, fmt.Sprintf("no identity, or two: %v", err)
	}
	token := r.Header.Get("X-Access-Token")
	if owner, ok := a.machines.Load(token); ok {
		if owner != subject {
			return subject, "somebody else's access token"
		}
		return subject, ""
	}
	switch late, _, known := a.tokens.Late(token, time.Now()); {
	case !known:
		return subject, "an access token that nobody has issued"
	case late > transit:
		return subject, fmt.Sprintf("an access token that had expired %s before", late)
	}
	return subject, ""
}
