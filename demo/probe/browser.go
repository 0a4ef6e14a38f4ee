package probe

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// mostRedirects is how many redirects in a row a browser follows.
const mostRedirects = 20

// Browser is what a person uses: it keeps cookies and says with each request what it is for. Its methods always return an answer; where
// none came, Outcome says why.
type Browser struct {
	client http.Client
}

// NewBrowser returns a browser without cookies.
func NewBrowser() *Browser {
	jar, _ := cookiejar.New(nil) // fails never, says its documentation
	return &Browser{client: http.Client{
		Jar:           jar,
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Page is what a browser shows, or the redirect that it got.
type Page struct {
	Answer
	URL *url.URL

	// Previous is the redirect that led here, if one did.
	Previous *Page
}

// Open is a person who types an address, up to the first answer.
func (b *Browser) Open(ctx context.Context, target string, header http.Header) *Page {
	return b.navigate(ctx, http.MethodGet, target, nil, header, "none")
}

// Visit is Open and then Follow.
func (b *Browser) Visit(ctx context.Context, target string) *Page {
	return b.Follow(ctx, b.Open(ctx, target, nil))
}

// Click is a person who follows a link on a page, given by the link's text.
func (b *Browser) Click(ctx context.Context, page *Page, text string) *Page {
	target, err := page.Link(text)
	if err != nil {
		return failed(page.URL, err)
	}
	return b.Follow(ctx, b.navigate(ctx, http.MethodGet, target, nil, nil, "same-origin"))
}

// Follow goes where an answer redirects to, until one does not.
func (b *Browser) Follow(ctx context.Context, page *Page) *Page {
	for range mostRedirects {
		location := page.Header.Get("Location")
		if page.Status < 300 || page.Status > 399 || location == "" {
			return page
		}
		target, err := page.URL.Parse(location)
		if err != nil {
			return failed(page.URL, err)
		}
		site := "same-origin"
		if target.Host != page.URL.Host {
			site = "same-site" // the port does not count
		}
		next := b.navigate(ctx, http.MethodGet, target.String(), nil, nil, site)
		next.Previous = page
		page = next
	}
	return failed(page.URL, errors.New("redirected for ever"))
}

var (
	formAction  = regexp.MustCompile(`<form method="post" action="([^"]*)">`)
	hiddenInput = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
)

// Press is a person who presses a button in the form of a page. It follows redirects.
func (b *Browser) Press(ctx context.Context, page *Page, name, value string) *Page {
	action := formAction.FindSubmatch(page.Body)
	if action == nil {
		return failed(page.URL, fmt.Errorf("no form on the page that answered %s", page.Outcome()))
	}
	target, err := page.URL.Parse(html.UnescapeString(string(action[1])))
	if err != nil {
		return failed(page.URL, err)
	}
	form := url.Values{name: {value}}
	for _, input := range hiddenInput.FindAllSubmatch(page.Body, -1) {
		form.Add(html.UnescapeString(string(input[1])), html.UnescapeString(string(input[2])))
	}
	return b.Follow(ctx, b.navigate(ctx, http.MethodPost, target.String(), form, nil, "same-origin"))
}

// Post is a script that sends a form.
func (b *Browser) Post(ctx context.Context, target string, form url.Values, header http.Header) *Page {
	return b.do(ctx, http.MethodPost, target, form, scriptHeader(), header)
}

// Fetch is a script on a page of the site that asks for JSON.
func (b *Browser) Fetch(ctx context.Context, target string, header http.Header) *Page {
	return b.do(ctx, http.MethodGet, target, nil, scriptHeader(), header)
}

func scriptHeader() http.Header {
	return http.Header{
		"Accept":         {"application/json"},
		"Sec-Fetch-Dest": {"empty"},
		"Sec-Fetch-Mode": {"cors"},
		"Sec-Fetch-Site": {"same-origin"},
	}
}

func (b *Browser) navigate(ctx context.Context, method, target string, form url.Values, header http.Header, site string) *Page {
	own := http.Header{
		"Accept":         {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
		"Sec-Fetch-Dest": {"document"},
		"Sec-Fetch-Mode": {"navigate"},
		"Sec-Fetch-Site": {site},
		"Sec-Fetch-User": {"?1"},
	}
	return b.do(ctx, method, target, form, own, header)
}

func (b *Browser) do(ctx context.Context, method, target string, form url.Values, own, further http.Header) *Page {
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(form.Encode()))
	if err != nil {
		return failed(nil, err)
	}
	req.Header = own
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	maps.Copy(req.Header, further)
	resp, err := b.client.Do(req)
	if err != nil {
		return failed(req.URL, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return failed(req.URL, err)
	}
	return &Page{Answer: Answer{Status: resp.StatusCode, Header: resp.Header, Body: body}, URL: req.URL}
}

func failed(at *url.URL, err error) *Page {
	if at == nil {
		at = new(url.URL)
	}
	return &Page{Answer: Answer{err: err}, URL: at}
}

// Cookies returns the names and values that go to an address.
func (b *Browser) Cookies(target *url.URL) []*http.Cookie { return b.client.Jar.Cookies(target) }

// SetCookies changes cookies for an address, or adds them.
func (b *Browser) SetCookies(target *url.URL, cookies []*http.Cookie) {
	b.client.Jar.SetCookies(target, cookies)
}

var anchor = regexp.MustCompile(`<a href="([^"]*)"[^>]*>([^<]*)</a>`)

// Link returns the address behind a link on the page.
func (p *Page) Link(text string) (string, error) {
	for _, match := range anchor.FindAllSubmatch(p.Body, -1) {
		if strings.EqualFold(html.UnescapeString(string(match[2])), text) {
			target, err := p.URL.Parse(html.UnescapeString(string(match[1])))
			if err != nil {
				return "", err
			}
			return target.String(), nil
		}
	}
	return "", fmt.Errorf("no link %q on the page that answered %s", text, p.Outcome())
}

var markup = regexp.MustCompile(`(?s)<style>.*?</style>|<script>.*?</script>|<[^>]*>`)

// Text is what there is to read on the page.
func (p *Page) Text() string {
	return html.UnescapeString(string(markup.ReplaceAll(p.Body, nil)))
}

// Redirect returns the redirect on the way to the page that came from this path; nil if none did.
func (p *Page) Redirect(path string) *Page {
	for r := p.Previous; r != nil; r = r.Previous {
		if r.URL.Path == path {
			return r
		}
	}
	return nil
}
