package openidconnect

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// Each form of a storage says which one it is and what is left to its module, and is written in the shortest form that says so.
func TestSessionStorageForms(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct{ name, config, written string }{
		`"cookie"`:                       {"cookie", "", `"cookie"`},
		`"caddy"`:                        {"caddy", "", `"caddy"`},
		`{"module":"caddy"}`:             {"caddy", "", `"caddy"`},
		`"memory_test"`:                  {"memory_test", "", `"memory_test"`},
		` { "module" : "memory_test" } `: {"memory_test", "", `"memory_test"`},
		`"{env.STORAGE}"`:                {"{env.STORAGE}", "", `"{env.STORAGE}"`},
		`{"name":"a","module":"memory_test","limit": 9007199254740993}`: {
			"memory_test", `{"limit":9007199254740993,"name":"a"}`, `{"limit":9007199254740993,"module":"memory_test","name":"a"}`,
		},
		`{"module":"other","password":"{env.A}","empty":"","null":null,"deep":{"b":[1],"a":"<&>"}}`: {
			"other", `{"deep":{"b":[1],"a":"<&>"},"empty":"","null":null,"password":"{env.A}"}`,
			`{"deep":{"b":[1],"a":"<&>"},"empty":"","module":"other","null":null,"password":"{env.A}"}`,
		},
	} {
		h := new(Handler)
		if err := json.Unmarshal([]byte(`{"session":{"storage":`+text+`}}`), h); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		s := h.Session.Storage
		if s.name() != want.name {
			t.Errorf("%s: got the name %q, want %q", text, s.name(), want.name)
		}
		if got := s.config(); (want.config == "") != (got == nil) || got != nil && !sameJSON(t, got, []byte(want.config)) {
			t.Errorf("%s: got the settings %s, want %s", text, got, want.config)
		}
		written := must(json.Marshal(s))
		if !sameJSON(t, written, []byte(want.written)) {
			t.Errorf("%s: got %s, want %s", text, written, want.written)
		}
		var again SessionStorage
		if err := json.Unmarshal(written, &again); err != nil || again != s {
			t.Errorf("%s: becomes %q, and read again %q, %v", text, s, again, err)
		}
	}
	var none SessionStorage
	if none.name() != storageCookie || none.config() != nil || none.moduleID() != "" {
		t.Errorf("without a storage: %q, %s, %q", none.name(), none.config(), none.moduleID())
	}
	for storage, want := range map[SessionStorage]string{
		storageCookie: "", storageCaddy: "", "memory_test": "http.openid_connect.session_stores.memory_test",
		`{"limit":5,"module":"memory_test"}`: "http.openid_connect.session_stores.memory_test",
	} {
		if got := storage.moduleID(); got != want {
			t.Errorf("%s: got %q, want %q", storage, got, want)
		}
	}
	// what says the same is the same, whatever the order
	var one, other SessionStorage
	if err := json.Unmarshal([]byte(`{"module":"m","a":1,"b":2}`), &one); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte("{\n\"b\": 2, \"a\": 1, \"module\": \"m\"}"), &other); err != nil {
		t.Fatal(err)
	}
	if one != other {
		t.Errorf("%q is not %q", one, other)
	}
}

func TestSessionStorageErrors(t *testing.T) {
	t.Parallel()
	const noName, noModule = "session.storage: expected the name of a storage", `session.storage: an object needs "module"`
	for storage, want := range map[string]string{
		`["caddy"]`:                       noName,
		`{"module":""}`:                   noName,
		`{"module":["caddy"]}`:            noName,
		`{"Module":"caddy"}`:              noModule,
		`{"module":"cookie","limit":5}`:   `session.storage: unknown field "limit"`,
		`"{\"module\":\"memory_test\"}"`:  noName,
		`{"module":"{\"module\":\"a\"}"}`: noName,
	} {
		err := json.Unmarshal([]byte(`{"session":{"storage":`+storage+`}}`), new(Handler))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s\ngot  %v\nwant %s", storage, err, want)
		}
	}
	const build = "build it with --with github.com/caddy-openid-connect/caddy-openid-connect/redis"
	for storage, want := range map[string]string{
		`"cady"`: `session.storage: "cady" is not one of cookie, caddy, json_test, memory_test; did you mean "caddy"?`,
		`{"module":"mem_test","password":"hunter2"}`: `session.storage: "mem_test" is not one of cookie, caddy, json_test, memory_test; did you mean "memory_test"?`,
		`"redis"`: `session.storage: "redis" is not in this build of Caddy; ` + build,
		`{"module":"redis","password":"hunter2"}`:         `session.storage: "redis" is not in this build of Caddy; ` + build,
		`{"module":"{env.MODULE}","password":"hunter2"}`:  `session.storage: "{env.MODULE}" is not one of cookie, caddy`,
		`{"module":"memory_test.inner","password":"one"}`: `session.storage: "memory_test.inner" is not one of cookie, caddy`,
	} {
		for _, head := range []string{"", `"bearer_only":true,`} {
			h := new(Handler)
			if err := json.Unmarshal([]byte(`{"issuer":"https://id.example.com","client_id":"app",`+head+`"session":{"storage":`+storage+`}}`), h); err != nil {
				t.Errorf("%s: %v", storage, err)
				continue
			}
			if err := h.check(); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s\ngot  %v\nwant %s", storage, err, want)
			}
		}
	}
}

func TestSessionStorageInCaddyfiles(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]string{
		"storage cookie":        `"cookie"`,
		"storage memory_test":   `"memory_test"`,
		"storage memory_test a": `{"module":"memory_test","name":"a"}`,
		"storage memory_test a {\nlimit 5\npassword {env.A}\n}\ncookie_name sid": `{"limit":5,"module":"memory_test","name":"a","password":"{env.A}"}`,
		"storage memory_test {\nlimit 5\n}":                                      `{"limit":5,"module":"memory_test"}`,
		"storage memory_test {\n}":                                               `"memory_test"`,
		"storage {env.STORAGE}":                                                  `"{env.STORAGE}"`,
	} {
		h, err := parseLogin(sessionBlock(settings) + "scope openid email")
		if err != nil {
			t.Errorf("%q: %v", settings, err)
			continue
		}
		if got := must(json.Marshal(h.Session.Storage)); string(got) != want {
			t.Errorf("%q: got %s, want %s", settings, got, want)
		}
		if h.Scope != "openid email" || strings.Contains(settings, "sid") != (h.Session.CookieName == "sid") {
			t.Errorf("%q: what comes after it is lost: %+v", settings, h)
		}
	}
	for settings, want := range map[string]string{
		"storage":                              "storage needs a value",
		`storage ""`:                           "storage is empty",
		"storage redis":                        `storage: "redis" is not in this build of Caddy; build it with --with github.com/caddy-openid-connect/`,
		"storage redis {\naddress a:6379\n}":   `storage: "redis" is not in this build of Caddy`,
		"storage reddis":                       `storage: "reddis" is not one of cookie, caddy, json_test, memory_test; did you mean "redis"?`,
		"storage caddy a":                      `storage: unexpected argument "a"`,
		"storage caddy {\nprefix a\n}":         "storage takes no block",
		"storage {env.STORAGE} a":              `storage: unexpected argument "a"`,
		"storage `{\"module\":\"caddy\"}`":     "storage is a name, with the settings of its module in a block",
		"storage memory_test a b":              "storage: wrong argument count",
		"storage memory_test {\nlimits 5\n}":   `storage: unrecognized subdirective "limits"`,
		"storage memory_test {\nlimit many\n}": `storage: limit: "many" is not a number`,
		"storage json_test":                    "storage: module http.openid_connect.session_stores.json_test is not a Caddyfile unmarshaler",
		"storage memory_test\nstorage caddy":   "session: storage is set twice",
	} {
		_, err := parseLogin(sessionBlock(settings))
		if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "Testfile:") {
			t.Errorf("%q\ngot  %v\nwant %s", settings, err, want)
		}
	}
}

// TestSessionStoragePlaceholders: ours are resolved and then judged, those of a guest are left to it.
func TestSessionStoragePlaceholders(t *testing.T) {
	t.Setenv("OPENID_CONNECT_TEST_GUEST", `{"module":"memory_test","limit":5}`)
	t.Setenv("OPENID_CONNECT_TEST_NAMELESS", `{"limit":5}`)
	t.Setenv("OPENID_CONNECT_TEST_CADDY", "caddy")
	t.Setenv("OPENID_CONNECT_TEST_REDIS", "redis")
	for storage, want := range map[string]struct{ name, config, err string }{
		`"{env.OPENID_CONNECT_TEST_CADDY}"`:                             {name: "caddy"},
		`"{env.OPENID_CONNECT_TEST_GUEST}"`:                             {name: "memory_test", config: `{"limit":5}`},
		`"{env.OPENID_CONNECT_TEST_NAMELESS}"`:                          {err: `session.storage: an object needs "module"`},
		`"{env.OPENID_CONNECT_TEST_REDIS}"`:                             {err: `session.storage: "redis" is not in this build`},
		`{"module":"memory_test","password":"{env.NONE} {no} \\{a\\}"}`: {name: "memory_test", config: `{"password":"{env.NONE} {no} \\{a\\}"}`},
	} {
		h := new(Handler)
		if err := json.Unmarshal([]byte(`{"issuer":"https://id.example.com","client_id":"app","session":{"storage":`+storage+`}}`), h); err != nil {
			t.Errorf("%s: %v", storage, err)
			continue
		}
		if err := h.check(); err != nil {
			t.Errorf("%s: refused before its placeholders are resolved: %v", storage, err)
		}
		if err := resolvePlaceholders(h); err != nil {
			t.Errorf("%s: %v", storage, err)
		}
		h.resolved = true
		switch err := h.check(); {
		case want.err != "" && (err == nil || !strings.HasPrefix(err.Error(), want.err)):
			t.Errorf("%s\ngot  %v\nwant %s", storage, err, want.err)
		case want.err == "" && (err != nil || h.Session.Storage.name() != want.name || string(h.Session.Storage.config()) != want.config):
			t.Errorf("%s: got %q, %v", storage, h.Session.Storage, err)
		}
	}
}

// TestSessionStorageGuest: what is left of the object is a configuration that Caddy takes for the module, strictly.
func TestSessionStorageGuest(t *testing.T) {
	t.Parallel()
	load := func(object string) (any, error) {
		var s SessionStorage
		if err := json.Unmarshal([]byte(object), &s); err != nil {
			t.Fatal(err)
		}
		return newContext(t).LoadModuleByID(s.moduleID(), s.config())
	}
	for object, want := range map[string]int{`"memory_test"`: 0, `{"module":"memory_test","limit":5}`: 5} {
		guest, err := load(object)
		if err != nil {
			t.Fatalf("%s: %v", object, err)
		}
		store := guest.(*memoryStore)
		err = store.Store(t.Context(), "key", []byte("0123456789"), time.Now().Add(time.Hour))
		if store.Limit != want || (err != nil) != (want > 0) {
			t.Errorf("%s: got %+v, %v", object, store, err)
		}
	}
	for object, want := range map[string]string{
		`{"module":"memory_test","limits":5}`: `unknown field "limits"`,
		`{"module":"memory_test","limit":-1}`: "limit: below 0",
	} {
		if _, err := load(object); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", object, err)
		}
	}
}
