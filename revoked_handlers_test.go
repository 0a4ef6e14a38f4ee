package openidconnect

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// A reload may bring a list of its own: one that follows what other instances write, in the place of one that does not. What was known of
// a session by the old list must not be taken for what the new one knows.
func TestReloadsWithAnotherList(t *testing.T) {
	for name, change := range map[string][2]string{
		"from its own to a shared one": {"refresh_coordination local", ""},
		"from a shared one to its own": {"", "refresh_coordination local"},
		"the same":                     {"", "claim_header X-User sub"},
	} {
		t.Run(name, func(t *testing.T) {
			p := optest.New(t)
			b := newCaddyBackchannel(t, p, webapp(p, "", change[0])+toUpstream)
			other := b.signIn("bob", "t", "/")
			victims := make([]*visitor, 8)
			for i := range victims {
				victims[i] = b.signIn("alice", fmt.Sprint("s-", i), "/")
			}
			for i, v := range victims { // each is looked at when the list is another one
				b.wantSignedIn(true, "/", v)
				wantDone(t, b.send(backchannelPath, p.LogoutToken(optest.BySID(fmt.Sprint("unknown-", i)))))
			}
			if err := b.c.load(webapp(p, "", change[1]) + toUpstream); err != nil {
				t.Fatal(err)
			}
			b.wantSignedIn(true, "/", other)
			wantDone(t, b.send(backchannelPath, p.LogoutToken(optest.BySub("alice"))))
			for i, v := range victims {
				if r := v.Get(b.c.url("/"), "Accept: application/json"); r.Status != http.StatusUnauthorized {
					t.Errorf("after the logout session %d gets %d", i, r.Status)
				}
			}
			b.wantSignedIn(true, "/", other)
		})
	}
}
