package session

import (
	"encoding/base64"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

func fullSession() *Session {
	return &Session{
		ID: [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, Subject: "alice", SID: "session at the provider",
		Claims: `{"sub":"alice","name":"Алиса"}`, IDTokenClaims: `{"sub":"alice"}`,
		AccessToken: "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.AAECAwQFBgcICQoL", RefreshToken: "refresh!",
		IDToken: "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSIsImF1ZCI6ImFwcCJ9.AAECAwQFBgcICQoM", Scope: "openid email",
		Created: time.Unix(1_800_000_000, 0).UTC(), LastUsed: time.Unix(1_800_000_060, 0).UTC(),
		AccessExpires: time.UnixMilli(1_800_000_300_123).UTC(), IDTokenIssued: time.Unix(1_799_999_999, 0).UTC(),
		End:     time.Unix(1_800_086_400, 0).UTC(),
		Renewed: time.UnixMilli(1_800_000_060_456).UTC(), Generation: 7, NonceHash: [16]byte{1, 15: 2}, UserinfoClaims: "email\x00name",
	}
}

func fullTransaction() *Transaction {
	return &Transaction{
		State: [32]byte{31: 9}, Nonce: "nonce", Verifier: "verifier", RedirectURI: "https://app.example.com/oauth2/callback",
		ReturnURL: "/deep?link=1", Created: time.Unix(1_800_000_000, 0).UTC(), Attempt: 2,
		MaxAge: time.Hour, HasMaxAge: true, ACRValues: "gold silver",
	}
}

func fullState() *State {
	return &State{
		Random: [32]byte{1}, ReturnURL: "/deep?link=1", Created: time.Unix(1_800_000_000, 0).UTC(), Attempt: 2, Prompt: "login",
	}
}

func fullReference() *Reference {
	return &Reference{
		ID: [16]byte{1, 2}, Key: [32]byte{3, 4},
		Expires: time.Unix(1_800_086_400, 0).UTC(), LastUsed: time.Unix(1_800_000_060, 0).UTC(),
	}
}

func fullRenewal() *Renewal {
	return &Renewal{
		Generation: 7, Sealed: "sealed cookie", Until: time.UnixMilli(1_800_000_120_001).UTC(),
		Replaced: []Replaced{{6, time.UnixMilli(1_800_000_119_002).UTC()}, {5, time.UnixMilli(1_800_000_118_003).UTC()}},
		Ended:    true, Failures: 3, RetryAt: time.UnixMilli(1_800_000_030_004).UTC(), Asked: time.UnixMilli(1_800_000_030_005).UTC(), Over: true,
	}
}

// What is written is read back, with everything set and with next to nothing.
func TestWireRoundTrip(t *testing.T) {
	t.Parallel()
	for _, value := range []any{
		fullSession(), &Session{},
		fullTransaction(), &Transaction{}, &Transaction{HasMaxAge: true},
		fullState(), &State{},
		fullReference(), &Reference{Expires: time.Unix(0, 0).UTC()},
		fullRenewal(), &Renewal{},
	} {
		var got any
		var err error
		switch value := value.(type) {
		case *Session:
			got, err = ParseSession(value.Marshal())
		case *Transaction:
			got, err = ParseTransaction(value.Marshal())
		case *State:
			got, err = ParseState(value.Marshal())
		case *Reference:
			got, err = ParseReference(value.Marshal())
		case *Renewal:
			got, err = parseRenewal(value.marshal())
		}
		if err != nil || !reflect.DeepEqual(got, value) {
			t.Errorf("%T: got %+v, %v; want %+v", value, got, err, value)
		}
	}
}

// A field that was added to a struct but not to the wire form would be lost without a word.
func TestWireHasEveryField(t *testing.T) {
	t.Parallel()
	for _, full := range []any{*fullSession(), *fullTransaction(), *fullState(), *fullReference(), *fullRenewal()} {
		value := reflect.ValueOf(full)
		for i := range value.NumField() {
			if value.Field(i).IsZero() {
				t.Errorf("%T.%s is not set in the value that the round trip is made with", full, value.Type().Field(i).Name)
			}
		}
	}
}

// Tokens come back to the letter, packed or not, and packed where that is shorter.
func TestWireTokens(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{
		"":                               false,
		".":                              false,
		"...":                            false,
		"AA":                             false,
		"AAAA":                           false, // as long either way
		"AAAAAAAA":                       true,
		"AAAAAAAA.":                      true,
		".AAAAAAAA":                      true,
		"AAAAAAAA..AAAAAAAA":             true,
		"AAAAAAAAA":                      false, // no such length
		"AAAAAAAAAB":                     false, // bits left over
		"AAAAAAAAAA==":                   false,
		"AAAAAAAA\n":                     false,
		"AAAA\nAAAAAAA":                  false,
		"AAAAAAA\r\n":                    false,
		"AAAA BBBB":                      false,
		"AAAA+AA/":                       false,
		"ya29.a0AfB_byC-1234567890":      true,
		"8xLOxBtZp8xLOxBtZp8xLOxBtZpAAA": true,
		"opaque token, not ASCII: ü":     false,
		signed(access):                   true,
		signed(access) + "\n":            false,
	}
	for length := range 40 {
		tests[random(length+380)+"."+random(length)+"!"] = false
		raw := strings.Repeat("\x00\xff\x10", 250) + strings.Repeat("x", length)
		tests["e30."+base64.RawURLEncoding.EncodeToString([]byte(raw))] = true
	}
	for token, packed := range tests {
		wire := (&Session{AccessToken: token}).Marshal()
		s, err := ParseSession(wire)
		if err != nil || s.AccessToken != token {
			t.Errorf("%q came back as %q, %v", token, s.AccessToken, err)
		}
		if plain := len((&Session{Subject: token}).Marshal()); (len(wire) < plain) != packed || len(wire) > plain {
			t.Errorf("%q takes %d bytes, as it is %d", token, len(wire), plain)
		}
	}
	for _, packed := range [][]byte{
		{}, {1}, {2, 0}, {0, 0, 1}, {0x80}, {0x80, 0}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
	} {
		e := newEncoder(0)
		e.bytes(tagSessionID, make([]byte, 16))
		e.bytes(tagPackedIDToken, packed)
		if s, err := ParseSession(e.buf); !errors.Is(err, errMalformed) {
			t.Errorf("%v: %+v, %v", packed, s, err)
		}
	}
}

func TestWireBounds(t *testing.T) {
	t.Parallel()
	s, err := ParseSession((&Session{
		Created: time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC), LastUsed: time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC),
		Generation: math.MaxUint64,
	}).Marshal())
	if err != nil || s.Created.Unix() != 0 || s.LastUsed.Unix() != maxSeconds || s.Generation != math.MaxUint64 {
		t.Errorf("session: %+v, %v", s, err)
	}
	tr, err := ParseTransaction((&Transaction{Attempt: math.MaxInt, MaxAge: math.MaxInt64, HasMaxAge: true}).Marshal())
	if err != nil || tr.Attempt != maxAttempt || tr.MaxAge != maxSeconds*time.Second {
		t.Errorf("transaction: %+v, %v", tr, err)
	}
	tr, err = ParseTransaction((&Transaction{Attempt: -1, MaxAge: -time.Second, HasMaxAge: true}).Marshal())
	if err != nil || tr.Attempt != 0 || tr.MaxAge != 0 || !tr.HasMaxAge {
		t.Errorf("negative: %+v, %v", tr, err)
	}
}

// The times of tokens are kept to the millisecond, and never come back later than they were. Those of earlier versions are read.
func TestWireMilliseconds(t *testing.T) {
	t.Parallel()
	for given, want := range map[time.Time]time.Time{
		time.Unix(1_800_000_000, 999_999_999):        time.UnixMilli(1_800_000_000_999),
		time.Unix(1_800_000_000, 1_000_000):          time.UnixMilli(1_800_000_000_001),
		time.Unix(1_800_000_000, 0):                  time.UnixMilli(1_800_000_000_000),
		time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC):  time.UnixMilli(0),
		time.Date(9000, 1, 1, 0, 0, 0, 99, time.UTC): time.Unix(maxSeconds, 0),
	} {
		s, err := ParseSession((&Session{AccessExpires: given, Renewed: given}).Marshal())
		if err != nil || !s.AccessExpires.Equal(want) || !s.Renewed.Equal(want) {
			t.Errorf("%v came back as %+v, %v", given, s, err)
		}
	}
	if s, err := ParseSession((&Session{}).Marshal()); err != nil || !s.AccessExpires.IsZero() || !s.Renewed.IsZero() || s.NonceHash != [16]byte{} {
		t.Errorf("%+v, %v", s, err)
	}

	seconds := func(e *encoder) { e.time(tagAccessExpiresSecond, time.Unix(1_800_000_300, 0)) }
	milliseconds := func(e *encoder) { e.milliseconds(tagAccessExpires, time.UnixMilli(1_800_000_400_500)) }
	for name, test := range map[string]struct {
		fields []func(*encoder)
		want   time.Time
	}{
		"seconds":               {[]func(*encoder){seconds}, time.Unix(1_800_000_300, 0)},
		"both":                  {[]func(*encoder){seconds, milliseconds}, time.UnixMilli(1_800_000_400_500)},
		"both, the other first": {[]func(*encoder){milliseconds, seconds}, time.UnixMilli(1_800_000_400_500)},
	} {
		e := newEncoder(0)
		e.bytes(tagSessionID, make([]byte, 16))
		for _, field := range test.fields {
			field(e)
		}
		if s, err := ParseSession(e.buf); err != nil || !s.AccessExpires.Equal(test.want) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

// A later version may add fields; this one reads what it knows.
func TestWireUnknownFields(t *testing.T) {
	t.Parallel()
	e := newEncoder(0)
	e.text(200, "of a later version")
	e.number(255, 0)
	e.buf = append(e.buf, 0, 0) // tag 0 without a value
	e.buf = append(e.buf, fullSession().Marshal()[1:]...)
	s, err := ParseSession(e.buf)
	if err != nil || !reflect.DeepEqual(s, fullSession()) {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestWireRefusals(t *testing.T) {
	t.Parallel()
	good := fullSession().Marshal()
	if _, err := ParseSession(good); err != nil {
		t.Fatal(err)
	}
	with := func(more ...byte) []byte { return append(fullSession().Marshal(), more...) }
	tests := map[string][]byte{
		"nothing":               nil,
		"version alone":         {wireVersion},
		"another version":       append([]byte{wireVersion + 1}, good[1:]...),
		"a tag alone":           with(200),
		"length past the end":   with(200, 2, 0),
		"huge length":           with(200, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01),
		"endless length":        with(200, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80),
		"length in long form":   with(200, 0x81, 0x00, 0),
		"a field twice":         with(tagSubject, 1, 'b'),
		"an unknown tag twice":  with(200, 0, 200, 0),
		"short id":              {wireVersion, tagSessionID, 1, 0},
		"long id":               append([]byte{wireVersion, tagSessionID, 17}, make([]byte, 17)...),
		"empty time":            append((&Session{}).Marshal(), tagCreated, 0),
		"time with something":   append((&Session{}).Marshal(), tagCreated, 2, 1, 1),
		"time too late":         append((&Session{}).Marshal(), tagCreated, 6, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f),
		"time that overflows":   append((&Session{}).Marshal(), tagCreated, 10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02),
		"too long":              with(append([]byte{200, 0x80, 0x80, 0x10}, make([]byte, 256<<10)...)...),
		"late milliseconds":     append((&Session{}).Marshal(), tagAccessExpires, 7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f),
		"late old seconds":      append(fullSession().Marshal(), tagAccessExpiresSecond, 6, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f),
		"short nonce hash":      append((&Session{}).Marshal(), tagNonceHash, 1, 0),
		"compressed bytes only": []byte(strings.Repeat("\x00", 100)),
	}
	for name, data := range tests {
		if _, err := ParseSession(data); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := range good {
		s, err := ParseSession(good[:n])
		if err == nil && reflect.DeepEqual(s, fullSession()) {
			t.Errorf("%d of %d bytes are read as the whole", n, len(good))
		}
	}
	for name, parse := range map[string]func([]byte) error{
		"transaction": func(data []byte) error { _, err := ParseTransaction(data); return err },
		"state":       func(data []byte) error { _, err := ParseState(data); return err },
		"reference":   func(data []byte) error { _, err := ParseReference(data); return err },
		"renewal":     func(data []byte) error { _, err := parseRenewal(data); return err },
	} {
		for _, data := range [][]byte{nil, {wireVersion}, {wireVersion, 1, 3, 1, 2, 3}, {wireVersion, 1}} {
			if err := parse(data); !errors.Is(err, errMalformed) {
				t.Errorf("%s %v: %v", name, data, err)
			}
		}
	}
}
