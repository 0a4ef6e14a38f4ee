package optest

import (
	"cmp"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// longestCookie is the length of name and value that browsers take.
const longestCookie = 4096

// DroppedCookie is a cookie that a browser did not accept.
type DroppedCookie struct {
	URL    string
	Cookie string // as it was sent, or its name and value
	Reason string
}

// jar keeps cookies by RFC 6265bis. It takes the last two labels of a host name for
// its site, and is stricter than some browsers: what is Secure neither comes nor
// goes by http, also at localhost, and what says nothing of SameSite is Lax.
type jar struct {
	cookies []*keptCookie // in the order they were made
}

type keptCookie struct {
	cookie   http.Cookie
	domain   string
	hostOnly bool
	path     string
	expires  time.Time // zero is the end of the browser
}

// crossing tells where a request comes from.
type crossing struct {
	sameSite   bool
	navigation bool
	safe       bool // GET and HEAD
	embedded   bool // by a page that stays
}

func (j *jar) clone() jar {
	copied := jar{cookies: make([]*keptCookie, 0, len(j.cookies))}
	for _, kept := range j.cookies {
		copied.cookies = append(copied.cookies, new(*kept))
	}
	return copied
}

// set takes a cookie, or returns why not.
func (j *jar) set(u *url.URL, cookie *http.Cookie, now time.Time) (reason string) {
	host, secure := strings.ToLower(u.Hostname()), u.Scheme == "https"
	kept := &keptCookie{cookie: *cookie, domain: strings.TrimPrefix(strings.ToLower(cookie.Domain), "."), path: cookie.Path}
	if kept.domain == "" || kept.domain == host && net.ParseIP(host) != nil {
		kept.domain, kept.hostOnly = host, true
	}
	if !strings.HasPrefix(kept.path, "/") {
		kept.path = u.EscapedPath()[:max(0, strings.LastIndexByte(u.EscapedPath(), '/'))]
	}
	if kept.path == "" {
		kept.path = "/"
	}
	name := strings.ToLower(cookie.Name)
	switch {
	case len(cookie.Name)+len(cookie.Value) > longestCookie:
		return "name and value are longer than 4096 bytes"
	case cookie.Secure && !secure:
		return "Secure, but not from https"
	case cookie.SameSite == http.SameSiteNoneMode && !cookie.Secure:
		return "SameSite=None, but not Secure"
	case strings.HasPrefix(name, "__secure-") && !cookie.Secure:
		return "__Secure-, but not Secure"
	case strings.HasPrefix(name, "__host-") && (!cookie.Secure || cookie.Path != "/" || cookie.Domain != ""):
		return "__Host-, but not Secure, for Path=/ and without Domain"
	case !domainMatches(host, kept.domain) || net.ParseIP(host) != nil && !kept.hostOnly:
		return "Domain of another host"
	case !kept.hostOnly && kept.domain != host && !strings.Contains(kept.domain, "."):
		return "Domain of a public suffix"
	case !secure && slices.ContainsFunc(j.cookies, kept.shadows):
		return "from http, but there is a Secure one of that name"
	}
	switch {
	case cookie.MaxAge > 0:
		kept.expires = now.Add(time.Duration(cookie.MaxAge) * time.Second)
	case cookie.MaxAge < 0:
		kept.expires = now
	default:
		kept.expires = cookie.Expires
	}
	same := func(other *keptCookie) bool {
		return other.cookie.Name == cookie.Name && other.domain == kept.domain && other.path == kept.path && other.hostOnly == kept.hostOnly
	}
	i := slices.IndexFunc(j.cookies, same)
	switch expired := kept.expired(now); {
	case i >= 0 && expired:
		j.cookies = slices.Delete(j.cookies, i, i+1)
	case i >= 0:
		j.cookies[i] = kept
	case !expired:
		j.cookies = append(j.cookies, kept)
	}
	return ""
}

// shadows tells whether the cookie would stand in the way of a Secure one.
func (k *keptCookie) shadows(other *keptCookie) bool {
	return other.cookie.Secure && other.cookie.Name == k.cookie.Name &&
		(domainMatches(k.domain, other.domain) || domainMatches(other.domain, k.domain)) && pathMatches(k.path, other.path)
}

func (k *keptCookie) expired(now time.Time) bool {
	return !k.expires.IsZero() && !now.Before(k.expires)
}

// matching returns the cookies that go with a request, those of longer paths first.
func (j *jar) matching(u *url.URL, cross crossing, now time.Time) []*keptCookie {
	host := strings.ToLower(u.Hostname())
	var all []*keptCookie
	for _, kept := range j.cookies {
		switch {
		case kept.hostOnly && kept.domain != host, !domainMatches(host, kept.domain), !pathMatches(cmp.Or(u.EscapedPath(), "/"), kept.path),
			kept.cookie.Secure && u.Scheme != "https", kept.expired(now):
		case !cross.sameSite && kept.cookie.SameSite == http.SameSiteStrictMode:
		case !cross.sameSite && kept.cookie.SameSite != http.SameSiteNoneMode && (!cross.navigation || !cross.safe):
		default:
			all = append(all, kept)
		}
	}
	slices.SortStableFunc(all, func(a, b *keptCookie) int { return cmp.Compare(len(b.path), len(a.path)) })
	return all
}

// header is the value of the Cookie header of a request.
func (j *jar) header(u *url.URL, cross crossing, now time.Time) string {
	cookies := j.matching(u, cross, now)
	pairs := make([]string, 0, len(cookies))
	for _, kept := range cookies {
		value := kept.cookie.Value
		if kept.cookie.Quoted {
			value = `"` + value + `"`
		}
		pairs = append(pairs, kept.cookie.Name+"="+value)
	}
	return strings.Join(pairs, "; ")
}

func domainMatches(host, domain string) bool {
	return host == domain || strings.HasSuffix(host, "."+domain)
}

func pathMatches(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/")
}

// Cookies returns the cookies that the browser would send to a URL from a page of
// the same site, with the attributes they came with.
func (b *Browser) Cookies(target string) []*http.Cookie {
	b.tb.Helper()
	u, err := url.Parse(target)
	if err != nil {
		b.tb.Error(err)
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	cookies := b.jar.matching(u, crossing{sameSite: true}, b.now())
	all := make([]*http.Cookie, 0, len(cookies))
	for _, kept := range cookies {
		all = append(all, new(kept.cookie))
	}
	return all
}

// SetCookie puts a cookie in as if the server at the URL had set it, byte for byte;
// one that breaks a rule is dropped.
func (b *Browser) SetCookie(target string, cookie *http.Cookie) {
	b.tb.Helper()
	u, err := url.Parse(target)
	if err != nil {
		b.tb.Error(err)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if reason := b.jar.set(u, cookie, b.now()); reason != "" {
		b.drop(u, cookie.Name+"="+cookie.Value, reason)
	}
}

// ClearCookies forgets every cookie.
func (b *Browser) ClearCookies() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.jar.cookies = nil
}

// drop notes a cookie that was not accepted; the caller holds mu.
func (b *Browser) drop(u *url.URL, cookie, reason string) {
	b.Dropped = append(b.Dropped, DroppedCookie{URL: u.String(), Cookie: cookie, Reason: reason})
}

func (b *Browser) now() time.Time {
	if b.Now != nil {
		return b.Now()
	}
	return time.Now()
}
