package openidconnect

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
)

// observer brings what happens with a provider into the logs and metrics of one configuration load.
type observer struct {
	logger  *zap.Logger
	metrics *metrics
	events  *emitter
	issuer  string
}

func (o *observer) Called(endpoint string, status int, took time.Duration) {
	o.metrics.providerCall(endpoint, status, took)
}

// Up writes a line when the provider goes or comes back, not with each failure.
func (o *observer) Up(up, changed bool, err error) {
	value := 0.0
	if up {
		value = 1
	}
	o.metrics.providerUp.WithLabelValues(o.issuer).Set(value)
	switch {
	case !changed:
	case up:
		o.logger.Info("provider is available", zap.String("issuer", o.issuer))
		go o.emit(eventProviderUp, nil) // who listens may take time, and the provider is waited for
	default:
		reason := reasonOfProvider(err)
		o.logger.Warn("provider is not available; what is known of it stays in use",
			zap.String("issuer", o.issuer), zap.String("reason", string(reason)), zap.String("hint", answers[reason].hint), zap.Error(err))
		go o.emit(eventProviderDown, map[string]any{"reason": string(reason)})
	}
}

// emit tells of the provider once the configuration runs: another one may have brought about what happens while this one is being loaded.
func (o *observer) emit(name string, data map[string]any) {
	if o.events.started.Load() {
		o.events.emit(name, o.issuer, data)
	}
}

// KeySkipped warns of keys that somebody may have meant to use; keys for encryption are no trouble.
func (o *observer) KeySkipped(index int, reason error) {
	level := zapcore.WarnLevel
	if errors.Is(reason, jose.ErrOtherUse) {
		level = zapcore.DebugLevel
	}
	o.logger.Log(level, "a key of the provider's set cannot be used; the others can",
		zap.String("issuer", o.issuer), zap.Int("index", index), zap.String("cause", reason.Error()))
}

// eventHandler adapts a function to Caddy's events app. It is a struct because Caddy writes handlers to its debug log.
type eventHandler struct{ handle func() }

func (h eventHandler) Handle(context.Context, caddy.Event) error {
	h.handle()
	return nil
}
