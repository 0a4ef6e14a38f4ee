package upstream

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

func TestHandler(t *testing.T) {
	t.Parallel()
	h := new(Handler)
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPut, "/orders/7?full=1", nil)
	r.Header["X-Twice"] = []string{"a", "b"}
	h.ServeHTTP(w, r)

	var got Received
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Method != http.MethodPut || got.Path != "/orders/7?full=1" ||
		!slices.Equal(got.Headers["X-Twice"], []string{"a", "b"}) {
		t.Errorf("answered %+v", got)
	}
	if h.Count() != 1 {
		t.Errorf("counted %d requests, want 1", h.Count())
	}
}
