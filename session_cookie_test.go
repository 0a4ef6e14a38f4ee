package openidconnect

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// What is not exactly a cookie of ours is as if there were none: it opens nothing, it is no error, and a page's answer deletes it.

// cookieSite is a site with somebody who is signed in, and a public part.
func cookieSite(t *testing.T, settings string) (*site, *visitor) {
	t.Helper()
	p := quickProvider(t)
	s := newSecureLoginSite(t, p, settings+"\nunauth_action pass /public/*")
	v := newVisitor(t, s, p)
	v.signIn("/")
	return s, v
}

// wantOpen checks that these cookies are a session.
func (v *visitor) wantOpen(cookies string) {
	v.t.Helper()
	if r := v.Get(v.url("/"), "Cookie: "+cookies); r.Status != http.StatusOK || v.site.advance() != 1 {
		v.t.Fatalf("the good cookie got %d: %s", r.Status, shown(r))
	}
}

// wantShut checks that a program with these cookies gets what it would get without.
func (v *visitor) wantShut(cookies string) bool {
	v.t.Helper()
	r := v.Get(v.url("/"), "Cookie: "+cookies)
	if n := v.site.advance(); r.Status != http.StatusUnauthorized || !strings.Contains(r.Body, `"reason":"no_credentials"`) || n != 0 {
		v.t.Errorf("got %d, %d requests reached the upstream: %s", r.Status, n, shown(r))
		return false
	}
	if got := r.Header.Values("Set-Cookie"); got != nil {
		v.t.Errorf("the answer to a program sets %q", got)
		return false
	}
	return true
}

// wantAsNone checks that these cookies, which a browser has, are as if there were none wherever they are sent.
func (v *visitor) wantAsNone(cookies string) {
	v.t.Helper()
	v.wantShut("a=b; " + cookies)
	if r := v.Get(v.url("/public/"), "Cookie: a=b; "+cookies); r.Status != http.StatusOK || v.site.advance() != 1 {
		v.t.Errorf("a public page got %d: %s", r.Status, shown(r))
	} else if got := v.site.last(v.t).Header["Cookie"]; len(got) != 1 || got[0] != "a=b" {
		v.t.Errorf("the upstream got the cookies %q", got)
	}
	r := v.Get(v.url("/oauth2/session"), "Cookie: "+cookies)
	if r.Status != http.StatusOK || !strings.Contains(r.Body, `"authenticated":false`) {
		v.t.Errorf("/session answers %d: %s", r.Status, r.Body)
	}

	b := newVisitor(v.t, v.site, v.provider)
	b.Now = v.Now
	for pair := range strings.SplitSeq(cookies, "; ") {
		name, value, _ := strings.Cut(pair, "=")
		b.SetCookie(b.url("/"), &http.Cookie{Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true})
	}
	if len(b.kept(isSessionName)) == 0 {
		v.t.Fatalf("the browser has dropped %.100q: %v", cookies, b.Dropped)
	}
	request := b.wantLogin(b.open("/x"))
	if left := b.kept(isSessionName); len(left) != 0 {
		v.t.Errorf("the browser still has %d cookies, the first is %s", len(left), left[0].Name)
	}
	b.wantRedirect(b.arrive(request, b.answerTo(request)), "/x")
	if r := b.open("/x"); r.Status != http.StatusOK {
		v.t.Errorf("after the next login a page got %d: %s", r.Status, shown(r))
	}
	v.site.advance()
}

// spoiled are texts that are no sealed value any more.
func spoiled(value string) map[string]string {
	last := len(value) - 1
	return map[string]string{
		"empty": "", "one byte": value[:1], "only the version": value[:2], "no tag": value[:last-21], "first byte missing": value[1:],
		"last byte missing": value[:last],
		"one byte more":     value + "A", "padded": value + "=", "with a dot": value + ".", "with a tilde": value + "~",
		"twice": value + value, "turned round": reversed(value),
		"upper case": strings.ToUpper(value), "another alphabet": strings.NewReplacer("-", "+", "_", "/").Replace(value) + "+/",
		"quoted":  `"` + value + `"`,
		"encoded": strings.ReplaceAll(url.QueryEscape(value), "-", "%2D") + "%3D", "a space in it": value[:20] + " " + value[20:],
		"a tab in it": value[:20] + "\t" + value[20:],
		"zeros":       strings.Repeat("A", len(value)), "another version": "B" + value[1:],
		"another key": value[:4] + flipped(value[4:], 0), "another nonce": flipped(value, 20),
		"another text": flipped(value, len(value)/2),
		"another tag":  flipped(value, last-10),
		"loose bits":   value[:last] + looseBits(value),
	}
}

func reversed(text string) string {
	letters := []byte(text)
	slices.Reverse(letters)
	return string(letters)
}

// looseBits is the last letter of a base64 text with its last bit changed, which mostly stands for nothing.
func looseBits(value string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, value[len(value)-1])^1:][:1]
}

func TestS178SessionCookies(t *testing.T) {
	t.Parallel()
	for storage, settings := range map[string]string{"cookie": "", "caddy": "session {\nstorage caddy\n}"} {
		t.Run(storage, func(t *testing.T) {
			t.Parallel()
			s, v := cookieSite(t, settings)
			good := v.kept(isSessionName)[0]
			name, value := good.Name, good.Value
			v.wantOpen(name + "=" + value)
			for what, text := range spoiled(value) {
				t.Run(what, func(t *testing.T) {
					v := newVisitor(t, s, v.provider)
					if !v.wantShut(name+"="+text) || text == "" || strings.ContainsAny(text, " \t\"") {
						return // what a browser would not have
					}
					v.wantAsNone(name + "=" + text)
				})
			}
			for i := range value {
				if !v.wantShut(name + "=" + flipped(value, i)) {
					t.Fatalf("with byte %d changed", i)
				}
				if !v.wantShut(name + "=" + value[:i]) {
					t.Fatalf("with %d bytes of it", i)
				}
			}
			v.wantOpen(name + "=" + value)
		})
	}
}

// A value is for its own place alone.
func TestS178ValuesInEachOthersPlace(t *testing.T) {
	t.Parallel()
	s, v := cookieSite(t, "")
	_, other := cookieSite(t, "session {\nstorage caddy\n}")
	session, stored := v.kept(isSessionName)[0], other.kept(isSessionName)[0]
	request := v.wantLogin(v.open("/oauth2/login?prompt=login"))
	transaction := v.kept(isTransactionName)[0]
	v.wantOpen(session.Name + "=" + session.Value)

	t.Run("as a session", func(t *testing.T) {
		for what, value := range map[string]string{
			"a transaction": transaction.Value, "a state": request.Get("state"), "a stored session": stored.Value,
		} {
			t.Run(what, func(t *testing.T) {
				newVisitor(t, s, v.provider).wantAsNone(session.Name + "=" + value)
			})
		}
	})
	t.Run("as a state", func(t *testing.T) {
		for what, value := range map[string]string{"a transaction": transaction.Value, "a session": session.Value} {
			t.Run(what, func(t *testing.T) {
				v := newVisitor(t, s, v.provider)
				v.begin("/") // so that a state which does not open was tampered with
				answer := url.Values{"code": {v.provider.NewCode(request)}, "state": {value}}
				v.wantPage(v.arrive(request, answer), http.StatusBadRequest, "state_mismatch")
			})
		}
	})
	t.Run("as a transaction", func(t *testing.T) {
		for what, value := range map[string]string{"a session": session.Value, "a state": request.Get("state")} {
			t.Run(what, func(t *testing.T) {
				v := newVisitor(t, s, v.provider)
				calls := v.provider.Hits(optest.Token)
				v.wantLogin(v.Get(callbackURL(request, v.answerTo(request)), append(slices.Clone(linked), "Cookie: "+transaction.Name+"="+value)...))
				if n := v.provider.Hits(optest.Token) - calls; n != 0 {
					t.Errorf("%d codes were redeemed", n)
				}
			})
		}
	})
	t.Run("under another name", func(t *testing.T) {
		plain := strings.TrimPrefix(session.Name, "__Host-")
		for _, name := range []string{
			plain, "__Secure-" + plain, "__host-" + plain, session.Name + "-loop", transaction.Name, session.Name + "x",
			strings.ToUpper(session.Name),
		} {
			newVisitor(t, s, v.provider).wantShut(name + "=" + session.Value)
		}
		v := newVisitor(t, s, v.provider)
		misnamed := flipped(transaction.Name, len(transaction.Name)-1) + "=" + transaction.Value
		v.wantLogin(v.Get(callbackURL(request, v.answerTo(request)), append(slices.Clone(linked), "Cookie: "+misnamed)...))
	})
	v.wantRedirect(v.arrive(request, v.answerTo(request)), "/") // it was a good one
}

func callbackURL(request, answer url.Values) string {
	return request.Get("redirect_uri") + "?" + answer.Encode()
}

func TestS178Transactions(t *testing.T) {
	t.Parallel()
	p := quickProvider(t)
	s := newLoginSite(t, p, "")
	v := newVisitor(t, s, p)
	request := v.begin("/x")
	good := v.kept(isTransactionName)[0]
	other := newVisitor(t, s, p)
	other.begin("/y")
	values := spoiled(good.Value)
	values["of another login"] = other.kept(isTransactionName)[0].Value
	for i := 0; i < len(good.Value); i += 7 {
		values[fmt.Sprintf("byte %d", i)] = flipped(good.Value, i)
	}
	for what, value := range values {
		calls := hitsOf(p)
		r := newVisitor(t, s, p).Get(callbackURL(request, v.answerTo(request)), append(slices.Clone(linked), "Cookie: "+good.Name+"="+value)...)
		v.wantLogin(r) // and not a 400: the user has done nothing wrong
		if strings.Contains(what, "byte") {
			if deleted := deletedIn(r); !slices.Contains(deleted, good.Name) {
				t.Errorf("%s: deleted %q", what, deleted)
			}
		}
		wantHits(t, p, calls, hits{})
	}
	v.wantRedirect(v.arrive(request, v.answerTo(request)), "/x")

	// it is spent: not for another browser with the same cookies, and not for the same one a minute later
	stolen := "Cookie: " + good.Name + "=" + good.Value
	calls := hitsOf(p)
	v.later(61 * time.Second)
	v.wantLogin(newVisitor(t, s, p).Get(callbackURL(request, v.answerTo(request)), append(slices.Clone(linked), stolen)...))
	v.wantRedirect(v.Get(callbackURL(request, v.answerTo(request)), append(slices.Clone(linked), stolen+"; "+cookieHeader(v))...), "/x")
	wantHits(t, p, calls, hits{})
}

// deletedIn are the names of the cookies that an answer deletes.
func deletedIn(r *optest.Response) (names []string) {
	for _, cookie := range r.Steps[len(r.Steps)-1].SetCookies {
		if cookie.MaxAge < 0 {
			names = append(names, cookie.Name)
		}
	}
	return names
}

// The state is sealed too (S-204): nobody chooses where a login ends.
func TestS178States(t *testing.T) {
	t.Parallel()
	p := quickProvider(t)
	s := newLoginSite(t, p, "")
	v := newVisitor(t, s, p)
	request := v.begin("/x")
	state, code := request.Get("state"), p.NewCode(request)
	calls := hitsOf(p)
	values := spoiled(state)
	delete(values, "empty")
	for i := range state {
		values[fmt.Sprintf("byte %d", i)] = flipped(state, i)
	}
	for what, value := range values {
		r := v.clone().arrive(request, url.Values{"code": {code}, "state": {value}})
		v.wantPage(r, http.StatusBadRequest, "state_mismatch")
		if t.Failed() {
			t.Fatalf("with a state that is %s", what)
		}
	}
	wantHits(t, p, calls, hits{})
	v.wantRedirect(v.arrive(request, url.Values{"code": {code}, "state": {state}}), "/x")
}

// How long a session lives is said inside of the seal, and judged by our clock (S-184).
func TestS184ClocksAreInsideOfTheSeal(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings       string
		alive, expired time.Duration
	}{
		"absolute": {"session {\nabsolute_timeout 2h\n}", 2*time.Hour - time.Second, 2 * time.Hour},
		"idle":     {"session {\nabsolute_timeout 2h\nidling_timeout 10m\n}", 10*time.Minute - time.Second, 10 * time.Minute},
		"in a store": {
			"session {\nstorage caddy\nabsolute_timeout 2h\nidling_timeout 10m\n}", 10*time.Minute - time.Second, 10 * time.Minute,
		},
		"for the browser's time": {"session {\ncookie_persistent off\nabsolute_timeout 2h\n}", 2*time.Hour - time.Second, 2 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, v := cookieSite(t, test.settings)
			start := s.handler.runtime.now().Truncate(time.Second) // which sessions keep
			s.setNow(start)
			v = newVisitor(t, s, v.provider)
			v.signIn("/")
			copied := cookieHeader(v)
			s.setNow(start.Add(test.alive))
			v.wantOpen(copied)
			after := test.expired
			if name == "in a store" {
				after += test.alive // it is known there that it was used
			}
			s.setNow(start.Add(after))
			v.provider.Advance(after)
			v.wantAsNone(copied)
		})
	}
}

// Nobody can tell by the answer why a cookie opens nothing (S-179).
func TestS179BadCookiesAllLookAlike(t *testing.T) {
	t.Parallel()
	s, v := cookieSite(t, "session {\nabsolute_timeout 1h\n}")
	good := v.kept(isSessionName)[0]
	answers := make(map[string][]string)
	answer := func(what, cookie string) {
		r := v.Get(v.url("/"), "Cookie: "+cookie)
		header := maps.Clone(r.Header)
		delete(header, "Date")
		body, _, _ := strings.Cut(r.Body, `"request_id"`)
		text := fmt.Sprintln(r.Status, header, len(r.Body), body)
		answers[text] = append(answers[text], what)
	}
	answer("none", "a=b")
	for what, value := range spoiled(good.Value) {
		answer(what, good.Name+"="+value)
	}
	v.wantOpen(good.Name + "=" + good.Value)
	v.later(time.Hour)
	answer("expired", good.Name+"="+good.Value)
	if len(answers) != 1 {
		t.Errorf("there are %d sorts of answers: %q", len(answers), answers)
	}
	s.advance()
}
