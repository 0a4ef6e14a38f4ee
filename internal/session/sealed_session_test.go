package session

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func testCookies(maxBytes int) *Cookies {
	return NewCookies(CookieConfig{DefaultName: "oidc-1a2b3c", HTTPOnly: true, Persistent: true, MaxBytes: maxBytes})
}

// inCookies is what a request's Cookie header has when a browser keeps this session.
func inCookies(c *Cookies, sealed string) (count, size int) {
	browser := make(map[string]string)
	browse(browser, c.Session(nil, true, sealed, time.Hour))
	return len(browser), len(cookieLine(browser))
}

// S-181: a session of any size either comes back as it was or fails when it is sealed, within the budget to the byte.
func TestSealSession(t *testing.T) {
	t.Parallel()
	s := NewSealer(secretKeys(t))
	const groups = 3000 // compresses to almost nothing
	tests := map[string]struct {
		budget                   int
		access, identity, claims int
		count                    int // 0: too large
		dropped, deflated        bool
	}{
		"small":                                     {0, 300, 0, 0, 1, false, false},
		"one cookie, compressible":                  {0, 300, 0, 2000, 1, false, false},
		"compressing saves a cookie":                {0, 300, 0, groups, 1, false, true},
		"compressing saves no cookie":               {0, 5000, 0, 100, 2, false, false},
		"three, compressed to two":                  {0, 5000, 0, groups, 2, false, true},
		"the ID token fits":                         {0, 3000, 3000, 0, 2, false, true},
		"the ID token is too much":                  {0, 4000, 11000, 0, 2, true, false},
		"too much without the ID token too":         {0, 13000, 1000, 0, 0, true, false},
		"too much":                                  {0, 13000, 0, 0, 0, false, false},
		"only compressed within the budget":         {7000, 4900, 0, 280, 2, false, true},
		"small budget, one cookie, compressed":      {2000, 300, 0, 2000, 1, false, true},
		"small budget, too much":                    {500, 300, 0, 0, 0, false, false},
		"large budget":                              {64000, 30000, 0, 0, 8, false, true},
		"more than is ever opened, if compressible": {1 << 20, 0, 0, maxWire, 0, false, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := testCookies(test.budget)
			b := Binding{CookieName: c.Name(true)}
			sess := fullSession()
			sess.AccessToken, sess.IDToken = "!"+random(test.access), "!"+random(test.identity) // which is not packed
			sess.Claims = `{"groups":"` + strings.Repeat("g", test.claims) + `"}`
			before := *sess
			sealed, dropped, err := c.SealSession(t.Context(), s, b, sess)
			if *sess != before {
				t.Error("the session was changed")
			}
			if test.count == 0 {
				if !errors.Is(err, ErrTooLarge) || sealed != "" {
					t.Errorf("%d bytes, %v", len(sealed), err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			count, size := inCookies(c, sealed)
			if count != test.count || size > c.Budget() || dropped != test.dropped {
				t.Errorf("%d cookies, %d bytes, dropped %v", count, size, dropped)
			}
			plaintext, _, err := s.Open(t.Context(), PurposeSession, b, sealed)
			if err != nil || plaintext[0] == formDeflated != test.deflated {
				t.Errorf("form %d, %v", plaintext[0], err)
			}
			if test.dropped {
				before.IDToken = ""
			}
			for range 2 { // the second one with what the first left behind for it
				got, current, err := openSession(t.Context(), s, b, sealed)
				if err != nil || !current || !reflect.DeepEqual(got, &before) {
					t.Errorf("it does not come back: %v", err)
				}
			}
		})
	}
}

// Up to the budget a session of one cookie goes as it is, and from the next byte on it does not.
func TestSealSessionBudget(t *testing.T) {
	t.Parallel()
	s := NewSealer(secretKeys(t))
	const budget = 1500
	c := testCookies(budget)
	name := c.Name(true)
	sizes := make(map[bool][]int) // by whether it went as it is
	for length := range 40 {
		sess := &Session{AccessToken: strings.Repeat("x", 1020+length)}
		_, size := c.pieces(name, sealedLength(len(sess.Marshal())+1))
		plaintext, fits, err := c.pack(s, name, sess)
		if err != nil || !fits {
			t.Fatalf("%d bytes: fits %v, %v", size, fits, err)
		}
		sizes[plaintext[0] == formSession] = append(sizes[plaintext[0] == formSession], size)
	}
	if len(sizes[true]) == 0 || len(sizes[false]) == 0 || slices.Max(sizes[true]) > budget || slices.Min(sizes[false]) <= budget {
		t.Errorf("as they are: %v, compressed: %v", sizes[true], sizes[false])
	}
}

// What the flag byte says is what is opened, and nothing else.
func TestOpenCookie(t *testing.T) {
	t.Parallel()
	s := NewSealer(secretKeys(t))
	c := testCookies(0)
	session, _, err := c.SealSession(t.Context(), s, testBinding, fullSession())
	if err != nil {
		t.Fatal(err)
	}
	reference, err := s.SealReference(t.Context(), testBinding, fullReference())
	if err != nil {
		t.Fatal(err)
	}
	sess, ref, current, err := OpenCookie(t.Context(), s, testBinding, session)
	if !reflect.DeepEqual(sess, fullSession()) || ref != nil || !current || err != nil {
		t.Errorf("session: %+v, %+v, %v, %v", sess, ref, current, err)
	}
	sess, ref, current, err = OpenCookie(t.Context(), s, testBinding, reference)
	if sess != nil || !reflect.DeepEqual(ref, fullReference()) || !current || err != nil {
		t.Errorf("reference: %+v, %+v, %v, %v", sess, ref, current, err)
	}
	ref, current, err = openReference(t.Context(), s, testBinding, reference)
	if !reflect.DeepEqual(ref, fullReference()) || !current || err != nil {
		t.Errorf("reference: %+v, %v, %v", ref, current, err)
	}
	if sess, _, err := openSession(t.Context(), s, testBinding, reference); sess != nil || !isErrSeal(err) {
		t.Errorf("a reference opens as a session: %+v, %v", sess, err)
	}
	if ref, _, err := openReference(t.Context(), s, testBinding, session); ref != nil || !isErrSeal(err) {
		t.Errorf("a session opens as a reference: %+v, %v", ref, err)
	}

	bomb := deflated(t, make([]byte, 8<<20))
	largest, tooLarge := &Session{Claims: strings.Repeat("x", maxWire-100)}, &Session{Claims: strings.Repeat("x", maxWire)}
	for name, test := range map[string]struct {
		plaintext []byte
		opens     bool
	}{
		"largest":                  {append([]byte{formDeflated}, deflated(t, largest.Marshal())...), true},
		"nothing":                  {nil, false},
		"the flag alone":           {[]byte{formSession}, false},
		"no flag":                  {fullSession().Marshal()[1:], false},
		"an unknown flag":          {append([]byte{9}, fullSession().Marshal()...), false},
		"flag of a reference":      {append([]byte{formReference}, fullSession().Marshal()...), false},
		"not compressed":           {append([]byte{formDeflated}, fullSession().Marshal()...), false},
		"compressed, cut off":      {append([]byte{formDeflated}, deflated(t, fullSession().Marshal())[:50]...), false},
		"compressed, and more":     {append(append([]byte{formDeflated}, deflated(t, fullSession().Marshal())...), 0), false},
		"compressed nothing":       {append([]byte{formDeflated}, deflated(t, nil)...), false},
		"a decompression bomb":     {append([]byte{formDeflated}, bomb...), false},
		"a byte more than is read": {append([]byte{formDeflated}, deflated(t, tooLarge.Marshal())...), false},
	} {
		sealed := mustSeal(t, s, PurposeSession, testBinding, string(test.plaintext))
		sess, ref, _, err := OpenCookie(t.Context(), s, testBinding, sealed)
		if opened := err == nil && sess != nil && ref == nil; opened != test.opens || err != nil && !isErrSeal(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func deflated(t *testing.T, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := flate.NewWriter(&buf, flate.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// S-178: chunks in another order, or of two sessions, are no session.
func TestChunksMixed(t *testing.T) {
	t.Parallel()
	s := NewSealer(secretKeys(t))
	c := testCookies(0)
	var browsers [2]map[string]string
	for i := range browsers {
		sess := fullSession()
		sess.Subject, sess.AccessToken = fmt.Sprint("user ", i), random(9500)
		sealed, _, err := c.SealSession(t.Context(), s, testBinding, sess)
		if err != nil {
			t.Fatal(err)
		}
		browsers[i] = make(map[string]string)
		browse(browsers[i], c.Session(nil, true, sealed, time.Hour))
	}
	name := func(i int) string { return fmt.Sprintf("%s.%d", c.Name(true), i) }
	open := func(parts ...string) string {
		browser := make(map[string]string)
		for i, part := range parts {
			browser[name(i)] = part
		}
		for _, sealed := range received(c, true, cookieLine(browser)).Session {
			if sess, _, err := openSession(t.Context(), s, testBinding, sealed); err == nil {
				return sess.Subject
			}
		}
		return ""
	}
	a, b := browsers[0], browsers[1]
	if len(a) != 3 || open(a[name(0)], a[name(1)], a[name(2)]) != "user 0" || open(b[name(0)], b[name(1)], b[name(2)]) != "user 1" {
		t.Fatal("the good cases do not pass")
	}
	for _, parts := range [][]string{
		{a[name(1)], a[name(0)], a[name(2)]},
		{a[name(0)], a[name(2)], a[name(1)]},
		{a[name(0)], b[name(1)], a[name(2)]},
		{a[name(0)], a[name(1)], b[name(2)]},
		{b[name(0)], a[name(1)], a[name(2)]},
		{a[name(0)], a[name(0)], a[name(2)]},
		{a[name(0)], a[name(2)]},
		{a[name(0)]},
	} {
		if who := open(parts...); who != "" {
			t.Errorf("opened for %s", who)
		}
	}
}

// openSession opens what [Cookies.SealSession] sealed.
func openSession(ctx context.Context, s *Sealer, b Binding, sealed string) (sess *Session, current bool, err error) {
	if sess, _, current, err = OpenCookie(ctx, s, b, sealed); err == nil && sess == nil {
		err = ErrSeal
	}
	return sess, current && err == nil, err
}

// openReference opens what [Sealer.SealReference] sealed.
func openReference(ctx context.Context, s *Sealer, b Binding, sealed string) (ref *Reference, current bool, err error) {
	if _, ref, current, err = OpenCookie(ctx, s, b, sealed); err == nil && ref == nil {
		err = ErrSeal
	}
	return ref, current && err == nil, err
}
