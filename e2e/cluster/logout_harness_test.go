package cluster

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// seenWithin is how long after a logout on one gateway another may still serve its session.
const seenWithin = 5 * time.Second

// place is where sessions live, and by what gateways learn of logouts.
type place struct {
	name    string
	size    int // gateways
	options options
	stored  bool // sessions are in a store, without which they cannot be used
	alone   bool // gateways do not agree on renewals

	files string // Caddy's storage, if that is what gateways share, and not the one of the cluster

	// take makes what the gateways share unusable until it is given back. Without it, that is done to files.
	take func(t *testing.T) (giveBack func())
}

// places are all of them, with servers of their own.
func places(t *testing.T) []place {
	t.Helper()
	redis := newRedis(t, true)
	stored := inCookies()
	stored.session = append(stored.session, "storage caddy")
	data := t.TempDir()
	newStorage(t, filepath.Join(data, "caddy"))
	all := []place{
		{name: "two gateways, Redis", size: 2, stored: true, options: inRedis(redis.Port()), take: func(t *testing.T) func() {
			t.Helper()
			if err := redis.Pause(); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := redis.Resume(); err != nil {
					t.Error(err)
				}
			}
		}},
		{name: "two gateways, Caddy's storage", size: 2, stored: true, options: stored},
		{name: "two gateways, cookies", size: 2, options: inCookies("refresh_coordination storage")},
		{name: "three gateways, cookies", size: 3, options: inCookies("refresh_coordination storage")},
		{
			name: "two gateways, cookies, nothing set", size: 2, alone: true, files: filepath.Join(data, "caddy"),
			options: options{handler: []string{"set_access_token_header"}, dataHome: data},
		},
	}
	for i := range all {
		all[i].options.sharedStorage = all[i].options.dataHome == ""
		all[i].options.handler = append(all[i].options.handler, "frontchannel_logout")
	}
	return all
}

// expectPurged looks into the files for what is left of sessions that have ended: no record, and no tokens of a renewal.
func (l *logoutTest) expectPurged(t *testing.T) {
	t.Helper()
	if l.files == "" {
		return
	}
	records, err := filepath.Glob(filepath.Join(l.files, "openid_connect", "sessions", "*", "*"))
	if want := len(l.alive); err != nil || l.stored && len(records) != want {
		t.Errorf("%d records of sessions are left, want %d: %v", len(records), want, err)
	}
	results, err := filepath.Glob(filepath.Join(l.files, "openid_connect", "renewals", "*", "*"))
	if err != nil || len(results) == 0 && !l.alone {
		t.Errorf("no renewal has been told of: %v", err)
	}
	const endOfSession = 100 // bytes, which is not enough for tokens
	for _, result := range results {
		if info, err := os.Stat(result); err != nil || info.Size() > endOfSession {
			t.Errorf("the result of a renewal is left: %v, %d bytes", err, info.Size())
		}
	}
}

func (p *place) each() []options {
	all := make([]options, p.size)
	for i := range all {
		all[i] = p.options
	}
	return all
}

// visitor is a person who is signed in, with a copy of the cookies.
type visitor struct {
	*Client
	subject, sid, copied string
	gone                 time.Time // when the logout was answered
}

// logoutTest is a site whose visitors come and go.
type logoutTest struct {
	*clusterTest
	place
	sids    int
	alive   []*visitor
	gone    []*visitor    // must stay away for ever
	slowest time.Duration // after a logout did another gateway learn of it
}

func newLogoutTest(t *testing.T, where place) *logoutTest {
	t.Helper()
	l := &logoutTest{clusterTest: newCluster(t, where.each()...), place: where}
	if l.take == nil {
		l.files = cmp.Or(l.files, l.storage)
		l.take = func(t *testing.T) func() { t.Helper(); return takeStorage(t, l.files) }
	}
	l.provider.SetAccessLifetime(time.Hour)
	l.tolerate = []string{"is stale (created", "Empty lockfile"} // CertMagic's remarks about locks whose holders were killed
	return l
}

func (l *logoutTest) first() *Gateway { return l.gateways[0] }
func (l *logoutTest) last() *Gateway  { return l.gateways[len(l.gateways)-1] }

// enter signs somebody in, in a new browser, and uses the session at all gateways.
func (l *logoutTest) enter(t *testing.T, subject string) *visitor {
	t.Helper()
	v := &visitor{subject: subject, sid: l.nextSID(subject)}
	v.Client = l.signIn(t, subject)
	v.copied = v.Cookie()
	l.alive = append(l.alive, v)
	l.expectAlive(t)
	return v
}

// nextSID is what the provider calls the sessions of logins from now on.
func (l *logoutTest) nextSID(subject string) string {
	l.sids++
	sid := fmt.Sprintf("session %d of %s", l.sids, subject)
	l.provider.SetSIDs(func() string { return sid })
	return sid
}

// leave notes that the sessions of these visitors have just ended by a request to a gateway, which must know that already.
func (l *logoutTest) leave(t *testing.T, at *Gateway, visitors ...*visitor) {
	t.Helper()
	for _, v := range visitors {
		v.gone = time.Now()
		l.gone = append(l.gone, v)
		for i, other := range l.alive {
			if other == v {
				l.alive = append(l.alive[:i:i], l.alive[i+1:]...)
				break
			}
		}
		if status := l.use(t, at, v); status != http.StatusUnauthorized {
			t.Errorf("%s: status %d at the gateway of the logout, want 401", v.sid, status)
		}
	}
}

// use makes a request with the copied cookies.
func (l *logoutTest) use(t *testing.T, at *Gateway, v *visitor) (status int) {
	t.Helper()
	answer, err := v.FetchWith(Pin(t.Context(), at), "/api", v.copied)
	if err != nil {
		t.Fatal(err)
	}
	if answer.Status == http.StatusOK && answer.Body != v.subject {
		t.Errorf("%s is taken for %q", v.subject, answer.Body)
	}
	return answer.Status
}

// expectAlive uses the sessions that go on.
func (l *logoutTest) expectAlive(t *testing.T) {
	t.Helper()
	for _, v := range l.alive {
		for i, g := range l.gateways {
			if status := l.use(t, g, v); status != http.StatusOK {
				t.Errorf("%s: status %d at gateway %d, want 200", v.sid, status, i)
			}
		}
	}
}

// expectGone uses the sessions that have ended, each at all gateways.
func (l *logoutTest) expectGone(t *testing.T) {
	t.Helper()
	for _, v := range l.gone {
		for i, g := range l.gateways {
			if status := l.use(t, g, v); status != http.StatusUnauthorized {
				t.Errorf("%s: status %d at gateway %d, %s after its end, want 401", v.sid, status, i, time.Since(v.gone).Round(time.Millisecond))
			}
		}
	}
}

// awaitGone uses sessions that have ended at all gateways until none takes them any more, which must be soon after a moment, or after the
// end of each if there is none. A gateway that has refused a session does not take it again.
func (l *logoutTest) awaitGone(t *testing.T, since time.Time, limit time.Duration, visitors ...*visitor) {
	t.Helper()
	type use struct {
		v  *visitor
		at *Gateway
	}
	refused := make(map[use]bool)
	until(t, "401 from all gateways", limit+30*time.Second, func() bool {
		for _, v := range visitors {
			from := since
			if from.IsZero() {
				from = v.gone
			}
			for i, g := range l.gateways {
				sent := time.Since(from)
				switch status := l.use(t, g, v); {
				case status == http.StatusOK && refused[use{v, g}]:
					t.Errorf("%s: 200 from gateway %d after 401", v.sid, i)
				case status == http.StatusOK && sent > limit:
					t.Errorf("%s: 200 from gateway %d after %s", v.sid, i, sent.Round(time.Millisecond))
				case status == http.StatusUnauthorized && !refused[use{v, g}]:
					refused[use{v, g}] = true
					l.slowest = max(l.slowest, sent)
				case status != http.StatusOK && status != http.StatusUnauthorized && (!l.stored || status != http.StatusServiceUnavailable):
					t.Errorf("%s: status %d from gateway %d", v.sid, status, i)
				}
			}
		}
		return t.Failed() || len(refused) == len(visitors)*len(l.gateways)
	})
}

// signOut ends a session by its user, at a gateway.
func (l *logoutTest) signOut(t *testing.T, at *Gateway, v *visitor) {
	t.Helper()
	answer, err := v.SignOut(Pin(t.Context(), at))
	expectDone(t, "the logout of "+v.sid, answer, err)
	l.leave(t, at, v)
}

// tell is the provider, which ends sessions by a token to one gateway.
func (l *logoutTest) tell(t *testing.T, at *Gateway, whom func(optest.Claims), visitors ...*visitor) {
	t.Helper()
	answer, err := l.newClient().SendLogout(Pin(t.Context(), at), l.provider.LogoutToken(whom))
	expectDone(t, "the logout token", answer, err)
	l.leave(t, at, visitors...)
}

// frame loads the front-channel logout of a sid at a gateway, in a browser that sends no cookies.
func (l *logoutTest) frame(t *testing.T, at *Gateway, sid string) {
	t.Helper()
	query := url.Values{"iss": {l.provider.Issuer()}, "sid": {sid}}
	answer, err := l.newClient().Frame(Pin(t.Context(), at), frontchannelPath+"?"+query.Encode())
	expectDone(t, "the frame of "+sid, answer, err)
}

func expectDone(t *testing.T, what string, answer *Answer, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if answer.Status != http.StatusOK {
		t.Fatalf("%s: status %d: %s", what, answer.Status, answer.Body)
	}
}

var listMetric = regexp.MustCompile(`(?m)^caddy_openid_connect_revocation_list_up ([01])$`)

// awaitList waits until a gateway says whether its list of ended sessions can be read and written.
func (l *logoutTest) awaitList(t *testing.T, g *Gateway, up bool) {
	t.Helper()
	want := map[bool]string{false: "0", true: "1"}[up]
	until(t, "revocation_list_up "+want, 30*time.Second, func() bool {
		text, err := g.Metrics(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		match := listMetric.FindStringSubmatch(text)
		if match == nil {
			t.Fatal("the metrics do not tell the state of the list")
		}
		return match[1] == want
	})
}
