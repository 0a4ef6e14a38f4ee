package openidconnect

import (
	"maps"
	"net/http"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
)

// Events that this module emits through Caddy's events app. Their data never holds a token, a cookie or a secret.
const (
	eventLogin        = "openid_connect.login"
	eventLogout       = "openid_connect.logout"
	eventSessionEnded = "openid_connect.session_ended"
	eventDenied       = "openid_connect.denied"
	eventProviderDown = "openid_connect.provider_down"
	eventProviderUp   = "openid_connect.provider_up"
)

// emitter brings events to those who listen. Caddy calls them one after the other before it returns, as it does for its own events: who
// has much to do does it by himself.
type emitter struct {
	app    *caddyevents.App
	ctx    caddy.Context
	logger *zap.Logger

	started atomic.Bool // before, others may still be subscribing
}

// emit tells of an event, with what all of them have beside their own data.
func (e *emitter) emit(name, issuer string, data map[string]any) {
	if e.app == nil || !e.app.ShouldEmit(name) {
		return
	}
	defer func() {
		if recovered := recover(); recovered != nil {
			e.logger.Error("a handler of events panicked", zap.String("event", name), zap.Any("cause", recovered), zap.Stack("stack"))
		}
	}()
	told := map[string]any{"issuer": issuer}
	maps.Copy(told, data)
	e.app.Emit(e.ctx, name, told)
}

// emit tells of something that has happened to a user of this handler.
func (rt *runtime) emit(r *http.Request, name string, data map[string]any) {
	if rt.events.app == nil || !rt.events.app.ShouldEmit(name) {
		return
	}
	told := map[string]any{"client_id": rt.policy.clientID}
	if r != nil {
		told["host"], told["request_id"] = r.Host, requestID(r)
	}
	maps.Copy(told, data)
	rt.events.emit(name, rt.issuerName, told)
}
