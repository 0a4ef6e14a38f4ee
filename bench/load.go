package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed credentials.lua
var credentialsLua []byte

// credentials are what requests show, in one of their headers: values of distinct users.
type credentials struct {
	header string
	values []string
}

// first is the first n of them.
func (c credentials) first(n int) credentials { return credentials{c.header, c.values[:n]} }

// size is how long a value is on average.
func (c credentials) size() int {
	size := 0
	for _, value := range c.values {
		size += len(value)
	}
	return size / len(c.values)
}

// workload is the requests of one case: a credential each, in turn.
type workload struct {
	credentials
	script string
	file   string
	sent   int64 // to the gateway so far: each round goes on where the last one ended
}

func (r *run) newWorkload(name string, shown credentials) (workload, error) {
	w := workload{
		credentials: shown,
		script:      filepath.Join(r.dir, "credentials.lua"),
		file:        filepath.Join(r.dir, name+".credentials"),
	}
	if err := os.WriteFile(w.script, credentialsLua, 0o600); err != nil {
		return w, err
	}
	return w, os.WriteFile(w.file, []byte(strings.Join(shown.values, "\n")+"\n"), 0o600)
}

// tokens returns bearer tokens of n users.
func (r *run) tokens(alg string, n int) (credentials, error) {
	minted := r.minted[alg]
	for len(minted) < n {
		token, err := r.provider.token(alg, len(minted))
		if err != nil {
			return credentials{}, err
		}
		minted = append(minted, "Bearer "+token)
	}
	r.minted[alg] = minted
	return credentials{"Authorization", minted[:n]}, nil
}

// round is what the load generator counted.
type round struct {
	requests  int64
	perSecond float64
	median    time.Duration
	p99       time.Duration
	processor time.Duration // what the gateway used of its core for one request
}

// load drives the gateway for the given time and fails if any request was refused.
func (r *run) load(ctx context.Context, g *gateway, w *workload) (round, error) {
	command := exec.CommandContext(ctx, "taskset", "-c", otherCores(), "wrk",
		"--threads", "1", "--connections", strconv.Itoa(r.connections),
		"--duration", strconv.Itoa(int(r.duration.Seconds()))+"s", "--timeout", "10s", "--latency",
		"--script", w.script, "http://"+g.address+"/", "--", w.header, w.file, strconv.FormatInt(w.sent, 10))
	before, err := g.processorTime()
	if err != nil {
		return round{}, err
	}
	output, err := command.CombinedOutput()
	if err != nil {
		return round{}, fmt.Errorf("running wrk: %w: %s", err, output)
	}
	after, err := g.processorTime()
	if err != nil {
		return round{}, err
	}
	result, err := parseLoad(string(output))
	if err != nil {
		return round{}, err
	}
	w.sent += result.requests
	result.processor = (after - before) / time.Duration(result.requests)
	return result, nil
}

var (
	requestsLine  = regexp.MustCompile(`(\d+) requests in`)
	perSecondLine = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	medianLine    = regexp.MustCompile(`50%\s+([0-9.]+[a-z]+)`)
	p99Line       = regexp.MustCompile(`99%\s+([0-9.]+[a-z]+)`)
)

// parseLoad reads what wrk prints.
func parseLoad(output string) (round, error) {
	if strings.Contains(output, "Non-2xx") || strings.Contains(output, "Socket errors") {
		return round{}, fmt.Errorf("requests failed under load:\n%s", output)
	}
	requests, rate := requestsLine.FindStringSubmatch(output), perSecondLine.FindStringSubmatch(output)
	median, p99 := medianLine.FindStringSubmatch(output), p99Line.FindStringSubmatch(output)
	if requests == nil || rate == nil || median == nil || p99 == nil {
		return round{}, fmt.Errorf("wrk printed no result:\n%s", output)
	}
	var result round
	var errRequests, errRate, errMedian, err99 error
	result.requests, errRequests = strconv.ParseInt(requests[1], 10, 64)
	result.perSecond, errRate = strconv.ParseFloat(rate[1], 64)
	result.median, errMedian = time.ParseDuration(median[1])
	result.p99, err99 = time.ParseDuration(p99[1])
	if result.requests == 0 {
		return result, fmt.Errorf("not one request was answered:\n%s", output)
	}
	return result, errors.Join(errRequests, errRate, errMedian, err99)
}

// visit shows each credential once and fails unless every answer is 200. It returns the last answer's body.
func (g *gateway) visit(ctx context.Context, path string, shown credentials) (string, error) {
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	var body []byte
	for i, value := range shown.values {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.address+path, http.NoBody)
		if err != nil {
			return "", err
		}
		request.Header.Set(shown.header, value)
		var status int
		if status, body, err = answer(client, request); err != nil {
			return "", err
		}
		if status != http.StatusOK {
			return "", fmt.Errorf("%s %d of %d got %d: %s", shown.header, i+1, len(shown.values), status, body)
		}
	}
	return string(body), nil
}

func answer(client *http.Client, request *http.Request) (int, []byte, error) {
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(bufio.NewReader(response.Body))
	return response.StatusCode, body, err
}

// middle is the median of the values.
func middle[T ~float64 | ~int64](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}
