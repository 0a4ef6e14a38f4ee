package redis

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/caddyserver/caddy/v2/modules/caddytls" // tls.ca_pool.source.file
)

// authority is a certificate authority with its own folder.
type authority struct {
	directory   string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{directory: t.TempDir()}
	a.certificate, a.key = a.issue(t, "authority", &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: "authority"},
	})
	return a
}

// issue writes name.crt and name.key.
func (a *authority) issue(t *testing.T, name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".crt": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(a.file(file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}

func (a *authority) file(name string) string { return filepath.Join(a.directory, name) }

func TestTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.issue(t, "server", &x509.Certificate{DNSNames: []string{"redis.internal"}, IPAddresses: []net.IP{net.ParseIP("127.0.0.1")}})
	a.issue(t, "client", &x509.Certificate{
		Subject: pkix.Name{CommonName: "gateway"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	newServer(t, "--tls-port", strconv.Itoa(port), "--tls-cert-file", a.file("server.crt"), "--tls-key-file", a.file("server.key"),
		"--tls-ca-cert-file", a.file("authority.crt"), "--tls-auth-clients", "yes")

	trust := settings{"provider": "file", "pem_files": []string{a.file("authority.crt")}}
	own := settings{"certificate": a.file("client.crt"), "key": a.file("client.key")}
	good := patient(settings{"port": port, "ssl": true, "tls_trust_pool": trust, "tls_client_certificate": own})
	for name, config := range map[string]settings{
		"the address's certificate": good,
		"another name":              good.with(settings{"server_name": "redis.internal"}),
		"no verification":           {"port": port, "ssl": true, "ssl_verify": false, "tls_client_certificate": own},
	} {
		if err := exercise(t.Context(), newStore(t, patient(config))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	const unknown = "certificate signed by unknown authority"
	others := settings{"provider": "file", "pem_files": []string{newAuthority(t).file("authority.crt")}}
	for name, test := range map[string]struct {
		config settings
		want   string
	}{
		"authority unknown":    {patient(settings{"port": port, "ssl": true, "tls_client_certificate": own}), unknown},
		"another authority":    {good.with(settings{"tls_trust_pool": others}), unknown},
		"wrong name":           {good.with(settings{"server_name": "other.internal"}), "not other.internal"},
		"no certificate":       {settings{"port": port, "ssl": true, "tls_trust_pool": trust}, "redis: "},
		"no TLS at all":        {settings{"port": port}, "redis: "},
		"unknown, verified":    {patient(settings{"port": port, "ssl": true, "ssl_verify": true, "tls_client_certificate": own}), unknown},
		"a server without TLS": {settings{"port": shared.port, "ssl": true}, "redis: "},
	} {
		_, err := newStore(t, test.config).Load(t.Context(), "key")
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "does not exist") {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func TestChangedAuthoritiesAreAnotherClient(t *testing.T) {
	t.Parallel()
	a, b := newAuthority(t), newAuthority(t)
	config := settings{
		"host": "127.0.0.9", "port": 6393, "ssl": true,
		"tls_trust_pool": settings{"provider": "file", "pem_files": []string{a.file("authority.crt")}},
	}
	first := newStore(t, config)
	if newStore(t, config).client != first.client {
		t.Fatal("the same authorities are another client")
	}
	renewed, err := os.ReadFile(b.file("authority.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.file("authority.crt"), renewed, 0o600); err != nil {
		t.Fatal(err)
	}
	if newStore(t, config).client == first.client {
		t.Error("the file has another authority, and the client the old one")
	}
}
