package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// startRedis starts redis-server beside the load, with nothing on disk.
func startRedis(ctx context.Context, dir string) (*process, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, fmt.Errorf("redis-server is needed (the Debian package of that name): %w", err)
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	p := &process{address: address}
	p.command = exec.CommandContext(ctx, "taskset", "-c", otherCores(),
		"redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "", "--appendonly", "no")
	p.command.Stdout, p.command.Stderr = &p.output, &p.output
	return p, p.start()
}

// readsOfRedis is how many values Redis has given so far.
func readsOfRedis(address string) (int64, error) {
	connection, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return 0, err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(connection, "INFO stats\r\n"); err != nil {
		return 0, err
	}
	reader := bufio.NewReader(connection)
	head, err := reader.ReadString('\n')
	if err != nil {
		return 0, err
	}
	length, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(head, "$")))
	if err != nil {
		return 0, fmt.Errorf("redis answered %q", head)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(reader, body); err != nil {
		return 0, err
	}
	return readsIn(string(body))
}

// readsIn finds the reads of keys that there are in Redis's statistics.
func readsIn(statistics string) (int64, error) {
	_, rest, found := strings.Cut(statistics, "keyspace_hits:")
	if !found {
		return 0, errors.New("redis counts no reads")
	}
	reads, _, _ := strings.Cut(rest, "\r\n")
	return strconv.ParseInt(reads, 10, 64)
}
