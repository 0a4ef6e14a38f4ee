package cluster

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

var errNoGateway = errors.New("the front has no gateway")

// maxRedirects is how many redirects a navigation follows: a login takes three.
const maxRedirects = 12

// Client is a browser with a cookie jar, whose requests may be under way at the same time.
type Client struct {
	origin string
	front  *Front
	jar    atomic.Pointer[cookiejar.Jar]
}

// Answer is what a client gets.
type Answer struct {
	Status   int
	Header   http.Header
	Body     string
	URL      string // where redirects have led
	Hops     int    // redirects followed
	Duration time.Duration
}

// NewClient returns a client of the site at an origin.
func NewClient(front *Front, origin string) *Client {
	c := &Client{origin: origin, front: front}
	c.Forget()
	return c
}

// Navigate is a person who opens a page: it follows redirects.
func (c *Client) Navigate(ctx context.Context, path string) (*Answer, error) {
	answer := new(Answer)
	follow := func(*http.Request, []*http.Request) error {
		if answer.Hops++; answer.Hops > maxRedirects {
			return errors.New("too many redirects")
		}
		return nil
	}
	err := c.do(ctx, path, answer, follow, http.Header{
		"Accept":         {"text/html,*/*;q=0.8"},
		"Sec-Fetch-Mode": {"navigate"},
		"Sec-Fetch-Dest": {"document"},
	}, c.jar.Load())
	return answer, err
}

// Fetch is a script on a page: it follows nothing.
func (c *Client) Fetch(ctx context.Context, path string) (*Answer, error) {
	answer := new(Answer)
	return answer, c.do(ctx, path, answer, stay, fetchHeader(), c.jar.Load())
}

// FetchWith is Fetch with a Cookie header in place of the jar, which does not learn of the answer either.
func (c *Client) FetchWith(ctx context.Context, path, cookie string) (*Answer, error) {
	header := fetchHeader()
	header.Set("Cookie", cookie)
	answer := new(Answer)
	return answer, c.do(ctx, path, answer, stay, header, nil)
}

func fetchHeader() http.Header {
	return http.Header{"Accept": {"application/json"}, "Sec-Fetch-Mode": {"cors"}, "Sec-Fetch-Dest": {"empty"}, "Sec-Fetch-Site": {"same-origin"}}
}

func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func (c *Client) do(
	ctx context.Context, path string, answer *Answer, redirect func(*http.Request, []*http.Request) error, header http.Header, jar http.CookieJar,
) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.origin+path, nil)
	if err != nil {
		return err
	}
	request.Header = header
	client := http.Client{Transport: c.front, Jar: jar, CheckRedirect: redirect}
	began := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	answer.Status, answer.Header, answer.Body = response.StatusCode, response.Header, string(text)
	answer.URL, answer.Duration = response.Request.URL.String(), time.Since(began)
	return err
}

// Cookie is the Cookie header that the client would send now.
func (c *Client) Cookie() string {
	u, err := url.Parse(c.origin + "/")
	if err != nil {
		return ""
	}
	var pairs []string
	for _, cookie := range c.jar.Load().Cookies(u) {
		pairs = append(pairs, cookie.Name+"="+cookie.Value)
	}
	return strings.Join(pairs, "; ")
}

// Forget empties the jar.
func (c *Client) Forget() {
	jar, _ := cookiejar.New(nil) // never an error
	c.jar.Store(jar)
}
