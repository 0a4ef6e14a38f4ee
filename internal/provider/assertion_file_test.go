package provider

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// RFC 7523: an assertion that the platform makes and renews is read anew for each call and sent as it is, in place of one of our own.
func TestAssertionFile(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	platform := optest.NewKey(t, "ES256", "platform")
	private, err := jose.ParsePrivateKey(optest.NewKey(t, "ES256", "ours").PrivatePEM(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	current := optest.Sign(platform, nil, optest.Claims{"sub": "first"})
	op.SetAssertionChecker(func(raw string) error {
		if raw != current {
			return errors.New("not the platform's")
		}
		return nil
	})
	path := filepath.Join(t.TempDir(), "assertion")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	client := &ClientAuthentication{Method: PrivateKeyJWT, ClientID: "client", Signer: private, AssertionFile: path}
	p := newProvider(t, op, nil)
	exchange := func() error {
		_, err := p.Exchange(t.Context(), client, newGrant(op))
		return err
	}
	write(current)
	if err := exchange(); err != nil {
		t.Fatal(err)
	}
	if form := op.TokenRequests()[0]; form.Get("client_id") != "client" || form.Get("client_assertion_type") != clientAssertionType {
		t.Errorf("form %v", form)
	}
	current = optest.Sign(platform, nil, optest.Claims{"sub": "renewed"})
	write("\n " + current + "\r\n")
	if err := exchange(); err != nil {
		t.Errorf("renewed: %v", err)
	}
	if _, _, err := p.NewIntrospector(client).Introspect(t.Context(), "token", nil); err != nil {
		t.Errorf("introspection: %v", err)
	}
	// a signer is not needed
	client.Signer = nil
	if err := exchange(); err != nil {
		t.Errorf("without a signer: %v", err)
	}

	hits := op.Hits(optest.Token)
	refused := func(name string) {
		t.Helper()
		err := exchange()
		if !errors.Is(err, ErrToken) || !strings.Contains(err.Error(), "client_assertion_file") || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "space": " \n", "text": "hidden", "three words": "hidden.b.c",
		"two segments": "eyJhbGciOiJub25lIn0.hidden", "JSON": `{"token":"hidden"}`,
		"two JWTs": current + "\n" + current,
		"PEM":      optest.NewKey(t, "ES256", "hidden").PrivatePEM(), "too large": current + strings.Repeat(" ", maxAssertionFile),
	} {
		write(text)
		refused(name)
	}
	client.AssertionFile = filepath.Dir(path)
	refused("a directory")
	client.AssertionFile = path + ".missing"
	refused("missing")
	if op.Hits(optest.Token) != hits {
		t.Error("a request was sent without the assertion")
	}

	// the file is of one method alone
	write(current)
	symmetric, err := jose.NewSecretSigner([]byte(strings.Repeat("s", 32)), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{ClientSecretBasic, ClientSecretPost, ClientSecretJWT} {
		client = &ClientAuthentication{Method: method, ClientID: "client", ClientSecret: "secret", Signer: symmetric, AssertionFile: path}
		if err := exchange(); (err != nil) != (method == ClientSecretJWT) { // the checker knows the platform's alone
			t.Errorf("%s: %v", method, err)
		}
		if forms := op.TokenRequests(); forms[len(forms)-1].Get("client_assertion") == current {
			t.Errorf("%s: the platform's assertion was sent", method)
		}
	}
}
