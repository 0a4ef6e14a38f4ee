package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/demo/probe"
)

// These tests share the one Caddy of the process, so they are not parallel.

func TestVerify(t *testing.T) {
	var out bytes.Buffer
	if err := verify(t.Context(), &out, options{logLevel: "ERROR"}); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if !strings.Contains(out.String(), " passed, 0 failed") {
		t.Errorf("the report: %s", &out)
	}
}

var (
	assignment = regexp.MustCompile(`^  ([A-Z]+)=(\S+)$`)
	promise    = regexp.MustCompile(`^  # (\d{3})(?:, error="(\w+)")?: `)
	site       = regexp.MustCompile(`^  (http://127\.0\.0\.1:\d+)/$`)
	path       = regexp.MustCompile(`^    (/\S*) +(open|for|the)`)
	curl       = regexp.MustCompile(`^  curl -i(?: -H "Authorization: Bearer \$([A-Z]+)")? (\S+)$`)
)

// TestShow opens the pages and makes the requests that the demo prints, and holds it to the answers that it promises.
func TestShow(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := show(ctx, writer, options{logLevel: "ERROR"})
		writer.CloseWithError(errors.Join(err, io.EOF))
		ended <- err
	}()

	tokens := make(map[string]string)
	promised, requests := "", 0
	browser, root, pages := probe.NewBrowser(), "", 0
	lines := bufio.NewScanner(reader)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "Running.") {
		line := lines.Text()
		if match := assignment.FindStringSubmatch(line); match != nil {
			tokens[match[1]] = match[2]
		}
		if match := site.FindStringSubmatch(line); match != nil {
			root = match[1]
		}
		if match := path.FindStringSubmatch(line); match != nil {
			page := browser.Visit(ctx, root+match[1])
			if page.Outcome() != "200" {
				t.Errorf("%s: %s", match[1], page.Outcome())
			}
			if wants := match[2] == "for"; wants != strings.Contains(page.Text(), "Sign in as Alice") {
				t.Errorf("%s: wants a login: %t\n%s", match[1], !wants, page.Text())
			}
			pages++
		}
		if match := promise.FindStringSubmatch(line); match != nil {
			promised = strings.TrimSpace(match[1] + " " + match[2])
		}
		if match := curl.FindStringSubmatch(line); match != nil {
			target, err := url.Parse(match[2])
			if err != nil {
				t.Fatal(err)
			}
			answer, err := probe.Request{Address: target.Host, Path: target.Path, Token: tokens[match[1]]}.Do(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if got := answer.Outcome(); got != promised {
				t.Errorf("%s\n  promises %q, got %q", line, promised, got)
			}
			requests++
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if requests != 4 || pages != 5 {
		t.Errorf("the demo printed %d requests and %d pages, want 4 and 5", requests, pages)
	}

	cancel()
	go func() { _, _ = io.Copy(io.Discard, reader) }() // what is still to come
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	var r results
	r.add("good", "200", "200")
	if err := r.report(io.Discard); err != nil {
		t.Errorf("all as expected: %v", err)
	}
	r.add("bad", "401", "200")
	var out bytes.Buffer
	if err := r.report(&out); err == nil {
		t.Error("a difference is not an error")
	}
	if !strings.Contains(out.String(), "FAIL  bad") || !strings.Contains(out.String(), "1 passed, 1 failed") {
		t.Errorf("the report: %s", &out)
	}
}
