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
	return c.do(ctx, sending{path: path, header: pageHeader("none"), jar: c.jar.Load(), follows: true})
}

// SignOut is a person who presses the button that signs out. It follows nothing.
func (c *Client) SignOut(ctx context.Context) (*Answer, error) {
	return c.do(ctx, sending{method: http.MethodPost, path: logoutPath, header: pageHeader("same-origin"), jar: c.jar.Load()})
}

// Frame is a page of another site that loads something in a frame, to which the browser sends no cookies. It follows nothing.
func (c *Client) Frame(ctx context.Context, path string) (*Answer, error) {
	header := pageHeader("cross-site")
	header.Set("Sec-Fetch-Dest", "iframe")
	return c.do(ctx, sending{path: path, header: header})
}

// Fetch is a script on a page: it follows nothing.
func (c *Client) Fetch(ctx context.Context, path string) (*Answer, error) {
	return c.do(ctx, sending{path: path, header: fetchHeader(), jar: c.jar.Load()})
}

// FetchWith is Fetch with a Cookie header in place of the jar, which does not learn of the answer either.
func (c *Client) FetchWith(ctx context.Context, path, cookie string) (*Answer, error) {
	header := fetchHeader()
	header.Set("Cookie", cookie)
	return c.do(ctx, sending{path: path, header: header})
}

// SendLogout is the provider, which tells the site of a logout by the back-channel.
func (c *Client) SendLogout(ctx context.Context, token string) (*Answer, error) {
	return c.do(ctx, sending{
		method: http.MethodPost, path: backchannelPath, header: make(http.Header), form: url.Values{"logout_token": {token}},
	})
}

// The endpoints of a site that have to do with logout.
const (
	logoutPath       = "/oauth2/logout"
	backchannelPath  = "/oauth2/backchannel-logout"
	frontchannelPath = "/oauth2/frontchannel-logout"
)

func pageHeader(site string) http.Header {
	return http.Header{
		"Accept":         {"text/html,*/*;q=0.8"},
		"Sec-Fetch-Mode": {"navigate"},
		"Sec-Fetch-Dest": {"document"},
		"Sec-Fetch-Site": {site},
	}
}

func fetchHeader() http.Header {
	return http.Header{"Accept": {"application/json"}, "Sec-Fetch-Mode": {"cors"}, "Sec-Fetch-Dest": {"empty"}, "Sec-Fetch-Site": {"same-origin"}}
}

// sending is a request to be made.
type sending struct {
	method  string // GET by default
	path    string
	header  http.Header
	form    url.Values
	jar     http.CookieJar
	follows bool // redirects
}

func (c *Client) do(ctx context.Context, s sending) (*Answer, error) {
	answer := new(Answer)
	request, err := http.NewRequestWithContext(ctx, s.method, c.origin+s.path, strings.NewReader(s.form.Encode()))
	if err != nil {
		return answer, err
	}
	request.Header = s.header
	if s.form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	redirect := func(*http.Request, []*http.Request) error {
		if answer.Hops++; answer.Hops > maxRedirects {
			return errors.New("too many redirects")
		}
		return nil
	}
	if !s.follows {
		redirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	client := http.Client{Transport: c.front, Jar: s.jar, CheckRedirect: redirect}
	began := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	answer.Status, answer.Header, answer.Body = response.StatusCode, response.Header, string(text)
	answer.URL, answer.Duration = response.Request.URL.String(), time.Since(began)
	return answer, err
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
