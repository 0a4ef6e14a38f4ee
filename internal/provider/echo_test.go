package provider

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
)

// The attack: a provider, or what stands before it, puts what it was sent into its answer where we would quote it in a log. No part of a
// token or secret may get there, whatever the endpoint.
func TestErrorsDoNotEcho(t *testing.T) {
	t.Parallel()
	const secret, code = "our-client-secret~alder-birch", "code-8264-hjklpoiu-CdMnTyUv" // no two secrets have eight characters in common
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var raw string // the answer
	answerWith := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		raw = text
	}
	var wait sync.WaitGroup
	defer wait.Wait()
	defer listener.Close()
	wait.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				defer connection.Close()
				request, err := http.ReadRequest(bufio.NewReader(connection))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, request.Body)
				mu.Lock()
				defer mu.Unlock()
				_, _ = io.WriteString(connection, raw)
			})
		}
	})
	base := "http://" + listener.Addr().String()
	p := New(Config{
		Issuer: base, StaticKeys: new(jose.KeySet), Timeout: 5 * time.Second,
		Endpoints: Endpoints{Token: base + "/token", Introspection: base + "/introspect", Userinfo: base + "/userinfo", Revocation: base + "/revoke"},
	})
	p.client.Transport.(*http.Transport).Proxy = nil
	defer p.Close()
	inHeader := &ClientAuthentication{Method: ClientSecretBasic, ClientID: "client", ClientSecret: secret}
	inForm := &ClientAuthentication{Method: ClientSecretPost, ClientID: "client", ClientSecret: secret}
	calls := map[string]struct {
		sentinel error
		secrets  []string
		call     func() error
	}{
		"revocation": {ErrRevocation, []string{revokedToken, secret}, func() error {
			return p.Revoke(t.Context(), inHeader, revokedToken, HintRefreshToken)
		}},
		"revocation, secret in the form": {ErrRevocation, []string{revokedToken, secret}, func() error {
			return p.Revoke(t.Context(), inForm, revokedToken, HintRefreshToken)
		}},
		"refresh": {ErrToken, []string{revokedToken, secret}, func() error {
			_, err := p.Refresh(t.Context(), inHeader, RefreshGrant{RefreshToken: revokedToken})
			return err
		}},
		"exchange": {ErrToken, []string{code, verifier, secret}, func() error {
			_, err := p.Exchange(t.Context(), inHeader, CodeGrant{Code: code, RedirectURI: callback, Verifier: verifier})
			return err
		}},
		"introspection": {ErrIntrospection, []string{revokedToken, secret}, func() error {
			_, _, err := p.NewIntrospector(inHeader).Introspect(t.Context(), revokedToken, nil)
			return err
		}},
		"userinfo": {ErrUserinfo, []string{revokedToken}, func() error {
			_, _, err := p.Userinfo(t.Context(), revokedToken)
			return err
		}},
	}
	answers := map[string]func(echo string) string{
		"error code": func(echo string) string {
			body := `{"error":"` + echo + `"}`
			return "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + body
		},
		"Location":          func(echo string) string { return "HTTP/1.1 302 Found\r\nLocation: http://[" + echo + "\r\n\r\n" },
		"status line":       func(echo string) string { return "HTTP/1.1 " + echo + "\r\n\r\n" },
		"protocol":          func(echo string) string { return echo + "\r\n\r\n" },
		"header":            func(echo string) string { return "HTTP/1.1 200 OK\r\n" + echo + "\r\n\r\n" },
		"Content-Length":    func(echo string) string { return "HTTP/1.1 200 OK\r\nContent-Length: " + echo + "\r\n\r\n" },
		"Transfer-Encoding": func(echo string) string { return "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + echo + "\r\n\r\n" },
	}
	for name, test := range calls {
		for place, answer := range answers {
			// what is harmless may be told, which shows that this place is one where an answer is quoted
			answerWith(answer("harmless_x"))
			plain := test.call()
			if !errors.Is(plain, test.sentinel) {
				t.Errorf("%s, %s: %v", name, place, plain)
			}
			if hidden := strings.Contains(plain.Error(), "a part of a secret"); hidden {
				t.Errorf("%s, %s: hidden without need: %v", name, place, plain)
			}
			for _, secret := range test.secrets {
				for _, echo := range []string{secret, secret[:len(secret)/2], secret[4:14], "token_" + secret, "token-" + secret[3:16] + "-is-not-ours"} {
					answerWith(answer(echo))
					err := test.call()
					if !errors.Is(err, test.sentinel) {
						t.Errorf("%s, %s: %v", name, place, err)
						continue
					}
					for i := range len(secret) - 7 {
						if strings.Contains(err.Error(), secret[i:i+8]) {
							t.Errorf("%s, %s %q: the error has a part of a secret: %v", name, place, echo, err)
							break
						}
					}
				}
			}
		}
	}
	answerWith("HTTP/1.1 harmless_x\r\n\r\n")
	if err := calls["revocation"].call(); !strings.Contains(err.Error(), "harmless_x") {
		t.Errorf("net/http does not quote, so this test shows little: %v", err)
	}
	answerWith("HTTP/1.1 " + strings.Repeat("x", 2*maxQuoted) + "\r\n\r\n")
	if err := calls["revocation"].call(); strings.Contains(err.Error(), "xxx") {
		t.Errorf("a long quotation: %v", err)
	}
}

// What is ours is told: that a secret looks like a part of the endpoint's URL hides no reason of the network.
func TestErrorsNameTheReason(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + listener.Addr().String()
	listener.Close()
	p := New(Config{
		Issuer: base, StaticKeys: new(jose.KeySet), Timeout: 5 * time.Second, Endpoints: Endpoints{Revocation: base + "/protocol/openid-connect/revoke"},
	})
	p.client.Transport.(*http.Transport).Proxy = nil
	defer p.Close()
	client := &ClientAuthentication{Method: ClientSecretBasic, ClientID: "client", ClientSecret: "openid-connect-secret"}
	if err := p.Revoke(t.Context(), client, revokedToken, ""); !errors.Is(err, ErrRevocation) || !strings.Contains(err.Error(), "dial tcp") {
		t.Errorf("got %v", err)
	}
}
