package openidconnect

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
)

const (
	// proofLifetime is how old a proof may be; it is made for one request.
	proofLifetime = 60 * time.Second
	// maxProofs bounds the proofs remembered in one lifetime. Each belongs to a valid token, so strangers cannot fill the memory, and
	// maxProofsOfKey keeps a single client from taking the last half.
	maxProofs      = 500_000
	maxProofsOfKey = 20_000
)

// checkProof judges the proof of possession of a request (RFC 9449 section 4.3): that whoever sends the token holds, now and for
// this very request, the key that the token is bound to.
func (rt *runtime) checkProof(r *http.Request, st *requestState, raw, thumbprint string, now time.Time) *refusal {
	proofs := r.Header["Dpop"]
	if len(proofs) != 1 {
		return refuseClaim(reasonProofInvalid, "one DPoP header", len(proofs))
	}
	proof, key, err := jose.ParseProof(proofs[0], jose.MaxClientToken)
	if err != nil {
		return &refusal{reason: reasonProofInvalid, expected: "a signed proof with its public key", got: err.Error()}
	}
	if !strings.EqualFold(proof.Type, "dpop+jwt") {
		return refuseClaim(reasonProofInvalid, "typ dpop+jwt", "typ "+proof.Type)
	}
	if subtle.ConstantTimeCompare([]byte(key.Thumbprint()), []byte(thumbprint)) != 1 {
		return refuseClaim(reasonProofInvalid, "the key that the token is bound to", "another key")
	}
	if method, _ := proof.Claims["htm"].(string); method != r.Method {
		return refuseClaim(reasonProofInvalid, "htm "+r.Method, proof.Claims["htm"])
	}
	address, _ := proof.Claims["htu"].(string)
	if expected := publicOrigin(r) + originalURL(r).EscapedPath(); !sameTarget(address, expected) {
		return refuseClaim(reasonProofInvalid, "htu "+expected, proof.Claims["htu"])
	}
	hash := sha256.Sum256([]byte(raw))
	if ath, _ := proof.Claims["ath"].(string); ath != base64.RawURLEncoding.EncodeToString(hash[:]) {
		return refuseClaim(reasonProofInvalid, "ath of this token", "another")
	}
	if age := now.Sub(proof.IssuedAt); proof.IssuedAt.IsZero() || age > proofLifetime+rt.policy.skew || age < -rt.policy.skew {
		return refuseClaim(reasonProofInvalid, "iat near "+now.UTC().Format(time.RFC3339), proof.Claims["iat"])
	}
	id, _ := proof.Claims["jti"].(string)
	if id == "" {
		return refuseClaim(reasonProofInvalid, "jti", proof.Claims["jti"])
	}
	// an outer handler may have admitted the proof in this very request
	if digest := tokenDigest(sha256.Sum256([]byte(thumbprint + " " + id))); digest != st.proof {
		if !rt.proofs.first(digest, thumbprint, now) {
			return refuseClaim(reasonProofReplayed, "a proof that was not used before", "one that was")
		}
		st.proof = digest
	}
	return nil
}

// sameTarget compares the target of a proof with that of the request, without query and fragment, as RFC 3986 section 6.2 has
// equal URLs written.
func sameTarget(a, b string) bool {
	first, err := url.Parse(a)
	if err != nil {
		return false
	}
	second, err := url.Parse(b)
	if err != nil {
		return false
	}
	return normalTarget(first) == normalTarget(second)
}

func normalTarget(u *url.URL) string {
	return originOf(u) + or(normalPath(u.EscapedPath()), "/")
}

// normalPath is an escaped path in which what needs no escape has none (RFC 3986 section 6.2.2).
func normalPath(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] != '%' || i+2 >= len(path) {
			b.WriteByte(path[i])
			continue
		}
		escaped := path[i : i+3]
		i += 2
		if c, err := url.PathUnescape(escaped); err == nil && strings.ContainsAny(c, unreserved) {
			b.WriteString(c)
		} else {
			b.WriteString(strings.ToUpper(escaped))
		}
	}
	return b.String()
}

// unreserved are the characters that mean the same with an escape and without (RFC 3986 section 2.3), but for the dot: not everybody who sees a
// path takes an escaped one for a segment of dots.
const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~"

// proofMemory remembers the proofs that have been used, for as long as they could be used again. It keeps two generations, each as
// long as a proof can live, and forgets the older one as a whole.
type proofMemory struct {
	lifetime time.Duration

	mu       sync.Mutex
	since    time.Time // of the current generation
	current  map[tokenDigest]struct{}
	previous map[tokenDigest]struct{}
	ofKey    map[string]int // proofs of the current generation by thumbprint
}

func newProofMemory(lifetime time.Duration) *proofMemory {
	return &proofMemory{lifetime: lifetime, current: make(map[tokenDigest]struct{}), ofKey: make(map[string]int)}
}

// first reports whether the proof was not seen before, and remembers it. When the memory is full it reports false: a proof that cannot
// be remembered could be used again.
func (m *proofMemory) first(proof tokenDigest, thumbprint string, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if age := now.Sub(m.since); age >= m.lifetime {
		m.previous = m.current
		if age >= 2*m.lifetime {
			m.previous = nil
		}
		m.current, m.ofKey, m.since = make(map[tokenDigest]struct{}), make(map[string]int), now
	}
	_, inCurrent := m.current[proof]
	_, inPrevious := m.previous[proof]
	if inCurrent || inPrevious || len(m.current) >= maxProofs ||
		len(m.current) >= maxProofs/2 && m.ofKey[thumbprint] >= maxProofsOfKey {
		return false
	}
	m.current[proof] = struct{}{}
	m.ofKey[thumbprint]++
	return true
}
