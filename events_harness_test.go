package openidconnect

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// eventRecorder listens to events and keeps those of this module. It can be told to misbehave.
type eventRecorder struct {
	mu     sync.Mutex
	events []recordedEvent
	told   []recordedEvent // the same, but nobody takes them
	misdo  func() error    // after it has noted an event
}

type recordedEvent struct {
	name string
	data map[string]any
}

func (r *eventRecorder) Handle(_ context.Context, e caddy.Event) error {
	if !strings.HasPrefix(e.Name(), "openid_connect.") {
		return nil
	}
	r.mu.Lock()
	event := recordedEvent{e.Name(), maps.Clone(e.Data)}
	r.events, r.told = append(r.events, event), append(r.told, event)
	misdo := r.misdo
	r.mu.Unlock()
	if misdo != nil {
		return misdo()
	}
	return nil
}

func (r *eventRecorder) misbehave(misdo func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.misdo = misdo
}

// all returns the events of one name, or of all.
func (r *eventRecorder) all(name string) []recordedEvent {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.events), func(e recordedEvent) bool { return name != "" && e.name != name })
}

// take returns the events since the last call, without those about the provider.
func (r *eventRecorder) take() []recordedEvent {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := slices.DeleteFunc(r.events, func(e recordedEvent) bool { return strings.HasPrefix(e.name, "openid_connect.provider_") })
	r.events = nil
	return taken
}

// listen has a recorder hear of all that happens at a site.
func listen(tb testing.TB, s *site) *eventRecorder {
	tb.Helper()
	r := new(eventRecorder)
	if err := s.handler.runtime.events.app.On("", r); err != nil {
		tb.Fatal(err)
	}
	return r
}

// heard is the recorder of the events.handlers module that tests of a whole Caddy name.
var heard eventRecorder

// eventModule is a handler of events in a configuration.
type eventModule struct{}

func init() {
	caddy.RegisterModule(eventModule{})
}

func (eventModule) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.openid_connect_test", New: func() caddy.Module { return new(eventModule) }}
}

func (*eventModule) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return nil
}

func (*eventModule) Handle(ctx context.Context, e caddy.Event) error { return heard.Handle(ctx, e) }

// wantEvents checks what has been told since the last look: the names, and the data to the letter. "*" stands for any text that is not
// empty.
func wantEvents(t testing.TB, r *eventRecorder, want ...recordedEvent) {
	t.Helper()
	got := r.take()
	if len(got) != len(want) {
		t.Errorf("%d events, want %d: %v", len(got), len(want), got)
		return
	}
	for i := range want {
		if got[i].name != want[i].name || !slices.Equal(sortedKeys(got[i].data), sortedKeys(want[i].data)) {
			t.Errorf("got %s %v, want %s %v", got[i].name, got[i].data, want[i].name, want[i].data)
			continue
		}
		for name, value := range want[i].data {
			if text, _ := got[i].data[name].(string); value == "*" && text != "" {
				continue
			}
			if got[i].data[name] != value {
				t.Errorf("%s: %s is %v, want %v", want[i].name, name, got[i].data[name], value)
			}
		}
	}
}

// wantNoSecrets checks that no event holds anything that the provider or a browser keeps secret.
func wantNoSecrets(t testing.TB, r *eventRecorder, p *optest.Provider, secrets ...string) {
	t.Helper()
	r.mu.Lock()
	told := slices.Clone(r.told)
	r.mu.Unlock()
	if len(told) == 0 {
		t.Error("nothing was told")
	}
	for _, e := range told {
		text := string(must(json.Marshal(e.data)))
		for _, secret := range append(p.Issued(), secrets...) {
			if secret != "" && strings.Contains(text, signaturePart(secret)) {
				t.Errorf("%.40s… is in %s", secret, e.name)
			}
		}
	}
}
