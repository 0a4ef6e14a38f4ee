package openidconnect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// adminPrefix is below which the module answers in Caddy's admin API.
const adminPrefix = "/openid_connect/"

// maxAdminBody is the size of a request to the admin API (bytes). A token can have 16 KiB.
const maxAdminBody = 64 << 10

// adminAPI is the part of Caddy's admin API that is about this module. Caddy makes one for each admin endpoint, before the configuration
// is loaded, and never ends it: it keeps nothing, and looks at what is running with each request.
type adminAPI struct{}

func init() {
	caddy.RegisterModule(adminAPI{})
}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.openid_connect",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

// adminEndpoint is one path of the admin API.
type adminEndpoint struct {
	methods []string
	serve   func(w http.ResponseWriter, r *http.Request) error
}

// adminEndpoints are all of them, by what follows the prefix.
var adminEndpoints = map[string]adminEndpoint{
	"providers": {[]string{http.MethodGet, http.MethodHead}, serveProviders},
	"revoke":    {[]string{http.MethodPost}, serveRevoke},
	"explain":   {[]string{http.MethodPost}, serveExplain},
}

// Routes returns the one route of the module, under which unknown paths are answered too.
func (adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: adminPrefix, Handler: caddy.AdminHandlerFunc(serveAdmin)}}
}

func serveAdmin(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	endpoint, ok := adminEndpoints[strings.TrimPrefix(r.URL.Path, adminPrefix)]
	switch {
	case !ok:
		return adminError(http.StatusNotFound, "there is no such endpoint; there are %s", strings.Join(sortedKeys(adminEndpoints), ", "))
	case !slices.Contains(endpoint.methods, r.Method):
		allowed := strings.Join(endpoint.methods, ", ")
		w.Header().Set("Allow", allowed)
		return adminError(http.StatusMethodNotAllowed, "the method must be %s", allowed)
	default:
		return endpoint.serve(w, r)
	}
}

// adminError is an answer that says what is wrong with a request. Caddy logs the error of every answer, so the text, which may quote
// the request, is for the answer alone.
func adminError(status int, format string, arguments ...any) error {
	return caddy.APIError{
		HTTPStatus: status,
		Err:        errors.New(strings.ToLower(http.StatusText(status))),
		Message:    fmt.Sprintf(format, arguments...),
	}
}

// readAdminRequest reads the one JSON object that a request must consist of.
func readAdminRequest(r *http.Request, target any) error {
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		return adminError(http.StatusUnsupportedMediaType, "the Content-Type must be application/json")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAdminBody+1))
	switch {
	case err != nil:
		return adminError(http.StatusBadRequest, "the request was not read to its end")
	case len(body) > maxAdminBody:
		return adminError(http.StatusRequestEntityTooLarge, "a request has at most %d bytes", maxAdminBody)
	}
	if err := decodeAdminRequest(body, target); err != nil {
		return adminError(http.StatusBadRequest, "%v", err)
	}
	return nil
}

func decodeAdminRequest(body []byte, target any) error {
	decoder := json.NewDecoder(strings.NewReader(string(body)))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(target)
	wrongType, isWrongType := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case isWrongType && wrongType.Field != "":
		return fmt.Errorf("%q must be %s", wrongType.Field, jsonType(wrongType.Type))
	case isWrongType:
		return errors.New("the request must be a JSON object")
	case errors.Is(err, io.EOF):
		return errors.New("the request is empty")
	case err != nil:
		return fmt.Errorf("the request is not as it should be: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	return nil
}

func writeAdminAnswer(w http.ResponseWriter, answer any) error {
	body, err := json.MarshalIndent(answer, "", "  ")
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusInternalServerError, Err: fmt.Errorf("encoding the answer: %w", err)}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(body, '\n')) //nolint:errcheck // the client has gone; there is nobody to tell
	return nil
}

// activeHandlers are those of the configuration that runs, in the order in which they were made. One that is being loaded has none yet,
// and one that has been replaced has none any more, though it may take its time to end.
func activeHandlers() []*Handler {
	active := caddy.ActiveContext()
	load := active.GetMetricsRegistry() // each load has its own
	var handlers []*Handler
	for _, rt := range runningHandlers() {
		if h, ok := rt.events.ctx.Module().(*Handler); ok && load != nil && rt.events.ctx.GetMetricsRegistry() == load {
			handlers = append(handlers, h)
		}
	}
	return handlers
}
