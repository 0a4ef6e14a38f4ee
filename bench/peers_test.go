package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// rivals is a comparison in which one gateway failed in a case, and one lost a part of the storm.
func rivals() comparison {
	driven := func(name, series string, perSecond float64) *contestant {
		one := &contestant{entrant: entrant{name: name, series: series}, load: workload{credentials: credentials{"Cookie", []string{"1234"}}}}
		for i := range 3 {
			one.rounds = append(one.rounds, round{
				perSecond: perSecond + float64(i), processor: 80 * time.Microsecond, median: time.Millisecond, p99: 2 * time.Millisecond,
			})
		}
		return one
	}
	failed := &contestant{entrant: entrant{name: "oauth2-proxy", series: seriesProxy}, failure: errors.New("requests failed under load:\n" +
		"Running 1s test\n  Non-2xx or 3xx responses: 12\nRequests/sec: 5\n")}
	return comparison{
		options: options{rounds: 3, duration: time.Second, connections: 32},
		at:      time.Date(2025, 3, 4, 5, 6, 7, 0, time.UTC),
		where:   machine{processor: "A processor", cores: 2, system: "Linux", versions: []version{{"Caddy", "v2"}}},
		cases: []peerResult{{peerCase{sessions: true, users: 1000}, []*contestant{
			driven(seriesPlain, seriesPlain, 1000), driven("plain Caddy again: noise", "", 1100), driven(seriesOurs, seriesOurs, 950),
			driven("mod_auth_openidc, session in the cookie", seriesApache, 400),
			driven("mod_auth_openidc, session in shared memory", seriesApache, 500), failed,
		}}},
		storms: []peerStorm{
			{
				name: seriesOurs, series: seriesOurs, counts: refreshCounts{attempts: 10, grants: 10},
				stormLeg: stormLeg{stormResult: stormResult{Requests: 4000, Took: 20 * time.Second}},
			},
			{
				name: "oauth2-proxy, session in the cookie", series: seriesProxy, late: 100, counts: refreshCounts{attempts: 70, grants: 1, reuses: 64},
				stormLeg: stormLeg{stormResult: stormResult{Requests: 1000, Took: 20 * time.Second, Refused: map[string]int{"status 401": 400}}},
			},
			{name: "mod_auth_openidc, session in shared memory", series: seriesApache, failure: errors.New("a login ended with 500\n<html>")},
		},
	}
}

// TestTables: what failed is told, the better of two settings is in the summary, and all of them are in the details.
func TestTables(t *testing.T) {
	t.Parallel()
	text := rivals().tables()
	for _, want := range []string{
		"| 1,000 sessions | 1001/s, 80µs | **0.95**, 80µs | **0.50**, 80µs | failed | 1.10 |\n",
		"| 1,000 sessions | mod_auth_openidc, session in the cookie | 4 B | 401/s | **0.401** (0.400 … 0.401) | 80µs | 1ms | 2ms |\n",
		"| 1,000 sessions | oauth2-proxy | | failed: Non-2xx or 3xx responses: 12 | | | | |\n",
		"| openid_connect | 20s | 4000 | 0 |  | 0 | 10 | 10 | 0 |",
		"| oauth2-proxy, session in the cookie | 20s | 1000 | 400 (40.0 %) | 400 × status 401 | 100 (10.0 %) | 1 | 70 | 64 |",
		"| mod_auth_openidc, session in shared memory | failed: a login ended with 500 | |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
}

// TestChartOfPeers: the chart says the same.
func TestChartOfPeers(t *testing.T) {
	t.Parallel()
	c := rivals().chart()
	if len(c) != 2 || len(c[0].groups) != 1 || len(c[1].groups) != 3 {
		t.Fatalf("the chart is %+v", c)
	}
	var got []string
	for _, p := range c {
		for _, g := range p.groups {
			for _, b := range g.bars {
				got = append(got, fmt.Sprintf("%s: %s %.2f %s", g.text, p.series[b.series], b.value, b.text))
			}
		}
	}
	want := []string{
		"1,000 sessions: openid_connect 0.95 0.95",
		"1,000 sessions: mod_auth_openidc 0.50 0.50",
		"1,000 sessions: oauth2-proxy 0.00 failed",
		"openid_connect: openid_connect 0.00 0 %",
		"oauth2-proxy, session in the cookie: oauth2-proxy 0.50 50.0 %",
		"mod_auth_openidc, session in shared memory: mod_auth_openidc 0.00 failed",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the bars are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestPublish writes a page twice: what others wrote into it stays, what the program wrote goes.
func TestPublish(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, pageName)
	if err := rivals().publish(dir); err == nil {
		t.Error("a page was written that there was not")
	}
	if err := os.WriteFile(name, []byte("# Title\n\n"+measuredBegin+"\nold\n"+measuredEnd+"\n\nThe end.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var pages [2]string
	for i := range pages {
		if err := rivals().publish(dir); err != nil {
			t.Fatal(err)
		}
		page, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		pages[i] = string(page)
	}
	page := pages[0]
	if page != pages[1] {
		t.Error("the second page is not the first")
	}
	if !strings.HasPrefix(page, "# Title\n\n"+measuredBegin+"\n\nMeasured on 4 March 2025, ") || !strings.HasSuffix(page, "\n\n"+measuredEnd+"\n\nThe end.\n") ||
		strings.Contains(page, "old") {
		t.Errorf("the page is\n%s", page)
	}
	for _, secret := range []string{"$PORT", "$ADMIN", "%!"} {
		if strings.Contains(page, secret) {
			t.Errorf("the page has %q", secret)
		}
	}
	for _, want := range []string{"openid_connect http://127.0.0.1:9001 {", "OIDCSessionType client-cookie", "--session-cookie-minimal", "OIDCCacheShmMax 3500"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if drawn, err := os.ReadFile(filepath.Join(dir, chartName)); err != nil || string(drawn) != rivals().chart().svg() {
		t.Errorf("the chart was not written: %v", err)
	}
}

// TestNoise: a page from a busy machine says so.
func TestNoise(t *testing.T) {
	t.Parallel()
	c := rivals()
	for _, test := range []struct {
		again  float64
		warned bool
	}{{1050, false}, {1300, true}, {700, true}} {
		for i := range c.cases[0].contestants[1].rounds {
			c.cases[0].contestants[1].rounds[i].perSecond = test.again
		}
		if text := c.conditions(); strings.Contains(text, "The machine was busy") != test.warned {
			t.Errorf("with %.0f/s and 1001/s the page says\n%s", test.again, text)
		}
	}
}

func TestBetween(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"", measuredBegin, measuredEnd, measuredEnd + measuredBegin} {
		if _, err := between(page, "text"); err == nil {
			t.Errorf("there is a place in %q", page)
		}
	}
}

func TestPercent(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		part, all int
		want      string
	}{
		{0, 1000, "0 %"},
		{0, 0, "0 %"},
		{1, 100_000, "under 0.1 %"},
		{125, 1000, "12.5 %"},
		{99_999, 100_000, "over 99.9 %"},
		{100_000, 100_000, "100 %"},
	} {
		if got := percent(test.part, test.all); got != test.want {
			t.Errorf("percent(%d, %d) = %q, want %q", test.part, test.all, got, test.want)
		}
	}
}

func TestPeerCases(t *testing.T) {
	t.Parallel()
	var names, texts []string
	r := &run{upstream: &process{}, provider: &provider{}}
	for _, c := range peerCases() {
		names, texts = append(names, c.name()), append(texts, c.text())
		all := r.entrants(c)
		if all[0].series != seriesPlain || !all[1].open || all[1].series == seriesPlain {
			t.Errorf("%s: the first two are %q and %q", c.name(), all[0].name, all[1].name)
		}
	}
	if got, want := strings.Join(names, " "), "bearer-1 bearer-100 bearer-10000 session-1 session-1000"; got != want {
		t.Errorf("the cases are %s, want %s", got, want)
	}
	want := "one bearer token, 100 bearer tokens, 10,000 bearer tokens, one session, 1,000 sessions"
	if got := strings.Join(texts, ", "); got != want {
		t.Errorf("the cases are %s, want %s", got, want)
	}
}

// TestRefuses tells a gateway that lets everybody in from those that do not.
func TestRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status  int
		refused bool
	}{{http.StatusUnauthorized, true}, {http.StatusForbidden, true}, {http.StatusFound, true}, {http.StatusOK, false}, {http.StatusNoContent, false}} {
		site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(test.status)
		}))
		g := &gateway{process: process{address: strings.TrimPrefix(site.URL, "http://")}}
		if err := refuses(t.Context(), g); (err == nil) != test.refused {
			t.Errorf("%d: %v", test.status, err)
		}
		site.Close()
	}
}

// TestLate counts requests, not tokens; one of nobody is not late.
func TestLate(t *testing.T) {
	t.Parallel()
	p := &provider{}
	ends := time.Now()
	p.refreshes.note("token", issued{0, ends})
	before, after := ends.Add(-time.Second).UnixNano(), ends.Add(time.Second).UnixNano()
	if got := p.late(map[string][]int64{"token": {before, after, after}, "else": {after}}); got != 2 {
		t.Errorf("got %d, want 2", got)
	}
}

// TestProcessorTimeBelow starts a child that uses some time, and then waits.
func TestProcessorTimeBelow(t *testing.T) {
	t.Parallel()
	child := exec.CommandContext(t.Context(), "sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; read line; exit 0")
	input, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(output).ReadString('\n'); err != nil {
		t.Fatalf("the child said %q: %v", line, err)
	}
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	alone, errAlone := processorTimeOf(string(stat))
	below, errBelow := processorTimeBelow(strconv.Itoa(child.Process.Pid))
	all, errAll := processorTimeBelow(strconv.Itoa(os.Getpid()))
	if err := errors.Join(errAlone, errBelow, errAll, input.Close(), child.Wait()); err != nil {
		t.Fatal(err)
	}
	if below <= 0 || all < alone+below {
		t.Errorf("together they used %s, this process %s and its child %s", all, alone, below)
	}
	if _, err := processorTimeBelow("none"); err == nil {
		t.Error("a process that there is not has used time")
	}
}

func TestBuiltFrom(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if _, compiler, err := builtFrom(self, "github.com/caddy-openid-connect/caddy-openid-connect/bench"); err != nil || compiler != runtime.Version() {
		t.Errorf("this program was built by %q, %v", compiler, err)
	}
	if _, _, err := builtFrom(self, caddyModule); err == nil {
		t.Error("this program is said to have Caddy")
	}
}

func TestValueOf(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, name, separator, want string }{
		{"model\t\t: 17\nmodel name\t: A processor: the second\n", "model name", ":", "A processor: the second"},
		{"NAME=\"Debian\"\nPRETTY_NAME=\"Debian 12\"\n", "PRETTY_NAME", "=", `"Debian 12"`},
		{"nothing here\n", "model name", ":", ""},
	} {
		if got := valueOf(test.text, test.name, test.separator); got != test.want {
			t.Errorf("valueOf(%q) = %q, want %q", test.name, got, test.want)
		}
	}
}

// TestServedByTLS: the keys are the same in both ways.
func TestServedByTLS(t *testing.T) {
	t.Parallel()
	p, err := startProvider()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: p.trust()}}
	defer client.CloseIdleConnections()
	var bodies [2]string
	for i, address := range []string{p.issuer, p.secure} {
		_, body, err := answer(client, newRequest(t, address+"/jwks"))
		if err != nil {
			t.Fatal(err)
		}
		bodies[i] = string(body)
	}
	if bodies[0] == "" || bodies[0] != bodies[1] {
		t.Errorf("%q is not %q", bodies[0], bodies[1])
	}
}

// trust trusts the provider's certificate.
func (p *provider) trust() *tls.Config {
	pool := x509.NewCertPool()
	certificate, err := x509.ParseCertificate(p.certificate)
	if err == nil {
		pool.AddCert(certificate)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}
