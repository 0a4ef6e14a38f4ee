package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"
)

const (
	// answerLimit is how long a gateway may take, and elsewhereLimit how long a browser waits for the provider.
	answerLimit, elsewhereLimit = 15 * time.Second, 2 * time.Second
	// maxHops is how many redirects a browser follows.
	maxHops = 12
)

// errElsewhere is that a browser got nothing useful from the provider, for which the gateway is not to blame.
var errElsewhere = errors.New("the provider does not answer the browser")

// browser keeps cookies. Every answer of a gateway that it gets is judged.
type browser struct {
	site *site
	jar  http.CookieJar
}

func (t *site) newBrowser() *browser {
	jar, _ := cookiejar.New(nil) // never an error
	return &browser{t, jar}
}

// page and script are the headers of somebody who opens a page, and of a script on it.
func page() http.Header {
	return http.Header{
		"Accept": {"text/html,*/*;q=0.8"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}, "Sec-Fetch-Site": {"none"},
	}
}

func script() http.Header {
	return http.Header{
		"Accept": {"application/json"}, "Sec-Fetch-Mode": {"cors"}, "Sec-Fetch-Dest": {"empty"}, "Sec-Fetch-Site": {"same-origin"},
	}
}

// send makes one request and follows nothing.
func (b *browser) send(ctx context.Context, address string, header http.Header) (*answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header = header
	client := http.Client{
		Transport: b.site.front, Jar: b.jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	began := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return &answer{response.StatusCode, response.Header, body, time.Since(began)}, err
}

// ask makes a request to the gateway, and counts and judges the answer.
func (b *browser) ask(ctx context.Context, who, address string, header http.Header, mayEnter bool) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	began := time.Now()
	a, err := b.send(ctx, address, header)
	if err != nil {
		b.site.tally.answer(who, 0, time.Since(began))
		b.site.tally.violation("%s: no answer after %s: %v", who, time.Since(began).Round(time.Millisecond), err)
		return nil, err
	}
	b.site.tally.answer(who, a.status, a.took)
	if told := a.refusal(); told.Reason != "" {
		b.site.tally.reason(told.Reason)
	}
	q := question{
		method: http.MethodGet, own: strings.HasPrefix(address, origin+"/oauth2/"), mayEnter: mayEnter,
		navigates: header.Get("Sec-Fetch-Mode") == "navigate", provider: b.site.provider.URL(), mark: b.site.application.mark,
	}
	if problem := q.judge(a); problem != "" {
		b.site.tally.violation("%s: %s: %s", who, withoutQuery(address), problem)
	}
	return a, nil
}

// open opens a page and follows redirects, also through the provider.
func (b *browser) open(ctx context.Context, who, path string) (last *answer, hops int, err error) {
	address := origin + path
	for ; hops < maxHops; hops++ {
		if !strings.HasPrefix(address, origin+"/") {
			if last, err = b.elsewhere(ctx, address); err != nil {
				return nil, hops, err
			}
		} else if last, err = b.ask(ctx, who, address, page(), true); err != nil {
			return nil, hops, err
		}
		location := last.header.Get("Location")
		if location == "" {
			return last, hops, nil
		}
		from, err := url.Parse(address)
		if err != nil {
			return nil, hops, err
		}
		next, err := from.Parse(location)
		if err != nil {
			return nil, hops, err
		}
		address = next.String()
	}
	b.site.tally.violation("%s: %d redirects", who, hops)
	return nil, hops, errElsewhere
}

// elsewhere is the browser's way through the provider.
func (b *browser) elsewhere(ctx context.Context, address string) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, elsewhereLimit)
	defer cancel()
	a, err := b.send(ctx, address, page())
	if err != nil || a.status != http.StatusFound {
		return nil, errElsewhere
	}
	return a, nil
}

// cookie is the Cookie header of the moment.
func (b *browser) cookie() string {
	cookies := b.cookies()
	pairs := make([]string, 0, len(cookies))
	for _, cookie := range cookies {
		pairs = append(pairs, cookie.Name+"="+cookie.Value)
	}
	return strings.Join(pairs, "; ")
}

func (b *browser) cookies() []*http.Cookie {
	return b.jar.Cookies(&url.URL{Scheme: "http", Host: host, Path: "/"})
}
