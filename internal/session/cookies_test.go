package session

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var testState = [32]byte{1, 2, 3}

// attributes returns what follows the value, without Max-Age: what must be the same for a deletion to be one.
func attributes(cookie string) string {
	_, rest, _ := strings.Cut(cookie, ";")
	return regexp.MustCompile(` Max-Age=\d+;?`).ReplaceAllString(rest, "")
}

// received is what a browser with these cookies sends, taken.
func received(c *Cookies, secure bool, lines ...string) *Received {
	r := c.Take(http.Header{"Cookie": lines}, secure)
	return &r
}

// S-176: names and attributes, for every configuration that has another answer.
func TestCookieAttributes(t *testing.T) {
	t.Parallel()
	const hash = "dlbpdetqfb" // the first of base32(SHA-256(testState))
	base := CookieConfig{DefaultName: "oidc-1a2b3c", HTTPOnly: true, Persistent: true}
	with := func(change func(*CookieConfig)) CookieConfig {
		config := base
		change(&config)
		return config
	}
	tests := map[string]struct {
		config                     CookieConfig
		secure                     bool
		session, transaction, loop string
	}{
		"https": {
			base, true,
			"__Host-oidc-1a2b3c=v; Max-Age=3600; Path=/; SameSite=Lax; HttpOnly; Secure",
			"__Host-oidc-1a2b3c-t-HASH=v; Max-Age=900; Path=/; SameSite=Lax; HttpOnly; Secure",
			"__Host-oidc-1a2b3c-loop=v; Max-Age=60; Path=/; SameSite=Lax; HttpOnly; Secure",
		},
		"http": {
			base, false,
			"oidc-1a2b3c=v; Max-Age=3600; Path=/; SameSite=Lax; HttpOnly",
			"oidc-1a2b3c-t-HASH=v; Max-Age=900; Path=/; SameSite=Lax; HttpOnly",
			"oidc-1a2b3c-loop=v; Max-Age=60; Path=/; SameSite=Lax; HttpOnly",
		},
		"path": {
			with(func(c *CookieConfig) { c.Path = "/app" }), true,
			"__Secure-oidc-1a2b3c=v; Max-Age=3600; Path=/app; SameSite=Lax; HttpOnly; Secure",
			"__Host-oidc-1a2b3c-t-HASH=v; Max-Age=900; Path=/; SameSite=Lax; HttpOnly; Secure",
			"__Host-oidc-1a2b3c-loop=v; Max-Age=60; Path=/; SameSite=Lax; HttpOnly; Secure",
		},
		"domain": {
			with(func(c *CookieConfig) { c.Domain = ".example.com" }), true,
			"__Secure-oidc-1a2b3c=v; Max-Age=3600; Path=/; Domain=example.com; SameSite=Lax; HttpOnly; Secure",
			"__Secure-oidc-1a2b3c-t-HASH=v; Max-Age=900; Path=/; Domain=example.com; SameSite=Lax; HttpOnly; Secure",
			"__Secure-oidc-1a2b3c-loop=v; Max-Age=60; Path=/; Domain=example.com; SameSite=Lax; HttpOnly; Secure",
		},
		"own name": {
			with(func(c *CookieConfig) { c.Name = "sid" }), true,
			"sid=v; Max-Age=3600; Path=/; SameSite=Lax; HttpOnly; Secure",
			"__Host-sid-t-HASH=v; Max-Age=900; Path=/; SameSite=Lax; HttpOnly; Secure",
			"__Host-sid-loop=v; Max-Age=60; Path=/; SameSite=Lax; HttpOnly; Secure",
		},
		"own name with a prefix": {
			with(func(c *CookieConfig) { c.Name = "__Secure-sid" }), true,
			"__Secure-sid=v; Max-Age=3600; Path=/; SameSite=Lax; HttpOnly; Secure",
			"__Host-sid-t-HASH=v; Max-Age=900; Path=/; SameSite=Lax; HttpOnly; Secure",
			"__Host-sid-loop=v; Max-Age=60; Path=/; SameSite=Lax; HttpOnly; Secure",
		},
		"strict": {
			with(func(c *CookieConfig) { c.SameSite = "strict" }), true,
			"__Host-oidc-1a2b3c=v; Max-Age=3600; Path=/; SameSite=Strict; HttpOnly; Secure",
			"__Host-oidc-1a2b3c-t-HASH=v; Max-Age=900; Path=/; SameSite=Lax; HttpOnly; Secure",
			"__Host-oidc-1a2b3c-loop=v; Max-Age=60; Path=/; SameSite=Lax; HttpOnly; Secure",
		},
		"none and partitioned": {
			with(func(c *CookieConfig) { c.SameSite, c.Partitioned = "none", true }), true,
			"__Host-oidc-1a2b3c=v; Max-Age=3600; Path=/; SameSite=None; HttpOnly; Secure; Partitioned",
			"__Host-oidc-1a2b3c-t-HASH=v; Max-Age=900; Path=/; SameSite=None; HttpOnly; Secure; Partitioned",
			"__Host-oidc-1a2b3c-loop=v; Max-Age=60; Path=/; SameSite=None; HttpOnly; Secure; Partitioned",
		},
		"form_post": {
			with(func(c *CookieConfig) { c.CrossSitePost = true }), true,
			"__Host-oidc-1a2b3c=v; Max-Age=3600; Path=/; SameSite=Lax; HttpOnly; Secure",
			"__Host-oidc-1a2b3c-t-HASH=v; Max-Age=900; Path=/; SameSite=None; HttpOnly; Secure",
			"__Host-oidc-1a2b3c-loop=v; Max-Age=60; Path=/; SameSite=None; HttpOnly; Secure",
		},
		"for the browser's session, readable by scripts": {
			with(func(c *CookieConfig) { c.HTTPOnly, c.Persistent = false, false }), true,
			"__Host-oidc-1a2b3c=v; Path=/; SameSite=Lax; Secure",
			"__Host-oidc-1a2b3c-t-HASH=v; Max-Age=900; Path=/; SameSite=Lax; HttpOnly; Secure",
			"__Host-oidc-1a2b3c-loop=v; Max-Age=60; Path=/; SameSite=Lax; HttpOnly; Secure",
		},
		"secure on, http": {
			with(func(c *CookieConfig) { c.Secure = "on" }), false,
			"__Host-oidc-1a2b3c=v; Max-Age=3600; Path=/; SameSite=Lax; HttpOnly; Secure",
			"__Host-oidc-1a2b3c-t-HASH=v; Max-Age=900; Path=/; SameSite=Lax; HttpOnly; Secure",
			"__Host-oidc-1a2b3c-loop=v; Max-Age=60; Path=/; SameSite=Lax; HttpOnly; Secure",
		},
		"secure off, https": {
			with(func(c *CookieConfig) { c.Secure = "off" }), true,
			"oidc-1a2b3c=v; Max-Age=3600; Path=/; SameSite=Lax; HttpOnly",
			"oidc-1a2b3c-t-HASH=v; Max-Age=900; Path=/; SameSite=Lax; HttpOnly",
			"oidc-1a2b3c-loop=v; Max-Age=60; Path=/; SameSite=Lax; HttpOnly",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := NewCookies(test.config)
			session := c.Session(nil, test.secure, "v", time.Hour)
			if !slices.Equal(session, []string{test.session}) {
				t.Errorf("session: %q, want %q", session, test.session)
			}
			transaction := c.Transaction(test.secure, testState, "v")
			if want := strings.Replace(test.transaction, "HASH", hash, 1); transaction != want {
				t.Errorf("transaction: %q, want %q", transaction, want)
			}
			loop := c.Loop(test.secure, "v")
			if loop != test.loop {
				t.Errorf("loop: %q, want %q", loop, test.loop)
			}
			if !strings.HasPrefix(test.session, c.Name(test.secure)+"=") {
				t.Errorf("name: %q", c.Name(test.secure))
			}

			// S-188: what is set comes back, and is deleted with identical attributes
			var line []string
			for _, cookie := range []string{session[0], transaction, loop} {
				pair, _, _ := strings.Cut(cookie, ";")
				line = append(line, pair)
			}
			r := received(c, test.secure, strings.Join(line, "; "))
			if !slices.Equal(r.Session, []string{"v"}) || len(r.Transactions) != 1 || r.Loop != "v" {
				t.Fatalf("received %+v", r)
			}
			for set, deletion := range map[string]string{
				session[0]:  strings.Join(c.DeleteSession(r, test.secure), "\n"),
				transaction: c.DeleteTransaction(test.secure, r.Transactions[0].Name),
				loop:        c.DeleteLoop(test.secure),
			} {
				name, _, _ := strings.Cut(set, "=")
				if !strings.HasPrefix(deletion, name+"=; Max-Age=0; ") || attributes(deletion) != attributes(set) {
					t.Errorf("%q does not delete %q", deletion, set)
				}
			}
			parsed, err := http.ParseSetCookie(session[0])
			if err != nil || parsed.Value != "v" || len(parsed.Unparsed) != 0 {
				t.Errorf("%q: %+v, %v", session[0], parsed, err)
			}
		})
	}
}

func TestTransactionName(t *testing.T) {
	t.Parallel()
	c := NewCookies(CookieConfig{DefaultName: "oidc"})
	name := c.TransactionName(true, testState)
	if name != c.TransactionName(true, testState) || name == c.TransactionName(true, [32]byte{1, 2, 4}) {
		t.Errorf("%q", name)
	}
}

// Values of every length around those where the number of cookies changes, there and back.
func TestSessionChunks(t *testing.T) {
	t.Parallel()
	c := NewCookies(CookieConfig{DefaultName: "oidc-1a2b3c", Persistent: true, HTTPOnly: true, SameSite: "strict", Partitioned: true})
	for _, length := range []int{
		1, chunkSize - 1, chunkSize, chunkSize + 1, 2 * chunkSize, 2*chunkSize + 1, 3 * chunkSize, 12 * chunkSize,
	} {
		sealed := random(length)
		cookies := c.Session(nil, true, sealed, 400*24*time.Hour)
		if want := (length + chunkSize - 1) / chunkSize; len(cookies) != want {
			t.Errorf("%d bytes in %d cookies", length, len(cookies))
		}
		count, size := c.pieces(c.Name(true), length)
		var line []string
		for _, cookie := range cookies {
			if len(cookie) > cookieSize {
				t.Errorf("a cookie of %d bytes", len(cookie))
			}
			pair, _, _ := strings.Cut(cookie, ";")
			line = append(line, pair)
		}
		if joined := strings.Join(line, "; "); count != len(cookies) || size != len(joined) {
			t.Errorf("%d bytes: expected %d cookies and %d bytes, got %d and %d", length, count, size, len(cookies), len(joined))
		}
		// in the order in which they were written, in the other, and on lines of their own
		reversed := slices.Clone(line)
		slices.Reverse(reversed)
		for _, lines := range [][]string{{strings.Join(line, "; ")}, {strings.Join(reversed, "; ")}, line} {
			if r := received(c, true, lines...); !slices.Equal(r.Session, []string{sealed}) {
				t.Errorf("%d bytes: received %d values", length, len(r.Session))
			}
		}
	}
}

// A cookie stays small enough for browsers whatever its name and path.
func TestSessionChunksLongAttributes(t *testing.T) {
	t.Parallel()
	c := NewCookies(CookieConfig{
		Name: strings.Repeat("n", 100), Path: "/" + strings.Repeat("p", 500), Domain: strings.Repeat("d.", 100) + "example",
		Persistent: true, Partitioned: true, HTTPOnly: true,
	})
	sealed := random(20000)
	cookies := c.Session(nil, true, sealed, 400*24*time.Hour)
	var line []string
	for _, cookie := range cookies {
		if len(cookie) > cookieSize {
			t.Errorf("a cookie of %d bytes", len(cookie))
		}
		pair, _, _ := strings.Cut(cookie, ";")
		line = append(line, pair)
	}
	if r := received(c, true, strings.Join(line, "; ")); !slices.Equal(r.Session, []string{sealed}) {
		t.Error("it does not come back")
	}
}

// Whatever the browser had of a session before, it has exactly the new one after.
func TestSessionStaleCookies(t *testing.T) {
	t.Parallel()
	c := NewCookies(CookieConfig{DefaultName: "oidc"})
	shapes := map[string]int{"nothing": 0, "one": 10, "two": chunkSize + 1, "three": 2*chunkSize + 1, "twelve": 11*chunkSize + 1}
	for before, lengthBefore := range shapes {
		for after, lengthAfter := range shapes {
			browser := make(map[string]string)
			if lengthBefore > 0 {
				browse(browser, c.Session(nil, true, random(lengthBefore), 0))
			}
			r := received(c, true, cookieLine(browser))
			if r.HasSession() != (lengthBefore > 0) {
				t.Errorf("%s: HasSession is %v", before, r.HasSession())
			}
			sealed := random(lengthAfter)
			if lengthAfter > 0 {
				browse(browser, c.Session(r, true, sealed, 0))
			} else {
				browse(browser, c.DeleteSession(r, true))
			}
			r = received(c, true, cookieLine(browser))
			if lengthAfter == 0 && (r.HasSession() || len(browser) > 0) || lengthAfter > 0 && !slices.Equal(r.Session, []string{sealed}) {
				t.Errorf("%s, then %s: %d values, %d cookies", before, after, len(r.Session), len(browser))
			}
			if want := (lengthAfter + chunkSize - 1) / chunkSize; len(browser) != want {
				t.Errorf("%s, then %s: %d cookies left, want %d", before, after, len(browser), want)
			}
		}
	}
	if cookies := c.DeleteSession(nil, true); len(cookies) != 0 {
		t.Errorf("deleted %q without having received anything", cookies)
	}
}

// What a browser did not send, because another site caused the request, is replaced and deleted all the same.
func TestUnseen(t *testing.T) {
	t.Parallel()
	for _, budget := range []int{0, 3900, 3901, 30000} {
		c := NewCookies(CookieConfig{DefaultName: "oidc", MaxBytes: budget})
		largest := c.Budget() // the names take some of it, so that less than this is ever sealed
		for _, length := range []int{1, chunkSize + 1, largest} {
			browser := make(map[string]string)
			browse(browser, c.Session(nil, true, random(largest), 0))
			unseen := c.Unseen()
			if !unseen.HasSession() || len(unseen.Session) > 0 {
				t.Errorf("%+v", unseen)
			}
			sealed := random(length)
			browse(browser, c.Session(&unseen, true, sealed, 0))
			if r := received(c, true, cookieLine(browser)); !slices.Equal(r.Session, []string{sealed}) {
				t.Errorf("budget %d, %d bytes: %d cookies left", budget, length, len(browser))
			}
			browse(browser, c.DeleteSession(&unseen, true))
			if len(browser) > 0 {
				t.Errorf("budget %d: %d cookies left", budget, len(browser))
			}
		}
	}
}

// browse keeps and forgets cookies as a browser does.
func browse(browser map[string]string, cookies []string) {
	for _, cookie := range cookies {
		pair, rest, _ := strings.Cut(cookie, ";")
		name, value, _ := strings.Cut(pair, "=")
		if strings.Contains(rest, "Max-Age=0;") && value == "" {
			delete(browser, name)
		} else {
			browser[name] = value
		}
	}
}

func cookieLine(browser map[string]string) string {
	var pairs []string
	for name, value := range browser {
		pairs = append(pairs, name+"="+value)
	}
	return strings.Join(pairs, "; ")
}

func TestSessionMaxAge(t *testing.T) {
	t.Parallel()
	c := NewCookies(CookieConfig{DefaultName: "oidc", Persistent: true})
	for rest, want := range map[time.Duration]string{
		90 * time.Second: "oidc=v; Max-Age=90;", 1500 * time.Millisecond: "oidc=v; Max-Age=1;",
		0: "oidc=v; Max-Age=0;", -time.Hour: "oidc=v; Max-Age=0;",
	} {
		if got := c.Session(nil, false, "v", rest)[0]; !strings.HasPrefix(got, want) {
			t.Errorf("%v: %q", rest, got)
		}
	}
}

// What somebody gets into the loop breaker's value stays a value.
func TestLoopValue(t *testing.T) {
	t.Parallel()
	c := NewCookies(CookieConfig{DefaultName: "oidc"})
	for value, want := range map[string]string{
		"2.1800000000.opened": "2.1800000000.opened", "a; Domain=evil": "aDomain=evil", "a\r\nX: y": "aX:y", "ü\x00\x7f\"\\,é": "",
	} {
		if got, _, _ := strings.Cut(c.Loop(false, value), "; "); got != "oidc-loop="+want {
			t.Errorf("%q: %q", value, got)
		}
	}
}
