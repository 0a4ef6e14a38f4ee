// Command demo shows Caddy with the openid_connect handler in front of an upstream, with logins and access tokens from a
// real provider. Everything runs in this process, on 127.0.0.1 only.
//
//	go run .          # starts, prints pages to open and requests to try, stays until Ctrl-C
//	go run . -check   # logs in and makes the requests itself, and fails if an answer is not as expected
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	check := flag.Bool("check", false, "make the requests, compare the answers and end")
	var o options
	flag.IntVar(&o.port, "port", 8080, "have Caddy listen on this port if it is free, else on any; -check takes any")
	flag.StringVar(&o.logLevel, "log", "ERROR", "show Caddy's log from this `level` on: DEBUG, INFO, WARN or ERROR")
	flag.Parse()
	slog.SetLogLoggerLevel(slog.LevelError) // the provider's library tells there of every refusal, and those are often the point

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	run := show
	if *check {
		run = verify
	}
	err := run(ctx, os.Stdout, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

type options struct {
	port     int
	logLevel string
}

// show runs the demo for somebody to try.
func show(ctx context.Context, out io.Writer, o options) (err error) {
	s, err := start(o.logLevel)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	address, err := chooseAddress(o.port)
	if err != nil {
		return err
	}
	site := s.mainSite(address)
	if err := s.load(site); err != nil {
		return err
	}
	reader, err := s.token(ctx, ordersReader)
	if err != nil {
		return err
	}
	visitor, err := s.token(ctx, guest)
	if err != nil {
		return err
	}
	bad, err := tamper(reader)
	if err != nil {
		return err
	}
	printPages(out, "http://"+address, s.issuer)
	printRequests(out, site, "http://"+address+"/orders", tokens{reader: reader, tampered: bad, guest: visitor})
	fmt.Fprintf(out, "\nA fresh token (they live for an hour):\n\n  curl -s -u %s:%s -d grant_type=client_credentials %s\n",
		ordersReader, s.secret, s.tokenEndpoint())
	fmt.Fprintf(out, "\nRunning. Open http://%s/ in a browser; Ctrl-C ends the demo.\n", address)
	<-ctx.Done()
	return nil
}

// verify runs the demo and makes its requests.
func verify(ctx context.Context, out io.Writer, o options) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	s, err := start(o.logLevel)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	results, err := s.verify(ctx)
	if err != nil {
		return err
	}
	return results.report(out)
}

// chooseAddress returns an address with the port if that is free, otherwise with one that is.
func chooseAddress(port int) (string, error) {
	for _, port := range []int{port, 0} {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		chosen := listener.Addr().String()
		if err := listener.Close(); err != nil {
			return "", fmt.Errorf("giving up %s for Caddy: %w", chosen, err)
		}
		return chosen, nil
	}
	return "", errors.New("no free port on 127.0.0.1")
}
