package main

import (
	"net/http"
	"strings"
	"testing"
)

// TestJudge takes the answers that are promised, and none that differs from them in one thing.
func TestJudge(t *testing.T) {
	t.Parallel()
	const provider, mark = "http://id.test", "protected-mark"
	refused := `{"error":"login_required","reason":"no_credentials","request_id":"1"}`
	headers := func(pairs ...string) http.Header {
		header := http.Header{"Server": {"Caddy"}, "Cache-Control": {"no-store"}}
		for i := 0; i < len(pairs); i += 2 {
			header.Set(pairs[i], pairs[i+1])
		}
		return header
	}
	challenge := []string{"Www-Authenticate", "Bearer realm=\"openid_connect\""}
	for _, test := range []struct {
		name     string
		question question
		answer   answer
		fine     bool
	}{
		{"let in", question{mayEnter: true}, answer{status: 200, header: headers("Cache-Control", "private"), body: []byte(mark + " alice")}, true},
		{"let in, for caches", question{mayEnter: true}, answer{status: 200, header: headers("Cache-Control", "public"), body: []byte(mark)}, false},
		{"let in without credentials", question{}, answer{status: 200, header: headers("Cache-Control", "private"), body: []byte(mark)}, false},
		{"let in, by the header", question{}, answer{status: 204, header: headers(markHeader, mark)}, false},
		{"an empty page", question{}, answer{status: 200, header: headers()}, false},
		{"an endpoint", question{own: true}, answer{status: 200, header: headers()}, true},
		{"a login", question{navigates: true}, answer{status: 302, header: headers("Location", provider+"/authorize?state=1")}, true},
		{"a login for a script", question{}, answer{status: 302, header: headers("Location", provider+"/authorize")}, false},
		{"a login that is stored", question{navigates: true}, answer{status: 302, header: headers("Location", provider+"/a", "Cache-Control", "")}, false},
		{"a login elsewhere", question{navigates: true}, answer{status: 302, header: headers("Location", provider+".evil.test/")}, false},
		{"the end of a login", question{own: true}, answer{status: 302, header: headers("Location", "/page")}, true},
		{"the end of a login elsewhere", question{own: true}, answer{status: 302, header: headers("Location", "//evil.test")}, false},
		{"the end of a login at an origin", question{own: true}, answer{status: 302, header: headers("Location", "http://evil.test/")}, false},
		{"401", question{}, answer{status: 401, header: headers(challenge...), body: []byte(refused)}, true},
		{"401 without a challenge", question{}, answer{status: 401, header: headers(), body: []byte(refused)}, false},
		{"401 with a place to go", question{}, answer{status: 401, header: headers(append(challenge, "Location", "/")...), body: []byte(refused)}, false},
		{"401 without a reason", question{}, answer{status: 401, header: headers(challenge...), body: []byte(`{"error":"a","request_id":"1"}`)}, false},
		{"503", question{}, answer{status: 503, header: headers("Retry-After", "1"), body: []byte(refused)}, true},
		{"503 without a pause", question{}, answer{status: 503, header: headers(), body: []byte(refused)}, false},
		{"503 with a page", question{}, answer{
			status: 503, header: headers("Retry-After", "5", "Content-Type", "text/html; charset=utf-8"), body: []byte("<!DOCTYPE html>"),
		}, true},
		{"502 of a login", question{own: true}, answer{status: 502, header: headers(), body: []byte(refused)}, true},
		{"502 elsewhere", question{}, answer{status: 502, header: headers(), body: []byte(refused)}, false},
		{"500", question{own: true, broken: true}, answer{status: 500, header: headers(), body: []byte(refused)}, false},
		{"404", question{own: true, broken: true}, answer{status: 404, header: headers()}, false},
		{"405 of an endpoint", question{own: true}, answer{status: 405, header: headers("Allow", "GET")}, true},
		{"405 without Allow", question{own: true}, answer{status: 405, header: headers()}, false},
		{"Go's server, of what is no HTTP", question{broken: true}, answer{status: 400, header: http.Header{}, body: []byte("400 Bad Request")}, true},
		{"Go's server, of what is HTTP", question{}, answer{status: 400, header: http.Header{}, body: []byte("400 Bad Request")}, false},
		{"Caddy, of a strange host", question{oddHost: true}, answer{status: 400, header: http.Header{"Server": {"Caddy"}}}, true},
		{"Caddy, of a good host", question{}, answer{status: 400, header: http.Header{"Server": {"Caddy"}}}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.question.method, test.question.provider, test.question.mark = http.MethodGet, provider, mark
			if problem := test.question.judge(&test.answer); (problem == "") != test.fine {
				t.Errorf("judged %q, want fine: %t", problem, test.fine)
			}
		})
	}
}

// TestIsOpen knows how a path can pretend to be one of those that are open.
func TestIsOpen(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{
		"/open/a": true, "/OPEN/a": true, "//open/a": true, "/open/a/../b": true,
		"/open/../api": false, `/open\..\api`: false, "/open/..;/api": false, "/open/a/..;x=y/../api": false, "/opened": false, "/": false,
	} {
		if got := isOpen(path); got != want {
			t.Errorf("%s: %t, want %t", path, got, want)
		}
	}
}

// TestHeld wants every byte of every cookie of a session.
func TestHeld(t *testing.T) {
	t.Parallel()
	l := &loot{tokens: []string{"token"}, sessions: [][]*http.Cookie{{{Name: "a.0", Value: "first"}, {Name: "a.1", Value: "second"}}}}
	for request, want := range map[string]bool{
		"Authorization: Bearer token": true, "Authorization: Bearer toke": false, "": false,
		"Cookie: a.0=first; a.1=second": true, "Cookie: a.0=first; a.1=secon": false,
	} {
		if got := l.held(request); got != want {
			t.Errorf("%q: %t, want %t", request, got, want)
		}
	}
}

// TestFits lets nothing grow but what there is room for.
func TestFits(t *testing.T) {
	t.Parallel()
	before := usage{goroutines: 10, descriptors: 10, heap: 10 << 20, resident: 80 << 20}
	if !before.fits(before, room{}) {
		t.Error("the same does not fit")
	}
	for name, grow := range map[string]func(*usage){
		"goroutines":  func(u *usage) { u.goroutines += moreGoroutines + 1 },
		"descriptors": func(u *usage) { u.descriptors += moreDescriptors + 1 },
		"heap":        func(u *usage) { u.heap += moreHeap + 1 },
		"resident":    func(u *usage) { u.resident += moreResident + 1 },
	} {
		after := before
		grow(&after)
		if after.fits(before, room{}) {
			t.Errorf("more %s fits", name)
		}
	}
}

// TestEntered finds the mark wherever it is.
func TestEntered(t *testing.T) {
	t.Parallel()
	a := &answer{header: make(http.Header), body: []byte(strings.Repeat("x", 1000) + "mark")}
	if !a.entered("mark") || a.entered("other") {
		t.Error("the mark in the body is not found, or another one is")
	}
}
