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

func benchmarkSession(tokens int) *Session {
	now := time.Unix(1_800_000_000, 0)
	return &Session{
		ID: NewID(), Subject: "248289761001", SID: "08a5019c-17e1-4977-8f42-65a12843ea02",
		Claims: `{"sub":"248289761001","name":"Jane Doe","preferred_username":"j.doe",` +
			`"email":"janedoe@example.com","email_verified":true}`,
		AccessToken: random(tokens), RefreshToken: random(tokens / 4), Scope: "openid profile email",
		Created: now, LastUsed: now, AccessExpires: now.Add(5 * time.Minute), IDTokenIssued: now,
	}
}

func BenchmarkOpen(b *testing.B) {
	cookies := NewCookies(CookieConfig{DefaultName: "oidc-1a2b3c", HTTPOnly: true, Persistent: true})
	binding := Binding{CookieName: cookies.Name(true), Issuer: "https://id.example.com", ClientID: "app", Host: "app.example.com"}
	sealer := NewSealer(secretKeys(b))
	ctx := context.Background()
	for name, tokens := range map[string]int{"2KB": 900, "compressed": 2400} {
		b.Run(name, func(b *testing.B) {
			sealed, _, err := cookies.SealSession(ctx, sealer, binding, benchmarkSession(tokens))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := OpenSession(ctx, sealer, binding, sealed); err != nil {
					b.Fatal(err)
				}
			}
			count, _ := cookies.pieces(binding.CookieName, len(sealed))
			b.ReportMetric(float64(len(sealed)), "bytes")
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
