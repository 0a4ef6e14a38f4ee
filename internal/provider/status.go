package provider

import (
	"strings"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
)

// Status is what an operator may see of a provider. It holds no secret, and is the reader's to keep.
type Status struct {
	Issuer string // as the provider states it, else as configured; empty when neither is known yet
	// Up says that all that is needed is known, and that the last fetch, if there was any, did not fail.
	Up bool
	// Asked says that a fetch has ended, well or not. Where all is configured there is never one.
	Asked bool

	MetadataFetched time.Time // zero: never
	KeysFetched     time.Time // zero: never
	NextFetch       time.Time // of those that are planned; zero: none is, or it is under way

	Keys      []KeyStatus // in the order of the provider's key set
	Endpoints Endpoints   // as far as they are known

	// LastError is the latest failure of a fetch, which stays when the provider has recovered; empty: there was none.
	LastError   string
	LastErrorAt time.Time
}

// KeyStatus describes a verification key in the words of RFC 7517 and RFC 7518.
type KeyStatus struct {
	ID        string // kid; empty: none
	Type      string // kty
	Algorithm string // alg; empty: not stated
	Curve     string // crv; empty for RSA
}

// Status returns what is known of the provider at this moment. It makes no call and waits for none.
func (p *Provider) Status() Status {
	p.mu.Lock()
	s := p.state.Load()
	status := Status{
		Issuer:          p.config.Issuer,
		Up:              !p.down && p.complete(s),
		Asked:           !p.lastFetch.IsZero(),
		MetadataFetched: s.metadataAt,
		KeysFetched:     s.keysAt,
		Endpoints:       p.config.Endpoints,
		LastError:       p.failure.text,
		LastErrorAt:     p.failure.at,
	}
	if p.next.After(p.now()) {
		status.NextFetch = p.next
	}
	p.mu.Unlock()
	if s.metadata != nil {
		status.Issuer, status.Endpoints = s.metadata.Issuer, s.metadata.Endpoints
	}
	if s.keys != nil {
		status.Keys = describeKeys(s.keys)
	}
	return status
}

func describeKeys(keys *jose.KeySet) (described []KeyStatus) {
	for key := range keys.All() {
		kty, curve := key.Type()
		described = append(described, KeyStatus{ID: key.ID, Type: kty, Algorithm: key.Algorithm(), Curve: curve})
	}
	return described
}

// maxFailureText bounds what is kept of an error, which may quote what the provider has sent.
const maxFailureText = 1 << 10

func bounded(text string) string {
	if len(text) <= maxFailureText {
		return text
	}
	return strings.ToValidUTF8(text[:maxFailureText], "") + "..."
}
