// Package upstream is an application that shows what reached it: as a page for people, as JSON for programs.
package upstream

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
)

// Received is the answer to every request of a program: what the upstream got of it.
type Received struct {
	Method  string      `json:"method"`
	Path    string      `json:"path"`
	Headers http.Header `json:"headers"`
}

// Handler answers every request with what it received.
type Handler struct {
	count atomic.Int64
}

// Count returns how many requests came through so far.
func (h *Handler) Count() int64 { return h.count.Load() }

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.count.Add(1)
	received := Received{Method: r.Method, Path: r.URL.RequestURI(), Headers: r.Header}
	w.Header().Set("Vary", "Accept")
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		showPage(w, received)
		return
	}
	body, err := json.MarshalIndent(received, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
}
