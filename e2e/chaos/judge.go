package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// answer is what somebody got for a request.
type answer struct {
	status int
	header http.Header
	body   []byte
	took   time.Duration
}

// question is what is known of a request whose answer is judged.
type question struct {
	method    string
	own       bool // for one of the module's own endpoints
	mayEnter  bool // it carries credentials that are good
	navigates bool // it may be taken for a page that somebody opens
	broken    bool // it may not be HTTP
	oddHost   bool // Caddy may not take its Host for one
	provider  string
	mark      string // of what is protected
}

// statusClientClosed is what Caddy says where the client has closed its side, as if nobody were left to read it.
const statusClientClosed = 499

// serverStatuses are what Go's server says by itself, before Caddy sees anything, of what is not HTTP or too much of it.
var serverStatuses = []int{
	http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusExpectationFailed,
	http.StatusRequestHeaderFieldsTooLarge, http.StatusNotImplemented, http.StatusHTTPVersionNotSupported,
}

// entered reports whether an answer is the application's, about what is protected.
func (a *answer) entered(mark string) bool {
	return a.header.Get(markHeader) != "" || bytes.Contains(a.body, []byte(mark))
}

// refusal is what programs are told of a request that was refused.
type refusal struct {
	Error     string `json:"error"`
	Reason    string `json:"reason"`
	RequestID string `json:"request_id"`
}

// judge says what is wrong with an answer: it must be one of those that the documentation lists.
func (q *question) judge(a *answer) (problem string) {
	if a.entered(q.mark) {
		switch {
		case !q.mayEnter:
			return "the application was reached without credentials"
		case a.status == http.StatusOK && !strings.Contains(a.header.Get("Cache-Control"), "private"):
			return "an answer to somebody could be cached for everybody"
		}
		return ""
	}
	if a.header.Get("Server") == "" {
		if q.broken && slices.Contains(serverStatuses, a.status) || q.broken && a.status == http.StatusOK && len(a.body) == 0 { // OPTIONS *
			return ""
		}
		return fmt.Sprintf("status %d from nobody: %.200q", a.status, a.body)
	}
	switch a.status {
	case http.StatusBadRequest, statusClientClosed:
		if len(a.body) == 0 && a.header.Get("Content-Type") == "" && (q.broken || q.oddHost) {
			return "" // Caddy itself
		}
		return q.judgeRefusal(a)
	case http.StatusOK:
		if q.own || q.broken || strings.TrimSpace(string(a.body)) == "open" || q.method == http.MethodHead {
			return ""
		}
		return fmt.Sprintf("status 200 that is not the application's: %.200q", a.body)
	case http.StatusFound, http.StatusSeeOther:
		return q.judgeRedirect(a)
	case http.StatusMethodNotAllowed:
		if q.own && a.header.Get("Allow") != "" || q.broken && len(a.body) == 0 { // Caddy itself, of a method that is very long
			return ""
		}
		return "status 405 without Allow, or not of an endpoint"
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestEntityTooLarge, http.StatusServiceUnavailable:
		return q.judgeRefusal(a)
	case http.StatusBadGateway:
		if q.own || q.broken {
			return q.judgeRefusal(a)
		}
	}
	return fmt.Sprintf("status %d: %.300q", a.status, a.body)
}

// judgeRedirect wants a login at the provider, or the end of one.
func (q *question) judgeRedirect(a *answer) (problem string) {
	location := a.header.Get("Location")
	switch {
	case !strings.Contains(a.header.Get("Cache-Control"), "no-store"):
		return "a redirect that could be cached"
	case !q.navigates && !q.own && !q.broken:
		return "a redirect for what is no page: " + withoutQuery(location)
	case strings.HasPrefix(location, q.provider+"/"):
		return ""
	case !q.own && !q.broken:
		return "a redirect to " + withoutQuery(location)
	case strings.HasPrefix(location, "/") && !strings.HasPrefix(location, "//") && !strings.Contains(location, `\`):
		return ""
	}
	if target, err := url.Parse(location); err != nil || target.Scheme != "http" || target.Hostname() == "evil.test" {
		return "a redirect to " + withoutQuery(location)
	}
	return ""
}

// withoutQuery leaves out what is secret in an address.
func withoutQuery(address string) string {
	address, _, _ = strings.Cut(address, "?")
	return address
}

// judgeRefusal wants what a refusal has to have.
func (q *question) judgeRefusal(a *answer) (problem string) {
	challenge := a.header.Get("Www-Authenticate")
	switch {
	case a.header.Get("Location") != "":
		return fmt.Sprintf("status %d with a Location", a.status)
	case !strings.Contains(a.header.Get("Cache-Control"), "no-store"):
		return fmt.Sprintf("status %d that could be cached", a.status)
	case a.status == http.StatusUnauthorized && !strings.HasPrefix(challenge, "Bearer realm=") && !strings.HasPrefix(challenge, "DPoP realm="):
		return fmt.Sprintf("status 401 with the challenge %q", challenge)
	case a.status == http.StatusServiceUnavailable && !isPause(a.header.Get("Retry-After")):
		return fmt.Sprintf("status 503 with Retry-After %q", a.header.Get("Retry-After"))
	case q.method == http.MethodHead || q.broken && len(a.body) == 0:
		return ""
	}
	if strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
		if bytes.Contains(bytes.ToLower(a.body), []byte("<!doctype html>")) {
			return ""
		}
		return fmt.Sprintf("status %d with a page that is none", a.status)
	}
	if told := a.refusal(); told.Error == "" || told.Reason == "" || told.RequestID == "" {
		return fmt.Sprintf("status %d says %.200q", a.status, a.body)
	}
	return ""
}

// refusal reads what a program is told; it is empty for a page.
func (a *answer) refusal() (told refusal) {
	_ = json.Unmarshal(a.body, &told) // what cannot be read stays empty
	return told
}

func isPause(text string) bool {
	seconds, err := strconv.Atoi(text)
	return err == nil && seconds >= 1 && seconds <= 600
}
