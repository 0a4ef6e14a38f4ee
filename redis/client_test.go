package redis

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

func TestClientsAreShared(t *testing.T) {
	t.Parallel()
	base := settings{"host": "127.0.0.9", "port": 6390, "password": "one"}
	first := newStore(t, base)
	for name, same := range map[string]settings{
		"all the same":       {},
		"another prefix":     {"prefix": "another"},
		"a default spelt":    {"connect_timeout": "1s", "prefix": "sessions"},
		"other numbers, too": {"read_timeout": 1000},
	} {
		if newStore(t, base.with(same)).client != first.client {
			t.Errorf("%s: another client", name)
		}
	}
	for name, other := range map[string]settings{
		"password": {"password": "two"},
		"database": {"database": 1},
		"timeout":  {"read_timeout": 1001},
		"user":     {"username": "gateway"},
		"tls":      {"ssl": true},
	} {
		if newStore(t, base.with(other)).client == first.client {
			t.Errorf("another %s: the same client", name)
		}
	}
}

func TestClientsEndWithTheirLastUser(t *testing.T) {
	t.Parallel()
	config := settings{"host": "127.0.0.9", "port": 6391}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	var unload []context.CancelFunc
	var key string
	for range 1000 {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
		loaded, err := ctx.LoadModuleByID("http.openid_connect.session_stores.redis", text)
		if err != nil {
			t.Fatal(err)
		}
		key = loaded.(*Store).client.key
		unload = append(unload, cancel)
	}
	for i, cancel := range unload {
		if users, _ := clients.References(key); users != 1000-i {
			t.Fatalf("%d stores have a client of %d users", 1000-i, users)
		}
		cancel()
	}
	if _, used := clients.References(key); used {
		t.Error("the client outlives its stores")
	}
}
