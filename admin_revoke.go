package openidconnect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

// writtenWait is how long the answer to a revocation waits, beyond the attempt itself, to learn that other instances can read it.
const writtenWait = 5 * time.Second

// revokeRequest names the sessions to be ended: those of a user, or what the provider calls one session.
type revokeRequest struct {
	Issuer   string `json:"issuer"`
	ClientID string `json:"client_id"`
	Subject  string `json:"sub"`
	SID      string `json:"sid"`
}

func serveRevoke(w http.ResponseWriter, r *http.Request) error {
	var request revokeRequest
	if err := readAdminRequest(r, &request); err != nil {
		return err
	}
	count, err := request.carryOut(r.Context(), activeHandlers())
	if err != nil {
		return err
	}
	return writeAdminAnswer(w, struct {
		Count int `json:"count"`
	}{count})
}

// carryOut ends the sessions that there are at this moment, of as many clients as are meant.
func (request *revokeRequest) carryOut(ctx context.Context, handlers []*Handler) (count int, err error) {
	if (strings.TrimSpace(request.Subject) == "") == (strings.TrimSpace(request.SID) == "") {
		return 0, adminError(http.StatusBadRequest, `name the sessions by one of "sub" and "sid"`)
	}
	owners, err := request.owners(handlers)
	if err != nil {
		return 0, err
	}
	var failed []error
	for _, rt := range owners {
		n, err := rt.endByOperator(ctx, request)
		count += n
		failed = append(failed, err)
	}
	if err := errors.Join(failed...); err != nil {
		return 0, caddy.APIError{
			HTTPStatus: http.StatusServiceUnavailable,
			Err:        fmt.Errorf("ending sessions: %w", err),
			Message: fmt.Sprintf("the sessions are over for this instance as long as it runs; its storage fails, so other instances "+
				"may not know of it, nor this one after a restart: %v", err),
		}
	}
	return count, nil
}

// owners returns one handler for each provider and client that the request means.
func (request *revokeRequest) owners(handlers []*Handler) ([]*runtime, error) {
	var all []*runtime
	seen := make(map[session.Owner]bool)
	for _, h := range handlers {
		if l := h.runtime.login; l != nil && !seen[l.owner()] {
			seen[l.owner()] = true
			all = append(all, h.runtime)
		}
	}
	if len(all) == 0 {
		return nil, adminError(http.StatusNotFound, "no handler of the running configuration keeps sessions")
	}
	issuers := namesOf(all, (*runtime).statedIssuer)
	known := strings.Join(issuers, ", ")
	if request.Issuer != "" {
		all = slices.DeleteFunc(all, func(rt *runtime) bool {
			return request.Issuer != rt.statedIssuer() && request.Issuer != rt.issuerName
		})
	} else if len(issuers) > 1 {
		return nil, adminError(http.StatusBadRequest, `there are several issuers, so "issuer" must name one: %s`, known)
	}
	if len(all) == 0 {
		return nil, adminError(http.StatusNotFound, "no handler keeps sessions of this issuer; there are those of %s", known)
	}
	known = strings.Join(namesOf(all, func(rt *runtime) string { return rt.login.clientID }), ", ")
	if request.ClientID != "" {
		all = slices.DeleteFunc(all, func(rt *runtime) bool { return request.ClientID != rt.login.clientID })
	}
	if len(all) == 0 {
		return nil, adminError(http.StatusNotFound, "no handler has this client_id at the issuer; there are %s", known)
	}
	return all, nil
}

// statedIssuer is how the provider calls itself, or as long as that is not known, what is configured.
func (rt *runtime) statedIssuer() string { return or(rt.provider.Status().Issuer, rt.issuerName) }

func namesOf(handlers []*runtime, name func(*runtime) string) []string {
	names := make([]string, 0, len(handlers))
	for _, rt := range handlers {
		names = append(names, name(rt))
	}
	return sortedOnce(names)
}

// endByOperator ends the sessions of one provider and client that there are at this moment.
func (rt *runtime) endByOperator(ctx context.Context, request *revokeRequest) (count int, err error) {
	l, now, by := rt.login, rt.now(), "sub"
	if request.SID != "" {
		by = "sid"
	}
	ended := session.Revocation{Owner: l.owner(), SID: request.SID, Subject: request.Subject, Created: l.logouts.momentOf(now)}
	count, err = rt.endAll(ctx, ended)
	ended.Until = l.latestEnd(ctx, now)
	err = errors.Join(err, rt.awaitWritten(ctx, now, ended))
	rt.logger.Info("sessions ended by an operator", zap.String("issuer", rt.issuerName), zap.String("client_id", l.clientID),
		zap.Int("count", count), zap.String("by", by), zap.String("user_id", request.Subject))
	rt.metrics.sessionsEnded(reasonLogoutPrefix+logoutByOperator, count)
	rt.emit(nil, eventLogout, map[string]any{"by": logoutByOperator, "subject": request.Subject, "sid": request.SID, "count": count})
	return count, err
}

// awaitWritten returns why other instances cannot learn of what endAll has put on the lists, if they cannot. Nothing is added by it: what is
// on a list already is only waited for.
func (rt *runtime) awaitWritten(ctx context.Context, now time.Time, ended session.Revocation) (err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writtenWait)
	defer cancel()
	for list := range rt.revocationLists() {
		err = errors.Join(err, list.Add(ctx, now, ended))
	}
	return err
}
