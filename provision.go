package openidconnect

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.openid_connect",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision makes the immutable runtime that requests read. It opens no connection and writes no file.
func (h *Handler) Provision(ctx caddy.Context) error {
	if err := resolvePlaceholders(h); err != nil {
		return err
	}
	h.resolved = true
	if err := h.check(); err != nil {
		return err
	}
	rt, err := h.newRuntime(ctx)
	if err != nil {
		return err
	}
	h.runtime = rt
	return nil
}

// settleTimeout is for how long the end of the process waits for renewals under way: a provider may have spent a refresh token already.
const settleTimeout = 10 * time.Second

// ending is the end of the process, which all handlers share.
type ending struct {
	once sync.Once
	by   time.Time
}

// deadline is until when renewals are waited for.
func (e *ending) deadline() time.Time {
	e.once.Do(func() { e.by = time.Now().Add(settleTimeout) })
	return e.by
}

// Cleanup releases what Provision took, which may be nothing.
func (h *Handler) Cleanup() error {
	if h.runtime == nil {
		return nil
	}
	if l := h.runtime.login; l != nil && caddy.Exiting() {
		ctx, cancel := context.WithDeadline(context.Background(), l.ending.deadline())
		defer cancel()
		l.renewals.settle(ctx)
	}
	return h.runtime.release()
}

// Interface guards
var (
	_ caddy.Module                = (*Handler)(nil)
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ json.Unmarshaler            = (*Handler)(nil)
)
