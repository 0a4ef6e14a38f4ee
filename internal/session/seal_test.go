package session

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

var testBinding = Binding{
	CookieName: "__Host-oidc-1a2b3c", Issuer: "https://id.example.com", ClientID: "app", Host: "app.example.com", Checks: "d1",
}

// isErrSeal says whether an error is ErrSeal and tells no more than that.
func isErrSeal(err error) bool { return errors.Is(err, ErrSeal) && err.Error() == ErrSeal.Error() }

func mustSeal(tb testing.TB, s *Sealer, p Purpose, b Binding, plaintext string) string {
	tb.Helper()
	sealed, err := s.Seal(tb.Context(), p, b, []byte(plaintext))
	if err != nil {
		tb.Fatal(err)
	}
	return sealed
}

func wantOpen(t *testing.T, s *Sealer, sealed, want string, wantCurrent bool) {
	t.Helper()
	plaintext, current, err := s.Open(t.Context(), PurposeSession, testBinding, sealed)
	if err != nil || string(plaintext) != want || current != wantCurrent {
		t.Errorf("got %q, current %v, %v; want %q, %v", plaintext, current, err, want, wantCurrent)
	}
}

// S-178: nothing but what was sealed opens.
func TestOpenTampered(t *testing.T) {
	t.Parallel()
	s := NewSealer(secretKeys(t))
	const text = "a session, or something as good"
	sealed := mustSeal(t, s, PurposeSession, testBinding, text)
	wantOpen(t, s, sealed, text, true)

	refused := func(name, sealed string) {
		t.Helper()
		plaintext, current, err := s.Open(t.Context(), PurposeSession, testBinding, sealed)
		if !isErrSeal(err) || plaintext != nil || current {
			t.Errorf("%s: %q, %v, %v", name, plaintext, current, err)
		}
	}
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(raw) {
		raw[bit/8] ^= 1 << (bit % 8)
		refused("a bit of the value", base64.RawURLEncoding.EncodeToString(raw))
		raw[bit/8] ^= 1 << (bit % 8)
	}
	for bit := range 8 * len(sealed) {
		text := []byte(sealed)
		text[bit/8] ^= 1 << (bit % 8)
		refused("a bit of the text", string(text))
	}
	for n := range sealed {
		refused("the beginning", sealed[:n])
		refused("the end", sealed[n+1:])
		refused("without a character", sealed[:n]+sealed[n+1:])
		refused("with a character", sealed[:n]+"A"+sealed[n:])
	}
	for more := range 4 { // the text's length decides whether a line break changes the number of bytes
		longer := text + strings.Repeat("x", more)
		sealed := mustSeal(t, s, PurposeSession, testBinding, longer)
		wantOpen(t, s, sealed, longer, true)
		for n := range len(sealed) + 1 {
			for _, between := range []string{"\n", "\r", "\r\n", "=", "\n\n\n\n"} {
				refused("with a line break", sealed[:n]+between+sealed[n:])
			}
		}
	}
	for name, text := range map[string]string{
		"a byte more": sealed + "AA", "padding": sealed + "=", "line breaks": sealed + "\r\n\r\n", "twice": sealed + sealed,
		"space":   " " + sealed,
		"nothing": "", "dots": strings.Repeat(".", 15000), "NUL": "\x00", "not ASCII": "ü", "A": strings.Repeat("A", 8000),
		"huge": strings.Repeat("A", 4<<20), "standard alphabet": base64.RawStdEncoding.EncodeToString(raw) + "+/",
	} {
		refused(name, text)
	}
}

// S-140, S-178: a value opens for what it was sealed for only.
func TestOpenElsewhere(t *testing.T) {
	t.Parallel()
	s := NewSealer(secretKeys(t))
	bindings := []Binding{
		testBinding,
		{},
		{"oidc-1a2b3c", testBinding.Issuer, testBinding.ClientID, testBinding.Host, testBinding.Checks},
		{testBinding.CookieName, "https://id.example.org", testBinding.ClientID, testBinding.Host, testBinding.Checks},
		{testBinding.CookieName, testBinding.Issuer, "other", testBinding.Host, testBinding.Checks},
		{testBinding.CookieName, testBinding.Issuer, testBinding.ClientID, "other.example.com", testBinding.Checks},
		{testBinding.CookieName, testBinding.Issuer, testBinding.ClientID, testBinding.Host, "d2"},
		{testBinding.CookieName, testBinding.Issuer, testBinding.ClientID, testBinding.Host, ""},
		// the same characters one after the other, divided in another way
		{testBinding.CookieName + testBinding.Issuer, "", testBinding.ClientID, testBinding.Host, testBinding.Checks},
		{testBinding.CookieName, testBinding.Issuer + testBinding.ClientID, "", testBinding.Host, testBinding.Checks},
		{testBinding.CookieName, testBinding.Issuer, testBinding.ClientID + "\x0f" + testBinding.Host, "", testBinding.Checks},
	}
	all := []Purpose{PurposeSession, PurposeTransaction, PurposeState, PurposeRecord}
	for i, b := range bindings {
		for _, p := range all {
			sealed := mustSeal(t, s, p, b, "text")
			for j, other := range bindings {
				for _, q := range all {
					plaintext, _, err := s.Open(t.Context(), q, other, sealed)
					if opened := err == nil && string(plaintext) == "text"; opened != (i == j && p == q) {
						t.Errorf("sealed for %d, %+v; opened for %d, %+v: %v", p, b, q, other, err)
					}
				}
			}
		}
	}
}

func TestSealUnknownPurpose(t *testing.T) {
	t.Parallel()
	s := NewSealer(secretKeys(t))
	sealed := mustSeal(t, s, PurposeSession, testBinding, "text")
	for _, p := range []Purpose{0, PurposeRecord + 1, 255} {
		if _, err := s.Seal(t.Context(), p, testBinding, []byte("text")); !errors.Is(err, errPurpose) {
			t.Errorf("sealing for %d: %v", p, err)
		}
		if _, _, err := s.Open(t.Context(), p, testBinding, sealed); !isErrSeal(err) {
			t.Errorf("opening for %d: %v", p, err)
		}
	}
}

func TestSealSizes(t *testing.T) {
	t.Parallel()
	s := NewSealer(secretKeys(t))
	for _, size := range []int{0, 1, 2, 3, 100, maxWire, maxWire + 1} {
		text := strings.Repeat("x", size)
		wantOpen(t, s, mustSeal(t, s, PurposeSession, testBinding, text), text, true)
	}
	if _, err := s.Seal(t.Context(), PurposeSession, testBinding, make([]byte, maxWire+2)); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

// S-187: the same text never looks the same twice, and what is a secret never shows.
func TestSealRandom(t *testing.T) {
	t.Parallel()
	s := NewSealer(secretKeys(t))
	nonces := make(map[string]bool)
	for range 2000 {
		sealed := mustSeal(t, s, PurposeSession, testBinding, "plaintext")
		raw, err := base64.RawURLEncoding.DecodeString(sealed)
		if err != nil || strings.Contains(string(raw), "plaintext") {
			t.Fatalf("%q, %v", raw, err)
		}
		nonces[string(raw[sealNonce:sealText])] = true
	}
	if len(nonces) != 2000 {
		t.Errorf("%d nonces for 2000 values", len(nonces))
	}
}

// S-186: the first secret seals, all open, and one that is gone does not.
func TestSecretsRotation(t *testing.T) {
	t.Parallel()
	const older, newer = "the older secret of thirty-two bytes", "the newer secret of thirty-two bytes"
	before := NewSealer(secretKeys(t, older))
	both := NewSealer(secretKeys(t, newer, older))
	after := NewSealer(secretKeys(t, newer))
	old := mustSeal(t, before, PurposeSession, testBinding, "old")
	wantOpen(t, before, old, "old", true)
	wantOpen(t, both, old, "old", false)
	renewed := mustSeal(t, both, PurposeSession, testBinding, "renewed")
	wantOpen(t, both, renewed, "renewed", true)
	wantOpen(t, after, renewed, "renewed", true)
	for _, s := range []*Sealer{after, NewSealer(secretKeys(t))} {
		if _, _, err := s.Open(t.Context(), PurposeSession, testBinding, old); !isErrSeal(err) {
			t.Errorf("a secret that is gone opens: %v", err)
		}
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		texts []string
		want  string
	}{
		"none":             {nil, "no session secret"},
		"empty":            {[]string{""}, "session secret 1 has 0 bytes, it needs at least 16"},
		"short":            {[]string{"fifteen bytes.."}, "session secret 1 has 15 bytes, it needs at least 16"},
		"second one short": {[]string{"a secret of thirty-two bytes ....", "short"}, "session secret 2 has 5 bytes, it needs at least 16"},
		"the same twice":   {[]string{"a secret of thirty-two bytes ....", "a secret of thirty-two bytes ...."}, ""},
	} {
		keys, err := Secrets(test.texts)
		if test.want != "" {
			if err == nil || err.Error() != test.want {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s := NewSealer(keys)
		wantOpen(t, s, mustSeal(t, s, PurposeSession, testBinding, name), name, true)
	}
}

// A short secret is not used as it is, nor padded.
func TestSecretsStretched(t *testing.T) {
	t.Parallel()
	const text = "sixteen bytes..."
	stretched := secretKeys(t, text)
	s := NewSealer(stretched)
	sealed := mustSeal(t, s, PurposeSession, testBinding, "text")
	wantOpen(t, s, sealed, "text", true)
	for _, guess := range []string{text, text + strings.Repeat("\x00", 16), text + text} {
		k, err := newKey([]byte(guess))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := NewSealer(secrets{k}).Open(t.Context(), PurposeSession, testBinding, sealed); !isErrSeal(err) {
			t.Errorf("opens with %q", guess)
		}
	}
}

// What somebody cancels is not answered with another error than the seal's.
func TestOpenCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	logger, _ := observed()
	ring := NewSealer(NewKeyRing(newMemoryStorage(), logger, testNow))
	sealed := mustSeal(t, NewSealer(secretKeys(t)), PurposeSession, testBinding, "text")
	if _, _, err := ring.Open(ctx, PurposeSession, testBinding, sealed); !isErrSeal(err) {
		t.Error(err)
	}
	if _, err := ring.Seal(ctx, PurposeSession, testBinding, nil); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
