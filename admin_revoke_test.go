package openidconnect

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// member returns somebody who is signed in at a site of a whole Caddy.
func (c *adminSite) member(p *optest.Provider, sub, sid string) *visitor {
	c.t.Helper()
	p.SetUser(optest.Claims{"sub": sub})
	p.SetSIDs(func() string { return sid })
	v := newCaddyVisitor(c.t, c.caddySite, p)
	v.signIn("/")
	return v
}

// revoke ends sessions and returns how many there were.
func (c *adminSite) revoke(request map[string]any) any {
	c.t.Helper()
	return c.post("/openid_connect/revoke", request, 200)["count"]
}

// An operator ends the sessions of a user, or one by the provider's name for it, whatever keeps them. All others go on.
func TestAdminRevoke(t *testing.T) {
	for _, storage := range []string{"cookie", "caddy"} {
		t.Run(storage, func(t *testing.T) {
			p := optest.New(t)
			c := startAdmin(t, webapp(p, "", "session {\nstorage "+storage+"\n}")+toUpstream)
			alice, again := c.member(p, "alice", "sid-a"), c.member(p, "alice", "sid-b")
			bob, carol := c.member(p, "bob", "sid-c"), c.member(p, "carol", "sid-d")
			everybody := []*visitor{alice, again, bob, carol}
			want := func(signedIn ...bool) {
				t.Helper()
				for i, v := range everybody {
					v.wantSession(signedIn[i])
				}
			}
			count := func(inStore int) float64 {
				if storage == "cookie" {
					return 1 // revocation written
				}
				return float64(inStore)
			}
			want(true, true, true, true)
			if got := c.revoke(map[string]any{"sub": "nobody"}); got != count(0) {
				t.Errorf("of nobody: %v", got)
			}
			want(true, true, true, true)
			takeLogs()
			if got := c.revoke(map[string]any{"sub": "alice"}); got != count(2) {
				t.Errorf("of a user: %v", got)
			}
			want(false, false, true, true)
			lines := logLines(t, takeLogs(), "sessions ended by an operator")
			if len(lines) != 1 {
				t.Fatalf("%d lines", len(lines))
			}
			for name, value := range map[string]any{
				"level": "info", "issuer": p.Issuer(), "client_id": "client", "by": "sub", "count": count(2),
			} {
				if lines[0][name] != value {
					t.Errorf("the log says %v", lines[0])
				}
			}
			if got := c.revoke(map[string]any{"sid": "sid-c", "issuer": p.Issuer(), "client_id": "client"}); got != count(1) {
				t.Errorf("of one session: %v", got)
			}
			want(false, false, false, true)
			logs := takeLogs()
			if lines := logLines(t, logs, "sessions ended by an operator"); len(lines) != 1 || lines[0]["by"] != "sid" {
				t.Errorf("the log says %v", lines)
			}
			for line := range strings.Lines(logs) {
				if strings.Contains(line, "sid-c") && !strings.Contains(line, `"msg":"event"`) { // Caddy's own, at Debug
					t.Errorf("the name of the session is in the log: %s", line)
				}
			}
			if err := c.load(webapp(p, "", "session {\nstorage "+storage+"\n}\nclaim_header X-Email email") + toUpstream); err != nil {
				t.Fatal(err)
			}
			for _, v := range everybody {
				v.origin = c.url("")
			}
			want(false, false, false, true)
			if got := c.revoke(map[string]any{"sub": "carol"}); got != count(1) {
				t.Errorf("after a reload: %v", got)
			}
			want(false, false, false, false)
			ended := time.Now().Unix()
			waitUntil(t, func() bool { return time.Now().Unix() > ended }) // sessions say in which second they have begun
			bob = c.member(p, "bob", "sid-c")                              // by any name, what begins later is another session
			alice = c.member(p, "alice", "sid-e")
			bob.wantSession(true)
			alice.wantSession(true)
			list, _ := c.providers()
			if !reflect.DeepEqual(list[0].SessionStorage, []string{storage}) || list[0].Caches.Sessions == 0 || list[0].Caches.Revocations == 0 {
				t.Errorf("session_storage %q, caches %+v", list[0].SessionStorage, list[0].Caches)
			}
		})
	}
}

// Which sessions are meant is for the request to say where there is a choice.
func TestAdminRevokeNames(t *testing.T) {
	p, other := optest.New(t), optest.New(t)
	c := startAdmin(t, "http://a.example:$PORT {\nbind 127.0.0.1\n"+webapp(p, "", "")+"}\n"+
		"http://b.example:$PORT {\nbind 127.0.0.1\nopenid_connect "+p.Issuer()+" {\nclient_id second\n}\n}\n"+
		"http://c.example:$PORT {\nbind 127.0.0.1\nopenid_connect {\ndiscovery "+other.Endpoint(optest.Discovery)+"\nclient_id third\n}\n}\n"+
		"http://d.example:$PORT {\nbind 127.0.0.1\n"+api(optest.New(t), "")+"}\n")
	waitUntil(t, func() bool {
		list, _ := c.providers()
		for _, entry := range list {
			if entry.State != stateUp {
				return false
			}
		}
		return true
	})
	for _, test := range []struct {
		name    string
		request map[string]any
		status  int
		count   float64
		text    []string
	}{
		{"no issuer", map[string]any{"sub": "a"}, 400, 0, []string{p.Issuer(), other.Issuer()}},
		{"unknown issuer", map[string]any{"sub": "a", "issuer": "https://id.example.com"}, 404, 0, []string{p.Issuer(), other.Issuer()}},
		{"unknown client", map[string]any{"sub": "a", "issuer": p.Issuer(), "client_id": "third"}, 404, 0, []string{"client, second"}},
		{"all clients", map[string]any{"sub": "a", "issuer": p.Issuer()}, 200, 2, nil},
		{"one client", map[string]any{"sub": "a", "issuer": p.Issuer(), "client_id": "second"}, 200, 1, nil},
		{"as the provider calls itself", map[string]any{"sid": "a", "issuer": other.Issuer()}, 200, 1, nil},
		{"as it is configured", map[string]any{"sid": "a", "issuer": other.Endpoint(optest.Discovery)}, 200, 1, nil},
	} {
		answer := c.post("/openid_connect/revoke", test.request, test.status)
		if test.status == http.StatusOK {
			if answer["count"] != test.count {
				t.Errorf("%s: %v", test.name, answer)
			}
			continue
		}
		wantText(t, answer["error"], test.text...)
	}
}

// A storage that fails is no reason to go on serving those who are to be shut out: here they are, and the operator is told of the rest.
func TestRevokeWhileTheStorageFails(t *testing.T) {
	t.Parallel()
	for _, kept := range []string{"cookie", "caddy"} {
		t.Run(kept, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			storage := newFolderStorage(t)
			s := newSiteOn(t, storage, p, "session {\nsecret \""+sessionSecret+"\"\nstorage "+kept+"\n}")
			v := newVisitor(t, s, p)
			v.signIn("/")
			v.wantSession(true)
			storage.noStore.Store(true)
			storage.noLoad.Store(kept == "caddy")
			request := &revokeRequest{Subject: "alice"}
			_, err := request.carryOut(t.Context(), []*Handler{s.handler})
			failed, ok := errors.AsType[caddy.APIError](err)
			if !ok || failed.HTTPStatus != http.StatusServiceUnavailable {
				t.Fatalf("%v", err)
			}
			wantText(t, failed.Message, "over for this instance", errStorage.Error())
			wantText(t, fmt.Sprint(failed), errStorage.Error())
			if text := string(must(json.Marshal(failed))) + failed.Error(); strings.Contains(text, "alice") {
				t.Errorf("the user is in %s", text)
			}
			storage.noLoad.Store(false)
			v.wantSession(false)
		})
	}
}

// Who listens for logouts hears of those by an operator.
func TestRevokeIsAnEvent(t *testing.T) {
	p := optest.New(t)
	c := startAdmin(t, webapp(p, "", "")+toUpstream)
	for _, test := range []struct{ by, sub, sid string }{{"sub", "alice", ""}, {"sid", "", "sid-a"}} {
		takeLogs()
		c.revoke(map[string]any{test.by: test.sub + test.sid})
		var told []any
		for _, line := range logLines(t, takeLogs(), "event") {
			if line["name"] == eventLogout {
				told = append(told, line["data"])
			}
		}
		want := []any{map[string]any{
			"by": "operator", "issuer": p.Issuer(), "client_id": "client", "subject": test.sub, "sid": test.sid, "count": 1.0,
		}}
		if !reflect.DeepEqual(told, want) {
			t.Errorf("by %s: %v, want %v", test.by, told, want)
		}
	}
}
