package optest

import (
	"html"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// mostRedirects is how many redirects and submitted forms a navigation follows.
const mostRedirects = 20

// Navigate is a person who types an address. It follows redirects, and submits the
// forms that the provider answers with response_mode=form_post, twenty in all. A page of
// front-channel logout loads its iframes and goes on.
func (b *Browser) Navigate(target string) *Response {
	b.tb.Helper()
	return b.navigate("", http.MethodGet, target, "")
}

// NavigateFrom is a person who follows a link on a page, perhaps of another site.
func (b *Browser) NavigateFrom(page, target string) *Response {
	b.tb.Helper()
	return b.navigate(page, http.MethodGet, target, "")
}

// Submit is a person who sends a form on a page, perhaps of another site.
func (b *Browser) Submit(page, target string, form url.Values) *Response {
	b.tb.Helper()
	return b.navigate(page, http.MethodPost, target, form.Encode())
}

func (b *Browser) navigate(from, method, target, body string) *Response {
	b.tb.Helper()
	u, err := url.Parse(target)
	if err != nil {
		b.tb.Error(err)
		return &Response{URL: target, Header: make(http.Header)}
	}
	var page *url.URL // where the person is; nil is the address bar
	if from != "" {
		if page, err = url.Parse(from); err != nil {
			b.tb.Error(err)
			return &Response{URL: target, Header: make(http.Header)}
		}
	}
	var chain []*url.URL
	var steps []Step
	var frames []*Response
	home := origin(u)
	for {
		chain = append(chain, u)
		header, cross := navigation(page, chain, method)
		response := b.send(method, u, body, header, cross)
		response.Steps = append(steps, response.Steps...)
		steps = response.Steps
		if showsFrames(response) {
			frames = append(frames, b.LoadFrames(response)...)
		}
		response.Frames = frames
		if len(steps) > mostRedirects {
			return response
		}
		next, nextMethod, nextBody := follow(response, method, body)
		if next == nil {
			return response
		}
		// A form is on a page, and so is the button at a provider.
		button := !b.Silent && origin(u) != home && response.Header.Get(silentHeader) == ""
		if !isRedirect(response.Status) || button {
			page, chain = u, nil
		}
		if next.Fragment == "" {
			next.Fragment = u.Fragment
		}
		u, method, body = next, nextMethod, nextBody
	}
}

var (
	formTag    = regexp.MustCompile(`<form method="post" action="([^"]*)">`)
	refreshTag = regexp.MustCompile(`<meta http-equiv="refresh" content="0; url=([^"]*)">`)
	inputTag   = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
)

// follow returns the request that a response leads to by itself, if any.
func follow(response *Response, method, body string) (next *url.URL, nextMethod, nextBody string) {
	if isRedirect(response.Status) {
		next := resolved(response, response.Header.Get("Location"))
		// 301 and 302 turn a POST into a GET, 303 everything, 307 and 308 nothing.
		if response.Status == http.StatusSeeOther || response.Status < http.StatusSeeOther && method == http.MethodPost {
			method, body = http.MethodGet, ""
		}
		return next, method, body
	}
	if refresh := refreshTag.FindStringSubmatch(response.Body); showsFrames(response) && refresh != nil {
		return resolved(response, html.UnescapeString(refresh[1])), http.MethodGet, ""
	}
	form := formTag.FindStringSubmatch(response.Body)
	if response.Status != http.StatusOK || form == nil || !strings.Contains(response.Body, submitsItself) {
		return nil, "", ""
	}
	values := make(url.Values)
	for _, input := range inputTag.FindAllStringSubmatch(response.Body, -1) {
		values.Add(html.UnescapeString(input[1]), html.UnescapeString(input[2]))
	}
	return resolved(response, html.UnescapeString(form[1])), http.MethodPost, values.Encode()
}

// showsFrames tells whether a response is the provider's page of front-channel logout.
func showsFrames(response *Response) bool {
	return response.Status == http.StatusOK && strings.Contains(response.Body, loadsFrames)
}

// resolved is nil where browsers would stay.
func resolved(response *Response, location string) *url.URL {
	target, err := ResolveLocation(response.URL, location)
	if location == "" || err != nil {
		return nil
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil
	}
	return u
}

func isRedirect(status int) bool {
	return slices.Contains([]int{
		http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect,
	}, status)
}

// origin returns the scheme, host and port of a URL.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// siteOf returns the scheme and registrable domain of a URL, taking the last two
// labels of a name for that.
func siteOf(u *url.URL) string {
	host := strings.ToLower(u.Hostname())
	if net.ParseIP(host) == nil {
		labels := strings.Split(host, ".")
		host = strings.Join(labels[max(0, len(labels)-2):], ".")
	}
	return u.Scheme + "://" + host
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback() || host == "localhost"
}

// navigation returns what a browser sends with a navigation that someone started
// on a page, and where that comes from. The chain is that of the redirects, ending
// with the request's URL; without a page the address was typed.
func navigation(page *url.URL, chain []*url.URL, method string) (http.Header, crossing) {
	target := chain[len(chain)-1]
	header := http.Header{
		"Accept":                    {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
		"Accept-Language":           {"en-US,en;q=0.9"},
		"Upgrade-Insecure-Requests": {"1"},
		"User-Agent":                {"Mozilla/5.0 (X11; Linux x86_64) optest"},
	}
	if method == http.MethodPost {
		header.Set("Content-Type", "application/x-www-form-urlencoded")
		header.Set("Origin", "null")
		if page != nil {
			header.Set("Origin", page.Scheme+"://"+page.Host)
		}
	}
	// Browsers tell these to what they trust to be who it is.
	if target.Scheme == "https" || isLoopback(target.Hostname()) {
		header.Set("Sec-Fetch-Dest", "document")
		header.Set("Sec-Fetch-Mode", "navigate")
		header.Set("Sec-Fetch-Site", fetchSite(page, chain))
		header.Set("Sec-Fetch-User", "?1")
	}
	return header, crossing{sameSite: page == nil || siteOf(page) == siteOf(target), navigation: true}
}

// fetchSite is Sec-Fetch-Site: the worst of the chain as seen from the page.
func fetchSite(page *url.URL, chain []*url.URL) string {
	if page == nil {
		return "none"
	}
	site := "same-origin"
	for _, u := range chain {
		if origin(u) == origin(page) {
			continue
		}
		if siteOf(u) != siteOf(page) {
			return "cross-site"
		}
		site = "same-site"
	}
	return site
}
