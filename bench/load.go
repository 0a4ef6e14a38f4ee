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

//go:embed tokens.lua
var tokensLua []byte

// workload is the requests of one case: a token each, in turn.
type workload struct {
	tokens []string
	script string
	file   string
}

func (r *run) newWorkload(name string, tokens []string) (workload, error) {
	w := workload{
		tokens: tokens,
		script: filepath.Join(r.dir, "tokens.lua"),
		file:   filepath.Join(r.dir, name+".tokens"),
	}
	if err := os.WriteFile(w.script, tokensLua, 0o600); err != nil {
		return w, err
	}
	return w, os.WriteFile(w.file, []byte(strings.Join(tokens, "\n")+"\n"), 0o600)
}

// tokens mints n tokens of distinct users.
func (p *provider) tokens(alg string, n int) ([]string, error) {
	tokens := make([]string, n)
	for i := range tokens {
		var err error
		if tokens[i], err = p.token(alg, i); err != nil {
			return nil, err
		}
	}
	return tokens, nil
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
func (r *run) load(ctx context.Context, g *gateway, w workload) (round, error) {
	command := exec.CommandContext(ctx, "taskset", "-c", otherCores(), "wrk",
		"--threads", "1", "--connections", strconv.Itoa(r.connections),
		"--duration", strconv.Itoa(int(r.duration.Seconds()))+"s", "--timeout", "10s", "--latency",
		"--script", w.script, "http://"+g.address+"/", "--", w.file)
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

// visit sends each token once and fails unless every answer is 200. It returns the last answer's body.
func (g *gateway) visit(ctx context.Context, path string, tokens []string) (string, error) {
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	var body []byte
	for i, token := range tokens {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.address+path, http.NoBody)
		if err != nil {
			return "", err
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		var status int
		if status, body, err = answer(client, request); err != nil {
			return "", err
		}
		if status != http.StatusOK {
			return "", fmt.Errorf("token %d of %d got %d: %s", i+1, len(tokens), status, body)
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
