package openidconnect

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"strings"
	"time"
)

// How tokens that are bound to a key are treated.
const (
	boundAuto     = "auto"
	boundRequired = "required"
	boundOff      = "off"
)

// Members of cnf, which say what a token is bound to.
const (
	confirmationKey         = "jkt"      // RFC 9449 section 6.1
	confirmationCertificate = "x5t#S256" // RFC 8705 section 3.1
)

// checkBinding judges what changes from request to request: whether the sender has proven the key that the token is bound to
// (RFC 7800). It runs for cached tokens too. A confirmation of a kind that is not known here cannot be proven, so it refuses.
func (rt *runtime) checkBinding(r *http.Request, st *requestState, token *verifiedToken, raw, scheme string, now time.Time) *refusal {
	confirmation, _ := token.confirmation.(map[string]any)
	thumbprint, _ := confirmation[confirmationKey].(string)
	certificate, _ := confirmation[confirmationCertificate].(string)
	known := 0
	for _, member := range []string{thumbprint, certificate} {
		if member != "" {
			known++
		}
	}
	switch {
	case token.bound && (known == 0 || known != len(confirmation)):
		return refuseClaim(reasonUnbound, "cnf with jkt or x5t#S256", "cnf with "+strings.Join(sortedKeys(confirmation), " "))
	case rt.policy.mtlsBound == boundRequired && certificate == "":
		return refuseClaim(reasonUnbound, "a token bound to a client certificate", "one that is not")
	case rt.policy.dpopBound == boundRequired && thumbprint == "":
		return refuseClaim(reasonUnbound, "a token bound to a DPoP key", "one that is not")
	case scheme == schemeDPoP && thumbprint == "":
		return refuseClaim(reasonUnbound, "a token bound to a DPoP key", "one that is not, with the DPoP scheme")
	}
	if certificate != "" && rt.policy.mtlsBound != boundOff {
		if refused := checkCertificate(clientCertificate(r), certificate); refused != nil {
			return refused
		}
	}
	if thumbprint != "" && rt.policy.dpopBound != boundOff {
		if scheme != schemeDPoP {
			return refuseClaim(reasonUnbound, "the DPoP scheme", "the Bearer scheme")
		}
		return rt.checkProof(r, st, raw, thumbprint, now)
	}
	return nil
}

// checkCertificate compares the client's certificate with the digest that the token is bound to (RFC 8705 section 3.1).
func checkCertificate(certificate *x509.Certificate, expected string) *refusal {
	if certificate == nil {
		return refuseClaim(reasonUnbound, "a client certificate", nil)
	}
	sum := sha256.Sum256(certificate.Raw)
	if base64.RawURLEncoding.EncodeToString(sum[:]) != expected {
		return refuseClaim(reasonUnbound, "the client certificate that the token is bound to", "another certificate")
	}
	return nil
}

// clientCertificate is the certificate that the client has proven in this very connection.
func clientCertificate(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	return r.TLS.PeerCertificates[0]
}
