package session

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// Each name is set once, and other lines stay where they are.
func TestWrite(t *testing.T) {
	t.Parallel()
	header := http.Header{"Set-Cookie": {"other=1", "sid=upstream; Path=/x", "sid.0=a"}}
	before := header["Set-Cookie"]
	Write(header, nil)
	Write(header, []string{"sid=first; Path=/", "x=y"})
	Write(header, []string{"sid=second; Path=/"})
	if got := fmt.Sprint(header["Set-Cookie"]); got != "[other=1 sid.0=a x=y sid=second; Path=/]" {
		t.Error(got)
	}
	if before[1] != "sid=upstream; Path=/x" {
		t.Error("the slice that was there was written to")
	}
}

// S-030: an upstream cannot set our cookies, and loses none of its own.
func TestFilterResponse(t *testing.T) {
	t.Parallel()
	standard := NewCookies(CookieConfig{DefaultName: "oidc-1a2b3c"})
	named := NewCookies(CookieConfig{Name: "sid"})
	hash := "-t-" + strings.Repeat("a", transactionHash)
	tests := []struct {
		cookies *Cookies
		line    string
		dropped bool
	}{
		{standard, "__Host-oidc-1a2b3c=evil; Path=/; Secure", true},
		{standard, "oidc-1a2b3c=evil", true},
		{standard, "oidc-1a2b3c=", true},
		{standard, "oidc-1a2b3c; Path=/", true},
		{standard, " \toidc-1a2b3c \t= evil", true},
		{standard, "=oidc-1a2b3c=evil", true},
		{standard, " = = oidc-1a2b3c=evil", true},
		{standard, "oidc-1a2b3c.0=evil", true},
		{standard, "__Host-oidc-1a2b3c.12=evil", true},
		{standard, "oidc-1a2b3c.012345=evil", true},
		{standard, "__Host-oidc-1a2b3c" + hash + "=evil", true},
		{standard, "oidc-1a2b3c" + hash + "=evil", true},
		{standard, "oidc-1a2b3c-loop=evil", true},
		{standard, "__Host-oidc-1a2b3c-loop=evil", true},
		{standard, "OIDC-1a2b3c=other name", false},
		{standard, "oidc-1a2b3d=other name", false},
		{standard, "oidc-1a2b3c.sig=other name", false},
		{standard, "oidc-1a2b3c-t=other name", false},
		{standard, "oidc-1a2b3c-t-short=other name", false},
		{standard, "xoidc-1a2b3c=other name", false},
		{standard, "a=oidc-1a2b3c=v", false},
		{standard, "a=b; oidc-1a2b3c=v", false},
		{standard, "", false},
		{named, "sid=evil", true},
		{named, "sid.1=evil", true},
		{named, "sid" + hash + "=evil", true},
		{named, "__Host-sid" + hash + "=evil", true},
		{named, "sid-loop=evil", true},
		{named, "sid.sig=of the application", false},
		{named, "__Host-sid=of the application", false},
		{named, "connect.sid=of the application", false},
	}
	for _, test := range tests {
		header := http.Header{"Set-Cookie": {"first=1", test.line, "last=2"}}
		test.cookies.FilterResponse(header)
		want := []string{"first=1", test.line, "last=2"}
		if test.dropped {
			want = []string{"first=1", "last=2"}
		}
		if got := header["Set-Cookie"]; !slices.Equal(got, want) {
			t.Errorf("%q: %q", test.line, got)
		}
		header = http.Header{"Set-Cookie": {test.line}}
		test.cookies.FilterResponse(header)
		if _, ok := header["Set-Cookie"]; ok == test.dropped {
			t.Errorf("%q alone: %q", test.line, header)
		}
	}
}
