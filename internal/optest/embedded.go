package optest

import (
	"html"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// Frame is an iframe that a page loads, perhaps of another site. Its cookies are
// those of browsers: from another site only what is SameSite=None goes along or is
// accepted. Redirects are followed.
func (b *Browser) Frame(page, target string) *Response {
	b.tb.Helper()
	header := browserHeader("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	header.Set("Upgrade-Insecure-Requests", "1")
	return b.embed(page, http.MethodGet, target, "", header, "iframe", "navigate")
}

// Image is an image that a page loads, otherwise as Frame.
func (b *Browser) Image(page, target string) *Response {
	b.tb.Helper()
	header := browserHeader("image/avif,image/webp,image/svg+xml,image/*,*/*;q=0.8")
	return b.embed(page, http.MethodGet, target, "", header, "image", "no-cors")
}

// Fetch is a script that calls fetch with credentials on a page, otherwise as Frame.
// Headers are "Name: value"; a body is a form unless they say what it is. There are
// no preflight requests, and the answer is there whatever CORS says.
func (b *Browser) Fetch(page, method, target, body string, headers ...string) *Response {
	b.tb.Helper()
	header := browserHeader("*/*")
	if body != "" {
		header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, line := range headers {
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			b.tb.Errorf("header %q is not of the form \"Name: value\"", line)
		}
		header.Set(name, value)
	}
	return b.embed(page, method, target, body, header, "empty", "cors")
}

var frameTag = regexp.MustCompile(`(?i)<iframe\b[^>]*?\ssrc="([^"]*)"`)

// LoadFrames loads the iframes of a page, one after the other. A navigation does so
// by itself with the provider's page of front-channel logout.
func (b *Browser) LoadFrames(r *Response) []*Response {
	b.tb.Helper()
	var frames []*Response
	for _, frame := range frameTag.FindAllStringSubmatch(r.Body, -1) {
		target, err := ResolveLocation(r.URL, html.UnescapeString(frame[1]))
		if err != nil {
			b.tb.Error(err)
			continue
		}
		frames = append(frames, b.Frame(r.URL, target))
	}
	return frames
}

func browserHeader(accept string) http.Header {
	return http.Header{
		"Accept":          {accept},
		"Accept-Language": {"en-US,en;q=0.9"},
		"User-Agent":      {"Mozilla/5.0 (X11; Linux x86_64) optest"},
	}
}

// embed sends a request for a page that stays where it is, and follows redirects.
func (b *Browser) embed(page, method, target, body string, header http.Header, dest, mode string) *Response {
	b.tb.Helper()
	home, err := url.Parse(page)
	if err != nil {
		b.tb.Error(err)
		return &Response{URL: target, Header: make(http.Header)}
	}
	u, err := url.Parse(target)
	if err != nil {
		b.tb.Error(err)
		return &Response{URL: target, Header: make(http.Header)}
	}
	var chain []*url.URL
	var steps []Step
	for {
		chain = append(chain, u)
		sent := maps.Clone(header)
		if u.Scheme == "https" || isLoopback(u.Hostname()) {
			fetch := http.Header{"Sec-Fetch-Dest": {dest}, "Sec-Fetch-Mode": {mode}, "Sec-Fetch-Site": {fetchSite(home, chain)}}
			maps.Copy(fetch, sent)
			sent = fetch
		}
		if method != http.MethodGet && method != http.MethodHead || mode == "cors" && origin(u) != origin(home) {
			sent.Set("Origin", home.Scheme+"://"+home.Host)
		}
		response := b.send(method, u, body, sent, crossing{sameSite: siteOf(home) == siteOf(u), embedded: true})
		response.Steps = append(steps, response.Steps...)
		steps = response.Steps
		if len(steps) > mostRedirects || !isRedirect(response.Status) {
			return response
		}
		next, nextMethod, nextBody := follow(response, method, body)
		if next == nil {
			return response
		}
		if nextBody == "" {
			header.Del("Content-Type")
		}
		u, method, body = next, nextMethod, nextBody
	}
}

// refused says why a cookie of an embedded answer is not accepted, if it is not.
func (b *Browser) refused(cookie *http.Cookie, cross crossing) string {
	switch {
	case !cross.embedded || cross.sameSite:
		return ""
	case b.BlockThirdPartyCookies:
		return "of a third party"
	case cookie.SameSite != http.SameSiteNoneMode:
		return "not SameSite=None, but embedded by another site"
	}
	return ""
}

// FramableBy tells whether a page may show the response in an iframe, by its
// X-Frame-Options and the frame-ancestors of its Content-Security-Policy, which count
// for more.
func (r *Response) FramableBy(page string) bool {
	parent, err := url.Parse(page)
	if err != nil {
		return false
	}
	own, err := url.Parse(r.URL)
	if err != nil {
		return false
	}
	policies := 0
	for _, header := range r.Header.Values("Content-Security-Policy") {
		for policy := range strings.SplitSeq(header, ",") {
			sources, ok := frameAncestors(policy)
			if !ok {
				continue
			}
			policies++
			if !allows(sources, own, parent) {
				return false
			}
		}
	}
	if policies > 0 {
		return true
	}
	for _, header := range r.Header.Values("X-Frame-Options") {
		for option := range strings.SplitSeq(header, ",") {
			switch option = strings.TrimSpace(option); {
			case strings.EqualFold(option, "DENY"),
				strings.EqualFold(option, "SAMEORIGIN") && origin(own) != origin(parent):
				return false
			}
		}
	}
	return true
}

// frameAncestors returns the sources of the directive, if the policy has it.
func frameAncestors(policy string) (sources []string, ok bool) {
	for directive := range strings.SplitSeq(policy, ";") {
		if fields := strings.Fields(directive); len(fields) > 0 && strings.EqualFold(fields[0], "frame-ancestors") {
			return fields[1:], true
		}
	}
	return nil, false
}

// allows tells whether one of the sources is the parent's.
func allows(sources []string, own, parent *url.URL) bool {
	for _, source := range sources {
		source = strings.ToLower(source)
		scheme, host, hasScheme := strings.Cut(source, "://")
		if !hasScheme {
			scheme, host = own.Scheme, source
		}
		wanted, err := url.Parse(scheme + "://" + strings.TrimPrefix(host, "*."))
		switch {
		case source == "'none'":
		case source == "*", source == "'self'" && origin(own) == origin(parent), source == parent.Scheme+":":
			return true
		case err != nil || wanted.Host == "":
		case strings.HasPrefix(host, "*.") && wanted.Scheme == parent.Scheme && strings.HasSuffix(parent.Hostname(), "."+wanted.Hostname()),
			!strings.HasPrefix(host, "*.") && origin(wanted) == origin(parent):
			return true
		}
	}
	return false
}
