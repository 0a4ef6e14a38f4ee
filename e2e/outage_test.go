package e2e

import (
	"net/http"
	"testing"
	"time"
)

// expectUnavailable makes a request that must be told to come back later.
func (s *site) expectUnavailable(t *testing.T, what, token, reason string) {
	t.Helper()
	answer := s.expect(t, what, token, "503", reason)
	if answer.Header.Get("Retry-After") == "" {
		t.Errorf("%s: the 503 has no Retry-After", what)
	}
}

// accepted returns a condition for eventually: a fresh token of the client is accepted. Until then only 503 will do.
func (s *site) accepted(t *testing.T, p identityProvider, c client) func() bool {
	t.Helper()
	token := mustFetch(t, p, c)
	return func() bool {
		answer := s.get(t, token)
		if answer.Status != http.StatusOK && answer.Status != http.StatusServiceUnavailable {
			t.Fatalf("got %s while the provider comes back\n%s", answer.Outcome(), answer.Body)
		}
		return answer.Status == http.StatusOK
	}
}

// TestOutageWithKnownKeys stops a provider whose keys Caddy has.
func TestOutageWithKnownKeys(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, p identityProvider) {
		t.Parallel()
		s := loadAlone(t, p.issuer(), "audience "+apiAudience)
		seen, unseen := mustFetch(t, p, reader), mustFetch(t, p, reader)
		s.expect(t, "before", seen, "200", "")

		p.rotate(t)
		unknownKey := mustFetch(t, p, reader)
		p.stop(t)
		s.expect(t, "a token that was seen", seen, "200", "")
		s.expect(t, "a token that was not seen", unseen, "200", "")
		s.expect(t, "a token of a key that is not known", unknownKey, "401 invalid_token", "unknown_key")
		s.expect(t, "no token", "", "401", "no_credentials")

		p.start(t)
		s.expect(t, "a token from before", seen, "200", "")

		// The try above must not keep Caddy from fetching the keys again.
		fresh := mustFetch(t, p, reader)
		eventually(t, "a token of a new key is accepted", time.Minute, func() bool {
			return s.get(t, fresh).Status == http.StatusOK
		})
	})
}

// TestOutageBeforeAnyKeys has Caddy start without the provider.
func TestOutageBeforeAnyKeys(t *testing.T) {
	eachProvider(t, func(t *testing.T, p identityProvider) {
		token := mustFetch(t, p, reader)
		p.stop(t)
		s := load(t, p.issuer(), "audience "+apiAudience)
		s.expectUnavailable(t, "a token", token, "")
		s.expect(t, "no token", "", "401", "no_credentials")
		s.expect(t, "not a token", "nonsense", "401 invalid_token", "malformed_token")

		p.start(t)
		eventually(t, "a token is accepted", time.Minute, s.accepted(t, p, reader))
	})
}

// TestIntrospectionOutage stops a provider that has to be asked about each token.
func TestIntrospectionOutage(t *testing.T) {
	eachProvider(t, func(t *testing.T, p identityProvider) {
		s := load(t, p.issuer(), append(introspecting(), "audience "+apiAudience)...)
		seen, unseen := mustFetch(t, p, opaqueReader), mustFetch(t, p, opaqueReader)
		s.expect(t, "before", seen, "200", "")

		p.stop(t)
		s.expect(t, "a token that was seen", seen, "200", "")
		s.expectUnavailable(t, "a token that was not seen", unseen, "introspection_unavailable")
		s.expect(t, "no token", "", "401", "no_credentials")

		p.start(t)
		eventually(t, "a token is accepted", time.Minute, s.accepted(t, p, opaqueReader))
	})
}
