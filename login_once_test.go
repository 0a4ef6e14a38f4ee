package openidconnect

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// What a callback never does: redeem a code twice, redeem one for nobody, or take what is too much.

func TestSection7ParallelAndRepeatedCallbacksRedeemOnce(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		fail bool
	}{{"succeeding", false}, {"failing", true}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			s := newLoginSite(t, p, "userinfo on")
			v := newVisitor(t, s, p)
			v.later(0) // from now on time passes here alone
			request := v.begin("/x?y=z")
			target := request.Get("redirect_uri") + "?" + v.answerTo(request).Encode()
			cookies := "Cookie: " + cookieHeader(v)
			if test.fail {
				p.SetIDTokenClaims(func(claims optest.Claims) { claims["nonce"] = "another" })
			}

			// The provider keeps the first one waiting until all have been sent.
			release := make(chan struct{})
			p.Fail(optest.Token, optest.Fault{Wait: release, Times: 1})
			const callbacks = 20
			var sent, done sync.WaitGroup
			replies := make([]*reply, callbacks)
			for i := range replies {
				sent.Add(1)
				r := newRequest(t, http.MethodGet, target, nil, append([]string{cookies}, linked...)...)
				done.Go(func() {
					trace := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { sent.Done() }}
					transport := &http.Transport{}
					defer transport.CloseIdleConnections()
					replies[i] = send(t, transport, r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
				})
			}
			sent.Wait()
			p.WaitForHits(t, optest.Token, 1)
			close(release)
			done.Wait()
			if slices.Contains(replies, nil) {
				return
			}
			repeated := func() *reply {
				return roundTrip(t, http.DefaultTransport, newRequest(t, http.MethodGet, target, nil, append([]string{cookies}, linked...)...))
			}
			v.later(59 * time.Second)
			replies = append(replies, repeated(), repeated())
			for _, r := range replies {
				if test.fail {
					if r.StatusCode != 400 || !strings.Contains(r.body, "nonce_mismatch") || r.Header.Get("Location") != "" {
						t.Errorf("got %d: %s", r.StatusCode, r.body)
					}
					continue
				}
				if r.StatusCode != http.StatusFound || r.Header.Get("Location") != "/x?y=z" ||
					!slices.Equal(r.Header["Set-Cookie"], replies[0].Header["Set-Cookie"]) || len(r.Header["Set-Cookie"]) != 3 {
					t.Errorf("got %d, %v, want what the first got: %v", r.StatusCode, r.Header, replies[0].Header)
				}
			}
			wantHits(t, p, hits{}, hits{token: 1, userinfo: map[bool]int{false: 1, true: 0}[test.fail]})
			if n := p.CodeReuses(); n != 0 {
				t.Errorf("%d codes were presented twice", n)
			}

			// A minute later the login is spent, and a new one begins.
			v.later(2 * time.Second)
			r := repeated()
			location, _ := url.Parse(r.Header.Get("Location"))
			if r.StatusCode != http.StatusFound || !strings.HasPrefix(location.String(), p.Endpoint(optest.Authorize)) ||
				location.Query().Get("state") == request.Get("state") {
				t.Errorf("a minute later: %d %v", r.StatusCode, r.Header)
			}
			if p.Hits(optest.Token) != 1 || s.advance() != 0 {
				t.Errorf("%d token requests", p.Hits(optest.Token))
			}
		})
	}
}

func TestSection7TheBrowserDoesNotWaitAndTheLoginIsThereAllTheSame(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	v := newVisitor(t, s, p)
	request := v.begin("/")
	answer := v.answerTo(request)
	release := make(chan struct{})
	p.Fail(optest.Token, optest.Fault{Wait: release, Times: 1})
	ctx, leave := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, request.Get("redirect_uri")+"?"+answer.Encode(), nil)
	r.Header.Set("Cookie", cookieHeader(v))
	r.Header.Set("Accept", "text/html")
	var left sync.WaitGroup
	left.Go(func() { s.ServeHTTP(httptest.NewRecorder(), r) })
	p.WaitForHits(t, optest.Token, 1)
	leave()
	close(release)
	left.Wait()
	v.wantRedirect(v.arrive(request, answer), "/") // the reload
	wantHits(t, p, hits{}, hits{token: 1})
	v.wantSession(true)
}

func TestSection7PrefetchAndHeadNeverRedeem(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	v := newVisitor(t, s, p)
	request := v.begin("/x")
	answer := v.answerTo(request)
	target := request.Get("redirect_uri") + "?" + answer.Encode()
	before := hitsOf(p)
	for _, headers := range [][]string{
		{"Sec-Purpose: prefetch"}, {"Sec-Purpose: prefetch;prerender"}, {"Purpose: prefetch"}, {"X-Moz: prefetch"},
	} {
		r := v.Get(target, append(headers, linked...)...)
		v.wantRefusal(r, 401, "no_credentials")
		if r.Header.Get("Set-Cookie") != "" {
			t.Errorf("%q: Set-Cookie %q", headers, r.Header.Values("Set-Cookie"))
		}
	}
	r := v.Do(http.MethodHead, target, "", linked...)
	if r.Status != http.StatusUnauthorized || r.Header.Get("Set-Cookie") != "" || r.Header.Get("Location") != "" {
		t.Errorf("HEAD got %d, %v", r.Status, r.Header)
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch} {
		if r := v.Do(method, target, "", linked...); r.Status != http.StatusMethodNotAllowed || r.Header.Get("Allow") != "GET" {
			t.Errorf("%s got %d, Allow %q", method, r.Status, r.Header.Get("Allow"))
		}
	}
	t.Run("nor does early data", func(t *testing.T) {
		r := httptest.NewRequest(http.MethodGet, target, nil)
		r.Header.Set("Cookie", cookieHeader(v))
		r.TLS = &tls.ConnectionState{HandshakeComplete: false}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != http.StatusTooEarly {
			t.Errorf("got %d", w.Code)
		}
	})
	wantHits(t, p, before, hits{})
	v.wantRedirect(v.arrive(request, answer), "/x") // and then the user comes
	wantHits(t, p, before, hits{token: 1})
}

func TestSection7ANewLoginStartsOnlyForANavigation(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	v := newVisitor(t, s, p)
	request := v.begin("/x")
	v.ClearCookies()
	target := request.Get("redirect_uri") + "?" + v.answerTo(request).Encode()
	before := hitsOf(p)
	for _, headers := range [][]string{
		nil,
		{"Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Accept: text/html"},
		{"Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"},
		{"Accept: application/json"},
	} {
		v.wantRefusal(v.Get(target, headers...), 400, "transaction_missing")
		v.wantRefusal(v.Get(request.Get("redirect_uri")+"?error=temporarily_unavailable&state="+request.Get("state"), headers...), 503,
			"provider_error")
		v.wantRefusal(v.Get(request.Get("redirect_uri"), headers...), 400, "transaction_missing")
	}
	v.wantPage(v.Get(target, "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"), 400, "transaction_missing")
	wantHits(t, p, before, hits{})
	v.wantLogin(v.Get(target, linked...))
}

func TestSection7AtMostEightTransactionsOfFourKilobytesTogether(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	size := func(v *visitor) (n int) {
		for _, cookie := range v.kept(isTransactionName) {
			n += len(cookie.Name) + len(cookie.Value)
		}
		return n
	}
	for name, path := range map[string]string{"short": "/", "long": "/" + strings.Repeat("x", 900)} {
		t.Run(name, func(t *testing.T) {
			v := newVisitor(t, s, p)
			defer func() { s.handler.runtime.now = time.Now }()
			requests := make([]url.Values, 20)
			most := 0
			for i := range requests {
				requests[i] = v.begin(path + "?tab=" + string(rune('a'+i)))
				most = max(most, len(v.kept(isTransactionName)))
				if n := size(v); n > 4<<10 {
					t.Fatalf("%d bytes of transactions", n)
				}
				v.later(time.Second) // by which the oldest can be told
			}
			if name == "short" && most != 8 || name == "long" && (most < 2 || most > 4) {
				t.Errorf("the browser had %d transactions at most", most)
			}
			before := hitsOf(p)
			for i := range most { // the newest are there, in whatever order their tabs finish
				at := len(requests) - most + (i*5+3)%most
				v.wantRedirect(v.arrive(requests[at], v.answerTo(requests[at])), path+"?tab="+string(rune('a'+at)))
			}
			wantHits(t, p, before, hits{token: most})
			v.wantRedirect(v.arrive(requests[0], v.answerTo(requests[0])), returnInState(path+"?tab=a")) // the oldest is gone
			wantHits(t, p, before, hits{token: most})
		})
	}
}

// returnInState is how much of a return URL the state parameter holds.
func returnInState(target string) string {
	if len(target) <= 512 {
		return target
	}
	return "/"
}

func TestSection7FifteenMinutes(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	v := newVisitor(t, s, p)
	v.later(0) // from now on time passes here alone
	request := v.begin("/x")
	late := v.clone()
	v.later(15*time.Minute - time.Second)
	p.Advance(15 * time.Minute)
	v.wantRedirect(v.arrive(request, v.answerTo(request)), "/x")
	late.later(time.Second) // the site's clock, and the browser's is the same
	late.Now = nil          // but let that be slow
	before := hitsOf(p)
	late.wantLogin(late.arrive(request, late.answerTo(request)))
	wantHits(t, p, before, hits{})
}

// Too much of anything is refused before anybody else hears of it (S-137, S-145).
func TestSection7ExcessiveResponses(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	v := newVisitor(t, s, p)
	request := v.begin("/")
	good := v.answerTo(request).Encode()
	before := hitsOf(p)
	for name, query := range map[string]string{
		"a code of 100 KB":      "state=" + request.Get("state") + "&code=" + strings.Repeat("x", 100<<10),
		"a state of 100 KB":     "code=x&state=" + strings.Repeat("x", 100<<10),
		"a thousand parameters": good + strings.Repeat("&a=b", 1000),
		"100,000 of them":       good + strings.Repeat("&a=b", 100_000),
	} {
		r := v.Get(request.Get("redirect_uri")+"?"+query, linked...)
		v.wantPage(r, 400, "provider_error")
		if len(v.kept(isTransactionName)) != 1 {
			t.Errorf("%s has ended the login", name)
		}
	}
	for name, query := range map[string]string{
		"code twice": good + "&code=x", "state twice": good + "&state=x", "iss twice": good + "&iss=x&iss=y", "error twice": good +
			"&error=x&error=y",
		"code twice, once encoded": good + "&%63ode=x", "the same code twice": good + "&" + good,
	} {
		t.Run(name, func(t *testing.T) {
			v := *v
			v.t = t
			v.wantPage(v.Get(request.Get("redirect_uri")+"?"+query, linked...), 400, "duplicate_parameter")
		})
	}
	wantHits(t, p, before, hits{})
	v.wantRedirect(v.Get(request.Get("redirect_uri")+"?"+good, linked...), "/")
	for name, change := range map[string]func(answer url.Values){
		"no code": func(answer url.Values) { answer.Del("code") }, "an empty code": func(answer url.Values) { answer.Set("code", "") },
		"a list of codes": func(answer url.Values) {
			answer.Set("code[]", answer.Get("code"))
			answer.Del("code")
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVisitor(t, s, p)
			request := v.begin("/")
			answer := v.answerTo(request)
			change(answer)
			before := hitsOf(p)
			v.wantPage(v.arrive(request, answer), 400, "provider_error")
			wantHits(t, p, before, hits{})
		})
	}
}
