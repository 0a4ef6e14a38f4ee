package openidconnect

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// slow is an upstream that answers when it is told to.
type slow struct {
	arrived chan struct{}
	done    chan struct{}
	once    sync.Once
}

// delay has the upstream keep requests to /slow, at any place, waiting, and answer all others.
func (r *renewing) delay() *slow {
	s := &slow{arrived: make(chan struct{}, 100), done: make(chan struct{})}
	r.t.Cleanup(s.finish)
	r.upstream.answer(func(w http.ResponseWriter, request *http.Request) {
		if strings.HasSuffix(request.URL.Path, "/slow") {
			s.arrived <- struct{}{}
			<-s.done
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"X-Access-Token":["`+request.Header.Get("X-Access-Token")+`"]}`)
	})
	return s
}

func (s *slow) finish() { s.once.Do(func() { close(s.done) }) }

// begin sends a request that the upstream keeps waiting, and returns what it will have got.
func (s *slow) begin(r *renewing, path string, headers ...string) (answer chan served) {
	r.t.Helper()
	answer = make(chan served, 1)
	one := r.clone()
	go func() { answer <- servedOf(r.t, one.Get(one.url(path), headers...)) }()
	<-s.arrived
	return answer
}

// An answer that the upstream was slow with never brings back a cookie that the browser has a newer one of, nor takes that away.
func TestLateAnswers(t *testing.T) {
	t.Parallel()
	const life = time.Hour
	json := []string{"Accept: application/json"}
	again := func(r *renewing) { // the browser signs in once more
		r.upstream.advance()
		request := r.wantLogin(r.open("/oauth2/login?prompt=login"))
		r.wantRedirect(r.arrive(request, r.answerTo(request)), "/")
	}
	for name, test := range map[string]struct {
		settings string
		before   func(r *renewing) // what has the slow answer bring a cookie, or delete one
		headers  []string
		between  func(r *renewing)
		brings   bool // the cookie all the same
		forgets  bool // so does the browser
	}{
		"reissued, and nothing happens": {
			"", func(r *renewing) { r.pass(10 * time.Minute) }, json, func(*renewing) {}, true, false,
		},
		"renewed, and nothing happens": {
			"", func(r *renewing) { r.pass(life) }, json, func(*renewing) {}, true, false,
		},
		"reissued, then renewed": {
			"", func(r *renewing) { r.pass(10 * time.Minute) }, json, func(r *renewing) { r.pass(life); r.ask() }, false, false,
		},
		"renewed, then renewed again": {
			"", func(r *renewing) { r.pass(life) }, json, func(r *renewing) { r.ask(); r.pass(life); r.ask() }, false, false,
		},
		"reissued, then a new login": {
			"", func(r *renewing) { r.pass(10 * time.Minute) }, json, again, false, false,
		},
		"renewed, then a new login": {
			"", func(r *renewing) { r.pass(life) }, json, func(r *renewing) { r.ask(); again(r) }, false, false,
		},
		"renewed in the storage, then renewed again": {
			"session {\nstorage caddy\n}", func(r *renewing) { r.pass(life) }, json, func(r *renewing) { r.pass(life); r.ask() }, false, false,
		},
		"renewed in the storage, then a new login": {
			"session {\nstorage caddy\n}", func(r *renewing) { r.pass(life) }, json, func(r *renewing) { r.ask(); again(r) }, false, false,
		},
		"ended, and nothing happens": {
			"unauth_action pass /slow\nsession {\nidling_timeout 1h\n}", func(r *renewing) { r.pass(2 * life) }, typed, func(*renewing) {}, false, true,
		},
		"ended, then a new login": {
			"unauth_action pass /slow\nsession {\nidling_timeout 1h\n}", func(r *renewing) { r.pass(2 * life) }, typed, again, false, false,
		},
		"ended by the provider, then a new login": {
			"unauth_action pass /slow", func(r *renewing) { r.provider.RevokeRefreshTokens(); r.pass(life) }, typed, again, false, false,
		},
		"ended in the storage, then a new login": {
			"unauth_action pass /slow\nsession {\nstorage caddy\nidling_timeout 1h\n}", func(r *renewing) { r.pass(2 * life) }, typed, again, false, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			p.SetRefreshTokens(true)
			p.SetAccessLifetime(life)
			l := newTimeline(p)
			r := l.welcome(t, l.instance(t, newSharedFolder(t), withToken+"refresh_coordination local\n"+test.settings))
			upstream := r.delay()
			test.before(r)
			answer := upstream.begin(r, "/slow", test.headers...)
			test.between(r)
			kept := r.cookie()
			upstream.finish()
			late := <-answer
			if late.Status != http.StatusOK {
				t.Fatalf("the slow answer: got %d (%s)", late.Status, late.reason)
			}
			if brought := late.set != ""; brought != test.brings || late.forgot != test.forgets {
				t.Errorf("the slow answer brings %q", late.Header.Values("Set-Cookie"))
			}
			if got := r.clone().ask("Cookie: " + kept); !test.forgets && (got.Status != http.StatusOK || got.token == "") {
				t.Errorf("with what the browser had: got %d (%s)", got.Status, got.reason)
			}
			wantNoReuse(t, p)
		})
	}
}

// Many slow answers of many generations, in whatever order they end: what the browser keeps is the newest.
func TestLateAnswersOfManyGenerations(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, withToken)
	const life = 20 * time.Second
	r.provider.SetAccessLifetime(life)
	r.pass(tokenLife)
	r.ask()
	upstream := r.delay()
	var answers []chan served
	for range 5 {
		r.pass(life)
		answers = append(answers, upstream.begin(r, "/slow", "Accept: application/json"))
		r.ask()
	}
	newest := r.cookie()
	upstream.finish()
	for n, answer := range slices.Backward(answers) {
		late := <-answer
		if late.Status != http.StatusOK || late.forgot || late.set != "" && late.set != newest {
			t.Errorf("generation %d: got %d, Set-Cookie %q", n+1, late.Status, late.Header.Values("Set-Cookie"))
		}
	}
	if got := r.ask(); got.Status != http.StatusOK || got.set != "" {
		t.Errorf("then: got %d (%s)", got.Status, got.reason)
	}
	r.wantGrants(6)
}

// An upstream that sets a cookie of our name, or deletes ours, does not undo a renewal.
func TestUpstreamCannotUndoARenewal(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, withToken)
	name, old, _ := strings.Cut(r.cookie(), "=")
	r.upstream.answer(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Set-Cookie", name+"="+old+"; Path=/")
		w.Header().Add("Set-Cookie", name+"=; Max-Age=0; Path=/")
		w.Header().Add("Set-Cookie", "theme=dark")
		w.Header().Set("Cache-Control", "public, max-age=3600")
		w.WriteHeader(http.StatusOK)
	})
	r.pass(tokenLife)
	answer := r.Get(r.url("/"))
	lines := answer.Header.Values("Set-Cookie")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "theme=") || !strings.HasPrefix(lines[1], name+"=A") || strings.HasPrefix(lines[1], name+"="+old) {
		t.Errorf("Set-Cookie %q", lines)
	}
	if got := answer.Header.Values("Cache-Control"); len(got) != 1 || got[0] != "private, no-store" {
		t.Errorf("Cache-Control %q", got)
	}
	r.upstream.answer(nil)
	r.wantServed(1)
}
