package session

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"
)

// random returns text that does not compress well, as tokens do not.
func random(length int) string {
	raw := make([]byte, length)
	rand.Read(raw)
	return base64.RawURLEncoding.EncodeToString(raw)[:length]
}

func secretKeys(tb testing.TB, texts ...string) KeySource {
	tb.Helper()
	if len(texts) == 0 {
		texts = []string{"a secret of thirty-two bytes ...."}
	}
	keys, err := Secrets(texts)
	if err != nil {
		tb.Fatal(err)
	}
	return keys
}

// signed returns a token with these claims, signed as with RS256.
func signed(claims string) string {
	signature := make([]byte, 256)
	rand.Read(signature)
	encode := base64.RawURLEncoding.EncodeToString
	header := `{"alg":"RS256","typ" : "JWT","kid" : "` + random(43) + `"}`
	return encode([]byte(header)) + "." + encode([]byte(claims)) + "." + encode(signature)
}

// The claims as Keycloak writes them.
const (
	common = `"iat":1800000000,"jti":"onrtac:5bfcc5a3-a0ac-4a41-a1f4-7f4f4dbd9d62","iss":"https://id.example.com/realms/staff",` +
		`"sub":"3c5b3f1d-6c2b-4f0c-9f9a-2c3e1d8b7a60","sid":"08a5019c-17e1-4977-8f42-65a12843ea02","azp":"app","acr":"1",`
	profile = `"email_verified":true,"name":"Jane Doe","preferred_username":"j.doe","given_name":"Jane","family_name":"Doe",` +
		`"email":"janedoe@example.com"`
	access = `{"exp":1800000300,` + common + `"typ":"Bearer","aud":"account","allowed-origins":["https://app.example.com"],` +
		`"realm_access":{"roles":["offline_access","uma_authorization","default-roles-staff"]},"resource_access":{"account":` +
		`{"roles":["manage-account","manage-account-links","view-profile"]}},"scope":"openid profile email",` + profile + `}`
	identity = `{"exp":1800000300,` + common + `"typ":"ID","aud":"app","nonce":"Yc2lKJHGFDSAqwertzuiopoiuztrewqasdfghjklmnb",` +
		`"at_hash":"7pX1mN0bVcYxQwErTzUiOp","auth_time":1800000000,` + profile + `}`
	refresh = `{"exp":1800001800,` + common + `"typ":"Refresh","aud":"https://id.example.com/realms/staff","scope":"openid email"}`
)

func benchmarkSession() *Session {
	now := time.Unix(1_800_000_000, 0)
	return &Session{
		ID: NewID(), Subject: "3c5b3f1d-6c2b-4f0c-9f9a-2c3e1d8b7a60", SID: "08a5019c-17e1-4977-8f42-65a12843ea02",
		Claims: identity, Scope: "openid profile email",
		Created: now, LastUsed: now, AccessExpires: now.Add(5 * time.Minute), IDTokenIssued: now,
	}
}

func BenchmarkOpen(b *testing.B) {
	cookies := NewCookies(CookieConfig{DefaultName: "oidc-1a2b3c", HTTPOnly: true, Persistent: true})
	binding := Binding{CookieName: cookies.Name(true), Issuer: "https://id.example.com", ClientID: "app", Host: "app.example.com"}
	sealer := NewSealer(secretKeys(b))
	ctx := context.Background()
	for name, fill := range map[string]func(*Session){
		"claims":          func(*Session) {},
		"access token":    func(s *Session) { s.AccessToken = signed(access) },
		"access, refresh": func(s *Session) { s.AccessToken, s.RefreshToken = signed(access), signed(refresh) },
		"all tokens": func(s *Session) {
			s.AccessToken, s.RefreshToken, s.IDToken = signed(access), signed(refresh), signed(identity)
		},
		"opaque tokens": func(s *Session) { s.AccessToken, s.RefreshToken = "ya29."+random(1000), "1//"+random(500) },
		"tokens and lists": func(s *Session) {
			s.AccessToken, s.Claims = signed(access), identity+strings.Repeat(`"/staff/engineering",`, 200)
		},
	} {
		b.Run(name, func(b *testing.B) {
			sess := benchmarkSession()
			fill(sess)
			sealed, _, err := cookies.SealSession(ctx, sealer, binding, sess)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := openSession(ctx, sealer, binding, sealed); err != nil {
					b.Fatal(err)
				}
			}
			count, size := cookies.pieces(binding.CookieName, len(sealed))
			b.ReportMetric(float64(size), "bytes")
			b.ReportMetric(float64(count), "cookies")
		})
	}
}

func BenchmarkTake(b *testing.B) {
	cookies := NewCookies(CookieConfig{DefaultName: "oidc-1a2b3c"})
	session := "__Host-oidc-1a2b3c=" + strings.Repeat("a", 2000)
	for name, line := range map[string]string{
		"absent": "theme=dark; language=en", "alone": session,
		"last": "theme=dark; " + session, "between": "theme=dark; " + session + "; language=en",
	} {
		b.Run(name, func(b *testing.B) {
			header := make(http.Header)
			lines := make([]string, 1)
			b.ReportAllocs()
			for b.Loop() {
				lines[0] = line
				header["Cookie"] = lines
				cookies.Take(header, true)
			}
		})
	}
}
