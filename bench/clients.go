package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// stormOrder is what clients do: so many of them use one session for some time, as fast as they are answered. They share the jar of a
// browser, but for those that are stuck: they go on with the cookie of the beginning.
type stormOrder struct {
	URL, Cookie    string
	Clients, Stuck int
	Duration       time.Duration
}

// stormResult is what they saw.
type stormResult struct {
	Requests             int
	Took                 time.Duration
	Median, P99, Slowest time.Duration
	Refused              map[string]int     // by what came in place of the page
	Tokens               map[string]int64   // when the upstream got an access token last (Unix nanoseconds), by the token's mark
	Arrivals             map[string][]int64 // and when it got it at all
}

// startClients has a process of its own do it, so that it can be kept off the gateway's core.
func startClients(ctx context.Context, order stormOrder) (result stormResult, err error) {
	self, err := os.Executable()
	if err != nil {
		return result, err
	}
	input, err := json.Marshal(order)
	if err != nil {
		return result, err
	}
	command := exec.CommandContext(ctx, "taskset", "-c", otherCores(), self, "clients")
	command.Stdin, command.Stderr = bytes.NewReader(input), os.Stderr
	output, err := command.Output()
	if err != nil {
		return result, fmt.Errorf("running the clients: %w", err)
	}
	return result, json.Unmarshal(output, &result)
}

// serveClients is that process.
func serveClients(input io.Reader, output io.Writer) error {
	var order stormOrder
	if err := json.NewDecoder(input).Decode(&order); err != nil {
		return err
	}
	result, err := order.run(context.Background())
	if err != nil {
		return err
	}
	return json.NewEncoder(output).Encode(result)
}

func (o stormOrder) run(ctx context.Context) (stormResult, error) {
	site, err := url.Parse(o.URL)
	if err != nil {
		return stormResult{}, err
	}
	cookies, err := http.ParseCookie(o.Cookie)
	if err != nil {
		return stormResult{}, err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return stormResult{}, err
	}
	jar.SetCookies(site, cookies)
	transport := &http.Transport{MaxIdleConnsPerHost: o.Clients, DisableCompression: true}
	defer transport.CloseIdleConnections()

	ctx, cancel := context.WithTimeout(ctx, o.Duration+time.Minute)
	defer cancel()
	seen := make([]sight, o.Clients)
	began := time.Now()
	var group sync.WaitGroup
	for i := range seen {
		client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		stuck := ""
		if i < o.Stuck {
			stuck = o.Cookie
		} else {
			client.Jar = jar
		}
		group.Go(func() {
			seen[i] = sight{refused: map[string]int{}, tokens: map[string][]int64{}}
			for time.Since(began) < o.Duration {
				seen[i].fetch(ctx, client, o.URL, stuck)
			}
		})
	}
	group.Wait()
	return summarize(seen, time.Since(began)), nil
}

// sight is what one client saw.
type sight struct {
	answers []time.Duration // how long each took
	refused map[string]int
	tokens  map[string][]int64
}

// fetch asks for the page, and notes what came.
func (s *sight) fetch(ctx context.Context, client *http.Client, target, cookie string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		s.refused[err.Error()]++
		return
	}
	request.Header.Set("Accept", "application/json")
	if cookie != "" {
		request.Header.Set("Cookie", cookie)
	}
	began := time.Now()
	status, body, err := answer(client, request)
	s.answers = append(s.answers, time.Since(began))
	if err != nil {
		s.refused[strings.ReplaceAll(err.Error(), target, "the page")]++
		time.Sleep(10 * time.Millisecond) // not as fast as a loop can be
		return
	}
	if status != http.StatusOK {
		s.refused[fmt.Sprintf("status %d", status)]++
		return
	}
	mark, arrived, err := parseArrival(string(body))
	if err != nil {
		s.refused[err.Error()]++
		return
	}
	s.tokens[mark] = append(s.tokens[mark], arrived)
}

// parseArrival reads what the upstream says of an access token.
func parseArrival(body string) (mark string, arrived int64, err error) {
	mark, when, _ := strings.Cut(body, " ")
	arrived, err = strconv.ParseInt(when, 10, 64)
	if err != nil || mark == "" {
		return "", 0, errors.New("the upstream got no access token")
	}
	return mark, arrived, nil
}

// summarize puts together what all clients saw.
func summarize(seen []sight, took time.Duration) stormResult {
	result := stormResult{Took: took, Refused: map[string]int{}, Tokens: map[string]int64{}, Arrivals: map[string][]int64{}}
	var answers []time.Duration
	for _, s := range seen {
		answers = append(answers, s.answers...)
		for what, n := range s.refused {
			result.Refused[what] += n
		}
		for mark, arrivals := range s.tokens {
			result.Tokens[mark] = max(result.Tokens[mark], slices.Max(arrivals))
			result.Arrivals[mark] = append(result.Arrivals[mark], arrivals...)
		}
	}
	result.Requests = len(answers)
	if len(answers) > 0 {
		slices.Sort(answers)
		last := len(answers) - 1
		result.Median, result.P99, result.Slowest = answers[last/2], answers[last*99/100], answers[last]
	}
	return result
}
