package session

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// S-029: our cookies go, the others stay as they are.
func TestTake(t *testing.T) {
	t.Parallel()
	hash := strings.Repeat("a", transactionHash)
	type takeTest struct {
		lines   []string
		left    []string
		session []string
		found   bool
	}
	tests := map[string]takeTest{
		"none":                      {[]string{"a=1; b=2"}, []string{"a=1; b=2"}, nil, false},
		"no header":                 {nil, nil, nil, false},
		"empty header":              {[]string{""}, []string{""}, nil, false},
		"alone":                     {[]string{"__Host-oidc=x"}, nil, []string{"x"}, true},
		"first":                     {[]string{"__Host-oidc=x; a=1"}, []string{"a=1"}, []string{"x"}, true},
		"last":                      {[]string{"a=1; __Host-oidc=x"}, []string{"a=1"}, []string{"x"}, true},
		"between":                   {[]string{"a=1; __Host-oidc=x; b=2"}, []string{"a=1; b=2"}, []string{"x"}, true},
		"odd spaces":                {[]string{"a=1;  b=\t2 ;__Host-oidc=x;\tc=3; "}, []string{"a=1;  b=\t2 ;\tc=3; "}, []string{"x"}, true},
		"no spaces":                 {[]string{"a=1;__Host-oidc=x;b=2"}, []string{"a=1;b=2"}, []string{"x"}, true},
		"spaces around ours":        {[]string{"  __Host-oidc = x  ;a"}, []string{"a"}, []string{" x"}, true},
		"nothing but separators":    {[]string{"; ;__Host-oidc=x;;"}, nil, []string{"x"}, true},
		"separators of others":      {[]string{"; ;=x; a"}, []string{"; ;=x; a"}, nil, false},
		"odd cookies of others":     {[]string{"; ;=x; __Host-oidc=y; a"}, []string{"; ;=x; a"}, []string{"y"}, true},
		"two lines":                 {[]string{"a=1; __Host-oidc=x", "b=2"}, []string{"a=1", "b=2"}, []string{"x"}, true},
		"a line of its own":         {[]string{"a=1", "__Host-oidc=x", "b=2"}, []string{"a=1", "b=2"}, []string{"x"}, true},
		"value with equals signs":   {[]string{"__Host-oidc=a=b="}, nil, []string{"a=b="}, true},
		"without a value":           {[]string{"__Host-oidc=; a=1"}, []string{"a=1"}, nil, true},
		"without an equals sign":    {[]string{"__Host-oidc; a=1"}, []string{"__Host-oidc; a=1"}, nil, false},
		"name in another's value":   {[]string{"a=__Host-oidc=x"}, []string{"a=__Host-oidc=x"}, nil, false},
		"longer names":              {[]string{"__Host-oidcx=1; x__Host-oidc=2"}, []string{"__Host-oidcx=1; x__Host-oidc=2"}, nil, false},
		"another case":              {[]string{"__host-oidc=1; __HOST-OIDC=2"}, []string{"__host-oidc=1; __HOST-OIDC=2"}, nil, false},
		"the other scheme's":        {[]string{"a=1; oidc=x; oidc.0=y; oidc-loop=1; oidc-t-" + hash + "=z"}, []string{"a=1"}, nil, false},
		"S-182: twice":              {[]string{"__Host-oidc=x; __Host-oidc=y; a=1"}, []string{"a=1"}, []string{"x", "y"}, true},
		"five times":                {[]string{strings.Repeat("__Host-oidc=1; ", 5)}, nil, []string{"1", "1", "1", "1"}, true},
		"chunks":                    {[]string{"__Host-oidc.0=xx; __Host-oidc.1=y; a=1"}, []string{"a=1"}, []string{"xxy"}, true},
		"a whole one and chunks":    {[]string{"__Host-oidc.0=xx; __Host-oidc.1=y; __Host-oidc=z"}, nil, []string{"z", "xxy"}, true},
		"chunk 0 alone":             {[]string{"__Host-oidc.0=xx"}, nil, []string{"xx"}, true},
		"without chunk 0":           {[]string{"__Host-oidc.1=xx; __Host-oidc.2=y"}, nil, nil, true},
		"missing middle":            {[]string{"__Host-oidc.0=xx; __Host-oidc.2=zz"}, nil, []string{"xx"}, true},
		"empty middle":              {[]string{"__Host-oidc.0=xx; __Host-oidc.1=; __Host-oidc.2=zz"}, nil, []string{"xx"}, true},
		"left over from longer":     {[]string{"__Host-oidc.0=xx; __Host-oidc.1=y; __Host-oidc.2=zz"}, nil, []string{"xxy"}, true},
		"a chunk twice":             {[]string{"__Host-oidc.0=xx; __Host-oidc.1=y; __Host-oidc.1=z"}, nil, []string{"xxy", "xxz"}, true},
		"a chunk twice, equal":      {[]string{"__Host-oidc.0=xx; __Host-oidc.1=y; __Host-oidc.1=y"}, nil, []string{"xxy"}, true},
		"S-180: other indices":      {[]string{"__Host-oidc.00=a; __Host-oidc.100=b; __Host-oidc.99999999=c"}, nil, nil, true},
		"digits of another script":  {[]string{"__Host-oidc.٣=a"}, []string{"__Host-oidc.٣=a"}, nil, false},
		"not ASCII, NUL, quotation": {[]string{"a=\"ü\x00\"; __Host-oidc=\x00ü"}, []string{"a=\"ü\x00\""}, []string{"\x00ü"}, true},
	}
	for name, line := range map[string]string{
		"S-180: no indices":   "__Host-oidc.-1=a; __Host-oidc.0x10=b; __Host-oidc.1e9=c; __Host-oidc.=d",
		"not a transaction's": "__Host-oidc-t-short=a; __Host-oidc-t-" + hash + "a=b; __Host-oidc-t-AAAAAAAAAA=c",
	} {
		tests[name] = takeTest{[]string{line}, []string{line}, nil, false}
	}
	c := NewCookies(CookieConfig{DefaultName: "oidc"})
	for name, test := range tests {
		header := http.Header{"Cookie": slices.Clone(test.lines), "Accept": {"text/html"}}
		if test.lines == nil {
			delete(header, "Cookie")
		}
		r := c.Take(header, true)
		if !slices.Equal(header["Cookie"], test.left) || header.Get("Accept") != "text/html" {
			t.Errorf("%s: left %q, want %q", name, header["Cookie"], test.left)
		}
		if _, ok := header["Cookie"]; ok != (test.left != nil) {
			t.Errorf("%s: the header is there: %v", name, ok)
		}
		if !slices.Equal(r.Session, test.session) || r.HasSession() != test.found {
			t.Errorf("%s: session %q, found %v", name, r.Session, r.HasSession())
		}
	}
}

func TestTakeTransactions(t *testing.T) {
	t.Parallel()
	c := NewCookies(CookieConfig{DefaultName: "oidc"})
	var pairs []string
	var want []Value
	for i := range 40 {
		name := c.TransactionName(true, [32]byte{byte(i)})
		pairs = append(pairs, name+"=v"+fmt.Sprint(i))
		if i < maxTransactions {
			want = append(want, Value{name, "v" + fmt.Sprint(i)})
		}
	}
	header := http.Header{"Cookie": {"a=1; " + strings.Join(pairs, "; ") + "; __Host-oidc-loop=2.180000; b=2"}}
	r := c.Take(header, true)
	if !slices.Equal(r.Transactions, want) || r.Loop != "2.180000" || header.Get("Cookie") != "a=1; b=2" || r.HasSession() {
		t.Errorf("%+v, left %q", r, header)
	}
	r = *received(c, true, "__Host-oidc-loop="+strings.Repeat("1", maxLoopValue+1)+"; __Host-oidc-loop=2")
	if r.Loop != "2" {
		t.Errorf("%q", r.Loop)
	}
}

// S-180, S-183: any number of stray cookies is bounded work, and gone after a few answers.
func TestTakeStrays(t *testing.T) {
	t.Parallel()
	c := NewCookies(CookieConfig{DefaultName: "oidc"})
	browser := map[string]string{"theme": "dark"}
	for i := range 200 {
		browser[fmt.Sprintf("__Host-oidc.%d", i)] = "x"
		browser[fmt.Sprintf("__Host-oidc.0%d", i)] = "x"
	}
	for answers := 0; len(browser) > 1; answers++ {
		r := received(c, true, cookieLine(browser))
		if !r.HasSession() || len(r.Session) > maxCandidates || len(r.found.strays) > maxStaleNames {
			t.Fatalf("%+v", r)
		}
		deletions := c.DeleteSession(r, true)
		if len(deletions) == 0 || len(deletions) > maxStaleNames+1 || answers > 20 {
			t.Fatalf("answer %d has %d deletions", answers, len(deletions))
		}
		browse(browser, deletions)
	}
	if !maps.Equal(browser, map[string]string{"theme": "dark"}) {
		t.Error(browser)
	}

	many := strings.Repeat("__Host-oidc.0=x; __Host-oidc.1=x; __Host-oidc=x; oidc=x; t=1; ", 3001)
	header := http.Header{"Cookie": {many}}
	r := c.Take(header, true)
	if len(r.Session) != maxCandidates || header.Get("Cookie") != strings.Repeat("t=1; ", 3001) {
		t.Errorf("%d values, %d bytes left", len(r.Session), len(header.Get("Cookie")))
	}
}

// An explicit name is the same on both schemes, and takes nothing that merely looks like it.
func TestTakeExplicitName(t *testing.T) {
	t.Parallel()
	c := NewCookies(CookieConfig{Name: "session"})
	for _, secure := range []bool{true, false} {
		header := http.Header{"Cookie": {"session.sig=a; session=b; __Host-session=c; __Secure-session=d; session.0=e; sessions=f"}}
		r := c.Take(header, secure)
		if got := header.Get("Cookie"); got != "session.sig=a; __Host-session=c; __Secure-session=d; sessions=f" {
			t.Error(got)
		}
		if !slices.Equal(r.Session, []string{"b", "e"}) {
			t.Errorf("%q", r.Session)
		}
	}
}

func TestTakeAllocations(t *testing.T) {
	c := NewCookies(CookieConfig{DefaultName: "oidc"})
	session := "__Host-oidc=" + strings.Repeat("x", 2000)
	for name, test := range map[string]struct {
		line string
		want float64
	}{
		"absent": {"theme=dark; language=en", 0}, "same base": {"oidcx=1", 0}, "alone": {session, 1}, "first": {session + "; a=1", 1},
		"last": {"a=1; " + session, 1}, "between": {"a=1; " + session + "; b=2", 2}, "other scheme's": {"a=1; oidc=2", 0},
	} {
		header := make(http.Header)
		lines := make([]string, 1)
		if got := testing.AllocsPerRun(100, func() {
			lines[0] = test.line
			header["Cookie"] = lines
			c.Take(header, true)
		}); got != test.want {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}
