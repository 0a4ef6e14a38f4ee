package provider

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// asked are the ways to make the code under test call each endpoint, and the error that it wraps.
var asked = map[string]struct {
	ask  func(ctx context.Context, op *optest.Provider, p *Provider) error
	want error
}{
	optest.Discovery: {func(ctx context.Context, _ *optest.Provider, p *Provider) error {
		_, err := p.Metadata(ctx)
		return err
	}, ErrDiscovery},
	optest.JWKS: {func(ctx context.Context, _ *optest.Provider, p *Provider) error { _, err := p.Keys(ctx); return err }, ErrKeys},
	optest.Introspection: {func(ctx context.Context, _ *optest.Provider, p *Provider) error {
		_, _, err := p.NewIntrospector(basic).Introspect(ctx, "token", nil)
		return err
	}, ErrIntrospection},
	optest.Token: {func(ctx context.Context, op *optest.Provider, p *Provider) error {
		_, err := p.Exchange(ctx, basic, newGrant(op))
		return err
	}, ErrToken},
	optest.Userinfo: {func(ctx context.Context, op *optest.Provider, p *Provider) error {
		_, _, err := p.Userinfo(ctx, op.OpaqueToken(optest.Claims{"sub": "alice", "scope": "openid"}))
		return err
	}, ErrUserinfo},
}

// S-093, S-102, S-164, S-169: no redirect is followed, wherever it goes.
func TestRedirects(t *testing.T) {
	t.Parallel()
	for endpoint, test := range asked {
		for _, status := range []int{301, 302, 303, 307, 308} {
			t.Run(fmt.Sprintf("%s, %d", endpoint, status), func(t *testing.T) {
				t.Parallel()
				op, target := optest.New(t), optest.New(t)
				for _, location := range []string{
					target.Endpoint(endpoint), target.URL() + "/anywhere", strings.Replace(target.Endpoint(endpoint), "127.0.0.1", "localhost", 1),
					op.Endpoint(endpoint), op.URL() + "/elsewhere", "/elsewhere", "//" + strings.TrimPrefix(target.URL(), "http://"),
					"http://169.254.169.254/latest/meta-data", "http://[::1]/", "file:///etc/passwd", "gopher://127.0.0.1/", "",
				} {
					op.Fail(endpoint, optest.Fault{Status: status, Header: http.Header{"Location": {location}}})
					before := op.Hits(endpoint)
					// without pauses between the calls
					p := newProvider(t, op, nil)
					if err := test.ask(t.Context(), op, p); !errors.Is(err, test.want) {
						t.Errorf("to %q: %v", location, err)
					}
					p.Close()
					// one, and perhaps the first repetition after a pause; of a login, no call is ever repeated
					most := 2
					if endpoint == optest.Token || endpoint == optest.Userinfo {
						most = 1
					}
					if hits := op.Hits(endpoint) - before; hits < 1 || hits > most {
						t.Errorf("to %q: %d requests", location, hits)
					}
				}
				for _, name := range []string{optest.Discovery, optest.OAuthDiscovery, optest.JWKS, optest.Introspection, optest.Token, optest.Userinfo, optest.Other} {
					if hits := target.Hits(name); hits != 0 {
						t.Errorf("%d requests to %s of the target", hits, name)
					}
				}
				if hits := op.Hits(optest.Other); hits != 0 {
					t.Errorf("%d requests elsewhere at the provider", hits)
				}
				op.Heal(endpoint)
				if err := test.ask(t.Context(), op, newProvider(t, op, nil)); err != nil {
					t.Errorf("without a redirect: %v", err)
				}
			})
		}
	}
}

// zipped is what a server sends for this text when it compresses.
func zipped(t *testing.T, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// S-092, S-100, S-168: answers that are too large, are no JSON object, or never end.
func TestBadAnswers(t *testing.T) {
	t.Parallel()
	compressed := http.Header{"Content-Encoding": {"gzip"}}
	megabyte := zipped(t, bytes.Repeat([]byte(" "), 1<<20))
	tests := map[string]func(good []byte) optest.Fault{
		"good":             func(good []byte) optest.Fault { return optest.Fault{Body: good} },
		"good, 1 MiB":      func(good []byte) optest.Fault { return optest.Fault{Body: padded(good, maxBody)} },
		"good, compressed": func(good []byte) optest.Fault { return optest.Fault{Body: zipped(t, good), Header: compressed} },
		"1 byte too large": func(good []byte) optest.Fault { return optest.Fault{Body: padded(good, maxBody+1)} },
		"8 MiB":            func(good []byte) optest.Fault { return optest.Fault{Body: padded(good, 8<<20)} },
		"endless":          func(good []byte) optest.Fault { return optest.Fault{Body: good, Endless: true} },
		"endless space":    func([]byte) optest.Fault { return optest.Fault{Body: []byte(" "), Endless: true} },
		"endless error":    func([]byte) optest.Fault { return optest.Fault{Status: 500, Body: []byte("x"), Endless: true} },
		"gzip bomb": func(good []byte) optest.Fault {
			// a gigabyte of white space in a megabyte of gzip members
			return optest.Fault{Body: append(zipped(t, good), bytes.Repeat(megabyte, 1024)...), Header: compressed}
		},
		"gzip that is none": func(good []byte) optest.Fault { return optest.Fault{Body: good, Header: compressed} },
		"gzip cut": func(good []byte) optest.Fault {
			z := zipped(t, good)
			return optest.Fault{Body: z[:len(z)/2], Header: compressed}
		},
		"HTML":            func([]byte) optest.Fault { return optest.Fault{Body: []byte("<html><body>Welcome</body></html>")} },
		"empty":           func([]byte) optest.Fault { return optest.Fault{Status: 200} },
		"null":            func([]byte) optest.Fault { return optest.Fault{Body: []byte("null")} },
		"list":            func(good []byte) optest.Fault { return optest.Fault{Body: []byte("[" + string(good) + "]")} },
		"string":          func([]byte) optest.Fault { return optest.Fault{Body: []byte(`"x"`)} },
		"cut":             func(good []byte) optest.Fault { return optest.Fault{Body: good[:len(good)/2]} },
		"data after":      func(good []byte) optest.Fault { return optest.Fault{Body: append(slices.Clone(good), "{}"...)} },
		"byte order mark": func(good []byte) optest.Fault { return optest.Fault{Body: append([]byte("\ufeff"), good...)} },
		"200,000 deep": func([]byte) optest.Fault {
			return optest.Fault{Body: []byte(`{"keys":` + strings.Repeat("[", 200_000) + strings.Repeat("]", 200_000) + `}`)}
		},
		"201":       func(good []byte) optest.Fault { return optest.Fault{Status: 201, Body: good} },
		"204":       func([]byte) optest.Fault { return optest.Fault{Status: 204} },
		"206":       func(good []byte) optest.Fault { return optest.Fault{Status: 206, Body: good} },
		"304":       func([]byte) optest.Fault { return optest.Fault{Status: 304} },
		"400":       func(good []byte) optest.Fault { return optest.Fault{Status: 400, Body: good} },
		"401":       func(good []byte) optest.Fault { return optest.Fault{Status: 401, Body: good} },
		"403":       func(good []byte) optest.Fault { return optest.Fault{Status: 403, Body: good} },
		"429":       func(good []byte) optest.Fault { return optest.Fault{Status: 429, Body: good} },
		"500":       func(good []byte) optest.Fault { return optest.Fault{Status: 500, Body: good} },
		"503":       func(good []byte) optest.Fault { return optest.Fault{Status: 503, Body: good} },
		"no answer": func([]byte) optest.Fault { return optest.Fault{Drop: true} },
		"large header": func(good []byte) optest.Fault {
			return optest.Fault{Body: good, Header: http.Header{"X": {strings.Repeat("x", 128<<10)}}}
		},
	}
	for endpoint, how := range asked {
		for name, fault := range tests {
			t.Run(endpoint+", "+name, func(t *testing.T) {
				t.Parallel()
				op := optest.New(t)
				good := map[string][]byte{
					optest.Discovery:     []byte(`{"issuer":"` + op.Issuer() + `","jwks_uri":"` + op.Endpoint(optest.JWKS) + `"}`),
					optest.JWKS:          optest.KeySet(op.Key("rs-1")),
					optest.Introspection: []byte(`{"active":true,"sub":"alice"}`),
					optest.Token:         []byte(`{"access_token":"alice's","token_type":"Bearer"}`),
					optest.Userinfo:      []byte(`{"sub":"alice"}`),
				}[endpoint]
				op.Fail(endpoint, fault(good))
				p := newProvider(t, op, nil)
				err := how.ask(t.Context(), op, p)
				if strings.HasPrefix(name, "good") {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if !errors.Is(err, how.want) {
					t.Fatalf("got %v, want %v", err, how.want)
				}
				if strings.Contains(err.Error(), "html") || strings.Contains(err.Error(), "alice") || len(err.Error()) > 300 {
					t.Errorf("the error quotes the answer: %v", err)
				}
			})
		}
	}
}

// padded is the JSON with white space behind it.
func padded(text []byte, size int) []byte {
	return append(slices.Clone(text), bytes.Repeat([]byte(" "), size-len(text))...)
}

// S-168, over real connections: what never comes to an end is cut off by the timeout.
func TestSlowAnswers(t *testing.T) {
	t.Parallel()
	for endpoint, how := range asked {
		for name, fault := range map[string]optest.Fault{"hang": {Hang: true}, "drip": {Drip: true}} {
			t.Run(endpoint+", "+name, func(t *testing.T) {
				t.Parallel()
				op := optest.New(t)
				op.Fail(endpoint, fault)
				p := newProvider(t, op, func(c *Config) {
					c.Timeout = 100 * time.Millisecond
					if endpoint != optest.Discovery {
						// so that the one call is all there is
						c.Endpoints = Endpoints{
							JWKSURI: op.Endpoint(optest.JWKS), Introspection: op.Endpoint(optest.Introspection),
							Token: op.Endpoint(optest.Token), Userinfo: op.Endpoint(optest.Userinfo),
						}
					}
				})
				start := time.Now()
				if err := how.ask(t.Context(), op, p); err == nil {
					t.Error("no error")
				}
				if waited := time.Since(start); waited > 5*time.Second {
					t.Errorf("waited %v", waited)
				}
			})
		}
	}
}

// S-168: headers and interim answers without end are cut off by their size, before the timeout.
func TestEndlessHeaders(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"headers": "X-Header: value\r\n", "one header": "xxxxxxxxxxxxxxxx", "interim answers": "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			go func() {
				for {
					connection, err := listener.Accept()
					if err != nil {
						return
					}
					go func() {
						defer connection.Close()
						_, _ = connection.Read(make([]byte, 4096))
						if name != "interim answers" {
							_, _ = io.WriteString(connection, "HTTP/1.1 200 OK\r\nX: ")
						}
						for sent := 0; sent < 64<<20; sent += 1000 * len(text) {
							if _, err := io.WriteString(connection, strings.Repeat(text, 1000)); err != nil {
								return
							}
						}
					}()
				}
			}()
			p := New(Config{Issuer: "http://" + listener.Addr().String(), Timeout: 10 * time.Second})
			defer p.Close()
			if _, err := p.Metadata(t.Context()); !errors.Is(err, ErrDiscovery) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Metadata: %v", err)
			}
		})
	}
}
