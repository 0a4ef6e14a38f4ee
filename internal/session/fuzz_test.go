package session

import (
	"bytes"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// FuzzOpen: as a sealed value, nothing opens but what was sealed; as a plaintext under a good seal, nothing does any harm.
func FuzzOpen(f *testing.F) {
	old := readSample(f, "sealed-1.json")
	s := NewSealer(secretKeys(f, old.Secrets[0]))
	sealed := []string{old.Session, old.Deflated, old.Reference}
	for _, text := range sealed {
		plaintext, _, err := s.Open(f.Context(), PurposeSession, old.Binding, text)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(text))
		f.Add(plaintext)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _, err := s.Open(t.Context(), PurposeSession, old.Binding, string(data))
		if slices.Contains(sealed, string(data)) != (err == nil) || err != nil && !isErrSeal(err) {
			t.Errorf("opened %q: %v", data, err)
		}
		if len(data) > maxWire {
			return
		}
		sess, ref, current, err := OpenCookie(t.Context(), s, testBinding, mustSeal(t, s, PurposeSession, testBinding, string(data)))
		if err != nil && (!isErrSeal(err) || sess != nil || ref != nil || current) || err == nil && (sess == nil) == (ref == nil) {
			t.Errorf("%v, %v, %v, %v", sess, ref, current, err)
		}
	})
}

// fuzzParse: what can be read is written and read again as the same.
func fuzzParse[T any](f *testing.F, parse func([]byte) (T, error), marshal func(T) []byte, seeds ...[]byte) {
	f.Helper()
	for _, seed := range seeds {
		f.Add(seed)
		f.Add(append(bytes.Clone(seed), 200, 1, 'x'))
		f.Add(seed[:len(seed)-1])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		value, err := parse(data)
		if err != nil {
			return
		}
		wire := marshal(value)
		if again, err := parse(wire); err != nil || !reflect.DeepEqual(again, value) {
			t.Errorf("%+v, read again: %+v, %v", value, again, err)
		}
		// a time that an earlier version wrote gets longer
		if len(wire) > len(data)+4 {
			t.Errorf("%d bytes became %d", len(data), len(wire))
		}
	})
}

func FuzzParseSession(f *testing.F) {
	fuzzParse(f, ParseSession, (*Session).Marshal, fullSession().Marshal(), (&Session{}).Marshal())
}

func FuzzParseTransaction(f *testing.F) {
	fuzzParse(f, ParseTransaction, (*Transaction).Marshal, fullTransaction().Marshal(), (&Transaction{HasMaxAge: true}).Marshal())
}

func FuzzParseState(f *testing.F) {
	fuzzParse(f, ParseState, (*State).Marshal, fullState().Marshal(), (&State{}).Marshal())
}

func FuzzParseReference(f *testing.F) {
	fuzzParse(f, ParseReference, (*Reference).Marshal, fullReference().Marshal(), (&Reference{}).Marshal())
}

func FuzzParseRenewal(f *testing.F) {
	fuzzParse(f, parseRenewal, (*Renewal).marshal, fullRenewal().marshal(), (&Renewal{}).marshal())
}

// FuzzRenewals: whatever the backend has in the place of an entry, it reads as what was sealed or as nothing.
func FuzzRenewals(f *testing.F) {
	id, end := sampleReference.ID, sampleReference.Expires
	everything, spent, err := entries(id, end)
	if err != nil {
		f.Fatal(err)
	}
	old := readSample(f, "sealed-2.json").Storage
	good, remembered := old[caddyPrefix+everything.key], old[caddyPrefix+spent.key]
	f.Add(good, remembered)
	f.Add(remembered, good)
	f.Add([]byte{}, []byte{sealVersion})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		storage := newMemoryStorage()
		storage.set(caddyPrefix+everything.key, string(first))
		storage.set(caddyPrefix+spent.key, string(second))
		known, err := NewRenewals(testBackend(storage), testNow).Load(t.Context(), id, end)
		want := (*Renewal)(nil)
		if bytes.Equal(first, good) {
			want = &sampleRenewal
		} else if bytes.Equal(second, remembered) {
			want = &Renewal{Generation: sampleRenewal.Generation}
		}
		if err != nil || !reflect.DeepEqual(known, want) {
			t.Errorf("%+v, %v; want %+v", known, err, want)
		}
	})
}

// FuzzParseMember: a member of the index names a record, whatever else may be among the members.
func FuzzParseMember(f *testing.F) {
	f.Add(indexMember(fullReference(), fullSession()))
	f.Add("123456789")
	f.Add("2027-01-15.../../x.0")
	form := regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}\.[0-9a-f]{64}\.-?[0-9]+$`)
	f.Fuzz(func(t *testing.T, member string) {
		key, issued, ok := parseMember(member)
		if !ok {
			return
		}
		day, name, _ := strings.Cut(strings.TrimPrefix(key, "sessions/"), "/")
		if !form.MatchString(member) || fmt.Sprintf("%s.%s.%d", day, name, issued) != member {
			t.Errorf("%q names %q, %d", member, key, issued)
		}
	})
}

// FuzzTake compares with a slow reading of the rules: split at the semicolons, drop what is ours, put the rest together.
func FuzzTake(f *testing.F) {
	hash := strings.Repeat("a", transactionHash)
	for _, line := range []string{
		"__Host-oidc=x; a=1", "a=1;__Host-oidc=x ;b=2; ", "; ;__Host-oidc=x;;=;",
		"__Host-oidc.0=aa; __Host-oidc.1=b; __Host-oidc.1=c; oidc.2=d", "__Host-oidc.-1=a; __Host-oidc.0x10=b; __Host-oidc.99999999=c",
		"__Host-oidc-t-" + hash + "=x; oidc-t-" + hash + "=y; __Host-oidc-loop=3; oidc-loop=",
		"__Host-oidc; a", "a=\"__Host-oidc=x; b\"", "oidc=\x00\xff; \t __Host-oidc\t = x", "theme=dark",
	} {
		f.Add(line, "", true)
		f.Add(line, line, false)
	}
	f.Add("0", "oidc-000000=", false)
	c := NewCookies(CookieConfig{DefaultName: "oidc"})
	ours := regexp.MustCompile(`^[ \t]*((__Host-)?oidc(\.[0-9]+|-t-[a-z2-7]{10}|-loop)?)[ \t]*=`)
	// by the shape of their names those of other handlers
	others := regexp.MustCompile(`^[ \t]*(__Host-)?(__Secure-)?oidc-[0-9a-f]{6}(\.[0-9]+|-t-[a-z2-7]{10}|-loop)?[ \t]*=`)
	f.Fuzz(func(t *testing.T, first, second string, secure bool) {
		lines := []string{first, second}
		var want []string
		var names []string // those of this scheme
		for _, line := range lines {
			var kept []string
			trim := false
			for i, segment := range strings.Split(line, ";") {
				match := ours.FindStringSubmatch(segment)
				if match != nil || others.MatchString(segment) {
					trim = trim || i == 0 || len(kept) == 0
					if match != nil && strings.HasPrefix(match[1], "__Host-") == secure {
						names = append(names, match[1])
					}
					continue
				}
				kept = append(kept, segment)
			}
			if len(kept) == strings.Count(line, ";")+1 {
				want = append(want, line)
				continue
			}
			if trim && len(kept) > 0 {
				kept[0] = strings.TrimLeft(kept[0], " \t")
			}
			if rest := strings.Join(kept, ";"); strings.Trim(rest, "; \t") != "" {
				want = append(want, rest)
			}
		}
		header := http.Header{"Cookie": slices.Clone(lines)}
		r := c.Take(header, secure)
		if !slices.Equal(header["Cookie"], want) {
			t.Errorf("left %q of %q, want %q", header["Cookie"], lines, want)
		}
		session := slices.ContainsFunc(names, func(name string) bool {
			return !strings.Contains(name, "-t-") && !strings.HasSuffix(name, "-loop")
		})
		if r.HasSession() != session || len(r.Session) > 0 && !session {
			t.Errorf("%q: HasSession is %v, %q", lines, r.HasSession(), r.Session)
		}
		if len(r.Session) > maxCandidates || len(r.Transactions) > maxTransactions || len(r.Loop) > maxLoopValue {
			t.Errorf("%+v", r)
		}
		for _, cookie := range c.DeleteSession(&r, secure) {
			if name, _, _ := strings.Cut(cookie, "="); !slices.Contains(names, name) {
				t.Errorf("deletes %q, which was not there", name)
			}
		}
		again := c.Take(header, secure)
		if again.HasSession() || len(again.Transactions) > 0 || again.Loop != "" || !slices.Equal(header["Cookie"], want) {
			t.Errorf("something of %q is still there: %q", lines, header["Cookie"])
		}
	})
}

// FuzzParseRing: whatever the storage has, what is not understood survives a rotation.
func FuzzParseRing(f *testing.F) {
	storage := newMemoryStorage()
	s := NewSealer(NewKeyRing(storage, nil, testNow))
	mustSeal(f, s, PurposeSession, testBinding, "")
	f.Add(storage.get(ringKey))
	f.Add(strings.Replace(storage.get(ringKey), `"keys": [`, `"x": 1, "keys": [{"id": "?"}, 3,`, 1))
	f.Add(`{"keys": []}`)
	f.Fuzz(func(t *testing.T, text string) {
		document, err := parseRing([]byte(text))
		if err != nil {
			return
		}
		entries, keys := len(document.entries), len(document.keys())
		k, err := generateKey(testNow(), document.has)
		if err != nil {
			t.Fatal(err)
		}
		if err := document.add(k); err != nil {
			t.Fatal(err)
		}
		written, err := document.marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseRing(written)
		if len(written) > ringMaxSize {
			return
		}
		if err != nil || len(again.entries) != entries+1 || len(again.keys()) != keys+1 || len(again.members) != len(document.members) {
			t.Errorf("%q: %v", text, err)
		}
	})
}
