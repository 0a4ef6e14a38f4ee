package openidconnect

import (
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// A second revocation in the very second of a first one and of the login in between ends that login's session too.
func TestRevokingTwiceInOneSecond(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	now := s.handler.runtime.now()
	s.setNow(now)
	for range 3 {
		v := newVisitor(t, s, p)
		v.signIn("/")
		v.wantSession(true)
		request := revokeRequest{Subject: "alice"}
		if _, err := request.carryOut(t.Context(), []*Handler{s.handler}); err != nil {
			t.Fatal(err)
		}
		v.wantSession(false)
	}
}
