package openidconnect

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Chunks are joined in their order and no other, and whatever is in the way of that costs nobody more than a login (S-180).
func TestS178Chunks(t *testing.T) {
	t.Parallel()
	p := quickProvider(t)
	s := newSecureLoginSite(t, p, "unauth_action pass /public/*")
	chunksOf := func(v *visitor) (cookies []*http.Cookie) {
		p.SetUser(optest.Claims{"sub": "alice", "groups": manyTexts(180)})
		v.signIn("/")
		return v.kept(isSessionName)
	}
	v := newVisitor(t, s, p)
	a, b := chunksOf(v), chunksOf(newVisitor(t, s, p))
	p.SetUser(nil)
	if len(a) != 3 || len(b) != 3 {
		t.Fatalf("%d and %d chunks, want 3", len(a), len(b))
	}
	name := strings.TrimSuffix(a[0].Name, ".0")
	chunk := func(index, value string) string { return name + "." + index + "=" + value }
	line := func(pairs ...string) string { return strings.Join(pairs, "; ") }
	first, second, third := chunk("0", a[0].Value), chunk("1", a[1].Value), chunk("2", a[2].Value)
	for _, good := range []string{
		line(first, second, third), line(third, first, second), line("x=y", second, "z=", third, first),
		line(first, second, third, chunk("3", "AAAA")), line(first, second, third, chunk("17", "AAAA")),
		line(first, second, third, name+"=AAAA"), line(name+"=", first, second, third),
	} {
		v.wantOpen(good)
	}
	for what, bad := range map[string]string{
		"without the first": line(second, third), "without the second": line(first, third), "without the last": line(first, second),
		"the first alone": first, "the last alone": third,
		"exchanged":                    line(chunk("0", a[1].Value), chunk("1", a[0].Value), third),
		"from 1":                       line(chunk("1", a[0].Value), chunk("2", a[1].Value), chunk("3", a[2].Value)),
		"one of another session":       line(first, chunk("1", b[1].Value), third),
		"the last of another session":  line(first, second, chunk("2", b[2].Value)),
		"the first of another session": line(chunk("0", b[0].Value), second, third),
		"a cut one":                    line(first, chunk("1", a[1].Value[1:]), third),
		"the last too long":            line(first, second, chunk("2", a[2].Value+"A")),
		"an empty one":                 line(first, chunk("1", ""), third),
		"leading zeros":                line(chunk("00", a[0].Value), chunk("01", a[1].Value), chunk("02", a[2].Value)),
		"hexadecimal":                  line(chunk("0x0", a[0].Value), chunk("0x1", a[1].Value), chunk("0x2", a[2].Value)),
		"signs":                        line(chunk("+0", a[0].Value), chunk("-1", a[1].Value), third),
		"far away":                     line(chunk("99", a[0].Value), chunk("100", a[1].Value), chunk("4294967296", a[2].Value)),
		"an exponent":                  line(chunk("0e0", a[0].Value), second, third),
		"all in one":                   name + "=" + a[0].Value + a[1].Value + a[2].Value[:10],
	} {
		t.Run(what, func(t *testing.T) {
			v := newVisitor(t, s, p)
			if v.wantShut(bad) && !slices.Contains([]string{"signs", "hexadecimal", "an exponent", "an empty one", "all in one"}, what) {
				v.wantAsNone(bad) // the others no browser has from us
			}
		})
	}
	t.Run("two hundred strays", func(t *testing.T) {
		var pairs []string
		for i := range 200 {
			pairs = append(pairs, chunk(fmt.Sprint(i+3), "A"))
		}
		v := newVisitor(t, s, p)
		v.wantOpen(line(append(pairs, first, second, third)...))
		v.wantShut(line(pairs...))
	})
	t.Run("all of them deleted, as they were set", func(t *testing.T) {
		v := v.clone()
		v.later(25 * time.Hour)
		v.Now = nil // the browser's clock has stopped
		r := v.open("/x")
		v.wantLogin(r)
		if deleted := deletedIn(r); !slices.Equal(deleted, []string{name + ".0", name + ".1", name + ".2"}) {
			t.Errorf("deleted %q", deleted)
		}
		if left := v.kept(isSessionName); len(left) != 0 || len(v.Dropped) != 0 {
			t.Errorf("the browser has %v, and dropped %v", left, v.Dropped)
		}
	})
}
