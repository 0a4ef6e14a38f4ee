package redis

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestCluster(t *testing.T) {
	t.Parallel()
	nodes := make([]*redisServer, 3)
	for i := range nodes {
		bus, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		nodes[i] = newServer(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus), "--cluster-node-timeout", "10000")
	}
	const slots = 16384
	for i, node := range nodes {
		from, to := i*slots/len(nodes), (i+1)*slots/len(nodes)-1
		if err := node.client(t).ClusterAddSlotsRange(t.Context(), from, to).Err(); err != nil {
			t.Fatal(err)
		}
		for _, other := range nodes {
			bus, err := other.client(t).ConfigGet(t.Context(), "cluster-port").Result()
			if err != nil {
				t.Fatal(err)
			}
			if err := node.client(t).Do(t.Context(), "CLUSTER", "MEET", "127.0.0.1", other.port, bus["cluster-port"]).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, node := range nodes { // each serves its keys once it knows who serves the others
		var info string
		if !eventually(time.Minute, func() bool {
			info = node.client(t).ClusterInfo(t.Context()).Val()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3")
		}) {
			t.Fatalf("node %d: %s", i, info)
		}
	}
	for name, config := range map[string]settings{
		"several nodes": {"address": []string{nodes[0].address(), nodes[1].address()}},
		"one node":      {"address": nodes[2].address(), "cluster": true},
		"host and port": {"port": nodes[1].port, "cluster": true},
	} {
		s := newStore(t, patient(config))
		expectService(t, name, s)
		for i := range 50 { // keys of all nodes
			key := "key" + strconv.Itoa(i)
			if err := s.Store(t.Context(), key, []byte(key), time.Now().Add(time.Minute)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := s.Add(t.Context(), key, "member", time.Now().Add(time.Minute)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			unlock, err := s.Lock(t.Context(), key)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			unlock()
			if got, err := s.Load(t.Context(), key); err != nil || string(got) != key {
				t.Fatalf("%s: %q, %v", name, got, err)
			}
		}
	}
	for i, node := range nodes {
		if size := node.client(t).DBSize(t.Context()).Val(); size < 10 {
			t.Errorf("node %d has %d of 100 keys", i, size)
		}
	}

	// a node that is down holds up its own keys alone, and no longer than another server would
	s := newStore(t, settings{"address": []string{nodes[0].address(), nodes[1].address()}})
	nodes[2].kill()
	for i := range 3 {
		_ = timely(t, s.patience(), func() error { _, err := s.Load(t.Context(), "key"+strconv.Itoa(i)); return err })
	}
}

func TestClusterWithLeastRights(t *testing.T) {
	t.Parallel()
	bus, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	node := newServer(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus))
	if err := node.client(t).ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	node.user(t, "gateway on >s3cret "+leastRights+" +cluster|slots")
	expectService(t, "with the rights that the README asks for",
		newStore(t, patient(settings{"port": node.port, "cluster": true, "username": "gateway", "password": "s3cret"})))
}
