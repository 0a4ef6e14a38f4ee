package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// provider is an identity provider reduced to what a gateway asks of it: metadata, keys and logins. It counts the questions.
type provider struct {
	issuer      string
	secure      string // where it is by TLS
	certificate []byte // of its own making, for rsaKey
	rsaKey      *rsa.PrivateKey
	ecKey       *ecdsa.PrivateKey
	server      *http.Server
	discoveries atomic.Int64
	keyFetches  atomic.Int64
	users       atomic.Int64 // that have logged in
	grants      sync.Map     // by code
	refreshes   refreshes
}

// audience is the API that all tokens are meant for.
const audience = "https://api.example.com"

const (
	// tokenLifetime is longer than anything that is measured, shortLifetime much shorter; firstLifetime is enough for a login.
	tokenLifetime = 6 * time.Hour
	shortLifetime = 2 * time.Second
	firstLifetime = 20 * time.Second
)

func startProvider() (*provider, error) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	point, err := ecKey.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	keys := keySet(&rsaKey.PublicKey, point)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &provider{issuer: "http://" + listener.Addr().String(), rsaKey: rsaKey, ecKey: ecKey}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		p.discoveries.Add(1)
		answerJSON(w, p.metadata())
	})
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		p.keyFetches.Add(1)
		answerJSON(w, keys)
	})
	p.serveLogins(mux)
	p.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	if err := p.serveTLS(); err != nil {
		return nil, err
	}
	go func() { _ = p.server.Serve(listener) }() // ends with close
	return p, nil
}

// serveTLS serves the same by TLS: there are gateways that fetch keys in no other way.
func (p *provider) serveTLS() error {
	var err error
	p.certificate, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(tokenLifetime), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, &x509.Certificate{}, &p.rsaKey.PublicKey, p.rsaKey)
	if err != nil {
		return err
	}
	p.server.TLSConfig = &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{{Certificate: [][]byte{p.certificate}, PrivateKey: p.rsaKey}},
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p.secure = "https://" + listener.Addr().String()
	go func() { _ = p.server.ServeTLS(listener, "", "") }() // ends with close
	return nil
}

func (p *provider) close() { p.server.Close() }

func answerJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	// a client that went away is its own affair
	_ = json.NewEncoder(w).Encode(value)
}

func (p *provider) metadata() map[string]any {
	return map[string]any{
		"issuer":                                p.issuer,
		"authorization_endpoint":                p.issuer + "/authorize",
		"token_endpoint":                        p.issuer + "/token",
		"jwks_uri":                              p.issuer + "/jwks",
		"response_types_supported":              []string{"code"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256", "ES256"},
	}
}

// keySet is the JWKS. The point is the uncompressed one: a byte of its own, then both coordinates.
func keySet(rsaKey *rsa.PublicKey, point []byte) map[string]any {
	return map[string]any{"keys": []map[string]string{
		{
			"kty": "RSA", "kid": "rsa", "use": "sig", "alg": "RS256",
			"n": encode(rsaKey.N.Bytes()),
			"e": encode(big.NewInt(int64(rsaKey.E)).Bytes()),
		},
		{
			"kty": "EC", "crv": "P-256", "kid": "ec", "use": "sig", "alg": "ES256",
			"x": encode(point[1:33]),
			"y": encode(point[33:]),
		},
	}}
}

// token mints the access token of user number n, for requests without a login.
func (p *provider) token(alg string, n int) (string, error) {
	now := time.Now()
	return p.jwt(alg, "at+jwt", map[string]any{
		"iss":       p.issuer,
		"sub":       fmt.Sprintf("user-%06d", n),
		"aud":       []string{audience},
		"client_id": "bench",
		"iat":       now.Unix(),
		"exp":       now.Add(tokenLifetime).Unix(),
		"jti":       rand.Text(),
		"scope":     "openid profile email orders:read",
		"email":     fmt.Sprintf("user-%06d@example.com", n),
		"name":      "Erika Mustermann",
		"groups":    []string{"staff", "sales", "emea"},
	})
}

// jwt signs claims.
func (p *provider) jwt(alg, tokenType string, claims map[string]any) (string, error) {
	header := map[string]string{"alg": alg, "typ": tokenType, "kid": "rsa"}
	if alg == "ES256" {
		header["kid"] = "ec"
	}
	headerJSON, err := json.Marshal(header)
	if err != nil {
		return "", err
	}
	claimsJSON, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	input := encode(headerJSON) + "." + encode(claimsJSON)
	signature, err := p.sign(alg, input)
	if err != nil {
		return "", err
	}
	return input + "." + encode(signature), nil
}

func (p *provider) sign(alg, input string) ([]byte, error) {
	digest := sha256.Sum256([]byte(input))
	switch alg {
	case "RS256":
		return rsa.SignPKCS1v15(nil, p.rsaKey, crypto.SHA256, digest[:])
	case "ES256":
		r, s, err := ecdsa.Sign(rand.Reader, p.ecKey, digest[:])
		if err != nil {
			return nil, err
		}
		signature := make([]byte, 64)
		r.FillBytes(signature[:32])
		s.FillBytes(signature[32:])
		return signature, nil
	default:
		return nil, fmt.Errorf("no key for algorithm %s", alg)
	}
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
