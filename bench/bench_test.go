package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"
)

const wrkOutput = `Running 5s test @ http://127.0.0.1:8080/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.71ms    1.01ms  20.17ms   88.77%
    Req/Sec    11.93k     1.20k   13.61k    80.00%
  Latency Distribution
     50%    2.50ms
     75%    2.90ms
     90%  999.00us
     99%    1.20s
  59369 requests in 5.00s, 7.98MB read
Requests/sec:  11869.13
Transfer/sec:      1.60MB
`

func TestParseLoad(t *testing.T) {
	t.Parallel()
	got, err := parseLoad(wrkOutput)
	want := round{requests: 59369, perSecond: 11869.13, median: 2500 * time.Microsecond, p99: 1200 * time.Millisecond}
	if err != nil || got != want {
		t.Errorf("parseLoad = %+v, %v, want %+v", got, err, want)
	}
	for name, output := range map[string]string{
		"refused requests": wrkOutput + "  Non-2xx or 3xx responses: 12\n",
		"broken sockets":   wrkOutput + "  Socket errors: connect 0, read 3, write 0, timeout 0\n",
		"no requests":      strings.Replace(wrkOutput, "59369 requests", "0 requests", 1),
		"no result":        "unable to connect to 127.0.0.1:1 Connection refused\n",
	} {
		if _, err := parseLoad(output); err == nil {
			t.Errorf("%s: a result was read where there is none", name)
		}
	}
}

func TestMiddle(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 2, 9}, 3},
	} {
		if got := middle(test.values); got != test.want {
			t.Errorf("middle(%v) = %v, want %v", test.values, got, test.want)
		}
	}
}

func TestKibibytesAfter(t *testing.T) {
	t.Parallel()
	got, err := kibibytesAfter("Name:\tcaddy\nVmRSS:\t   52244 kB\nVmSwap:\t 0 kB\n", "VmRSS:")
	if err != nil || got != 52244<<10 {
		t.Errorf("got %d, %v", got, err)
	}
	if _, err := kibibytesAfter("Name:\tcaddy\n", "VmRSS:"); err == nil {
		t.Error("a status without the label gave a number")
	}
}

func TestProcessorTimeOf(t *testing.T) {
	t.Parallel()
	got, err := processorTimeOf("4711 (an odd) name) S 1 4711 4711 0 -1 4194560 9000 0 12 0 321 79 0 0 20 0 9 0 123456 1300000000 15000\n")
	if err != nil || got != 4*time.Second {
		t.Errorf("got %s, %v, want 4s", got, err)
	}
	if _, err := processorTimeOf("4711 (caddy) S 1"); err == nil {
		t.Error("a time was read where there is none")
	}
}

// TestProvider verifies tokens with nothing but what the provider serves.
func TestProvider(t *testing.T) {
	t.Parallel()
	p, err := startProvider()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	var metadata struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	fetch(t, p.issuer+"/.well-known/openid-configuration", &metadata)
	if metadata.Issuer != p.issuer {
		t.Errorf("issuer %q in the metadata of %q", metadata.Issuer, p.issuer)
	}
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	fetch(t, metadata.JWKSURI, &set)
	keys := map[string]map[string]string{}
	for _, key := range set.Keys {
		keys[key["alg"]] = key
	}
	rsaKey := &rsa.PublicKey{
		N: new(big.Int).SetBytes(decode(t, keys["RS256"]["n"])),
		E: int(new(big.Int).SetBytes(decode(t, keys["RS256"]["e"])).Int64()),
	}
	point := append([]byte{4}, append(decode(t, keys["ES256"]["x"]), decode(t, keys["ES256"]["y"])...)...)
	ecKey, err := ecdsa.ParseUncompressedPublicKey(p.ecKey.Curve, point)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, alg := range []string{"RS256", "ES256"} {
		r := &run{provider: p, minted: map[string][]string{}}
		tokens, err := r.tokens(alg, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range tokens.values {
			token := strings.TrimPrefix(value, "Bearer ")
			input, signature := cutLast(token)
			digest := sha256.Sum256([]byte(input))
			raw := decode(t, signature)
			valid := alg == "RS256" && rsa.VerifyPKCS1v15(rsaKey, crypto.SHA256, digest[:], raw) == nil ||
				alg == "ES256" && ecdsa.Verify(ecKey, digest[:], new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:]))
			if !valid {
				t.Errorf("the %s signature does not verify with the served key", alg)
			}
			if seen[token] {
				t.Error("two users share a token")
			}
			seen[token] = true
		}
	}
	if p.discoveries.Load() != 1 || p.keyFetches.Load() != 1 {
		t.Errorf("counted %d discoveries and %d key fetches, want 1 and 1", p.discoveries.Load(), p.keyFetches.Load())
	}
}

func TestCaseNames(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, c := range benchCases() {
		if names[c.name()] {
			t.Errorf("two cases are called %s", c.name())
		}
		names[c.name()] = true
	}
	for _, c := range storeCases() {
		names[c.name()] = true
	}
	for _, c := range revocationCases() {
		names[c.name()] = true
	}
	for _, want := range []string{
		"stores-1", "stores-1000", "stores-12000-cold", "revocations-1", "revocations-1000", "revocations-12000-cold",
		"rs256-1", "rs256-100", "rs256-10000-userinfo", "es256-1-cold",
		"session-1", "session-1000-userinfo", "session-groups-1", "session-12000-cold",
	} {
		if !names[want] {
			t.Errorf("no case is called %s", want)
		}
	}
}

func fetch(t *testing.T, url string, into any) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatal(err)
	}
}

func decode(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func cutLast(token string) (input, signature string) {
	i := strings.LastIndexByte(token, '.')
	return token[:i], token[i+1:]
}
