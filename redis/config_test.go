package redis

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

const everything = `storage redis {
	host redis.internal
	port 6380
	username gateway
	password "a b"
	database 3
	prefix app:sessions
	ssl
	ssl_verify off
	server_name redis.example
	tls_trust_pool file /etc/ca.pem
	tls_client_certificate /etc/own.crt /etc/own.key
	connect_timeout 500ms
	send_timeout 2s
	read_timeout 3s
	keepalive_timeout 1m
}`

func TestCaddyfile(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ caddyfile, want string }{
		"nothing":     {"storage redis", `{}`},
		"empty block": {"storage redis {\n}", `{}`},
		"an address":  {"storage redis redis.internal:6380", `{"address":["redis.internal:6380"]}`},
		"several":     {"storage redis a:1 b:2 {\naddress c:3 d:4\naddress e\n}", `{"address":["a:1","b:2","c:3","d:4","e"]}`},
		"sentinels": {
			"storage redis {\naddress a b\nmaster_name m\nsentinel_username u\nsentinel_password p\n}",
			`{"address":["a","b"],"master_name":"m","sentinel_username":"u","sentinel_password":"p"}`,
		},
		"a cluster":     {"storage redis {\ncluster\nssl off\n}", `{"cluster":true}`},
		"verified":      {"storage redis {\nssl on\nssl_verify\n}", `{"ssl":true,"ssl_verify":true}`},
		"a placeholder": {"storage redis {\npassword {env.REDIS_PASSWORD}\n}", `{"password":"{env.REDIS_PASSWORD}"}`},
		"all of a block": {
			everything,
			`{"host":"redis.internal","port":6380,"username":"gateway","password":"a b","database":3,"prefix":"app:sessions",` +
				`"ssl":true,"ssl_verify":false,"server_name":"redis.example",` +
				`"tls_trust_pool":{"pem_files":["/etc/ca.pem"],"provider":"file"},` +
				`"tls_client_certificate":{"certificate":"/etc/own.crt","key":"/etc/own.key"},` +
				`"connect_timeout":"500ms","send_timeout":"2s","read_timeout":"3s","keepalive_timeout":"1m0s"}`,
		},
	} {
		d := caddyfile.NewTestDispenser(test.caddyfile)
		d.Next()
		d.NextArg() // as in a block of the handler, whose setting is named first
		loaded, err := caddyfile.UnmarshalModule(d, "http.openid_connect.session_stores.redis")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := json.Marshal(loaded)
		if err != nil || string(got) != test.want {
			t.Errorf("%s: %s, %v, want %s", name, got, err, test.want)
		}
		again := new(Store)
		if err := json.Unmarshal(got, again); err != nil || !reflect.DeepEqual(again, loaded) {
			t.Errorf("%s: read again it is %+v, %v", name, again, err)
		}
	}
}

func TestCaddyfileErrors(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]string{
		"hots a":                      `unrecognized subdirective "hots"; did you mean "host"?`,
		"zzzzzzzzzzzz a":              `unrecognized subdirective "zzzzzzzzzzzz"`,
		"host":                        "host needs a value",
		`password ""`:                 "password needs a value",
		"password one s3cret":         "password: unexpected argument",
		"host a\nhost b":              "host is set twice",
		"port http":                   `port: "http" is not a number from 1 to 65535`,
		"port 0":                      `port: "0" is not a number from 1 to 65535`,
		"port":                        "port needs a number",
		"database -1":                 `database: "-1" is not a number`,
		"ssl yes":                     `ssl is on or off, not "yes"`,
		"ssl_verify no":               `ssl_verify is on or off, not "no"`,
		"address":                     "address needs at least one value",
		"read_timeout":                "read_timeout needs a duration",
		"read_timeout 5":              `read_timeout: "5" is not a duration such as 500ms or 2s`,
		"read_timeout 0s":             `read_timeout: "0s" is not from 1ms to 1h0m0s`,
		"tls_client_certificate a":    "tls_client_certificate needs the files",
		"tls_trust_pool":              "tls_trust_pool needs the name of a module",
		"tls_trust_pool no_such_pool": "no_such_pool",
	} {
		err := new(Store).UnmarshalCaddyfile(caddyfile.NewTestDispenser("redis {\n" + setting + "\n}"))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v, want %q", setting, err, want)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	s := new(Store)
	if err := json.Unmarshal([]byte(`{"host":"a","port":1,"connect_timeout":1500,"read_timeout":"2s","ssl_verify":false}`), s); err != nil {
		t.Fatal(err)
	}
	want := &Store{
		Host: "a", Port: 1, ConnectTimeout: Timeout(1500 * time.Millisecond), ReadTimeout: Timeout(2 * time.Second), SSLVerify: new(false),
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v", s)
	}
	for text, want := range map[string]string{
		`[]`:           "expected an object",
		`{"hots":"a"}`: `unknown field "hots"; did you mean "host"?`,
		`{"tls_client_certificate":{"certificat":"a"}}`: `unknown field "tls_client_certificate.certificat"; did you mean "certificate"?`,
		`{"tls_client_certificate":"a"}`:                "tls_client_certificate: expected an object",
		`{"password":""}`:                               "password: is empty; leave it out or give it a value",
		`{"password":null}`:                             "password: is empty; leave it out or give it a value",
		`{"address":[]}`:                                "address: is empty; leave it out or give it a value",
		`{"password":53237}`:                            "password: expected a string, got a JSON number",
		`{"password":["53237"]}`:                        "password: expected a string, got a JSON array",
		`{"address":[1]}`:                               "address: expected a string, got a JSON number",
		`{"port":"6379"}`:                               "port: expected a whole number, got a JSON string",
		`{"port":0}`:                                    "port: must be from 1 to 65535",
		`{"ssl":"on"}`:                                  "ssl: expected true or false, got a JSON string",
		`{"read_timeout":0}`:                            "read_timeout: 0 is not a number of milliseconds from 1 to 3600000",
		`{"read_timeout":-5}`:                           "read_timeout: -5 is not a number of milliseconds",
		`{"read_timeout":1e300}`:                        "read_timeout: 1e+300 is not a number of milliseconds",
		`{"read_timeout":"1"}`:                          `read_timeout: "1" is not a duration`,
		`{"read_timeout":true}`:                         `read_timeout: a duration is a string such as "1s" or a number of milliseconds`,
	} {
		err := json.Unmarshal([]byte(text), new(Store))
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "53237") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestProvision(t *testing.T) {
	t.Setenv("TEST_REDIS_HOST", "redis.internal")
	t.Setenv("TEST_REDIS_PORT", "6380")
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("s3cret{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newStore(t, settings{"address": "{env.TEST_REDIS_HOST}:{env.TEST_REDIS_PORT}", "password": "{file." + file + "}"})
	if s.Password != "s3cret{}" || s.servers()[0].address != "redis.internal:6380" {
		t.Errorf("placeholders: %q, %v", s.Password, s.servers())
	}
	if s.Prefix != "sessions" || s.patience() != 2*time.Second || s.KeepaliveTimeout != Timeout(10*time.Second) {
		t.Errorf("defaults: %+v", s)
	}

	for want, config := range map[string]settings{
		"port: must be from 1 to 65535":                            {"port": 65536},
		"port: must be from 1 to 65535 ":                           {"port": -1},
		"address: stands in place of host and port":                {"address": "a", "port": 1},
		"address: the port must be a number":                       {"address": "a:b"},
		"address: is not a host; a URL is not accepted":            {"address": "redis://user:s3cret@a:6379/0"},
		"host: is not a host; a URL is not accepted":               {"host": "redis://user:s3cret@a"},
		"host: is not a host; a URL is not accepted ":              {"host": "a:6379"},
		"host: a Unix socket is written unix//path":                {"host": "unix/run/redis.sock"},
		"host: a Unix socket goes with neither":                    {"host": "unix//run/redis.sock", "ssl": true},
		"cluster: with master_name the servers are sentinels":      {"cluster": true, "master_name": "a"},
		"sentinel_username and sentinel_password: only sentinels":  {"sentinel_password": "s3cret"},
		"sentinel_username: needs sentinel_password":               {"sentinel_username": "a", "master_name": "a"},
		"username: needs password":                                 {"username": "a"},
		"database: must not be negative":                           {"database": -1},
		"database: a Cluster has database 0 alone":                 {"database": 1, "address": []string{"a", "b"}},
		"keepalive_timeout: must be at least 1s":                   {"keepalive_timeout": 999},
		"prefix: must have no spaces":                              {"prefix": "a b"},
		"server_name: has no effect without ssl":                   {"server_name": "a"},
		"tls_trust_pool: has no effect without ssl":                {"tls_trust_pool": settings{"provider": "file"}},
		"tls_client_certificate: has no effect without ssl":        {"tls_client_certificate": settings{"certificate": "a", "key": "b"}},
		"tls_client_certificate: needs certificate and key":        {"ssl": true, "tls_client_certificate": settings{"certificate": "a"}},
		"tls_client_certificate: open":                             {"ssl": true, "tls_client_certificate": settings{"certificate": "/none", "key": "/none"}},
		"tls_trust_pool: ":                                         {"ssl": true, "tls_trust_pool": settings{"provider": "none"}},
		"password: evaluated placeholder {env.TEST_REDIS_NONE}":    {"password": "{env.TEST_REDIS_NONE}"},
		"address: evaluated placeholder {env.TEST_REDIS_NONE}":     {"address": []string{"a", "{env.TEST_REDIS_NONE}"}},
		`password: has an unrecognized placeholder; write a liter`: {"password": "{s3cret}"},
	} {
		_, err := load(t, config)
		if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) ||
			strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v: %v, want %q", config, err, want)
		}
	}
}

func TestServers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		config settings
		want   string
	}{
		{settings{}, "127.0.0.1:6379"},
		{settings{"port": 6380}, "127.0.0.1:6380"},
		{settings{"host": "redis"}, "redis:6379"},
		{settings{"host": "::1"}, "[::1]:6379"},
		{settings{"host": "[::1]", "port": 1}, "[::1]:1"},
		{settings{"host": "redis", "master_name": "a"}, "redis:26379"},
		{settings{"address": "redis"}, "redis:6379"},
		{settings{"address": "[::1]:1"}, "[::1]:1"},
		{settings{"address": []string{"a", "b:2"}, "master_name": "m"}, "a:26379 b:2"},
		{settings{"host": "unix//run/redis.sock"}, "/run/redis.sock"},
	} {
		var addresses []string
		for _, server := range newStore(t, test.config).servers() {
			addresses = append(addresses, server.address)
		}
		if got := strings.Join(addresses, " "); got != test.want {
			t.Errorf("%v: %s, want %s", test.config, got, test.want)
		}
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	const verify, password = "ssl_verify is off", "the password is sent to another host without encryption"
	for name, test := range map[string]struct {
		store Store
		want  string
	}{
		"loopback":             {Store{Password: "s3cret"}, ""},
		"by name":              {Store{Password: "s3cret", Host: "localhost"}, ""},
		"a socket":             {Store{Password: "s3cret", Host: "unix//run/redis.sock"}, ""},
		"no password":          {Store{Host: "redis"}, ""},
		"encrypted":            {Store{Host: "redis", Password: "s3cret", SSL: true, SSLVerify: new(true)}, ""},
		"in clear":             {Store{Host: "redis", Password: "s3cret"}, password},
		"one of several":       {Store{Address: []string{"127.0.0.1", "redis"}, Password: "s3cret"}, password},
		"a sentinel's":         {Store{Host: "redis", MasterName: "a", SentinelPassword: "s3cret"}, password},
		"without verification": {Store{SSL: true, SSLVerify: new(false)}, verify},
	} {
		core, logs := observer.New(zap.WarnLevel)
		test.store.warn(zap.New(core))
		switch entries := logs.All(); {
		case test.want == "" && len(entries) > 0,
			test.want != "" && (len(entries) != 1 || !strings.HasPrefix(entries[0].Message, test.want)):
			t.Errorf("%s: %v, want %q", name, entries, test.want)
		}
	}
}
