package openidconnect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// explainRequest asks what becomes of a bearer token at a host and path.
type explainRequest struct {
	Token  string `json:"token"`
	Host   string `json:"host"`
	Path   string `json:"path"`
	Online bool   `json:"online"` // the provider may be asked
}

// noteUnplaced is said of the only handler there is when its route is not known.
const noteUnplaced = "the handler stands where requests get to by more than a route"

func serveExplain(w http.ResponseWriter, r *http.Request) error {
	var request explainRequest
	if err := readAdminRequest(r, &request); err != nil {
		return err
	}
	if request.Token == "" {
		return adminError(http.StatusBadRequest, `"token" is missing`)
	}
	handlers, note, err := request.handlers()
	switch {
	case errors.Is(err, errNoHandler):
		return adminError(http.StatusNotFound, "%v", err)
	case err != nil:
		return adminError(http.StatusBadRequest, "%v", err)
	}
	explained, err := explainAt(r.Context(), handlers, request.Token, request.Online)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusInternalServerError, Err: err}
	}
	if note != "" {
		explained.Notes = append(explained.Notes, note)
	}
	return writeAdminAnswer(w, explained)
}

// handlers are those of the running configuration that a request would meet.
func (request *explainRequest) handlers() (handlers []*Handler, note string, err error) {
	active := activeHandlers()
	if len(active) == 0 {
		return nil, "", fmt.Errorf("%w: the running configuration has none", errNoHandler)
	}
	loaded, err := caddy.ActiveContext().AppIfConfigured("http")
	app, ok := loaded.(*caddyhttp.App)
	if err != nil || !ok {
		return nil, "", fmt.Errorf("%w: there are no sites", errNoHandler)
	}
	handlers, note, err = handlersAt(app, request.Host, request.Path)
	if errors.Is(err, errNoPlace) && !slices.ContainsFunc(active, func(h *Handler) bool { return !sameJudgement(h, active[0]) }) {
		return active[:1], noteUnplaced, nil // in what answers to errors or to an upstream, say
	}
	return handlers, note, err
}

// explainAt has a token judged by the handlers that a request meets one after the other: each must accept it.
func explainAt(ctx context.Context, handlers []*Handler, token string, online bool) (explained *explanation, err error) {
	var notes []string
	for _, h := range handlers {
		next, err := h.runtime.explain(ctx, token, online)
		if err != nil {
			return nil, err
		}
		if next.Ignored && explained != nil {
			continue
		}
		for _, note := range next.Notes {
			if !slices.Contains(notes, note) {
				notes = append(notes, note)
			}
		}
		explained = next
		explained.Notes = notes
		if !explained.Accepted && !explained.Ignored {
			break
		}
	}
	return explained, nil
}
