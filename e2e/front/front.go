// Package front is how tests reach a provider that does not tell by itself what became of refresh tokens.
package front

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
)

// maxForm bounds what is read of a request to the token endpoint.
const maxForm = 64 << 10

// Front passes requests on to a provider.
type Front struct {
	mux            *http.ServeMux
	server         *httptest.Server
	given, refused atomic.Int64
}

// New listens at an address of its own, which is to be that of the provider for all who use it. Nothing can be asked for before Serve.
func New() *Front {
	f := &Front{mux: http.NewServeMux()}
	f.server = httptest.NewUnstartedServer(f.mux)
	return f
}

// URL is where the provider is.
func (f *Front) URL() string { return "http://" + f.server.Listener.Addr().String() }

// Handle answers some requests in place of the provider.
func (f *Front) Handle(pattern string, handler http.HandlerFunc) { f.mux.HandleFunc(pattern, handler) }

// Serve passes all other requests on to an address, and watches the path of the token endpoint.
func (f *Front) Serve(address, tokenPath string) {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: address})
			r.Out.Host = r.In.Host
		},
		// A provider that starts cannot be reached yet.
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	f.mux.Handle("/", proxy)
	f.mux.HandleFunc("POST "+tokenPath, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, maxForm))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer := &statusWriter{ResponseWriter: w}
		proxy.ServeHTTP(answer, r)
		if form, err := url.ParseQuery(string(body)); err != nil || form.Get("grant_type") != "refresh_token" {
			return
		}
		if answer.status == http.StatusOK {
			f.given.Add(1)
		} else {
			f.refused.Add(1)
		}
	})
	f.server.Start()
}

// Grants counts refresh tokens, those that the provider has redeemed and those that it has refused.
func (f *Front) Grants() (given, refused int) { return int(f.given.Load()), int(f.refused.Load()) }

// Close ends it.
func (f *Front) Close() { f.server.Close() }

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter

	status int
}

// WriteHeader is that of http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
