package openidconnect

import (
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// keptWhere are the settings for where sessions are.
var keptWhere = map[string]string{
	"in cookies":     "",
	"in the storage": "session {\nstorage caddy\n}\n",
}

// A logout token ends exactly the sessions that it names, at once, whatever they are asked for by (S-218; C-079, C-088).
func TestS218LogoutTokensEndWhatTheyName(t *testing.T) {
	t.Parallel()
	for where, settings := range keptWhere {
		for name, test := range map[string]struct {
			token func(optest.Claims)
			ended []string // sids
		}{
			"by sid":                            {optest.BySID("a1"), []string{"a1"}},
			"by sub":                            {optest.BySub("alice"), []string{"a1", "a2", "a3"}},
			"by both":                           {optest.BySIDAndSub("a2", "alice"), []string{"a2"}},
			"by both, of which one is nobody's": {optest.BySIDAndSub("a2", "nobody"), []string{"a2"}},
			"by an unknown sid and a sub":       {optest.BySIDAndSub("a9", "alice"), nil},
			"by an unknown sid":                 {optest.BySID("a9"), nil},
			"by an unknown sub":                 {optest.BySub("a1"), nil},
			"by a sub as sid":                   {optest.BySID("alice"), nil},
			"by a sid of two":                   {optest.BySID("shared"), []string{"shared", "shared-2"}},
			"by a part of a sid":                {optest.BySID("a"), nil},
		} {
			t.Run(where+" "+name, func(t *testing.T) {
				t.Parallel()
				p := optest.New(t)
				stranger := optest.New(t)
				b := newBackchannelAt(t, p, newLoginSite(t, p, settings))
				elsewhere := newBackchannelAt(t, stranger, newLoginSite(t, stranger, settings))
				p.SetIntrospectionClient("client-2", "secret-2")
				client2 := b.at(newLoginSite(t, p, "client_id client-2\nclient_secret secret-2\n"+settings))
				lives := []*visitor{client2.signIn("alice", "a1"), elsewhere.signIn("alice", "a1"), elsewhere.signIn("alice", "a2"), client2.signIn("alice", "a2")}
				p.SetIntrospectionClient("client", "secret")
				people := map[string]*visitor{"shared-2": b.signIn("eve", "shared"), "shared": b.signIn("bob", "shared"), "b1": b.signIn("bob", "b1")}
				for _, sid := range []string{"a1", "a2", "a3"} {
					people[sid] = b.signIn("alice", sid)
				}
				before := slices.Collect(maps.Values(people))
				wantAlive(t, append(lives, before...)...)
				b.wantDone(p.LogoutToken(test.token))
				for sid, v := range people {
					if slices.Contains(test.ended, sid) {
						wantEnded(t, v)
					} else {
						wantAlive(t, v)
					}
				}
				wantAlive(t, lives...)
			})
		}
	}
}

// A token of another provider ends nothing, whomever it names and wherever it is sent (S-224).
func TestS224TokensOfAnotherProvider(t *testing.T) {
	t.Parallel()
	for where, settings := range keptWhere {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			ours, theirs := newBackchannel(t, settings), newBackchannel(t, settings)
			victim, other := ours.signIn("alice", "s"), theirs.signIn("alice", "s")
			for name, edit := range map[string]func(optest.Claims){
				"sid": optest.BySID("s"), "sub": optest.BySub("alice"), "both": optest.BySIDAndSub("s", "alice"),
			} {
				t.Run(name, func(t *testing.T) {
					ours := ours.in(t)
					ours.wantUntouched(func() {
						ours.wantRefused(theirs.p.LogoutToken(edit), "wrong_issuer")
						ours.wantRefused(theirs.p.LogoutToken(edit, set("iss", ours.p.Issuer())), "bad_signature")
						ours.wantRefused(theirs.p.LogoutTokenWithHeader(optest.Claims{"kid": "theirs"}, edit, set("iss", ours.p.Issuer())), "unknown_key")
					}, victim)
				})
			}
			theirs.wantDone(theirs.p.LogoutToken(optest.BySIDAndSub("s", "alice")))
			theirs.wantDone(theirs.p.LogoutToken(optest.BySub("alice")))
			wantEnded(t, other)
			wantAlive(t, victim)
			ours.wantDone(ours.p.LogoutToken(optest.BySub("alice")))
			wantEnded(t, victim)
		})
	}
}

// Whether there is such a session the answer does not tell (S-223).
func TestS223AnswersTellNothing(t *testing.T) {
	t.Parallel()
	for where, settings := range keptWhere {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			b := newBackchannel(t, settings)
			b.signIn("alice", "s")
			b.signIn("bob", "t")
			repeated := b.p.LogoutToken(optest.BySID("s"))
			var first http.Header
			for _, token := range []string{
				repeated, repeated, b.p.LogoutToken(optest.BySID("s")), b.p.LogoutToken(optest.BySID("unknown")), b.p.LogoutToken(optest.BySub("bob")),
				b.p.LogoutToken(optest.BySub("unknown")), b.p.LogoutToken(optest.BySIDAndSub("unknown", "unknown")),
			} {
				answer := b.wantDone(token)
				delete(answer.Header, "Date")
				if first == nil {
					first = answer.Header
				}
				if !maps.EqualFunc(first, answer.Header, slices.Equal) {
					t.Errorf("headers %v, of a known one %v", answer.Header, first)
				}
			}
		})
	}
}

// A sub ends the sessions of all logins until the token was made, by the provider's clock alone; a sid ends a session whenever it was made.
func TestS218WhichSessionsOfASub(t *testing.T) {
	t.Parallel()
	for where, settings := range keptWhere {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			p.SetRefreshTokens(true)
			b := newBackchannelAt(t, p, newLoginSite(t, p, withToken+settings))
			// the provider's clock is 20 seconds behind or ahead, which must not matter
			base := b.start.Add(-20 * time.Second).Unix()
			login := func(sub, sid string, iat int64) *visitor {
				p.SetIDTokenClaims(set("iat", iat))
				defer p.SetIDTokenClaims(nil)
				return b.signIn(sub, sid)
			}
			earlier, same, later := login("alice", "1", base-1), login("alice", "2", base), login("alice", "3", base+1)
			other := login("bob", "4", base-1)
			b.pass(tokenLife) // and all are renewed, so that they have newer ID tokens
			wantAlive(t, earlier, same, later, other)
			if n := p.RefreshGrants(); n != 4 {
				t.Errorf("%d renewals", n)
			}
			b.site.settle()
			by := func(name func(optest.Claims)) string { return p.LogoutToken(name, set("iat", base)) }
			b.wantDone(by(optest.BySub("alice")))
			wantEnded(t, earlier, same)
			wantAlive(t, later, other)
			b.pass(tokenLife)
			wantAlive(t, later, other) // however often they are renewed
			b.site.settle()
			b.pass(tokenLife)
			wantAlive(t, later, other)
			b.site.settle()
			b.wantDone(by(optest.BySIDAndSub("3", "alice")))
			wantEnded(t, later)
			b.wantDone(by(optest.BySID("4")))
			wantEnded(t, other)
		})
	}
}

// A login that is under way when the token arrives ends up without a session, if its ID token is not newer.
func TestLogoutTokenDuringALogin(t *testing.T) {
	t.Parallel()
	for where, settings := range keptWhere {
		for name, edit := range map[string]func(optest.Claims){"by sid": optest.BySID("s"), "by sub": optest.BySub("alice")} {
			t.Run(where+" "+name, func(t *testing.T) {
				t.Parallel()
				b := newBackchannel(t, settings)
				first := b.signIn("alice", "r") // so that everything is fetched
				iat := b.start.Unix()
				b.p.SetIDTokenClaims(set("iat", iat))
				b.p.SetSIDs(func() string { return "s" })
				v := newVisitor(t, b.site, b.p)
				v.Now = b.now
				b.site.advance()
				request := v.begin("/")
				held := make(chan struct{})
				b.p.Fail(optest.Token, optest.Fault{Wait: held, Times: 1})
				hits := b.p.Hits(optest.Token)
				arrived := make(chan *optest.Response, 1)
				go func() { arrived <- v.arrive(request, v.answerTo(request)) }()
				b.p.WaitForHits(t, optest.Token, hits+1)
				b.wantDone(b.p.LogoutToken(edit, set("iat", iat)))
				b.pass(5 * time.Second)
				close(held)
				if r := <-arrived; r.Status != http.StatusFound {
					t.Errorf("the callback got %d", r.Status)
				}
				v.wantSession(false)
				if name == "by sid" {
					wantAlive(t, first)
				}
			})
		}
	}
}

// A session that the provider has not given a sid can only be meant by its user, whatever else the token says.
func TestSessionsWithoutASID(t *testing.T) {
	t.Parallel()
	for where, settings := range keptWhere {
		for name, test := range map[string]struct {
			edit  func(optest.Claims)
			ended bool
		}{
			"by sid":                    {optest.BySID("s"), false},
			"by sub":                    {optest.BySub("alice"), true},
			"by both":                   {optest.BySIDAndSub("s", "alice"), true},
			"by both, of somebody else": {optest.BySIDAndSub("s", "bob"), false},
			"by both, made before it":   {func(c optest.Claims) { c["sid"], c["sub"], c["iat"] = "s", "alice", time.Now().Add(-time.Hour).Unix() }, false},
		} {
			t.Run(where+" "+name, func(t *testing.T) {
				t.Parallel()
				b := newBackchannel(t, settings)
				named := b.signIn("alice", "t")
				b.p.SetIDTokenClaims(set("sid", nil))
				nameless, other := b.signIn("alice", "x"), b.signIn("carol", "y")
				b.p.SetIDTokenClaims(nil)
				b.wantDone(b.p.LogoutToken(test.edit))
				if test.ended {
					wantEnded(t, nameless)
				} else {
					wantAlive(t, nameless)
				}
				if name != "by sub" {
					wantAlive(t, named)
				}
				wantAlive(t, other)
			})
		}
	}
}
