package openidconnect

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

func TestSection4CookieThatDoesNotOpenIsAsIfThereWereNone(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "unauth_action pass /public/*\nsession {\nabsolute_timeout 1h\n}")
	v := newVisitor(t, s, p)
	v.signIn("/")
	cookie := v.kept(isSessionName)[0]
	for name, header := range map[string]string{
		"empty": "=", "one byte": "=x", "random": "=" + randomText(), "base64 of a wrong length": "=" + strings.Repeat("A", 64),
		"truncated": "=" + cookie.Value[:len(cookie.Value)-1], "bit flipped first": "=" + flipped(cookie.Value, 1),
		"bit flipped in the middle": "=" + flipped(cookie.Value, len(cookie.Value)/2),
		"8 KB":                      "=" + strings.Repeat("A", 8<<10), "not ASCII": "=\u00e4\u00f6", "a chunk alone": ".1=" + cookie.Value,
		"two halves": ".0=" + cookie.Value[:20] + "; " + cookie.Name + ".1=" + cookie.Value[10:],
		"many chunks": func() string {
			var chunks strings.Builder
			for i := range 90 {
				fmt.Fprintf(&chunks, ".%d=%s; %s", i, "AAAA", cookie.Name)
			}
			return chunks.String() + "=x"
		}(),
		"a transaction's name": "-t-abcdefghij=" + cookie.Value,
	} {
		t.Run(name, func(t *testing.T) {
			v := newVisitor(t, s, p)
			sent := "Cookie: a=b; " + cookie.Name + header
			r := v.Get(v.url("/"), sent)
			v.wantRefusal(r, 401, "no_credentials")
			if got := r.Header.Values("Set-Cookie"); got != nil {
				t.Errorf("a script's answer deletes %q", got)
			}
			r = v.open("/", sent)
			v.wantLogin(r)
			if deleted := strings.Join(r.Header.Values("Set-Cookie"), "\n"); !strings.Contains(header, "-t-") && !strings.Contains(deleted,
				"=; Max-Age=0") {
				t.Errorf("a page's answer does not delete the cookie: %q", deleted)
			}
			if r := v.Get(v.url("/public/"), sent); r.Status != http.StatusOK || s.last(t).Header.Get("Cookie") != "a=b" {
				t.Errorf("a public page got %d, the upstream %q", r.Status, s.last(t).Header.Get("Cookie"))
			}
			s.advance()
		})
	}
	t.Run("the good one opens, also beside a bad one of the same name", func(t *testing.T) {
		v := newVisitor(t, s, p)
		for _, sent := range []string{
			cookie.Name + "=" + cookie.Value, cookie.Name + "=x; " + cookie.Name + "=" + cookie.Value, cookie.Name + "=" + cookie.Value + "; " +
				cookie.Name + "=x",
		} {
			if r := v.open("/", "Cookie: "+sent); r.Status != http.StatusOK {
				t.Errorf("%.60s…: status %d", sent, r.Status)
			}
			s.advance()
		}
	})
	t.Run("of another user beside it opens nothing", func(t *testing.T) {
		p.SetUser(optest.Claims{"sub": "mallory"})
		defer p.SetUser(nil)
		mallory := newVisitor(t, s, p)
		mallory.signIn("/")
		both := cookie.Name + "=" + cookie.Value + "; " + cookie.Name + "=" + mallory.kept(isSessionName)[0].Value
		v.wantRefusal(v.Get(v.url("/"), "Cookie: "+both), 401, "no_credentials")
	})
	t.Run("expired", func(t *testing.T) {
		v := v.clone()
		v.later(time.Hour)
		v.Now = nil // the browser's clock is slow
		v.wantRefusal(v.Get(v.url("/")), 401, "no_credentials")
		v.wantLogin(v.open("/"))
	})
}
