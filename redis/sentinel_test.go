package redis

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

func TestSentinel(t *testing.T) {
	t.Parallel()
	master := newServer(t)
	replica := newServer(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(master.port), "--repl-diskless-sync-delay", "0")
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, `bind 127.0.0.1
requirepass sentinel-s3cret
sentinel monitor sessions 127.0.0.1 %d 1
sentinel down-after-milliseconds sessions 3000
sentinel failover-timeout sessions 3000
`, master.port), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel := newServer(t, file, "--sentinel")
	asked := goredis.NewClient(&goredis.Options{Addr: sentinel.address(), Password: "sentinel-s3cret", Protocol: 2})
	defer asked.Close()
	if err := asked.Do(t.Context(), "ACL", "SETUSER", "gateway", "on", ">gateway-s3cret", "resetchannels", "&+switch-master",
		"&+replica-reconf-done", "nocommands", "+sentinel|get-master-addr-by-name", "+sentinel|sentinels", "+subscribe").Err(); err != nil {
		t.Fatal(err)
	}
	s := newStore(t, patient(settings{
		"address": []string{"127.0.0.1:1", sentinel.address()}, "master_name": "sessions",
		"sentinel_username": "gateway", "sentinel_password": "gateway-s3cret",
	}))
	expectService(t, "at first", s)
	if err := s.Store(t.Context(), "kept", []byte("value"), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	name, replicas := s.name("kept"), replica.client(t)
	if !eventually(time.Minute, func() bool {
		known, err := asked.Do(t.Context(), "SENTINEL", "REPLICAS", "sessions").Slice()
		return err == nil && len(known) == 1 && replicas.Exists(t.Context(), name).Val() == 1
	}) {
		t.Fatal("the sentinel knows of no replica that has the value")
	}

	master.kill()
	var err error
	// a sentinel that was not let run for two seconds does nothing for half a minute
	if !eventually(2*time.Minute, func() bool {
		err = s.Store(t.Context(), "new", []byte("value"), time.Now().Add(time.Hour))
		return err == nil
	}) {
		t.Fatalf("no failover: %v", err)
	}
	if got, err := s.Load(t.Context(), "kept"); err != nil || string(got) != "value" {
		t.Errorf("after the failover: %q, %v", got, err)
	}
	if err := exercise(t.Context(), s); err != nil {
		t.Errorf("after the failover: %v", err)
	}

	// what cannot be looked up is not what is not there: sessions would end
	for want, wrong := range map[string]settings{
		"no master of that name": {"master_name": "others"},
		"WRONGPASS":              {"sentinel_password": "wrong-s3cret"},
	} {
		config := settings{"address": sentinel.address(), "master_name": "sessions", "sentinel_password": "sentinel-s3cret"}
		lost := newStore(t, patient(config.with(wrong)))
		for range 2 {
			_, err := lost.Load(t.Context(), "kept")
			if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("got %v, want %q", err, want)
			}
		}
	}
}
