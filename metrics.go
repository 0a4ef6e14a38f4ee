package openidconnect

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of requests, for metrics.
const (
	resultAllowed      = "allowed"
	resultPassed       = "passed"
	resultPreflight    = "preflight"
	resultBadRequest   = "bad_request"
	resultUnauthorized = "unauthorized"
	resultForbidden    = "forbidden"
	resultUnavailable  = "unavailable"
	resultLogin        = "login" // sent to the provider
	resultBadGateway   = "bad_gateway"
	resultSucceeded    = "succeeded" // of a login or a renewal
	resultRejected     = "rejected"  // of a renewal
)

func resultOf(status int) string {
	switch status {
	case http.StatusBadRequest:
		return resultBadRequest
	case http.StatusForbidden:
		return resultForbidden
	case http.StatusBadGateway:
		return resultBadGateway
	case http.StatusServiceUnavailable:
		return resultUnavailable
	default:
		return resultUnauthorized
	}
}

// Methods of authentication, for metrics and placeholders.
const (
	methodBearer  = "bearer"
	methodSession = "session"
	methodNone    = "none"
)

// metrics are the collectors in the registry of one configuration load. Caddy makes a new registry for each load, so counters start
// again from zero after a reload, as after a restart. No label ever holds a user, a token or anything else of a request.
type metrics struct {
	requests         *prometheus.CounterVec
	logins           *prometheus.CounterVec
	refreshes        *prometheus.CounterVec
	ended            *prometheus.CounterVec
	validations      *prometheus.CounterVec
	cacheHits        prometheus.Counter
	cacheMisses      prometheus.Counter
	providerRequests *prometheus.CounterVec
	providerDuration *prometheus.HistogramVec
	providerUp       *prometheus.GaugeVec
	revocationListUp *prometheus.GaugeVec // without labels, so that it is absent where no list is kept

	// resolved once, for the path of requests that are let through
	allowedBearer, allowedSession, valid prometheus.Counter
}

const metricsNamespace, metricsSubsystem = "caddy", "openid_connect"

// newMetrics registers the collectors, or takes those that a sibling handler has registered before.
func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: name, Help: help}
	}
	counter := func(name, help string) prometheus.CounterOpts { return prometheus.CounterOpts(opts(name, help)) }
	m := &metrics{
		requests: prometheus.NewCounterVec(counter("requests_total",
			"Requests by method of authentication and result."), []string{"method", "result"}),
		logins: prometheus.NewCounterVec(counter("logins_total",
			"Logins that came back from the provider: succeeded, or the reason why not."), []string{"result"}),
		refreshes: prometheus.NewCounterVec(counter("refreshes_total",
			"Renewals of sessions: succeeded, rejected by the provider, unavailable, or why the session could not go on."), []string{"result"}),
		ended: prometheus.NewCounterVec(counter("sessions_ended_total",
			"Sessions that have ended, as far as this instance was told: by a logout, or why."), []string{"reason"}),
		validations: prometheus.NewCounterVec(counter("token_validations_total",
			"Bearer tokens judged, by result and reason of refusal."), []string{"result", "reason"}),
		cacheHits: prometheus.NewCounter(counter("token_cache_hits_total",
			"Bearer tokens found in a cache.")),
		cacheMisses: prometheus.NewCounter(counter("token_cache_misses_total",
			"Bearer tokens that had to be verified or introspected.")),
		providerRequests: prometheus.NewCounterVec(counter("provider_requests_total",
			"Calls to identity providers by endpoint and HTTP status; 0 without an answer."), []string{"endpoint", "code"}),
		providerDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: "provider_request_duration_seconds",
			Help: "Time taken by calls to identity providers.", Buckets: prometheus.DefBuckets,
		}, []string{"endpoint"}),
		providerUp: prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("provider_up",
			"Whether the last fetch of the provider's metadata and keys succeeded.")), []string{"issuer"}),
		revocationListUp: prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("revocation_list_up",
			"Whether the list of ended sessions could be read from and written to its storage the last time; while not, the last known list holds.")), nil),
	}
	err := errors.Join(
		register(registry, &m.requests), register(registry, &m.logins), register(registry, &m.refreshes), register(registry, &m.ended),
		register(registry, &m.validations),
		register(registry, &m.cacheHits), register(registry, &m.cacheMisses),
		register(registry, &m.providerRequests), register(registry, &m.providerDuration), register(registry, &m.providerUp),
		register(registry, &m.revocationListUp),
	)
	if err != nil {
		return nil, err
	}
	m.allowedBearer = m.requests.WithLabelValues(methodBearer, resultAllowed)
	m.allowedSession = m.requests.WithLabelValues(methodSession, resultAllowed)
	m.valid = m.validations.WithLabelValues("valid", "")
	m.begin()
	return m, nil
}

// begin has the series that alerts are made of begin with zero: one that begins with its first event hides that event from rate().
func (m *metrics) begin() {
	for _, result := range []string{
		resultSucceeded, string(reasonCodeExchangeFailed), string(reasonProviderError), string(reasonUserinfoFailed), string(reasonLoginLoop),
	} {
		m.logins.WithLabelValues(result)
	}
	for _, result := range []string{resultSucceeded, resultRejected, resultUnavailable} {
		m.refreshes.WithLabelValues(result)
	}
	m.ended.WithLabelValues(reasonLogoutPrefix + logoutByUser)
	for _, method := range []string{methodNone, methodBearer, methodSession} {
		m.requests.WithLabelValues(method, resultUnavailable)
	}
}

func register[C prometheus.Collector](registry prometheus.Registerer, collector *C) error {
	err := registry.Register(*collector)
	if registered, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		*collector = registered.ExistingCollector.(C)
		return nil
	}
	return err
}

func (m *metrics) request(method, result string) { m.requests.WithLabelValues(method, result).Inc() }

func (m *metrics) login(result string) { m.logins.WithLabelValues(result).Inc() }

func (m *metrics) refresh(result string) { m.refreshes.WithLabelValues(result).Inc() }

func (m *metrics) sessionsEnded(reason string, count int) {
	m.ended.WithLabelValues(reason).Add(float64(count))
}

func (m *metrics) revocationList(up bool) {
	value := 0.0
	if up {
		value = 1
	}
	m.revocationListUp.WithLabelValues().Set(value)
}

func (m *metrics) refusedToken(reason Reason) {
	m.validations.WithLabelValues("refused", string(reason)).Inc()
}

func (m *metrics) providerCall(endpoint string, status int, took time.Duration) {
	m.providerRequests.WithLabelValues(endpoint, strconv.Itoa(status)).Inc()
	m.providerDuration.WithLabelValues(endpoint).Observe(took.Seconds())
}
