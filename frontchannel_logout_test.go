package openidconnect

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// A frame ends the session that it names, without any cookie: browsers send none from there (C-090).
func TestC090FramesEndSessions(t *testing.T) {
	t.Parallel()
	for where, settings := range keptWhere {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			b, _ := newFrontchannel(t, settings)
			for _, sid := range []string{"s", "a b", `"q"<script>`, "é日本🙂", "{s}", "%73", "s&iss=x", "s;t", longSID} {
				victim, sameUser, other := b.signIn("alice", sid), b.signIn("alice", sid+"2"), b.signIn("bob", "t of "+sid)
				wantNoCookie(t, b.frame(b.named(sid)))
				wantEnded(t, victim)
				if len(sid) < maxSID {
					wantAlive(t, sameUser)
				}
				wantAlive(t, other)
				b.pass(2 * time.Second)
				again := b.signIn("alice", sid)
				wantAlive(t, again)
				wantEnded(t, victim)
			}
			if n := b.site.lines("logout"); n != 9 {
				t.Errorf("%d lines about logouts", n)
			}
		})
	}
}

// The frame of the browser whose session it is has that session's cookie, where it is for frames, and drops it.
func TestFramesDropTheirOwnCookie(t *testing.T) {
	t.Parallel()
	const none = frontchannelOn + "session {\ncookie_same_site none\n}"
	for name, settings := range map[string]string{"in cookies": none, "in the storage": strings.Replace(none, "session {\n", "session {\nstorage caddy\n", 1)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			b := newBackchannelAt(t, p, newSecureLoginSite(t, p, settings))
			v, other := b.signIn("alice", "s"), b.signIn("bob", "t")
			copied, blocked := v.clone(), other.clone()
			for _, query := range []string{b.named("unknown"), namedBy("https://evil.example", "s"), b.named("s") + "&sid=s"} {
				wantNoCookie(t, b.framedBy(v.Browser, query))
				wantAlive(t, v, other)
			}
			r := b.framedBy(v.Browser, b.named("s"))
			if set, forgot := cookiesOf(r.Header); set != "" || !forgot || len(v.kept(isSessionName)) != 0 {
				t.Errorf("Set-Cookie %q, and the browser has %d cookies", r.Header.Values("Set-Cookie"), len(v.kept(isSessionName)))
			}
			wantEnded(t, v, copied)
			wantAlive(t, other)
			wantNoCookie(t, b.framedBy(copied.Browser, b.named("s"))) // it has ended already
			blocked.BlockThirdPartyCookies = true
			wantNoCookie(t, b.framedBy(blocked.Browser, b.named("t")))
			wantEnded(t, other)
		})
	}
}

// A session whose cookie the frame brings is known, even if this instance has nothing else of it.
func TestFramesWithACookieThatIsNewHere(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	const settings = frontchannelOn + "session {\ncookie_same_site none\n}"
	a := newBackchannelAt(t, p, newSecureLoginSite(t, p, settings))
	b := a.at(newSecureLoginSite(t, p, settings+"\ntimeout 6s"))
	a.separate(a.site)
	b.separate(b.site)
	v := a.signIn("alice", "s")
	v.Trust(b.site.server.Certificate())
	copied := v.clone().at(b.site)
	b.frame(b.named("s"))
	if n := b.site.listed(); n != 0 {
		t.Errorf("%d revocations of a name that this instance has not seen", n)
	}
	if r := b.framedBy(v.Browser, b.named("s")); len(r.Header.Values("Set-Cookie")) == 0 {
		t.Error("the cookie is not dropped")
	}
	wantEnded(t, copied)
}

// Without being told to there is no such endpoint.
func TestFrontchannelLogoutIsOffByDefault(t *testing.T) {
	t.Parallel()
	for _, settings := range []string{"", "frontchannel_logout off"} {
		b := newBackchannel(t, settings)
		victim := b.signIn("alice", "s")
		b.site.advance()
		r := optest.NewBrowser(t).Frame(framing, b.frontchannelURL(b.named("s")))
		if r.Status != http.StatusUnauthorized || r.Body == frontchannelPage || b.site.advance() != 0 {
			t.Errorf("got %d, %v", r.Status, r.Header)
		}
		wantAlive(t, victim)
		b.site.advance()
		if r := victim.Get(b.frontchannelURL(b.named("s")), typed...); r.Status != http.StatusOK || b.site.advance() != 1 {
			t.Errorf("the path of the user's got %d", r.Status)
		}
		wantAlive(t, victim)
	}
}

// What names no session of this provider does nothing, and looks like what does (S-228; C-091).
func TestS228FramesThatNameNothing(t *testing.T) {
	t.Parallel()
	stranger := optest.New(t)
	for where, settings := range keptWhere {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			b, storage := newFrontchannel(t, settings)
			victim, other := b.signIn("alice", "s"), b.signIn("bob", "t")
			theirs := newBackchannelAt(t, stranger, newLoginSite(t, stranger, frontchannelOn+settings))
			foreign := theirs.signIn("alice", "foreign in "+where)
			iss, sid := "iss="+url.QueryEscape(b.p.Issuer()), "sid=s"
			const script = "%3Cscript%3Ealert(1)%3C/script%3E"
			for name, query := range map[string]string{
				"nothing":                        "",
				"iss alone":                      iss,
				"sid alone":                      sid,
				"sid empty":                      iss + "&sid=",
				"iss empty":                      "iss=&" + sid,
				"sid without a value":            iss + "&sid",
				"an unknown sid":                 iss + "&sid=unknown",
				"a sub":                          iss + "&sid=alice",
				"sid in another case":            iss + "&sid=S",
				"sid with a space":               iss + "&sid=s+",
				"sid twice":                      iss + "&" + sid + "&" + sid,
				"two sids":                       iss + "&" + sid + "&sid=t",
				"iss twice":                      iss + "&" + iss + "&" + sid,
				"two issuers":                    iss + "&iss=x&" + sid,
				"another issuer":                 namedBy("https://evil.example", "s"),
				"the issuer of another provider": namedBy(stranger.Issuer(), "s"),
				"a session of another provider":  iss + "&sid=foreign+in+" + url.QueryEscape(where),
				"iss with a slash":               namedBy(b.p.Issuer()+"/", "s"),
				"iss in capitals":                namedBy(strings.ToUpper(b.p.Issuer()), "s"),
				"iss with a space":               namedBy(b.p.Issuer()+" ", "s"),
				"the names in capitals":          "ISS=" + url.QueryEscape(b.p.Issuer()) + "&SID=s",
				"the names of lists":             "iss[]=" + url.QueryEscape(b.p.Issuer()) + "&sid[]=s",
				"semicolons":                     iss + ";" + sid,
				"broken escapes":                 iss + "&" + sid + "&x=%zz",
				"a script as sid":                iss + "&sid=" + script,
				"a script as iss":                "iss=" + script + "&" + sid,
				"a script beside":                "x=" + script,
				"a sid that is too long":         iss + "&sid=" + longSID + "a",
			} {
				t.Run(name, func(t *testing.T) {
					b := b.in(t)
					b.wantNoTrace(t, storage, func() { wantNoCookie(t, b.frame(query)) }, victim, other, foreign)
				})
			}
			wantNoCookie(t, b.frame(b.named("s")+"&x=y&x=y")) // what else there is does not matter
			wantEnded(t, victim)
			wantAlive(t, other, foreign)
		})
	}
}

// Only a GET that somebody has asked for ends a session.
func TestFrontchannelRequests(t *testing.T) {
	t.Parallel()
	for where, settings := range keptWhere {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			b, storage := newFrontchannel(t, settings)
			victim := b.signIn("alice", "s")
			target := b.frontchannelURL(b.named("s"))
			program := optest.NewBrowser(t)
			b.wantNoTrace(t, storage, func() {
				if r := program.Do(http.MethodHead, target, ""); r.Status != http.StatusOK || r.Body != "" || !r.FramableBy(framing) {
					t.Errorf("HEAD got %d, %v", r.Status, r.Header)
				}
				for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch} {
					r := program.Do(method, target, b.named("s"), "Content-Type: "+formType)
					if r.Status != http.StatusMethodNotAllowed || r.Header.Get("Allow") != "GET, HEAD" || r.Body != "" || r.Header.Get("Cache-Control") != "no-store" {
						t.Errorf("%s got %d, %v: %s", method, r.Status, r.Header, r.Body)
					}
				}
				for _, header := range []string{
					"Sec-Purpose: prefetch", "Sec-Purpose: prefetch;prerender", "Purpose: prefetch", "X-Moz: prefetch",
				} {
					wantFramed(t, program.Get(target, header))
				}
				wantFramed(t, program.Do(http.MethodGet, b.frontchannelURL(""), b.named("s"), "Content-Type: "+formType))
			}, victim)
			wantFramed(t, program.Get(target)) // a program without Fetch Metadata, or a browser of before
			wantEnded(t, victim)
		})
	}
}
