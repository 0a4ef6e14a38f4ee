package openidconnect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// explanation is what a handler makes of a bearer token, and why. Like a line of the log it holds at most single values of claims.
type explanation struct {
	Accepted bool   `json:"accepted"`
	Ignored  bool   `json:"ignored,omitempty"` // the handler leaves bearer tokens to the upstream
	Issuer   string `json:"issuer,omitempty"`
	Method   string `json:"method,omitempty"`

	Passed []string `json:"passed,omitempty"` // the steps that the token has passed, in their order
	Failed string   `json:"failed,omitempty"` // the step that it has not

	Reason   Reason `json:"reason,omitempty"`
	Status   int    `json:"status,omitempty"` // that a request with the token gets
	Expected string `json:"expected,omitempty"`
	Got      string `json:"got,omitempty"`
	Cause    string `json:"cause,omitempty"`
	Hint     string `json:"hint,omitempty"`

	Notes []string `json:"notes,omitempty"`
}

// What an explanation adds where a request would know more.
const (
	askOnline     = `ask again with "online": true`
	hintOffline   = "this takes a call to the provider, which was not made: " + askOnline
	hintIgnored   = "ignore_bearer is on: this handler judges sessions alone and leaves bearer tokens to the upstream"
	noteOldKeys   = "the provider's keys were not fetched again, as they may be for a request: " + askOnline
	noteOldAnswer = "the provider was not asked: it said so when a request brought this token, not long ago"
	noteNoHeaders = "introspection_addon_headers were not sent, as there is no request"
	noteDPoP      = "the token is bound to a DPoP key: a request must send it with the DPoP scheme and a proof of that key"
	noteMutualTLS = "the token is bound to a client certificate: a request must come with it"
)

// explain judges a bearer token as if a request had brought it, by the same code. Nothing is remembered, counted or logged of that.
// Without online no call is made: what is known of the provider has to do.
func (rt *runtime) explain(ctx context.Context, raw string, online bool) (*explanation, error) {
	if rt.ignoreBearer {
		return &explanation{Ignored: true, Hint: hintIgnored}, nil
	}
	token, refused := schemeToken(schemeBearer+" "+raw, schemeBearer)
	if refused != nil {
		explained := explainRefusal(refused)
		_, explained.Failed = stepsBefore(rt.steps(""), refused.reason)
		return explained, nil
	}
	trial, err := rt.trial()
	if err != nil {
		return nil, fmt.Errorf("preparing to judge a token: %w", err)
	}
	if online {
		limited, cancel := context.WithTimeout(ctx, rt.provider.config.Timeout)
		defer cancel()
		ctx = limited
	} else {
		ctx = provider.WithoutCalls(ctx)
	}
	r := (&http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/"}, Header: make(http.Header)}).WithContext(ctx)

	var notes []string
	if rt.introspection.wants(token) {
		if len(rt.introspection.headers) > 0 {
			notes = append(notes, noteNoHeaders)
		}
		if !online && trial.adoptAnswer(rt, token, r) {
			notes = append(notes, noteOldAnswer)
		}
	}
	id, refused := trial.authenticate(r, nil, token, schemeBearer)
	unproven := false
	if refused != nil && refused.reason == reasonUnbound {
		// who asks has no key to prove; whatever else is wrong is still to be found
		if waived := trial.waiveProof(token, r); len(waived) > 0 {
			if id, refused = trial.authenticate(r, nil, token, schemeBearer); refused == nil || refused.reason != reasonUnbound {
				notes, unproven = append(notes, waived...), true
			}
		}
	}
	explained := &explanation{Accepted: true, Method: methodBearer}
	if refused != nil {
		explained = explainRefusal(refused)
		if refused.reason == reasonUnknownKey && !online {
			notes = append(notes, noteOldKeys)
		}
	} else {
		explained.Issuer = id.issuer
	}
	explained.Passed, explained.Failed = stepsBefore(rt.steps(token), explained.Reason)
	if unproven {
		explained.Passed = slices.DeleteFunc(explained.Passed, func(name string) bool { return name == stepProof })
	}
	explained.Notes = notes
	return explained, nil
}

func explainRefusal(refused *refusal) *explanation {
	a := refused.answer()
	explained := &explanation{Reason: refused.reason, Status: a.status, Expected: refused.expected, Got: refused.got, Hint: a.hint}
	if refused.cause != nil {
		explained.Cause = refused.cause.Error()
	}
	if errors.Is(refused.cause, provider.ErrOffline) {
		explained.Hint = hintOffline
	}
	return explained
}

// trial returns what judges one token by the rules of this runtime, with memories, metrics and a log of its own that nobody sees.
func (rt *runtime) trial() (*runtime, error) {
	unseen, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		return nil, err
	}
	trial := &runtime{
		number: runtimes.Add(1), now: rt.now, logger: zap.NewNop(), metrics: unseen, issuerName: rt.issuerName,
		provider: rt.provider, tokens: newTokenCache(1),
		credentials: rt.credentials, policy: rt.policy, introspection: rt.introspection, authorization: rt.authorization,
		demandsBinding: rt.demandsBinding, usernameClaim: rt.usernameClaim, headers: rt.headers,
	}
	if shared := rt.introspection.shared; shared != nil {
		trial.introspection.shared = &introspection{introspector: shared.introspector, answers: newTokenCache(1)}
		trial.introspection.interval = new(Duration(maxIntrospectionAge)) // so that the answer is there for a second look
	}
	return trial, nil
}

// adoptAnswer takes over what introspection has told of the token before, for as long as requests are judged by it.
func (rt *runtime) adoptAnswer(from *runtime, raw string, r *http.Request) bool {
	key, _ := from.introspection.key(digestToken(raw), r)
	known := from.introspection.shared.answers.get(key, rt.now())
	if known == nil {
		return false
	}
	key, _ = rt.introspection.key(digestToken(raw), r)
	rt.introspection.shared.answers.put(key, &verifiedToken{ // without the verdicts, which are not ours
		payload: known.payload, confirmation: known.confirmation, algorithm: known.algorithm, headerType: known.headerType,
		notBefore: known.notBefore, issuedAt: known.issuedAt, expiry: known.expiry,
		introspected: known.introspected, opaque: known.opaque, bound: known.bound, cachedUntil: known.cachedUntil,
	})
	return true
}

// waiveProof has a token that is bound to a key judged without the proof, and says what would have to be proven.
func (rt *runtime) waiveProof(raw string, r *http.Request) (notes []string) {
	cache, key := rt.tokens, digestToken(raw)
	if rt.introspection.wants(raw) {
		cache = rt.introspection.shared.answers
		key, _ = rt.introspection.key(key, r)
	}
	token := cache.get(key, rt.now())
	if token == nil {
		return nil
	}
	confirmation, _ := token.confirmation.(map[string]any)
	for _, binding := range []struct {
		member, note string
		mode         *string
	}{{confirmationKey, noteDPoP, &rt.policy.dpopBound}, {confirmationCertificate, noteMutualTLS, &rt.policy.mtlsBound}} {
		if name, _ := confirmation[binding.member].(string); name != "" && *binding.mode != boundOff {
			*binding.mode = boundOff
			notes = append(notes, binding.note)
		}
	}
	return notes
}
